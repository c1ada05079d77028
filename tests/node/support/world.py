"""A network in memory: a chain, a wire, real nodes and their disks."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from deai.actions import (
    Deposit,
    RegisterNode,
    TransferTokens,
)
from deai.chain.ledger import ChainInfo, Ledger, Parameters
from deai.chain.memory import DEFAULT_PARAMETERS, GENESIS_TIME, MemoryChain
from deai.chain.tasks_view import TaskView, fold
from deai.hashing import keccak
from deai.ids import NEAR, AccountId, ChainName, NodeId, PeerId, TaskId, node_id
from deai.money import UNIT, Amount
from deai.net import Net, PeerAddress
from deai.signing import Domain, LocalSigner
from deai.tasks import ESCROW_NAME, REGISTRY_NAME, Task, operate_digest
from node.config import NodeConfig, Patience, Price
from node.daemon import Daemon
from node.lane.book import LaneBook
from node.main import Entrance, run_chains
from node.orders.book import OrderBook
from node.ports import Ports
from node.state import Node
from node.store.blobs import BlobStore
from node.store.calls import Inline
from node.store.journal import Journal
from p2p.memory import MemoryNetwork
from rewards.rules import RULES
from tests.node.support.bench import SmallBench
from tests.node.support.client import ScriptedClient
from tests.node.support.names import key, peer

CONFIG = NodeConfig(
    capacity=2,
    queue=2,
    min_lease=10,
    patience=Patience(drain=60.0),
    beat_seconds=1.0,
    listen_for_twin=2.5,
    # A unit of the workloads here is a byte, which costs nobody anything.
    prices={"default": Price(unit_fee="0")},
)


class Killed(BaseException):
    """What a kill looks like from inside one process."""


@dataclass(eq=False)
class Provider:
    """A node of the world: what survives a kill (keys, disk) and what does not."""

    world: World
    name: str
    home: Path
    bench: SmallBench
    config: NodeConfig
    node_id: NodeId
    signer: LocalSigner
    wrap: Callable[[Ports], Ports] | None = None
    crash_at: str = ""
    crashes: list[str] = field(default_factory=list)
    daemon: Daemon | None = None
    elsewhere: dict[ChainName, tuple[World, NodeId]] = field(default_factory=dict)
    """The other chain that it is registered on, by name."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopped: trio.Event = field(default_factory=trio.Event)
    hubs: tuple[PeerAddress, ...] = ()
    max_pages: int = 0
    lane: bool = False
    """It serves the fast lane, with a database of its own thread."""
    lane_pages: int = 0
    orders: bool = False
    """It takes signed orders."""
    error: BaseException | None = None
    wall: Callable[[], float] | None = None

    @property
    def peer_id(self) -> PeerId:
        return peer(self.name)

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self.peer_id, (f"/memory/{self.peer_id}",))

    @property
    def node(self) -> Node | None:
        """Its life on the first chain, None while it is dead."""
        return self.daemon.branches[0].node if self.daemon is not None else None

    @property
    def live(self) -> Node:
        assert self.node is not None
        return self.node

    @property
    def whole(self) -> Daemon:
        """The daemon, which lives."""
        assert self.daemon is not None
        return self.daemon

    def on(self, chain: ChainName) -> Node:
        """Its life on a chain."""
        (found,) = (one.node for one in self.whole.branches if one.chain == chain)
        assert found is not None
        return found

    async def start(self) -> Daemon:
        """Open everything as a process would and wait until it takes work."""
        self.scope, self.stopped = trio.CancelScope(), trio.Event()
        daemon: Daemon = await self.world.nursery.start(self._live)
        return daemon

    async def _live(self, *, task_status: trio.TaskStatus[Daemon]) -> None:
        try:
            with self.scope:
                async with self.world.network.open_net(self.peer_id) as net:
                    journal = Journal(
                        self.home / "node.db", caller=Inline(), max_pages=self.max_pages
                    )
                    book = None
                    orders = None
                    try:
                        if self.lane:
                            book = LaneBook(self.home / "lane.db", max_pages=self.lane_pages)
                        if self.orders:
                            orders = OrderBook(self.home / "orders.db", caller=Inline())
                        await self._run(net, journal, book, orders, task_status)
                    finally:
                        journal.close()
                        if orders is not None:
                            orders.close()
                        if book is not None:
                            book.close()
        except Killed:
            self.world.network.kill(self.peer_id)
        except BaseExceptionGroup as group:
            _killed, rest = group.split(Killed)
            if rest is not None:
                raise
        finally:
            self.daemon = None
            self.stopped.set()

    async def _run(
        self,
        net: Net,
        journal: Journal,
        book: LaneBook | None,
        orders: OrderBook | None,
        task_status: trio.TaskStatus[Daemon],
    ) -> None:
        entropy = Counter[str]()

        def salt(size: int) -> bytes:
            entropy["n"] += 1
            made = keccak(self.name.encode(), str((trio.current_time(), entropy["n"])).encode())
            return made[:size]

        blobs = BlobStore(self.home / "blobs", max_bytes=1 << 30, caller=Inline())

        def entrance(world: World, node: NodeId) -> Entrance:
            ports = Ports(
                node=node,
                journal=journal.on(world.chain.info.name),
                blobs=blobs,
                book=book,
                orders=orders,
                ledger=world.chain.ledger(self.signer),
                net=net,
                workbench=self.bench,
                signer=self.signer,
                hubs=self.hubs,
                wall=self.wall or self.world.wall,
                entropy=salt,
                crash=self._crash,
            )

            @asynccontextmanager
            async def opened() -> AsyncIterator[Ports]:
                await ports.ledger.head()
                yield self.wrap(ports) if self.wrap else ports

            return Entrance(
                chain=world.chain.info.name,
                node_id=node,
                operator=self.signer.account,
                journal=ports.journal,
                open=opened,
            )

        async def keep(*, task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED) -> None:
            places = ((self.world, self.node_id), *self.elsewhere.values())
            await run_chains(
                self.config,
                [entrance(*place) for place in places],
                wall=self.wall or self.world.wall,
                binding=self.home / "binding.json",
                book=book,
                orders=orders,
                task_status=task_status,
            )

        async with trio.open_nursery() as nursery:
            self.daemon = await nursery.start(keep)
            task_status.started(self.daemon)

    def _crash(self, point: str) -> None:
        self.crashes.append(point)
        if point == self.crash_at:
            self.crash_at = ""
            raise Killed(point)

    async def kill(self) -> None:
        """As SIGKILL: nothing more is said or written."""
        self.world.network.kill(self.peer_id)
        self.scope.cancel()
        await self.stopped.wait()


