"""An order is settled once, for the fee of every seat, and no thaw outruns one that is covered."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given, strategies as st

from deai import orders as o
from deai.codec import Codec
from deai.errors import BadSignature, IllegalTransition, LedgerRejected, MalformedMessage
from deai.hashing import keccak
from deai.ids import AccountId, NodeId, node_id, raw
from deai.money import MAX_AMOUNT, UNIT, Amount
from deai.orders import (
    BALANCE_TRANSITIONS,
    BalanceEvent,
    BalanceState,
    Member,
    Order,
    OrderBalance,
    Settlement,
)
from deai.signing import Domain, verify
from deai.standing import Standing
from deai.tasks import Policy
from rewards import fees
from tests.support.examples import examples
from tests.support.samples import amounts, signer

DOMAIN = Domain(o.ORDERS_NAME, 713714, AccountId("0x" + "0e" * 20))
CLIENT = signer(6)
OPERATORS = [signer(20 + i) for i in range(15)]
NODES = tuple(node_id(signer(40 + i).account, i) for i in range(15))
OUTPUT = b"\x06" * 32
PERIOD, NOW, LEAST_FEE = 100, 1_000_000, 10
MEMBERS = [Member(key.account, Standing.ACTIVE, 100_000) for key in OPERATORS]
FUNDED = OrderBalance(balance=Amount(10 * UNIT), is_open=True)
ORDER = Order(CLIENT.account, Amount(UNIT), Policy.EXACT, NOW, 1, b"\x05" * 32, NODES[:3])


def settlement(order: Order = ORDER, silent: tuple[int, ...] = ()) -> Settlement:
    name = o.order_id(order, DOMAIN)
    return Settlement(
        order,
        o.sign_order(DOMAIN, CLIENT, order),
        OUTPUT,
        tuple(
            None
            if seat in silent
            else o.sign_result(DOMAIN, OPERATORS[NODES.index(node)], name, node, OUTPUT)
            for seat, node in enumerate(order.nodes)
        ),
    )


def judged(
    one: Settlement, *, record: OrderBalance = FUNDED, page: int = 1, now: int = NOW,
    members: list[Member] = MEMBERS, domain: Domain = DOMAIN,
) -> int:  # fmt: skip
    return o.judge(
        one, record=record, page=page, members=members, now=now, least_fee=LEAST_FEE, domain=domain
    )


def refusal_of(one: Settlement, **changed: object) -> str:
    with pytest.raises(LedgerRejected) as caught:
        judged(one, **changed)  # type: ignore[arg-type]
    return caught.value.name


# --- the table and the balance ------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in BalanceState for e in BalanceEvent])
def test_a_step_is_in_the_table_or_illegal(state: BalanceState, event: BalanceEvent) -> None:
    if event in BALANCE_TRANSITIONS[state]:
        assert o.advance_balance(state, event) is BALANCE_TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=f"{state.label}.*{event}"):
            o.advance_balance(state, event)


steps = st.lists(
    st.tuples(st.sampled_from(["fund", "settle", "thaw", "withdraw", "wait"]), st.integers(0, 200)),
    max_size=60,
)


@given(steps)
@examples(300)
def test_every_unit_was_settled_was_taken_or_is_there(walk: list[tuple[str, int]]) -> None:
    record, now = OrderBalance(), NOW
    put = settled = taken = 0
    asked_at = NOW
    for step, number in walk:
        before = record
        try:
            match step:
                case "fund":
                    record = o.funded(record, Amount(number))
                    put += number
                case "settle":
                    order = msgspec.structs.replace(ORDER, fee=Amount(number))
                    record = o.charged(record, order)
                    settled += order.cost
                case "thaw":
                    record = o.thaw_requested(record, Amount(number), now, PERIOD)
                    asked_at = now
                case "withdraw":
                    record, left = o.withdrawn(record, now)
                    assert now > asked_at + PERIOD
                    assert left <= before.thawing
                    taken += left
                case _:
                    now += number
        except (IllegalTransition, LedgerRejected):
            assert record == before
        assert record.balance + settled + taken == put
        assert 0 <= record.free <= record.balance
        if record.is_open != before.is_open:
            assert step == "fund"  # nothing ever returns to zero
        assert record.is_open or record == OrderBalance()


@given(
    balance=amounts, thaw=amounts, promised=st.integers(0, MAX_AMOUNT), life=st.integers(0, 150),
    ask=st.integers(0, 150), again=amounts,
)  # fmt: skip
def test_no_thaw_outruns_an_order_that_is_covered(
    balance: Amount, thaw: Amount, promised: int, life: int, ask: int, again: Amount
) -> None:
    record = OrderBalance(balance=balance, is_open=True)
    if 0 < thaw <= balance:  # asked for before; it may leave at any moment
        record = msgspec.structs.replace(record, thawing=thaw, thaws_at=NOW - 1)
    order = msgspec.structs.replace(ORDER, valid_until=NOW + life)
    if not o.is_covered(record, order, promised, NOW, PERIOD):
        return
    # The client does what it can, and those whom it owes before are paid.
    if record.thaws_at:
        record, _ = o.withdrawn(record, NOW)
    if 0 < again <= record.balance:
        record = o.thaw_requested(record, again, NOW, PERIOD)
        if NOW + ask > record.thaws_at:
            assert NOW + ask > order.valid_until
            return
        with pytest.raises(LedgerRejected, match="StillThawing"):
            o.withdrawn(record, NOW + ask)
    record = msgspec.structs.replace(record, balance=Amount(record.balance - promised))
    assert o.charged(record, order).balance >= 0


@pytest.mark.parametrize(
    ("life", "promised", "covered"),
    [(PERIOD, 0, True), (PERIOD + 1, 0, False), (-1, 0, False), (0, 7 * UNIT, True),
     (0, 7 * UNIT + 1, False)],
)  # fmt: skip
def test_cover_ends_with_the_period_and_the_money(life: int, promised: int, covered: bool) -> None:
    order = msgspec.structs.replace(ORDER, valid_until=NOW + life)
    assert o.is_covered(FUNDED, order, promised, NOW, PERIOD) is covered


# --- what is signed -----------------------------------------------------------------------------


def test_an_order_is_signed_as_wallets_sign_typed_data() -> None:
    message = {
        "client": ORDER.client, "fee": int(ORDER.fee), "policy": 1, "validUntil": NOW, "nonce": 1,
        "specHash": ORDER.spec_hash, "nodes": [raw(node) for node in NODES[:3]],
    }  # fmt: skip
    typed = encode_typed_data(
        {"name": o.ORDERS_NAME, "version": "1", "chainId": 713714,
         "verifyingContract": DOMAIN.contract},
        {"Order": [
            {"name": "client", "type": "address"}, {"name": "fee", "type": "uint96"},
            {"name": "policy", "type": "uint8"}, {"name": "validUntil", "type": "uint40"},
            {"name": "nonce", "type": "uint64"}, {"name": "specHash", "type": "bytes32"},
            {"name": "nodes", "type": "bytes32[]"},
        ]},
        message,
    )  # fmt: skip
    digest = keccak(b"\x19" + typed.version + typed.header + typed.body)
    assert raw(o.order_id(ORDER, DOMAIN)) == digest
    verify(digest, o.sign_order(DOMAIN, CLIENT, ORDER), CLIENT.account)


def test_a_result_is_signed_as_wallets_sign_typed_data() -> None:
    name = o.order_id(ORDER, DOMAIN)
    typed = encode_typed_data(
        {"name": o.ORDERS_NAME, "version": "1", "chainId": 713714,
         "verifyingContract": DOMAIN.contract},
        {"OrderResult": [
            {"name": "orderId", "type": "bytes32"}, {"name": "node", "type": "bytes32"},
            {"name": "outputDigest", "type": "bytes32"},
        ]},
        {"orderId": raw(name), "node": raw(NODES[0]), "outputDigest": OUTPUT},
    )  # fmt: skip
    digest = keccak(b"\x19" + typed.version + typed.header + typed.body)
    assert o.result_digest(DOMAIN, name, NODES[0], OUTPUT) == digest


def test_every_field_and_every_border_changes_the_order() -> None:
    replaced = msgspec.structs.replace
    changed = [
        replaced(ORDER, client=signer(9).account),
        replaced(ORDER, fee=Amount(UNIT + 1)),
        replaced(ORDER, policy=Policy.TOL32),
        replaced(ORDER, valid_until=NOW + 1),
        replaced(ORDER, nonce=2),
        replaced(ORDER, spec_hash=b"\x07" * 32),
        replaced(ORDER, nodes=NODES[1:4]),
        replaced(ORDER, nodes=(NODES[1], NODES[0], NODES[2])),
    ]
    names = {o.order_id(order, DOMAIN) for order in (ORDER, *changed)}
    domains = [
        replace(DOMAIN, chain_id=1), replace(DOMAIN, contract=CLIENT.account),
        replace(DOMAIN, name="deai channels"),
    ]  # fmt: skip
    names |= {o.order_id(ORDER, domain) for domain in domains}
    assert len(names) == 1 + len(changed) + len(domains)
    for domain in domains:
        assert refusal_of(settlement(), domain=domain) == "BadSignature"


def test_names_of_another_chain_are_no_order() -> None:
    order = msgspec.structs.replace(ORDER, nodes=(NodeId("alice.near#0"),))
    with pytest.raises(MalformedMessage):
        o.order_id(order, replace(DOMAIN, chain_id=1))


def test_a_settlement_survives_the_codec() -> None:
    one = settlement(silent=(1,))
    codec: Codec[Settlement] = Codec(Settlement, max_bytes=10_000)
    assert codec.decode(codec.encode(one)) == one


# --- what settles -------------------------------------------------------------------------------


def test_a_quorum_of_the_seats_settles_and_who_signed_is_paid() -> None:
    assert judged(settlement()) == 0b111
    one = settlement(silent=(1,))
    mask = judged(one)
    assert mask == 0b101
    shared = o.payout(one.order, mask, MEMBERS[:3], fees.paid)
    paid = fees.paid(UNIT, 100_000)
    assert shared == o.Payout((paid, 0, paid), 3 * UNIT - 2 * paid)
    assert refusal_of(settlement(silent=(0, 1))) == "NoQuorum"


@pytest.mark.parametrize("standing", Standing)
def test_only_who_has_stake_to_lose_counts(standing: Standing) -> None:
    members = [msgspec.structs.replace(MEMBERS[0], standing=standing), *MEMBERS[1:]]
    counts = standing in (Standing.PROBATION, Standing.ACTIVE, Standing.UNBONDING)
    assert judged(settlement(), members=members) == (0b111 if counts else 0b110)


def test_an_operator_that_was_rotated_away_does_not_count() -> None:
    members = [msgspec.structs.replace(MEMBERS[0], operator=CLIENT.account), *MEMBERS[1:]]
    assert judged(settlement(), members=members) == 0b110


def test_what_is_wrong_is_told_in_the_contracts_order() -> None:
    replaced = msgspec.structs.replace
    forged = replaced(settlement(), signature=bytes(64), results=(None, None, None))
    poor = OrderBalance(balance=Amount(3 * UNIT - 1), is_open=True)
    faults: dict[str, dict[str, object]] = {
        "NoQuorum": {}, "BadSignature": {}, "Insufficient": {"record": poor},
        "AlreadySettled": {"page": 3}, "PageClosed": {"page": 0}, "TooLate": {"now": NOW + 1},
        "BadOrder": {},
    }  # fmt: skip
    seen: dict[str, object] = {}
    for name, fault in faults.items():
        seen.update(fault)
        one = forged if name != "NoQuorum" else replaced(settlement(), results=forged.results)
        one = replaced(one, output_digest=bytes(32)) if name == "BadOrder" else one
        assert refusal_of(one, **seen) == name


@given(seats=st.integers(1, 15), policy=st.sampled_from(Policy), nonce=st.integers(0, 600))
def test_an_order_has_the_form_of_its_policy(seats: int, policy: Policy, nonce: int) -> None:
    order = msgspec.structs.replace(ORDER, nodes=NODES[:seats], policy=policy, nonce=nonce)
    fits = seats == 1 if policy is Policy.NONE else seats in range(3, 16, 2)
    assert o.is_sound(order, LEAST_FEE) is (fits and nonce not in (0, 256, 512))
    assert not o.is_sound(msgspec.structs.replace(order, fee=Amount(LEAST_FEE - 1)), LEAST_FEE)


def test_an_owner_has_one_voice() -> None:
    twice = (NODES[0], node_id(signer(40).account, 7), NODES[2])
    assert not o.is_sound(msgspec.structs.replace(ORDER, nodes=twice), LEAST_FEE)


def test_a_nonce_is_a_bit_of_a_page() -> None:
    orders = [msgspec.structs.replace(ORDER, nonce=n) for n in (1, 255, 257, o.MAX_NONCE)]
    assert [(one.page, one.bit) for one in orders] == [
        (0, 2), (0, 1 << 255), (1, 2), (o.MAX_PAGE, 1 << 255),
    ]  # fmt: skip


@given(fee=amounts, mask=st.integers(0, 31), points=st.lists(st.integers(0, 10**6), min_size=5,
       max_size=5))  # fmt: skip
def test_payments_and_protocol_fee_are_the_fee_of_every_seat(
    fee: Amount, mask: int, points: list[int]
) -> None:
    order = msgspec.structs.replace(ORDER, fee=fee, nodes=NODES[:5])
    members = [
        Member(key.account, Standing.ACTIVE, r) for key, r in zip(OPERATORS, points, strict=False)
    ]
    shared = o.payout(order, mask, members, fees.paid)
    assert sum(shared.payments) + shared.protocol_fee == order.cost
    assert shared.protocol_fee >= 0
    by_points = sorted(
        (r, paid)
        for i, (r, paid) in enumerate(zip(points, shared.payments, strict=True))
        if mask >> i & 1
    )
    assert all(a[1] <= b[1] for a, b in pairwise(by_points))


def test_a_forged_result_is_no_result() -> None:
    one = settlement()
    bad = msgspec.structs.replace(one, results=(one.results[1], *one.results[1:]))
    assert judged(bad) == 0b110
    with pytest.raises(BadSignature):
        verify(raw(o.order_id(ORDER, DOMAIN)), bytes(64), CLIENT.account)
