"""Transactions that wait for a block: in order, without gaps, bounded.

A sender's nonces must follow each other, as in Sei's coming mempool: a gap is refused, not queued.
Order of arrival is the order of execution, so nonces are in order by construction; a replacement
keeps the place of what it replaces. The pool is not kept over a restart (a client sends again).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from eth.abc import SignedTransactionAPI

from devnet.evm.errors import refused
from devnet.evm.rules import Rules
from devnet.evm.vm import minimum_gas

MAX_TRANSACTIONS: Final = 8_192
MAX_PER_SENDER: Final = 2_048
MAX_POOL_BYTES: Final = 32 << 20
MAX_TRANSACTION_BYTES: Final = 128 << 10
PRICE_BUMP_PERCENT: Final = 10


@dataclass(frozen=True, slots=True)
class Waiting:
    """One transaction in the pool, with what the pool must know about it."""

    transaction: SignedTransactionAPI
    hash: bytes
    sender: bytes
    nonce: int
    max_fee: int  # wei per gas
    max_tip: int  # wei per gas
    gas: int
    cost: int  # the most it can take from the sender, wei
    raw: bytes

    @classmethod
    def of(cls, transaction: SignedTransactionAPI, raw: bytes) -> "Waiting":
        """Read a decoded transaction."""
        max_fee = int(transaction.max_fee_per_gas)
        return cls(
            transaction=transaction,
            hash=bytes(transaction.hash),
            sender=bytes(transaction.sender),
            nonce=int(transaction.nonce),
            max_fee=max_fee,
            max_tip=int(transaction.max_priority_fee_per_gas),
            gas=int(transaction.gas),
            cost=int(transaction.gas) * max_fee + int(transaction.value),
            raw=raw,
        )


class _Account:
    """One sender's part of the pool: consecutive nonces and what they may cost together."""

    __slots__ = ("by_nonce", "cost")

    def __init__(self) -> None:
        self.by_nonce: dict[int, Waiting] = {}
        self.cost = 0


class Pool:
    """The waiting transactions. Every refusal is an :class:`RpcError` with geth's text."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._order: dict[tuple[bytes, int], bytes] = {}  # (sender, nonce) -> hash, by arrival
        self._by_hash: dict[bytes, Waiting] = {}
        self._accounts: dict[bytes, _Account] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, transaction_hash: bytes) -> Waiting | None:
        """Return the waiting transaction with this hash."""
        return self._by_hash.get(transaction_hash)

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """Return the nonce after the sender's last waiting one; ``nonce`` is the chain's."""
        account = self._accounts.get(sender)
        return nonce if account is None else nonce + len(account.by_nonce)

    def in_order(self) -> Iterator[Waiting]:
        """Yield everything that waits, in order of arrival. Do not change the pool meanwhile."""
        for transaction_hash in self._order.values():
            yield self._by_hash[transaction_hash]

    def add(self, waiting: Waiting, *, nonce: int, balance: int, base_fee: int) -> None:
        """Take one transaction in; ``nonce`` and ``balance`` are the sender's on the chain.

        Raises :class:`RpcError` when it is already known, out of order, too cheap, too large, not
        covered by the balance together with what waits before it, or when the pool is full.
        """
        self._check_itself(waiting, base_fee)
        if waiting.hash in self._by_hash:
            raise refused("already known")
        if waiting.nonce < nonce:
            raise refused(f"nonce too low: next nonce {nonce}, tx nonce {waiting.nonce}")
        account = self._accounts.get(waiting.sender) or _Account()
        old = account.by_nonce.get(waiting.nonce)
        expected = nonce + len(account.by_nonce)
        if old is None and waiting.nonce != expected:
            raise refused(f"nonce too high: next nonce {expected}, tx nonce {waiting.nonce}")
        if old is not None and not _outbids(waiting, old):
            raise refused("replacement transaction underpriced")
        queued = account.cost - (old.cost if old else 0)
        if queued + waiting.cost > balance:
            raise refused(
                f"insufficient funds for gas * price + value: balance {balance}, "
                f"queued cost {queued}, tx cost {waiting.cost}, "
                f"overshot {queued + waiting.cost - balance}"
            )
        if old is None:
            self._check_room(waiting, account)
        else:
            self._forget(old)
        self._accounts[waiting.sender] = account
        account.by_nonce[waiting.nonce] = waiting
        account.cost = queued + waiting.cost
        self._order[waiting.sender, waiting.nonce] = waiting.hash
        self._by_hash[waiting.hash] = waiting
        self._bytes += len(waiting.raw)

    def settle(self, sender: bytes, nonce: int) -> None:
        """Drop what the chain has passed: the sender's waiting transactions below ``nonce``."""
        self._drop(sender, lambda waiting_nonce: waiting_nonce < nonce)

    def drop_from(self, sender: bytes, nonce: int) -> None:
        """Drop the sender's transactions from ``nonce`` on: that one can never be included."""
        self._drop(sender, lambda waiting_nonce: waiting_nonce >= nonce)

    def clear(self) -> None:
        """Forget everything."""
        self._order.clear()
        self._by_hash.clear()
        self._accounts.clear()
        self._bytes = 0

    def _check_itself(self, waiting: Waiting, base_fee: int) -> None:
        if len(waiting.raw) > MAX_TRANSACTION_BYTES:
            raise refused(
                f"oversized data: transaction size {len(waiting.raw)}, "
                f"limit {MAX_TRANSACTION_BYTES}"
            )
        if waiting.gas > self._rules.block_gas_limit:
            raise refused("exceeds block gas limit")
        needed = minimum_gas(int(waiting.transaction.intrinsic_gas), waiting.transaction.data)
        if waiting.gas < needed:
            raise refused(f"intrinsic gas too low: gas {waiting.gas}, minimum needed {needed}")
        if waiting.max_tip > waiting.max_fee:
            raise refused(
                "max priority fee per gas higher than max fee per gas: "
                f"maxPriorityFeePerGas: {waiting.max_tip}, maxFeePerGas: {waiting.max_fee}"
            )
        if waiting.max_fee < base_fee:
            raise refused(
                "max fee per gas less than block base fee: "
                f"address 0x{waiting.sender.hex()}, maxFeePerGas: {waiting.max_fee}, "
                f"baseFee: {base_fee}"
            )

    def _check_room(self, waiting: Waiting, account: _Account) -> None:
        if len(account.by_nonce) >= MAX_PER_SENDER:
            raise refused("account limit exceeded")
        full = len(self._by_hash) >= MAX_TRANSACTIONS
        if full or self._bytes + len(waiting.raw) > MAX_POOL_BYTES:
            raise refused("txpool is full")

    def _forget(self, waiting: Waiting) -> None:
        del self._by_hash[waiting.hash]
        self._bytes -= len(waiting.raw)

    def _drop(self, sender: bytes, doomed: Callable[[int], bool]) -> None:
        account = self._accounts.get(sender)
        if account is None:
            return
        for nonce in [nonce for nonce in account.by_nonce if doomed(nonce)]:
            waiting = account.by_nonce.pop(nonce)
            account.cost -= waiting.cost
            del self._order[sender, nonce]
            self._forget(waiting)
        if not account.by_nonce:
            del self._accounts[sender]


def _outbids(new: Waiting, old: Waiting) -> bool:
    """Say whether ``new`` pays 10 % more than ``old``, in fee and in tip (a tip of 0 may stay)."""
    wanted = 100 + PRICE_BUMP_PERCENT
    return new.max_fee * 100 >= old.max_fee * wanted and new.max_tip * 100 >= old.max_tip * wanted
