"""One event of a pool folded into the index; pure, like the reducer that calls it.

Events tell every sum but one: what a slash takes from the batch that unbonds. It follows from the
arithmetic of `deai.pools`, which is the contract's.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from coordinator.indexer.state import PoolEntry, Rows
from deai.errors import IllegalTransition
from deai.events import (
    BatchMatured,
    BatchStarted,
    CommissionAnnounced,
    Delegated,
    IncomeShared,
    PoolClosed,
    PoolOpened,
    PoolSlashed,
    Position,
    UndelegationPaid,
    UndelegationRequested,
)
from deai.pools import NOTICE_EPOCHS, PoolState, slash

PoolEvent: TypeAlias = (
    PoolOpened
    | Delegated
    | UndelegationRequested
    | BatchStarted
    | BatchMatured
    | UndelegationPaid
    | IncomeShared
    | PoolSlashed
    | CommissionAnnounced
    | PoolClosed
)

_change: Final = msgspec.structs.replace


def fold_pool(rows: Rows, event: PoolEvent, at: Position) -> PoolEntry:
    """The pool after `event`; raise `IllegalTransition` if it cannot follow."""
    before = rows.pool(event.node)
    if isinstance(event, PoolOpened):
        if before is not None:
            raise IllegalTransition(f"the pool of {event.node} was opened before")
        return PoolEntry(
            node=event.node,
            manager=event.manager,
            index=event.index,
            commission=event.commission,
            assets=int(event.stake),
            shares=int(event.stake),
            manager_shares=int(event.stake),
            opened_at=at.time,
        )
    if before is None:
        raise IllegalTransition(f"{event.node} has no pool")
    if before.state is not (_state_of(event) or before.state):
        raise IllegalTransition(f"the pool of {event.node} is {before.state.label}")
    match event:
        case Delegated() | IncomeShared() | PoolSlashed():
            after = _worth(before, event)
        case UndelegationRequested() | BatchStarted() | BatchMatured() | UndelegationPaid():
            after = _leaving(before, event)
        case CommissionAnnounced():
            after = _announced(before, event)
        case PoolClosed():
            after = _change(
                before,
                state=PoolState.CLOSING,
                manager_shares=before.manager_shares + before.queued_by_manager,
                queued=0,
                queued_by_manager=0,
            )
    least = min(after.assets, after.leaving, after.manager_shares, after.queued_by_manager)
    if least < 0 or after.manager_shares > after.shares:
        raise IllegalTransition(f"{event.node} is left with less than nothing")
    return after


def _state_of(event: PoolEvent) -> PoolState | None:
    """In which state alone an event can happen; None for one that can in several."""
    match event:
        case BatchStarted(batch=0) | BatchMatured(batch=0):
            return PoolState.CLOSING
        case UndelegationPaid(batch=0):
            return PoolState.CLOSED
        case Delegated() | UndelegationRequested() | BatchStarted() | CommissionAnnounced():
            return PoolState.OPEN
        case PoolClosed():
            return PoolState.OPEN
        case _:
            return None


def _worth(before: PoolEntry, event: Delegated | IncomeShared | PoolSlashed) -> PoolEntry:
    """What changes the worth of shares, or makes some for what comes in."""
    match event:
        case Delegated(account=account, amount=amount, shares=shares):
            own = shares if account == before.manager else 0
            return _grown(before, assets=int(amount), shares=shares, manager_shares=own)
        case IncomeShared(income=income, commission_shares=bought):
            if not before.shares:
                return _grown(before, income=int(income))  # the manager was sent it
            return _grown(
                before, assets=int(income), income=int(income), shares=bought,
                manager_shares=bought,
            )  # fmt: skip
        case PoolSlashed(amount=taken, bounty=bounty, bounty_shares=burnt):
            if not 0 < taken <= before.assets + before.leaving:
                raise IllegalTransition(f"{event.node} lost more than there was")
            lost = slash(
                int(taken), int(bounty), assets=before.assets, leaving=before.leaving,
                shares=before.shares, free=before.manager_shares,
            ).lost  # fmt: skip
            return _grown(
                before, leaving=-lost, assets=lost - int(taken), shares=-burnt,
                manager_shares=-burnt,
            )  # fmt: skip


def _leaving(
    before: PoolEntry,
    event: UndelegationRequested | BatchStarted | BatchMatured | UndelegationPaid,
) -> PoolEntry:
    """Shares on their way out; batch 0 is all that is left of a pool that closes."""
    match event:
        case UndelegationRequested(account=account, shares=shares):
            own = shares if account == before.manager else 0
            return _grown(before, queued=shares, queued_by_manager=own, manager_shares=-own)
        case BatchStarted(batch=0):
            return _change(before, matures_at=event.matures_at)
        case BatchStarted():
            after = _grown(before, assets=-int(event.amount), shares=-event.shares)
            return _change(
                after,
                batch=event.batch + 1,
                matures_at=event.matures_at,
                leaving=int(event.amount),
                leaving_shares=event.shares,
                queued=0,
                queued_by_manager=0,
            )
        case BatchMatured(batch=0):
            return _change(before, state=PoolState.CLOSED, matures_at=0)
        case BatchMatured(amount=paid):
            if event.batch + 1 != before.batch:
                raise IllegalTransition(f"batch {event.batch} of {event.node} did not unbond")
            after = _grown(before, assets=before.leaving - int(paid), paid_out=int(paid))
            return _change(after, leaving=0, leaving_shares=0, matures_at=0)
        case UndelegationPaid(batch=0, account=account, amount=amount):
            return _redeemed(before, int(amount), by_manager=account == before.manager)
        case UndelegationPaid():
            return before  # it left the pool when its batch matured


def _redeemed(before: PoolEntry, amount: int, *, by_manager: bool) -> PoolEntry:
    """Of a closed pool; the event tells what was paid, and not for how many shares."""
    own = before.manager_shares if by_manager else 0
    others = before.shares - before.manager_shares
    gone = own or min(others, -(-amount * before.shares // max(1, before.assets)))
    return _grown(
        before, assets=-amount, paid_out=amount, shares=-gone, manager_shares=-own
    )  # fmt: skip


def _announced(before: PoolEntry, event: CommissionAnnounced) -> PoolEntry:
    """A new commission waits; one that waited long enough before is in force."""
    return _change(
        before,
        commission=before.commission_at(event.epoch - NOTICE_EPOCHS),
        next_commission=event.bps,
        next_commission_epoch=event.epoch,
    )


def _grown(pool: PoolEntry, **sums: int) -> PoolEntry:
    return _change(pool, **{name: getattr(pool, name) + more for name, more in sums.items()})
