"""What each pool command does on the chain: looks first, says what keeps it, then sends once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from deai.cli.base import Settings
from deai.cli.pool_look import Lent, claimable, document, free_from, look
from deai.cli.sending import lacking, named, send
from deai.errors import Declined, UsageError
from deai.money import format_exactly

if TYPE_CHECKING:
    from pathlib import Path

    from deai.actions import Action
    from deai.ids import AccountId, NodeId


@asynccontextmanager
async def open_lent(
    settings: Settings,
    node: NodeId,
    key: Path,
    passphrase: Path | None,
    account: AccountId | None = None,
) -> AsyncIterator[Lent]:
    """A pool as `account`, or the account of a key, sees it; the ledger sends for the key's."""
    from deai.client import access
    from deai.keys import holder_of, load_signer

    signer = load_signer(key, passphrase, chain=settings.chain)
    own = holder_of(signer.account)
    async with access.open_account(
        settings.network, settings.chain, signer, settings.home, own
    ) as ledger:
        yield await look(settings, ledger, node, account or own)


async def show(settings: Settings, node: NodeId, account: AccountId | None) -> dict[str, Any]:
    """A pool, and what an account has of it; no key is needed."""
    from deai.client import access

    async with access.open_reader(settings.network, settings.chain) as ledger:
        return document(await look(settings, ledger, node, account))


async def delegate(lent: Lent, units: int, intent: str, *, yes: bool) -> dict[str, Any]:
    """Lend to a node. Raises `UsageError` for a sum that the pool cannot take, `Declined`."""
    from deai.actions import Delegate
    from deai.money import Amount
    from deai.pools import PoolState
    from deai.standing import Standing

    shown = document(lent)
    if lent.pool.state is not PoolState.OPEN:
        raise Declined(
            f"the pool is {lent.pool.state.label}: nobody can delegate any more",
            hint="`deai pool list` lists the nodes that take delegations",
            code="pool_closed",
        )
    if lent.record.standing is Standing.JAILED and not lent.is_manager:
        raise Declined(
            "the node was slashed and is jailed: only its manager may add to its stake",
            hint="choose another node: `deai pool list`",
            code="node_jailed",
        )
    least, room = int(shown["least"]), int(shown["room"])
    if units < least:
        raise UsageError(
            f"{format_exactly(units)} is less than the least of {format_exactly(least)}",
            hint=f"delegate {format_exactly(least)} or more",
            code="delegation_too_small",
        )
    if units > room and not lent.is_manager:
        raise UsageError(
            f"the pool has room for {format_exactly(room)}: what is lent may be nine times"
            " what the manager put in",
            hint="delegate less, choose another node, or ask the manager to add to its own part",
            code="pool_full",
        )
    if (needs := await _needs(lent, units)) is not None:
        return {**shown, "needs": needs}
    key = await named(lent.ledger, "delegate", lent.node, intent)
    return await _send(lent, Delegate(lent.node, Amount(units)), key, units, yes=yes)


async def undelegate(lent: Lent, units: int | None, intent: str, *, yes: bool) -> dict[str, Any]:
    """Ask for so much back, None for everything. Raises `UsageError`, `Declined`."""
    from deai.actions import Undelegate
    from deai.money import Count
    from deai.pools import PoolState

    pool, mine = lent.pool, lent.mine
    if pool.state is not PoolState.OPEN:
        raise Declined(
            f"the pool is {pool.state.label}: everything is on its way out already",
            hint=f"deai pool claim {lent.node}",
            code="pool_closed",
        )
    if lent.is_mine_leaving and not lent.is_mature:
        raise Declined(
            "what you asked for before unbonds first",
            hint=f"ask again {_when(lent)}",
            code="still_unbonding",
        )
    shares = mine.shares if units is None else _shares_for(lent, units)
    if not shares:
        raise UsageError(
            f"{lent.account} has nothing in the pool of {lent.node} that could leave",
            hint=f"deai pool show {lent.node}",
            code="nothing_lent",
        )
    least = int(lent.parameters.min_stake)
    if lent.is_manager and pool.worth(mine.shares - shares) < least:
        raise UsageError(
            f"the manager's own part may not fall below {format_exactly(least)}",
            hint=f"take out less, or end the pool: deai pool close {lent.node}",
            code="stake_too_low",
        )
    if (needs := await _needs(lent, 0)) is not None:
        return {**document(lent), "needs": needs}
    key = await named(lent.ledger, "undelegate", lent.node, intent)
    worth = int(pool.worth(shares))
    return await _send(lent, Undelegate(lent.node, Count(shares)), key, worth, yes=yes)


