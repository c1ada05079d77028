"""Situations of a seat, and what the planner owes each."""

from __future__ import annotations

from typing import Any

import msgspec

from deai.chain.tasks_view import TaskView, fold
from deai.events import (
    LedgerEvent,
    LedgerRecord,
    OutputsApproved,
    Position,
    ResultCommitted,
    ResultDelivered,
    ResultRevealed,
    SeatReassigned,
    SeatReleased,
    SeatSettlement,
    TaskAssigned,
    TaskExpired,
    TaskFinalised,
    TaskPosted,
)
from deai.hashing import ZERO
from deai.ids import AccountId, NodeId, TaskId
from deai.money import Amount
from deai.tasks import Policy, Seat, Task
from node.planner import (
    EXPIRE_AFTER,
    INPUT_WAIT,
    REVEAL_STAGGER,
    Action,
    End,
    Execute,
    GiveUp,
    Judge,
    Submit,
    Tell,
    View,
)
from node.store.records import SeatKey

NAME = TaskId("0x" + "11" * 32)
OPERATOR = AccountId("0x" + "0a" * 20)
NODE = NodeId("0x" + "01" * 20 + "00" * 12)
T0 = 1000
LEASE = 40
DEADLINE = T0 + 100
WINDOW = 600
QUARTER = WINDOW // 4
MINE = b"\xaa" * 32
OTHER = b"\xbb" * 32


def task(policy: Policy = Policy.EXACT) -> Task:
    return Task(
        client=AccountId("0x" + "cc" * 20),
        lane=0,
        nonce=1,
        fee=Amount(100),
        tip=Amount(0),
        seats=1 if policy is Policy.NONE else 3,
        policy=policy,
        lease=LEASE,
        commit_deadline=DEADLINE,
        window=WINDOW,
        spec_hash=ZERO,
    )


def seat(index: int, attempt: int = 0) -> Seat:
    node = NODE if index == 0 else NodeId("0x" + f"{index + 1:02x}" * 20 + "00" * 12)
    operator = OPERATOR if index == 0 else AccountId("0x" + f"{index + 10:02x}" * 20)
    return Seat(node, operator, T0 + LEASE, attempt)


def chain(
    *events: LedgerEvent, policy: Policy = Policy.EXACT, made: Task | None = None
) -> TaskView:
    made = made or task(policy)
    committee = tuple(seat(index) for index in range(made.seats))
    every = (TaskPosted(NAME, made), TaskAssigned(NAME, committee), *events)
    view = fold(
        LedgerRecord(Position(1, index, "0x", T0, "0x"), event) for index, event in enumerate(every)
    )
    assert view is not None
    return view


def committed(*seats: int) -> tuple[ResultCommitted, ...]:
    return tuple(ResultCommitted(NAME, index, 0, bytes([index]) * 32) for index in seats)


def view(policy: Policy = Policy.EXACT, **fields: Any) -> View:
    given: dict[str, Any] = {
        "key": SeatKey(NAME, 0, 0),
        "node": NODE,
        "operator": OPERATOR,
        "task": task(policy),
        "valid_until": T0 + 30,
        "now": T0,
        "clock": 500.0,
        "progress_at": 500.0,
    }
    if "chain" not in fields:
        given["chain"] = chain(policy=policy)
    return View(**{**given, **fields})


ALL = chain(*committed(0, 1, 2))
ALL_TOLERANT = chain(*committed(0, 1, 2), policy=Policy.TOL32)
OPENED_TOLERANT = chain(
    *committed(0, 1, 2), ResultRevealed(NAME, 0, MINE, ZERO), policy=Policy.TOL32
)
SHORT = msgspec.structs.replace(task(Policy.TOL32), window=10)
SHORT_OPENED = chain(*committed(0, 1, 2), ResultRevealed(NAME, 0, MINE, ZERO), made=SHORT)
LONG = msgspec.structs.replace(task(), lease=200, commit_deadline=T0 + 500)
LONG_ASSIGNED = chain(made=LONG)
SAID = frozenset({Tell("opening"), Tell("output"), Tell("approval"), Tell("committed")})
FINAL = TaskFinalised(
    NAME, MINE, fault=False, refunded=Amount(0), protocol_fee=Amount(30),
    finaliser=AccountId("0x" + "cc" * 20), tip=Amount(0),
    seats=(SeatSettlement(Amount(90), 0, 0, 2),) * 3,
)  # fmt: skip

