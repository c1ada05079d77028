"""What these tests share: accounts, hand-made contracts, a chain in memory of this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from devnet.evm.chain import Chain, open_chain
from devnet.evm.rules import GWEI, Rules
from tests.support.chain_process import ChainProcess
from tests.support.polling import wait

KEYS: list[LocalAccount] = [Account.from_key(number.to_bytes(32, "big")) for number in range(1, 6)]
RICH = 10**22  # wei
CHAIN_ID = Rules().chain_id


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


class Running(ChainProcess):
    """A chain process and a client of it."""

    def __init__(self, directory: Path, *flags: str, module: str = "devnet.evm") -> None:
        super().__init__(module, directory, {key.address: str(RICH) for key in KEYS}, *flags)

    def ask(self, method: str, *params: Any) -> dict[str, Any]:
        return self.call(method, list(params))

    def rpc(self, method: str, *params: Any) -> Any:
        return self.result(method, list(params))

    def send(self, raw: bytes) -> str:
        return str(self.rpc("eth_sendRawTransaction", "0x" + raw.hex()))

    def receipt(self, transaction: str) -> dict[str, Any]:
        found: dict[str, Any] = wait(lambda: self.rpc("eth_getTransactionReceipt", transaction))
        return found
