"""Questions about accounts and keys, and how their answers are read."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

import msgspec

from deai.chain.near.refusals import panicked
from deai.chain.near.rpc import FINAL, RpcError
from deai.chain.pool import Request
from deai.errors import MalformedMessage
from deai.ids import AccountId

STORAGE_PRICE: Final = 10**19
"""YoctoNEAR that the chain holds back for a byte."""
FREE_BYTES: Final = 770
"""An account this small needs no balance."""


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
            nonce=int(fields["nonce"]),
            height=int(fields["block_height"]),
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


def _no_key(place: dict[str, Any]) -> AccessKey:
    return AccessKey(
        nonce=None,
        height=int(place.get("block_height", 0)),
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
        return msgspec.json.decode(bytes(fields["result"]))
    except (KeyError, TypeError, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise MalformedMessage(f"not the answer of a view: {error!r}") from error
