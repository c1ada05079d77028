"""What API, pages and live events say: documents made of rows, pure and in one place.

Amounts are decimal text in base units, times RFC 3339 UTC, ids in their chain's own form, digests
`0x` + hex.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from coordinator.presence import count, is_active, state_of, status_of
from coordinator.store.rows import Row, rfc3339
from deai.codec import Codec, encode_json
from deai.errors import ProtocolError
from deai.lifecycle import TaskState
from deai.money import UNIT
from deai.offers import MAX_OFFER_BYTES, Offer
from deai.pools import LEVERAGE, PoolState, worth
from deai.standing import Standing

Document = dict[str, Any]

_OFFERS: Final = Codec[Offer](Offer, MAX_OFFER_BYTES)

CHANNEL_MONEY: Final = ("deposited", "redeemed", "returned")
CHANNEL_STATES: Final = ("open", "closing", "closed")
_CHANNEL_FIELDS: Final = (
    "channel_id",
    "chain",
    "client",
    "node_id",
    "owner",
    "session_key",
    "state",
    "epoch",
    "deposit",
    "claimed",
    "refunded",
    "redeemed",
    "receipts_root",
    "opened_block",
)
_POOL_SUMS: Final = (
    "assets",
    "shares",
    "manager_shares",
    "queued",
    "leaving",
    "income",
    "paid_out",
)
STALE_SECONDS: Final = 15.0
"""A chain that the follower has not heard of for this long is not followed."""


def stats_document(
    *, chains: Sequence[Row], totals: Sequence[Row], nodes: Sequence[Row],
    completed: Mapping[str, int], window: int, durations: Sequence[int], now: float,
) -> Document:  # fmt: skip
    """`GET /api/v1/network/stats`.

    `completed`: by chain, the tasks that ended well in its last `window` seconds.
    """
    by_chain = {
        row["chain"]: sums_document(
            chains=[row],
            totals=[one for one in totals if one["chain"] == row["chain"]],
            nodes=[one for one in nodes if one["chain"] == row["chain"]],
            completed=completed.get(row["chain"], 0),
            window=window,
            now=now,
        )
        for row in chains
    }
    whole = sums_document(
        chains=chains, totals=totals, nodes=nodes, completed=sum(completed.values()),
        window=window, now=now,
    )  # fmt: skip
    return whole | {
        "completion_ms": _percentiles(durations),
        "chains": {row["chain"]: chain_document(row, now) for row in chains},
        "by_chain": by_chain,
        "as_of": rfc3339(round(now, 3)),
    }


def sums_document(
    *, chains: Iterable[Row], totals: Sequence[Row], nodes: Iterable[Row], completed: int,
    window: int, now: float,
) -> Document:  # fmt: skip
    """The figures that are told of each chain, and of all together."""
    states, active, staked = [], 0, 0
    for row in nodes:
        status = status_of(row, now)
        states.append(state_of(row, status))
        active += is_active(row, status)
        staked += int(row["bonded"]) + int(row["unbonding"])
    by_state = {state.value: _sum(totals, state.value) for state in TaskState}
    stakes = [
        int(parameters["min_stake"])
        for row in chains
        if "min_stake" in (parameters := json.loads(row["parameters"]))
    ]
    return {
        "nodes": len(states),
        "active_nodes": active,
        "nodes_by_state": count(states),
        "pending_tasks": by_state["pending"],
        "open_tasks": by_state["pending"] + by_state["assigned"] + by_state["in_progress"],
        "tasks_by_state": by_state,
        "throughput": round(completed / window, 4),
        "total_staked": str(staked),
        "total_rewards_distributed": str(_sum(totals, "rewarded")),
        "rewarded_seats": _sum(totals, "seats_paid"),
        "escrowed": str(_sum(totals, "escrowed")),
        "paid": str(_sum(totals, "paid")),
        "refunded": str(_sum(totals, "refunded")),
        "protocol_fees": str(_sum(totals, "protocol_fees")),
        "held": str(
            _sum(totals, "escrowed")
            - _sum(totals, "paid")
            - _sum(totals, "refunded")
            - _sum(totals, "protocol_fees")
        ),
        "channels": channel_sums(
            {name: _sum(totals, name) for name in CHANNEL_MONEY}
            | {name: _sum(totals, f"channels_{name}") for name in CHANNEL_STATES}
        ),
        "min_stake": str(min(stakes, default=0)),
        "slashed": str(_sum(totals, "slashed")),
        "supply": str(_sum(totals, "minted") - _sum(totals, "burned")),
        "anomalies": _sum(totals, "anomalies"),
    }


def channel_sums(sums: Mapping[str, Any]) -> Document:
    """Sums over payment channels: deposited = redeemed + returned + held."""
    money = {name: int(sums[name] or 0) for name in CHANNEL_MONEY}
    held = money["deposited"] - money["redeemed"] - money["returned"]
    return {
        **{name: sums[name] or 0 for name in CHANNEL_STATES},
        **{name: str(amount) for name, amount in money.items()},
        "held": str(held),
    }


def channel_document(row: Mapping[str, Any]) -> Document:
    """One payment channel; `deposit`, `claimed` and `refunded` are of its newest epoch."""
    left = int(row["deposit"]) - int(row["claimed"]) - int(row["refunded"])
    return {name: row[name] for name in _CHANNEL_FIELDS} | {
        "remaining": str(left),
        "closes_at": rfc3339(row["closes_at"]) if row["closes_at"] else None,
        "opened_at": rfc3339(row["opened_at"]),
        "updated_at": rfc3339(row["updated_at"]),
    }


def chain_document(row: Mapping[str, Any], now: float) -> Document:
    """How far a chain is followed; `lag_s` is the age of what this index knows."""
    seen = row["seen_at"]
    behind = (row["head_number"] or 0) - (row["cursor_number"] or 0)
    return {
        "head": row["head_number"],
        "cursor": row["cursor_number"],
        "behind": behind,
        "head_time": None if row["head_time"] is None else rfc3339(row["head_time"]),
        "lag_s": None if seen is None else round(max(0.0, now - seen), 1),
        "following": seen is not None and now - seen <= STALE_SECONDS,
    }


def health_document(chains: Iterable[Row], active: int, now: float) -> Document:
    """`GET /api/v1/network/health`: every check on its own."""
    checks = []
    for row in chains:
        chain = chain_document(row, now)
        checks.append(
            {
                "name": f"chain {row['chain']}",
                "ok": chain["following"],
                "detail": f"block {chain['cursor']} of {chain['head']}, {chain['lag_s']} s ago"
                if chain["following"]
                else "not followed now: the endpoint does not answer or never did",
            }
        )
    checks.append({"name": "nodes", "ok": active > 0, "detail": f"{active} active nodes are heard"})
    ok = bool(checks) and all(check["ok"] for check in checks)
    return {
        "status": "ok" if ok else "degraded",
        "checks": checks,
        "as_of": rfc3339(round(now, 3)),
    }


def is_ready(chains: Sequence[Row], now: float) -> bool:
    """Whether every chain is followed up to its head."""
    documents = [chain_document(row, now) for row in chains]
    return bool(documents) and all(
        chain["following"] and chain["behind"] <= 10 for chain in documents
    )


def node_document(row: Mapping[str, Any], now: float) -> Document:
    """One node as lists and its own page show it."""
    status = status_of(row, now)
    offer = offer_of(row, now)
    return {
        "node_id": row["node_id"],
        "chain": row["chain"],
        "owner": row["owner"],
        "operator": row["operator"],
        "peer_id": row["peer_id"],
        "addresses": list(offer.addresses) if offer else json.loads(row["addresses"]),
        "state": state_of(row, status),
        "status": status,
        "standing": row["standing"],
        "stake": str(int(row["bonded"]) + int(row["unbonding"])),
        "bonded": row["bonded"],
        "unbonding": row["unbonding"],
        "unbond_at": rfc3339(row["unbond_at"]) if int(row["unbonding"]) else None,
        "reputation": row["reputation"] / 1000,
        "reputation_thousandths": row["reputation"],
        "checked_tasks": row["checked_tasks"],
        "last_epoch": row["last_epoch"],
        "completed": row["completed"],
        "failed": row["failed"],
        "released": row["released"],
        "earned": row["earned"],
        "slashed": row["slashed"],
        "channels": channel_sums(
            {name: row[f"channels_{name}"] for name in (*CHANNEL_MONEY, *CHANNEL_STATES)}
        ),
        "pool": pool_document(row, now),
        "bound": bound_document(row, now),
        "registered_at": rfc3339(row["registered_at"]),
        "last_heartbeat": _time(row["received_at"]),
        "performance_metrics": performance(row),
        "hardware": None if offer is None else json.loads(encode_json(_named(offer.hardware))),
        "version": None if offer is None else offer.version,
        "sandbox": None if offer is None else offer.sandbox,
        "capacity": None if offer is None else offer.capacity,
        "workloads": [] if offer is None else [_workload(one) for one in offer.workloads],
        "offer": None if offer is None else _offer(row),
        "offers": [] if offer is None else [_offer(row)],
    }


def pool_document(row: Mapping[str, Any], now: float) -> Document | None:
    """The pool that a node's stake is; None if the node takes no delegations.

    The commission is the one in force at the chain's newest block.
    """
    if row["pool_manager"] is None:
        return None
    sums = {name: int(row[f"pool_{name}"]) for name in _POOL_SUMS}
    assets, shares, own_shares = sums["assets"], sums["shares"], sums["manager_shares"]
    seconds = json.loads(row["chain_parameters"]).get("epoch_seconds", 0)
    time = now if row["chain_time"] is None else row["chain_time"]
    starts = row["pool_next_commission_epoch"] * seconds
    waits = starts > time
    in_force = "next_commission" if starts and not waits else "commission"
    own = worth(own_shares, shares, assets)
    more = (LEVERAGE + 1) * own_shares - (shares - sums["queued"])
    takes = row["pool_state"] == PoolState.OPEN.label and row["standing"] != Standing.JAILED.label
    matures_at = row["pool_matures_at"]
    return {
        "manager": row["pool_manager"],
        "number": row["pool_number"],
        "state": row["pool_state"],
        "commission_bps": row[f"pool_{in_force}"],
        "next_commission_bps": row["pool_next_commission"] if waits else None,
        "next_commission_at": rfc3339(starts) if waits else None,
        "assets": str(assets),
        "own": str(own),
        "delegated": str(assets - own),
        "room": str(worth(max(0, more), shares, assets) if takes else 0),
        "shares": str(shares),
        "worth_of_1000_shares": str(worth(1_000 * UNIT, shares, assets)),
        "queued_shares": str(sums["queued"]),
        "leaving": str(sums["leaving"]),
        "matures_at": rfc3339(matures_at) if matures_at else None,
        "income": str(sums["income"]),
        "paid_out": str(sums["paid_out"]),
        "opened_at": rfc3339(row["pool_opened_at"]),
    }


def bound_document(row: Mapping[str, Any], now: float) -> Document | None:
    """The same node's registration on the other chain, and why it is believed to be the same.

    None if it has none, or if the index does not know that registration (any more).
    """
    if row["binding"] is None or row["twin_id"] is None:
        return None
    names = ("standing", "mode", "received_at")
    twin = {name: row[f"twin_{name}"] for name in names}
    return {
        "chain": row["twin_chain"],
        "node_id": row["twin_id"],
        "standing": row["twin_standing"],
        "state": state_of(twin, status_of(twin, now)),
        "slashed": row["twin_slashed"],
        "binding": json.loads(row["binding"]),
    }


def performance(row: Mapping[str, Any]) -> Document | None:
    """What a node last said about its work; None if it was never heard."""
    if row["received_at"] is None:
        return None
    return {
        "running": row["running"],
        "queued": row["queued"],
        "completed": row["beat_completed"],
        "failed": row["beat_failed"],
        "head": row["head"],
        "instances": row["instances"],
        "mode": row["mode"],
    }


def node_status_document(row: Mapping[str, Any], days: Sequence[Row], now: float) -> Document:
    """`GET /api/v1/nodes/{id}/status`."""
    by_day = [
        {"day": day["day"], "earned": day["earned"], "completed": day["completed"]} for day in days
    ]
    return node_document(row, now) | {"by_day": by_day, "as_of": rfc3339(round(now, 3))}


def nodes_stats_document(nodes: Sequence[Row], now: float) -> Document:
    """`GET /api/v1/nodes/stats`: all nodes together, and what they run at what price."""
    documents = [node_document(row, now) for row in nodes]
    workloads: dict[str, list[Document]] = {}
    for document in documents:
        if document["status"] == "online":
            for one in document["workloads"]:
                workloads.setdefault(one["workload"], []).append(one)
    return {
        "total": len(documents),
        "active": sum(
            is_active(row, document["status"])
            for row, document in zip(nodes, documents, strict=True)
        ),
        "by_state": count(document["state"] for document in documents),
        "by_status": count(document["status"] for document in documents),
        "by_standing": count(document["standing"] for document in documents),
        "total_staked": str(sum(int(document["stake"]) for document in documents)),
        "earned": str(sum(int(document["earned"]) for document in documents)),
        "slashed": str(sum(int(document["slashed"]) for document in documents)),
        "completed": sum(document["completed"] for document in documents),
        "failed": sum(document["failed"] for document in documents),
        "workloads": {name: _market(offers) for name, offers in sorted(workloads.items())},
        "as_of": rfc3339(round(now, 3)),
    }


def _market(offers: Sequence[Document]) -> Document:
    prices = sorted(int(one["unit_fee"]) for one in offers)
    return {
        "nodes": len(offers),
        "policies": sorted({policy for one in offers for policy in one["policies"]}),
        "unit_fee": {
            "lowest": str(prices[0]),
            "median": str(prices[len(prices) // 2]),
            "highest": str(prices[-1]),
        },
        "base_fee_lowest": str(min(int(one["base_fee"]) for one in offers)),
    }


def task_summary(row: Mapping[str, Any]) -> Document:
    """One task as lists show it."""
    return {
        "task_id": row["task_id"],
        "chain": row["chain"],
        "client": row["client"],
        "lane": "escrow",
        "policy": row["policy"],
        "state": row["state"],
        "seats": row["seats"],
        "committed": row["committed"],
        "attempts": row["attempts"],
        "fee": row["fee"],
        "escrowed": row["escrowed"],
        "held": row["held"],
        "paid": row["paid"],
        "refunded": row["refunded"],
        "protocol_fee": row["protocol_fee"],
        "result_digest": row["result"],
        "fault": bool(row["fault"]),
        "spec_hash": row["spec_hash"],
        "posted_at": rfc3339(row["posted_at"]),
        "posted_block": row["posted_block"],
        "updated_at": rfc3339(row["updated_at"]),
        "ended_at": _time(row["ended_at"]),
        "estimated_completion": _time(row["expected_at"]),
        "deadline": rfc3339(row["deadline"]),
    }


def offer_of(row: Mapping[str, Any], now: float) -> Offer | None:
    """The decoded offer of a node's row, if it has one that is valid now."""
    if row["body"] is None or row["expires_at"] <= now:
        return None
    try:
        return _OFFERS.decode(row["body"])
    except ProtocolError:
        return None  # written by another version of this program


def _offer(row: Mapping[str, Any]) -> Document:
    return {
        "chain": row["chain"],
        "sequence": row["offer_sequence"],
        "expires_at": rfc3339(row["expires_at"]),
        "body": base64.b64encode(row["body"]).decode(),
        "operator": row["operator"],
        "signature": base64.b64encode(row["signature"]).decode(),
    }


def _workload(one: Any) -> Document:  # noqa: ANN401
    found: Document = json.loads(encode_json(_named(one)))
    return found


def _named(struct: Any) -> Document:  # noqa: ANN401 - any array-like struct, by field name
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _sum(rows: Iterable[Row], name: str) -> int:
    return sum(int(row[name]) for row in rows)


def _time(value: float | None) -> str | None:
    return None if value is None else rfc3339(round(value, 3))


def _percentiles(seconds: Sequence[int]) -> Document | None:
    """Median and 95th percentile in milliseconds of sorted chain seconds."""
    if not seconds:
        return None
    return {
        "p50": seconds[len(seconds) // 2] * 1000,
        "p95": seconds[min(len(seconds) - 1, len(seconds) * 95 // 100)] * 1000,
        "tasks": len(seconds),
    }
