"""What the lane tells about itself: one document per account, and the sums of a chain.

Amounts are decimal strings in base units. Read from the accounts in memory, or from the file
while no daemon runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from deai.ids import ChainName, ChannelId, hexed
from node.lane.account import Account
from node.lane.book import BookView, LaneBook
from node.lane.tables import Entry, Gone
from node.shapes import when

Document: TypeAlias = dict[str, Any]
PAGE: Final = 500
BY_WORKLOAD: Final = "(channels)"
"""Where redeemed vouchers stand among the workloads: one pays for tasks of many."""


def channel(entry: Entry, live: Account | None) -> Document:
    """One account; `live` is None while its client is not known to this process."""
    standing, voucher = entry.standing, entry.standing.voucher
    payee = live.payee if live is not None and live.entry is entry else None
    linked = live.session if live is not None and payee is not None else None
    state = "closed" if entry.is_closed else "closing" if entry.closes_at else "open"
    return {
        "channel_id": entry.channel_id,
        "chain": entry.chain,
        "client": entry.channel.client,
        "node_id": entry.channel.node,
        "owner": entry.channel.owner,
        "session_key": entry.channel.session_key,
        "epoch": entry.epoch,
        "state": state,
        "closes_at": when(entry.closes_at) if entry.closes_at else None,
        "linked": linked is not None,
        "deposit": str(int(payee.deposit if payee else entry.deposit)),
        "promised": str(entry.promised),
        "redeemed": str(entry.redeemed),
        "unredeemed": str(entry.unredeemed),
        "owed": str(max(0, payee.owed) if payee else 0),
        "credit": str(int(payee.credit if payee else 0)),
        "windows": {
            "unpaid": -(-len(payee.due) // 64) if payee else 0,
            "allowed": payee.windows if payee else None,
        },
        "tasks": {
            "paid": int(standing.paid),
            "unpaid": len(payee.due) if payee else 0,
            "executing": payee.executing if payee else 0,
            "queued": linked.queued if linked else 0,
        },
        "latest_voucher": {
            "number": int(standing.number),
            "cumulative_amount": str(int(voucher.cumulative_amount)),
            "receipts_root": hexed(voucher.receipts_root),
            "signature": hexed(voucher.signature),
        }
        if voucher is not None
        else None,
        "by_workload": [
            {"workload": name, "settled": str(sum_)} for name, sum_ in sorted(entry.work.items())
        ],
    }


def channels(
    entries: Iterable[Entry], live: Mapping[tuple[ChainName, ChannelId], Account], after: int = 0
) -> Document:
    """Up to `PAGE` accounts, those with most to redeem first."""
    known = {id(one.entry) for one in live.values()}
    every = [*entries, *(one.entry for one in live.values() if not one.entry.is_kept)]
    every.sort(key=lambda one: (id(one) not in known, -one.unredeemed, -one.changed_at))
    some = every[after : after + PAGE]
    return {
        "items": [channel(one, live.get((one.chain, one.channel_id))) for one in some],
        "next_cursor": str(after + PAGE) if len(every) > after + PAGE else None,
    }


def sums(book: LaneBook | BookView | None, chain: ChainName, live: Iterable[Account]) -> Document:
    """What the accounts of one chain come to."""
    mine = [one for one in book.entries.values() if one.chain == chain] if book else []
    gone = book.gone.get(chain, Gone()) if book else Gone()
    here = list(live)
    return {
        "channels": len(mine),
        "linked": sum(one.session is not None for one in here),
        "tasks": gone.tasks + sum(int(one.standing.paid) for one in mine),
        "promised": str(gone.promised + sum(one.promised for one in mine)),
        "redeemed": str(gone.redeemed + sum(one.redeemed for one in mine)),
        "unredeemed": str(sum(one.unredeemed for one in mine)),
        "lost": str(sum(one.lost for one in mine)),
        "owed": str(sum(max(0, one.payee.owed) for one in here)),
        "credit": str(sum(int(one.payee.credit) for one in here)),
    }


def add_earnings(
    document: Document, book: LaneBook | BookView, chains: list[ChainName]
) -> Document:
    """Earnings with what channels brought: redeemed is paid, promised is pending."""
    parts = {chain: sums(book, chain, ()) for chain in chains}
    redeemed = sum(int(one["redeemed"]) for one in parts.values())
    by_day = {one["day"]: int(one["paid"]) for one in document["by_day"]}
    for (chain, day), paid in book.days.items():
        if chain in parts:
            by_day[day] = by_day.get(day, 0) + paid
    by_workload = list(document["by_workload"])
    if redeemed:
        by_workload.insert(0, {"workload": BY_WORKLOAD, "paid": str(redeemed)})
    added = {
        **document,
        **_added(document, list(parts.values())),
        "by_day": [{"day": day, "paid": str(paid)} for day, paid in sorted(by_day.items())],
        "by_workload": by_workload,
        "channels": {
            key: str(sum(int(one[key]) for one in parts.values()))
            for key in ("promised", "redeemed", "unredeemed", "lost")
        },
    }
    added["channels"]["tasks"] = sum(one["tasks"] for one in parts.values())
    added["channels"]["by_workload"] = _by_workload(book, chains)
    if "by_chain" in document:
        added["by_chain"] = {
            chain: {**part, **_added(part, [parts[chain]])}
            for chain, part in document["by_chain"].items()
        }
    return added


def _added(document: Document, parts: list[Document]) -> Document:
    return {
        "paid": str(int(document["paid"]) + sum(int(one["redeemed"]) for one in parts)),
        "pending": str(int(document["pending"]) + sum(int(one["unredeemed"]) for one in parts)),
    }


def _by_workload(book: LaneBook | BookView, chains: list[ChainName]) -> list[Document]:
    found: dict[str, int] = {}
    for entry in book.entries.values():
        if entry.chain in chains:
            for name, settled in entry.work.items():
                found[name] = found.get(name, 0) + settled
    return [{"workload": name, "settled": str(sum_)} for name, sum_ in sorted(found.items())]
