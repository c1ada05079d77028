"""The parts that are rules: the state tables, and the arithmetic of fees, reputation, slashes."""

from __future__ import annotations

from typing import Any

from common import MAX96

from deai import channels, lifecycle, orders, standing
from rewards import fees, reputation, slashing


def tables() -> dict[str, Any]:
    """The state tables, as names."""
    return {
        "task": {
            "initial": lifecycle.TaskState.PENDING,
            "transitions": {state: dict(row) for state, row in lifecycle.TRANSITIONS.items()},
            "anybody_ends": {
                state: sorted(events) for state, events in lifecycle.ANYBODY_ENDS.items()
            },
        },
        "seat": {
            "initial": lifecycle.SeatState.HELD,
            "transitions": {state: dict(row) for state, row in lifecycle.SEAT_TRANSITIONS.items()},
        },
        "standing": {
            "initial": standing.Standing.NONE.label,
            "numbers": {state.label: int(state) for state in standing.Standing},
            "transitions": {
                state.label: {event: after.label for event, after in row.items()}
                for state, row in standing.ON_CHAIN.items()
            },
        },
        "channel": {
            "initial": channels.ChannelState.NONE.label,
            "numbers": {state.label: int(state) for state in channels.ChannelState},
            "transitions": {
                state.label: {event: after.label for event, after in row.items()}
                for state, row in channels.CHANNEL_TRANSITIONS.items()
            },
            "exits": {state.label: dict(ways) for state, ways in channels.CHANNEL_EXITS.items()},
        },
        "order_balance": {
            "initial": orders.BalanceState.NONE.label,
            "numbers": {state.label: int(state) for state in orders.BalanceState},
            "transitions": {
                state.label: {event: after.label for event, after in row.items()}
                for state, row in orders.BALANCE_TRANSITIONS.items()
            },
        },
    }


def arithmetic() -> dict[str, Any]:
    """Fees, reputation and slashes; amounts as decimal text."""
    amounts = [1, 2, 9, 10, 999, 10**6, 10**18, 123456789012345678901, MAX96]
    points = [0, 1, 19, 20, 100_000, 100_001, 123_456, 500_000, 999_999, 1_000_000]
    scales = [1, 10**15, 10**18, MAX96]
    seats = [
        {
            "fee": str(fee),
            "reputation": before,
            "w0": str(w0),
            "paid": str(fees.paid(fee, before)),
            "protocolCut": str(fees.protocol_cut(fee, before)),
            "faultPaid": str(fees.fault_paid(fee)),
            "success": reputation.success(before, fee, w0),
            "lostVote": reputation.lost_vote(before, fee, w0),
            "silent": reputation.silent(before),
        }
        for fee in amounts
        for before in points
        for w0 in scales
    ]
    idle = [
        {"reputation": before, "weeks": weeks, "after": reputation.idle(before, weeks)}
        for before in points
        for weeks in (0, 1, 2, 10, 52, 200)
    ]
    slashes = []
    for bonded in (0, 1, 4, 5, 6, 10**18, MAX96 // 2):
        for unbonding in (0, 1, 10**17):
            for bounty in (0, 1, 10**16, MAX96):
                split = slashing.equivocation(bonded, unbonding, bounty)
                slashes.append(
                    {
                        "bonded": str(bonded),
                        "unbonding": str(unbonding),
                        "fixedBounty": str(bounty),
                        "amount": str(split.amount),
                        "fromBonded": str(split.from_bonded),
                        "bounty": str(split.bounty),
                        "burned": str(split.burned),
                    }
                )
    return {"seats": seats, "idle": idle, "slashes": slashes}
