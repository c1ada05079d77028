"""The chain: takes transactions in, makes blocks, answers about state.

Everything here is synchronous and runs in one thread; the server calls it between two awaits, so
nobody ever sees half a block. A block is final when it is stored, and it is stored before any
answer mentions it.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from eth.abc import StateAPI
from eth.constants import MAX_PREV_HEADER_DEPTH
from eth.db.atomic import AtomicDB
from eth_typing import Address

from deai.errors import ConfigError
from devnet.evm.blocks import Head, Included, Sealed, seal
from devnet.evm.errors import REVERTED, RpcError, invalid_params, refused
from devnet.evm.pool import Pool, Waiting
from devnet.evm.rules import GWEI, Rules
from devnet.evm.store import Store
from devnet.evm.vm import EMPTY_ROOT, BlockContext, Call, Machine, Outcome

MAX_SNAPSHOTS: Final = 1_024
LAST_TIMESTAMP: Final = 2**40 - 1  # contracts pack times into 40 bits
ESTIMATE_ERROR_PER_MILLE: Final = 15  # geth's tolerance
CALL_STIPEND: Final = 2_300
EXTRA_PREFIX: Final = b"deai"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A point to go back to."""

    number: int
    time_offset: int


class Chain:
    """One chain over one store. ``clock`` gives seconds since 1970."""

    def __init__(
        self, store: Store, rules: Rules, genesis: dict[bytes, int], clock: Clock = time.time
    ) -> None:
        self.rules = rules
        self.store = store
        self.pool = Pool(rules)
        self.watchers: list[Callable[[Sealed], None]] = []
        self._clock = clock
        self._machine = Machine(rules, AtomicDB(store.nodes))
        self._snapshots: list[Snapshot] = []
        self._state: StateAPI | None = None
        self._next_timestamp: int | None = None
        self._time_offset = int(store.setting("time_offset", "0"))
        self._generation = int(store.setting("generation", "0"))
        head = store.head()
        if head is None:
            head = self._write_genesis(genesis)
        self.head: Head = head
        self._ancestors = deque(
            store.hashes_before(head.number + 1, MAX_PREV_HEADER_DEPTH),
            maxlen=MAX_PREV_HEADER_DEPTH,
        )

    # Transactions and blocks

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction into the pool; returns its hash.

        Raises :class:`RpcError` with geth's text when it is refused.
        """
        waiting = Waiting.of(self._machine.decode(raw), raw)
        if self.store.transaction(waiting.hash) is not None:
            raise refused("already known")
        state, sender = self._head_state(), Address(waiting.sender)
        self.pool.add(
            waiting,
            nonce=int(state.get_nonce(sender)),
            balance=int(state.get_balance(sender)),
            base_fee=self.next_base_fee,
        )
        return waiting.hash

    def mine(self, *, timestamp: int | None = None, budget: float = float("inf")) -> Sealed:
        """Make the next block from what waits, store it, tell the watchers.

        ``timestamp`` sets the block's time (seconds), by default the clock's. ``budget`` is how
        many seconds of executing it may take: what does not fit goes into the next block, so that
        a loaded chain keeps its pace and its server still answers.
        """
        when = self._time_of_next() if timestamp is None else self._checked_time(timestamp)
        sealed, dropped = self._execute(when, budget)
        self._store_blocks([sealed])
        for waiting in dropped:
            self.pool.drop_from(waiting.sender, waiting.nonce)
        return sealed

    def mine_many(self, count: int, timestamp: int | None = None) -> None:
        """Make ``count`` blocks: the first from what waits, the rest empty, in one commit."""
        if count < 1:
            return
        self.mine(timestamp=timestamp)
        empty: list[Sealed] = []
        parent = self.head
        for _ in range(count - 1):
            block = self._seal_after(parent, parent.timestamp, parent.state_root, [])
            empty.append(block)
            parent = block.head
        self._store_blocks(empty)

    @property
    def next_base_fee(self) -> int:
        """The base fee of the next block, in wei per gas."""
        return self.rules.next_base_fee(self.head.base_fee, self.head.gas_used)

    @property
    def gas_price(self) -> int:
        """What Sei suggests: the base fee and a tenth of it, in wei per gas."""
        return self.next_base_fee * 11 // 10

    @property
    def tip(self) -> int:
        """The suggested tip, in wei per gas."""
        return GWEI

    # Time and history

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock forward; returns the whole offset in seconds."""
        if seconds < 0 or int(self._clock()) + self._time_offset + seconds > LAST_TIMESTAMP:
            raise invalid_params("the new time is out of range")
        self._time_offset += seconds
        return self._time_offset

    def set_next_timestamp(self, timestamp: int) -> None:
        """Give the next block this timestamp; the clock goes on from there."""
        self._next_timestamp = self._checked_time(timestamp)

    def snapshot(self) -> int:
        """Remember this block; returns the number to give to :meth:`revert`."""
        if len(self._snapshots) >= MAX_SNAPSHOTS:
            raise refused(f"more than {MAX_SNAPSHOTS} snapshots")
        self._snapshots.append(Snapshot(self.head.number, self._time_offset))
        return len(self._snapshots)

    def revert(self, snapshot: int) -> bool:
        """Go back to a snapshot, which is used up, as are all later ones; False if unknown.

        Blocks made afterwards have other hashes than those removed, even when they are empty: to
        a reader this is a reorganisation. The pool is emptied.
        """
        if not 1 <= snapshot <= len(self._snapshots):
            return False
        target = self._snapshots[snapshot - 1]
        del self._snapshots[snapshot - 1 :]
        self._time_offset = target.time_offset
        self._generation += 1
        self.store.rewind(target.number, self._settings())
        head = self.store.block(target.number)
        if head is None:
            raise refused("the snapshot's block is gone")
        self.head, self._state, self._next_timestamp = head, None, None
        self._ancestors.clear()
        self._ancestors.extend(self.store.hashes_before(head.number + 1, MAX_PREV_HEADER_DEPTH))
        self.pool.clear()
        return True

    # Reading

    def balance(self, address: bytes, block: Head) -> int:
        """Return an account's balance in wei after ``block``."""
        return int(self._state_after(block).get_balance(Address(address)))

    def nonce(self, address: bytes, block: Head) -> int:
        """Return how many transactions an account had sent after ``block``."""
        return int(self._state_after(block).get_nonce(Address(address)))

    def code(self, address: bytes, block: Head) -> bytes:
        """Return an account's code after ``block``."""
        return bytes(self._state_after(block).get_code(Address(address)))

    def storage(self, address: bytes, slot: int, block: Head) -> int:
        """Return a storage slot after ``block``."""
        return int(self._state_after(block).get_storage(Address(address), slot))

    def call(self, call: Call, block: Head) -> bytes:
        """Execute a message on the state after ``block`` and return its output.

        Raises :class:`RpcError`: code 3 with the data for a revert, as geth.
        """
        limit = self.rules.call_gas_limit
        outcome = self._try(call, min(call.gas or limit, limit), block)
        _raise_failure(outcome)
        return outcome.output

    def estimate(self, call: Call, block: Head) -> int:
        """Return a gas limit with which ``call`` succeeds, at most 1.5 % above the least one."""
        highest = min(call.gas or self.rules.call_gas_limit, self.rules.call_gas_limit)
        outcome = self._try(call, highest, block)
        if outcome.error == "out of gas":
            raise refused(f"gas required exceeds allowance ({highest})")
        _raise_failure(outcome)
        lowest = outcome.gas_used - 1
        # A sixty-fourth stays behind at every call, and refunds come only at the end.
        guess = (outcome.gas_used + outcome.gas_refund + CALL_STIPEND) * 64 // 63
        if not outcome.gas_refund and self._suffices(call, outcome.gas_used, block):
            return outcome.gas_used
        while (highest - lowest) * 1_000 > ESTIMATE_ERROR_PER_MILLE * highest:
            middle = guess if lowest < guess < highest else (lowest + highest) // 2
            guess = 0
            if self._suffices(call, middle, block):
                highest = middle
            else:
                lowest = middle
        return highest

    # Inside

    def _suffices(self, call: Call, gas: int, block: Head) -> bool:
        try:
            return self._try(call, gas, block).ok
        except RpcError:
            return False

    def _try(self, call: Call, gas: int, block: Head) -> Outcome:
        # Fees are not taken from a caller who pays none, so the base fee is zero, as in geth.
        state = self._state_after(block)
        if block.hash == self.head.hash:
            context = self._context(self.head.number + 1, self._time_of_next(), 0)
        else:
            context = BlockContext(
                block.number,
                block.timestamp,
                0,
                self.store.hashes_before(block.number, MAX_PREV_HEADER_DEPTH),
            )
        state.execution_context = self._machine.context(context)
        return self._machine.call(state, call, gas)

    def _state_after(self, block: Head) -> StateAPI:
        if block.hash == self.head.hash:
            return self._head_state()
        return self._machine.state(
            block.state_root, BlockContext(block.number, block.timestamp, block.base_fee, ())
        )

    def _head_state(self) -> StateAPI:
        if self._state is None:
            head = self.head
            self._state = self._machine.state(
                head.state_root, BlockContext(head.number, head.timestamp, head.base_fee, ())
            )
        return self._state

    def _execute(self, timestamp: int, budget: float) -> tuple[Sealed, list[Waiting]]:
        base_fee, root = self.next_base_fee, self.head.state_root
        included: list[Included] = []
        dropped: list[Waiting] = []
        if self.pool:
            state = self._machine.state(
                root, self._context(self.head.number + 1, timestamp, base_fee)
            )
            included, dropped = self._fill(state, base_fee, budget)
            if included:
                state.make_state_root()
                state.persist()
                root = bytes(state.state_root)
        return self._seal_after(self.head, timestamp, root, included), dropped

    def _fill(
        self, state: StateAPI, base_fee: int, budget: float
    ) -> tuple[list[Included], list[Waiting]]:
        included: list[Included] = []
        dropped: list[Waiting] = []
        held: set[bytes] = set()  # senders whose next nonce is not in this block
        room = self.rules.block_gas_limit
        stop = time.monotonic() + budget
        for waiting in self.pool.in_order():
            if included and time.monotonic() > stop:
                break
            if waiting.sender in held:
                continue
            if waiting.max_fee < base_fee or waiting.gas > room:
                held.add(waiting.sender)
                continue
            outcome = self._machine.apply(state, waiting.transaction)
            if outcome is None:
                held.add(waiting.sender)
                dropped.append(waiting)
                continue
            room -= outcome.gas_used
            included.append(Included(waiting, outcome))
        return included, dropped

    def _store_blocks(self, blocks: list[Sealed]) -> None:
        if not blocks:
            return
        self.store.commit(blocks, self._settings())
        root = self.head.state_root
        self.head, self._next_timestamp = blocks[-1].head, None
        if self.head.state_root != root:
            self._state = None
        for block in blocks:
            self._ancestors.appendleft(block.head.hash)
            self._settle(block)
        for block in blocks:
            for watcher in tuple(self.watchers):
                watcher(block)

    def _settle(self, block: Sealed) -> None:
        last: dict[bytes, int] = {}
        for transaction in block.transactions:
            waiting = self.pool.get(transaction.hash)
            if waiting is not None:
                last[waiting.sender] = waiting.nonce
        for sender, nonce in last.items():
            self.pool.settle(sender, nonce + 1)

    def _seal_after(
        self, parent: Head, timestamp: int, state_root: bytes, included: list[Included]
    ) -> Sealed:
        return seal(
            parent,
            timestamp=timestamp,
            base_fee=self.rules.next_base_fee(parent.base_fee, parent.gas_used),
            gas_limit=self.rules.block_gas_limit,
            chain_id=self.rules.chain_id,
            state_root=state_root,
            extra=EXTRA_PREFIX + self._generation.to_bytes(4, "big"),
            included=included,
        )

    def _context(self, number: int, timestamp: int, base_fee: int) -> BlockContext:
        return BlockContext(number, timestamp, base_fee, tuple(islice(self._ancestors, 256)))

    def _time_of_next(self) -> int:
        if self._next_timestamp is not None:
            return self._next_timestamp
        return max(int(self._clock()) + self._time_offset, self.head.timestamp)

    def _checked_time(self, timestamp: int) -> int:
        if not self.head.timestamp <= timestamp <= LAST_TIMESTAMP:
            raise invalid_params(
                f"timestamp {timestamp} is lower than the previous block's {self.head.timestamp} "
                "or too high"
            )
        self._time_offset = timestamp - int(self._clock())
        return timestamp

    def _settings(self) -> dict[str, str]:
        return {
            "time_offset": str(self._time_offset),
            "generation": str(self._generation),
            "chain_id": str(self.rules.chain_id),
            "sstore_set_gas": str(self.rules.sstore_set_gas),
        }

    def _write_genesis(self, genesis: dict[bytes, int]) -> Head:
        timestamp = int(self._clock()) + self._time_offset
        state = self._machine.state(EMPTY_ROOT, BlockContext(0, timestamp, 0, ()))
        for address, balance in genesis.items():
            state.set_balance(Address(address), balance)
        state.make_state_root()
        state.persist()
        block = seal(
            None,
            timestamp=timestamp,
            base_fee=self.rules.base_fee_floor,
            gas_limit=self.rules.block_gas_limit,
            chain_id=self.rules.chain_id,
            state_root=bytes(state.state_root),
            extra=EXTRA_PREFIX,
            included=[],
        )
        self.store.commit([block], self._settings())
        return block.head


def open_chain(
    path: Path, rules: Rules, genesis: dict[bytes, int], clock: Clock = time.time
) -> Chain:
    """Open the chain in ``path`` (a SQLite file), or begin one there with these balances (wei).

    An existing chain keeps its own balances; raises :class:`ConfigError` if it was begun with
    another chain id or storage price.
    """
    store = Store(path)
    for name, wanted in (("chain_id", rules.chain_id), ("sstore_set_gas", rules.sstore_set_gas)):
        stored = store.setting(name, str(wanted))
        if stored != str(wanted):
            store.close()
            raise ConfigError(
                f"{path} holds a chain with {name} {stored}, not {wanted}",
                hint="Use another directory, or the flags it was begun with.",
            )
    return Chain(store, rules, genesis, clock)


def _raise_failure(outcome: Outcome) -> None:
    if outcome.reverted:
        raise RpcError(REVERTED, outcome.error, "0x" + outcome.output.hex())
    if not outcome.ok:
        raise refused(outcome.error)
