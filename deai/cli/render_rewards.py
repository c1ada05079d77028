"""Rewards on a screen and as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from deai.claims import RewardsRecord
from deai.cli.render import bare, one_line, pairs, say, short, table, tokens
from deai.client.documents import rfc3339
from deai.client.rewards import History, Told
from deai.ids import hexed

if TYPE_CHECKING:
    from deai.client.rewards_following import Notice


def record_document(record: RewardsRecord, history: History) -> dict[str, Any]:
    """What the contract stores, and whether its roots are what the chain's events give."""
    waiting = record.waiting
    return {
        "epoch": record.epoch or None,
        "root": hexed(record.root) if record.epoch else None,
        "total": str(int(record.total)),
        "ok": _is_right(record.epoch, record.root, record.total, history) if record.epoch else None,
        "paid_to_all": str(int(record.paid)),
        "waiting": None
        if waiting is None
        else {
            "epoch": waiting.epoch,
            "root": hexed(waiting.root),
            "total": str(int(waiting.total)),
            "active_at": rfc3339(waiting.active_at),
            "ok": _is_right(waiting.epoch, waiting.root, waiting.total, history),
        },
    }


def _is_right(epoch: int, root: bytes, total: int, history: History) -> bool:
    found = history.statements[epoch]
    return (found.root, found.total) == (root, total)


def epoch_document(
    chain: str, epoch: int, history: History, record: RewardsRecord
) -> dict[str, Any]:
    """One epoch as computed here, beside what was proposed for it."""
    found, told = history.statements[epoch], history.told.get(epoch)
    document = {
        "chain": chain,
        "contract": found.domain.contract,
        "epoch": epoch,
        "began_at": rfc3339(epoch * found.seconds),
        "ended_at": rfc3339((epoch + 1) * found.seconds),
        "carried": str(int(found.carried)),
        "received": str(int(found.received)),
        "pot": str(int(found.pot)),
        "owed": str(int(found.owed)),
        "lines": [
            {"account": one.account, "reason": one.reason.label, "amount": str(int(one.amount))}
            for one in found.lines
        ],
        "accounts": len(found.leaves),
        "total": str(int(found.total)),
        "root": hexed(found.root),
        "statement": hexed(found.digest),
        "proposed": None,
        "state": "not_proposed",
        "ok": None,
        "needs": None,
        "transaction": None,
    }
    if told is None:
        return document
    said = told.proposal
    proposed = {
        "root": hexed(said.root), "total": str(int(said.total)),
        "statement": hexed(said.statement), "active_at": rfc3339(said.active_at),
    }  # fmt: skip
    return {
        **document,
        "proposed": proposed,
        "state": _state(epoch, told, record),
        "ok": told.agrees(found),
    }


def _state(epoch: int, told: Told, record: RewardsRecord) -> str:
    if told.is_cancelled:
        return "cancelled"
    if record.waiting is not None and record.waiting.epoch == epoch:
        return "waiting"
    return "active" if record.epoch == epoch else "superseded"


NOTICES: Final = {
    "ready": "○ watching",
    "reading": "○ reading the chain",
    "proposed": "● proposed",
    "proposed_before": "● proposed before",
    "nothing_new": "○ nothing new is owed",
    "nothing_owed": "○ nothing is owed",
    "held": "○ another root waits",
    "right": "● right",
    "wrong": "✕ WRONG",
    "cancelled": "● taken back",
    "total_falls": "▲ is for less in all than the root in force, so no contract takes it",
    "cancelled_before": "▲ was taken back before, so it is not proposed again",
    "problem": "▲ problem",
    "solved": "● solved",
}


