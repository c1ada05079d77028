"""A posted task on its way to the end: watch, relay, replace, settle.

One loop reads the chain, asks the planner and carries its step out; one child per member keeps
that node told. Both only look at what is known now, so either may start at any point of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import trio

from deai.actions import CommitResults, FinaliseTask, ReassignSeat, intent_key
from deai.chain.ledger import Transaction
from deai.chain.tasks_view import TaskView, fold
from deai.client.blobs import OutgoingBlob
from deai.client.committee import Seated, ask_around
from deai.client.journal import Entry, MemberRecord, Proposal, Substitute
from deai.client.matching import rank
from deai.client.members import Item, Member
from deai.client.planner import ClientView, Step, plan, result_seats
from deai.client.relay import tell
from deai.client.requests import Prepared
from deai.client.tools import ChainClock, Tools
from deai.client.updates import Feed, Kind, TaskUpdate
from deai.errors import Declined, LedgerRejected, LedgerUnreachable
from deai.events import LedgerRecord
from deai.ids import NodeId, PeerId, TaskId, parse_peer
from deai.lifecycle import SeatState
from deai.messages import (
    ApprovedOutputs,
    BlobChunk,
    BlobHeader,
    Committed,
    FailedSeat,
    Opened,
    Progress,
    TaskMessage,
)
from deai.net import PeerAddress
from deai.tasks import MAX_REASSIGNMENTS, Accept, Seat

POLL: Final = 0.4
"""Seconds between looks at the chain when nothing was heard."""
ASK_AGAIN: Final = 2.0
OUTPUT_WAIT: Final = 30.0
"""Seconds to go on asking for the output of a task that has ended."""
UNREACHABLE_LIMIT: Final = 60.0
LOOK_AHEAD: Final = 15
"""Seconds before the end of a silent member's lease at which a substitute is asked."""
LINK_GRACE: Final = 3.0
"""Seconds a link may be down before its node counts as silent."""
SEEK_PAUSE: Final = 3.0
FAREWELL: Final = 1.0


