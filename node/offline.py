"""What can be told of a node whose daemon is not running: files, journal and chain, each alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from deai import __version__
from deai.errors import DeaiError
from deai.ids import ChainName
from deai.network import Network, load_network
from node import documents
from node.home import Home
from node.program import open_ledger
from node.store.journal import Journal

CHAIN_TIMEOUT = 8.0


async def status(home: Home, chain: ChainName) -> documents.Document:
    """The status document at any stage of the set-up."""
    document: documents.Document = {
        "node_id": None,
        "state": "not_set_up",
        "version": __version__,
        "owner": None,
        "operator": None,
        "peer_id": None,
        "addresses": [],
        "started_at": None,
        "chains": {},
        "peers": None,
        "standing": None,
        "stake": None,
        "reputation": None,
        "tasks": {"running": 0, "paid": 0, "pending": 0, "failed": 0},
        "balance": None,
        "workers": None,
        "sandbox": None,
        "last_heartbeat_seen": None,
        "offers": [],
    }
    problems: list[dict[str, str | None]] = []

    def note(error: DeaiError) -> None:
        problems.append(
            {
                "code": error.reason_code,
                "message": str(error),
                "hint": error.hint,
                "since": None,
            }
        )

    _attempt(lambda: _identity(home, document), note)
    if document["node_id"] is not None:
        problems.append(
            {
                "code": "node_not_running",
                "message": "the daemon is not running",
                "hint": "start it: deai node run",
                "since": None,
            }
        )
        try:
            document["tasks"] = await _tasks(home)
        except DeaiError as error:
            note(error)
        try:
            await _chain(document, load_network(home.network), chain)
        except DeaiError as error:
            document["chains"] = {chain: {"head": None, "lag_s": None, "reachable": False}}
            note(error)
    return {**document, "problems": problems}


def _attempt(work: Callable[[], None], note: Callable[[DeaiError], None]) -> None:
    try:
        work()
    except DeaiError as error:
        note(error)


def _identity(home: Home, document: documents.Document) -> None:
    known = home.load_registration()
    document.update(
        node_id=known.node_id,
        state="stopped",
        owner=known.owner,
        operator=known.operator,
        peer_id=known.peer_id,
    )


async def _tasks(home: Home) -> documents.Document:
    if not home.journal.exists():
        return {"running": 0, "paid": 0, "pending": 0, "failed": 0}
    journal = Journal(home.journal, read_only=True)
    try:
        days = await journal.days()
        open_ = await journal.open_engagements()
    finally:
        journal.close()
    return {
        "running": 0,
        "paid": sum(one.tasks - one.unpaid for one in days),
        "pending": sum(one.result is not None for one in open_),
        "failed": sum(one.unpaid for one in days),
    }


async def _chain(document: dict[str, Any], network: Network, chain: ChainName) -> None:
    with trio.move_on_after(CHAIN_TIMEOUT) as scope:
        async with open_ledger(network, chain, None, None, document["owner"]) as ledger:
            head = await ledger.head()
            record = await ledger.node(document["node_id"])
            operator = await ledger.balances(document["operator"])
            owner = await ledger.balances(document["owner"])
        document["chains"] = {chain: {"head": head.number, "lag_s": None, "reachable": True}}
        document["balance"] = {
            "gas": str(operator.gas),
            "tokens": str(owner.tokens),
            "vault": str(owner.vault),
        }
        if record is not None:
            document["standing"] = record.standing.label
            document["stake"] = str(record.stake)
            document["reputation"] = record.reputation / 1000
    if scope.cancelled_caught:
        document["chains"] = {chain: {"head": None, "lag_s": None, "reachable": False}}


async def earnings(home: Home) -> documents.Document:
    """From the journal."""
    if not home.journal.exists():
        return documents.earned((), (), slashed=0)
    journal = Journal(home.journal, read_only=True)
    try:
        return documents.earned(
            await journal.days(),
            await journal.open_engagements(),
            slashed=await journal.slashed(),
        )
    finally:
        journal.close()


async def tasks(home: Home) -> documents.Document:
    """From the journal."""
    if not home.journal.exists():
        return documents.task_list(())
    journal = Journal(home.journal, read_only=True)
    try:
        return documents.task_list(await journal.history(100))
    finally:
        journal.close()
