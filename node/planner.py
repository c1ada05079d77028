"""What to do next about one accepted seat: a pure decision over what is known.

`plan` looks at the task on chain, at what this node has and has said, and at two clocks (chain
seconds of the newest block, local seconds that only grow), and returns the most urgent thing
that is due and not under way. The driver carries it out and asks again.

The order of a life: wait for the chain · compute · commit · open, once every commitment is on
chain · hand over the output when enough openings allow it · judge the others' outputs
(tolerance policies) · settle. Everything that others may fail to do has a moment after which
this node does it itself on chain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from deai.chain.tasks_view import AttemptView, TaskView
from deai.hashing import ZERO
from deai.ids import AccountId, NodeId
from deai.lifecycle import SeatState, TaskState
from deai.tasks import Policy, Task
from node.config import Patience
from node.store.records import SeatKey

What: TypeAlias = Literal["progress", "committed", "opening", "output", "approval", "failed"]
Verb: TypeAlias = Literal[
    "commit", "deliver", "release", "reveal", "approve", "finalise", "expire", "prove"
]


@dataclass(frozen=True, slots=True)
class Execute:
    """Run the task in a worker, sign and journal the result."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send `what` to the client (`to` None) or to the holder of a seat."""

    what: What
    to: int | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Compare outputs in the worker, sign and journal the approval."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Send a transaction."""

    verb: Verb


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Decide that this node will not finish; the seat is released next."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Close the file: nothing more can be done or gained."""

    outcome: str
    payment: int = 0


Action: TypeAlias = Execute | Tell | Judge | Submit | GiveUp | End

