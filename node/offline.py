"""What can be told of a node whose daemon is not running: files, journal and chains, each alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from deai import __version__
from deai.chain.pool_income import waiting_income
from deai.errors import DeaiError
from deai.ids import ChainName
from deai.network import load_network
from node.home import Home, Registration
from node.lane import documents as lane_documents
from node.lane.book import BookView
from node.opening import open_ledger
from node.orders import documents as order_documents
from node.shapes import Document, earned, joined, listed, pool_part
from node.store.journal import Journal

CHAIN_TIMEOUT = 8.0
HISTORY = 100


async def status(home: Home) -> Document:
    """The status document at any stage of the set-up."""
    document: Document = {
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
        "lane": None,
        "orders": None,
        "tasks": {"running": 0, "paid": 0, "pending": 0, "failed": 0},
        "balance": None,
        "pool": None,
        "workers": None,
        "sandbox": None,
        "last_heartbeat_seen": None,
        "offers": [],
    }
    problems: list[Document] = []
    try:
        known = home.registrations()
    except DeaiError as error:
        return {**document, "problems": [_problem(error)]}
    problems.append(
        {
            "code": "node_not_running",
            "message": "the daemon is not running",
            "hint": "start it: deai node run",
            "since": None,
        }
    )
    parts = {one.chain: _part(one) for one in known}
    try:
        async with _journals(home, known) as journals:
            for chain, journal in journals.items():
                parts[chain]["tasks"] = await _tasks(journal)
        book = BookView(home.lane)
        for chain, part in parts.items():
            part["lane"] = lane_documents.sums(book, chain, ())
        for chain, orders in (await order_documents.read_file(home.orders, list(parts))).items():
            parts[chain]["orders"] = order_documents.sums(orders)
    except DeaiError as error:
        problems.append(_problem(error))

    async def ask(one: Registration) -> None:
        try:
            await _chain(parts[one.chain], home, one)
        except DeaiError as error:
            tag = {"chain": one.chain} if len(known) > 1 else {}
            problems.append({**_problem(error), **tag})

    async with trio.open_nursery() as nursery:
        for one in known:
            nursery.start_soon(ask, one)
    return {
        **document,
        **joined(parts),
        "state": "stopped",
        "peer_id": known[0].peer_id,
        "problems": problems,
    }


def _problem(error: DeaiError) -> Document:
    return {
        "code": error.reason_code,
        "message": str(error),
        "hint": error.hint,
        "since": None,
    }


def _part(known: Registration) -> Document:
    return {
        "node_id": known.node_id,
        "state": "stopped",
        "owner": known.owner,
        "operator": known.operator,
        "head": None,
        "lag_s": None,
        "reachable": False,
        "standing": None,
        "stake": None,
        "reputation": None,
        "lane": None,
        "orders": None,
        "tasks": {"running": 0, "paid": 0, "pending": 0, "failed": 0},
        "balance": None,
        "pool": None,
    }


@asynccontextmanager
async def _journals(
    home: Home, known: tuple[Registration, ...]
) -> AsyncIterator[Mapping[ChainName, Journal | None]]:
    """Each chain's part, for reading; None before the node ever ran. Raises as `Journal` does."""
    if not home.journal.exists():
        yield {one.chain: None for one in known}
        return
    journal = Journal(home.journal, known[0].chain, read_only=True)
    try:
        yield {one.chain: journal.on(one.chain) for one in known}
    finally:
        journal.close()


async def _tasks(journal: Journal | None) -> Document:
    if journal is None:
        return {"running": 0, "paid": 0, "pending": 0, "failed": 0}
    days = await journal.days()
    open_ = await journal.open_engagements()
    return {
        "running": 0,
        "paid": sum(one.tasks - one.unpaid for one in days),
        "pending": sum(one.result is not None for one in open_),
        "failed": sum(one.unpaid for one in days),
    }


async def _chain(part: dict[str, Any], home: Home, known: Registration) -> None:
    network = load_network(home.network)
    with trio.move_on_after(CHAIN_TIMEOUT):
        async with open_ledger(network, known.chain, None, None, known.owner) as ledger:
            head = await ledger.head()
            record = await ledger.node(known.node_id)
            operator = await ledger.balances(known.operator)
            owner = await ledger.balances(known.owner)
            if known.pool is not None:
                income = await waiting_income(ledger, known.owner)
                part["pool"] = pool_part(await ledger.pool(known.node_id), income)
        part.update(
            head=head.number,
            reachable=True,
            balance={
                "gas": str(operator.gas),
                "tokens": str(owner.tokens),
                "vault": str(owner.vault),
            },
        )
        if record is not None:
            part.update(
                standing=record.standing.label,
                stake=str(record.stake),
                reputation=record.reputation / 1000,
            )


async def earnings(home: Home) -> Document:
    """From the journal and the accounts of channels."""
    if not home.has_registrations:
        return await earned({})
    known = home.registrations()
    async with _journals(home, known) as journals:
        found = await earned(journals)
    for one in known:
        if one.pool is not None:
            found["manager"] = one.pool.manager
    chains = [one.chain for one in known]
    orders = await order_documents.read_file(home.orders, chains)
    found = order_documents.add_earnings(found, orders)
    return lane_documents.add_earnings(found, BookView(home.lane), chains)


def channels(home: Home) -> Document:
    """From the accounts of channels."""
    return lane_documents.channels(BookView(home.lane).entries.values(), {})


async def tasks(home: Home) -> Document:
    """From the journal."""
    if not home.has_registrations:
        return listed({}, HISTORY)
    async with _journals(home, home.registrations()) as journals:
        histories = {
            chain: [(saved, None) for saved in await journal.history(HISTORY)] if journal else []
            for chain, journal in journals.items()
        }
        return listed(histories, HISTORY)
