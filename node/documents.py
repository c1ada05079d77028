"""What a node tells about itself: the documents of `status`, `why`, `tasks` and `earnings`.

The command line, the local HTTP interface and the metrics all read these. Amounts are decimal
strings in base units, times RFC 3339 UTC. Each part of a status fails alone. What a node on both
chains adds (`chains` in full, `by_chain`, `chain`) is not there on one: see `node.shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from deai import __version__
from deai.errors import DeaiError
from deai.ids import ChainName, owner_of
from node.daemon import Branch, Daemon
from node.lane import documents as lane_documents
from node.notices import Problem
from node.orders import documents as order_documents
from node.shapes import Document, earned, joined, listed, pool_part, when
from node.state import Node, Reason
from node.store.records import Saved

PART_TIMEOUT = 5.0


async def status(daemon: Daemon) -> Document:
    """The one screen: everything an operator looks at first."""
    parts: dict[ChainName, Document] = {}

    async def one(branch: Branch) -> None:
        parts[branch.chain] = await _branch(daemon, branch)

    async with trio.open_nursery() as nursery:
        for branch in daemon.branches:
            nursery.start_soon(one, branch)
    # A daemon is asked once a chain is served, and whatever is not of a chain any of them knows.
    node = daemon.nodes[0]
    seen = [at for one in daemon.nodes for at in one.hubs.values()]
    chains = joined({branch.chain: parts[branch.chain] for branch in daemon.branches})
    return {
        "node_id": chains.pop("node_id"),
        "state": daemon.mode.value,
        "version": __version__,
        **chains,
        "peer_id": node.ports.net.peer_id,
        "addresses": list(node.ports.net.addresses),
        "started_at": when(daemon.started_at),
        "peers": _part(lambda: _peers(daemon, node)),
        "workers": _part(lambda: dict(node.ports.workbench.stats())),
        "sandbox": _part(lambda: node.ports.workbench.sandbox.level),
        "last_heartbeat_seen": when(max(seen, default=None)),
        "offers": [
            {"workload": info.id, "base_fee": str(node.config.price(info.id).base),
             "unit_fee": str(node.config.price(info.id).unit)}
            for info in node.offered()
        ],
        "problems": problems(daemon),
    }  # fmt: skip


def lane(daemon: Daemon, branch: Branch) -> Document | None:
    """What the fast lane of a chain comes to; None where it is not served."""
    lanes = branch.node.lanes if branch.node is not None else None
    if lanes is None:
        return None
    return {
        **lane_documents.sums(daemon.book, branch.chain, lanes.accounts.values()),
        "queued": lanes.queued,
        "executing": sum(one.payee.executing for one in lanes.accounts.values()),
    }


def channels(daemon: Daemon, after: int = 0) -> Document:
    """The accounts of channels on every chain, those of clients that are here first."""
    live = {
        (node.info.name, id_): account
        for node in daemon.nodes
        if node.lanes is not None
        for id_, account in node.lanes.accounts.items()
    }
    entries = daemon.book.entries.values() if daemon.book is not None else ()
    return lane_documents.channels(entries, live, after)


async def orders(daemon: Daemon, branch: Branch) -> Document | None:
    """What the signed orders of a chain come to; None where none are taken."""
    if branch.node is None or branch.node.orders is None:
        return None
    try:
        return order_documents.sums(await order_documents.read(daemon.orders, branch.chain))
    except DeaiError as error:
        return {"error": error.reason_code, "message": str(error)}


async def _branch(daemon: Daemon, branch: Branch) -> Document:
    node = branch.node
    record = node.record if node is not None else None
    return {
        "node_id": branch.node_id,
        "state": node.mode.value if node is not None else "joining",
        "owner": owner_of(branch.node_id),
        "operator": branch.operator,
        **_head(node),
        "standing": record.standing.label if record is not None else None,
        "stake": str(record.stake) if record is not None else None,
        "reputation": record.reputation / 1000 if record is not None else None,
        "tasks": await _tasks(branch),
        "lane": lane(daemon, branch),
        "orders": await orders(daemon, branch),
        "balance": await _balance(node),
        "pool": pool_part(node.pool, node.pool_income) if node is not None else None,
    }


def problems(daemon: Daemon) -> list[Document]:
    """What is wrong now, on the machine first."""
    found = [_problem(one) for one in daemon.problems.values()]
    for branch in daemon.branches:
        own = branch.node.problems.values() if branch.node is not None else ()
        trouble = (branch.trouble,) if branch.trouble is not None else ()
        found += [{**_problem(one), **_of(daemon, branch)} for one in (*own, *trouble)]
    return found


def _problem(one: Problem) -> Document:
    return {"code": one.code, "message": one.message, "hint": one.hint, "since": when(one.since)}


def _of(daemon: Daemon, branch: Branch) -> Document:
    """Which chain something is about, where there is more than one."""
    return {"chain": branch.chain} if len(daemon.branches) > 1 else {}


def why(daemon: Daemon) -> Document:
    """Why work did not come or was not finished: counted reasons, the most frequent first."""
    counted: list[Document] = []
    for branch in daemon.branches:
        reasons = branch.node.reasons.values() if branch.node is not None else ()
        counted += [{**_reason(one), **_of(daemon, branch)} for one in reasons]

    def is_counted(problem: Document) -> bool:
        """Whether work was declined for it; one of the machine's, on whichever chain."""
        chain = problem.get("chain")
        return any(
            one["code"] == problem["code"] and chain in (None, one.get("chain")) for one in counted
        )

    now = [{**one, "count": 0} for one in problems(daemon) if not is_counted(one)]
    return {
        "asked": sum(node.tallied("proposals") for node in daemon.nodes),
        "accepted": sum(node.tallied("accepted") for node in daemon.nodes),
        "paid": sum(node.tallied("ended.paid") for node in daemon.nodes),
        "reasons": [*now, *sorted(counted, key=lambda one: -int(one["count"]))],
    }


