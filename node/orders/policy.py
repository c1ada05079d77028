"""When orders are worth a transaction: pure decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from deai.ids import AccountId
from node.config import OrderTerms
from node.orders.records import Held, OrderState

BATCH: Final = 50
"""Orders in a transaction: 51,868 gas each for fifty clients of three seats."""
STAGGER: Final = 30
"""Seconds by which each seat waits for the one before it: only one of them pays for the gas."""
MOMENT: Final = 5
"""The same where an order is about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the decision depends on beside the orders; `now` in chain seconds."""

    now: int
    gas_price: int
    is_draining: bool
    short: Mapping[AccountId, int] = field(default_factory=dict)
    """Clients whose balance barely covers what we hold, and since when that is known: others may
    be paid before us."""


def _exposed(waiting: Iterable[Held], terms: OrderTerms) -> Collection[AccountId]:
    """Clients of whom we hold as much as is risked for one.

    Until it is settled it is no money: others are paid from the same balance, and the seats beside
    ours, which the client chose, may have other keys by then, or none.
    """
    sums: dict[AccountId, int] = {}
    for one in waiting:
        sums[one.order.client] = sums.get(one.order.client, 0) + int(one.order.fee)
    return {client for client, held in sums.items() if held >= terms.most_at_risk}


def _urgent(
    held: Held, terms: OrderTerms, seen: Circumstances, exposed: Collection[AccountId]
) -> str:
    """Why an order is settled whatever else waits; empty if nothing presses."""
    client = held.order.client
    later = min(MOMENT * held.rank, terms.settle_margin // 2)
    if held.order.valid_until - seen.now <= terms.settle_margin - later:
        return "expiring"
    if seen.is_draining:
        return "draining"
    # All seats learn of it together: they are not made to race.
    if seen.now - max(held.secured_at, seen.short.get(client, 0)) < MOMENT * held.rank:
        return ""
    if client in seen.short:
        return "short"
    return "exposed" if client in exposed else ""


def due(
    orders: Iterable[Held], terms: OrderTerms, seen: Circumstances
) -> tuple[Sequence[Held], str]:
    """Orders to settle now, at most a batch of them, and why; the most pressing ones first.

    Once a transaction is worth its gas everything that waits goes along.
    """
    waiting = [
        one
        for one in orders
        if one.state is OrderState.SECURED and seen.now <= one.order.valid_until
    ]
    exposed = _exposed(waiting, terms)
    reasons = {one.id: _urgent(one, terms, seen, exposed) for one in waiting}
    waiting.sort(key=lambda one: (not reasons[one.id], one.order.valid_until))
    pressing = next((why for one in waiting if (why := reasons[one.id])), "")
    if pressing:
        return waiting[:BATCH], pressing
    if terms.max_gas_price and seen.gas_price > terms.max_gas_price:
        return (), ""
    ours = [one for one in waiting if seen.now - one.secured_at >= STAGGER * one.rank]
    if len(ours) >= terms.settle_count:
        return ours[:BATCH], "count"
    if sum(int(one.order.fee) for one in ours) >= terms.amount:
        return ours[:BATCH], "amount"
    age = terms.settle_minutes * 60
    if any(seen.now - one.secured_at >= age + STAGGER * one.rank for one in ours):
        return ours[:BATCH], "age"
    return (), ""
