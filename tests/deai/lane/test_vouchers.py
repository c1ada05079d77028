"""What a book takes of the other side: the right voucher, once, and nothing else."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest

from deai.channels import (
    CHANNELS_NAME,
    Channel,
    fold_receipts,
    sign_voucher,
)
from deai.errors import BadSignature, MalformedMessage, ProtocolError
from deai.hashing import ZERO
from deai.ids import AccountId
from deai.lane.messages import Pay, Receipts
from deai.lane.payee import MAX_FORGOTTEN, Payee
from deai.lane.receipts import task_leaves
from deai.merkle import merkle_root
from deai.money import Amount
from deai.signing import Domain
from tests.deai.lane.pair import (
    CHANNEL,
    DEPOSIT,
    DOMAIN,
    PEER,
    SESSION,
    TERMS,
    leaves,
    paid,
    payee,
    payer,
)
from tests.support.samples import signer


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


def test_a_voucher_is_good_once_and_only_in_its_epoch_for_its_channel_contract_and_chain() -> None:
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
        Payee(
            CHANNEL, Domain(CHANNELS_NAME, DOMAIN.chain_id, AccountId("0x" + "cf" * 20)), 1,
            DEPOSIT, pair.node.standing, due=deque(pair.node.due),
        ),
    ):  # fmt: skip
        with pytest.raises(BadSignature):
            other.take(pay)
    pair.node.take(pay)
    with pytest.raises(ProtocolError):
        pair.node.take(pay)


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


def test_a_window_ahead_has_no_leaves_and_no_root() -> None:
    issued = payer().pay_ahead(SESSION, 7)
    assert (issued.pay.tasks, issued.pay.root, issued.leaves) == (0, ZERO, ())


def test_of_two_vouchers_for_one_window_the_first_is_taken_and_pays_once() -> None:
    pair = paid(20)
    for name in ("start", "finish", "read_results"):
        pair.step(name)
    before = pair.node.standing
    twin = payer(pair.client.promised)
    twin.got(20, leaves(20, pair.node.next_index - 20), 7)
    tasks = pair.client.to_pay(flush=True)
    first = pair.client.issue(SESSION, tasks).pay
    # The same window once more: with more money in it, and again under the next number.
    second = twin.issue(SESSION, tasks).pay
    root = pair.client.promised.voucher
    assert root is not None
    amount = Amount(first.cumulative_amount + 7)
    dearer = sign_voucher(DOMAIN, SESSION, pair.node.id, 1, amount, root.receipts_root)
    others = (
        second,
        msgspec.structs.replace(second, cumulative_amount=amount, signature=dearer.signature),
        msgspec.structs.replace(second, number=second.number + 1),
    )
    taken = pair.node.take(first).standing
    for other in others:
        with pytest.raises(ProtocolError):
            pair.node.take(other)
    assert pair.node.standing == taken
    assert taken.paid == before.paid + tasks
    assert taken.cumulative == before.cumulative + 7 * tasks
