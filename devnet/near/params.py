"""Reading JSON-RPC parameters, strictly: the right type, the right form, bounded.

Each function takes a decoded JSON value, given by name or by place, and returns ours, or raises
:class:`RpcError` with nearcore's ``PARSE_ERROR`` and a text that names what is wrong.
"""

import base64
import binascii
from typing import Final, Literal, TypeVar, get_args

import msgspec

from devnet.near.actions import FunctionCallAccess
from devnet.near.borsh import SignedTransaction, signed_transaction
from devnet.near.errors import parse_error
from devnet.near.keys import public_key_bytes, public_key_text, unbase58
from devnet.near.rules import MAX_ARGUMENT_BYTES, MAX_TRANSACTION_BYTES

S = TypeVar("S", bound=msgspec.Struct)

MAX_HEIGHT: Final = 2**63 - 1
MAX_RECORDS: Final = 10_000

Level = Literal[
    "NONE", "INCLUDED", "EXECUTED_OPTIMISTIC", "INCLUDED_FINAL", "EXECUTED", "FINAL"
]  # fmt: skip
"""How far a transaction must have come."""

Finality = Literal["optimistic", "near-final", "final"]
"""They are the same here: every block is final at once."""
FINALITIES: Final = get_args(Finality)


class BlockReference(msgspec.Struct, frozen=True):
    """Which block: a height, a hash, or (None) the newest."""

    block_id: int | str | None = None
    finality: Finality | None = None
    sync_checkpoint: Literal["genesis", "earliest_available"] | None = None


class Query(msgspec.Struct, frozen=True):
    """The parameters of ``query``."""

    request_type: str
    account_id: str
    block_id: int | str | None = None
    finality: Finality | None = None
    sync_checkpoint: Literal["genesis", "earliest_available"] | None = None
    public_key: str = ""
    method_name: str = ""
    args_base64: str = ""
    prefix_base64: str = ""

    @property
    def reference(self) -> BlockReference:
        """The block that is asked about."""
        return BlockReference(self.block_id, self.finality, self.sync_checkpoint)


class ChunkReference(msgspec.Struct, frozen=True):
    """Which chunk: its hash, or that of a block."""

    chunk_id: str | None = None
    block_id: int | str | None = None
    shard_id: int = 0


class Sending(msgspec.Struct, frozen=True):
    """The parameters of ``send_tx``."""

    signed_tx_base64: str
    wait_until: Level = "EXECUTED_OPTIMISTIC"


class Asking(msgspec.Struct, frozen=True):
    """The parameters of ``tx``: a signed transaction, or its hash and its signer."""

    tx_hash: str | None = None
    sender_account_id: str | None = None
    signed_tx_base64: str | None = None
    wait_until: Level = "EXECUTED_OPTIMISTIC"


class ReceiptReference(msgspec.Struct, frozen=True):
    """The parameters of ``EXPERIMENTAL_receipt``."""

    receipt_id: str


class FastForward(msgspec.Struct, frozen=True):
    """The parameters of ``sandbox_fast_forward``; ``seconds`` is ours."""

    delta_height: int = 1
    seconds: float | None = None


class Restoring(msgspec.Struct, frozen=True):
    """The parameters of ``sandbox_restore``."""

    snapshot: int


class _AccountFields(msgspec.Struct, frozen=True):
    amount: str


class AccountRecord(msgspec.Struct, frozen=True):
    """An account with the money it shall have; made if it is missing."""

    account_id: str
    account: _AccountFields


class ContractRecord(msgspec.Struct, frozen=True):
    """An account's code, in base64."""

    account_id: str
    code: str


class DataRecord(msgspec.Struct, frozen=True):
    """An entry of a contract, in base64."""

    account_id: str
    data_key: str
    value: str


class _CallPermission(msgspec.Struct, frozen=True):
    receiver_id: str
    method_names: tuple[str, ...] = ()
    allowance: str | None = None


class _Permission(msgspec.Struct, frozen=True):
    function_call: _CallPermission = msgspec.field(name="FunctionCall")


