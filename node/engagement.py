"""One accepted seat while the daemon lives: the journal's facts, the chain's, and the links."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import trio
from msgspec.structs import replace

from deai.chain.tasks_view import TaskView, fold
from deai.events import LedgerRecord
from deai.hashing import ZERO
from deai.ids import AccountId, NodeId, PeerId, TaskId
from deai.messages import ApprovedOutputs, Member, Opened, TaskMessage
from deai.net import Link
from deai.tasks import FaultCode, Seat, Task, TaskSpec
from node.config import Patience
from node.planner import Action, Tell, View
from node.store.blobs import BlobReceiver, SmallReceiver
from node.store.records import OwnResult, Saved, SeatKey

MAX_CLIENT_PEERS: Final = 8
"""Peers that are treated as the client of one seat."""


@dataclass(eq=False)
class Engagement:
    """Everything about one (task, seat, attempt). Whoever changes it calls `changed`."""

    key: SeatKey
    task: Task
    spec: TaskSpec
    valid_until: int
    signature: bytes
    since: int
    accepted_at: int
    asked_by: PeerId
    """Who asked for the accept, or for its renewal, last: it is charged for the waiting."""
    asked_at: int
    """Chain time since when that is so."""
    members: tuple[Member, ...] = ()
    has_input: bool = False
    small_input: bytes | None = None
    """The input, if it is small enough for the journal; else a blob."""
    result: OwnResult | None = None
    small_output: bytes | None = None
    """Our own output, if it is small enough for the journal; else a blob."""
    openings: dict[int, Opened] = field(default_factory=dict)
    """Checked openings of other seats."""
    approvals: dict[int, ApprovedOutputs] = field(default_factory=dict)
    """Checked approvals of all seats."""
    outputs: set[int] = field(default_factory=set)
    """Other seats whose output is on disk."""
    client_peers: dict[PeerId, None] = field(default_factory=dict)
    """Peers that showed the whole spec, whose salt only the client and its nodes know: the first,
    which asked for the seat, and of the others those that came last."""

    records: tuple[LedgerRecord, ...] = ()
    chain: TaskView | None = None
    link: Link[TaskMessage] | None = None
    member_links: dict[int, Link[TaskMessage]] = field(default_factory=dict)
    input: BlobReceiver | SmallReceiver | None = None
    incoming: dict[int, BlobReceiver] = field(default_factory=dict)
    told: set[Tell] = field(default_factory=set)
    asked: set[Tell] = field(default_factory=set)
    held: dict[Action, float] = field(default_factory=dict)
    """What is under way (infinity) or rests after a failure until this local time."""
    gave_up: tuple[str, str] | None = None
    done: float = 0.0
    """Fraction computed."""
    committed_at: float | None = None
    seated_at: int = 0
    """Chain time at which this process first saw its seat on chain."""
    window_at: float | None = None
    news: tuple[int, int] | None = None
    """How many openings and outputs are here, once the window runs."""
    news_at: float = float("-inf")
    """When that changed last."""
    ready_at: float | None = None
    progress_at: float = float("-inf")
    started_at: float | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of the driver: cancelled when the file is closed."""
    is_durable: trio.Event = field(default_factory=trio.Event)
    """The journal has it: before, nobody may be told that the seat is taken."""
    early: dict[tuple[int, PeerId], Opened] = field(default_factory=dict)
    """Openings that came before we saw the commitments they belong to."""
    signed: dict[int, list[Opened]] = field(default_factory=dict)
    """By seat: results that its key signed, at most two with different digests."""
    evidence_at: float | None = None
    """When two different results of one seat were first held."""
    refused: Counter[str] = field(default_factory=Counter)
    """Transactions that the chain refused, by verb."""
    _wake: trio.Event = field(default_factory=trio.Event)

    @classmethod
    def of(cls, saved: Saved) -> Engagement:
        """From the journal: after a restart, or just accepted."""
        own = cls(
            key=saved.key,
            task=saved.task,
            spec=saved.spec,
            valid_until=saved.valid_until,
            signature=saved.signature,
            since=saved.since,
            accepted_at=saved.accepted_at,
            members=saved.members,
            has_input=saved.has_input,
            small_input=saved.input,
            result=saved.result,
            small_output=saved.output,
            openings={s: o for s, o in saved.openings.items() if s != saved.key.seat},
            approvals=dict(saved.approvals),
            asked_by=saved.client_peer,
            asked_at=saved.accepted_at,
            client_peers={saved.client_peer: None},
        )
        if own.result is not None:
            own.committed_at = float("-inf")
        for message in (*own.openings.values(), *saved.lies.values()):
            own.note_signed(message, float("-inf"))
        return own

    @property
    def task_id(self) -> TaskId:
        """Which task."""
        return self.key.task_id

    def admit(self, peer: PeerId) -> None:
        """Treat a peer as the client; of too many, the one that came longest ago goes."""
        first, *others = self.client_peers
        if peer == first:
            return
        others = [one for one in others if one != peer]
        self.client_peers = dict.fromkeys((first, *others[-(MAX_CLIENT_PEERS - 2) :], peer))

    def idle(self, now: int) -> int:
        """Chain seconds for which the accept has waited for a seat, as long as it was good."""
        return 0 if self.seated_at else max(0, min(now, self.valid_until) - self.asked_at)

    def changed(self) -> None:
        """Make the driver look again."""
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Until something changed since the last `view`, or for so long."""
        with trio.move_on_after(seconds):
            await self._wake.wait()

    def apply(self, records: tuple[LedgerRecord, ...], *, rewind_to: int | None = None) -> None:
        """Take in events of this task, in any order of batches, each once."""
        kept = self.records
        if rewind_to is not None:
            kept = tuple(one for one in kept if one.position.block <= rewind_to)
        known = {(one.position.block, one.position.index) for one in kept}
        new = [r for r in records if (r.position.block, r.position.index) not in known]
        if not new and len(kept) == len(self.records):
            return
        records = tuple(sorted((*kept, *new), key=lambda one: one.position))
        self.chain = fold(records)
        self.records = records
        self.changed()

    def note_signed(self, message: Opened, clock: float) -> None:
        """Remember a result that a seat's key signed: two different ones are evidence."""
        held = self.signed.setdefault(message.seat, [])
        if len(held) < 2 and all(one.digest != message.digest for one in held):
            held.append(message)
        if len(held) == 2 and self.evidence_at is None:
            self.evidence_at = clock

    def evidence(self) -> tuple[int, Opened, Opened] | None:
        """A seat and its two results, if that is not proven on chain yet."""
        proven = {one.seat for one in self.chain.equivocations} if self.chain is not None else set()
        for seat, held in sorted(self.signed.items()):
            if len(held) == 2 and seat not in proven:
                return seat, held[0], held[1]
        return None

    def seat_of(self, seat: int) -> Seat | None:
        """The present holder of a seat on chain."""
        committee = self.chain.committee if self.chain is not None else ()
        return committee[seat] if seat < len(committee) else None

    def attach(self, link: Link[TaskMessage]) -> None:
        """The client speaks on this link now; what it was told on another is told again."""
        if self.link is not link:
            self.link = link
            self.told.clear()
            # Whatever opened this link was answered on it: that is the first sign of life.
            self.progress_at = trio.current_time()
        if self.chain is not None:  # before, there is nothing to say
            self.changed()

    def detach(self, link: Link[TaskMessage]) -> None:
        """A link is gone."""
        if self.link is link:
            self.link = None
        for seat in [seat for seat, other in self.member_links.items() if other is link]:
            del self.member_links[seat]
        self.changed()

    def digests(self) -> dict[int, bytes]:
        """By seat: digests that others opened, to us or on chain."""
        found = {seat: one.digest for seat, one in self.openings.items()}
        if self.chain is not None:
            found |= {seat: one.digest for seat, one in self.chain.openings.items()}
        found.pop(self.key.seat, None)
        return found

    def view(
        self,
        node: NodeId,
        operator: AccountId,
        *,
        now: int,
        clock: float,
        patience: Patience,
        is_stopping: bool,
    ) -> View:
        """What the planner may know now."""
        if self._wake.is_set():
            self._wake = trio.Event()
        if self.held:
            self.held = {action: until for action, until in self.held.items() if until > clock}
        is_evident = self.evidence_at is not None and self.evidence() is not None
        view = View(
            key=self.key,
            node=node,
            operator=operator,
            task=self.task,
            valid_until=self.valid_until,
            now=now,
            clock=clock,
            patience=patience,
            chain=self.chain,
            seated_at=self.seated_at,
            has_input=self.has_input,
            input_began=self.input is not None,
            digest=self.result.digest if self.result is not None else None,
            value=self.result.value if self.result is not None else ZERO,
            is_fault=self.result is not None and self.result.fault != 0,
            gave_up=self.gave_up[0] if self.gave_up is not None else "",
            openings=self.digests(),
            outputs=frozenset(self.outputs),
            approvals=frozenset(self.approvals)
            | frozenset(self.chain.approvals if self.chain is not None else ()),
            client_linked=self.link is not None,
            told=frozenset(self.told),
            asked=frozenset(self.asked),
            committed_at=self.committed_at,
            evidence_at=self.evidence_at if is_evident else None,
            window_at=self.window_at,
            news_at=self.news_at,
            ready_at=self.ready_at,
            progress_at=self.progress_at,
            held=frozenset(self.held),
            is_stopping=is_stopping,
        )
        if not self.seated_at and view.mine is not None:
            self.seated_at = now
            view = replace(view, seated_at=now)
        if self.window_at is None and view.window_runs:
            self.window_at = clock
        news = (len(view.openings), len(view.outputs))
        if view.window_runs and news != self.news:
            self.news, self.news_at = news, clock
            view = replace(view, news_at=clock)
        if self.ready_at is None and view.window_runs and view.has_everything:
            self.ready_at = clock
        return view

    @property
    def fault(self) -> FaultCode | None:
        """Why the task itself is bad, if our result says so."""
        return (
            FaultCode(self.result.fault) if self.result is not None and self.result.fault else None
        )
