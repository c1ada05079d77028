"""People, each with a home of their own, whose commands go to one chain: in memory or a process.

The commands run their own event loop and end; what else happens on the chain is played by the
actors of the ledger's conformance suite, between commands.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Ledger
from deai.chain.sei.ledger import open_sei_ledger
from deai.client import access
from deai.hashing import ZERO
from deai.ids import SEI, AccountId, NodeId
from deai.keys import create_key
from deai.network import ChainEntry, Network, save_network
from deai.signing import LocalSigner, Signer
from deai.standing import Standing
from deai.tasks import Opening, Policy
from node import doctor, offline, opening
from tests.cli.conftest import Done, Shell
from tests.deai.chain.chains import PARAMETERS, SETTINGS, ChainProcess
from tests.deai.chain.conftest import memory_world
from tests.support.ledger_conformance import RIGHT, WRONG, Play, Provider, World, play

T = TypeVar("T")

LEAST = int(PARAMETERS.min_stake)
OWN = 2 * LEAST
UNBONDING = PARAMETERS.unbonding_seconds


@functools.cache
def _sealed(secret: bytes) -> dict[str, bytes]:
    """Key files and what opens them: sealed once, for sealing takes a tenth of a second."""
    with tempfile.TemporaryDirectory() as folder:
        key, passphrase = Path(folder) / "key.json", Path(folder) / "passphrase"
        create_key(key, passphrase, secret=secret)
        sealed = key.read_bytes()
        return {
            "client.json": sealed, "owner.json": sealed, "passphrase": passphrase.read_bytes(),
        }  # fmt: skip


@dataclass
class Person:
    """A home with keys: `client.json` lends, `owner.json` owns or manages a node."""

    shell: Shell
    signer: LocalSigner

    @property
    def account(self) -> AccountId:
        return self.signer.account

    def __call__(self, *arguments: str, status: int = 0) -> Any:
        """The document of a command that ends so."""
        done: Done = self.shell.json(*arguments)
        assert done.status == status, (done.out, done.err)
        return done.document

    def refused(self, *arguments: str, status: int = 1) -> dict[str, str]:
        """The error of a command."""
        done: Done = self.shell.json(*arguments)
        assert done.status == status, (done.out, done.err)
        assert done.error["hint"]
        return done.error

    def operator(self) -> LocalSigner:
        """The hot key of the node of this home."""
        from deai.keys import load_signer

        keys = self.shell.home / "keys"
        found = load_signer(keys / "operator.json", keys / "passphrase", chain=SEI)
        assert isinstance(found, LocalSigner)
        return found


class Place:
    """One chain, and the people on it."""

    def __init__(
        self,
        folder: Path,
        shell: Shell,
        entry: ChainEntry,
        new: Callable[[], LocalSigner],
        opened: Callable[[], Any],
    ) -> None:
        self._folder, self._shell, self._entry = folder, shell, entry
        self._new, self._opened = new, opened

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Play something on the chain: `function` is given the world first."""

        async def there() -> T:
            async with self._opened() as world:
                return await function(world, *args)

        return trio.run(there)

    def person(self, name: str, *, tokens: int = 0) -> Person:
        """Somebody with tokens in the wallet and with money for gas."""
        shell, signer = self._shell, self._new()
        home = self._folder / name
        keys = home / "keys"
        keys.mkdir(mode=0o700, parents=True)
        save_network(Network(name="test", chains={SEI: self._entry}), home / "network.json")
        for file, content in _sealed(signer._key.secret).items():
            (keys / file).write_bytes(content)
            (keys / file).chmod(0o600)
        if tokens:
            self.run(World.fund, signer.account, tokens)
        return Person(Shell(home, shell.monkeypatch, shell.capsys), signer)

    def tokens(self, account: AccountId) -> int:
        async def ask(world: World) -> int:
            return (await world.reader.balances(account)).tokens

        return self.run(ask)

    def standing(self, node: NodeId) -> Standing:
        async def ask(world: World) -> Standing:
            found = await world.reader.node(node)
            assert found is not None
            return found.standing

        return self.run(ask)

    def advance(self, seconds: int) -> None:
        async def wait(world: World) -> None:
            await world.pass_(await world.now() + seconds - 1)

        self.run(wait)

    def earn(self, node: NodeId, operator: Signer) -> int:
        """Let a node compute a task; what its owner is paid for it, in the vault."""

        async def work(world: World) -> int:
            owner = AccountId(node[:42])
            before = (await world.reader.balances(owner)).vault
            playing = await _play(world, node, operator)
            committee, given = await playing.committee(), playing.result(0, RIGHT)
            await playing.as_client(act.DeliverResult(playing.task, committee, given))
            opening = (Opening(0, RIGHT, ZERO),)
            await playing.as_client(act.FinaliseTask(playing.task, committee, opening, ()))
            return (await world.reader.balances(owner)).vault - before

        return self.run(work)

    def slash(self, node: NodeId, operator: Signer) -> None:
        """Let a node sign two results for one seat, and somebody prove it."""

        async def lie(world: World) -> None:
            playing = await _play(world, node, operator)
            results = playing.result(0, RIGHT), playing.result(0, WRONG)
            committee = await playing.committee()
            await playing.as_stranger(act.ProveEquivocation(playing.task, committee, 0, *results))

        self.run(lie)


