"""When orders are worth a transaction: the table of the policy."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deai.ids import AccountId, NodeId, OrderId
from deai.money import UNIT, Amount
from deai.orders import Order
from deai.tasks import Policy, TaskSpec
from node.config import OrderTerms
from node.orders import policy
from node.orders.policy import Circumstances, due
from node.orders.records import Held, OrderState
from tests.node.orders.scripted import FEE
from tests.node.support.names import key

TERMS = OrderTerms(exposure="2CT", settle_count=3, settle_amount="1CT", settle_minutes=10,
                   settle_margin=60, max_gas_price=50)  # fmt: skip
CLIENT = key("a").account
NODES = tuple(NodeId("0x" + f"{i:02x}" * 20 + "00" * 12) for i in range(1, 4))


def order(
    number: int = 1, *, secured_at: int = 0, fee: Amount = FEE, until: int = 5000, seat: int = 0,
    state: OrderState = OrderState.SECURED, client: AccountId = CLIENT,
) -> Held:  # fmt: skip
    spec = TaskSpec(
        domain="1:0x", workload="shout", workload_version=1, model="", input_digest=bytes(32),
        input_bytes=0, parameters=b"", salt=bytes(32),
    )  # fmt: skip
    return Held(
        id=OrderId("0x" + f"{number:064x}"),
        order=Order(client, fee, Policy.EXACT, until, number, bytes(32), NODES),
        signature=bytes(64), spec=spec, seat=seat, peer="peer", taken_at=0, state=state,
        digest=bytes(32), results=(bytes(64),) * 3, secured_at=secured_at,
    )  # fmt: skip


def at(
    now: int, *, gas_price: int = 10, is_draining: bool = False,
    short: Mapping[AccountId, int] | None = None,
) -> Circumstances:  # fmt: skip
    return Circumstances(now=now, gas_price=gas_price, is_draining=is_draining, short=short or {})


POLICY: dict[str, tuple[list[Held], Circumstances, int, str]] = {
    "nothing": ([], at(100), 0, ""),
    "a young one": ([order()], at(599), 0, ""),
    "an old one": ([order()], at(600), 1, "age"),
    "an old one takes the young ones along": (
        [order(), order(2, secured_at=500)], at(600), 2, "age"
    ),
    "as many as are worth a transaction": ([order(n) for n in (1, 2, 3)], at(100), 3, "count"),
    "as much as is worth one": ([order(fee=Amount(UNIT))], at(100), 1, "amount"),
    "nothing that is not secured": ([order(state=OrderState.SIGNED)], at(4990), 0, ""),
    "nothing that has ended": ([order(until=50)], at(100), 0, ""),
    "gas is dear": ([order(n) for n in (1, 2, 3)], at(900, gas_price=51), 0, ""),
    "gas is dear, but it is about to end": ([order()], at(4940, gas_price=51), 1, "expiring"),
    "a later seat lets the first one do it": ([order(seat=2, secured_at=4900)], at(4940), 0, ""),
    "and does it itself then": ([order(seat=2, secured_at=4900)], at(4950), 1, "expiring"),
    "a later seat waits longer": ([order(seat=1)], at(629), 0, ""),
    "but not for ever": ([order(seat=1)], at(630), 1, "age"),
    "as much of one client as is risked": (
        [order(n, fee=Amount(UNIT)) for n in (1, 2)], at(100, gas_price=51), 2, "exposed"
    ),
    "less of each of two": (
        [order(1, fee=Amount(UNIT)), order(2, fee=Amount(UNIT), client=key("b").account)],
        at(100, gas_price=51), 0, "",
    ),
    "the client has little left": ([order()], at(100, short={CLIENT: 99}), 1, "short"),
    "and a later seat lets the first one do it": (
        [order(seat=2)], at(109, short={CLIENT: 100}), 0, ""
    ),
    "for a moment": ([order(seat=2)], at(110, short={CLIENT: 100}), 1, "short"),
    "also when it had little before": (
        [order(seat=2, secured_at=100)], at(109, short={CLIENT: 5}), 0, ""
    ),
    "somebody else has little": ([order()], at(100, short={key("b").account: 99}), 0, ""),
    "the node leaves": ([order()], at(100, gas_price=51, is_draining=True), 1, "draining"),
}  # fmt: skip


@pytest.mark.parametrize(("orders", "seen", "count", "why"), POLICY.values(), ids=POLICY.keys())
def test_orders_are_settled_when_they_are_worth_it(
    orders: list[Held], seen: Circumstances, count: int, why: str
) -> None:
    chosen, reason = due(orders, TERMS, seen)
    assert (len(chosen), reason) == (count, why)


def test_no_more_go_together_than_a_transaction_holds_and_the_pressing_ones_go_first() -> None:
    many = [order(n, until=5000 + n) for n in range(1, 80)]
    hurried = order(99, client=key("b").account, until=9000)
    chosen, why = due([*many, hurried], TERMS, at(100, short={key("b").account: 9}))
    assert why == "short"
    assert len(chosen) == policy.BATCH
    assert chosen[0] is hurried
