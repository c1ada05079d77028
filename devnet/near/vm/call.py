"""One running function call: its gas, its registers and memory, what it leaves behind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import wasmtime

from deai.errors import DeaiError
from devnet.near import rules
from devnet.near.actions import Action, execution_fee, send_fee
from devnet.near.rules import HOST_GAS

REGISTER_LENGTH: Final = 2**64 - 1
"""A length that means: the bytes are in the register whose number is given as the pointer."""

_RESYNC_GAS: Final = rules.TGAS
_REGISTER_OVERHEAD: Final = 8  # bytes that a register counts beside what it holds


class HostError(DeaiError):
    """Ends the call; the text is nearcore's ``ExecutionError``."""

    code = "host_error"


class GasExceeded(HostError):
    """The call has used up its gas."""

    code = "gas_exceeded"

    def __init__(self) -> None:
        super().__init__("Exceeded the prepaid gas.")


class Storage(Protocol):
    """The part of the chain that a call may read and change while it runs."""

    def read(self, key: bytes) -> bytes | None: ...
    def write(self, key: bytes, value: bytes) -> None: ...
    def remove(self, key: bytes) -> None: ...
    def usage(self) -> int: ...
    def new_data_id(self) -> bytes: ...


@dataclass(frozen=True)
class CallContext:
    """What a call is told. Money in yoctoNEAR; ``balance`` already holds the deposit."""

    current: str
    signer: str
    signer_key: bytes  # the curve's number first
    predecessor: str
    method: str
    args: bytes
    deposit: int
    prepaid_gas: int
    height: int
    timestamp: int  # ns
    seed: bytes
    balance: int
    refund_to: str
    results: Sequence[bytes | None] = ()  # of the promises waited for; None: failed
    outputs: Sequence[str] = ()  # accounts that wait for what this call returns
    is_view: bool = False


@dataclass(eq=False)
class Promise:
    """A receipt that the call makes; it is sent when the call has succeeded."""

    receiver: str
    actions: list[Action] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[tuple[bytes, str]] = field(default_factory=list)  # (data id, receiver)
    weights: list[tuple[int, int]] = field(default_factory=list)  # (action's place, share of gas)
    refund_to: str | None = None