def _shares_for(lent: Lent, units: int) -> int:
    """As many shares as are worth a sum at least; raises `UsageError` for more than there is."""
    pool, mine = lent.pool, lent.mine
    there = int(pool.worth(mine.shares))
    if units > there:
        raise UsageError(
            f"{lent.account} has {format_exactly(there)} in the pool that could leave",
            hint="ask for less, or for everything with --all",
            code="too_much",
        )
    return min(mine.shares, -(-units * pool.shares // int(pool.assets))) if there else 0


async def claim(lent: Lent, *, yes: bool) -> dict[str, Any]:
    """Let the account be paid what is ready; raise `Declined` while nothing is."""
    from deai.actions import ClaimDelegation

    assert lent.account is not None
    due, mine = claimable(lent), lent.mine
    if not due:
        if free_from(lent)[0]:
            raise Declined(
                f"nothing is free yet: {_when(lent)}",
                hint="run the same command then",
                code="still_unbonding",
            )
        return document(lent)
    if (needs := await _needs(lent, 0)) is not None:
        return {**document(lent), "needs": needs}
    # What the account has now names the occasion: once it is paid there is less.
    key = f"claim:{lent.node}:{lent.account}:{mine.queued_batch}:{mine.queued}:{mine.shares}"
    action = ClaimDelegation(lent.node, lent.account)
    return await _send(lent, action, key, due, yes=yes)


async def advance(lent: Lent, *, yes: bool) -> dict[str, Any]:
    """Share out income and pay what is mature; nothing where nothing is due."""
    from deai.actions import AdvancePool

    if not is_due(lent):
        return document(lent)
    if (needs := await _needs(lent, 0)) is not None:
        return {**document(lent), "needs": needs}
    key = await named(lent.ledger, "advance", lent.node, "")
    return await _send(lent, AdvancePool(lent.node), key, lent.income, yes=yes)


def is_due(lent: Lent) -> bool:
    """Whether an advance would change anything."""
    return bool(lent.income or lent.unseen) or lent.is_mature


async def announce(lent: Lent, bps: int, *, yes: bool) -> dict[str, Any]:
    """Another commission; nothing is sent for the one that is in force or announced."""
    from deai.actions import AnnounceCommission

    _managing(lent)
    shown = document(lent)
    coming = shown["announced"]["bps"] if shown["announced"] else shown["commission_bps"]
    if coming == bps:
        return shown
    if (needs := await _needs(lent, 0)) is not None:
        return {**shown, "needs": needs}
    key = await named(lent.ledger, "commission", lent.node, "")
    return await _send(lent, AnnounceCommission(lent.node, bps), key, 0, yes=yes)


async def close(lent: Lent, *, yes: bool) -> dict[str, Any]:
    """End the pool; nothing is sent for one that has ended."""
    from deai.actions import ClosePool
    from deai.pools import PoolState

    _managing(lent)
    if lent.pool.state is not PoolState.OPEN:
        return document(lent)
    if (needs := await _needs(lent, 0)) is not None:
        return {**document(lent), "needs": needs}
    return await _send(
        lent, ClosePool(lent.node), f"close:{lent.node}", int(lent.pool.assets), yes=yes
    )


def _managing(lent: Lent) -> None:
    if not lent.is_manager:
        raise Declined(
            f"{lent.account} is not the manager of {lent.node}: that is {lent.pool.manager}",
            hint="name the manager's key with --key-file",
            code="not_manager",
        )


async def _send(lent: Lent, action: Action, key: str, moved: int, *, yes: bool) -> dict[str, Any]:
    """What the pool is after an action."""
    done = await send(lent.settings, lent.ledger, action, key, moved, yes=yes)
    return document(await look(lent.settings, lent.ledger, lent.node, lent.account), done)


async def _needs(lent: Lent, tokens: int) -> dict[str, str] | None:
    from deai.chain.gas import GAS

    sender: AccountId | None = lent.ledger.account
    assert sender is not None
    return await lacking(lent.ledger, sender, tokens, GAS[lent.settings.chain].owner)


def _when(lent: Lent) -> str:
    """From when on what leaves is free, in words."""
    from deai.client.documents import rfc3339

    at, is_sure = free_from(lent)
    return f"{'from' if is_sure else 'not before'} {rfc3339(at)}"
