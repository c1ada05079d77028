"""Execution: py-evm's Prague state with Sei's storage price, one transaction at a time.

Three traps of py-evm are handled here and nowhere else: the set of warm addresses and slots is only
reset by ``lock_changes`` (without it the second transaction of a block is charged too little); the
gas really used comes from ``finalize_gas_used``; and importing it raises Python's recursion limit
so far that any decoder descending into nested brackets overflows the C stack and ends the process.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from eth import constants
from eth.abc import AtomicDatabaseAPI, ComputationAPI, SignedTransactionAPI, StateAPI
from eth.exceptions import InvalidInstruction, OutOfGas, PyEVMError, Revert
from eth.vm import opcode_values
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.berlin.logic import sstore_eip2929_generic
from eth.vm.forks.london.storage import GAS_SCHEDULE_EIP3529
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.constants import STANDARD_TOKEN_COST, TOTAL_COST_FLOOR_PER_TOKEN
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.forks.prague.state import PragueState
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.opcode import as_opcode
from eth.vm.spoof import SpoofTransaction
from eth_keys.exceptions import BadSignature
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from devnet.evm.errors import refused
from devnet.evm.rules import Rules

PYTHON_RECURSION_LIMIT: Final = 1_000
EVM_RECURSION_LIMIT: Final = sys.getrecursionlimit()  # what the import has just set
sys.setrecursionlimit(PYTHON_RECURSION_LIMIT)

FEE_COLLECTOR: Final = Address(bytes.fromhex("00000000000000000000000000000000000fee5e"))
"""Where fees go. Sei burns nothing: base fee and tip are both paid to its fee collector."""

EMPTY_ROOT: Final = bytes(constants.BLANK_ROOT_HASH)
BLOB_TYPE: Final = 3
ERROR_STRING: Final = bytes.fromhex("08c379a0")  # selector of Error(string)


class SeiState(PragueState):
    """Prague without the system contracts of the beacon chain, and with fees that are kept."""

    def set_system_contracts(self) -> None:
        """Do nothing: Sei has neither beacon roots nor the block hash history contract."""

    def get_tip(self, transaction: SignedTransactionAPI) -> int:
        return int(self.get_gas_price(transaction))


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a transaction can learn about its block. ``ancestors`` are hashes, newest first."""

    number: int
    timestamp: int
    base_fee: int
    ancestors: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Log:
    """One event: who emitted it, its topics and its data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one execution did. ``error`` is empty on success; gas is in gas units."""

    gas_used: int
    gas_refund: int
    output: bytes
    error: str
    reverted: bool
    logs: tuple[Log, ...]
    created: bytes | None

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class Call:
    """An unsigned message: the parameter of ``eth_call`` and ``eth_estimateGas``."""

    sender: bytes
    to: bytes | None
    value: int
    data: bytes
    gas: int | None
    access_list: tuple[tuple[bytes, tuple[int, ...]], ...] = ()


