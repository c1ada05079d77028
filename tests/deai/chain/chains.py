"""Real chains for tests: a process with our contracts, and worlds over it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import trio

from deai.chain.ledger import Cursor, Ledger
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.chain.sei.deploy import deploy
from deai.chain.sei.ledger import open_sei_ledger
from deai.chain.sei.sender import SenderSettings
from deai.errors import NotSetUp
from deai.hashing import keccak
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from deai.signing import LocalSigner, Signer
from devnet.evm.anvil import find_anvil
from tests.deai.chain.twin import Twin
from tests.support.ledger_conformance import World, batches_until
from tests.support.polling import wait

PARAMETERS = msgspec.structs.replace(
    DEFAULT_PARAMETERS,
    min_lease=5,
    min_window=20,
    max_span=3_600,
    unbonding_seconds=7_201,
    close_period=300,
    reward_delay=400,
    thaw_period=500,
    min_delegation=Amount(UNIT // 2),
)
SETTINGS = SenderSettings(poll_s=0.03)
BLOCK_TIME_S = 0.1
ACCOUNTS = 1_500


@dataclass
class ChainProcess:
    """A local chain that serves, with our contracts."""

    kind: str
    rpc_url: str
    chain_id: int
    entry: ChainEntry
    holder: LocalSigner
    numbers: Iterator[int]
    process: subprocess.Popen[bytes]
    twin: Twin | None = None

    def signer(self) -> LocalSigner:
        """A key that nobody used before and that has money for gas."""
        return LocalSigner(self.secret())

    def operator(self, _owner: Signer) -> LocalSigner:
        """A hot key: an account like any other here."""
        return self.signer()

    def secret(self) -> bytes:
        """The same, as what a process of its own can be told."""
        return secret_of(next(self.numbers))

    def ask(self, method: str, *params: object) -> object:
        """One JSON-RPC call, blocking."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.rpc_url, json=body, timeout=30, trust_env=False).json()
        assert "error" not in answer, answer
        return answer["result"]

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Run while inside and stand still afterwards: ten empty blocks a second cost a lot."""
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGSTOP)

    def advance(self, seconds: int) -> None:
        """Let chain time pass, and a block be made that shows it."""
        self.ask("evm_increaseTime", seconds)
        self.ask("evm_mine")


def secret_of(number: int) -> bytes:
    return keccak(b"test account", number.to_bytes(4, "big"))


def account(number: int) -> LocalSigner:
    return LocalSigner(secret_of(number))


def is_anvil_here() -> bool:
    try:
        find_anvil()
    except NotSetUp:
        return False
    return True


@contextmanager
def chain_process(
    kind: str, directory: Path, *, block_time: float = BLOCK_TIME_S, accounts: int = ACCOUNTS
) -> Iterator[ChainProcess]:
    """`embedded` or `anvil`, with the contracts deployed by its first account."""
    genesis = {account(number).account: str(10**21) for number in range(accounts)}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "genesis.json").write_text(json.dumps(genesis))
    module = "devnet.evm" if kind == "embedded" else "devnet.evm.anvil"
    command = [
        sys.executable, "-m", module, "--dir", str(directory / "chain"),
        "--genesis", str(directory / "genesis.json"), "--block-time", str(block_time),
    ]  # fmt: skip
    with (directory / "chain.log").open("wb") as log:
        # A group of its own: anvil is a child of what we start.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, process_group=0)
    try:
        ready = wait_for(directory / "chain" / "ready.json", process)
        holder = account(0)

        async def put() -> ChainEntry:
            done = await deploy([ready["rpc_url"]], holder, PARAMETERS, settings=SETTINGS)
            return ChainEntry(
                kind=kind, chain_id=done.chain_id, rpc_urls=(ready["rpc_url"],),
                contracts=done.contracts, deployed_at=done.block,
            )  # fmt: skip

        entry = trio.run(put)
        yield ChainProcess(
            kind, ready["rpc_url"], entry.evm_chain_id, entry, holder, itertools.count(1), process
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            os.killpg(process.pid, signal.SIGCONT)  # if it stands still
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(ready: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    """The content of a ready file, once it is there."""
    wait(lambda: ready.exists() or process.poll() is not None)
    assert process.poll() is None, f"the chain ended with status {process.returncode}"
    found: dict[str, str] = json.loads(ready.read_text())
    return found


@asynccontextmanager
async def chain_world(chain: ChainProcess) -> AsyncIterator[World]:
    """A world over a chain process; its ledgers close with it."""

    async def hold(by: Signer, task_status: trio.TaskStatus[Ledger]) -> None:
        async with open_sei_ledger(chain.entry, by, settings=SETTINGS) as ledger:
            task_status.started(ledger)
            await trio.sleep_forever()

    async def advance(seconds: int) -> None:
        await trio.to_thread.run_sync(chain.advance, seconds)

    async with open_sei_ledger(chain.entry) as reader, trio.open_nursery() as nursery:
        if chain.twin is None:
            chain.twin = Twin(reader.info, PARAMETERS, chain.holder)
        twin = chain.twin

        async def open_(by: Signer) -> Ledger:
            ledger: Ledger = await nursery.start(hold, by)
            return twin.recorded(ledger)

        since = await reader.head()
        yield World(chain.kind, reader, chain.holder, open_, advance, chain.signer, chain.operator)
        until, cursor = (await reader.head()).number, Cursor(since.number, since.hash)
        batches = await batches_until(reader, cursor, until)
        await twin.check(reader, [record for batch in batches for record in batch.records])
        nursery.cancel_scope.cancel()
