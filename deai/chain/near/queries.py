"""Questions about accounts, keys and transactions, and how their answers are read."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final, TypeVar

import msgspec

from deai.chain.near.refusals import panicked
from deai.chain.near.rpc import FINAL, RpcError
from deai.chain.pool import Request
from deai.errors import MalformedMessage
from deai.ids import AccountId

T = TypeVar("T")

STORAGE_PRICE: Final = 10**19
"""YoctoNEAR that the chain holds back for a byte."""
FREE_BYTES: Final = 770
"""An account this small needs no balance."""
_MOST: Final = 1 << 62
"""Above every nonce and height, and what a database holds."""


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of an account at a final block. `nonce` None: there is no such key."""

    nonce: int | None
    height: int
    block_hash: str
    contract: AccountId | None = None
    """The one receiver of a function-call key; None: full access."""
    methods: tuple[str, ...] = ()
    allowance: int | None = None

    @property
    def next_nonce(self) -> int:
        """The least that the chain takes."""
        return 0 if self.nonce is None else self.nonce + 1


class Ran(msgspec.Struct, frozen=True):
    """What a receipt did, as an endpoint tells it."""

    executor_id: str
    logs: tuple[str, ...]
    status: Any


class Outcome(msgspec.Struct, frozen=True):
    """A receipt that ran, and the block in which it did."""

    id: str
    block_hash: str
    outcome: Ran


def view_account(account: str) -> Request:
    """Ask for an account."""
    return "query", {"request_type": "view_account", "account_id": account, **FINAL}


def access_key(account: str, public_key: str) -> Request:
    """Ask for one key of an account."""
    asked = {"request_type": "view_access_key", "account_id": account, "public_key": public_key}
    return "query", asked | FINAL


def view(contract: str, method: str, **arguments: object) -> Request:
    """Ask a contract; the state is that of the newest final block."""
    args = b64encode(msgspec.json.encode(arguments)).decode()
    asked = {
        "request_type": "call_function",
        "account_id": contract,
        "method_name": method,
        "args_base64": args,
    }
    return "query", asked | FINAL


def tx_status(hash_: str, sender: AccountId) -> Request:
    """Ask what became of a transaction, without waiting."""
    return "tx", {"tx_hash": hash_, "sender_account_id": sender, "wait_until": "NONE"}


def free_money(answer: object) -> int | None:
    """YoctoNEAR that an account may spend; None if there is no such account."""
    if isinstance(answer, RpcError):
        if answer.name == "UNKNOWN_ACCOUNT":
            return None
        raise MalformedMessage(f"no account: {answer}")
    try:
        fields: Any = answer
        used = int(fields["storage_usage"])
        held = 0 if used <= FREE_BYTES else used * STORAGE_PRICE
        return max(0, int(fields["amount"]) - held)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage(f"not an account: {error!r}") from error


def read_access_key(answer: object) -> AccessKey:
    """A key; raises `MalformedMessage`.

    py-near's own type for this refuses every field that it does not know.
    """
    if isinstance(answer, RpcError):
        if answer.name in ("UNKNOWN_ACCESS_KEY", "UNKNOWN_ACCOUNT"):
            place: Any = answer.info if isinstance(answer.info, dict) else {}
            return _no_key(place)
        raise MalformedMessage(f"no access key: {answer}")
    try:
        fields: Any = answer
        if "error" in fields:  # nearcore's older form of "there is none"
            return _no_key(fields)
        permission = fields["permission"]
        found = AccessKey(
            nonce=_count(fields["nonce"]),
            height=_count(fields["block_height"]),
            block_hash=str(fields["block_hash"]),
        )
        if permission == "FullAccess":
            return found
        call = permission["FunctionCall"]
        allowance = call["allowance"]
        return msgspec.structs.replace(
            found,
            contract=AccountId(call["receiver_id"]),
            methods=tuple(str(one) for one in call["method_names"]),
            allowance=None if allowance is None else int(allowance),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage(f"not an access key: {error!r}") from error


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise MalformedMessage(f"not a count: {str(value)[:40]!r}")
    return value


def _no_key(place: dict[str, Any]) -> AccessKey:
    return AccessKey(
        nonce=None,
        height=_count(place.get("block_height", 0)),
        block_hash=str(place.get("block_hash", "")),
    )


def read_view(answer: object) -> Any:  # noqa: ANN401 - JSON
    """What a contract returned; its own refusal as `LedgerRejected`. Raises `MalformedMessage`.

    The bytes are UTF-8 JSON; py-near's own `view_function` reads them letter by letter.
    """
    if isinstance(answer, RpcError):
        if answer.name == "CONTRACT_EXECUTION_ERROR":
            raise panicked(str(answer.data))
        raise MalformedMessage(f"no answer of a contract: {answer}")
    try:
        fields: Any = answer
        if "error" in fields:
            raise panicked(str(fields["error"]))
        # Of a number, `bytes` would make that many zeros.
        return msgspec.json.decode(bytes(list(fields["result"])))
    except (KeyError, TypeError, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise MalformedMessage(f"not the answer of a view: {error!r}") from error


def read_outcomes(answer: dict[str, Any]) -> tuple[Outcome, ...]:
    """The receipts that a transaction led to and that ran; raises `MalformedMessage`."""
    return read_as(tuple[Outcome, ...], answer.get("receipts_outcome"))


def read_as(kind: type[T], answer: object) -> T:
    """An answer, or a piece of one, as a type; raises `MalformedMessage`."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise MalformedMessage(f"not what was asked for: {error}") from error
