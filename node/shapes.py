"""Documents put together from a part per chain, whether a daemon runs or not.

A node on one chain tells of it as it always did. On two, what stands at the top is that of the
chain set up first (sums: of both), and each chain's part is there in full beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from deai.ids import ChainName, hexed
from deai.pools import PoolRecord
from node.store.journal import Journal
from node.store.records import Day, Saved

Document: TypeAlias = dict[str, Any]
_FIRST: Final = (
    "node_id", "owner", "operator", "standing", "stake", "reputation", "balance", "lane", "orders",
    "pool",
)  # fmt: skip
_HEAD: Final = ("head", "lag_s", "reachable")


def when(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339, None for never."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pool_part(pool: PoolRecord | None, income: int) -> Document | None:
    """What a node tells of its pool; None where it takes no delegations."""
    if pool is None:
        return None
    return {
        "state": pool.state.label,
        "manager": pool.manager,
        "commission_bps": pool.commission,
        "assets": str(int(pool.assets)),
        "own": str(int(pool.own)),
        "delegated": str(int(pool.delegated)),
        "income": str(income),
    }


def joined(parts: Mapping[ChainName, Document]) -> Document:
    """Of a status: what is told of chains; `parts` begin with the one set up first."""
    first = next(iter(parts.values()))
    if len(parts) == 1:
        chains = {name: {key: part[key] for key in _HEAD} for name, part in parts.items()}
    else:
        chains = dict(parts)
    tasks: dict[str, Any] = {}
    for part in parts.values():
        for key, value in part["tasks"].items():
            tasks[key] = tasks.get(key, 0) + value if isinstance(value, int) else value
    return {**{key: first[key] for key in _FIRST}, "chains": chains, "tasks": tasks}


def listed(
    histories: Mapping[ChainName, Sequence[tuple[Saved, float | None]]], limit: int
) -> Document:
    """Engagements of each chain's journal, each with how far an open one is (0 to 1)."""
    found = [
        (saved, done, {"chain": chain} if len(histories) > 1 else {})
        for chain, history in histories.items()
        for saved, done in history
    ]
    # As each journal sorts its own: open ones first, then the newest.
    found.sort(key=lambda one: (one[0].ended_at is not None,
                                -(one[0].ended_at or 0), -one[0].accepted_at))  # fmt: skip
    items = [
        {
            "task_id": saved.key.task_id,
            **chain,
            "seat": saved.key.seat,
            "attempt": saved.key.attempt,
            "workload": saved.spec.workload,
            "policy": saved.task.policy.label,
            "fee": str(int(saved.task.fee)),
            "state": saved.outcome or _state(saved),
            "progress": round(done, 3) if done is not None else None,
            "output_digest": hexed(saved.result.digest) if saved.result else None,
            "paid": str(saved.payment),
            "reason": saved.reason or None,
            "accepted_at": when(saved.accepted_at),
            "ended_at": when(saved.ended_at),
        }
        for saved, done, chain in found[:limit]
    ]
    return {"items": items, "next_cursor": None}


def _state(saved: Saved) -> str:
    if saved.result is not None:
        return "committed"
    return "computing" if saved.has_input else "accepted"


async def earned(journals: Mapping[ChainName, Journal | None]) -> Document:
    """Sum up journals, None where the node never ran.

    `pending` is the fees of seats that committed and are not settled.
    """
    days: list[Day] = []
    open_: list[Saved] = []
    slashed, by_chain = 0, {}
    for chain, journal in journals.items():
        own: tuple[Sequence[Day], Sequence[Saved], int] = ((), (), 0)
        if journal is not None:
            own = (await journal.days(), await journal.open_engagements(), await journal.slashed())
        by_chain[chain] = _sums(*own)
        days, open_, slashed = [*days, *own[0]], [*open_, *own[1]], slashed + own[2]
    by_day: dict[str, int] = {}
    by_workload: dict[str, int] = {}
    for one in days:
        by_day[one.day] = by_day.get(one.day, 0) + one.paid
        by_workload[one.workload] = by_workload.get(one.workload, 0) + one.paid
    return {
        **_sums(days, open_, slashed),
        "by_day": [{"day": day, "paid": str(paid)} for day, paid in sorted(by_day.items())],
        "by_workload": [
            {"workload": name, "paid": str(paid)} for name, paid in sorted(by_workload.items())
        ],
        **({"by_chain": by_chain} if len(by_chain) > 1 else {}),
    }


def _sums(days: Sequence[Day], open_: Sequence[Saved], slashed: int) -> Document:
    return {
        "paid": str(sum(one.paid for one in days)),
        "pending": str(sum(int(one.task.fee) for one in open_ if one.result is not None)),
        "forfeited": str(sum(one.forfeited for one in days)),
        "slashed": str(slashed),
        "tasks": {
            "paid": sum(one.tasks - one.unpaid for one in days),
            "failed": sum(one.unpaid for one in days),
        },
    }
