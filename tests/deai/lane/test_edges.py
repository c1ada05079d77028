"""Numbers at the edge of every packed field: the last that fits goes through, one more does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from deai.channels import (
    CHANNELS_NAME,
    NO_RECEIPTS,
    Channel,
    Voucher,
    sign_voucher,
    verify_voucher,
)
from deai.codec import Codec
from deai.errors import BadSignature, DeaiError, MalformedMessage
from deai.hashing import ZERO
from deai.ids import AccountId, ChannelId, node_id
from deai.lane.messages import (
    Agreed,
    Ask,
    Credit,
    Faults,
    Hello,
    LaneMessage,
    Pay,
    Receipts,
    Refused,
    Results,
    Welcome,
    Work,
    decode_lane,
    encode_lane,
)
from deai.lane.payee import Payee, Standing
from deai.lane.payer import Payer, Promised
from deai.lane.receipts import (
    MAX_TASK_BYTES,
    MAX_WINDOW,
    Terms,
    WindowReceipt,
    sign_window,
    task_leaf,
    verify_window,
)
from deai.merkle import merkle_root
from deai.money import Amount
from deai.signing import Domain
from tests.deai.lane.pair import leaves
from tests.support.samples import signer

MOST_MONEY = (1 << 96) - 1
MOST_NUMBER = (1 << 53) - 1
MOST_EPOCH = (1 << 24) - 1
DOMAIN = Domain(CHANNELS_NAME, 713714, AccountId("0x" + "ce" * 20))
SESSION, OPERATOR = signer(5), signer(8)
CHANNEL = Channel(signer(6).account, node_id(signer(7).account, 3), SESSION.account)
ID = ChannelId("0x" + "0c" * 32)
VOUCHER = Voucher(ID, 1, Amount(1), ZERO, bytes(64))
TERMS = Terms(
    channel=ID, epoch=1, workload="echo", version=1, model="", parameters=b"\x80", max_units=1,
    price=Amount(1),
)  # fmt: skip
WINDOW = WindowReceipt(ID, 1, 1, 0, 1, Amount(1), ZERO)
STANDING = Standing(voucher=VOUCHER)
HELLO = Hello(CHANNEL, 1, bytes(8), 0, 0, 0, bytes(64))
WELCOME = Welcome(VOUCHER, 0, 0, 0, Amount(0), Amount(0), 1, MAX_TASK_BYTES)
PAY = Pay(1, 1, Amount(1), ZERO, bytes(64))

# What fits, by its own words: not what the types of the code say.
EDGES: list[tuple[Any, str, int, int]] = [
    (HELLO, "epoch", 1, MOST_EPOCH),
    (HELLO, "received", 0, MOST_NUMBER),
    (HELLO, "number", 0, MOST_NUMBER),
    (HELLO, "acknowledged", 0, MOST_NUMBER),
    (WELCOME, "number", 0, MOST_NUMBER),
    (WELCOME, "paid", 0, MOST_NUMBER),
    (WELCOME, "next_index", 0, MOST_NUMBER),
    (WELCOME, "credit", 0, MOST_MONEY),
    (WELCOME, "deposit", 0, MOST_MONEY),
    (WELCOME, "spent", 0, MOST_MONEY),
    (WELCOME, "tasks", 1, 1 << 16),
    (WELCOME, "bytes", 1 << 16, 1 << 28),
    (Ask(0, TERMS), "number", 0, (1 << 16) - 1),
    (Agreed(0), "number", 0, (1 << 16) - 1),
    (Refused(0, "no", "no"), "number", 0, (1 << 16) - 1),
    (Work(0, [0], [b""]), "terms", 0, (1 << 16) - 1),
    (Results(0, 0, [0], [b""]), "terms", 0, (1 << 16) - 1),
    (Results(0, 0, [0], [b""]), "first", 0, MOST_NUMBER),
    (PAY, "number", 1, MOST_NUMBER),
    (PAY, "tasks", 0, 64),
    (PAY, "cumulative_amount", 0, MOST_MONEY),
    (Receipts(0, []), "number", 0, MOST_NUMBER),
    (Credit(Amount(0), Amount(0)), "credit", 0, MOST_MONEY),
    (Credit(Amount(0), Amount(0)), "deposit", 0, MOST_MONEY),
    (TERMS, "epoch", 1, MOST_EPOCH),
    (TERMS, "version", 0, (1 << 32) - 1),
    (TERMS, "max_units", 1, (1 << 32) - 1),
    (TERMS, "price", 0, MOST_MONEY),
    (WINDOW, "epoch", 1, MOST_EPOCH),
    (WINDOW, "number", 0, MOST_NUMBER),
    (WINDOW, "first", 0, MOST_NUMBER),
    (WINDOW, "tasks", 0, 64),
    (WINDOW, "cumulative_amount", 0, MOST_MONEY),
    (VOUCHER, "epoch", 1, MOST_EPOCH),
    (VOUCHER, "cumulative_amount", 0, MOST_MONEY),
    (STANDING, "number", 0, MOST_NUMBER),
    (STANDING, "paid", 0, MOST_NUMBER),
    (STANDING, "settled", 0, MOST_MONEY),
    (STANDING, "paid_task", 0, MOST_MONEY),
    (STANDING, "paid_since_late", 0, MOST_MONEY),
    (STANDING, "written_off", 0, MOST_MONEY),
]
MESSAGES = (
    Hello, Welcome, Ask, Agreed, Refused, Work, Results, Faults, Pay, Receipts, Credit,
)  # fmt: skip


def there_and_back(value: Any) -> Any:
    if isinstance(value, MESSAGES):
        return decode_lane(encode_lane(value))
    codec = Codec[Any](type(value), 1 << 16)
    return codec.decode(codec.encode(value))


class Beyond(Amount):
    """A sum that is none, as another program could write it."""

    def __new__(cls, units: int) -> Beyond:
        return int.__new__(cls, units)


@pytest.mark.parametrize(
    ("value", "field", "least", "most"),
    EDGES,
    ids=[f"{type(value).__name__}.{field}" for value, field, _, _ in EDGES],
)
def test_the_last_number_that_fits_goes_through_and_one_more_does_not(
    value: Any, field: str, least: int, most: int
) -> None:
    is_money = isinstance(getattr(value, field), Amount)
    for number in (least, most):
        made = Amount(number) if is_money else number
        edge = msgspec.structs.replace(value, **{field: made})
        assert there_and_back(edge) == edge
    for number in (least - 1, most + 1, 1 << 63, (1 << 64) - 1, -(1 << 63)):
        if least <= number <= most:
            continue
        made = Beyond(number) if is_money else number
        with pytest.raises(MalformedMessage):
            there_and_back(msgspec.structs.replace(value, **{field: made}))


def test_every_number_of_the_lane_is_among_those_tried() -> None:
    tried = {(type(value), field) for value, field, _, _ in EDGES}
    for kind in (*MESSAGES, Terms, WindowReceipt, Voucher, Standing):
        for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
            name = type(field.type).__name__
            is_number = name == "IntType" or getattr(field.type, "cls", None) is Amount
            assert not is_number or (kind, field.name) in tried, (kind.__name__, field.name)


@pytest.mark.parametrize("number", [0, (1 << 32) - 1])
def test_ids_of_tasks_have_32_bits(number: int) -> None:
    made: list[Callable[[int], LaneMessage]] = [
        lambda id_: Work(0, [id_], [b""]),
        lambda id_: Results(0, 0, [id_], [b""]),
        lambda id_: Faults([id_], [0], [""]),
    ]
    for make in made:
        assert decode_lane(encode_lane(make(number))) == make(number)
        for beyond in (-1, 1 << 32):
            with pytest.raises(MalformedMessage):
                decode_lane(encode_lane(make(beyond)))


@pytest.mark.parametrize("count", [1, 512])
def test_columns_have_up_to_512_rows(count: int) -> None:
    message = Work(0, [1] * count, [b""] * count)
    assert decode_lane(encode_lane(message)) == message
    for wrong in (0, 513):
        with pytest.raises(MalformedMessage):
            decode_lane(encode_lane(Work(0, [1] * wrong, [b""] * wrong)))


def test_a_window_of_65_tasks_is_taken_by_no_book() -> None:
    """Neither side says or signs it, and a node that gets it past the codec refuses it."""
    node = Payee(CHANNEL, DOMAIN, 1, Amount(MOST_MONEY), Standing(paid_since_late=Amount(1 << 40)))
    client = Payer(CHANNEL, DOMAIN, 1, Amount(MOST_MONEY), Promised())
    many = MAX_WINDOW + 1
    due = leaves(0, many)
    client.got(0, due, 1)
    assert client.to_pay(flush=True) == MAX_WINDOW
    node.started(many, 1)
    node.delivered(due, 1)
    with pytest.raises(MalformedMessage):
        decode_lane(encode_lane(Pay(1, many, Amount(many), merkle_root(due), bytes(64))))
    with pytest.raises(DeaiError):
        node.take(Pay(1, many, Amount(many), merkle_root(due), bytes(64)))
    taken = node.take(client.issue(SESSION, MAX_WINDOW).pay)
    assert (taken.standing.paid, len(node.due)) == (MAX_WINDOW, 1)


def test_the_whole_supply_may_be_one_deposit_one_price_and_one_voucher() -> None:
    node = Payee(CHANNEL, DOMAIN, MOST_EPOCH, Amount(MOST_MONEY), Standing())
    client = Payer(CHANNEL, DOMAIN, MOST_EPOCH, Amount(MOST_MONEY), Promised())
    assert client.must_pay_ahead(MOST_MONEY)
    assert client.affordable(MOST_MONEY, 0) == 1
    node.take(client.pay_ahead(SESSION, MOST_MONEY).pay)
    assert node.may_start(MOST_MONEY) == 1
    node.started(1, MOST_MONEY)
    node.delivered(leaves(0, 1), MOST_MONEY)
    client.got(0, leaves(0, 1), MOST_MONEY)
    taken = node.take(client.issue(SESSION, 1).pay)
    assert taken.standing.cumulative == taken.standing.settled == MOST_MONEY
    assert there_and_back(taken.standing) == taken.standing
    # Nothing is left: neither starts, pays or owes a unit more.
    assert node.may_start(1) == 0
    assert client.affordable(1, 0) == 0
    assert node.credit <= MOST_MONEY


def test_the_last_voucher_of_an_epoch_is_counted_and_none_after_it() -> None:
    standing = Standing(number=MOST_NUMBER - 1, paid=MOST_NUMBER - 1)
    node = Payee(CHANNEL, DOMAIN, 1, Amount(100), standing)
    receipts = NO_RECEIPTS
    last = sign_voucher(DOMAIN, SESSION, node.id, 1, Amount(7), receipts)
    pay = Pay(MOST_NUMBER, 0, Amount(7), ZERO, last.signature)
    assert decode_lane(encode_lane(pay)) == pay
    assert node.take(pay).standing.number == MOST_NUMBER
    with pytest.raises(MalformedMessage):
        decode_lane(encode_lane(msgspec.structs.replace(pay, number=MOST_NUMBER + 1)))


@pytest.mark.parametrize("epoch", [1, MOST_EPOCH])
@pytest.mark.parametrize("amount", [0, (1 << 53), (1 << 63), (1 << 64) - 1, MOST_MONEY])
def test_vouchers_and_windows_are_signed_at_every_edge(amount: int, epoch: int) -> None:
    voucher = sign_voucher(DOMAIN, SESSION, ID, epoch, Amount(amount), ZERO)
    verify_voucher(DOMAIN, SESSION.account, there_and_back(voucher))
    window = WindowReceipt(
        ID, epoch, MOST_NUMBER, MOST_NUMBER, MAX_WINDOW, Amount(amount), b"\x07" * 32
    )
    signature = sign_window(DOMAIN, OPERATOR, window)
    verify_window(DOMAIN, OPERATOR.account, there_and_back(window), signature)
    other = Amount(amount - 1 if amount else 1)
    changed = msgspec.structs.replace(voucher, cumulative_amount=other)
    with pytest.raises(BadSignature):
        verify_voucher(DOMAIN, SESSION.account, changed)
    moved = msgspec.structs.replace(window, cumulative_amount=other)
    with pytest.raises(BadSignature):
        verify_window(DOMAIN, OPERATOR.account, moved, signature)


def test_the_index_of_a_leaf_has_64_bits() -> None:
    found = {task_leaf(ZERO, index, ZERO, ZERO) for index in (0, MOST_NUMBER, (1 << 64) - 1)}
    assert len(found) == 3
