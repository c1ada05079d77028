"""The part about signed orders: signatures at the edges of their fields, shares, random runs."""

from __future__ import annotations

from typing import Any, Final

from common import MAX96, RANDOM, bytes32, domain_document, random_signer

from deai import orders
from deai.errors import IllegalTransition, LedgerRejected
from deai.ids import AccountId, NodeId, hexed, node_id
from deai.money import Amount
from deai.orders import Member, Order, OrderBalance
from deai.signing import Domain
from deai.standing import Standing
from deai.tasks import Policy
from rewards import fees

OPS: Final = ("fund", "settle", "requestThaw", "withdraw")
WEIGHTS: Final = {
    orders.BalanceState.NONE: (6, 1, 1, 1),
    orders.BalanceState.FUNDED: (2, 6, 2, 1),
    orders.BalanceState.THAWING: (2, 6, 2, 4),
}
"""How likely each of `OPS` is tried in each state."""
PERIOD: Final = 100
START: Final = 1_800_000_000
LEAST_FEE: Final = 1_000_000
LIFE: Final = 60
"""Seconds for which the orders of a run are valid."""


def order_vectors() -> dict[str, Any]:
    """Orders: ids and signatures, what each seat is paid, and runs of a client's balance."""
    contract = AccountId(hexed(RANDOM.randbytes(20)))
    domains = [Domain(orders.ORDERS_NAME, number, contract) for number in (1329, 713714)]
    return {
        "cases": [
            {"domain": domain_document(domain), **_case(domain, number)}
            for domain in domains
            for number in range(5)
        ],
        "shares": [_share(number) for number in range(24)],
        "ops": OPS,
        "period": PERIOD,
        "start": START,
        "leastFee": LEAST_FEE,
        "runs": [_run(40) for _ in range(10)],
    }


