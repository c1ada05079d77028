"""A NEAR chain for tests, with our contracts, and worlds over it.

The embedded chain unless `NEAR_RPC_URL` names another one: a sandbox or testnet on which
`NEAR_ACCOUNT_ID` has money and a full-access key whose 32-byte seed stands as hex in the file
`NEAR_KEY_FILE`. Its accounts are then made below that one; tests that move time are skipped where
the chain cannot.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Ledger
from deai.errors import NotSetUp
from deai.hashing import keccak
from deai.ids import AccountId
from deai.money import Amount
from deai.network import ChainEntry
from deai.signing import Ed25519Signer, Signer
from tests.deai.chain.chains import PARAMETERS, wait_for
from tests.support.ledger_conformance import World

if TYPE_CHECKING:
    from deai.chain.near.sender import SenderSettings

ACCOUNTS = 1_500
NEAR = 10**24
MONEY = 1_000 * NEAR
ALLOWANCE = 10 * NEAR
MISSING = [name for name in ("py_near", "wasmtime") if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Actor:
    """An account under its name, with its full-access key."""

    account: AccountId
    key: Ed25519Signer

    def sign(self, digest: bytes) -> bytes:
        return self.key.sign(digest)


@dataclass
class NearChain:
    """A chain that serves, with our contracts."""

    kind: str
    rpc_url: str
    entry: ChainEntry
    root: Actor
    holder: Actor
    process: subprocess.Popen[bytes] | None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    owners: dict[str, Signer] = field(default_factory=dict)
    """Of every operator key that was handed out."""
    made: set[str] = field(default_factory=set)
    command: list[str] = field(default_factory=list)

    def kill(self) -> None:
        """End the process as a power cut does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Serve what the killed process had stored, at the same address."""
        directory = Path(self.command[self.command.index("--dir") + 1])
        (directory / "ready.json").unlink(missing_ok=True)
        port = self.rpc_url.rpartition(":")[2]
        self.process = subprocess.Popen([*self.command, "--port", port])
        wait_for(directory / "ready.json", self.process)

    def signer(self) -> Actor:
        """An account that nobody used before and that has money for gas."""
        return actor(next(self.numbers), self.suffix)

    def embedded(self, why: str) -> NearChain:
        """It, where it is the embedded one; on the chain of `NEAR_RPC_URL` the test is left out."""
        if self.process is None:
            pytest.skip(f"LEFT OUT on the chain of NEAR_RPC_URL: {why}")
        return self

    @property
    def suffix(self) -> str:
        return "near" if self.process is not None else self.root.account

    def operator(self, owner: Signer) -> Ed25519Signer:
        """A hot key that becomes a function-call key of its owner when it is first used."""
        key = Ed25519Signer(keccak(b"operator", next(self.numbers).to_bytes(8, "big"), RUN))
        self.owners[key.account] = owner
        return key

    def ask(self, method: str, params: object) -> object:
        """One JSON-RPC call, blocking."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self.rpc_url, json=body, timeout=30, trust_env=False).json()
        if self.process is None and "error" in answer:
            pytest.skip(f"this chain cannot do {method}: {answer['error']}")
        assert "error" not in answer, answer
        return answer["result"]

    def advance(self, seconds: int) -> None:
        """Let chain time pass, and a block be made that shows it."""
        more = {"seconds": seconds} if self.process is not None else {}
        height = 0 if self.process is not None else seconds
        self.ask("sandbox_fast_forward", {"delta_height": height, **more})


RUN = os.urandom(8) if "NEAR_RPC_URL" in os.environ else b""
"""Names of a chain that outlives a run are new in every run."""


_MODULES = itertools.count()


def secret_of(one: Actor) -> bytes:
    """The seed of an account of `actor`, for a process of its own."""
    number = int(one.account.partition(".")[0].removeprefix("u").removesuffix(RUN.hex()))
    return keccak(b"near account", number.to_bytes(8, "big"), RUN)


def actor(number: int, suffix: str = "near") -> Actor:
    key = Ed25519Signer(keccak(b"near account", number.to_bytes(8, "big"), RUN))
    return Actor(AccountId(f"u{number}{RUN.hex()}.{suffix}"), key)


def why_not() -> str:
    """Why there is no NEAR chain here; empty if there can be one."""
    if MISSING:
        return f"not installed: {', '.join(MISSING)} (the devnet extra)"
    from deai.chain.near.deploy import contract_code

    try:
        for name in ("token", "compute", "channels", "rewards"):
            contract_code(name)
    except NotSetUp as error:
        return f"{error}; {error.hint}"
    return ""