FINALISE_STAGGER: Final = 2.0
"""Seconds between the members' attempts to settle, in seat order: one transaction is enough."""
REVEAL_STAGGER: Final = 8.0
"""The same for openings on chain, where the window is long enough; longer than any chain takes to
make a transaction final, for the contract refuses an opening that it has."""
CLIENT_TURNS: Final = 2
"""Turns that a client has on which we have a link, before the first member's."""
INPUT_WAIT: Final = 60
"""Chain seconds for which an input is awaited however short the lease: a client that died after
posting and was started again needs them. Another node may have the seat when the lease is over."""
EXPIRE_AFTER: Final = 30
"""Chain seconds after the deadline before a member ends the task for an absent client."""
PROVE_WITHIN: Final = 30
"""Chain seconds after the end for which a file with evidence stays open."""
OUTCOMES: Final = {
    SeatState.PAID: "paid",
    SeatState.FORFEITED: "forfeited",
    SeatState.SILENT: "silent",
    SeatState.RELEASED: "released",
    SeatState.REPLACED: "replaced",
}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision may depend on."""

    key: SeatKey
    node: NodeId
    task: Task
    operator: AccountId
    """Whose signatures ours are: a seat held by another key of this node is not ours to fill."""
    valid_until: int
    now: int
    """Chain time of the newest block whose events are known."""
    clock: float
    """Local seconds; the `…_at` fields are on the same clock."""
    patience: Patience = Patience()
    chain: TaskView | None = None
    """None until the task was posted."""
    seated_at: int = 0
    """Chain time at which this process first saw its seat: long after the post if it restarted."""
    has_input: bool = False
    input_began: bool = False
    digest: bytes | None = None
    """Of our result, once it is journalled."""
    value: bytes = ZERO
    """Our commitment as it is journalled."""
    is_fault: bool = False
    """Our result says that the task itself is bad: there is no output."""
    gave_up: str = ""
    openings: Mapping[int, bytes] = {}
    """Digests that other seats opened to us or on chain."""
    outputs: frozenset[int] = frozenset()
    """Other seats whose output is here and matches its opening."""
    approvals: frozenset[int] = frozenset()
    """Seats whose approval is here, our own included."""
    client_linked: bool = False
    told: frozenset[Tell] = frozenset()
    """Said on the client's present link."""
    asked: frozenset[Tell] = frozenset()
    """What members asked for."""
    committed_at: float | None = None
    """When our result was journalled."""
    evidence_at: float | None = None
    """When two signed results of one seat were here; None once that is proven on chain."""
    window_at: float | None = None
    """When we saw the window begin."""
    news_at: float = float("-inf")
    """When the window's begin, an opening or an output came to us last."""
    ready_at: float | None = None
    """When everything that an early settlement needs was here."""
    progress_at: float = 0.0
    held: frozenset[Action] = frozenset()
    """Under way, or failed a moment ago."""
    is_stopping: bool = False
    """The daemon leaves and will not finish this."""

    @property
    def mine(self) -> AttemptView | None:
        """Our attempt as the chain shows it, None if it never had the seat."""
        for attempt in self.chain.attempts if self.chain is not None else ():
            seat = attempt.seat
            if (attempt.index, seat.attempt) != (self.key.seat, self.key.attempt):
                continue
            if (seat.node, seat.operator) == (self.node, self.operator):
                return attempt
        return None

    @property
    def others(self) -> tuple[int, ...]:
        """The other seats that committed."""
        committed = self.chain.commitments if self.chain is not None else ()
        return tuple(sorted(seat for seat, _ in committed if seat != self.key.seat))

    @property
    def rank(self) -> int:
        """Our place among the committed seats: who acts first when anybody may."""
        return sum(seat < self.key.seat for seat in self.others)

    @property
    def turn(self) -> int:
        """How many turns others have before ours to do on chain what anybody may."""
        return self.rank + (CLIENT_TURNS if self.client_linked else 0)

    @property
    def window_runs(self) -> bool:
        """Whether every commitment that can come has come: now openings are safe."""
        if self.chain is None or not self.chain.commitments:
            return False
        full = len(self.chain.commitments) == self.task.seats
        return full or self.now > self.task.commit_deadline

    @property
    def may_hand_over(self) -> bool:
        """Whether our output may leave this node."""
        chain = self.chain
        if chain is None or self.digest is None or self.is_fault:
            return False
        if self.task.policy is Policy.NONE:
            return chain.delivered is not None
        if chain.result is not None and chain.result == self.digest:
            return True
        if self.task.policy.is_tolerance:
            return 1 + len(self.openings) >= self.task.quorum
        same = sum(digest == self.digest for digest in self.openings.values())
        return 1 + same >= self.task.quorum

    @property
    def has_everything(self) -> bool:
        """Whether an early settlement is possible from what is here."""
        if self.digest is None or not all(seat in self.openings for seat in self.others):
            return False
        if not self.task.policy.is_tolerance or self.is_bad_for_all:
            return True
        return {self.key.seat, *self.others} <= self.approvals

    @property
    def is_bad_for_all(self) -> bool:
        """Whether every opened seat says that the task itself is bad, and they suffice."""
        same = all(digest == self.digest for digest in self.openings.values())
        return self.is_fault and same and 1 + len(self.openings) >= self.task.quorum


def plan(view: View) -> Action | None:
    """The most urgent action that is due and not held; None: wait for a change."""
    return next((action for action in _due(view) if action not in view.held), None)


def _due(view: View) -> Iterator[Action]:
    chain, mine = view.chain, view.mine
    if chain is None or not chain.committee:
        if chain is not None and chain.is_over:
            yield End("cancelled" if chain.state is TaskState.CANCELLED else "unassigned")
        elif view.now > view.valid_until or view.is_stopping:
            yield End("unassigned")
    elif mine is None:
        if not _is_standby(view, chain):
            yield End("unassigned")
    elif chain.is_over or mine.state is SeatState.REPLACED:
        yield from _farewell(view, mine)
    elif mine.state in (SeatState.HELD, SeatState.RELEASED):
        yield from _working(view, chain, mine)
    elif view.digest is None:
        # The chain holds a commitment of ours that the journal does not know: a journal was
        # lost or replaced. Whatever we computed now would be a second result.
        yield End("abandoned")
    elif view.task.policy is Policy.NONE:
        yield from _delivered(view, chain)
    elif mine.value != view.value:
        yield End("abandoned")  # the same, and our opening could not open it
    else:
        yield from _committed(view, chain, mine)


