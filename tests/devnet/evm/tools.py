"""What these tests share: accounts, hand-made contracts, a chain in memory of this process."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from devnet.evm.chain import Chain, open_chain
from devnet.evm.rules import GWEI, Rules

T = TypeVar("T")

KEYS: list[LocalAccount] = [Account.from_key(number.to_bytes(32, "big")) for number in range(1, 6)]
RICH = 10**22  # wei
CHAIN_ID = Rules().chain_id
DEADLINE_S = 60.0


def init_code(runtime: str) -> bytes:
    """Return the code that deploys ``runtime`` (at most 255 bytes, as hexadecimal)."""
    code = bytes.fromhex(runtime)
    size = f"{len(code):02x}"
    return bytes.fromhex(f"60{size}600c60003960{size}6000f3") + code


# Stores the second word of its input under the first and logs it with the first as topic.
KEEPER = init_code("60203560003555602035600052600035602060 00a100".replace(" ", ""))
# Returns the slot named by its input.
READER = init_code("60003554600052602060 00f3".replace(" ", ""))
# Reverts with its input as the data.
REFUSER = init_code("3660006000373660 00fd".replace(" ", ""))
# Never ends.
SPINNER = init_code("5b600056")
# Calls itself as deep as the gas reaches.
DIVER = init_code("60006000600060006000305af100")
# Returns number, timestamp, base fee, chain id and the hash of the parent block.
TELLER = init_code(
    "43600052" "42602052" "48604052" "46606052" "600143034060805260a06000f3".replace(" ", "")
)  # fmt: skip


def sign(
    key: LocalAccount,
    nonce: int,
    to: str | None = None,
    *,
    data: bytes = b"",
    value: int = 0,
    gas: int = 200_000,
    max_fee: int = 200 * GWEI,
    tip: int = 0,
    chain_id: int = CHAIN_ID,
) -> bytes:
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "value": value,
        "data": data,
        "gas": gas,
        "maxFeePerGas": max_fee,
        "maxPriorityFeePerGas": tip,
    }
    if to is not None:
        transaction["to"] = to_checksum_address(to)
    return bytes(key.sign_transaction(transaction).raw_transaction)


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(32, "big") for value in values)


def address_of(key: LocalAccount) -> bytes:
    return bytes.fromhex(key.address[2:])


GENESIS = {address_of(key): RICH for key in KEYS}


class FakeClock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def a_chain(
    directory: Path, rules: Rules | None = None, clock: Callable[[], float] | None = None
) -> Iterator[Chain]:
    chain = open_chain(directory / "chain.sqlite", rules or Rules(), GENESIS, clock or FakeClock())
    try:
        yield chain
    finally:
        chain.store.close()


def eventually(look: Callable[[], T | None], deadline: float = DEADLINE_S) -> T:
    """Return what ``look`` finds, looking again until it finds something."""
    until = time.monotonic() + deadline
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"nothing within {deadline} s")
        time.sleep(0.02)


class Running:
    """A chain process and a client of it."""

    def __init__(self, directory: Path, *flags: str, module: str = "devnet.evm") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        genesis = directory / "genesis.json"
        genesis.write_text(json.dumps({key.address: str(RICH) for key in KEYS}))
        self.process = subprocess.Popen(
            [
                sys.executable,
                *("-m", module, "--dir", str(directory), "--genesis", str(genesis)),
                *flags,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready: dict[str, Any] = eventually(self._is_ready)
        self.client = httpx.Client(timeout=60, headers={"content-type": "application/json"})

    def _is_ready(self) -> dict[str, Any] | None:
        if self.process.poll() is not None:
            _, complaint = self.process.communicate()
            raise AssertionError(f"the chain ended: {complaint}")
        try:
            document: dict[str, Any] = json.loads((self.directory / "ready.json").read_text())
        except FileNotFoundError:
            return None
        return document if document["pid"] == self.process.pid else None

    def post(self, body: bytes | str) -> httpx.Response:
        return self.client.post(self.ready["rpc_url"], content=body)

    def ask(self, method: str, *params: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer: dict[str, Any] = self.post(json.dumps(request)).json()
        return answer

    def rpc(self, method: str, *params: Any) -> Any:
        answer = self.ask(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, raw: bytes) -> str:
        return str(self.rpc("eth_sendRawTransaction", "0x" + raw.hex()))

    def receipt(self, transaction: str) -> dict[str, Any]:
        return eventually(lambda: self.rpc("eth_getTransactionReceipt", transaction))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.client.close()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # does nothing to one that has ended
        if self.process.stderr and not self.process.stderr.closed:
            self.process.communicate()
        self.client.close()

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=30)
        self.client.close()
        return self.process.returncode
