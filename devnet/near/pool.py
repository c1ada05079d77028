"""Transactions that wait for a block: bounded, each key's in the order of their nonces.

The pool is not kept over a restart (a client sends again).
"""

from collections import OrderedDict
from typing import Final

from devnet.near.borsh import SignedTransaction
from devnet.near.errors import InvalidTransaction

MAX_TRANSACTIONS: Final = 8_192
MAX_PER_SIGNER: Final = 2_048
MAX_POOL_BYTES: Final = 32 << 20
MAX_REMEMBERED: Final = 4_096


class Pool:
    """The waiting transactions, and why the last of those thrown out were."""

    def __init__(self) -> None:
        self._waiting: dict[str, SignedTransaction] = {}  # by id, in order of arrival
        self._per_signer: dict[str, int] = {}
        self._bytes = 0
        self._refused: OrderedDict[str, InvalidTransaction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, transaction_id: str) -> bool:
        return transaction_id in self._waiting

    def add(self, transaction: SignedTransaction) -> None:
        """Take a transaction in; raises :class:`InvalidTransaction` when there is no room."""
        count = self._per_signer.get(transaction.signer, 0)
        if (
            len(self._waiting) >= MAX_TRANSACTIONS
            or count >= MAX_PER_SIGNER
            or self._bytes + transaction.size > MAX_POOL_BYTES
        ):
            raise InvalidTransaction({"ShardCongested": {"shard_id": 0, "congestion_level": 1.0}})
        self._waiting[transaction.id] = transaction
        self._per_signer[transaction.signer] = count + 1
        self._bytes += transaction.size
        self._refused.pop(transaction.id, None)

    def in_order(self) -> list[SignedTransaction]:
        """Return everything that waits: by arrival, but no key's nonces out of order."""
        arrived = list(self._waiting.values())
        by_key: dict[tuple[str, str], list[SignedTransaction]] = {}
        for transaction in arrived:
            by_key.setdefault((transaction.signer, transaction.public_key), []).append(transaction)
        lines = {key: iter(sorted(line, key=lambda one: one.nonce)) for key, line in by_key.items()}
        return [next(lines[one.signer, one.public_key]) for one in arrived]

    def remove(self, transaction: SignedTransaction) -> None:
        """Forget a transaction: a block holds it, or none will."""
        del self._waiting[transaction.id]
        self._bytes -= transaction.size
        self._per_signer[transaction.signer] -= 1
        if not self._per_signer[transaction.signer]:
            del self._per_signer[transaction.signer]

    def refuse(self, transaction: SignedTransaction, reason: InvalidTransaction) -> None:
        """Throw a transaction out; who waits for it is told why."""
        self.remove(transaction)
        self._refused[transaction.id] = reason
        if len(self._refused) > MAX_REMEMBERED:
            self._refused.popitem(last=False)

    def refusal(self, transaction_id: str) -> InvalidTransaction | None:
        """Return why a transaction was thrown out."""
        return self._refused.get(transaction_id)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._per_signer.clear()
        self._refused.clear()
        self._bytes = 0
