"""A network in memory for the node's tests: a chain, a wire, small real workloads, a client."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import trio

from deai.actions import (
    CommitResults,
    DeliverResult,
    Deposit,
    FinaliseTask,
    PostAndAssign,
    ReassignSeat,
    RegisterNode,
    TransferTokens,
)
from deai.chain.ledger import Ledger
from deai.chain.memory import DEFAULT_PARAMETERS, GENESIS_TIME, MemoryChain
from deai.chain.tasks_view import TaskView, fold
from deai.codec import decode_value, encode_value
from deai.errors import NodeFault, PeerUnreachable, WorkloadFault
from deai.hashing import CHUNK_BYTES, blob_digest, chunks, keccak, leaf
from deai.ids import AccountId, NodeId, PeerId, TaskId, node_id
from deai.messages import (
    TASK_DIALECT,
    Accepted,
    ApprovedOutputs,
    Assigned,
    BlobChunk,
    BlobHeader,
    Committed,
    DeclinedSeat,
    FailedSeat,
    Member,
    Opened,
    Progress,
    Propose,
    Refused,
    Resume,
    TaskMessage,
)
from deai.money import UNIT, Amount
from deai.net import Link, Net, PeerAddress
from deai.ports import Estimate, Executor, Job, Output, SandboxReport, WorkloadInfo
from deai.signing import LocalSigner
from deai.tasks import (
    Accept,
    Approval,
    Commitment,
    FaultCode,
    Opening,
    Policy,
    Result,
    Seat,
    Task,
    TaskSpec,
    operate_digest,
    spec_hash,
    task_id,
)
from node.config import NodeConfig, Patience
from node.main import run
from node.ports import Ports
from node.state import Node
from node.store.blobs import BlobStore
from node.store.calls import Inline
from node.store.journal import Journal
from p2p.memory import MemoryNetwork
from rewards.rules import RULES

FEE = Amount(UNIT)
Matrix: TypeAlias = list[list[bool]]
LEASE = 30
WINDOW = 600


def key(name: str) -> LocalSigner:
    return LocalSigner(keccak(name.encode()))


def peer(name: str) -> PeerId:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = keccak(b"peer", name.encode()) * 2
    return PeerId("12D3KooW" + "".join(alphabet[byte % 58] for byte in digest[:44]))


class SmallBench:
    """A workbench of two small real computations, with faults on demand.

    `shout` (exact) upper-cases text; `drift` (tolerance) adds up numbers with `noise` that
    differs by node. Input `bad` is a task at fault; `fail` makes this node fail.
    """

    def __init__(self, *, seconds: float = 1.0, noise: float = 0.0) -> None:
        self.seconds = seconds
        self.noise = noise
        self.fail: str = ""
        self.runs = 0
        self.slots = trio.CapacityLimiter(1)

    @property
    def catalogue(self) -> SmallBench:
        return self

    @property
    def sandbox(self) -> SandboxReport:
        return SandboxReport(level="full", details={})

    def list(self) -> tuple[WorkloadInfo, ...]:
        return (self.info("shout"), self.info("drift"))

    def info(self, workload: str) -> WorkloadInfo:
        if workload not in ("shout", "drift"):
            raise WorkloadFault("unknown", fault=int(FaultCode.INVALID_PARAMETERS))
        exact = workload == "shout"
        return WorkloadInfo(
            id=workload,
            version=1,
            title=workload,
            description=workload,
            policies=("exact/1", "none/1") if exact else ("tol32/1", "none/1"),
            default_policy="exact/1" if exact else "tol32/1",
            determinism="bitwise" if exact else "tolerance",
            unit="byte",
            models=(),
            parameters={},
            output_type="json",
        )

    def parameters(self, workload: str, given: dict[str, Any]) -> bytes:
        return encode_value(given)

    def check(self, workload: str, parameters: bytes, data: bytes) -> Estimate:
        self._parse(data)
        return Estimate(1, len(data))

    def convert(self, workload: str, data: bytes, suffix: str) -> bytes:
        return data

    def _parse(self, data: bytes) -> str:
        if data == b"bad":
            raise WorkloadFault("bad input", fault=int(FaultCode.MALFORMED_INPUT))
        return data.decode()

    def stats(self) -> dict[str, Any]:
        return {"busy": self.slots.borrowed_tokens}

    def executor(self, client: str) -> AbstractAsyncContextManager[Executor]:
        return self._executor()

    @asynccontextmanager
    async def _executor(self) -> AsyncIterator[Executor]:
        async with self.slots:
            yield self

    async def run(
        self, job: Job, *, on_progress: Callable[[float], None], timeout: float
    ) -> Output:
        self.runs += 1
        for step in range(10):
            on_progress(step / 10)
            await trio.sleep(self.seconds / 10)
        if self.fail:
            raise NodeFault(self.fail)
        text = self._parse(job.input)
        repeat = decode_value(job.parameters).get("repeat", 1)
        if job.workload == "shout":
            data = text.upper().encode() * repeat
        else:
            data = struct.pack("<d", sum(map(float, text.split())) + self.noise)
        return Output(
            data=data, evidence=b"", units=len(job.input), seconds=self.seconds, measurements={}
        )

    async def compare(self, job: Job, policy: Policy, outputs: Sequence[bytes]) -> Matrix:
        await trio.lowlevel.checkpoint()
        values = [struct.unpack("<d", one)[0] if len(one) == 8 else None for one in outputs]
        return [
            [a is not None and b is not None and abs(a - b) <= 1e-3 for b in values] for a in values
        ]


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
    node: Node | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopped: trio.Event = field(default_factory=trio.Event)
    hubs: tuple[PeerAddress, ...] = ()
    max_pages: int = 0
    error: BaseException | None = None
    wall: Callable[[], float] | None = None

    @property
    def peer_id(self) -> PeerId:
        return peer(self.name)

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self.peer_id, (f"/memory/{self.peer_id}",))

    @property
    def live(self) -> Node:
        assert self.node is not None
        return self.node

    async def start(self) -> Node:
        """Open everything as a process would and wait until it takes work."""
        self.scope, self.stopped = trio.CancelScope(), trio.Event()
        node: Node = await self.world.nursery.start(self._live)
        return node

    async def _live(self, *, task_status: trio.TaskStatus[Node]) -> None:
        try:
            with self.scope:
                async with self.world.network.open_net(self.peer_id) as net:
                    journal = Journal(
                        self.home / "node.db", caller=Inline(), max_pages=self.max_pages
                    )
                    try:
                        await self._run(net, journal, task_status)
                    finally:
                        journal.close()
        except Killed:
            self.world.network.kill(self.peer_id)
        except BaseExceptionGroup as group:
            _killed, rest = group.split(Killed)
            if rest is not None:
                raise
        finally:
            self.node = None
            self.stopped.set()

    async def _run(self, net: Net, journal: Journal, task_status: trio.TaskStatus[Node]) -> None:
        entropy = Counter[str]()

        def salt(size: int) -> bytes:
            entropy["n"] += 1
            made = keccak(self.name.encode(), str((trio.current_time(), entropy["n"])).encode())
            return made[:size]

        ports = Ports(
            node=self.node_id,
            journal=journal,
            blobs=BlobStore(self.home / "blobs", max_bytes=1 << 30, caller=Inline()),
            ledger=self.world.chain.ledger(self.signer),
            net=net,
            workbench=self.bench,
            signer=self.signer,
            hubs=self.hubs,
            wall=self.wall or self.world.wall,
            entropy=salt,
            crash=self._crash,
        )

        async def keep(*, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED) -> None:
            await run(
                self.config, self.wrap(ports) if self.wrap else ports, task_status=task_status
            )

        async with trio.open_nursery() as nursery:
            self.node = await nursery.start(keep)
            task_status.started(self.node)

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

    def wall(self) -> float:
        return GENESIS_TIME + trio.current_time()

    async def fund(self, account: AccountId, tokens: int) -> None:
        bank = self.chain.ledger(key("bank"))
        await bank.submit(
            TransferTokens(account, Amount(tokens)), key=f"{account}{len(self.chain.records)}"
        )

    async def provider(self, name: str, **settings: Any) -> Provider:
        """Register a node and start it."""
        owner, operator = key(f"{name} owner"), key(f"{name} operator")
        node = node_id(owner.account, 0)
        await self.fund(owner.account, 1000 * UNIT)
        until = self.chain.now + 3600
        digest = operate_digest(self.chain.info.registry, node, operator.account, until)
        await self.chain.ledger(owner).submit(
            RegisterNode(
                0,
                operator.account,
                until,
                operator.sign(digest),
                Amount(500 * UNIT),
                peer(name),
                (),
            )
        )
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


CONFIG = NodeConfig(
    capacity=2,
    queue=2,
    min_lease=10,
    patience=Patience(drain=60.0),
    beat_seconds=1.0,
    listen_for_twin=2.5,
)


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    start = trio.current_time()
    chain = MemoryChain(
        RULES,
        holder=key("bank").account,
        parameters=DEFAULT_PARAMETERS,
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


@dataclass(eq=False)
class Heard:
    """What one node told the client about one task."""

    committed: Committed | None = None
    opened: Opened | None = None
    approval: ApprovedOutputs | None = None
    failed: FailedSeat | None = None
    progress: list[tuple[float, int]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    header: BlobHeader | None = None
    parts: dict[int, bytes] = field(default_factory=dict)
    commits: set[bytes] = field(default_factory=set)
    openings: set[bytes] = field(default_factory=set)

    @property
    def output(self) -> bytes | None:
        if self.header is None or len(self.parts) < len(self.header.leaves):
            return None
        return b"".join(self.parts[i] for i in range(len(self.header.leaves)))


@dataclass(eq=False)
class ScriptedClient:
    """A client that does exactly what a test tells it to."""

    world: World
    ledger: Ledger
    net: Net
    nursery: trio.Nursery
    heard: dict[tuple[TaskId, int], Heard] = field(default_factory=lambda: defaultdict(Heard))
    links: dict[PeerId, Link[TaskMessage]] = field(default_factory=dict)
    replies: list[TaskMessage] = field(default_factory=list)
    nonces: Counter[int] = field(default_factory=Counter)
    dialling: trio.Lock = field(default_factory=trio.Lock)
    made: Task | None = None
    """The task that a test is about."""

    @property
    def task(self) -> Task:
        assert self.made is not None
        return self.made

    async def link(self, provider: Provider) -> Link[TaskMessage]:
        async with self.dialling:
            known = self.links.get(provider.peer_id)
            if known is None:
                known = await self.nursery.start(self._dial, provider.address)
                self.links[provider.peer_id] = known
            return known

    async def hang_up(self, provider: Provider) -> None:
        link = self.links.pop(provider.peer_id, None)
        if link is not None:
            await link.aclose()

    async def _dial(
        self, address: PeerAddress, *, task_status: trio.TaskStatus[Link[TaskMessage]]
    ) -> None:
        async with self.net.dial(address, TASK_DIALECT, timeout=5) as link:
            task_status.started(link)
            try:
                while True:
                    self._note(await link.receive())
            except PeerUnreachable:
                if self.links.get(address.peer_id) is link:
                    del self.links[address.peer_id]

    def _note(self, message: TaskMessage) -> None:
        self.replies.append(message)
        match message:
            case Committed():
                heard = self.heard[message.task_id, message.seat]
                heard.committed = message
                heard.commits.add(message.value)
            case Opened():
                heard = self.heard[message.task_id, message.seat]
                heard.opened = message
                heard.openings.add(message.digest)
            case ApprovedOutputs():
                self.heard[message.task_id, message.seat].approval = message
            case FailedSeat():
                self.heard[message.task_id, message.seat].failed = message
            case Progress():
                self.heard[message.task_id, message.seat].progress.append(
                    (trio.current_time(), message.done)
                )
            case BlobHeader():
                self.heard[message.task_id, message.seat].header = message
            case BlobChunk():
                self.heard[message.task_id, message.seat].parts[message.index] = message.data
            case _:
                pass

    def make(
        self,
        data: bytes,
        *,
        workload: str = "shout",
        policy: Policy = Policy.EXACT,
        seats: int = 3,
        lane: int = 0,
        **fields: Any,
    ) -> tuple[Task, TaskSpec]:
        """A task and its spec; `fields` replace the task's."""
        info = self.world.chain.info
        spec = TaskSpec(
            domain=f"{info.chain_id}:{info.escrow.contract}",
            workload=workload,
            workload_version=1,
            model="",
            input_digest=blob_digest(data),
            input_bytes=len(data),
            parameters=encode_value(fields.pop("params", {})),
            salt=keccak(str((lane, self.nonces[lane])).encode()),
        )
        assert self.ledger.account is not None
        task = Task(
            client=self.ledger.account,
            lane=lane,
            nonce=self.nonces[lane] + 1,
            fee=FEE,
            tip=Amount(0),
            seats=seats,
            policy=policy,
            lease=LEASE,
            commit_deadline=self.world.chain.now + 300,
            window=WINDOW,
            spec_hash=spec_hash(spec),
        )
        task = msgspec.structs.replace(task, **fields)
        return msgspec.structs.replace(task, spec_hash=spec_hash(spec)), spec

    def name(self, task: Task) -> TaskId:
        return task_id(task, self.world.chain.info.escrow)

    async def ask(self, provider: Provider, message: TaskMessage) -> TaskMessage:
        """Send and return the next reply that is no stream of a task."""
        link = await self.link(provider)
        before = len(self.replies)
        await link.send(message)
        with trio.fail_after(20):
            while True:
                for reply in self.replies[before:]:
                    if isinstance(reply, Accepted | DeclinedSeat | Refused) or type(
                        reply
                    ).__name__.endswith("Reply"):
                        return reply
                await trio.sleep(0.01)

    async def propose(
        self, provider: Provider, task: Task, spec: TaskSpec, seat: int = 0, attempt: int = 0
    ) -> Accepted | DeclinedSeat:
        reply = await self.ask(provider, Propose(task, spec, seat, attempt))
        assert isinstance(reply, Accepted | DeclinedSeat), reply
        return reply

    async def post(self, task: Task, accepts: Sequence[Accepted]) -> int:
        """Post and assign; the block."""
        signed = tuple(Accept(a.node, a.valid_until, a.signature) for a in accepts)
        done = await self.ledger.submit(PostAndAssign(task, signed))
        self.nonces[task.lane] = task.nonce
        return done.block

    async def engage(self, providers: Sequence[Provider], task: Task, spec: TaskSpec) -> TaskId:
        """Propose to all, post, assign."""
        accepts = []
        for seat, provider in enumerate(providers):
            reply = await self.propose(provider, task, spec, seat)
            assert isinstance(reply, Accepted), reply
            accepts.append(reply)
        await self.post(task, accepts)
        return self.name(task)

    def committee(self, task: TaskId) -> tuple[Seat, ...]:
        return self.world.view(task).committee

    async def assigned(self, providers: Sequence[Provider], task: TaskId) -> None:
        """Tell the holders who the members are."""
        members = tuple(
            Member(seat, p.peer_id, p.address.addresses) for seat, p in enumerate(providers)
        )
        for provider in providers:
            link = await self.link(provider)
            await link.send(Assigned(task, 0, self.committee(task), members))

    async def send_input(self, provider: Provider, task: TaskId, data: bytes) -> None:
        link = await self.link(provider)
        await send_blob(link, task, "input", 0, data)

    async def relay_commits(self, task: Task, seats: Sequence[int]) -> None:
        """Wait for the commitments of `seats`; put on chain what is not there yet."""
        name = self.name(task)

        def is_known(seat: int) -> bool:
            there = self.world.view(name).committed >> seat & 1
            return bool(there or self.heard[name, seat].committed)

        await until(lambda: all(map(is_known, seats)))
        view = self.world.view(name)
        given = [self.heard[name, s].committed for s in seats if not view.committed >> s & 1]
        new = tuple(Commitment(one.seat, one.value, one.signature) for one in given if one)
        if new:
            await self.ledger.submit(CommitResults(task, view.committee, new))

    async def relay_openings(
        self, providers: Sequence[Provider], task: TaskId, seats: Sequence[int]
    ) -> None:
        """Wait for the openings of `seats` and pass them to everybody."""
        await until(lambda: all(self.heard[task, seat].opened for seat in seats))
        for seat in seats:
            message = self.heard[task, seat].opened
            assert message is not None
            for other, provider in enumerate(providers):
                if other != seat and provider.node is not None:
                    await (await self.link(provider)).send(message)

    async def relay_outputs(
        self, providers: Sequence[Provider], task: TaskId, seats: Sequence[int]
    ) -> None:
        await until(lambda: all(self.heard[task, s].output is not None for s in seats))
        for seat in seats:
            output = self.heard[task, seat].output
            assert output is not None
            for other, provider in enumerate(providers):
                if other != seat and provider.node is not None:
                    await send_blob(await self.link(provider), task, "output", seat, output)

    async def finalise(self, task: Task) -> None:
        """Settle with every opening (and approval) heard."""
        name = self.name(task)
        view = self.world.view(name)
        openings, approvals = [], []
        for seat, _ in view.commitments:
            message = self.heard[name, seat].opened
            assert message is not None
            openings.append(Opening(seat, message.digest, message.salt))
            approval = self.heard[name, seat].approval
            if approval is not None:
                approvals.append(Approval(seat, approval.mask, approval.signature))
        given = tuple(approvals) if task.policy.is_tolerance else ()
        await self.ledger.submit(FinaliseTask(task, view.committee, tuple(openings), given))

    async def deliver(self, task: Task) -> None:
        name = self.name(task)
        await until(lambda: self.heard[name, 0].opened is not None)
        message = self.heard[name, 0].opened
        assert message is not None
        result = Result(message.digest, message.evidence, message.signature)
        await self.ledger.submit(DeliverResult(task, self.committee(name), result))

    async def reassign(self, task: Task, seat: int, accept: Accepted) -> None:
        signed = Accept(accept.node, accept.valid_until, accept.signature)
        await self.ledger.submit(ReassignSeat(task, self.committee(self.name(task)), seat, signed))

    async def resume(self, provider: Provider, task: TaskId) -> None:
        await (await self.link(provider)).send(Resume(task))


async def send_blob(
    link: Link[TaskMessage], task: TaskId, kind: Any, seat: int, data: bytes
) -> None:
    parts = chunks(data)
    leaves = tuple(leaf(part) for part in parts)
    await link.send(BlobHeader(task, kind, seat, len(data), leaves))
    for index, part in enumerate(parts):
        assert len(part) <= CHUNK_BYTES
        await link.send(BlobChunk(task, kind, seat, index, part))


async def until(condition: Callable[[], object], *, seconds: float = 2000) -> None:
    """Wait on trio's clock until something is true."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.05)
