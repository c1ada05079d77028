"""The planner as a table: what is due in each situation, and properties over all of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from deai.chain.tasks_view import TaskView
from deai.tasks import Policy
from node.planner import (
    Action,
    Execute,
    Judge,
    Submit,
    Tell,
    View,
    plan,
    progress_pace,
)
from tests.node.support.situations import (
    DEADLINE,
    MINE,
    OTHER,
    SAID,
    T0,
    TABLE,
    WINDOW,
    chain,
    committed,
    task,
    view,
)
from tests.support.examples import examples


@pytest.mark.parametrize("situation", TABLE)
def test_what_is_due(situation: str) -> None:
    seen, wanted = TABLE[situation]
    assert plan(seen) == wanted


@pytest.mark.parametrize("lease", [1, 3, 10, 30, 600, 86_400])
def test_two_beats_fit_into_two_thirds_of_any_lease(lease: int) -> None:
    assert progress_pace(msgspec.structs.replace(task(), lease=lease)) <= lease / 3


HISTORIES: dict[tuple[Policy, tuple[int, ...]], TaskView] = {
    (policy, seats): chain(*committed(*seats), policy=policy)
    for policy in (Policy.EXACT, Policy.TOL32)
    for seats in ((), (0,), (1,), (1, 2), (0, 2), (2, 0, 1))
}


def situation(history: tuple[Policy, tuple[int, ...]], **fields: Any) -> View:
    return view(history[0], chain=HISTORIES[history], **fields)


situations = st.builds(
    situation,
    st.sampled_from(list(HISTORIES)),
    now=st.integers(T0, DEADLINE + WINDOW * 2),
    clock=st.floats(0, 1000),
    has_input=st.booleans(),
    digest=st.sampled_from([None, MINE]),
    is_fault=st.booleans(),
    gave_up=st.sampled_from(["", "node_fault"]),
    openings=st.dictionaries(st.sampled_from([1, 2]), st.sampled_from([MINE, OTHER])),
    outputs=st.frozensets(st.sampled_from([1, 2])),
    approvals=st.frozensets(st.sampled_from([0, 1, 2])),
    client_linked=st.booleans(),
    told=st.frozensets(st.sampled_from(sorted(SAID, key=str))),
    committed_at=st.none() | st.floats(0, 1000),
    window_at=st.none() | st.floats(0, 1000),
    ready_at=st.none() | st.floats(0, 1000),
    is_stopping=st.booleans(),
)


@given(situations)
@examples(400)
def test_nothing_leaks_before_every_commitment_is_on_chain(seen: View) -> None:
    said = list(everything(seen))
    assert seen.chain is not None
    final = len(seen.chain.commitments) == 3 or (
        seen.chain.commitments and seen.now > seen.task.commit_deadline
    )
    if not final:
        assert not {a.what for a in said if isinstance(a, Tell)} & {"opening", "output", "approval"}
        assert not {a.verb for a in said if isinstance(a, Submit)} & {"reveal", "finalise"}
    if seen.digest is not None:
        assert Execute() not in said, "a second result"
    if 0 in seen.approvals:
        assert Judge() not in said, "a second approval"


@given(situations)
@examples(400)
def test_an_output_leaves_only_when_enough_openings_allow_it(seen: View) -> None:
    leaves = any(isinstance(a, Tell) and a.what == "output" for a in everything(seen))
    agreeing = 1 + sum(
        seen.task.policy.is_tolerance or digest == seen.digest for digest in seen.openings.values()
    )
    if leaves:
        assert agreeing >= seen.task.quorum
        assert not seen.is_fault


@given(situations)
@examples(200)
def test_a_plan_does_not_depend_on_when_it_is_asked_again(seen: View) -> None:
    first = plan(seen)
    assert plan(seen) == first
    if first is not None:
        assert plan(replace(seen, held=frozenset({first}))) != first


def everything(seen: View) -> list[Action]:
    """Every action that is due at once, found by holding each in turn."""
    found: list[Action] = []
    while (action := plan(replace(seen, held=frozenset(found)))) is not None:
        found.append(action)
        assert len(found) < 50
    return found
