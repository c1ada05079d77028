"""What the client does on chain next, where no whole task shows it."""

from __future__ import annotations

from typing import Any

import pytest

from deai.actions import ApproveOutputs
from deai.chain.tasks_view import TaskView, fold
from deai.client.planner import ClientView, plan
from deai.events import (
    LedgerEvent,
    LedgerRecord,
    Position,
    ResultCommitted,
    ResultRevealed,
    TaskAssigned,
    TaskPosted,
)
from deai.hashing import ZERO
from deai.ids import AccountId, NodeId, TaskId
from deai.money import Amount
from deai.tasks import Approval, Opening, Policy, Seat, Task

NAME = TaskId("0x" + "11" * 32)
T0 = 1000
WINDOW = 600
DIGEST = b"\xaa" * 32


def chain() -> TaskView:
    """Three committed under tolerance; the third never opened."""
    task = Task(
        client=AccountId("0x" + "cc" * 20), lane=0, nonce=1, fee=Amount(100), tip=Amount(0),
        seats=3, policy=Policy.TOL32, lease=40, commit_deadline=T0 + 100, window=WINDOW,
        spec_hash=ZERO,
    )  # fmt: skip
    seats = tuple(
        Seat(NodeId("0x" + f"{i + 1:02x}" * 32), AccountId("0x" + f"{i + 10:02x}" * 20), T0 + 40, 0)
        for i in range(3)
    )
    events: tuple[LedgerEvent, ...] = (
        TaskPosted(NAME, task),
        TaskAssigned(NAME, seats),
        *(ResultCommitted(NAME, seat, 0, bytes([seat]) * 32) for seat in range(3)),
        *(ResultRevealed(NAME, seat, DIGEST, ZERO) for seat in range(2)),
    )
    view = fold(
        LedgerRecord(Position(1, index, "0x", T0, "0x"), event)
        for index, event in enumerate(events)
    )
    assert view is not None
    return view


@pytest.mark.parametrize(
    ("now", "linked", "brought"),
    [
        (WINDOW // 2, (), None),
        (WINDOW // 2 + 1, (), 0),
        (WINDOW // 2 + 1, (0,), 1),
        (WINDOW // 2 + 1, (0, 1), None),
        (WINDOW * 3 // 4 + 1, (0, 1), 0),
    ],
)
def test_the_client_brings_the_approvals_of_members_that_are_gone_or_late(
    now: int, linked: tuple[int, ...], brought: int | None
) -> None:
    given: dict[str, Any] = {
        "openings": {seat: Opening(seat, DIGEST, ZERO) for seat in range(2)},
        "approvals": {seat: Approval(seat, 0b11, b"s") for seat in range(2)},
    }
    view = ClientView(chain=chain(), now=T0 + now, linked=frozenset(linked), **given)

    step = plan(view)

    if brought is None:
        assert step is None
    else:
        assert isinstance(step, ApproveOutputs)
        assert step.approval == given["approvals"][brought]