class Machine:
    """Builds states over a key-value database and executes on them."""

    def __init__(self, rules: Rules, database: AtomicDatabaseAPI) -> None:
        self._rules = rules
        self._database = database
        self._vm = _vm_class(rules.sstore_set_gas)
        self._builder = cast("type[PragueTransactionBuilder]", self._vm.get_transaction_builder())

    def state(self, root: bytes, block: BlockContext) -> StateAPI:
        """Return the state with this root, ready to execute inside ``block``."""
        return self._vm.get_state_class()(self._database, self.context(block), Hash32(root))

    def context(self, block: BlockContext) -> ExecutionContext:
        """Return py-evm's form of ``block``; PREVRANDAO is derived from time, as on Sei."""
        return ExecutionContext(
            coinbase=FEE_COLLECTOR,
            timestamp=block.timestamp,
            block_number=BlockNumber(block.number),
            difficulty=0,
            mix_hash=Hash32(keccak(block.timestamp.to_bytes(8, "big"))),
            gas_limit=self._rules.block_gas_limit,
            prev_hashes=cast("Sequence[Hash32]", block.ancestors),
            chain_id=self._rules.chain_id,
            base_fee_per_gas=block.base_fee,
            excess_blob_gas=0,
        )

    def decode(self, raw: bytes) -> SignedTransactionAPI:
        """Decode and check a signed transaction; its sender is recovered (and cached) here.

        Raises :class:`RpcError` with geth's texts for everything that is wrong with it in itself.
        """
        if raw[:1] == bytes([BLOB_TYPE]):
            raise refused("transaction type not supported")
        try:
            transaction = self._builder.decode(raw)
            transaction.validate()
            _ = transaction.sender
        except (RLPException, ValidationError, PyEVMError, BadSignature) as error:
            raise refused(f"invalid transaction: {error}") from error
        except (ValueError, TypeError, IndexError) as error:
            raise refused(f"invalid transaction: {error}") from error
        if transaction.chain_id is None:
            raise refused("only replay-protected (EIP-155) transactions allowed over RPC")
        if transaction.chain_id != self._rules.chain_id:
            raise refused(
                f"invalid chain id for signer: have {transaction.chain_id} "
                f"want {self._rules.chain_id}"
            )
        return transaction

    def apply(self, state: StateAPI, transaction: SignedTransactionAPI) -> Outcome | None:
        """Execute a signed transaction and keep its effects; None if it cannot be included."""
        state.lock_changes()
        before = state.snapshot()
        try:
            with _deep_recursion():
                computation = state.apply_transaction(transaction)
        except ValidationError:
            state.revert(before)
            return None
        state.commit(before)
        return self._outcome(transaction, computation)

    def call(self, state: StateAPI, call: Call, gas: int) -> Outcome:
        """Execute ``call`` with ``gas`` and undo its effects.

        Raises :class:`RpcError` when it cannot even start (too little gas, too little money).
        """
        unsigned = self._builder.new_unsigned_dynamic_fee_transaction(
            chain_id=self._rules.chain_id,
            nonce=state.get_nonce(Address(call.sender)),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=gas,
            to=Address(call.to or b""),
            value=call.value,
            data=call.data,
            access_list=cast("Sequence[tuple[Address, Sequence[int]]]", call.access_list),
        )
        needed = minimum_gas(unsigned.intrinsic_gas, call.data)
        if gas < needed:
            raise refused(f"intrinsic gas too low: have {gas}, want {needed}")
        balance = int(state.get_balance(Address(call.sender)))
        if balance < call.value:
            raise refused(
                f"insufficient funds for gas * price + value: address 0x{call.sender.hex()} "
                f"have {balance} want {call.value}"
            )
        spoofed = SpoofTransaction(
            unsigned, from_=Address(call.sender), sender=Address(call.sender)
        )
        signed = cast("SignedTransactionAPI", spoofed)
        state.lock_changes()
        before = state.snapshot()
        try:
            with _deep_recursion():
                computation = state.apply_transaction(signed)
            return self._outcome(signed, computation)
        except ValidationError as error:
            raise refused(str(error)) from error
        finally:
            state.revert(before)
            state.lock_changes()

    def _outcome(self, transaction: SignedTransactionAPI, computation: ComputationAPI) -> Outcome:
        created = None
        if not transaction.to and computation.is_success:
            created = bytes(computation.msg.storage_address)
        return Outcome(
            gas_used=int(self._vm.finalize_gas_used(transaction, computation)),
            gas_refund=int(computation.get_gas_refund()),
            output=bytes(computation.output),
            error="" if computation.is_success else _error_text(computation),
            reverted=computation.is_error and isinstance(computation.error, Revert),
            logs=tuple(
                Log(bytes(address), tuple(topic.to_bytes(32, "big") for topic in topics), data)
                for address, topics, data in computation.get_log_entries()
            ),
            created=created,
        )


def minimum_gas(intrinsic_gas: int, data: bytes) -> int:
    """Return the least gas limit a transaction may have: its intrinsic gas or the data floor.

    py-evm charges the floor of EIP-7623 at the end but does not ask for it at the beginning.
    """
    zeros = data.count(0)
    tokens = zeros + (len(data) - zeros) * STANDARD_TOKEN_COST
    return max(intrinsic_gas, constants.GAS_TX + TOTAL_COST_FLOOR_PER_TOKEN * tokens)


def revert_message(output: bytes) -> str:
    """Return geth's text for a revert, with the reason when the contract gave one as a string."""
    text = "execution reverted"
    if output[:4] == ERROR_STRING and len(output) >= 68:
        length = int.from_bytes(output[36:68], "big")
        reason = output[68 : 68 + min(length, len(output))]
        text += ": " + reason.decode("utf-8", errors="replace")
    return text


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Allow the recursion that calls between contracts need, and only while they run."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, EVM_RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _error_text(computation: ComputationAPI) -> str:
    error = computation.error
    if isinstance(error, Revert):
        return revert_message(bytes(computation.output))
    if isinstance(error, OutOfGas):
        return "out of gas"
    if isinstance(error, InvalidInstruction):
        return "invalid opcode"
    return str(error) or type(error).__name__


def _vm_class(sstore_set_gas: int) -> type[PragueVM]:
    """Return Prague with another price for setting a storage slot from zero.

    The refund for undoing it within the same transaction follows the price.
    """
    schedule = GAS_SCHEDULE_EIP3529._replace(sstore_set_gas=sstore_set_gas)
    store = as_opcode(
        gas_cost=constants.GAS_NULL, logic_fn=sstore_eip2929_generic(schedule), mnemonic="SSTORE"
    )
    table: dict[int, Any] = {**PRAGUE_OPCODES, opcode_values.SSTORE: store}
    computation = PragueComputation.configure(__name__="SeiComputation", opcodes=table)
    state = SeiState.configure(__name__="PricedState", computation_class=computation)
    return PragueVM.configure(__name__="SeiVM", _state_class=state)
