"""Books of which one side has forgotten something: who pays what, and who signs what."""

from __future__ import annotations

import msgspec
import pytest

from deai.errors import DeaiError, ProtocolError
from deai.lane.payee import Standing
from deai.lane.payer import Promised
from deai.money import Amount
from tests.deai.lane.pair import (
    PEER,
    SESSION,
    Pair,
    leaves,
    paid,
    payee,
    payer,
    welcome,
)


def test_a_client_that_knows_nothing_any_more_gets_what_its_vouchers_do_not_cover() -> None:
    pair = paid(20)
    assert pair.node.resume(payer().hello(SESSION, PEER, b"another!")) == 20


def test_a_client_that_lost_its_journal_adopts_its_newest_voucher_that_the_node_shows() -> None:
    pair = paid(20)
    fresh = payer()
    assert fresh.resume(welcome(pair.node)) == []
    assert fresh.promised.voucher == pair.node.standing.voucher
    assert (fresh.received, fresh.ahead) == (pair.node.standing.paid, 0)
    assert pair.node.resume(fresh.hello(SESSION, PEER, b"another!")) == fresh.received


def test_a_voucher_that_somebody_else_signed_is_not_adopted() -> None:
    pair = paid(20)
    shown = welcome(pair.node)
    assert shown.voucher is not None
    forged = msgspec.structs.replace(
        shown, voucher=msgspec.structs.replace(shown.voucher, cumulative_amount=Amount(4_000))
    )
    for bad in (forged, msgspec.structs.replace(shown, voucher=None)):
        fresh = payer()
        with pytest.raises(DeaiError):
            fresh.resume(bad)
        assert fresh.promised == Promised()


def test_a_node_that_forgot_what_it_acknowledged_is_left() -> None:
    pair = paid(20)
    old = payee(Standing())
    with pytest.raises(ProtocolError, match="acknowledged"):
        pair.client.resume(welcome(old))


def test_what_a_restarted_node_cannot_check_is_paid_and_not_signed() -> None:
    pair = paid(200)
    for name in ("start", "finish", "read_results"):
        pair.step(name)
    assert pair.client.due
    pair.step("crash_node")
    pair.settle()
    assert pair.unsigned == 1
    assert pair.node.standing.cumulative == pair.client.spent == pair.node.standing.settled


def test_what_a_restarted_client_does_not_know_is_written_off_and_costs_its_credit() -> None:
    pair = paid(200)
    for name in ("start", "finish", "read_results"):
        pair.step(name)
    owed, credit = pair.node.owed, pair.node.credit
    assert owed > 7
    pair.step("crash_client")
    assert (pair.node.written_off, pair.node.owed) == (owed, 0)
    assert pair.node.credit == credit - owed


def test_no_number_of_new_lives_gives_a_client_more_than_its_credit_for_nothing() -> None:
    pair = paid(200)
    limit, given = pair.node.credit, 0
    for _ in range(100):
        if count := pair.node.may_start(7):
            pair.node.started(count, 7)
            pair.node.delivered(leaves(pair.node.next_index, count), 7)
            given += count * 7
        pair.step("crash_client")
    assert given <= limit


def test_one_payment_ahead_buys_one_task_however_many_lives_a_client_has() -> None:
    pair = Pair(price=7)
    pair.step("pay")
    pair.step("read_pay")
    given = 0
    for _ in range(10):
        pair.step("start")
        given += sum(count for count, _ in pair.running)
        pair.step("crash_client")
    assert given <= 2  # the one that was paid, and one on the credit that it earned
    assert pair.node.written_off <= 7
    # An honest client that has lost it learns so, and pays for the next one.
    assert pair.client.must_pay_ahead(7)


def test_a_node_says_only_once_that_what_was_paid_ahead_is_spent() -> None:
    client, node = payer(), payee()
    for expected in (7, 0):
        node.take(client.pay_ahead(SESSION, 7).pay)
        lie = msgspec.structs.replace(welcome(node), spent=client.promised.cumulative)
        client.resume(lie)
        assert client.spent == 7
        assert client.ahead == 7 - expected


def test_an_old_voucher_is_not_adopted_as_the_newest() -> None:
    client, node = payer(), payee()
    node.take(client.pay_ahead(SESSION, 7).pay)
    old = welcome(node)
    node.take(client.pay_ahead(SESSION, 50).pay)
    client.unacknowledged.clear()
    with pytest.raises(ProtocolError, match="old voucher"):
        client.resume(msgspec.structs.replace(old, number=9))