class Call:
    """The state of a running call. Host functions are given one as their first argument."""

    def __init__(self, context: CallContext, storage: Storage) -> None:
        self.context: Final = context
        self.storage: Final = storage
        self.logs: list[str] = []
        self.returned: bytes | Promise = b""
        self.promises: list[Promise] = []
        self.numbered: list[Promise | list[Promise]] = []  # as the contract counts them
        self.balance = context.balance
        self.promised_gas = 0
        self._log_bytes = 0
        self._registers: dict[int, bytes] = {}
        self._registers_bytes = 0
        self._limit = min(rules.MAX_BURNT_GAS, context.prepaid_gas)
        self._host_gas = 0
        self._store: wasmtime.Store | None = None
        self._memory: wasmtime.Memory | None = None
        self._fuel = 0
        self._synced_at = 0

    # Gas

    def start(self, store: wasmtime.Store) -> None:
        """Give the wasm what gas is left, in instructions."""
        self._store = store
        self._fuel = max(0, self._limit - self._host_gas) // rules.OPERATION_GAS
        self._synced_at = self._host_gas
        store.set_fuel(self._fuel)

    def attach(self, memory: wasmtime.Memory) -> None:
        """Know the contract's memory."""
        self._memory = memory

    @property
    def burnt_gas(self) -> int:
        """Gas burnt so far."""
        if self._store is None:
            return self._host_gas
        return self._host_gas + (self._fuel - self._store.get_fuel()) * rules.OPERATION_GAS

    @property
    def used_gas(self) -> int:
        """Gas burnt, and gas given to promises."""
        return self.burnt_gas + self.promised_gas

    def burn(self, gas: int) -> None:
        """Burn gas; raises :class:`GasExceeded`."""
        self._host_gas += gas
        if (
            self._host_gas > self._limit
            or self._host_gas + self.promised_gas > self.context.prepaid_gas
        ):
            raise GasExceeded
        # Instructions are counted by wasmtime, which must not be left with much more than there is.
        if self._store is not None and self._host_gas - self._synced_at > _RESYNC_GAS:
            left = max(0, self._limit - self.burnt_gas) // rules.OPERATION_GAS
            fuel = self._store.get_fuel()
            kept = min(left, fuel)
            self._store.set_fuel(kept)
            self._fuel -= fuel - kept
            self._synced_at = self._host_gas

    def promise_gas(self, gas: int) -> None:
        """Set gas aside for a promise; raises :class:`GasExceeded`."""
        self.promised_gas += gas
        self.burn(0)

    def pay(self, name: str, count: int = 0, unit: str = "") -> None:
        """Burn what ``name`` costs, and ``count`` times ``unit``."""
        self.burn(HOST_GAS[name] + (HOST_GAS[unit] * count if unit else 0))

    def finish(self) -> None:
        """Hold the call to its gas once more, instructions included; raises `GasExceeded`."""
        if self.burnt_gas > self._limit or self.used_gas > self.context.prepaid_gas:
            raise GasExceeded

    def exhaust(self) -> None:
        """Burn everything: the call has run out of gas."""
        self._host_gas += max(0, self._limit - self.burnt_gas)

    # Memory and registers

    def read(self, pointer: int, count: int) -> bytes:
        """Read the contract's memory."""
        self.pay("read_memory_base", count, "read_memory_byte")
        memory, store = self._reach(pointer, count)
        return bytes(memory.read(store, pointer, pointer + count))

    def write(self, pointer: int, data: bytes) -> None:
        """Write the contract's memory."""
        self.pay("write_memory_base", len(data), "write_memory_byte")
        memory, store = self._reach(pointer, len(data))
        if data:
            memory.write(store, bytearray(data), pointer)

    def _reach(self, pointer: int, count: int) -> tuple[wasmtime.Memory, wasmtime.Store]:
        if self._memory is None or self._store is None:
            raise HostError("MemoryAccessViolation")
        if pointer + count > self._memory.data_len(self._store):
            raise HostError("MemoryAccessViolation")
        return self._memory, self._store

    def given(self, length: int, pointer: int) -> bytes:
        """Return an argument: from memory, or from a register."""
        if length != REGISTER_LENGTH:
            return self.read(pointer, length)
        data = self.register(pointer)
        self.pay("read_register_base", len(data), "read_register_byte")
        return data

    def register(self, number: int) -> bytes:
        """Return what a register holds."""
        if number not in self._registers:
            raise HostError(f"Accessed invalid register id: {number}")
        return self._registers[number]

    def register_length(self, number: int) -> int:
        """Return how long a register's content is, 2**64 - 1 for an unused one."""
        return len(self._registers[number]) if number in self._registers else REGISTER_LENGTH

    def put(self, number: int, data: bytes, *, shared: bool = False) -> None:
        """Fill a register; what the VM has anyway (``shared``) costs nothing by its size."""
        self.pay("write_register_base", 0 if shared else len(data), "write_register_byte")
        old = self._registers.get(number)
        replaced = 0 if old is None else len(old) + _REGISTER_OVERHEAD
        total = self._registers_bytes + len(data) + _REGISTER_OVERHEAD - replaced
        if (
            len(data) > rules.MAX_REGISTER_BYTES
            or total > rules.MAX_REGISTERS_BYTES
            or len(self._registers) >= rules.MAX_REGISTERS  # also to replace one: so it is on NEAR
        ):
            raise HostError("MemoryAccessViolation")
        self._registers[number] = data
        self._registers_bytes = total

    def amount(self, pointer: int) -> int:
        """Return a u128 of the contract's memory."""
        return int.from_bytes(self.read(pointer, 16), "little")

    def text(self, length: int, pointer: int) -> str:
        """Return UTF-8 text; a register length means: up to the first zero byte."""
        if length == REGISTER_LENGTH:
            length = 0
            while self.read(pointer + length, 1) != b"\0":
                length += 1
                if length > rules.MAX_LOG_BYTES:
                    raise HostError("The length of a log message exceeds the limit")
        data = self.read(pointer, length)
        self.pay("utf8_decoding_base", len(data), "utf8_decoding_byte")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise HostError("String encoding is bad UTF-8 sequence.") from error

    # What it leaves behind

    def log(self, message: str, size: int) -> None:
        """Add a log line of ``size`` bytes."""
        self._log_bytes += size
        if len(self.logs) >= rules.MAX_LOGS:
            raise HostError(f"The number of logs will exceed the limit {rules.MAX_LOGS}")
        if self._log_bytes > rules.MAX_LOG_BYTES:
            raise HostError(
                f"The length of a log message {self._log_bytes} exceeds the limit "
                f"{rules.MAX_LOG_BYTES}"
            )
        self.logs.append(message)

    def spend(self, amount: int) -> None:
        """Take money out of the account, to send it on."""
        if amount > self.balance:
            raise HostError("Exceeded the account balance.")
        self.balance -= amount

    def promise(self, number: int) -> Promise:
        """Return a promise that is not a joint one."""
        found = self.waited_for(number)
        if isinstance(self.numbered[number], list):
            raise HostError("Actions cannot be appended to a joint promise.")
        return found[0]

    def waited_for(self, number: int) -> list[Promise]:
        """Return the promises behind a number."""
        if number >= len(self.numbered):
            raise HostError(f"{number} does not correspond to existing promises")
        found = self.numbered[number]
        return found if isinstance(found, list) else [found]

    def append(self, number: int, action: Action) -> Promise:
        """Add an action to a promise and pay for it."""
        promise = self.promise(number)
        to_self = promise.receiver == self.context.current
        self.burn(send_fee(action, promise.receiver, to_self=to_self))
        self.promise_gas(execution_fee(action, promise.receiver))
        if len(promise.actions) >= rules.MAX_ACTIONS:
            raise HostError("The number of actions exceeds the limit")
        promise.actions.append(action)
        return promise