async def _play(world: World, node: NodeId, operator: Signer) -> Play:
    record = await world.reader.node(node)
    assert record is not None
    hot = await world.ledger(operator)
    epoch = await world.now() // (await world.reader.parameters()).epoch_seconds
    if record.last_epoch < epoch:
        await hot.submit(act.Heartbeat(node, epoch))
    member = Provider(world, operator, operator, node)
    return await play(world, policy=Policy.NONE, providers=[member])


def memory_place(folder: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A chain in memory, which every command finds in place of the network's."""
    world, chain = memory_world()
    info = chain.info

    @asynccontextmanager
    async def opened() -> AsyncIterator[World]:
        yield World(
            world.name, chain.ledger(), world.holder, world.open, world.advance, world.signer,
            world.operator,
        )  # fmt: skip

    @asynccontextmanager
    async def reader(_network: object, _chain: object) -> AsyncIterator[Ledger]:
        yield chain.ledger()

    @asynccontextmanager
    async def account(
        _network: object, _chain: object, key: Signer, _home: object, _account: object = None
    ) -> AsyncIterator[Ledger]:
        yield chain.ledger(key)

    @asynccontextmanager
    async def of_node(
        _network: object, _chain: object, key: Signer | None, _outbox: object, _account: object
    ) -> AsyncIterator[Ledger]:
        yield chain.ledger(key)

    monkeypatch.setattr(access, "open_reader", reader)
    monkeypatch.setattr(access, "open_account", account)
    for module in (opening, offline, doctor):
        monkeypatch.setattr(module, "open_ledger", of_node)
    entry = ChainEntry(
        kind="memory", chain_id=info.chain_id, rpc_urls=("http://127.0.0.1:9",),
        contracts=info.contracts,
    )  # fmt: skip

    def new() -> LocalSigner:
        made = world.signer()
        assert isinstance(made, LocalSigner)
        return made

    return Place(folder, shell, entry, new, opened)


def chain_place(folder: Path, shell: Shell, chain: ChainProcess) -> Place:
    """A chain process, which commands reach as they would anywhere."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[World]:
        async with open_sei_ledger(chain.entry) as reader, trio.open_nursery() as nursery:

            async def hold(by: Signer, task_status: trio.TaskStatus[Ledger]) -> None:
                async with open_sei_ledger(chain.entry, by, settings=SETTINGS) as ledger:
                    task_status.started(ledger)
                    await trio.sleep_forever()

            async def open_(by: Signer) -> Ledger:
                ledger: Ledger = await nursery.start(hold, by)
                return ledger

            async def advance(seconds: int) -> None:
                await trio.to_thread.run_sync(chain.advance, seconds)

            yield World(
                chain.kind, reader, chain.holder, open_, advance, chain.signer, chain.operator
            )
            nursery.cancel_scope.cancel()

    return Place(folder, shell, chain.entry, chain.signer, opened)


class Managed:
    """A person whose home has a node that takes delegations."""

    def __init__(self, place: Place, *, commission: str = "10%") -> None:
        self.place, self.commission = place, commission
        self.person = place.person("manager", tokens=2 * OWN)
        self.made = self.init()
        self.node = NodeId(self.made["node_id"])
        self.owner = AccountId(self.made["owner"])

    def init(self, *more: str, status: int = 0) -> Any:
        home = self.person.shell.home
        return self.person(
            "node", "init", "--network", str(home / "network.json"), "--pool",
            "--commission", self.commission, "--stake", str(OWN), *more, status=status,
        )  # fmt: skip

    def show(self, who: Person | None = None) -> Any:
        return (who or self.person)("pool", "show", self.node)

    def earn(self) -> int:
        return self.place.earn(self.node, self.person.operator())

    def slash(self) -> None:
        self.place.slash(self.node, self.person.operator())
