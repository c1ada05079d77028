"""What a node tells about itself: the documents of `status`, `why`, `tasks` and `earnings`.

The command line, the local HTTP interface and the metrics all read these. Amounts are decimal
strings in base units, times RFC 3339 UTC. Each part of a status fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import trio

from deai import __version__
from deai.errors import DeaiError
from deai.ids import hexed, owner_of
from node.state import Node, Reason
from node.store.records import Day, Saved

Document: TypeAlias = dict[str, Any]
PART_TIMEOUT: Final = 5.0


def when(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339, None for never."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def status(node: Node) -> Document:
    """The one screen: everything an operator looks at first."""
    return {
        "node_id": node.ports.node,
        "state": node.mode.value,
        "version": __version__,
        "owner": owner_of(node.ports.node),
        "operator": node.ports.signer.account,
        "peer_id": node.ports.net.peer_id,
        "addresses": list(node.ports.net.addresses),
        "started_at": when(node.started_at),
        "chains": {node.info.name: _chain(node)},
        "peers": _part(lambda: _peers(node)),
        "standing": node.record.standing.label if node.record is not None else None,
        "stake": str(node.record.stake) if node.record is not None else None,
        "reputation": node.record.reputation / 1000 if node.record is not None else None,
        "tasks": await _tasks(node),
        "balance": await _balance(node),
        "workers": _part(lambda: dict(node.ports.workbench.stats())),
        "sandbox": _part(lambda: node.ports.workbench.sandbox.level),
        "last_heartbeat_seen": when(max(node.hubs.values(), default=None)),
        "offers": [
            {"workload": info.id, "base_fee": str(node.config.price(info.id).base),
             "unit_fee": str(node.config.price(info.id).unit)}
            for info in node.offered()
        ],
        "problems": problems(node),
    }  # fmt: skip


def problems(node: Node) -> list[Document]:
    """What is wrong now."""
    return [
        {"code": one.code, "message": one.message, "hint": one.hint, "since": when(one.since)}
        for one in node.problems.values()
    ]


def why(node: Node) -> Document:
    """Why work did not come or was not finished: counted reasons, the most frequent first."""
    now = [
        Reason(one.code, one.message, one.hint, one.since, one.since, 0)
        for one in node.problems.values()
        if one.code not in node.reasons
    ]
    counted = sorted(node.reasons.values(), key=lambda one: -one.count)
    return {
        "asked": node.counters["proposals"],
        "accepted": node.counters["accepted"],
        "paid": node.counters["ended.paid"],
        "reasons": [
            {
                "code": one.code,
                "message": one.message,
                "hint": one.hint,
                "since": when(one.since),
                "count": one.count,
            }
            for one in (*now, *counted)
        ],
    }


async def tasks(node: Node, limit: int = 100) -> Document:
    """The newest engagements, open ones first."""
    return task_list(await node.ports.journal.history(limit), node)


def task_list(history: Sequence[Saved], node: Node | None = None) -> Document:
    """Engagements of a journal; with the live node also how far the open ones are."""
    items = []
    for saved in history:
        live = node.engagements.get(saved.key.task_id) if node is not None else None
        if live is not None and live.key != saved.key:
            live = None
        items.append(
            {
                "task_id": saved.key.task_id,
                "seat": saved.key.seat,
                "attempt": saved.key.attempt,
                "workload": saved.spec.workload,
                "policy": saved.task.policy.label,
                "fee": str(int(saved.task.fee)),
                "state": saved.outcome or _state(saved),
                "progress": round(live.done, 3) if live is not None else None,
                "output_digest": hexed(saved.result.digest) if saved.result else None,
                "paid": str(saved.payment),
                "reason": saved.reason or None,
                "accepted_at": when(saved.accepted_at),
                "ended_at": when(saved.ended_at),
            }
        )
    return {"items": items, "next_cursor": None}


def _state(saved: Saved) -> str:
    if saved.result is not None:
        return "committed"
    return "computing" if saved.has_input else "accepted"


async def earnings(node: Node) -> Document:
    """The one calculation of what this node earned: sums over its settled seats."""
    open_ = await node.ports.journal.open_engagements()
    slashed = await node.ports.journal.slashed()
    return earned(await node.ports.journal.days(), open_, slashed=slashed)


def earned(days: Sequence[Day], open_: Sequence[Saved], *, slashed: int) -> Document:
    """Sum up a journal; `pending` is the fees of seats that committed and are not settled."""
    by_day: dict[str, int] = {}
    by_workload: dict[str, int] = {}
    for one in days:
        by_day[one.day] = by_day.get(one.day, 0) + one.paid
        by_workload[one.workload] = by_workload.get(one.workload, 0) + one.paid
    pending = sum(int(one.task.fee) for one in open_ if one.result is not None)
    return {
        "paid": str(sum(by_day.values())),
        "pending": str(pending),
        "forfeited": str(sum(one.forfeited for one in days)),
        "slashed": str(slashed),
        "tasks": {
            "paid": sum(one.tasks - one.unpaid for one in days),
            "failed": sum(one.unpaid for one in days),
        },
        "by_day": [{"day": day, "paid": str(paid)} for day, paid in sorted(by_day.items())],
        "by_workload": [
            {"workload": name, "paid": str(paid)} for name, paid in sorted(by_workload.items())
        ],
    }


def _part(read: Callable[[], Any]) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return read()
    except DeaiError as error:
        return {"error": error.reason_code, "message": str(error)}


def _chain(node: Node) -> Mapping[str, Any]:
    if node.head is None:
        return {"head": None, "lag_s": None, "reachable": False}
    return {
        "head": node.head.number,
        "lag_s": round(max(0.0, trio.current_time() - node.head_at), 1),
        "reachable": "chain_unreachable" not in node.problems,
    }


def _peers(node: Node) -> Document:
    return {"hubs": len(node.hubs), **node.ports.net.stats()}


async def _tasks(node: Node) -> Document:
    summary = {
        "running": node.running,
        "pending": sum(one.result is not None for one in node.engagements.values()),
        "accepted": len(node.engagements),
    }
    try:
        days = await node.ports.journal.days()
    except DeaiError as error:
        return {**summary, "error": error.reason_code}
    return {
        **summary,
        "paid": sum(one.tasks - one.unpaid for one in days),
        "failed": sum(one.unpaid for one in days),
    }


async def _balance(node: Node) -> Document:
    try:
        with trio.fail_after(PART_TIMEOUT):
            operator = await node.ports.ledger.balances(node.ports.signer.account)
            owner = await node.ports.ledger.balances(node.record_owner)
    except (DeaiError, trio.TooSlowError) as error:
        return {"error": getattr(error, "reason_code", "timeout")}
    return {"gas": str(operator.gas), "tokens": str(owner.tokens), "vault": str(owner.vault)}
