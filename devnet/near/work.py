"""One block in the making: transactions become receipts, receipts run and send others."""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgspec

from devnet.near.actions import send_gas
from devnet.near.borsh import SignedTransaction
from devnet.near.errors import InvalidTransaction
from devnet.near.execution import Executor
from devnet.near.keys import base58
from devnet.near.pool import Pool
from devnet.near.receipts import ActionReceipt, Outcome, Pending, Ready, Receipt, shuffled
from devnet.near.rules import GAS_PRICE
from devnet.near.settlement import BlockContext
from devnet.near.state import State
from devnet.near.store import ExecutedReceipt, IncludedTransaction
from devnet.near.transactions import charge
from devnet.near.views import outcome_view, receipt_view, transaction_view

CheckAge = Callable[[SignedTransaction, int], None]
"""Raises :class:`InvalidTransaction` for one too old for a block at a height."""


@dataclass(frozen=True)
class Progress:
    """Receipts of a transaction that have not run: all of them, and those that are no refunds."""

    all: int = 0
    working: int = 0


@dataclass
class Books:
    """Money made and unmade since the beginning (yoctoNEAR), and transactions still at work."""

    burnt: int = 0
    minted: int = 0
    open: dict[str, Progress] = field(default_factory=dict)

    def count(self, receipt: ActionReceipt, by: int) -> None:
        """Count a receipt that was sent (1) or has run (-1)."""
        left = self.open.get(receipt.transaction, Progress())
        left = Progress(left.all + by, left.working + (0 if receipt.is_refund else by))
        if left.all:
            self.open[receipt.transaction] = left
        else:
            self.open.pop(receipt.transaction, None)


class Work:
    """Makes one block; afterwards ``transactions`` and ``receipts`` are what it holds."""

    def __init__(
        self, state: State, pending: Pending, books: Books, executor: Executor,
        context: BlockContext,
    ) -> None:  # fmt: skip
        self.transactions: list[IncludedTransaction] = []
        self.receipts: list[ExecutedReceipt] = []
        self.gas_burnt = 0
        self._state = state
        self._pending = pending
        self._books = books
        self._executor = executor
        self._context = context
        self._hash = base58(context.hash)
        self._local: list[Receipt] = []
        self._next: deque[Receipt] = deque()

    def take(self, pool: Pool, check_age: CheckAge, stop: float) -> None:
        """Take transactions out of the pool until ``stop`` and turn them into receipts."""
        for transaction in pool.in_order() if pool else ():
            try:
                check_age(transaction, self._context.height)
                charge(self._state, transaction, self._context.height)
            except InvalidTransaction as reason:
                pool.refuse(transaction, reason)
                continue
            pool.remove(transaction)
            self._start(transaction)
            if time.monotonic() > stop:
                return

    def run(self, chance: Random | None, stop: float) -> bool:
        """Run what is due until ``stop``; True if something is left for the next block."""
        due: list[Receipt] = list(self._pending.due)
        held: list[Receipt] = []
        if chance is not None:
            due, held = shuffled(due, chance)
        todo = deque([*self._local, *due])
        while todo:
            ready = self._pending.arrive(todo.popleft())
            if ready is None:
                continue
            self._apply(ready)
            if time.monotonic() > stop:
                break
        self._pending.due = deque([*held, *todo, *self._next])
        return bool(todo)

    def _start(self, transaction: SignedTransaction) -> None:
        identity = hashlib.sha256(transaction.hash + self._context.hash).digest()
        receipt = ActionReceipt(
            base58(identity), transaction.id, transaction.signer, transaction.receiver,
            transaction.signer, transaction.public_key, transaction.actions,
        )  # fmt: skip
        burnt = send_gas(transaction.actions, transaction.signer, transaction.receiver)
        outcome = Outcome(
            transaction.id, transaction.signer, {"SuccessReceiptId": receipt.id}, (),
            (receipt.id,), burnt, burnt * GAS_PRICE,
        )  # fmt: skip
        self._books.burnt += burnt * GAS_PRICE
        self.gas_burnt += burnt
        self.transactions.append(
            IncludedTransaction(
                transaction.id,
                msgspec.json.encode(transaction_view(transaction)),
                msgspec.json.encode(outcome_view(outcome, self._hash)),
            )
        )
        self._books.count(receipt, 1)
        # What one does to oneself is done in the same block.
        to_self = transaction.signer == transaction.receiver
        (self._local if to_self else self._next).append(receipt)

    def _apply(self, ready: Ready) -> None:
        applied = self._executor.apply(ready, self._context)
        self._books.burnt += applied.burnt
        self.gas_burnt += applied.outcome.gas_burnt
        receipt = ready.receipt
        self.receipts.append(
            ExecutedReceipt(
                receipt.id,
                receipt.transaction,
                msgspec.json.encode(receipt_view(receipt)),
                msgspec.json.encode(outcome_view(applied.outcome, self._hash)),
            )
        )
        for sent in applied.sent:
            if isinstance(sent, ActionReceipt):
                self._books.count(sent, 1)
        self._books.count(receipt, -1)
        self._next.extend(applied.sent)