def _is_standby(view: View, chain: TaskView) -> bool:
    """Whether we promised to take a seat over that its present holder has not lost yet."""
    holder = chain.attempt(view.key.seat)
    return (
        view.key.attempt > holder.seat.attempt
        and holder.state in (SeatState.HELD, SeatState.RELEASED)
        and not chain.is_over
        and not view.is_stopping
        and view.now <= view.valid_until
    )


def _farewell(view: View, mine: AttemptView) -> Iterator[Action]:
    if view.may_hand_over:
        yield from _to_client(view, "opening", "output")
        busy = {Tell("opening"), Tell("output")} & view.held
        if busy and view.client_linked:
            return
    yield from _proving(view)
    if view.evidence_at is not None and view.now <= chain_end(view) + PROVE_WITHIN:
        return
    payment = mine.settlement.payment if mine.settlement is not None else 0
    yield End(OUTCOMES.get(mine.state, "lapsed"), int(payment))


def chain_end(view: View) -> int:
    """Chain time of the task's last event."""
    return view.chain.updated.time if view.chain is not None else 0


def _proving(view: View) -> Iterator[Action]:
    """Show the contract a seat that signed two results; one member's transaction is enough."""
    turn = view.rank * FINALISE_STAGGER
    if view.evidence_at is not None and view.clock - view.evidence_at >= turn:
        yield Submit("prove")


def _to_client(view: View, *what: What) -> Iterator[Action]:
    if view.client_linked:
        yield from (Tell(item) for item in what if Tell(item) not in view.told)


def _working(view: View, chain: TaskView, mine: AttemptView) -> Iterator[Action]:
    if view.now > view.task.commit_deadline:
        if chain.commitments:
            yield End("lapsed")
        elif view.now > view.task.commit_deadline + EXPIRE_AFTER + 15 * view.key.seat:
            yield Submit("expire")
        return
    if view.gave_up:
        yield from _to_client(view, "failed")
        if mine.state is SeatState.RELEASED:
            yield End("released")
        else:
            yield Submit("release")
        return
    if view.digest is not None:
        yield from _carry(view)
    elif view.is_stopping:
        yield GiveUp("shutdown", "the node is shutting down")
        return
    elif view.has_input:
        yield Execute()
    elif view.now > _input_until(view, mine):
        yield GiveUp("no_input", "the input did not arrive in time")
        return
    if view.client_linked and view.clock - view.progress_at >= progress_pace(view.task):
        yield Tell("progress")


def progress_pace(task: Task) -> float:
    """Seconds between two beats of progress: well within a third of the lease."""
    return min(task.lease / 3 * 0.7, 5.0)


