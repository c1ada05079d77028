"""Delegation as its contract does it: an account owns the node, and a book says whose is what.

Each verb asks what the contract asks, in its order, and reports what it reports, in its order.
"""

from __future__ import annotations

from deai import pools
from deai.actions import (
    AddStake,
    AdvancePool,
    AnnounceCommission,
    ClaimDelegation,
    ClosePool,
    Delegate,
    OpenPool,
    PoolRotateOperator,
    PoolUnjail,
    RegisterNode,
    RotateOperator,
    Undelegate,
    Unjail,
)
from deai.chain import memory_registry as registry
from deai.chain.memory_pool_book import Pool, acting_as, bad_state
from deai.chain.memory_state import Call, Lent, PoolBook, refuse
from deai.events import CommissionAnnounced, Delegated, PoolOpened, UndelegationRequested
from deai.ids import AccountId, NodeId, node_id, owner_of
from deai.money import Amount, Count
from deai.pools import (
    MAX_COMMISSION,
    MAX_SHARES,
    MIN_MINTED,
    NOTICE_EPOCHS,
    DelegationRecord,
    PoolRecord,
    PoolState,
    worth,
)
from deai.standing import Standing


def open_pool(call: Call, action: OpenPool) -> None:
    """A new account owns a new node, with the sender's tokens as its stake."""
    domain = call.info.delegations
    call.move_tokens(call.sender, domain.contract, action.stake)
    _require_open(call)
    if action.commission_bps > MAX_COMMISSION:
        refuse("CommissionTooHigh", commission=action.commission_bps)
    owner = pools.pool_owner(domain, call.sender, action.index)
    node, stake = node_id(owner, 0), int(action.stake)
    if node in call.pools:
        bad_state(node, call.pools[node].state)
    call.pools[node] = PoolBook(
        manager=call.sender, commission=action.commission_bps, state=PoolState.OPEN, batch=1,
        assets=stake, shares=stake, bonded=stake,
    )  # fmt: skip
    call.lent[node, call.sender] = Lent(shares=stake)
    call.emit(
        PoolOpened(node, call.sender, Count(action.index), action.commission_bps, action.stake)
    )  # fmt: skip
    call.move_tokens(domain.contract, owner, stake)
    with acting_as(call, owner):
        registry.register(
            call,
            RegisterNode(
                0, action.operator, action.valid_until, action.signature, action.stake,
                action.peer_id, action.addresses,
            ),
        )  # fmt: skip


def delegate(call: Call, action: Delegate) -> None:
    """More stake, for shares at the pool's worth."""
    contract, amount = call.info.delegations.contract, int(action.amount)
    call.move_tokens(call.sender, contract, amount)
    _require_open(call)
    pool = Pool(call, action.node)
    standing, book = pool.advance(), pool.book
    if book.state is not PoolState.OPEN:
        bad_state(action.node, book.state)
    if standing is Standing.JAILED and call.sender != book.manager:
        refuse("Jailed", node=action.node)
    least = int(call.parameters.min_delegation)
    if amount < least:
        refuse("TooSmall", found=amount, least=least)
    shares = pools.minted(amount, book.shares, book.assets)
    if shares < MIN_MINTED:
        refuse("TooSmall", found=shares, least=MIN_MINTED)
    if shares > MAX_SHARES - book.shares:
        refuse("BadData")
    book.shares += shares
    book.assets += amount
    book.bonded += amount
    pool.lend(call.sender, shares)
    if call.sender != book.manager:
        pool.check_leverage()
    pool.store()
    call.emit(Delegated(action.node, call.sender, action.amount, Count(shares)))
    with acting_as(call, contract):
        registry.add_stake(call, AddStake(action.node, action.amount))


def undelegate(call: Call, action: Undelegate) -> None:
    """Shares of the sender wait for a batch, which begins at once if none unbonds."""
    pool = Pool(call, action.node)
    pool.advance()
    pool.pay(call.sender)
    book, shares = pool.book, action.shares
    if book.state is not PoolState.OPEN:
        bad_state(action.node, book.state)
    lent = pool.lent(call.sender)
    if not shares:
        refuse("BadData")
    if shares > lent.shares:
        refuse("Insufficient", available=lent.shares, needed=shares)
    if lent.queued and lent.batch != book.batch:
        refuse("StillLeaving", batch=lent.batch)
    book.queued += shares
    pool.keep(call.sender, Lent(lent.shares - shares, lent.queued + shares, book.batch))
    if call.sender == book.manager:
        pool.check_own_part()
        pool.check_leverage()
    call.emit(UndelegationRequested(action.node, call.sender, shares, book.batch))
    pool.begin()
    pool.store()


