"""A pool as the commands see it: what the chain says, what an account has in it, what a slash does.

The contract takes notice of a slash with the next transaction about the pool, whoever sends it. In
the figures here it is taken off at once; income that waits to be shared out is apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from deai.cli.base import Settings

if TYPE_CHECKING:
    from deai.chain.ledger import Head, Ledger, NodeRecord, Parameters
    from deai.ids import AccountId, NodeId
    from deai.pools import DelegationRecord, PoolRecord


@dataclass(frozen=True)
class Lent:
    """A pool, and what an account has of it."""

    settings: Settings
    ledger: Ledger
    node: NodeId
    account: AccountId | None
    record: NodeRecord
    pool: PoolRecord
    mine: DelegationRecord
    income: int
    """What came in and was not shared out yet, in base units."""
    unseen: int
    """What a slash took of which the contract has not taken notice; the records have."""
    parameters: Parameters
    head: Head

    @property
    def is_manager(self) -> bool:
        """Whether the account is the pool's manager."""
        return self.account == self.pool.manager

    @property
    def is_mature(self) -> bool:
        """Whether what unbonded can be paid out."""
        return bool(self.pool.matures_at) and self.head.time > self.pool.matures_at

    @property
    def is_mine_leaving(self) -> bool:
        """Whether shares of the account are in the batch that unbonds and was not paid yet."""
        runs = self.pool.leaving_shares and self.mine.queued_batch + 1 == self.pool.batch
        return bool(self.mine.queued and runs)


async def look(settings: Settings, ledger: Ledger, node: NodeId, account: AccountId | None) -> Lent:
    """What the chain says now; raise `NotSetUp` for a node that takes no delegations."""
    from deai.chain.pool_income import waiting_income
    from deai.errors import NotSetUp
    from deai.ids import owner_of
    from deai.pools import NO_DELEGATION

    pool, record = await ledger.pool(node), await ledger.node(node)
    if pool is None or record is None:
        raise NotSetUp(
            f"{node} takes no delegations",
            hint="`deai pool list` lists the nodes that do",
            code="no_pool",
        )
    income = await waiting_income(ledger, owner_of(node))
    mine = NO_DELEGATION if account is None else await ledger.delegation(node, account)
    parameters = await ledger.parameters()
    pool, mine, unseen = _slashed(pool, mine, record, account, int(parameters.bounty))
    return Lent(
        settings, ledger, node, account, record, pool, mine, income, unseen, parameters,
        await ledger.head(),
    )  # fmt: skip


def _slashed(
    pool: PoolRecord,
    mine: DelegationRecord,
    record: NodeRecord,
    account: AccountId | None,
    bounty: int,
) -> tuple[PoolRecord, DelegationRecord, int]:
    """The records behind a slash of which the contract has not taken notice yet, and its sum."""
    from deai.money import Amount
    from deai.pools import PoolState, slash
    from deai.standing import Standing

    whole = int(pool.assets) + int(pool.leaving)
    taken = whole - record.stake - record.unbonding
    # While a pool is open all that it has is stake; one that ends may hold some itself.
    if pool.state is not PoolState.OPEN or record.standing is not Standing.JAILED or taken <= 0:
        return pool, mine, 0
    found = slash(
        taken, bounty, assets=int(pool.assets), leaving=int(pool.leaving), shares=pool.shares,
        free=pool.manager_shares,
    )  # fmt: skip
    pool = replace(
        pool,
        assets=Amount(int(pool.assets) - taken + found.lost),
        leaving=Amount(int(pool.leaving) - found.lost),
        unbonding=Amount(record.unbonding),
        shares=pool.shares - found.burnt,
        manager_shares=pool.manager_shares - found.burnt,
    )
    if account == pool.manager:
        mine = replace(mine, shares=mine.shares - found.burnt)
    return pool, mine, taken