class Following:
    """One task of this client. Also the listener for its members' messages."""

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
    ) -> None:
        """`resumed`: an earlier life or another process may have talked to the members before.

        `started` is the local time at which the submission began.

        Without `prepared` the input is not at hand: the task is watched and settled, but no
        seat can be given to another node.
        """
        self.tools = tools
        self.feed = feed
        self.task = task
        self.prepared = prepared
        self.entry = entry
        self.proposal = proposal
        self.started = started
        self.members: list[Member] = []
        self.transactions: list[Transaction] = []
        self.records: tuple[LedgerRecord, ...] = ()
        self.clock = ChainClock()
        self.marks: dict[str, float] = {}
        """Local times of the first input sent, the last commitment, the end."""
        self.input = OutgoingBlob(prepared.data) if prepared is not None else None
        self._outgoing: dict[int, OutgoingBlob] = {}
        self._since = since
        self._resumed = resumed
        self._view: TaskView | None = None
        self._wake = trio.Event()
        self._scopes: dict[int, trio.CancelScope] = {}
        self._accepts: dict[int, tuple[int, Seated]] = {}
        self._sought_at: dict[int, float] = {}
        self._seeking = trio.Lock()
        self._tried: dict[int, set[NodeId]] = {}
        self._not_before: dict[str, tuple[float, float]] = {}
        self._told: set[tuple[str, int, int]] = set()
        self._failing_since: float | None = None

    @property
    def view(self) -> TaskView:
        """What the chain says; only after the first look."""
        assert self._view is not None
        return self._view

    async def run(self, *, until_input: bool = False) -> None:
        """Follow the task to its end and fetch its output; `until_input` stops when all have it.

        Raises `LedgerUnreachable` when the chain stays away, `Declined` when there is no such
        task.
        """
        stop = self.tools.sessions.listen(self.task, self)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._loop(until_input=until_input)
                await self._farewell()
                nursery.cancel_scope.cancel()
        finally:
            stop()

    # --- the loop -------------------------------------------------------------------------

    async def _loop(self, *, until_input: bool) -> None:
        while True:
            wake = self._wake
            await self._look()
            if self._view is not None:
                if self._is_done() or (until_input and self._all_have_input()):
                    return
                known = self.known()
                step = None if until_input else self._step(known)
                if step is not None:
                    await self._carry_out(step)
                    continue
                self._seek_substitutes()
                self._want_missing(known)
            with trio.move_on_after(POLL):
                await wake.wait()

    async def _look(self) -> None:
        try:
            self.clock.saw(await self.tools.ledger.head())
            records = await self.tools.ledger.task_events(self.task, since=self._since)
        except LedgerUnreachable as error:
            now = trio.current_time()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > UNREACHABLE_LIMIT:
                raise LedgerUnreachable(
                    f"the chain has not answered for {UNREACHABLE_LIMIT:g} s: {error}",
                    hint="the task goes on without you; the same command continues",
                ) from error
            self.note(f"the chain does not answer: {error}")
            return
        self._failing_since = None
        view = fold(records)
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
        self._tell_changes()

    def _seat_members(self, places: Mapping[Seat, PeerAddress | None]) -> None:
        view, now = self.view, trio.current_time()
        for index, seat in enumerate(view.committee):
            if index < len(self.members) and self.members[index].seat == seat:
                continue
            member = Member(index, seat, places[seat], now)
            member.was_connected = self._resumed
            if index < len(self.members):
                self._scopes[index].cancel()
                self.members[index] = member
            else:
                self.members.append(member)
            self._accepts.pop(index, None)
            self._scopes[index] = trio.CancelScope()
            self._nursery.start_soon(tell, self, member, self._scopes[index])
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
            result=self.members[0].result() if self.members else None,
            outputs=frozenset(m.index for m in self.members if m.output is not None),
            accepts={seat: held.accept for seat, (_, held) in self._accepts.items()},
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
                await self._save_substitute(step)
            done = await self.tools.ledger.submit(step)
        except (LedgerRejected, LedgerUnreachable) as error:
            # Often somebody was faster; the next look tells.
            key = intent_key(step)
            pause = min(10.0, 2 * self._not_before.get(key, (0.0, 0.25))[1])
            self._not_before[key] = (trio.current_time() + pause, pause)
            if pause > 1 or not isinstance(error, LedgerRejected):
                self.note(f"{type(step).__name__}: {error}")
            return
        self.transactions.append(done)
        if isinstance(step, CommitResults):
            self.tools.crash("commitments_relayed")
        elif isinstance(step, ReassignSeat):
            self.tools.crash("seat_reassigned")
        elif isinstance(step, FinaliseTask):
            self.tools.crash("settled")

    def _is_done(self) -> bool:
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

    def _all_have_input(self) -> bool:
        return bool(self.members) and all(member.has_input for member in self.members)

    async def _farewell(self) -> None:
        """Give the members a moment to hear that the task has ended."""
        if not self.view.is_over:
            return
        self.poke()
        with trio.move_on_after(FAREWELL):
            while any(m.is_connected and ("ended", 0) not in m.sent for m in self.members):
                await self._wake.wait()

    # --- substitutes ----------------------------------------------------------------------

    def _seek_substitutes(self) -> None:
        if self.prepared is None or self.entry is None:
            return
        now = trio.current_time()
        for member in self.members:
            if self._needs_substitute(member, now):
                self._sought_at[member.index] = now
                self._nursery.start_soon(self._seek_one, member)

    def _needs_substitute(self, member: Member, now: float) -> bool:
        view, chain_now = self.view, self.clock.now
        held = view.attempt(member.index)
        task = view.task
        if (
            view.is_over
            or held.state not in (SeatState.HELD, SeatState.RELEASED)
            or member.commitment is not None
            or member.seat.attempt >= MAX_REASSIGNMENTS
            or chain_now + task.lease > task.commit_deadline
            or now - self._sought_at.get(member.index, -1e9) < SEEK_PAUSE
        ):
            return False
        at_hand = self._accepts.get(member.index)
        if at_hand is not None and at_hand[1].accept.valid_until > chain_now + 2:
            return False
        if held.state is SeatState.RELEASED or chain_now > member.seat.lease_end:
            return True
        quiet = now - member.heard_at
        is_silent = quiet > task.lease * 2 / 3 or (quiet > LINK_GRACE and not member.is_connected)
        if is_silent:
            self.tell("silent", member, "no sign of life", once=True)
        return is_silent and chain_now >= member.seat.lease_end - LOOK_AHEAD

    async def _seek_one(self, member: Member) -> None:
        # One at a time, so that nobody is asked to take two seats.
        async with self._seeking:
            if self.members[member.index] is member:
                await self._seek(member)

    async def _seek(self, member: Member) -> None:
        assert self.prepared is not None
        assert self.entry is not None
        tools, task = self.tools, self.view.task
        tried = self._tried.setdefault(member.index, {member.node})
        tried.add(member.node)
        now = self.clock.now
        wish = self.prepared.wish(max(1, task.commit_deadline - now))
        try:
            parameters = await tools.ledger.parameters()
            candidates = await tools.directory.candidates(wish, now, fresh=True)
        except LedgerUnreachable as error:
            self.note(f"no substitute for seat {member.index}: {error}")
            return
        seed = self.entry.seed + bytes([member.seat.attempt])
        epoch = now // parameters.epoch_seconds
        ranking = rank(candidates, wish, now=now, epoch=epoch, seed=seed)
        fit = [one for one in ranking.fit if one.node not in tried and one.ask <= task.fee]
        if not fit:
            # Those who declined may have room again.
            self._tried[member.index] = {member.node}
            return
        attempt = member.seat.attempt + 1
        asked = await ask_around(
            tools.sessions,
            tools.ledger.info.escrow,
            task,
            self.entry.spec,
            seats=(member.index,),
            attempt=attempt,
            candidates=fit,
            taken=[
                *(other.seat.owner for other in self.members if other is not member),
                *(held.ranked.candidate.owner for _, held in self._accepts.values()),
            ],
            now=now,
        )
        tried.update(refusal.node for refusal in asked.refusals)
        if member.index in asked.seats and self.members[member.index] is member:
            self._accepts[member.index] = (attempt, asked.seats[member.index])
            self.poke()

    async def _save_substitute(self, step: ReassignSeat) -> None:
        if self.proposal is None or self.entry is None:
            return
        attempt, held = self._accepts[step.seat]
        peer = held.ranked.candidate.peer
        self.proposal = msgspec.structs.replace(
            self.proposal,
            members=(
                *self.proposal.members,
                MemberRecord(held.ranked.node, peer.peer_id, peer.addresses),
            ),
            substitutes=(
                *self.proposal.substitutes,
                Substitute(step.seat, attempt, held.accept),
            ),
        )
        await self.tools.journal.propose(self.entry, self.proposal)

    # --- what members say -----------------------------------------------------------------

    def heard(self, peer: PeerId, message: TaskMessage) -> None:
        """Note what a member sent, if it is right."""
        member = self._by_peer(peer)
        if member is None or self._view is None:
            return
        member.heard_at = trio.current_time()
        if not self._note_message(member, message) and member.complaint:
            self.note(f"seat {member.index}, {member.node}: {member.complaint}")
            member.complaint = ""

    def _note_message(self, member: Member, message: TaskMessage) -> bool:
        domain, view = self.tools.ledger.info.escrow, self.view
        if getattr(message, "seat", member.index) != member.index:
            return False
        match message:
            case Progress():
                self._progress(member, message)
                return True
            case Committed():
                is_right = member.commit(domain, view, message, trio.current_time())
            case Opened():
                is_right = member.open(domain, view, message)
            case ApprovedOutputs():
                is_right = member.approve(domain, view, message)
            case BlobHeader(kind="output"):
                is_right = self._wants_output(member) and member.announce(view, message)
            case BlobChunk(kind="output"):
                is_right = member.take(message)
                if not is_right:
                    return not member.complaint
                self.tell("output", member, f"{len(member.output or b'')} bytes", once=True)
            case FailedSeat():
                self.tell("note", member, f"gives up: {message.reason or message.code}")
                is_right = True
            case _:
                return True
        if is_right:
            self.poke()
        return is_right

    def _wants_output(self, member: Member) -> bool:
        if self.view.task.policy.is_tolerance:
            return True
        # One output is enough where all agree on its digest.
        return not any(other.output is not None and other is not member for other in self.members)

    def _progress(self, member: Member, message: Progress) -> None:
        done = message.done / 1000
        if message.attempt == member.seat.attempt and int(done * 100) > int(member.done * 100):
            member.done = done
            self.tell("progress", member, done=done)

    def lost(self, peer: PeerId) -> None:
        """A link ended."""
        member = self._by_peer(peer)
        if member is not None:
            member.is_connected = False
            member.drop_output()
            self.poke()

    def _by_peer(self, peer: PeerId) -> Member | None:
        for member in self.members:
            if member.peer is not None and member.peer.peer_id == peer:
                return member
        return None

    def _want_missing(self, known: ClientView) -> None:
        """Ask for what should have come by now."""
        view, now = self.view, trio.current_time()
        if not view.is_over and window_is_shut(known):
            return
        since = self.marks.setdefault("window", now)
        wanted = result_seats(known)
        for member in self.members:
            if now - max(since, member.asked_at) < ASK_AGAIN or not member.is_connected:
                continue
            member.asked_at = now
            member.asks.clear()
            member.sent.discard(("ask", 0))
            is_due = view.is_over or member.index in wanted or view.task.policy.is_tolerance
            is_missing = self.output() is None and member.output is None
            if is_due and is_missing and member.receiver is None:
                member.asks.append("output")
            if not view.is_over and member.index not in known.openings:
                member.asks.append("opening")
            if view.task.policy.is_tolerance and member.index not in known.approvals:
                member.asks.append("approval")

    # --- what members are told ------------------------------------------------------------

    def due(self, member: Member) -> Iterator[Item]:
        """What this member shall know, in the order of sending."""
        view = self._view
        if view is None:
            return
        if view.is_over:
            if self._is_done():
                yield ("ended", 0)
                return
            if member.was_connected:
                yield ("resume", 0)
            if member.asks:
                yield ("ask", 0)
            return
        yield ("assigned", len(view.attempts))
        if member.was_connected:
            yield ("resume", 0)
        held = view.attempt(member.index)
        if self.input is not None and held.value is None and member.commitment is None:
            yield ("input", 0)
        for other in self.members:
            if other is not member and other.opening(view) is not None:
                yield ("opening", other.index)
        if view.task.policy.is_tolerance:
            for other in self.members:
                if other is not member and other.output is not None:
                    yield ("output", other.index)
        if member.asks:
            yield ("ask", 0)

    def outgoing(self, seat: int) -> OutgoingBlob:
        """A member's output, cut for passing it on."""
        if seat not in self._outgoing:
            self._outgoing[seat] = OutgoingBlob(self.members[seat].output or b"")
        return self._outgoing[seat]

    def has_sent(self, member: Member, item: Item) -> None:
        """Note that a member was told."""
        member.sent.add(item)
        if item[0] == "input":
            member.has_input = True
            if self._all_have_input() and "input" not in self.marks:
                self.marks["input"] = trio.current_time()
                self.tell("input", None, f"input sent to {len(self.members)} nodes")
                self.tools.crash("input_sent")
        elif item[0] == "opening" and "relayed" not in self.marks:
            seats = {m.index for m in self.members}
            if all(("opening", s) in m.sent for m in self.members for s in seats - {m.index}):
                self.marks["relayed"] = trio.current_time()
                self.tools.crash("openings_relayed")
        self.poke()

    # --- telling --------------------------------------------------------------------------

    def poke(self) -> None:
        """Something changed: let the loop and the members' children look."""
        self._wake.set()
        self._wake = trio.Event()

    async def changed(self) -> None:
        """Wait until something changes."""
        await self._wake.wait()

    def note(self, message: str) -> None:
        """Tell the readers something unusual, once."""
        self.tell("note", None, message, once=True)

    def tell(
        self,
        kind: Kind,
        member: Member | None,
        message: str = "",
        *,
        done: float = 0.0,
        transaction: str = "",
        amount: int = 0,
        once: bool = False,
    ) -> None:
        """Publish an update."""
        seat = member.index if member is not None else None
        attempt = member.seat.attempt if member is not None else 0
        if once:
            key = (
                f"{kind}{message if kind == 'note' else ''}",
                -1 if seat is None else seat,
                attempt,
            )
            if key in self._told or len(self._told) > 2000:
                return
            self._told.add(key)
        self.feed.publish(
            TaskUpdate(
                kind=kind,
                at=trio.current_time() - self.started,
                message=message,
                seat=seat,
                attempt=attempt,
                node=member.node if member is not None else None,
                done=done,
                transaction=transaction,
                amount=amount,
            )
        )

    def _tell_changes(self) -> None:
        view = self.view
        for member in self.members:
            held = view.attempt(member.index)
            if held.committed_at is not None:
                self.marks["committed"] = self.marks.get("committed", trio.current_time())
                self.tell("committed", member, transaction=held.committed_at.transaction, once=True)
            if held.state is SeatState.RELEASED:
                self.tell("released", member, "the node gave its seat back", once=True)
            if member.seat.attempt:
                former = [a for a in view.attempts if a.index == member.index][-2]
                self.tell("replaced", member, f"took over from {former.seat.node}", once=True)
        for proof in view.equivocations:
            caught = self.members[proof.seat]
            self.tell("caught", caught, "signed two different results", once=True)
        if view.is_over:
            self.tell(
                "settled",
                None,
                str(view.state),
                transaction=view.updated.transaction,
                amount=view.money.paid,
                once=True,
            )


def window_is_shut(known: ClientView) -> bool:
    """Whether no member may open or deliver anything yet."""
    chain = known.chain
    return not chain.commitments or (
        len(chain.commitments) < chain.task.seats and known.now <= chain.task.commit_deadline
    )


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
