"""A posted task on its way to the end: watch, relay, replace, settle.

One loop reads the chain, asks the planner and carries its step out; one child per member keeps
that node told. Both only look at what is known now, so either may start at any point of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import trio

from deai.actions import CommitResults, FinaliseTask, ReassignSeat, intent_key
from deai.chain.ledger import Transaction
from deai.chain.tasks_view import TaskView, fold
from deai.client.blobs import OutgoingBlob
from deai.client.chronicle import Chronicle
from deai.client.hearing import Hearing
from deai.client.journal import Entry, Proposal
from deai.client.members import Member
from deai.client.planner import ClientView, Step, plan, verified_seat
from deai.client.relay import Relay
from deai.client.requests import Prepared
from deai.client.sessions import Session
from deai.client.substitutes import Substitutes
from deai.client.telling import Teller
from deai.client.tools import ChainClock, Tools
from deai.client.updates import Feed
from deai.errors import Declined, LedgerRejected, LedgerUnreachable
from deai.events import LedgerRecord
from deai.ids import TaskId, parse_peer
from deai.net import PeerAddress
from deai.tasks import Accept, Seat

POLL: Final = 0.4
"""Seconds between looks at the chain when nothing was heard."""
REST: Final = 0.1
"""Seconds after a look before anything but a step of our own makes us look again."""
OUTPUT_WAIT: Final = 30.0
"""Seconds to go on asking for the output of a task that has ended."""
UNREACHABLE_LIMIT: Final = 60.0
FAREWELL: Final = 1.0


class Following:
    """One task of this client."""

    def __init__(
        self,
        tools: Tools,
        feed: Feed,
        task: TaskId,
        *,
        since: int,
        started: float,
        prepared: Prepared | None = None,
        entry: Entry | None = None,
        proposal: Proposal | None = None,
        resumed: bool = False,
        early: Mapping[int, Session] = MappingProxyType({}),
        on_output: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """`resumed`: an earlier life or another process may have talked to the members before.

        `early` are the links on which a seat's first holder was sent the input before.

        `started` is the local time at which the submission began. `on_output` is called once,
        with the verified output, which is here before the task is settled.

        Without `prepared` the input is not at hand: the task is watched and settled, but no
        seat can be given to another node.
        """
        self.tools = tools
        self.task = task
        self.prepared = prepared
        self.entry = entry
        self.proposal = proposal
        self.teller = Teller(feed, started)
        self.members: list[Member] = []
        self.transactions: list[Transaction] = []
        self.records: tuple[LedgerRecord, ...] = ()
        self.clock = ChainClock()
        self.marks: dict[str, float] = {}
        """Local times: input sent to all, last commitment seen, window, end."""
        self.input = OutgoingBlob(prepared.data) if prepared is not None else None
        self._on_output: Callable[[bytes], None] | None = on_output
        self._chronicle = Chronicle(tools.ledger, task, since)
        self._resumed = resumed
        self._early = early
        self._view: TaskView | None = None
        self._wake = trio.Event()
        self._looked_at = float("-inf")
        self._was_poked = False
        """Since the last look at the chain."""
        self._scopes: dict[int, trio.CancelScope] = {}
        self._relay = Relay(self)
        self._hearing = Hearing(self)
        self._substitutes = Substitutes(self)
        self._not_before: dict[str, tuple[float, float]] = {}
        self._failing_since: float | None = None
        self._commitments = 0

    @property
    def view(self) -> TaskView:
        """What the chain says; only after the first look."""
        assert self._view is not None
        return self._view

    @property
    def has_view(self) -> bool:
        """Whether the chain was read."""
        return self._view is not None

    async def run(self, *, until_input: bool = False) -> None:
        """Follow the task to its end and fetch its output; `until_input` stops when all have it.

        Raises `LedgerUnreachable` when the chain stays away, `Declined` when there is no such
        task.
        """
        stop = self.tools.sessions.listen(self.task, self._hearing)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._loop(until_input=until_input)
                await self._farewell()
                nursery.cancel_scope.cancel()
        finally:
            stop()

    async def _loop(self, *, until_input: bool) -> None:
        while True:
            wake = self._wake
            if trio.current_time() >= self._look_at():
                self._was_poked = False
                await self._look()
                self._looked_at = trio.current_time()
            if self._view is not None:
                known = self.known()
                if self._hand_over(known):
                    # Whoever waits for it goes on before the chain is spoken to: they and we are
                    # woken in either order by the first turn, so that it takes a second.
                    for _ in range(2):
                        await trio.lowlevel.checkpoint()
                step = None if until_input else self._step(known)
                if step is not None:
                    await self._carry_out(step)
                    self._looked_at = float("-inf")
                    continue
                if self.is_done() or (until_input and self.all_have_input()):
                    return
                self._substitutes.look(self._nursery)
                self._hearing.want_missing(known)
            with trio.move_on_at(self._look_at()):
                await wake.wait()

    def _hand_over(self, known: ClientView) -> bool:
        """Give the verified output to whoever waits for it, once; whether that was now."""
        if self._on_output is None or (seat := verified_seat(known)) is None:
            return False
        self._on_output(self.members[seat].output or b"")
        self._on_output = None
        return True

    def _look_at(self) -> float:
        """When to ask the chain again: what members say seldom changes what it says at once."""
        return self._looked_at + (REST if self._was_poked else POLL)

    async def _look(self) -> None:
        try:
            head = await self.tools.ledger.head()
            self.clock.saw(head)
            records = await self._chronicle.read(head)
        except LedgerUnreachable as error:
            now = trio.current_time()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > UNREACHABLE_LIMIT:
                raise LedgerUnreachable(
                    f"the chain has not answered for {UNREACHABLE_LIMIT:g} s: {error}",
                    hint="the task goes on without you; the same command continues",
                ) from error
            self.teller.note(f"the chain does not answer: {error}")
            return
        self._failing_since = None
        view = self._view if records == self.records else fold(records)
        if view is None:
            raise Declined(f"no task {self.task} is on this chain", code="not_found")
        places = {
            seat: await self._place(seat)
            for index, seat in enumerate(view.committee)
            if index >= len(self.members) or self.members[index].seat != seat
        }
        self.records = records
        # From here to the end without a wait: nobody sees a view without its members.
        self._view = view
        self._seat_members(places)
        self._note_progress(view)
        self.teller.changes(view, self.members)

    def _note_progress(self, view: TaskView) -> None:
        if len(view.commitments) > self._commitments:
            self._commitments = len(view.commitments)
            self.marks["committed"] = trio.current_time()

    def _seat_members(self, places: Mapping[Seat, PeerAddress | None]) -> None:
        view, now = self.view, trio.current_time()
        for index, seat in enumerate(view.committee):
            if index < len(self.members) and self.members[index].seat == seat:
                continue
            member = Member(index, seat, places[seat], now)
            member.was_connected = self._resumed
            member.early = self._early.get(index) if seat.attempt == 0 else None
            if index < len(self.members):
                self._scopes[index].cancel()
                self.members[index] = member
            else:
                self.members.append(member)
            self._substitutes.forget(index)
            self._scopes[index] = trio.CancelScope()
            self._nursery.start_soon(self._relay.keep_told, member, self._scopes[index])
            self.poke()

    async def _place(self, seat: Seat) -> PeerAddress | None:
        for known in self.proposal.members if self.proposal is not None else ():
            if known.node == seat.node:
                return PeerAddress(parse_peer(known.peer_id), known.addresses)
        found = await self.tools.directory.find([seat.node])
        return found.get(seat.node)

    def known(self) -> ClientView:
        """Everything that is known and checked now."""
        view = self.view
        now = trio.current_time()
        fresh = [
            now - one.commitment_at
            for one in self.members
            if one.commitment is not None and view.attempt(one.index).value is None
        ]
        openings = {m.index: o for m in self.members if (o := m.opening(view)) is not None}
        approvals = {m.index: a for m in self.members if (a := m.approval_for(view)) is not None}
        return ClientView(
            chain=view,
            now=self.clock.now,
            commitments={m.index: m.commitment for m in self.members if m.commitment is not None},
            waited=max(fresh, default=0.0),
            openings=openings,
            # A seat without an opening has no voice.
            approvals={seat: one for seat, one in approvals.items() if seat in openings},
            linked=frozenset(m.index for m in self.members if m.is_connected),
            result=self.members[0].result() if self.members else None,
            outputs=frozenset(m.index for m in self.members if m.output is not None),
            accepts=self._substitutes.accepts,
            evidence={m.index: m.evidence for m in self.members if m.evidence is not None},
            committee=self.proposal.accepts if self.proposal is not None else (),
        )

    def _step(self, known: ClientView) -> Step | None:
        step = plan(known)
        if step is None or self._not_before.get(intent_key(step), (0.0, 0.0))[0] > (
            trio.current_time()
        ):
            return None
        return step

    async def _carry_out(self, step: Step) -> None:
        try:
            if isinstance(step, ReassignSeat):
                await self._substitutes.save(step)
            done = await self.tools.ledger.submit(step)
        except (LedgerRejected, LedgerUnreachable) as error:
            # Often somebody was faster; the next look tells.
            key = intent_key(step)
            pause = min(10.0, 2 * self._not_before.get(key, (0.0, 0.25))[1])
            self._not_before[key] = (trio.current_time() + pause, pause)
            if pause > 1 or not isinstance(error, LedgerRejected):
                self.teller.note(f"{type(step).__name__}: {error}")
            return
        self.transactions.append(done)
        if isinstance(step, CommitResults):
            self.tools.crash("commitments_relayed")
        elif isinstance(step, ReassignSeat):
            self.tools.crash("seat_reassigned")
        elif isinstance(step, FinaliseTask):
            self.tools.crash("settled")

    def is_done(self) -> bool:
        """Whether the task has ended and nothing more is expected of its members."""
        if not self.view.is_over:
            return False
        now = trio.current_time()
        self.marks.setdefault("ended", now)
        if self.output() is not None or not self._output_is_due():
            return True
        return now - self.marks["ended"] > OUTPUT_WAIT

    def _output_is_due(self) -> bool:
        settled = self.view.settlement
        return settled is not None and settled.result is not None and not settled.fault

    def output(self) -> bytes | None:
        """The winning output, once it is here."""
        for member in self.members:
            if member.output is not None and member.output_digest == self.view.result:
                return member.output
        return None

    def all_have_input(self) -> bool:
        """Whether every member was sent the whole input."""
        return bool(self.members) and all(member.has_input for member in self.members)

    async def _farewell(self) -> None:
        """Give the members a moment to hear that the task has ended."""
        if not self.view.is_over:
            return
        self.poke()
        with trio.move_on_after(FAREWELL):
            while any(m.is_connected and ("ended", 0) not in m.sent for m in self.members):
                await self._wake.wait()

    def poke(self) -> None:
        """Something changed: let the loop and the members' children look."""
        self._was_poked = True
        self._wake.set()
        self._wake = trio.Event()

    async def changed(self) -> None:
        """Wait until something changes."""
        await self._wake.wait()


def accepts_of(proposal: Proposal | None, seat: int, attempt: int) -> Accept | None:
    """The accept by which the holder of a seat and attempt took it, if this client kept it."""
    if proposal is None:
        return None
    if attempt == 0:
        return proposal.accepts[seat] if seat < len(proposal.accepts) else None
    for one in proposal.substitutes:
        if (one.seat, one.attempt) == (seat, attempt):
            return one.accept
    return None
