"""One pool in the course of one verb: its book, as the contract keeps it, and its account's doings.

The functions are named like the contract's own, ask what it asks and report what it reports, in
its order. The arithmetic is that of `deai.pools`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import msgspec

from deai import pools
from deai.actions import AddStake, CollectEarnings, RequestUnstake, WithdrawStake
from deai.chain import memory_orders as orders, memory_registry as registry
from deai.chain.ledger import ORDERS_CONTRACT
from deai.chain.memory_state import NOTHING_LENT, Call, Lent, NodeState, PaidBatch, refuse
from deai.events import (
    BatchMatured,
    BatchStarted,
    IncomeShared,
    PoolClosed,
    PoolSlashed,
    UndelegationPaid,
    VaultWithdrawn,
)
from deai.ids import AccountId, NodeId, owner_of
from deai.money import Amount, Count
from deai.pools import LEVERAGE, PoolState, worth
from deai.standing import Standing

KEEPSAKE: Final = 1
"""Stays with an owner's account for good."""


class Pool:
    """One pool in the course of one verb; `book` is a copy until it is stored."""

    def __init__(self, call: Call, node: NodeId) -> None:
        _ = call.info.delegations
        if node not in call.pools:
            bad_state(node, PoolState.NONE)
        self.call = call
        self.node = node
        self.owner = owner_of(node)
        self.book = msgspec.structs.replace(call.pools[node])

    def store(self) -> None:
        """Let the changes of the book be the contract's."""
        self.call.pools[self.node] = self.book

    # --- who has what

    def lent(self, account: AccountId) -> Lent:
        return self.call.lent.get((self.node, account), NOTHING_LENT)

    def keep(self, account: AccountId, lent: Lent) -> None:
        self.call.lent[self.node, account] = lent

    def lend(self, account: AccountId, shares: int) -> None:
        """More shares (or fewer) for an account."""
        lent = self.lent(account)
        self.keep(account, msgspec.structs.replace(lent, shares=lent.shares + shares))

    def resolved(self, lent: Lent) -> Lent:
        """Shares that wait for a batch that never starts go the way of the others."""
        if self.book.state is PoolState.OPEN or not lent.queued or lent.batch != self.book.batch:
            return lent
        return Lent(lent.shares + lent.queued, 0, lent.batch)

    def is_matured(self, lent: Lent) -> bool:
        """Whether the batch that an account's shares left with was paid."""
        if not lent.queued or lent.batch == self.book.batch:
            return False
        return not self.book.leaving_shares or lent.batch + 1 != self.book.batch

    # --- checks

    def require_open(self) -> None:
        if self.book.state is not PoolState.OPEN:
            bad_state(self.node, self.book.state)

    def check_own_part(self) -> None:
        own = self.lent(self.book.manager).shares
        amount = worth(own, self.book.shares, self.book.assets)
        least = int(self.call.parameters.min_stake)
        if amount < least:
            refuse("OwnPartTooLow", amount=amount, least=least)

    def check_leverage(self) -> None:
        most = (LEVERAGE + 1) * self.lent(self.book.manager).shares
        shares = self.book.shares - self.book.queued
        if shares > most:
            refuse("Overleveraged", shares=shares, most=most)

    # --- what advancing does

    def advance(self) -> Standing:
        """All that anybody may let happen; the node's standing before."""
        node = self.call.node(self.node)
        self.ripen()
        given = self._compare(node)
        self._harvest(given)
        self._mature()
        self.begin()
        return node.standing

    def ripen(self) -> None:
        """What was announced comes into force."""
        book = self.book
        if book.next_commission_epoch and registry.epoch_of(self.call) >= (
            book.next_commission_epoch
        ):
            book.commission, book.next_commission = book.next_commission, 0
            book.next_commission_epoch = 0

    def _compare(self, node: NodeState) -> int:
        """Recognise a slash; what others added to the stake is given."""
        book, taken = self.book, 0
        if node.unbonding < book.unbonding:
            taken, book.unbonding = book.unbonding - node.unbonding, node.unbonding
        if node.bonded < book.bonded:
            taken, book.bonded = taken + book.bonded - node.bonded, node.bonded
        if taken:
            self._slash(taken)
        if node.bonded > book.bonded and (book.state is PoolState.OPEN or book.leaving_shares):
            given, book.bonded = node.bonded - book.bonded, node.bonded
            return given
        return 0

    def _slash(self, taken: int) -> None:
        book = self.book
        found = pools.slash(
            taken, int(self.call.parameters.bounty), assets=book.assets, leaving=book.leaving,
            shares=book.shares, free=self.lent(book.manager).shares,
        )  # fmt: skip
        book.leaving -= found.lost
        book.assets -= taken - found.lost
        book.shares -= found.burnt
        self.lend(book.manager, -found.burnt)
        self.call.emit(
            PoolSlashed(self.node, Amount(taken), Amount(found.bounty), Count(found.burnt))
        )

    def _harvest(self, given: int) -> None:
        call, book, owner = self.call, self.book, self.owner
        if earned := call.vault.get(owner, 0):
            call.debit(owner, earned)
            call.emit(VaultWithdrawn(owner, owner, Amount(earned)))
            call.move_tokens(call.info.contracts["TaskEscrow"], owner, earned)
        if ORDERS_CONTRACT in call.info.contracts and orders.earnings_of(call, owner).earned:
            orders.collect(call, CollectEarnings(owner))
        came = max(0, call.tokens.get(owner, 0) - book.held - KEEPSAKE)
        income = came + given
        if not income:
            return
        if not book.shares:
            call.emit(IncomeShared(self.node, Amount(income), Amount(income), Count(0)))
            self._send(book.manager, came)
            return
        kept, bought = pools.commission(income, book.commission, book.shares, book.assets)
        book.assets += income
        book.shares += bought
        if bought:
            self.lend(book.manager, bought)
        call.emit(IncomeShared(self.node, Amount(income), Amount(kept), Count(bought)))
        book.held += came
        self._stake(came)

    def _mature(self) -> None:
        """Pay the batch that unbonds, or end the pool."""
        book, call = self.book, self.call
        if not book.matures_at or call.now <= book.matures_at:
            return
        back = book.unbonding
        book.matures_at, book.unbonding, book.held = 0, 0, book.held + back
        if back:
            with acting_as(call, self.owner):
                registry.withdraw_stake(call, WithdrawStake(self.node, self.owner))
        if not book.leaving_shares:
            self._end()
            return
        paid = min(book.leaving, back)
        number = book.batch - 1
        call.batches[self.node, number] = PaidBatch(book.leaving_shares, paid)
        book.assets += book.leaving - paid
        book.leaving, book.leaving_shares = 0, 0
        call.emit(BatchMatured(self.node, number, Amount(paid)))
        self._stake(back - paid)

    def begin(self) -> None:
        """Start to unbond the next batch, or everything."""
        book = self.book
        if book.matures_at:
            return
        if book.state is PoolState.OPEN and book.queued:
            amount = worth(book.queued, book.shares, book.assets)
            if amount + self.call.parameters.min_stake <= book.bonded:
                self._start_batch(amount)
                return
            self.shut()
        if book.state is not PoolState.CLOSING:
            return
        everything = book.bonded
        if not everything:
            self._end()
            return
        book.bonded = 0
        self._unbond(everything)
        self.call.emit(
            BatchStarted(self.node, 0, Count(book.shares), Amount(book.assets), book.matures_at)
        )

    def _start_batch(self, amount: int) -> None:
        book, call = self.book, self.call
        shares, number = book.queued, book.batch
        book.batch += 1
        book.queued, book.shares, book.assets = 0, book.shares - shares, book.assets - amount
        if not amount:
            call.batches[self.node, number] = PaidBatch(shares, 0)
            call.emit(BatchStarted(self.node, number, Count(shares), Amount(0), call.now))
            call.emit(BatchMatured(self.node, number, Amount(0)))
            return
        book.leaving, book.leaving_shares, book.bonded = amount, shares, book.bonded - amount
        self._unbond(amount)
        call.emit(BatchStarted(self.node, number, Count(shares), Amount(amount), book.matures_at))

    def _unbond(self, amount: int) -> None:
        book = self.book
        book.unbonding = amount
        book.matures_at = self.call.now + self.call.parameters.unbonding_seconds
        with acting_as(self.call, self.owner):
            registry.request_unstake(self.call, RequestUnstake(self.node, Amount(amount)))

    def shut(self) -> None:
        """Shares that wait go the way of all others now."""
        book = self.book
        book.state, book.queued = PoolState.CLOSING, 0
        self.keep(book.manager, self.resolved(self.lent(book.manager)))
        self.call.emit(PoolClosed(self.node))

    def _end(self) -> None:
        self.book.state = PoolState.CLOSED
        self.call.emit(BatchMatured(self.node, 0, Amount(self.book.assets)))

    # --- going out

    def pay(self, account: AccountId) -> bool:
        """Send an account what matured; whether there was anything, be it worth nothing."""
        book, call = self.book, self.call
        lent, total, found = self.resolved(self.lent(account)), 0, False
        if self.is_matured(lent):
            batch = call.batches[self.node, lent.batch]
            due = worth(lent.queued, batch.shares, batch.amount)
            call.batches[self.node, lent.batch] = PaidBatch(
                batch.shares - lent.queued, batch.amount - due
            )
            call.emit(UndelegationPaid(self.node, account, lent.batch, Amount(due)))
            lent, total, found = Lent(lent.shares, 0, lent.batch), due, True
        if book.state is PoolState.CLOSED and lent.shares:
            due = worth(lent.shares, book.shares, book.assets)
            book.shares, book.assets = book.shares - lent.shares, book.assets - due
            call.emit(UndelegationPaid(self.node, account, 0, Amount(due)))
            lent, total, found = Lent(0, lent.queued, lent.batch), total + due, True
        if found:
            self.keep(account, lent)
            book.held -= total
            self._send(account, total)
        return found

    # --- the owner's account

    def _stake(self, amount: int) -> None:
        """Held tokens become stake, while the pool is open."""
        book = self.book
        if not amount or book.state is not PoolState.OPEN:
            return
        book.held, book.bonded = book.held - amount, book.bonded + amount
        with acting_as(self.call, self.owner):
            registry.add_stake(self.call, AddStake(self.node, Amount(amount)))

    def _send(self, to: AccountId, amount: int) -> None:
        if amount:
            self.call.move_tokens(self.owner, to, amount)


def bad_state(node: NodeId, state: PoolState) -> NoReturn:
    """Refuse what a pool's state does not allow."""
    # As the contract of channels, which was first to have an error of this form, calls it.
    refuse("BadState", id=node, state=int(state))


@contextmanager
def acting_as(call: Call, account: AccountId) -> Iterator[None]:
    """A contract's account calls the registry."""
    sender, call.sender = call.sender, account
    try:
        yield
    finally:
        call.sender = sender
