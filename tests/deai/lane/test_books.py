"""Both ends' books against each other: any order of work, pay, lost links and crashes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from deai.channels import (
    CHANNELS_NAME,
    Channel,
    fold_receipts,
    sign_voucher,
    verify_voucher,
)
from deai.errors import BadSignature, DeaiError, MalformedMessage, ProtocolError
from deai.hashing import ZERO
from deai.ids import AccountId, PeerId, node_id
from deai.lane.messages import Pay, Receipts, Welcome
from deai.lane.payee import MAX_FORGOTTEN, Payee, Standing
from deai.lane.payer import Issued, Payer, Promised
from deai.lane.receipts import MAX_WINDOW, sign_window, task_leaves, verify_window
from deai.merkle import merkle_root
from deai.money import Amount
from deai.signing import Domain
from tests.support.samples import signer

DOMAIN = Domain(CHANNELS_NAME, 713714, AccountId("0x" + "ce" * 20))
SESSION, OPERATOR = signer(5), signer(8)
CHANNEL = Channel(signer(6).account, node_id(signer(7).account, 3), SESSION.account)
PEER = PeerId("12D3KooWClient")
TERMS = b"\x01" * 32
DEPOSIT = Amount(5_000)
PRICES = (1, 7, 50)


def leaves(first: int, count: int) -> list[bytes]:
    column = [b"%d" % index for index in range(first, first + count)]
    return task_leaves(TERMS, first, column, column)


def payee(standing: Standing | None = None, windows: int = 4) -> Payee:
    return Payee(CHANNEL, DOMAIN, 1, DEPOSIT, standing or Standing(), windows)


def payer(promised: Promised | None = None, kept: tuple[Issued, ...] = ()) -> Payer:
    return Payer(CHANNEL, DOMAIN, 1, DEPOSIT, promised or Promised(), unacknowledged=deque(kept))


def welcome(node: Payee, received: int = 0) -> Welcome:
    standing = node.standing
    return Welcome(
        standing.voucher, standing.number, standing.paid, node.next_index, node.credit,
        node.deposit, 1024, 1 << 22, node.spent(received),
    )  # fmt: skip


@dataclass
class Pair:
    """A client and a node, the wire between them, and what either has on disk."""

    client: Payer = field(default_factory=payer)
    node: Payee = field(default_factory=payee)
    life: int = 0
    results: deque[tuple[int, int, int]] = field(default_factory=deque)  # first, count, price
    pays: deque[Pay] = field(default_factory=deque)
    receipts: deque[Receipts] = field(default_factory=deque)
    running: list[tuple[int, int]] = field(default_factory=list)  # count, price
    price: int = 1
    dearest: int = 1
    got: int = 0
    crashed: bool = False
    unsigned: int = 0
    signed: list[bytes] = field(default_factory=list)
    """By the node, on its disk, voucher for voucher."""

    def __post_init__(self) -> None:
        self.connect()

    def step(self, name: str) -> None:
        getattr(self, name)()
        promised = self.client.promised
        assert promised.cumulative <= DEPOSIT
        assert self.client.ahead <= self.dearest, "the client risks more than one task"
        assert self.node.standing.cumulative <= promised.cumulative
        assert self.node.standing.number <= promised.number

    def cheap(self) -> None:
        self.price = PRICES[0]

    def middling(self) -> None:
        self.price = PRICES[1]

    def dear(self) -> None:
        self.price = PRICES[2]

    def start(self) -> None:
        count = min(self.node.may_start(self.price), 40)
        if count:
            self.dearest = max(self.dearest, self.price)
            self.node.started(count, self.price)
            self.running.append((count, self.price))
            at_risk = self.node.owed + sum(many * price for many, price in self.running)
            assert at_risk <= self.node.credit, "the node risks more than its credit"
            assert at_risk + self.node.standing.cumulative <= DEPOSIT

    def finish(self) -> None:
        for count, price in self.running:
            first = self.node.next_index
            self.node.delivered(leaves(first, count), price)
            self.results.append((first, count, price))
        self.running.clear()

    def fail(self) -> None:
        for count, price in self.running:
            self.node.gave_up(count, price)
        self.running.clear()

    def read_results(self) -> None:
        if self.results:
            first, count, price = self.results.popleft()
            self.client.got(first, leaves(first, count), price)
            self.got += count * price

    def pay(self, flush: bool = True) -> None:
        if tasks := self.client.to_pay(flush=flush):
            self.pays.append(self.client.issue(SESSION, tasks).pay)
        elif self.client.must_pay_ahead(self.price) and self.client.affordable(self.price, 0):
            self.dearest = max(self.dearest, self.price)
            self.pays.append(self.client.pay_ahead(SESSION, self.price).pay)

    def read_pay(self) -> None:
        if self.pays:
            taken = self.node.take(self.pays.popleft())
            signature = b""
            if taken.window is not None:
                signature = sign_window(DOMAIN, OPERATOR, taken.window)
                assert taken.window.tasks == len(taken.leaves)
            self.signed.append(signature)
            self.receipts.append(Receipts(taken.standing.number, [signature]))

    def read_receipts(self) -> None:
        if self.receipts:
            for issued, signature in self.client.acknowledged(self.receipts.popleft()):
                if signature:
                    verify_window(DOMAIN, OPERATOR.account, issued.window, signature)
                elif issued.window.tasks:
                    self.unsigned += 1
            self.client.credit = self.node.credit

    def late(self) -> None:
        self.node.late()

    def connect(self) -> None:
        """Both lose what was on the wire, and say where they stand."""
        self.finish()
        self.results.clear()
        self.pays.clear()
        self.receipts.clear()
        first = self.node.resume(self.client.hello(SESSION, PEER, self.life.to_bytes(8, "big")))
        for issued in self.client.resume(welcome(self.node, first)):
            self.pays.append(issued.pay)
        heard = self.client.promised.number - len(self.client.unacknowledged)
        for number, signature in enumerate(self.signed[heard:], heard + 1):
            self.receipts.append(Receipts(number, [signature]))
        at = first - self.node.standing.paid
        for index, due in enumerate(list(self.node.due)[at:], first):
            self.results.append((index, 1, due.price))

    def crash_node(self) -> None:
        self.running.clear()
        self.node = payee(self.node.standing)
        self.crashed = True
        self.connect()

    def crash_client(self) -> None:
        self.client = payer(self.client.promised, tuple(self.client.unacknowledged))
        self.life += 1
        self.crashed = True
        self.connect()

    def settle(self) -> None:
        """Everything that is on its way arrives."""
        self.connect()
        while self.results or self.pays or self.receipts or self.client.due:
            self.read_results()
            self.pay()
            self.read_pay()
            self.read_receipts()


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


def paid(tasks: int, price: int = 7) -> Pair:
    """A pair in which so many tasks were paid, one by one at first."""
    pair = Pair()
    pair.price = price
    while pair.node.standing.paid < tasks:
        for name in ("start", "finish", "read_results", "pay", "read_pay", "read_receipts"):
            pair.step(name)
    return pair


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"number": 9}, "voucher 9 after"),
        ({"tasks": 3}, "are due"),
        ({"cumulative_amount": Amount(DEPOSIT + 1)}, "deposited"),
        ({"cumulative_amount": Amount(1)}, "after"),
        ({"root": b"\x09" * 32}, "other receipts"),
        ({"signature": bytes(64)}, "recover"),
        ({"tasks": 0}, "other receipts"),
    ],
)
def test_a_bad_voucher_changes_nothing(change: dict[str, object], said: str) -> None:
    pair = paid(20)
    pair.start()
    pair.finish()
    while pair.results:
        pair.read_results()
    before = pair.node.standing
    good = pair.client.issue(SESSION, pair.client.to_pay(flush=True)).pay
    bad = msgspec.structs.replace(good, **change)
    with pytest.raises((ProtocolError, BadSignature), match=said):
        pair.node.take(bad)
    assert pair.node.standing == before
    assert pair.node.take(good).standing.number == before.number + 1


def test_a_client_that_knows_nothing_any_more_gets_what_its_vouchers_do_not_cover() -> None:
    pair = paid(20)
    assert pair.node.resume(payer().hello(SESSION, PEER, b"another!")) == 20


def test_a_voucher_for_less_than_what_it_covers_is_refused_however_well_it_is_signed() -> None:
    pair = paid(20)
    pair.start()
    pair.finish()
    before = pair.node.standing
    few = task_leaves(TERMS, 20, [b"20"], [b"20"])
    assert [due.leaf for due in pair.node.due] == few
    root = fold_receipts(before.receipts_root, merkle_root(few))
    for amount, is_good in ((before.cumulative + 6, False), (before.cumulative + 7, True)):
        voucher = sign_voucher(DOMAIN, SESSION, pair.node.id, 1, Amount(amount), root)
        pay = Pay(before.number + 1, 1, Amount(amount), merkle_root(few), voucher.signature)
        if is_good:
            assert pair.node.take(pay).standing.cumulative == amount
        else:
            with pytest.raises(ProtocolError, match="is owed"):
                pair.node.take(pay)


def test_what_was_paid_ahead_for_a_dear_task_covers_cheap_ones_meanwhile() -> None:
    pair = Pair()
    for name in ("dear", "pay", "read_pay", "cheap", "start", "finish", "read_results"):
        pair.step(name)
    assert pair.client.due > 1
    while pair.client.due:
        pair.pay()
        pair.read_pay()
    assert pair.node.standing.cumulative == 50


def test_a_voucher_is_good_once_and_only_in_its_epoch_and_for_its_channel() -> None:
    pair = paid(20)
    pair.start()
    pair.finish()
    while pair.results:
        pair.read_results()
    pay = pair.client.issue(SESSION, pair.client.to_pay(flush=True)).pay
    for other in (
        Payee(CHANNEL, DOMAIN, 2, DEPOSIT, pair.node.standing, due=deque(pair.node.due)),
        Payee(
            Channel(signer(9).account, CHANNEL.node, SESSION.account), DOMAIN, 1, DEPOSIT,
            pair.node.standing, due=deque(pair.node.due),
        ),
        Payee(
            CHANNEL, Domain(CHANNELS_NAME, 1, DOMAIN.contract), 1, DEPOSIT, pair.node.standing,
            due=deque(pair.node.due),
        ),
    ):  # fmt: skip
        with pytest.raises(BadSignature):
            other.take(pay)
    pair.node.take(pay)
    with pytest.raises(ProtocolError):
        pair.node.take(pay)


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


def test_results_must_follow_each_other() -> None:
    pair = paid(20)
    for first in (pair.client.received - 1, pair.client.received + 1):
        with pytest.raises(ProtocolError):
            pair.client.got(first, leaves(first, 1), 7)


@pytest.mark.parametrize("count", [0, 2])
def test_receipts_for_vouchers_that_were_never_sent_are_refused(count: int) -> None:
    pair = paid(20)
    pair.start()
    pair.finish()
    while pair.results:
        pair.read_results()
    pair.client.issue(SESSION, pair.client.to_pay(flush=True))
    with pytest.raises(ProtocolError):
        pair.client.acknowledged(Receipts(pair.client.promised.number, [b""] * count))


def test_a_client_cannot_have_received_what_was_not_sent() -> None:
    pair = paid(20)
    hello = msgspec.structs.replace(
        pair.client.hello(SESSION, PEER, bytes(8)),
        received=pair.node.next_index + MAX_FORGOTTEN + 1,
    )
    with pytest.raises(MalformedMessage):
        payee(pair.node.standing).resume(hello)


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


def test_a_window_ahead_has_no_leaves_and_no_root() -> None:
    issued = payer().pay_ahead(SESSION, 7)
    assert (issued.pay.tasks, issued.pay.root, issued.leaves) == (0, ZERO, ())
