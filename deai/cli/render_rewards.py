"""Rewards on a screen and as documents."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from deai.claims import RewardsRecord
from deai.cli.render import bare, pairs, say, short, table, tokens
from deai.client.documents import rfc3339
from deai.client.rewards import History, Told
from deai.ids import hexed


def record_document(record: RewardsRecord) -> dict[str, Any]:
    """What the contract stores."""
    waiting = record.waiting
    return {
        "epoch": record.epoch or None,
        "root": hexed(record.root) if record.epoch else None,
        "total": str(int(record.total)),
        "paid_to_all": str(int(record.paid)),
        "waiting": None
        if waiting is None
        else {
            "epoch": waiting.epoch,
            "root": hexed(waiting.root),
            "total": str(int(waiting.total)),
            "active_at": rfc3339(waiting.active_at),
        },
    }


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
    same = (said.root, said.total, said.statement) == (found.root, found.total, found.digest)
    proposed = {
        "root": hexed(said.root), "total": str(int(said.total)),
        "statement": hexed(said.statement), "active_at": rfc3339(said.active_at),
    }  # fmt: skip
    return {**document, "proposed": proposed, "state": _state(epoch, told, record), "ok": same}


def _state(epoch: int, told: Told, record: RewardsRecord) -> str:
    if told.is_cancelled:
        return "cancelled"
    if record.waiting is not None and record.waiting.epoch == epoch:
        return "waiting"
    return "active" if record.epoch == epoch else "superseded"


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
    say(console, verdict.get(document["ok"], "✗ the proposed root is NOT what the events say"))


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
