"""What can happen to an order at a node, in whichever order it happens."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from deai.errors import IllegalTransition
from node.orders.links import MAY_LEAVE
from node.orders.records import (
    TRANSITIONS,
    Held,
    OrderEvent,
    OrderState,
    advance,
    ended,
    with_result,
    with_results,
)
from tests.node.orders.test_policy import order

ENDINGS = [
    OrderEvent.PAYMENT, OrderEvent.OMISSION, OrderEvent.OTHER_ORDER, OrderEvent.EXPIRY,
    OrderEvent.FAILURE,
]  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.just("result"),
        st.sets(st.integers(0, 2), min_size=1),
        st.sampled_from(ENDINGS),
    ),
    max_size=12,
)


def fresh() -> Held:
    made = order(state=OrderState.TAKEN)
    return Held(
        id=made.id, order=made.order, signature=made.signature, spec=made.spec, seat=0,
        peer="peer", taken_at=0,
    )  # fmt: skip


def step(held: Held, what: object, now: int) -> Held:
    if what == "result":
        return with_result(held, b"d" * 32, b"s" * 64)
    if isinstance(what, OrderEvent):
        return ended(held, what, now)
    assert isinstance(what, set)
    return with_results(held, {seat: bytes([seat]) * 64 for seat in what}, now)


@given(STEPS)
def test_an_output_may_leave_only_after_a_quorum_and_an_end_is_an_end(steps: list[object]) -> None:
    held, had_quorum = fresh(), False
    for now, what in enumerate(steps, start=1):
        was = held
        if isinstance(what, set) and held.digest is None:
            continue  # nothing is shown before something is signed
        try:
            held = step(held, what, now)
        except IllegalTransition:
            assert held is was
            continue
        if was.digest is not None:
            assert held.digest == was.digest
            assert held.results[0] == was.results[0]
        assert held.signed >= was.signed
        had_quorum |= held.signed >= held.order.quorum
        if held.state is OrderState.SECURED:
            assert held.signed >= held.order.quorum
            assert held.secured_at
        if held.state in MAY_LEAVE and held.state is not OrderState.PAID:
            assert had_quorum
        assert not was.state.is_over
        assert held.state.is_over is bool(held.ended_at)
        if was.secured_at:
            assert held.secured_at == was.secured_at


def test_the_table_names_only_what_there_is() -> None:
    for state in OrderState:
        for event in OrderEvent:
            if state in TRANSITIONS and event in TRANSITIONS[state]:
                assert advance(state, event) in OrderState
            else:
                with pytest.raises(IllegalTransition):
                    advance(state, event)
    assert not any(state.is_over for state in TRANSITIONS)


@pytest.mark.parametrize(
    ("state", "reason", "vain"),
    [
        (OrderState.LOST, "", True),
        (OrderState.LEFT_OUT, "", True),
        (OrderState.OUTRUN, "", True),
        (OrderState.UNPAID, "Insufficient", True),
        (OrderState.UNPAID, "TooLate", False),  # it was for us to be in time
        (OrderState.UNPAID, "", False),
        (OrderState.PAID, "", False),
        (OrderState.DROPPED, "", False),
    ],
)
def test_a_client_answers_for_what_was_its_choice(
    state: OrderState, reason: str, vain: bool
) -> None:

    held = msgspec.structs.replace(order(state=state), reason=reason)
    assert held.was_in_vain is vain