def document(lent: Lent, transaction: str | None = None) -> dict[str, Any]:
    """What every command about a pool prints; sums are decimal strings in base units."""
    from deai.client.documents import rfc3339
    from deai.ids import owner_of

    pool, seconds = lent.pool, lent.parameters.epoch_seconds
    # The contract writes down at the next verb that an announced commission is in force.
    is_announced = pool.next_commission_epoch > lent.head.time // seconds
    has_begun = bool(pool.next_commission_epoch) and not is_announced
    loss, mine = _slash(lent)
    return {
        "node_id": lent.node,
        "chain": lent.settings.chain,
        "owner": owner_of(lent.node),
        "manager": pool.manager,
        "state": pool.state.label,
        "standing": lent.record.standing.label,
        "assets": str(int(pool.assets)),
        "shares": str(pool.shares),
        "own": str(int(pool.own)),
        "delegated": str(int(pool.delegated)),
        "room": str(_room(lent)),
        "least": str(int(lent.parameters.min_delegation)),
        "income": str(lent.income),
        "commission_bps": pool.next_commission if has_begun else pool.commission,
        "announced": {
            "bps": pool.next_commission,
            "from": rfc3339(pool.next_commission_epoch * seconds),
        }
        if is_announced
        else None,
        "leaving": {
            "amount": str(int(pool.leaving)),
            "matures_at": rfc3339(pool.matures_at),
        }
        if pool.matures_at
        else None,
        "queued": str(int(pool.worth(pool.queued))),
        "slash": {"takes": str(loss), "of_yours": None if mine is None else str(mine)},
        "account": lent.account,
        "delegation": _delegation(lent),
        "needs": None,
        "transaction": transaction,
    }


def _delegation(lent: Lent) -> dict[str, Any] | None:
    """What the account has: lent, on its way out and until when, and ready to be taken."""
    from deai.client.documents import rfc3339

    if lent.account is None:
        return None
    pool, mine = lent.pool, lent.mine
    free_at, is_sure = free_from(lent)
    return {
        "shares": str(mine.shares),
        "worth": str(int(pool.worth(mine.shares))),
        "leaving": str(_leaving(lent)),
        "free_at": rfc3339(free_at) if free_at else None,
        "is_sure": is_sure,
        "claimable": str(claimable(lent)),
    }


def free_from(lent: Lent) -> tuple[int, bool]:
    """From when on what leaves can be claimed, in chain time, and whether that is sure.

    `(0, True)` where nothing leaves. What waits for another batch to be paid begins its own time
    after that, with the next transaction about the pool, so it may be later.
    """
    from deai.pools import PoolState

    pool, mine = lent.pool, lent.mine
    if lent.is_mine_leaving:
        return pool.matures_at, True
    closes = pool.state is PoolState.CLOSING and bool(mine.shares)
    waits = bool(mine.queued) and mine.queued_batch == pool.batch
    if not (closes or waits):
        return 0, True
    if closes and not pool.leaving_shares:
        return pool.matures_at, True
    return max(lent.head.time, pool.matures_at) + lent.parameters.unbonding_seconds, False


def claimable(lent: Lent) -> int:
    """What a claim would pay the account now, in base units: it pays out first what is mature."""
    from deai.pools import PoolState

    pool, due = lent.pool, int(lent.mine.claimable)
    if lent.is_mature and lent.is_mine_leaving:
        due += _leaving(lent)
    elif lent.is_mature and pool.state is PoolState.CLOSING and not pool.leaving_shares:
        due += int(pool.worth(lent.mine.shares))
    return due


def _leaving(lent: Lent) -> int:
    """What the account's shares on their way out are worth; none of what was paid out already."""
    pool, mine = lent.pool, lent.mine
    if lent.is_mine_leaving:
        return int(pool.leaving) * mine.queued // pool.leaving_shares
    return int(pool.worth(mine.queued)) if mine.queued_batch == pool.batch else 0


def _room(lent: Lent) -> int:
    """How much more delegators may lend, in base units."""
    from deai.pools import LEVERAGE, PoolState

    pool = lent.pool
    if (
        pool.state is not PoolState.OPEN
        or not pool.shares
        or not lent.record.standing.is_assignable
    ):
        return 0
    shares = (LEVERAGE + 1) * pool.manager_shares - (pool.shares - pool.queued)
    return max(0, shares) * int(pool.assets) // pool.shares


def _slash(lent: Lent) -> tuple[int, int | None]:
    """What a slash now would take of the whole stake, and what of the account's part of it."""
    from deai.client.adapters import load

    record, pool = lent.record, lent.pool
    bonded, unbonding, bounty, burned = load("rules").slash(
        record.stake, record.unbonding, int(lent.parameters.bounty)
    )
    taken = bonded + unbonding
    if lent.account is None:
        return taken, None
    whole = int(pool.assets) + int(pool.leaving)
    has = int(pool.worth(lent.mine.shares)) + _leaving(lent)
    mine = -(-burned * has // whole) if whole else 0
    # The bounty of whoever proved it is at the manager's expense alone.
    return taken, min(has, mine + (bounty if lent.is_manager else 0))