TABLE: dict[str, tuple[View, Action | None]] = {
    "accepted, not posted": (view(chain=None), None),
    "accepted, never posted": (view(chain=None, now=T0 + 31), End("unassigned")),
    "given to others": (view(node=NodeId("0x" + "ee" * 32)), End("unassigned")),
    "promised to take a seat over, not its turn yet": (view(key=SeatKey(NAME, 0, 1)), None),
    "promised to take a seat over, in vain": (
        view(key=SeatKey(NAME, 0, 1), now=T0 + 31),
        End("unassigned"),
    ),
    "promised to take a seat over that has committed": (
        view(key=SeatKey(NAME, 0, 1), chain=chain(*committed(0))),
        End("unassigned"),
    ),
    "held by an older key of this node": (
        view(operator=AccountId("0x" + "0f" * 20)),
        End("unassigned"),
    ),
    "assigned, no input yet": (view(), None),
    "progress is due while waiting": (
        view(client_linked=True, progress_at=500.0 - LEASE / 3),
        Tell("progress"),
    ),
    "input is here": (view(has_input=True), Execute()),
    "computing": (view(has_input=True, held=frozenset({Execute()})), None),
    "no input at half of a long lease": (
        view(now=T0 + LONG.lease // 2 + 1, task=LONG, chain=LONG_ASSIGNED),
        GiveUp("no_input", "the input did not arrive in time"),
    ),
    "half an input at half of a long lease": (
        view(now=T0 + LONG.lease // 2 + 1, task=LONG, chain=LONG_ASSIGNED, input_began=True),
        None,
    ),
    "no input at half of a short lease": (view(now=T0 + LEASE // 2 + 1), None),
    "no input for long": (
        view(now=T0 + INPUT_WAIT + 1),
        GiveUp("no_input", "the input did not arrive in time"),
    ),
    "no input yet after a restart": (view(now=T0 + LEASE, seated_at=T0 + LEASE - 1), None),
    "gave up": (view(gave_up="node_fault"), Submit("release")),
    "gave up, the client listens": (view(gave_up="x", client_linked=True), Tell("failed")),
    "gave up and released": (
        view(gave_up="x", chain=chain(SeatReleased(NAME, 0))),
        End("released"),
    ),
    "leaving before a result": (
        view(is_stopping=True),
        GiveUp("shutdown", "the node is shutting down"),
    ),
    "leaving with a result": (
        view(is_stopping=True, digest=MINE, committed_at=0.0),
        Submit("commit"),
    ),
    "result, the client listens": (
        view(digest=MINE, client_linked=True, committed_at=500.0),
        Tell("committed"),
    ),
    "result told, the client has a moment": (
        view(digest=MINE, client_linked=True, committed_at=498.5, told=SAID),
        None,
    ),
    "result told, the client does nothing": (
        view(digest=MINE, client_linked=True, committed_at=497.9, told=SAID),
        Submit("commit"),
    ),
    "result, nobody listens": (view(digest=MINE, committed_at=498.9), Submit("commit")),
    "released, but a result after all": (
        view(digest=MINE, committed_at=0.0, chain=chain(SeatReleased(NAME, 0))),
        Submit("commit"),
    ),
    "replaced": (
        view(
            digest=MINE,
            chain=chain(SeatReassigned(NAME, 0, NODE, False, (seat(5, 1), seat(1), seat(2)))),
        ),
        End("replaced"),
    ),
    "too late, others committed": (
        view(digest=MINE, now=DEADLINE + 1, chain=chain(*committed(1))),
        End("lapsed"),
    ),
    "too late, nobody committed, the client's turn": (view(now=DEADLINE + EXPIRE_AFTER), None),
    "too late, nobody committed, nobody ends it": (
        view(now=DEADLINE + EXPIRE_AFTER + 1),
        Submit("expire"),
    ),
    "expired": (
        view(chain=chain(TaskExpired(NAME, Amount(300)))),
        End("lapsed"),
    ),
    "committed, others compute": (
        view(digest=MINE, client_linked=True, chain=chain(*committed(0, 1))),
        None,
    ),
    "all committed": (view(digest=MINE, client_linked=True, chain=ALL), Tell("opening")),
    "two of three, the deadline passed": (
        view(digest=MINE, client_linked=True, chain=chain(*committed(0, 1)), now=DEADLINE + 1),
        Tell("opening"),
    ),
    "a commitment that the journal does not know": (view(chain=ALL), End("abandoned")),
    "another commitment than the journal's": (
        view(chain=ALL, digest=MINE, value=OTHER),
        End("abandoned"),
    ),
    "opened alone": (
        view(digest=MINE, client_linked=True, chain=ALL, told=frozenset({Tell("opening")})),
        None,
    ),
    "one other opening agrees": (
        view(
            digest=MINE, client_linked=True, chain=ALL, told=frozenset({Tell("opening")}),
            openings={1: MINE},
        ),
        Tell("output"),
    ),
    "one other opening disagrees": (
        view(
            digest=MINE, client_linked=True, chain=ALL, told=frozenset({Tell("opening")}),
            openings={1: OTHER},
        ),
        None,
    ),
    "all agree that the task is bad": (
        view(
            digest=MINE, is_fault=True, client_linked=True, chain=ALL,
            told=frozenset({Tell("opening")}), openings={1: MINE, 2: MINE},
        ),
        None,
    ),
    "the client passes nothing on": (
        view(digest=MINE, chain=ALL, window_at=497.0),
        Tell("opening", 1),
    ),
    "a member asks": (
        view(digest=MINE, chain=ALL, openings={1: MINE, 2: MINE},
             asked=frozenset({Tell("opening", 2)})),
        Tell("opening", 2),
    ),
    "everything is here, the client has a moment": (
        view(digest=MINE, client_linked=True, chain=ALL, openings={1: MINE, 2: MINE}, told=SAID,
             ready_at=498.0),
        None,
    ),
    "everything is here, the client does nothing": (
        view(digest=MINE, client_linked=True, chain=ALL, openings={1: MINE, 2: MINE}, told=SAID,
             ready_at=496.9),
        Submit("finalise"),
    ),
    "a quarter of the window passed": (
        view(digest=MINE, chain=ALL, now=T0 + QUARTER, told=SAID),
        Submit("reveal"),
    ),
    "a quarter passed, the client is first": (
        view(digest=MINE, client_linked=True, chain=ALL, now=T0 + QUARTER, told=SAID),
        None,
    ),
    "a quarter passed, the client does nothing": (
        view(digest=MINE, client_linked=True, chain=ALL, told=SAID,
             now=T0 + QUARTER + 2 * int(REVEAL_STAGGER)),
        Submit("reveal"),
    ),
    "a quarter passed, another member's turn first": (
        view(key=SeatKey(NAME, 2, 0), node=seat(2).node, operator=seat(2).operator, digest=MINE,
             value=b"\2" * 32, chain=ALL, now=T0 + QUARTER + int(REVEAL_STAGGER), told=SAID),
        None,
    ),
    "a quarter passed, ours is on chain": (
        view(
            digest=MINE, now=T0 + QUARTER, told=SAID,
            chain=chain(*committed(0, 1, 2), ResultRevealed(NAME, 0, MINE, ZERO)),
        ),
        None,
    ),
    "the window is over": (view(digest=MINE, chain=ALL, now=T0 + WINDOW + 1), Submit("finalise")),
    "the window is over, the client is first": (
        view(digest=MINE, client_linked=True, chain=ALL, told=SAID, now=T0 + WINDOW + 1),
        None,
    ),
    "the window is over, the client does nothing": (
        view(digest=MINE, client_linked=True, chain=ALL, told=SAID, now=T0 + WINDOW + 5),
        Submit("finalise"),
    ),
    "the last second of the window": (
        view(digest=MINE, chain=ALL, now=T0 + WINDOW),
        Submit("reveal"),
    ),
    "two results of one seat are here": (
        view(digest=MINE, chain=ALL, told=SAID, evidence_at=500.0),
        Submit("prove"),
    ),
    "two results of one seat, another member's turn first": (
        view(
            key=SeatKey(NAME, 2, 0),
            node=seat(2).node,
            operator=seat(2).operator,
            digest=MINE,
            value=b"\2" * 32,
            chain=ALL,
            told=SAID,
            evidence_at=497.0,
        ),
        None,
    ),
    "paid, the proof is under way": (
        view(
            digest=MINE,
            chain=chain(*committed(0, 1, 2), FINAL),
            evidence_at=490.0,
            held=frozenset({Submit("prove")}),
        ),
        None,
    ),
    "paid": (view(digest=MINE, chain=chain(*committed(0, 1, 2), FINAL)), End("paid", 90)),
    "paid, the client still lacks the output": (
        view(digest=MINE, chain=chain(*committed(0, 1, 2), FINAL), client_linked=True,
             told=frozenset({Tell("opening")})),
        Tell("output"),
    ),
    "tolerance: output leaves at enough openings, whatever they say": (
        view(Policy.TOL32, digest=MINE, client_linked=True, chain=ALL_TOLERANT,
             told=frozenset({Tell("opening")}), openings={1: OTHER}),
        Tell("output"),
    ),
    "tolerance: an output is missing": (
        view(Policy.TOL32, digest=MINE, chain=ALL_TOLERANT, openings={1: OTHER, 2: MINE},
             told=SAID),
        None,
    ),
    "tolerance: every output is here or equal": (
        view(Policy.TOL32, digest=MINE, chain=ALL_TOLERANT, openings={1: OTHER, 2: MINE},
             outputs=frozenset({1}), told=SAID),
        Judge(),
    ),
    "tolerance: an output is missing for a quarter of the window": (
        view(Policy.TOL32, digest=MINE, chain=ALL_TOLERANT, openings={1: OTHER, 2: MINE},
             told=SAID, now=T0 + QUARTER),
        Judge(),
    ),
    "tolerance: we heard late of the last commitment, others get their quarter": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER, 2: MINE}, told=SAID,
             chain=OPENED_TOLERANT, news_at=501.0 - QUARTER, now=T0 + 2 * QUARTER),
        None,
    ),
    "tolerance: a quarter without news": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER, 2: MINE}, told=SAID,
             chain=OPENED_TOLERANT, news_at=500.0 - QUARTER, now=T0 + 2 * QUARTER),
        Judge(),
    ),
    "tolerance: news until the end do not hold up the judgement": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER, 2: MINE}, told=SAID,
             chain=OPENED_TOLERANT, news_at=500.0, now=T0 + 3 * QUARTER),
        Judge(),
    ),
    "tolerance: an opening is missing that may still come on chain": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER}, outputs=frozenset({1}), told=SAID,
             chain=OPENED_TOLERANT, now=T0 + WINDOW // 2),
        None,
    ),
    "tolerance: an opening is missing that can come no more": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER}, outputs=frozenset({1}), told=SAID,
             chain=OPENED_TOLERANT, now=T0 + WINDOW // 2 + 1),
        Judge(),
    ),
    "tolerance: a short window still lets members dial each other": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER, 2: MINE}, told=SAID,
             task=SHORT, chain=SHORT_OPENED, now=T0 + 3),
        None,
    ),
    "tolerance: a short window leaves time to approve on chain": (
        view(Policy.TOL32, digest=MINE, openings={1: OTHER, 2: MINE}, told=SAID,
             task=SHORT, chain=SHORT_OPENED, news_at=499.0, now=T0 + 7),
        Judge(),
    ),
    "tolerance: approved, the client listens": (
        view(Policy.TOL32, digest=MINE, client_linked=True, chain=ALL_TOLERANT,
             openings={1: MINE, 2: MINE}, approvals=frozenset({0}), told=SAID - {Tell("approval")}),
        Tell("approval"),
    ),
    "tolerance: too late to reveal": (
        view(Policy.TOL32, digest=MINE, chain=ALL_TOLERANT, now=T0 + WINDOW // 2 + 1),
        None,
    ),
    "tolerance: approve on chain": (
        view(
            Policy.TOL32, digest=MINE, now=T0 + QUARTER, openings={1: MINE},
            approvals=frozenset({0}), told=SAID,
            chain=chain(*committed(0, 1, 2), ResultRevealed(NAME, 0, MINE, ZERO),
                        policy=Policy.TOL32),
        ),
        Submit("approve"),
    ),
    "tolerance: approved on chain": (
        view(
            Policy.TOL32, digest=MINE, now=T0 + QUARTER, openings={1: MINE},
            approvals=frozenset({0}), told=SAID,
            chain=chain(*committed(0, 1, 2), ResultRevealed(NAME, 0, MINE, ZERO),
                        OutputsApproved(NAME, 0, 1, bytes(64)), policy=Policy.TOL32),
        ),
        None,
    ),
    "unchecked: the client gets the signed result": (
        view(Policy.NONE, digest=MINE, client_linked=True, committed_at=500.0),
        Tell("opening"),
    ),
    "unchecked: nobody listens": (
        view(Policy.NONE, digest=MINE, committed_at=498.0),
        Submit("deliver"),
    ),
    "unchecked: delivered": (
        view(Policy.NONE, digest=MINE, client_linked=True,
             chain=chain(ResultDelivered(NAME, NODE, MINE, ZERO), policy=Policy.NONE)),
        Tell("output"),
    ),
    "unchecked: the window is over": (
        view(Policy.NONE, digest=MINE, now=T0 + WINDOW + 1,
             chain=chain(ResultDelivered(NAME, NODE, MINE, ZERO), policy=Policy.NONE)),
        Submit("finalise"),
    ),
}  # fmt: skip
