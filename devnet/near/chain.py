"""The chain: takes transactions in, makes blocks, answers about state.

Everything here is synchronous and runs in one thread; the server calls it between two awaits, so
nobody ever sees half a block. A block is final when it is stored, and it is stored before any
answer mentions it.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import msgspec

from deai.errors import ConfigError
from devnet.near.borsh import SignedTransaction
from devnet.near.errors import InvalidTransaction, RpcError, parse_error
from devnet.near.execution import Executor
from devnet.near.pool import Pool
from devnet.near.receipts import Pending
from devnet.near.rules import CHAIN_ID, VALID_FOR_BLOCKS
from devnet.near.settlement import BlockContext
from devnet.near.state import (
    AccessKey,
    Account,
    Entry,
    History,
    Reading,
    State,
    key_bytes,
)
from devnet.near.store import Sealed, Store
from devnet.near.transactions import check_form, checked
from devnet.near.views import Block
from devnet.near.vm.machine import CallOutcome, Machine
from devnet.near.work import Books, Progress, Work

MAX_SNAPSHOTS: Final = 64
LAST_TIMESTAMP: Final = 2**63 - 1  # ns, as an SQLite and a nearcore number
TRANSACTION_SHARE: Final = 0.4  # of the time for a block; the rest executes receipts
SKIPPED: Final = 0.125  # chance that a shuffled chain leaves a height out
MAX_SETTLED_BLOCKS: Final = 256
"""Blocks made in one go; a circle of promises ends only with its gas."""

Clock = Callable[[], int]


class Options(msgspec.Struct, frozen=True):
    """How a chain behaves. ``block_ns`` is how far time moves with a height that is skipped.

    ``shuffle`` is the seed of a chain that runs receipts in any order that several shards could
    produce, holds some back for a block and leaves heights out; None: in order.
    """

    chain_id: str = CHAIN_ID
    block_ns: int = 10**9
    shuffle: int | None = None


class Grant(NamedTuple):
    """An account of the genesis: money in yoctoNEAR and full keys."""

    amount: int
    public_keys: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """A point to go back to."""

    head: Block
    state: State
    pending: Pending
    time_offset: int
    books: Books


class Chain:
    """One chain over one store. ``clock`` gives nanoseconds since 1970."""

    def __init__(
        self,
        store: Store,
        options: Options,
        genesis: Mapping[str, Grant],
        clock: Clock = time.time_ns,
    ) -> None:
        self.options = options
        self.store = store
        self.pool = Pool()
        self.watchers: list[Callable[[], None]] = []
        self._clock = clock
        self._machine = Machine()
        self._snapshots: list[Snapshot] = []
        self._time_offset = int(store.setting("time_offset", "0"))
        self._generation = int(store.setting("generation", "0"))
        self._late = False
        self.state, self.pending = store.load()
        self.books = Books(int(store.setting("burnt", "0")), int(store.setting("minted", "0")))
        head = store.head()
        self.head: Block = self._write_genesis(genesis) if head is None else head
        self._resume()

    # Transactions and blocks

    def submit(self, transaction: SignedTransaction) -> None:
        """Take a transaction into the pool, unless it is known.

        Raises :class:`InvalidTransaction` when the next block could not hold it.
        """
        if transaction.id in self.pool or self.store.transaction(transaction.id) is not None:
            return
        height = self.head.height + 1
        check_form(transaction)
        self._check_age(transaction, height)
        checked(self.state, transaction, height)
        self.pool.add(transaction)

    @property
    def is_busy(self) -> bool:
        """Say whether the next block has anything to do."""
        return bool(self.pool or self.pending.due)

    def produce(self, *, budget: float = float("inf")) -> Block:
        """Make the next block, store it, tell the watchers.

        ``budget`` is how many seconds of executing it may take: what does not fit goes into the
        next block, so that a loaded chain keeps its pace and its server still answers.
        """
        self._store([self._execute(budget)])
        return self.head

    def settle(self, *, budget: float = float("inf")) -> None:
        """Make blocks until nothing is left to do or ``budget`` seconds are over; one commit."""
        stop = time.monotonic() + budget
        made: list[Sealed] = []
        changed: set[Entry] = set()
        while self.is_busy and len(made) < MAX_SETTLED_BLOCKS and time.monotonic() < stop:
            made.append(self._execute(stop - time.monotonic()))
            changed |= self._remember()
        if made:
            self._store(made, changed)

    def progress(self, transaction_id: str) -> Progress | None:
        """Return what is left to do for a transaction; None if no block holds it."""
        found = self.books.open.get(transaction_id)
        if found is None and self.store.transaction(transaction_id) is not None:
            return Progress(0, 0)
        return found

    def supply(self) -> int:
        """Return all money in accounts and receipts, counted, in yoctoNEAR."""
        accounts = sum(account.amount for account in self.state.accounts.values())
        return accounts + sum(receipt.worth for receipt in self.pending.actions())

    # Time and history

    def fast_forward(self, heights: int, seconds: float | None = None) -> Block:
        """Leave out ``heights`` heights, and move the clock by their time or by ``seconds``.

        The block after them is made at once.
        """
        more = heights * self.options.block_ns if seconds is None else int(seconds * 10**9)
        latest = max(self._clock() + self._time_offset, self.head.timestamp) + more
        if heights < 0 or more < 0 or latest > LAST_TIMESTAMP:
            raise parse_error("the new time is out of range")
        self._time_offset += more
        sealed = self._execute(float("inf"), skipped=heights)
        self._store([sealed])
        return self.head

    def snapshot(self) -> int:
        """Remember this block; returns the number to give to :meth:`restore`."""
        if len(self._snapshots) >= MAX_SNAPSHOTS:
            raise parse_error(f"more than {MAX_SNAPSHOTS} snapshots")
        taken = Snapshot(
            self.head, self.state.copy(), self.pending.copy(), self._time_offset,
            Books(self.books.burnt, self.books.minted),
        )  # fmt: skip
        self._snapshots.append(taken)
        return len(self._snapshots)

    def restore(self, snapshot: int) -> bool:
        """Go back to a snapshot, which is used up, as are all later ones; False if unknown.

        Blocks made afterwards have other hashes than those removed, even when they are empty. The
        pool is emptied.
        """
        if not 1 <= snapshot <= len(self._snapshots):
            return False
        target = self._snapshots[snapshot - 1]
        del self._snapshots[snapshot - 1 :]
        self._time_offset, self._generation = target.time_offset, self._generation + 1
        self.head, self.books = target.head, target.books
        self.state, self.pending = target.state, target.pending
        self.store.rewind(self.head.height, self.state, self.pending, self._settings())
        self.pool.clear()
        self._resume()
        return True

    def patch(self, write: Callable[[State], None]) -> None:
        """Change the state by hand and make a block of it; money may appear and disappear.

        All of it or, when ``write`` raises :class:`RpcError`, nothing.
        """
        before = sum(account.amount for account in self.state.accounts.values())
        self.state.begin()
        try:
            write(self.state)
        except RpcError:
            self.state.undo()
            raise
        after = sum(account.amount for account in self.state.accounts.values())
        self.books.minted += after - before
        self.produce()

    # Reading

    def at(self, block: Block) -> Reading | None:
        """Return the state after a block; None if it is not known any more."""
        return self._history.before(self.state, block.height)

    def view(
        self, state: Reading, block: Block, account_id: str, method: str, args: bytes
    ) -> CallOutcome | None:
        """Run a view method on the state after ``block``; None without a contract."""
        account = state.account(account_id)
        if account is None or not account.code_hash:
            return None
        return self._executor.view(state, account_id, account, method, args, self._context(block))

    # Inside

    def _resume(self) -> None:
        self._executor = Executor(self.state, self._machine)
        self._history = History(self.head.height)
        for receipt in self.pending.actions():
            self.books.count(receipt, 1)

    def _check_age(self, transaction: SignedTransaction, height: int) -> None:
        dated = self.store.block_by_hash(transaction.block_hash)
        if dated is None or height > dated.height + VALID_FOR_BLOCKS:
            raise InvalidTransaction("Expired")

    def _execute(self, budget: float, *, skipped: int = 0) -> Sealed:
        began = time.monotonic()
        chance = self._chance()
        if chance is not None and chance.random() < SKIPPED:
            skipped += 1
        block = self._next(skipped)
        work = Work(self.state, self.pending, self.books, self._executor, self._context(block))
        if not self._late:
            work.take(self.pool, self._check_age, began + budget * TRANSACTION_SHARE)
        self._late = work.run(chance, began + budget)
        supply = self.books.minted - self.books.burnt
        self.head = msgspec.structs.replace(block, supply=supply, gas_burnt=work.gas_burnt)
        return Sealed(self.head, work.transactions, work.receipts)

    def _next(self, skipped: int) -> Block:
        previous = self.head
        timestamp = max(self._clock() + self._time_offset, previous.timestamp + 1)
        height = previous.height + 1 + skipped
        seen = b"".join(
            number.to_bytes(8, "little") for number in (height, timestamp, self._generation)
        )
        digest = hashlib.sha256(previous.hash + seen).digest()
        return Block(height, digest, previous.hash, previous.height, timestamp, 0, 0)

    def _chance(self) -> Random | None:
        if self.options.shuffle is None:
            return None
        seed = self.options.shuffle.to_bytes(8, "little") + self.head.hash
        return Random(hashlib.sha256(seed).digest())  # noqa: S311 - it only has to be repeatable

    def _remember(self) -> set[Entry]:
        changes = self.state.seal()
        self._history.add(self.head.height, changes)
        return set(changes)

    def _store(self, made: list[Sealed], changed: set[Entry] | None = None) -> None:
        entries = self._remember() if changed is None else changed
        self.store.commit(made, self.state, entries, self.pending, self._settings())
        for watcher in tuple(self.watchers):
            watcher()

    def _context(self, block: Block) -> BlockContext:
        return BlockContext(block.height, block.hash, block.timestamp)

    def _settings(self) -> dict[str, str]:
        return {
            "time_offset": str(self._time_offset),
            "generation": str(self._generation),
            "chain_id": self.options.chain_id,
            "burnt": str(self.books.burnt),
            "minted": str(self.books.minted),
        }

    def _write_genesis(self, genesis: Mapping[str, Grant]) -> Block:
        for name, grant in genesis.items():
            account = Account(grant.amount)
            for public_key in grant.public_keys:
                key = AccessKey(0)
                self.state.put_key(name, public_key, key)
                usage = account.usage + key_bytes(public_key, key)
                account = msgspec.structs.replace(account, usage=usage)
            self.state.put_account(name, account)
        self.books.minted = sum(grant.amount for grant in genesis.values())
        digest = hashlib.sha256(self.options.chain_id.encode()).digest()
        block = Block(0, digest, bytes(32), 0, self._clock(), self.books.minted, 0)
        changed = set(self.state.seal())
        self.store.commit([Sealed(block)], self.state, changed, self.pending, self._settings())
        return block


def open_chain(
    path: Path,
    options: Options,
    genesis: Mapping[str, Grant],
    clock: Clock = time.time_ns,
) -> Chain:
    """Open the chain in ``path`` (a SQLite file), or begin one there with these accounts.

    An existing chain keeps its own accounts; raises :class:`ConfigError` if it was begun with
    another chain id.
    """
    store = Store(path)
    stored = store.setting("chain_id", options.chain_id)
    if stored != options.chain_id:
        store.close()
        raise ConfigError(
            f"{path} holds a chain with chain_id {stored}, not {options.chain_id}",
            hint="Use another directory, or the flags it was begun with.",
        )
    return Chain(store, options, genesis, clock)