def _input_until(view: View, mine: AttemptView) -> int:
    """When to stop waiting for the input: later if it has begun to arrive.

    A daemon that was restarted waits anew: the client could not reach it in between, and a lapsed
    seat may still commit while nobody else has it.
    """
    quarters = 3 if view.input_began else 2
    wait = max(view.task.lease * quarters // 4, INPUT_WAIT)
    return max(mine.since.time, view.seated_at) + wait


def _carry(view: View) -> Iterator[Action]:
    """Bring our commitment (under `none/1`, our result) to the chain, by the client or alone."""
    unchecked = view.task.policy is Policy.NONE
    yield from _to_client(view, "opening" if unchecked else "committed")
    patience = view.patience.relay if view.client_linked else view.patience.relay_alone
    if view.committed_at is None or view.clock - view.committed_at >= patience:
        yield Submit("deliver" if unchecked else "commit")


def _delivered(view: View, chain: TaskView) -> Iterator[Action]:
    if view.may_hand_over:
        yield from _to_client(view, "output")
    if view.now > chain.window_until + view.turn * FINALISE_STAGGER:
        yield Submit("finalise")


def _committed(view: View, chain: TaskView, mine: AttemptView) -> Iterator[Action]:
    if not view.window_runs:
        return
    yield from _to_client(view, "opening")
    if view.may_hand_over:
        yield from _to_client(view, "output")
    impatient = view.window_at is not None and view.clock - view.window_at >= view.patience.client
    yield from _to_members(view, impatient=impatient)
    if view.task.policy.is_tolerance:
        yield from _judging(view, chain)
    yield from _proving(view)
    yield from _settling(view, chain, mine)


def _to_members(view: View, *, impatient: bool) -> Iterator[Action]:
    tolerance = view.task.policy.is_tolerance
    for seat in view.others:
        lacks_opening = seat not in view.openings
        if (impatient and lacks_opening) or Tell("opening", seat) in view.asked:
            yield Tell("opening", seat)
        if not tolerance:
            continue
        needs_output = _needs_output(view, seat)
        wanted = Tell("output", seat) in view.asked
        if view.may_hand_over and ((impatient and needs_output) or wanted):
            yield Tell("output", seat)
        if view.key.seat in view.approvals and (
            (impatient and seat not in view.approvals) or Tell("approval", seat) in view.asked
        ):
            yield Tell("approval", seat)


def _needs_output(view: View, seat: int) -> bool:
    """Whether judging waits for this seat's output: an equal digest needs no comparison."""
    digest = view.openings.get(seat)
    return digest is not None and digest != view.digest and seat not in view.outputs


def _judging(view: View, chain: TaskView) -> Iterator[Action]:
    if view.key.seat in view.approvals:
        yield from _to_client(view, "approval")
        return
    if 1 + len(view.openings) < view.task.quorum:
        return
    complete = all(seat in view.openings and not _needs_output(view, seat) for seat in view.others)
    if complete or _is_time_to_judge(view, chain):
        yield Judge()


def _is_time_to_judge(view: View, chain: TaskView) -> bool:
    """Whether what is missing is waited for no longer.

    A loaded machine hears late of the last commitment and then of everything else, so a quarter
    of the window passes without news first, long enough to ask the members themselves: by our
    own clock, for the chain's stands still while we catch up with it. Who has not opened may
    still do so on chain until half of the window. The last quarter is left for bringing the
    approval to the chain.
    """
    window = view.task.window
    past = view.now - chain.window_from
    if past >= window * 3 // 4:
        return True
    quiet = max(window // 4, math.ceil(2 * view.patience.client))
    if past < quiet or view.clock - view.news_at < quiet:
        return False
    return past > window // 2 or all(seat in view.openings for seat in view.others)


def _settling(view: View, chain: TaskView, mine: AttemptView) -> Iterator[Action]:
    if view.now > chain.window_until:
        if view.now > chain.window_until + view.turn * FINALISE_STAGGER:
            yield Submit("finalise")
        return
    if view.has_everything and view.ready_at is not None:
        patience = view.patience.finalise if view.client_linked else view.patience.client
        if view.clock - view.ready_at >= patience + view.rank * FINALISE_STAGGER:
            yield Submit("finalise")
    if mine.opening is None:
        if _may_reveal(view, chain):
            yield Submit("reveal")
    elif view.key.seat in view.approvals and mine.approval is None and _is_quarter(view, chain):
        yield Submit("approve")


def _is_quarter(view: View, chain: TaskView) -> bool:
    """Whether a quarter of the window has passed: whoever holds back is waited for no longer."""
    return 4 * (view.now - chain.window_from) >= view.task.window


def _may_reveal(view: View, chain: TaskView) -> bool:
    """Whether it is our turn to bring the openings to the chain, from a quarter of the window on.

    The client and every member would send the same ones: the last begins before the middle of
    the time that is left for it.
    """
    task = view.task
    start = chain.window_from + -(-task.window // 4)
    end = chain.window_from + (task.window // 2 if task.policy.is_tolerance else task.window)
    turns = 1 + len(view.others) + CLIENT_TURNS
    pause = min(REVEAL_STAGGER, (end - start) / (2 * turns))
    return start + view.turn * pause <= view.now <= end
