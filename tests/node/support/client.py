"""A client of nodes that does exactly what a test tells it to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from deai.actions import (
    CommitResults,
    DeliverResult,
    FinaliseTask,
    PostAndAssign,
    ReassignSeat,
)
from deai.chain.ledger import Ledger
from deai.codec import encode_value
from deai.errors import PeerUnreachable
from deai.hashing import CHUNK_BYTES, blob_digest, chunks, keccak, leaf
from deai.ids import PeerId, TaskId
from deai.messages import (
    TASK_DIALECTS,
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
from deai.money import Amount
from deai.net import Link, Net, PeerAddress
from deai.tasks import (
    Accept,
    Approval,
    Commitment,
    Opening,
    Policy,
    Result,
    Seat,
    Task,
    TaskSpec,
    spec_hash,
    task_id,
)
from tests.node.support.names import FEE, LEASE, WINDOW, until

if TYPE_CHECKING:
    from tests.node.support.world import Provider, World


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
        dialect = TASK_DIALECTS[self.world.chain.info.name]
        async with self.net.dial(address, dialect, timeout=5) as link:
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