def _case(domain: Domain, number: int) -> dict[str, Any]:
    """An order with what all its parties sign; the first two at the edges of every field."""
    seats = [1, 15, 3, 5, 7][number]
    secret, client = random_signer()
    owners = [AccountId(hexed(RANDOM.randbytes(20))) for _ in range(seats)]
    keys = [random_signer() for _ in range(seats)]
    nodes: list[NodeId] = [
        node_id(owner, [0, 2**96 - 1, RANDOM.getrandbits(20)][min(number, 2)]) for owner in owners
    ]
    output = [bytes(31) + b"\x01", b"\xff" * 32, bytes32()][min(number, 2)]
    order = Order(
        client.account,
        Amount([1, MAX96 // 15, RANDOM.getrandbits(80) + 1][min(number, 2)]),
        [Policy.NONE, Policy.TOL32, Policy.EXACT][min(number, 2)],
        [0, 2**40 - 1, RANDOM.getrandbits(31)][min(number, 2)],
        [1, orders.MAX_NONCE, RANDOM.getrandbits(64) | 1][min(number, 2)],
        [bytes(32), b"\xff" * 32, bytes32()][min(number, 2)],
        tuple(nodes),
    )
    name = orders.order_id(order, domain)
    return {
        "order": {
            "client": order.client,
            "fee": str(order.fee),
            "policy": int(order.policy),
            "validUntil": order.valid_until,
            "nonce": str(order.nonce),
            "specHash": hexed(order.spec_hash),
        },
        "nodes": nodes,
        "orderId": name,
        "secret": secret,
        "signature": hexed(orders.sign_order(domain, client, order)),
        "outputDigest": hexed(output),
        "operators": [key.account for _, key in keys],
        "secrets": [one for one, _ in keys],
        "digests": [hexed(orders.result_digest(domain, name, node, output)) for node in nodes],
        "results": [
            hexed(orders.sign_result(domain, key, name, node, output))
            for node, (_, key) in zip(nodes, keys, strict=True)
        ],
    }


def _share(number: int) -> dict[str, Any]:
    """What the seats that signed are paid, and what the rest is; some are below the quorum."""
    seats = (1, 3, 3, 5)[number % 4]
    mask = RANDOM.getrandbits(seats) | (0 if number % 3 else (1 << seats) - 1)
    fee = Amount(RANDOM.choice([LEAST_FEE, 10**18 + 7, 123_456_789_012_345_678_901]))
    members = [
        Member(
            AccountId(""), Standing.ACTIVE, RANDOM.choice([0, 99_999, 100_000, 512_345, 1_000_000])
        )
        for _ in range(seats)
    ]
    nodes = tuple(node_id(AccountId(hexed(bytes([i + 1]) * 20)), 0) for i in range(seats))
    order = Order(
        AccountId("0x" + "11" * 20), fee, Policy.NONE if seats == 1 else Policy.EXACT, START, 1,
        bytes(32), nodes,
    )  # fmt: skip
    settled = mask.bit_count() >= order.quorum
    paid = orders.payout(order, mask, members, fees.paid)
    return {
        "fee": str(fee),
        "seats": seats,
        "signed": mask,
        "reputations": [member.reputation for member in members],
        "settled": settled,
        "payments": [str(one) if settled else "0" for one in paid.payments],
        "protocolFee": str(paid.protocol_fee) if settled else "0",
    }


def _step(
    record: OrderBalance, op: str, amount: Amount, valid_until: int, now: int
) -> tuple[OrderBalance, int, int]:
    """The record after a step, what was settled, what left."""
    match op:
        case "fund":
            return orders.funded(record, amount), 0, 0
        case "requestThaw":
            return orders.thaw_requested(record, amount, now, PERIOD), 0, 0
        case "withdraw":
            record, left = orders.withdrawn(record, now)
            return record, 0, left
    client, node = AccountId("0x" + "11" * 20), node_id(AccountId("0x" + "22" * 20), 0)
    order = Order(client, amount, Policy.NONE, valid_until, 1, bytes(32), (node,))
    if not orders.is_sound(order, LEAST_FEE):
        raise LedgerRejected("BadOrder", {})
    if now > valid_until:
        raise LedgerRejected("TooLate", {})
    if not record.is_open:
        raise LedgerRejected("PageClosed", {})
    return orders.charged(record, order), order.cost, 0


def _run(length: int) -> dict[str, Any]:
    """Random calls of one client, and what is so after each; orders are `none/1`, nonce 1, 2 …"""
    record, now, settled, left = OrderBalance(), START, 0, 0
    columns: dict[str, list[Any]] = {
        name: [] for name in (
            "ops", "amounts", "validUntil", "times", "errors", "states", "balances", "thawing",
            "thawsAt", "settled", "withdrawn",
        )
    }  # fmt: skip
    for _ in range(length):
        op = RANDOM.choices(OPS, WEIGHTS[record.state])[0]
        unit = LEAST_FEE
        amount = RANDOM.choice([0, unit, *(RANDOM.randrange(unit, 400 * unit) for _ in range(6))])
        if op == "settle":
            amount = RANDOM.choice([unit - 1, unit, *(RANDOM.randrange(60) * unit,) * 5])
        if op == "requestThaw" and RANDOM.random() < 0.7:
            amount = RANDOM.randrange(record.balance + 1)
        now += RANDOM.choice([0, 0, 1, 40, PERIOD])
        if record.thaws_at and RANDOM.random() < 0.4:
            now = max(now, record.thaws_at + RANDOM.randrange(2))
        valid_until = now + RANDOM.choice([0, 1, LIFE, -1])
        error = ""
        try:
            record, cost, out = _step(record, op, Amount(amount), valid_until, now)
            settled, left = settled + cost, left + out
        except IllegalTransition:
            error = "BadState"
        except LedgerRejected as refused:
            error = refused.name
        row = (
            OPS.index(op), amount, valid_until, now, error, int(record.state), record.balance,
            record.thawing, record.thaws_at, settled, left,
        )  # fmt: skip
        for column, value in zip(columns.values(), row, strict=True):
            column.append(int(value) if isinstance(value, int) else value)
    return columns
