"""Redeems from the accounts on disk while no daemon runs."""

from __future__ import annotations

from typing import Any

from deai.chain.ledger import Ledger
from deai.errors import DeaiError, InsufficientFunds, LedgerRejected
from deai.keys import load_signer
from deai.network import Network
from node.home import Home, Registration
from node.lane.book import BookView
from node.lane.redeeming import MOST, redeem
from node.lane.tables import Entry
from node.opening import open_ledger


async def redeem_all(home: Home, network: Network, only: str | None) -> list[dict[str, Any]]:
    """Redeem everything, on all chains of the home or one; what became of each channel.

    Raises `AlreadyRunning` where a daemon has the home after all, and as opening a ledger does.
    The accounts are not written: the daemon asks the chain when it starts.
    """
    with home.lock():
        book = BookView(home.lane)
        found: list[dict[str, Any]] = []
        for known in home.registrations():
            entries = [
                one for one in book.entries.values() if one.chain == known.chain and one.unredeemed
            ]
            if entries and only in (None, known.chain):
                found += await _on_chain(home.on(known.chain), network, known, entries)
        return found


async def _on_chain(
    home: Home, network: Network, known: Registration, entries: list[Entry]
) -> list[dict[str, Any]]:
    signer = load_signer(home.operator_key, home.passphrase, chain=known.chain)
    outbox = home.outbox(known.chain, known.operator)
    found: list[dict[str, Any]] = []
    async with open_ledger(network, known.chain, signer, outbox, known.owner) as ledger:
        due = [one for one in entries if await _is_due(ledger, one)]
        for at in range(0, len(due), MOST):
            found += await _redeemed(ledger, due[at : at + MOST])
    return found


async def _redeemed(ledger: Ledger, some: list[Entry]) -> list[dict[str, Any]]:
    """What became of each; one that the chain refuses holds up no other."""
    items = [
        {"chain": one.chain, "channel_id": one.channel_id, "amount": str(one.unredeemed)}
        for one in some
    ]
    try:
        done = await redeem(ledger, some)
    except LedgerRejected as error:
        if len(some) > 1 and not isinstance(error, InsufficientFunds):
            half = len(some) // 2
            return await _redeemed(ledger, some[:half]) + await _redeemed(ledger, some[half:])
        return [{**one, "transaction": None, "error": str(error)} for one in items]
    except DeaiError as error:
        return [{**one, "transaction": None, "error": str(error)} for one in items]
    return [{**one, "transaction": done.hash, "error": None} for one in items]


async def _is_due(ledger: Ledger, entry: Entry) -> bool:
    record = await ledger.channel(entry.channel_id)
    entry.redeemed = int(record.claimed)
    entry.is_closed = record.epoch != entry.epoch or not record.deposit
    return entry.unredeemed > 0