def advance(call: Call, action: AdvancePool) -> None:
    """Recognise a slash, share out income, pay what matured, start the next."""
    pool = Pool(call, action.node)
    pool.advance()
    pool.store()


def claim(call: Call, action: ClaimDelegation) -> None:
    """An account is sent what matured."""
    pool = Pool(call, action.node)
    pool.advance()
    if not pool.pay(action.account):
        refuse("NothingToClaim", account=action.account)
    pool.store()


def announce_commission(call: Call, action: AnnounceCommission) -> None:
    """Another commission, after a whole epoch."""
    pool = _managed(call, action.node)
    if action.bps > MAX_COMMISSION:
        refuse("CommissionTooHigh", commission=action.bps)
    pool.advance()
    pool.require_open()
    book = pool.book
    book.next_commission = action.bps
    book.next_commission_epoch = registry.epoch_of(call) + NOTICE_EPOCHS
    pool.store()
    call.emit(CommissionAnnounced(action.node, action.bps, book.next_commission_epoch))


def close(call: Call, action: ClosePool) -> None:
    """Everything leaves."""
    pool = _managed(call, action.node)
    pool.advance()
    pool.require_open()
    pool.shut()
    pool.begin()
    pool.store()


def rotate_operator(call: Call, action: PoolRotateOperator) -> None:
    """A new hot key for the node."""
    _managed(call, action.node)
    with acting_as(call, owner_of(action.node)):
        registry.rotate_operator(
            call,
            RotateOperator(action.node, action.operator, action.valid_until, action.signature),
        )


def unjail(call: Call, action: PoolUnjail) -> None:
    """The node is released, if the manager's own part is whole again."""
    pool = _managed(call, action.node)
    pool.advance()
    pool.require_open()
    pool.check_own_part()
    pool.store()
    with acting_as(call, owner_of(action.node)):
        registry.unjail(call, Unjail(action.node))


def pool_of(call: Call, node: NodeId) -> PoolRecord | None:
    """The contract's view; raises `NotSetUp` where there is none."""
    _ = call.info.delegations
    if node not in call.pools:
        return None
    pool = Pool(call, node)
    pool.ripen()
    book = pool.book
    return PoolRecord(
        manager=book.manager,
        commission=book.commission,
        next_commission=book.next_commission,
        next_commission_epoch=book.next_commission_epoch,
        state=book.state,
        batch=book.batch,
        matures_at=book.matures_at,
        assets=Amount(book.assets),
        leaving=Amount(book.leaving),
        unbonding=Amount(book.unbonding),
        shares=book.shares,
        manager_shares=pool.lent(book.manager).shares,
        queued=book.queued,
        leaving_shares=book.leaving_shares,
    )


def delegation_of(call: Call, node: NodeId, account: AccountId) -> DelegationRecord:
    """The contract's view; raises `NotSetUp` where there is none."""
    _ = call.info.delegations
    if node not in call.pools:
        return pools.NO_DELEGATION
    pool = Pool(call, node)
    lent, due = pool.resolved(pool.lent(account)), 0
    if pool.is_matured(lent):
        batch = call.batches[node, lent.batch]
        due = worth(lent.queued, batch.shares, batch.amount)
    if pool.book.state is PoolState.CLOSED:
        due += worth(lent.shares, pool.book.shares, pool.book.assets)
    return DelegationRecord(
        shares=lent.shares,
        queued=lent.queued,
        queued_batch=lent.batch if lent.queued else 0,
        claimable=Amount(due),
    )


def _managed(call: Call, node: NodeId) -> Pool:
    pool = Pool(call, node)
    if call.sender != pool.book.manager:
        refuse("Forbidden", caller=call.sender)
    return pool


def _require_open(call: Call) -> None:
    if call.paused:
        refuse("IsPaused")