class _KeyFields(msgspec.Struct, frozen=True):
    nonce: int = 0
    permission: Literal["FullAccess"] | _Permission = "FullAccess"


class AccessKeyRecord(msgspec.Struct, frozen=True):
    """A key of an account."""

    account_id: str
    public_key: str
    access_key: _KeyFields

    def access(self) -> FunctionCallAccess | None:
        """Return what the key may do."""
        found = self.access_key.permission
        if not isinstance(found, _Permission):
            return None
        call = found.function_call
        allowance = None if call.allowance is None else amount(call.allowance)
        return FunctionCallAccess(call.receiver_id, call.method_names, allowance)


class StateRecord(msgspec.Struct, frozen=True, rename="pascal"):
    """One record of ``sandbox_patch_state``: exactly one of these."""

    account: AccountRecord | None = None
    contract: ContractRecord | None = None
    data: DataRecord | None = None
    access_key: AccessKeyRecord | None = None


class Patch(msgspec.Struct, frozen=True):
    """The parameters of ``sandbox_patch_state``."""

    records: tuple[StateRecord, ...]


def named(value: object, shape: type[S], *places: str) -> S:
    """Read parameters given by name, or by place as ``places`` names them."""
    if value is None:
        value = {}
    if isinstance(value, list):
        if len(value) > len(places):
            raise parse_error(f"Failed parsing args: at most {len(places)} expected")
        value = dict(zip(places, value, strict=False))
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise parse_error(f"Failed parsing args: {error}") from error


def query(value: object) -> Query:
    """Read the parameters of ``query``, also in its old form ``["account/NAME", ""]``."""
    if not isinstance(value, list):
        return named(value, Query)
    path = value[0] if value and isinstance(value[0], str) else ""
    kind, _, rest = path.partition("/")
    account_id, _, public_key = rest.partition("/")
    if kind == "account" and account_id:
        return Query("view_account", account_id)
    if kind == "access_key" and public_key:
        return Query("view_access_key", account_id, public_key=public_key)
    if kind == "access_key" and account_id:
        return Query("view_access_key_list", account_id)
    raise parse_error(f"Failed parsing args: Unknown path {path[:100]}")


def reference(value: object) -> BlockReference:
    """Read which block is meant."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, str) and value in FINALITIES:
        value = {"finality": value}
    elif not isinstance(value, dict):
        value = {"block_id": value}
    found = named(value, BlockReference)
    if isinstance(found.block_id, int) and not 0 <= found.block_id <= MAX_HEIGHT:
        raise parse_error("Failed parsing args: block_id is out of range")
    return found


def digest(text: str, name: str) -> bytes:
    """Read a hash."""
    try:
        return unbase58(text, 32)
    except ValueError as error:
        raise parse_error(f"Failed parsing args: {name}: {error}") from error


def blob(text: str, name: str, most: int = MAX_ARGUMENT_BYTES) -> bytes:
    """Read base64 of at most ``most`` bytes."""
    if len(text) > most * 4 // 3 + 4:
        raise parse_error(f"Failed parsing args: {name} is larger than {most} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise parse_error(f"Failed parsing args: {name}: {error}") from error


def public_key(text: str) -> str:
    """Read a public key."""
    try:
        return public_key_text(public_key_bytes(text))
    except ValueError as error:
        raise parse_error(f"Failed parsing args: public_key: {error}") from error


def amount(text: str) -> int:
    """Read an amount of money, a number as text."""
    if not (text.isascii() and text.isdigit() and len(text) < 40) or int(text) >= 2**128:
        raise parse_error("Failed parsing args: an amount is not a number of yoctoNEAR")
    return int(text)


def transaction(text: str) -> SignedTransaction:
    """Read a signed transaction. Twice the allowed size is still read, to be refused by name."""
    data = blob(text, "signed_tx_base64", 2 * MAX_TRANSACTION_BYTES)
    try:
        return signed_transaction(data)
    except ValueError as error:
        raise parse_error(f"Failed to decode transaction: {error}") from error