def _reason(one: Reason) -> Document:
    return {
        "code": one.code,
        "message": one.message,
        "hint": one.hint,
        "since": when(one.since),
        "count": one.count,
    }


async def tasks(daemon: Daemon, limit: int = 100) -> Document:
    """The newest engagements, open ones first."""

    def progress(branch: Branch, saved: Saved) -> float | None:
        live = branch.node.engagements.get(saved.key.task_id) if branch.node is not None else None
        return live.done if live is not None and live.key == saved.key else None

    return listed(
        {
            branch.chain: [
                (saved, progress(branch, saved)) for saved in await branch.journal.history(limit)
            ]
            for branch in daemon.branches
        },
        limit,
    )


async def earnings(daemon: Daemon) -> Document:
    """The one calculation of what this node earned: sums over its settled seats."""
    found = await earned({branch.chain: branch.journal for branch in daemon.branches})
    for node in daemon.nodes:
        if node.pool is not None:
            found["manager"] = node.pool.manager
    chains = [branch.chain for branch in daemon.branches]
    if daemon.orders is not None:
        parts = {chain: await order_documents.read(daemon.orders, chain) for chain in chains}
        found = order_documents.add_earnings(found, parts)
    if daemon.book is None:
        return found
    return lane_documents.add_earnings(found, daemon.book, chains)


def _part(read: Callable[[], Any]) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return read()
    except DeaiError as error:
        return {"error": error.reason_code, "message": str(error)}


def _head(node: Node | None) -> Mapping[str, Any]:
    if node is None or node.head is None:
        return {"head": None, "lag_s": None, "reachable": False}
    return {
        "head": node.head.number,
        "lag_s": round(max(0.0, trio.current_time() - node.head_at), 1),
        "reachable": not {"chain_unreachable", "chain_silent"} & node.problems.keys(),
    }


def _peers(daemon: Daemon, node: Node) -> Document:
    hubs = {peer for one in daemon.nodes for peer in one.hubs}
    return {"hubs": len(hubs), **node.ports.net.stats()}


async def _tasks(branch: Branch) -> Document:
    engagements = branch.node.engagements.values() if branch.node is not None else ()
    summary = {
        "running": branch.node.running if branch.node is not None else 0,
        "pending": sum(one.result is not None for one in engagements),
        "accepted": len(engagements),
    }
    try:
        days = await branch.journal.days()
    except DeaiError as error:
        return {**summary, "error": error.reason_code}
    return {
        **summary,
        "paid": sum(one.tasks - one.unpaid for one in days),
        "failed": sum(one.unpaid for one in days),
    }


async def _balance(node: Node | None) -> Document:
    if node is None:
        return {"error": "ledger_unreachable"}
    try:
        with trio.fail_after(PART_TIMEOUT):
            operator = await node.ports.ledger.balances(node.ports.signer.account)
            owner = await node.ports.ledger.balances(node.record_owner)
    except (DeaiError, trio.TooSlowError) as error:
        return {"error": getattr(error, "reason_code", "timeout")}
    return {"gas": str(operator.gas), "tokens": str(owner.tokens), "vault": str(owner.vault)}
