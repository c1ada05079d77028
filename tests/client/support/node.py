"""A node that follows a script: the provider's side of a task, small enough to read at once.

It speaks the real messages over the in-memory network and the real actions on the ledger in
memory. What a misbehaving node would do differently is a field of `Script`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from deai.actions import ReleaseSeat, RevealResults
from deai.chain.ledger import Ledger
from deai.chain.tasks_view import TaskView, fold
from deai.errors import LedgerRejected, PeerUnreachable
from deai.hashing import blob_digest, chunks, leaf
from deai.ids import NodeId, TaskId
from deai.messages import (
    TASK_DIALECT,
    Accepted,
    ApprovedOutputs,
    Ask,
    AskOffer,
    Assigned,
    BlobChunk,
    BlobHeader,
    Committed,
    DeclinedSeat,
    Ended,
    OfferReply,
    Opened,
    Progress,
    Propose,
    Resume,
    TaskMessage,
)
from deai.money import UNIT, Amount
from deai.net import Link
from deai.offers import Hardware, Offer, Signed, WorkloadOffer, sign_offer
from deai.signing import LocalSigner, word
from deai.tasks import (
    FaultCode,
    Opening,
    Policy,
    Task,
    TaskSpec,
    accept_digest,
    approval_digest,
    commit_digest,
    commitment_value,
    fault_digest,
    result_digest,
    task_id,
)
from p2p.memory import MemoryNet

Compute = Callable[[TaskSpec, bytes], bytes]


def honest(spec: TaskSpec, data: bytes) -> bytes:
    """What every honest node computes here."""
    return b"output of " + hashlib.sha256(spec.parameters + data).hexdigest().encode() * 3000


@dataclass
class Script:
    """How a node behaves."""

    compute: Compute = honest
    seconds: float = 1.0
    base_fee: int = UNIT // 100
    declines: str = ""
    dies_on: str = ""  # "assigned" or "committed": the process is gone
    releases: bool = False
    fault: FaultCode | None = None
    withholds_output: bool = False
    waits_to_be_asked: bool = False  # for its output, as after a message that was lost
    spoils_output: str = ""  # "tree" (another blob) or "chunk" (damaged on the way)
    withholds_opening: bool = False
    signs_twice: bool = False
    mask: int | None = None  # its approval, whatever it saw; 0: never approves
    workloads: tuple[str, ...] = ("matmul-proof", "embedding", "portfolio-risk")


@dataclass
class Work:
    """One seat of one task."""

    task: Task
    spec: TaskSpec
    seat: int
    attempt: int
    link: Link[TaskMessage]
    salt: bytes
    input: dict[int, bytes] = field(default_factory=dict)
    chunks: int = -1
    output: bytes | None = None
    digest: bytes = b""
    openings: dict[int, bytes] = field(default_factory=dict)
    others: dict[int, tuple[int, dict[int, bytes]]] = field(default_factory=dict)
    is_started: bool = False
    is_asked: bool = False
    is_over: bool = False

    @property
    def has_input(self) -> bool:
        return len(self.input) == self.chunks


class ScriptedNode:
    """One node process."""

    def __init__(
        self, node: NodeId, operator: LocalSigner, ledger: Ledger, net: MemoryNet, script: Script
    ) -> None:
        self.node, self.operator, self.ledger, self.net = node, operator, ledger, net
        self.script = script
        self.works: dict[TaskId, Work] = {}
        self.seen: list[TaskMessage] = []
        self.scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                await nursery.start(self._serve)
                task_status.started()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.net.serve(TASK_DIALECT, self._talk, task_status=task_status)

    async def _talk(self, link: Link[TaskMessage]) -> None:
        while True:
            message = await link.receive()
            self.seen.append(message)
            await self._answer(link, message)

    async def _answer(self, link: Link[TaskMessage], message: TaskMessage) -> None:
        match message:
            case AskOffer():
                await link.send(OfferReply(await self.offer()))
            case Propose():
                await self._propose(link, message)
            case Assigned(task_id=id_) if id_ in self.works:
                self.works[id_].link = link
                if self.script.dies_on == "assigned":
                    self.die()
                if self.script.releases:
                    view, seat = await self._view(id_), self.works[id_].seat
                    if not view.released >> seat & 1:  # it is told of every change of the committee
                        await self.ledger.submit(ReleaseSeat(view.task, view.committee, seat))
                elif self.works[id_].has_input:
                    self._start(id_, self.works[id_])
            case BlobHeader(kind="input", task_id=id_) if id_ in self.works:
                self.works[id_].chunks = len(message.leaves)
            case BlobChunk(kind="input", task_id=id_) if id_ in self.works:
                work = self.works[id_]
                work.input[message.index] = message.data
                if work.has_input and not self.script.releases:
                    self._start(id_, work)
            case Opened(task_id=id_) if id_ in self.works:
                self.works[id_].openings[message.seat] = message.digest
            case BlobHeader(kind="output", task_id=id_) if id_ in self.works:
                self.works[id_].others[message.seat] = (len(message.leaves), {})
            case BlobChunk(kind="output", task_id=id_) if id_ in self.works:
                self.works[id_].others[message.seat][1][message.index] = message.data
            case Resume(task_id=id_) | Ask(task_id=id_) if id_ in self.works:
                self.works[id_].link = link
                self.works[id_].is_asked |= isinstance(message, Ask)
                self.nursery.start_soon(self._deliver, id_, self.works[id_])
            case Ended(task_id=id_) if id_ in self.works:
                self.works[id_].is_over = True
            case _:
                pass

    def _start(self, id_: TaskId, work: Work) -> None:
        if not work.is_started:
            work.is_started = True
            self.nursery.start_soon(self._work, id_, work)

    async def offer(self) -> Signed:
        now = (await self.ledger.head()).time
        offer = Offer(
            node=self.node,
            peer_id=self.net.peer_id,
            addresses=self.net.addresses,
            version="test",
            sequence=now,
            issued_at=now,
            expires_at=now + 600,
            capacity=4,
            sandbox="full",
            hardware=Hardware(device="cpu", cores=1, memory_mib=1024),
            workloads=tuple(
                WorkloadOffer(
                    workload=name,
                    version=1,
                    models=MODELS,
                    policies=("none/1", "exact/1", "tol32/1"),
                    base_fee=Amount(self.script.base_fee),
                    unit_fee=Amount(0),
                    milliunits_per_second=10**9,
                )
                for name in self.script.workloads
            ),
        )
        return sign_offer(offer, self.ledger.info.registry, self.operator)

    async def _propose(self, link: Link[TaskMessage], message: Propose) -> None:
        id_ = task_id(message.task, self.ledger.info.escrow)
        if self.script.declines:
            await link.send(
                DeclinedSeat(id_, message.seat, self.script.declines, "as the script says")
            )
            return
        salt = hashlib.sha256(id_.encode() + self.node.encode()).digest()
        self.works[id_] = Work(
            message.task, message.spec, message.seat, message.attempt, link, salt
        )
        if message.input is not None:  # else it comes in chunks
            self.works[id_].input, self.works[id_].chunks = {0: message.input}, 1
        until = (await self.ledger.head()).time + 60
        digest = accept_digest(
            self.ledger.info.escrow, id_, message.seat, message.attempt, self.node, until
        )
        signature = self.operator.sign(digest)
        await link.send(Accepted(id_, message.seat, message.attempt, self.node, until, signature))

    async def _work(self, id_: TaskId, work: Work) -> None:
        for tenth in (1, 2):
            await trio.sleep(self.script.seconds / 2)
            await self._send(work, Progress(id_, work.seat, work.attempt, 500 * tenth))
        data = b"".join(work.input[i] for i in range(work.chunks))
        assert blob_digest(data) == work.spec.input_digest
        if self.script.fault is not None:
            work.digest = fault_digest(id_, self.script.fault)
        else:
            work.output = self.script.compute(work.spec, data)
            work.digest = blob_digest(work.output)
        domain = self.ledger.info.escrow
        if work.task.policy is not Policy.NONE:
            value = commitment_value(
                id_, work.seat, work.attempt, self.node, work.digest, work.salt
            )
            signed = self.operator.sign(commit_digest(domain, id_, work.seat, work.attempt, value))
            await self._send(work, Committed(id_, work.seat, work.attempt, value, signed))
            if self.script.dies_on == "committed":
                self.die()
        await self._deliver(id_, work)

    async def _deliver(self, id_: TaskId, work: Work) -> None:
        """Opening, output and approval, each as soon as the rules allow it."""
        domain = self.ledger.info.escrow
        if not work.digest:
            return
        if work.task.policy is not Policy.NONE:
            while True:
                view = await self._view(id_)
                now = (await self.ledger.head()).time
                if len(view.commitments) == work.task.seats or now > work.task.commit_deadline:
                    break
                await trio.sleep(0.2)
        signed = self.operator.sign(
            result_digest(domain, id_, work.seat, work.attempt, work.digest, work.digest)
        )
        opened = Opened(id_, work.seat, work.attempt, work.digest, work.salt, work.digest, signed)
        if not self.script.withholds_opening:
            await self._send(work, opened)
        if self.script.signs_twice:
            other = hashlib.sha256(b"another answer").digest()
            again = self.operator.sign(
                result_digest(domain, id_, work.seat, work.attempt, other, other)
            )
            await self._send(
                work, Opened(id_, work.seat, work.attempt, other, work.salt, other, again)
            )
        work.openings[work.seat] = work.digest
        while not await self._may_leave(id_, work):
            await trio.sleep(0.1)
        if work.output is None or self.script.withholds_output:
            return
        if self.script.waits_to_be_asked and not work.is_asked:
            return
        await self._send_output(id_, work)
        if work.task.policy.is_tolerance:
            await self._approve(id_, work)

    async def _may_leave(self, id_: TaskId, work: Work) -> bool:
        view = await self._view(id_)
        if work.task.policy is Policy.NONE:
            return view.delivered is not None
        if work.task.policy.is_tolerance:
            return len(work.openings) >= work.task.quorum
        same = sum(1 for digest in work.openings.values() if digest == work.digest)
        return same >= work.task.quorum or view.is_over

    async def _send_output(self, id_: TaskId, work: Work) -> None:
        assert work.output is not None
        blob = work.output if self.script.spoils_output != "tree" else b"something else" * 9000
        parts = chunks(blob)
        leaves = tuple(leaf(part) for part in parts)
        await self._send(work, BlobHeader(id_, "output", work.seat, len(blob), leaves))
        for index, part in enumerate(parts):
            damaged = bytes(len(part)) if self.script.spoils_output == "chunk" else part
            await self._send(work, BlobChunk(id_, "output", work.seat, index, damaged))

    async def _approve(self, id_: TaskId, work: Work) -> None:
        mask = self.script.mask
        if mask is None:
            with trio.move_on_after(20):
                while len(work.others) < work.task.seats - 1 or any(
                    len(parts) < count for count, parts in work.others.values()
                ):
                    await trio.sleep(0.1)
            mask = 1 << work.seat
            for seat, (count, parts) in work.others.items():
                blob = b"".join(parts[i] for i in range(count)) if len(parts) == count else b""
                mask |= (blob == work.output) << seat
        if not mask:
            return
        view = await self._view(id_)
        commitments = word(view.acc)
        signed = self.operator.sign(
            approval_digest(self.ledger.info.escrow, id_, work.seat, commitments, mask)
        )
        await self._send(work, ApprovedOutputs(id_, work.seat, commitments, mask, signed))

    async def reveal(self, id_: TaskId) -> None:
        """Open on chain, as a node does whose client is silent."""
        work, view = self.works[id_], await self._view(id_)
        openings = tuple(
            Opening(seat, work.digest, work.salt)
            if seat == work.seat
            else Opening(seat, bytes(32), value)
            for seat, value in view.commitments
        )
        try:
            await self.ledger.submit(RevealResults(view.task, view.committee, openings))
        except LedgerRejected:
            return

    async def _view(self, id_: TaskId) -> TaskView:
        view = fold(await self.ledger.task_events(id_, since=0))
        assert view is not None
        return view

    async def _send(self, work: Work, message: TaskMessage) -> None:
        try:
            await work.link.send(message)
        except PeerUnreachable:
            return

    def die(self) -> None:
        """As by SIGKILL."""
        self.scope.cancel()
        self.net._network.kill(self.net.peer_id)


MODELS: tuple[str, ...] = ()
