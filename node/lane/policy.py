"""When vouchers are worth a transaction: a pure decision per account."""

from __future__ import annotations

from dataclasses import dataclass

from node.config import Lane
from node.lane.tables import Entry

HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the decision depends on beside the account; times in Unix seconds."""

    now: int
    chain_time: int
    gas_price: int
    is_draining: bool


def why_redeem(entry: Entry, lane: Lane, seen: Circumstances, *, is_asked: bool = False) -> str:
    """`closing`, `asked`, `draining`, `amount` or `age`; empty to wait."""
    worth = entry.unredeemed
    if not worth:
        return ""
    if is_asked:
        return "asked"
    if worth < lane.least:
        return ""
    if entry.closes_at:
        # After the last second that it pays in, a voucher is paper.
        return "closing" if seen.chain_time <= entry.closes_at else ""
    if seen.is_draining:
        return "draining"
    if lane.max_gas_price and seen.gas_price > lane.max_gas_price:
        return ""
    if worth >= lane.amount:
        return "amount"
    # What was promised far in the future was so by a clock that ran ahead: it may be of any age.
    return "age" if abs(seen.now - entry.owed_since) >= lane.redeem_hours * HOUR else ""
