"""The task document of an order, in the form of every other task's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from deai.client.orders.book import OrderEntry
from deai.client.orders.round import SeatPhase, SeatView
from deai.events import OrderSettled
from deai.ids import hexed, owner_of

SETTLED: Final = "settled"
EXPIRED: Final = "expired"
OPEN: Final = "open"
_SEATS: Final[Mapping[SeatPhase, str]] = {
    SeatPhase.ASKED: "asked",
    SeatPhase.TAKEN: "assigned",
    SeatPhase.SIGNED: "signed",
    SeatPhase.TURNED: "failed",
}


def order_document(
    entry: OrderEntry,
    *,
    state: str,
    detail: str,
    seats: Sequence[SeatView] = (),
    path: str = "",
    size: int | None = None,
    receipt: str = "",
    timings: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What `task submit` and `task show` print; sums are decimal strings in base units.

    The money is held until a node settles the order, which may be minutes after its end.
    """
    placed = entry.placed
    order, digest = placed.order, placed.output_digest
    agreed = sum(one is not None for one in placed.results)
    is_owed = digest is not None
    cost = str(order.cost)
    return {
        "task_id": placed.order_id,
        "workload": placed.spec.workload,
        "chain": str(entry.chain),
        "lane": "order",
        "policy": order.policy.label,
        "state": state,
        "detail": detail,
        "attempts": [_seat(entry, seat, seats) for seat in range(len(order.nodes))],
        "result": {
            "digest": hexed(digest), "bytes": size, "path": path or None, "agreed": agreed,
            "seats": len(order.nodes),
        } if digest is not None else None,
        "escrowed": cost if is_owed else "0",
        "held": cost if is_owed else "0",
        "paid": "0",
        "refunded": "0",
        "protocol_fee": "0",
        "payments": [],
        "transactions": [],
        "receipt": receipt or None,
        "timings": dict(timings or {}),
        "order": {
            "nonce": order.nonce,
            "valid_until": _when(order.valid_until),
            "settlement": OPEN if is_owed else None,
        },
    }  # fmt: skip


def settled_document(document: dict[str, Any], event: OrderSettled) -> dict[str, Any]:
    """The document once the chain has settled the order."""
    payments = [
        {"provider": owner_of(node), "amount": str(int(paid))}
        for node, paid in zip(event.order.nodes, event.payments, strict=True)
        if paid
    ]
    paid = sum(int(one) for one in event.payments)
    attempts = [
        {**one, "state": "paid"} if int(amount) else one
        for one, amount in zip(document["attempts"], event.payments, strict=True)
    ]
    return {
        **document,
        "attempts": attempts,
        "escrowed": str(event.order.cost),
        "held": "0",
        "paid": str(paid),
        "protocol_fee": str(event.protocol_fee),
        "payments": payments,
        "order": {**document["order"], "settlement": SETTLED},
    }


def expired_document(document: dict[str, Any]) -> dict[str, Any]:
    """The document of an order that nobody settled in time: it cost nothing."""
    return {
        **document,
        "held": "0",
        "refunded": document["escrowed"],
        "order": {**document["order"], "settlement": EXPIRED},
    }


def _seat(entry: OrderEntry, seat: int, seats: Sequence[SeatView]) -> dict[str, Any]:
    placed = entry.placed
    node = placed.order.nodes[seat]
    view = seats[seat] if seats else None
    signed = bool(placed.results) and placed.results[seat] is not None
    digest = view.digest if view is not None else placed.output_digest if signed else None
    state = "signed" if signed else _SEATS[view.phase] if view is not None else "assigned"
    reason = view.reason if view is not None else ""
    if view is not None and view.phase is SeatPhase.SIGNED and not signed:
        state, reason = "failed", reason or "signed another digest than the quorum"
    return {
        "attempt": 0,
        "seat": seat,
        "node_id": node,
        "provider": owner_of(node),
        "fee": str(int(placed.order.fee)),
        "state": state,
        "output_digest": hexed(digest) if digest is not None else None,
        "reason": reason,
        "started_at": _when(int(entry.created)),
        "ended_at": None,
    }


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