@contextmanager
def near_chain(
    directory: Path, *, block_time: float = 0, accounts: int = ACCOUNTS, shuffle: int | None = None
) -> Iterator[NearChain]:
    """The embedded chain, or the one of `NEAR_RPC_URL`, with the contracts deployed.

    `shuffle`: receipts run in other orders and heights are left out, as with several shards.
    """
    if reason := why_not():
        pytest.skip(f"NO NEAR CHAIN: {reason}")
    if "NEAR_RPC_URL" in os.environ:
        yield given_chain()
        return
    directory.mkdir(parents=True, exist_ok=True)
    root = Actor(AccountId("root.near"), Ed25519Signer(keccak(b"near root")))
    everybody = [root, *(actor(number) for number in range(accounts))]
    genesis = {
        one.account: {"amount": str(MONEY), "public_keys": [one.key.account]} for one in everybody
    }
    (directory / "genesis.json").write_text(json.dumps(genesis))
    command = [
        sys.executable, "-m", "devnet.near", "--dir", str(directory / "chain"),
        "--genesis", str(directory / "genesis.json"), "--block-time", str(block_time),
    ]  # fmt: skip
    if shuffle is not None:
        command += ["--shuffle", str(shuffle)]
    with (directory / "chain.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = wait_for(directory / "chain" / "ready.json", process)["rpc_url"]
        entry = trio.run(put, "embedded", url, root, actor(0).account)
        chain = NearChain("near", url, entry, root, actor(0), process, command=command)
        yield chain
        process = chain.process or process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def given_chain() -> NearChain:
    """The chain that the environment names, with contracts of this run."""
    url, name = os.environ["NEAR_RPC_URL"], AccountId(os.environ["NEAR_ACCOUNT_ID"])
    seed = bytes.fromhex(Path(os.environ["NEAR_KEY_FILE"]).read_text().strip())
    root = Actor(name, Ed25519Signer(seed))
    first = next(_MODULES) * 10**6  # each module has contracts and accounts of its own
    base = actor(first, name)
    trio.run(make_account, url, root, base, 50 * NEAR)
    entry = trio.run(put, "public", url, base, base.account)
    numbers = itertools.count(first + 1)
    return NearChain("near", url, entry, root, base, None, numbers, made={base.account})


async def put(kind: str, url: str, deployer: Actor, holder: AccountId) -> ChainEntry:
    from deai.chain.near.deploy import deploy
    from deai.chain.near.keys import NearKey

    key = NearKey(deployer.account, deployer.key)
    constants = msgspec.structs.replace(PARAMETERS, treasury=AccountId("treasury.near"))
    # Who holds the tokens proposes rewards and is the guardian, as on the other chains of tests.
    done = await deploy([url], key, constants, holder=holder, owner=holder, settings=settings())
    return ChainEntry(
        kind=kind, chain_id=done.chain_id, rpc_urls=(url,), contracts=done.contracts,
        deployed_at=done.block,
    )  # fmt: skip


async def make_account(url: str, root: Actor, new: Actor, money: int) -> None:
    """One more account below the root's."""
    from deai.chain.near.keys import NearKey
    from deai.chain.near.rpc import open_pool
    from deai.chain.near.sender import open_sender
    from deai.chain.near.steps import AddKey, CreateAccount, NearCall, Send

    steps = (CreateAccount(), Send(money), AddKey(new.key.account))
    async with (
        open_pool([url], timeout=30) as pool,
        open_sender(
            pool, NearKey(root.account, root.key), None, "accounts", settings=settings()
        ) as sender,
    ):
        await sender.send(NearCall(new.account, steps), kind="Account", key=new.account)


def settings() -> SenderSettings:
    from deai.chain.near.sender import SenderSettings

    return SenderSettings(poll_s=0.02)


@asynccontextmanager
async def near_world(chain: NearChain) -> AsyncIterator[World]:
    """A world over a chain; its ledgers close with it."""
    from deai.chain.near.keys import NearKey
    from deai.chain.near.ledger import open_near_ledger

    async def hold(key: NearKey, task_status: trio.TaskStatus[Ledger]) -> None:
        async with open_near_ledger(chain.entry, key, settings=settings()) as ledger:
            task_status.started(ledger)
            await trio.sleep_forever()

    async def advance(seconds: int) -> None:
        await trio.to_thread.run_sync(chain.advance, seconds)

    async with open_near_ledger(chain.entry) as reader, trio.open_nursery() as nursery:

        async def open_(by: Signer) -> Ledger:
            if isinstance(by, Actor):
                if chain.process is None and by.account not in chain.made:
                    await make_account(chain.rpc_url, chain.root, by, 5 * NEAR)
                    chain.made.add(by.account)
                ledger: Ledger = await nursery.start(hold, NearKey(by.account, by.key))
                return ledger
            owner = chain.owners[by.account]
            grant = act.TransferGas(by.account, Amount(ALLOWANCE))
            await (await open_(owner)).submit(grant)
            found: Ledger = await nursery.start(hold, NearKey(owner.account, by))
            return found

        world = World("near", reader, chain.holder, open_, advance, chain.signer, chain.operator)
        if (await reader.balances(chain.holder.account)).vault == 0:
            # Who has no account in the vault gets no tip and no bounty.
            await (await world.ledger(chain.holder)).submit(act.Deposit(Amount(1)))
        yield world
        nursery.cancel_scope.cancel()
