"""Kills node and client of the fast lane at random moments under load, and compares their books.

`python -m tests.node.lane.kills --kills 1000 --seed 1` prints what it found as one JSON line, after
six minutes of a core. Each side is a real process over libp2p with its real database and the chain
in its own memory (the same steps give the same channel); a life is a fork of one process that has
imported everything, so that it begins within milliseconds. Work is computed in the node's process:
the worker's death is tried elsewhere.

After every kill, before the next life: whatever a client was told is durable stands in the
node's book, and whatever the node holds had been written by the client before. At the end both
live until everything is paid, and the books must be equal: every voucher, every window, every
leaf, which is that of a task the client received, and of no other task twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import trio

from benchmarks.one_node import FUNDS, STAKE, signer
from deai.actions import OpenChannel, RegisterNode, TransferTokens
from deai.chain.memory import MemoryChain
from deai.client.directory import PeerList
from deai.client.lane.lane import Lane
from deai.client.lane.patience import Patience
from deai.client.lane.places import session_key_file
from deai.client.lane.tasks import Task
from deai.client.opening import open_client
from deai.ids import PeerId, node_id
from deai.lane.receipts import task_leaf, terms_hash
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.ports import Catalogue
from deai.signing import LocalSigner
from deai.tasks import operate_digest
from node import logs
from node.config import NodeConfig
from node.lane.book import BookView, LaneBook
from node.main import run
from node.ports import Ports
from node.store.blobs import BlobStore
from node.store.journal import Journal
from p2p.identity import Identity
from p2p.net import open_net
from rewards.rules import RULES
from tests.node.lane.support import LaneBench
from workloads.inputs import InstalledWorkloads

IN_FLIGHT: Final = 128
LIVES: Final = (0.02, 0.05, 0.1, 0.1, 0.2, 0.2, 1.0)
"""Seconds from when both talk to the kill, at most: in a long one credit grows to full windows."""
LOOKED_AT: Final = 200
"""Vouchers, the newest, that are compared after every kill; all of them are at the end."""
COMES_UP: Final = 60.0
PATIENCE: Final = Patience(give_up=COMES_UP, first_pause=0.01, longest_pause=0.1, last=COMES_UP)
NODE: Final = node_id(signer("owner").account, 0)
SESSION_SECRET: Final = hashlib.sha256(b"session").digest()
SESSION: Final = LocalSigner(SESSION_SECRET)


@dataclass
class Found:
    """What a run saw."""

    kills: int = 0
    of_nodes: int = 0
    of_clients: int = 0
    vouchers: int = 0
    tasks: int = 0
    unsigned: int = 0
    """Windows whose leaves the node had lost with its life: paid, not signed."""
    problems: list[str] = field(default_factory=list)


async def _chain(peer_id: PeerId) -> MemoryChain:
    """The same chain in every process: a registered node, and a client's channel with it."""
    chain = MemoryChain(RULES, holder=signer("bank").account, clock=time.time)
    owner, operator, client = signer("owner"), signer("operator"), signer("client")
    bank = chain.ledger(signer("bank"))
    for account in (owner.account, client.account):
        await bank.submit(TransferTokens(account, FUNDS), key=account)
    until = chain.now + 3600
    proof = operator.sign(operate_digest(chain.info.registry, NODE, operator.account, until))
    await chain.ledger(owner).submit(
        RegisterNode(0, operator.account, until, proof, STAKE, peer_id, ())
    )
    deposit = Amount(FUNDS // 4)
    await chain.ledger(client).submit(OpenChannel(NODE, SESSION.account, 1, deposit))
    return chain


@cache
def _installed() -> InstalledWorkloads:
    """Looked up once, before the first life: it reads what all installed packages offer."""
    return InstalledWorkloads.load(only=("echo",))


class EchoBench(LaneBench):
    """Computes at once, in this process."""

    def __init__(self) -> None:
        super().__init__(batch_seconds=0.0, places=4)

    @property
    def catalogue(self) -> Catalogue:  # type: ignore[override] # the real one
        return _installed()


async def _node(home: Path, identity: Identity, port: int, say: Callable[[str], None]) -> None:
    listen = [f"/ip4/127.0.0.1/tcp/{port}"]
    chain = await _chain(identity.peer_id)
    async with open_net(identity, listen=listen) as net:
        book = LaneBook(home / "lane.db")
        ports = Ports(
            node=NODE,
            journal=Journal(home / "node.db"),
            blobs=BlobStore(home / "blobs", max_bytes=1 << 24),
            ledger=chain.ledger(signer("operator")),
            net=net,
            workbench=EchoBench(),
            signer=signer("operator"),
            book=book,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, NodeConfig(listen_for_twin=0), ports)
            say(net.addresses[0])
            await trio.sleep_forever()


async def _run(config: NodeConfig, ports: Ports, *, task_status: trio.TaskStatus[Any]) -> None:
    await run(config, ports, task_status=task_status)


@dataclass
class _Load:
    """Keeps as many tasks in flight as it may, each of them another one."""

    lane: Lane
    life: int
    log: int
    """Where `index payload` goes for every result."""
    terms: Path
    """Where the hash of the terms goes, which are the same in every life."""
    begun: int = 0
    running: int = 0
    stopped: bool = False
    rest: trio.Event = field(default_factory=trio.Event)

    def fill(self) -> None:
        while self.running < IN_FLIGHT and not self.stopped:
            self.begun += 1
            self.running += 1
            self.lane.start(b"%d/%d" % (self.life, self.begun), self.done)

    def done(self, task: Task) -> None:
        self.running -= 1
        if task.error is None:
            if not self.terms.exists():
                assert task.agreement is not None
                self.terms.write_bytes(terms_hash(task.agreement.terms))
            assert task.output == task.data
            os.write(self.log, b"%d %s\n" % (task.index, task.data))
        self.fill()
        if not self.running:
            self.rest.set()


@asynccontextmanager
async def _lane(home: Path, identity: Identity, node: PeerAddress) -> AsyncIterator[Lane]:
    chain = await _chain(node.peer_id)
    async with (
        open_net(identity) as net,
        open_client(
            ledger=chain.ledger(signer("client")), net=net,
            catalogue=_installed(), home=home, sources=(PeerList([node]),), patience=PATIENCE,
        ) as client,
        client.lane("echo", max_fee=UNIT, nodes=[NODE]) as lane,
    ):  # fmt: skip
        yield lane


async def _client(
    home: Path, identity: Identity, node: PeerAddress, life: int, is_last: bool,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    log = os.open(home / "received", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with _lane(home, identity, node) as lane:
        load = _Load(lane, life, log, home / "terms")
        load.fill()
        say("loaded")
        if not is_last:
            await trio.sleep_forever()
        await trio.sleep(LIVES[-1])
        load.stopped = True
        if load.running:
            await load.rest.wait()
    say("paid")


class Child:
    """A life: a fork that runs one async function and says lines."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reading)
            _live(writing, function, *arguments, **named)
        os.close(writing)
        self.lines = os.fdopen(reading, "r")

    def hear(self) -> str:
        """Its next line; raises where it ended without one."""
        line = self.lines.readline().strip()
        if not line:
            raise RuntimeError("a process ended by itself")
        return line

    def kill(self) -> None:
        """SIGKILL, and gone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.lines.close()


def _live(writing: int, function: Callable[..., Any], *arguments: Any, **named: Any) -> NoReturn:
    def say(line: str) -> None:
        os.write(writing, f"{line}\n".encode())

    status = 1
    try:
        trio.run(lambda: function(*arguments, say, **named))
        status = 0
    except BaseException:  # noqa: BLE001 - the last that this process says
        traceback.print_exc()
    finally:
        # The driver's own ends of things must not run here.
        sys.stderr.flush()
        os._exit(status)


@dataclass(frozen=True)
class _Row:
    """A voucher, as either side keeps it."""

    number: int
    first: int
    tasks: int
    leaves: tuple[bytes, ...]
    signature: bytes
    is_acknowledged: bool = True


def _row(number: int, first: int, tasks: int, leaves: bytes, signature: bytes, told: int) -> _Row:
    split = tuple(leaves[at : at + 32] for at in range(0, len(leaves), 32))
    return _Row(number, first, tasks, split, signature, bool(told))


_THEIRS: Final = (
    "SELECT number, first, tasks, leaves, signature, 1 FROM vouchers"
    " ORDER BY account DESC, number DESC LIMIT ?"
)
_OURS: Final = (
    "SELECT number, first, tasks, leaves, signature, is_acknowledged FROM vouchers"
    " ORDER BY channel DESC, epoch DESC, number DESC LIMIT ?"
)
_TOLD: Final = (
    "SELECT number, first, tasks, leaves, signature, is_acknowledged FROM vouchers"
    " WHERE is_acknowledged ORDER BY channel DESC, epoch DESC, number DESC LIMIT ?"
)


def _rows(path: Path, query: str, newest: int) -> list[_Row]:
    """The oldest first; only so many of the newest, or with -1 all."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=COMES_UP)) as db:
        return [_row(*values) for values in db.execute(query, (newest,))][::-1]


class Kills:
    """One run: two homes, and lives in them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.found = Found()
        self.homes = {name: folder / name for name in ("node", "client")}
        for home in self.homes.values():
            home.mkdir()
        self.identities = {name: Identity.generate() for name in self.homes}
        path = session_key_file(self.homes["client"], NODE)
        path.parent.mkdir(parents=True)
        path.write_text(SESSION_SECRET.hex())
        path.chmod(0o600)
        self.port = 0
        self.lives = 0

    def node(self) -> tuple[Child, PeerAddress]:
        """A life of the node, which listens where the last one did."""
        identity = self.identities["node"]
        child = Child(_node, self.homes["node"], identity, self.port)
        address = child.hear()
        self.port = int(address.rsplit("/", 1)[1])
        return child, PeerAddress(identity.peer_id, (address,))

    def client(self, node: PeerAddress, *, is_last: bool = False) -> Child:
        """A life of the client, under load."""
        self.lives += 1
        home, identity = self.homes["client"], self.identities["client"]
        child = Child(_client, home, identity, node, self.lives, is_last)
        child.hear()
        return child

    def run(self, kills: int) -> Found:
        """Kill so often, then let both come to an end and compare."""
        node, address = self.node()
        client = self.client(address)
        for _ in range(kills):
            time.sleep(self.random.uniform(0, self.random.choice(LIVES)))
            victim = self.random.choice(("node", "client", "both"))
            if victim != "client":
                node.kill()
                self.found.of_nodes += 1
            if victim != "node":
                client.kill()
                self.found.of_clients += 1
            self.found.kills += 1
            self.compare(is_end=False)
            if victim != "client":
                node, address = self.node()
            if victim != "node":
                client = self.client(address)
        client.kill()
        last = self.client(address, is_last=True)
        assert last.hear() == "paid"
        os.waitpid(last.pid, 0)
        last.lines.close()
        node.kill()
        self.compare(is_end=True)
        return self.found

    def compare(self, *, is_end: bool) -> None:
        """What both have on disk; before the end, the newest of it."""
        books = {name: home / "lane.db" for name, home in self.homes.items()}
        newest = -1 if is_end else LOOKED_AT
        theirs = _rows(books["node"], _THEIRS, newest)
        # It may have signed what its node has not seen; the other way round never.
        ours = _rows(books["client"], _OURS, 2 * newest)
        told = max((one.number for one in _rows(books["client"], _TOLD, 1)), default=0)
        kept = BookView(books["node"]).entries
        standing = next((one.standing for one in kept.values()), None)
        number = int(standing.number) if standing else 0
        if number < told:
            self.problem(f"voucher {told} was acknowledged, the node has {number}")
        if ours and number > ours[-1].number:
            self.problem(f"the node has voucher {number}, the client signed {ours[-1].number}")
        by_number = {one.number: one for one in ours}
        for one in theirs:
            mine = by_number.get(one.number)
            if mine is None:
                self.problem(f"the node has a window {one.number} that the client has not")
            # Of a window that spans a crash of the node it knows some leaves only, and signs none.
            elif (mine.first, mine.tasks) != (one.first, one.tasks) or (
                (one.signature or len(one.leaves) == one.tasks) and mine.leaves != one.leaves
            ):
                self.problem(f"window {one.number} differs")
        if is_end:
            self.judge(ours, number)

    def judge(self, ours: list[_Row], number: int) -> None:
        """The client's whole book against the tasks that it received."""
        if number != ours[-1].number or not all(one.is_acknowledged for one in ours):
            self.problem(f"the node has {number} vouchers, the client signed {ours[-1].number}")
        leaves: dict[int, bytes] = {}
        for one in ours:
            if one.first != len(leaves):
                self.problem(f"window {one.number} begins at {one.first}, not {len(leaves)}")
            leaves.update(enumerate(one.leaves, one.first))
            self.found.unsigned += bool(one.tasks and not one.signature)
        received: dict[bytes, int] = {}
        for line in (self.homes["client"] / "received").read_bytes().splitlines():
            index, _, data = line.partition(b" ")
            if data in received:
                self.problem(f"task {data!r} was done twice")
            received[data] = int(index)
        self.check_leaves(leaves, received)
        self.found.vouchers, self.found.tasks = number, len(leaves)

    def check_leaves(self, leaves: dict[int, bytes], received: dict[bytes, int]) -> None:
        """Every paid leaf is that of a task that was received, at its place."""
        terms = (self.homes["client"] / "terms").read_bytes()
        wanted: dict[bytes, bytes] = {}
        for data, index in received.items():
            digest = hashlib.sha256(data).digest()
            wanted[task_leaf(terms, index, digest, digest)] = data
        unknown = [index for index, leaf in leaves.items() if leaf not in wanted]
        # A client that is killed between paying and noting leaves at most what it had just read.
        if len(unknown) > IN_FLIGHT * self.found.of_clients:
            self.problem(f"{len(unknown)} paid tasks that nobody received")
        if len(set(leaves.values())) != len(leaves):
            self.problem("a task was paid twice")

    def problem(self, text: str) -> None:
        """Note it once."""
        if text not in self.found.problems:
            self.found.problems.append(text)


def kill_loop(kills: int, seed: int) -> Found:
    """A whole run in a folder of its own."""
    logs.set_up("critical")
    _installed()
    with tempfile.TemporaryDirectory() as folder:
        return Kills(Path(folder), seed).run(kills)


def main() -> None:
    """Run and print; the status is 1 where anything was found."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--kills", type=int, default=1000)
    flags.add_argument("--seed", type=int, default=1)
    options = flags.parse_args()
    began = time.perf_counter()
    found = kill_loop(options.kills, options.seed)
    seconds = round(time.perf_counter() - began, 1)
    sys.stdout.write(json.dumps({**asdict(found), "seconds": seconds}) + "\n")
    sys.exit(bool(found.problems))


if __name__ == "__main__":
    main()