@dataclass(eq=False)
class World:
    """Chain, wire and money."""

    nursery: trio.Nursery
    folder: Path
    network: MemoryNetwork
    chain: MemoryChain
    providers: list[Provider] = field(default_factory=list)
    index: int = 0
    """Of every node at its owner: ids differ from one chain to the other."""

    def wall(self) -> float:
        return GENESIS_TIME + trio.current_time()

    async def fund(self, account: AccountId, tokens: int) -> None:
        bank = self.chain.ledger(key("bank"))
        await bank.submit(
            TransferTokens(account, Amount(tokens)), key=f"{account}{len(self.chain.records)}"
        )

    async def register(self, name: str) -> NodeId:
        """Stake for a node of this name, which is reached at the peer of this name."""
        owner, operator = key(f"{name} owner"), key(f"{name} operator")
        node = node_id(owner.account, self.index)
        await self.fund(owner.account, 1000 * UNIT)
        until = self.chain.now + 3600
        digest = operate_digest(self.chain.info.registry, node, operator.account, until)
        await self.chain.ledger(owner).submit(
            RegisterNode(
                self.index,
                operator.account,
                until,
                operator.sign(digest),
                Amount(500 * UNIT),
                peer(name),
                (),
            )
        )
        return node

    async def provider(self, name: str, **settings: Any) -> Provider:
        """Register a node, also in the `other` world if there is one, and start it."""
        node = await self.register(name)
        operator = key(f"{name} operator")
        other: World | None = settings.pop("other", None)
        if other is not None:
            chain = other.chain.info.name
            settings["elsewhere"] = {chain: (other, await other.register(name))}
        config = settings.pop("config", CONFIG)
        bench = settings.pop("bench", None) or SmallBench()
        start = settings.pop("start", True)
        provider = Provider(
            self, name, self.folder / name, bench, config, node, operator, **settings
        )
        self.providers.append(provider)
        if start:
            await provider.start()
        return provider

    async def client(self, name: str = "client") -> ScriptedClient:
        """An account with tokens in its vault, and a peer."""
        signer = key(name)
        await self.fund(signer.account, 10_000 * UNIT)
        ledger = self.chain.ledger(signer)
        await ledger.submit(Deposit(Amount(5_000 * UNIT)))
        client: ScriptedClient = await self.nursery.start(_open_client, self, name, ledger)
        return client

    def view(self, task: TaskId) -> TaskView:
        view = fold(r for r in self.chain.records if getattr(r.event, "task_id", None) == task)
        assert view is not None
        return view


