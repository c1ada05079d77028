"""Both ends' books against each other: any order of work, pay, lost links and crashes; credit."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings, strategies as st

from deai.channels import (
    verify_voucher,
)
from deai.lane.receipts import MAX_WINDOW
from deai.money import Amount
from tests.deai.lane.pair import (
    DEPOSIT,
    DOMAIN,
    SESSION,
    Pair,
    paid,
)

STEPS = (
    "cheap", "middling", "dear", "start", "start", "finish", "finish", "fail", "read_results",
    "read_results", "pay", "pay", "read_pay", "read_pay", "read_receipts", "late", "connect",
    "crash_node", "crash_client",
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=120))
def test_whatever_happens_both_agree_and_neither_risks_more_than_it_may(steps: list[str]) -> None:
    pair = Pair()
    for name in steps:
        pair.step(name)
    pair.settle()
    node, client = pair.node.standing, pair.client.promised
    assert (node.number, node.paid) == (client.number, client.received)
    assert node.voucher == client.voucher
    if node.voucher is not None:
        verify_voucher(DOMAIN, SESSION.account, node.voucher)
    assert pair.node.owed <= 0
    assert pair.client.due == 0
    if not pair.crashed:
        assert pair.client.spent == pair.got == node.settled
        assert pair.unsigned == 0
        assert node.cumulative - node.settled == pair.client.ahead
        assert pair.node.written_off == 0


def test_the_first_task_is_paid_ahead_and_from_then_on_one_may_be_owed() -> None:
    pair = Pair()
    assert pair.node.may_start(7) == 0
    pair.price = 7
    pair.pay()
    pair.read_pay()
    assert pair.node.may_start(7) == 1
    pair.start()
    pair.finish()
    pair.read_results()
    assert not pair.client.must_pay_ahead(1_000), "what was received is paid first"
    pair.pay()
    pair.read_pay()
    assert (pair.node.credit, pair.node.may_start(7)) == (7, 1)


def test_credit_grows_with_what_was_paid_and_falls_when_a_client_is_late() -> None:
    pair = paid(200)
    assert pair.node.credit >= 7 * 10
    pair.node.late()
    assert pair.node.credit == 7


def test_one_strict_window_bounds_what_is_unpaid() -> None:
    pair = paid(300, price=1)
    pair.node.windows = 1
    pair.node.standing = msgspec.structs.replace(
        pair.node.standing, paid_since_late=Amount(1 << 40)
    )
    pair.node.deposit = Amount(1 << 50)
    assert pair.node.may_start(1) == MAX_WINDOW
    pair.node.started(MAX_WINDOW, 1)
    assert pair.node.may_start(1) == 0


def test_a_free_task_needs_no_voucher_ahead_but_counts_in_the_window() -> None:
    pair = Pair()
    assert pair.node.may_start(0) == 4 * MAX_WINDOW
    assert not pair.client.must_pay_ahead(0)


def test_nothing_is_started_that_the_deposit_does_not_cover() -> None:
    pair = paid(600)
    while count := pair.node.may_start(7):
        pair.node.started(count, 7)
        pair.running.append((count, 7))
        pair.finish()
        while pair.results:
            pair.read_results()
        while pair.client.due:
            pair.pay()
            pair.read_pay()
    assert 0 <= DEPOSIT - pair.node.standing.cumulative < 7
    assert pair.client.affordable(7, 0) == 0


def test_what_was_paid_ahead_for_a_dear_task_covers_cheap_ones_meanwhile() -> None:
    pair = Pair()
    for name in ("dear", "pay", "read_pay", "cheap", "start", "finish", "read_results"):
        pair.step(name)
    assert pair.client.due > 1
    while pair.client.due:
        pair.pay()
        pair.read_pay()
    assert pair.node.standing.cumulative == 50