def notice_document(chain: str, notice: Notice) -> dict[str, Any]:
    """A line of those who follow."""
    return {
        "event": notice.event,
        "chain": chain,
        "epoch": notice.epoch,
        "root": None if notice.root is None else hexed(notice.root),
        "total": None if notice.total is None else str(notice.total),
        "accounts": notice.accounts,
        "expected": None if notice.expected is None else hexed(notice.expected),
        "active_at": None if notice.active_at is None else rfc3339(notice.active_at),
        "next_at": None if notice.next_at is None else rfc3339(notice.next_at),
        "transaction": notice.transaction,
        "block": notice.block,
        "head": notice.head,
        "code": notice.code,
        "detail": notice.detail,
    }


def show_notice(document: dict[str, Any], console: Console) -> None:
    """The same in words."""
    parts = [NOTICES[document["event"]]]
    if document["block"] is not None:
        parts.append(f"block {document['block']:,} of {document['head']:,}")
    if document["epoch"] is not None:
        parts.append(f"epoch {document['epoch']}")
    if document["root"] is not None:
        parts += [tokens(document["total"]), f"root {short(document['root'])}"]
    if document["expected"] is not None:
        parts.append(f"the events say {short(document['expected'])}")
    if document["active_at"] is not None:
        parts.append(f"active at {document['active_at']}")
    if document["next_at"] is not None:
        parts.append(f"next at {document['next_at']}")
    parts += [document["transaction"] or "", document["code"], document["detail"]]
    say(console, "   ".join(one_line(part) for part in parts if part))


def show_status(document: dict[str, Any], console: Console) -> None:
    """What an account has."""
    waiting = document["waiting"]
    pairs(
        console,
        [
            ("Account", f"{document['account']} on {document['chain']}"),
            ("Owed", tokens(document["owed"])),
            ("Paid", tokens(document["paid"])),
            ("Can be claimed", tokens(document["claimable"])),
            ("With later roots", tokens(document["later"])),
            ("Root in force", f"epoch {document['epoch']}" if document["epoch"] else "none"),
            ("Waits", f"epoch {waiting['epoch']} until {waiting['active_at']}" if waiting else ""),
            ("Transaction", document["transaction"] or ""),
        ],
    )
    if document["ok"] is False:
        say(console, "✕ the root in force is NOT what the chain's events give")
    if waiting and not waiting["ok"]:
        say(console, "✕ the root that waits is NOT what the chain's events give")


def show_epoch(document: dict[str, Any], console: Console) -> None:
    """One epoch."""
    owed = document["owed"]
    pairs(
        console,
        [
            ("Epoch", f"{document['epoch']}: {document['began_at']} to {document['ended_at']}"),
            ("Came in", tokens(document["received"])),
            ("Pot", f"{tokens(document['carried'])} before, {tokens(document['pot'])} after"),
            (
                "Losses not replaced yet",
                tokens(owed) if owed != "0" else "",
            ),
            ("Accounts", f"{document['accounts']:,}, {tokens(document['total'])} in all"),
            ("Root", document["root"]),
            ("Proposed", (document["proposed"] or {}).get("root", "")),
            ("State", document["state"].replace("_", " ")),
            ("Transaction", document["transaction"] or ""),
        ],
    )
    if lines := document["lines"]:
        rows = [(short(one["account"]), one["reason"], bare(one["amount"])) for one in lines[:20]]
        table(console, ("account", "for", "CT"), rows, right=(2,))
        if len(lines) > len(rows):
            say(console, f"and {len(lines) - len(rows):,} more: --json lists all")
    verdict = {True: "● the proposed root is what the events say", None: ""}
    say(console, verdict.get(document["ok"], "✕ the proposed root is NOT what the events say"))


def show_sent(document: dict[str, Any], console: Console) -> None:
    """What was paid in, or taken back."""
    epoch, amount = document.get("epoch"), document.get("amount")
    pairs(
        console,
        [
            ("Contract", document["contract"]),
            ("Epoch", f"{epoch} cancelled" if epoch is not None else ""),
            ("Amount", tokens(amount) if amount is not None else ""),
            ("Shares", f"{len(document['shares'])}" if document.get("shares") else ""),
            ("Transaction", document["transaction"] or ""),
        ],
    )