def near_info() -> ChainInfo:
    """A second chain, which only differs in what it is called and what it signs."""
    contracts = {
        name: AccountId("0x" + keccak(b"near", name.encode())[-20:].hex())
        for name in ("ComputeToken", "NodeRegistry", "TaskEscrow")
    }
    number = "near:test"
    return ChainInfo(
        name=NEAR,
        kind="memory",
        chain_id=number,
        contracts=contracts,
        registry=Domain(REGISTRY_NAME, number, contracts["NodeRegistry"]),
        escrow=Domain(ESCROW_NAME, number, contracts["TaskEscrow"]),
        deployed_at=1,
    )


@asynccontextmanager
async def open_worlds(folder: Path) -> AsyncIterator[tuple[World, World]]:
    """Sei and NEAR: two chains and their money, one wire."""
    async with open_world(folder) as sei:
        clock = sei.wall
        chain = MemoryChain(
            RULES,
            holder=key("bank").account,
            parameters=DEFAULT_PARAMETERS,
            clock=clock,
            info=near_info(),
        )
        near = World(sei.nursery, folder, sei.network, chain, index=1)
        near.wall = clock  # type: ignore[method-assign]
        yield sei, near


@asynccontextmanager
async def open_world(
    folder: Path, parameters: Parameters = DEFAULT_PARAMETERS
) -> AsyncIterator[World]:
    start = trio.current_time()
    chain = MemoryChain(
        RULES,
        holder=key("bank").account,
        parameters=parameters,
        clock=lambda: GENESIS_TIME + trio.current_time() - start,
    )
    async with trio.open_nursery() as nursery:
        world = World(nursery, folder, MemoryNetwork(), chain)
        world.wall = lambda: GENESIS_TIME + trio.current_time() - start  # type: ignore[method-assign]
        yield world
        nursery.cancel_scope.cancel()


async def _open_client(
    world: World,
    name: str,
    ledger: Ledger,
    *,
    task_status: trio.TaskStatus[ScriptedClient],
) -> None:
    async with (
        world.network.open_net(peer(name)) as net,
        trio.open_nursery() as nursery,
    ):
        task_status.started(ScriptedClient(world, ledger, net, nursery))
        await trio.sleep_forever()


async def begin(
    world: World,
    data: bytes = b"hello",
    *,
    benches: Sequence[SmallBench] = (),
    config: NodeConfig = CONFIG,
    introduce: bool = True,
    feed: bool = True,
    **fields: Any,
) -> tuple[ScriptedClient, list[Provider], Task, TaskId]:
    """A task with three fresh nodes in its seats, told of each other and given the input."""
    nodes = [
        await world.provider(f"node-{i}", bench=bench, config=config)
        for i, bench in enumerate(benches or (None, None, None))
    ]
    client = await world.client()
    task, spec = client.make(data, **fields)
    name = await client.engage(nodes, task, spec)
    if introduce:
        await client.assigned(nodes, name)
    if feed:
        for node in nodes:
            await client.send_input(node, name, data)
    return client, nodes, task, name
