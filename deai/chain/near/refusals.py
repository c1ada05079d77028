"""What NEAR and its contracts say when they refuse, under the names that Sei's contracts use.

A program needs no change for the other chain: same names, same arguments. Three kinds of text
are read: panics of our contract (`E_NAME: {arguments}`), panics of the token and of near-sdk, and
nearcore's own errors about transactions and actions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from deai.chain.refusals import refusal
from deai.channels import ChannelState
from deai.errors import LedgerRejected
from deai.standing import Standing

_OURS: Final = re.compile(r"\b(E_[A-Z_]{2,40}): (\{.*\})", re.DOTALL)
_NAMES: Final[Mapping[str, str]] = {"E_PAUSED": "IsPaused"}
"""Where the name is not simply the contract's in another spelling."""
_ARGUMENTS: Final[Mapping[str, str]] = {
    "valid_until": "validUntil", "operator": "recovered", "channel_id": "id",
    "active_at": "activeAt",
}  # fmt: skip
_SUMS: Final = frozenset(
    {"available", "needed", "stake", "minimum", "attached", "claimed", "total", "left"}
)
_UNREGISTERED: Final = re.compile(r"The account ([a-z0-9._-]{2,64}) is not registered")
_NO_BALANCE: Final = "doesn't have enough balance"
_MAX_SHOWN: Final = 200


def name_of(code: str) -> str:
    """The shared name of a contract's error: `E_LANE_BUSY` is `LaneBusy`."""
    plain = "".join(part.capitalize() for part in code.removeprefix("E_").split("_"))
    return _NAMES.get(code, plain)


def panicked(text: str, sender: str = "") -> LedgerRejected:
    """The error behind the text of a panic; `sender` is who signed."""
    if (ours := _OURS.search(text)) is not None:
        name, arguments = name_of(ours[1]), _read_arguments(ours[2])
        if name == "NotRegistered" and arguments.get("account") == sender:
            # On the other chain everybody has an account, with nothing in it.
            return refusal("Insufficient", {"account": sender, "available": 0})
        return refusal(name, arguments)
    if _NO_BALANCE in text:
        return refusal("ERC20InsufficientBalance", {"sender": sender} if sender else None)
    if (unknown := _UNREGISTERED.search(text)) is not None:
        if unknown[1] == sender:  # it has no tokens, so it has too few
            return refusal("ERC20InsufficientBalance", {"sender": sender})
        return refusal("NotRegistered", {"account": unknown[1]})
    if "Failed to deserialize input from JSON" in text:
        return refusal("BadData", {"message": text[:_MAX_SHOWN]})
    if "amount should be a positive number" in text:
        return refusal("BadData")
    if "Requires attached deposit" in text:
        return refusal("OneYocto")
    if "Exceeded the prepaid gas" in text:
        return refusal("OutOfGas")
    return refusal("Reverted", {"message": text[:_MAX_SHOWN]})


def failed(failure: object, sender: str = "") -> LedgerRejected:
    """The error behind the `Failure` of a transaction or receipt, in nearcore's form."""
    kind = _inner(failure, "ActionError")
    if isinstance(kind, dict) and "kind" in kind:
        kind = kind["kind"]
    elif (invalid := _inner(failure, "InvalidTxError")) is not None:
        return invalid_transaction(invalid, sender)
    call = _inner(kind, "FunctionCallError")
    if call is not None:
        text = _inner(call, "ExecutionError")
        if isinstance(text, str):
            return panicked(text, sender)
        return refusal("Reverted", {"message": _shown(call)})
    if (lacking := _inner(kind, "LackBalanceForState")) is not None:
        return refusal("GasMoney", {"needed": _sum(lacking, "amount")})
    return refusal("Reverted", {"message": _shown(kind if kind is not None else failure)})


def invalid_transaction(reason: object, sender: str = "") -> LedgerRejected:
    """The error behind nearcore's `InvalidTxError`: no block may hold the transaction.

    Those about nonce and age are the sender's own business and come here only by mistake.
    """
    if (key := _inner(reason, "InvalidAccessKeyError")) is not None:
        if (poor := _inner(key, "NotEnoughAllowance")) is not None:
            return refusal(
                "GasMoney", {"available": _sum(poor, "allowance"), "needed": _sum(poor, "cost")}
            )
        # No such key, or one that may not do this: py-near has no class for some of these.
        return refusal("Forbidden", {"caller": sender})
    if (poor := _inner(reason, "NotEnoughBalance")) is not None:
        return refusal(
            "GasMoney", {"available": _sum(poor, "balance"), "needed": _sum(poor, "cost")}
        )
    if (lacking := _inner(reason, "LackBalanceForState")) is not None:
        return refusal("GasMoney", {"needed": _sum(lacking, "amount")})
    if _inner(reason, "SignerDoesNotExist") is not None:
        return refusal("GasMoney", {"available": 0})  # an account comes into being with money
    return refusal("Refused", {"message": _shown(reason)})


def _read_arguments(text: str) -> dict[str, object]:
    try:
        # A panic may be followed by more text of nearcore's.
        found = msgspec.json.decode(text[: text.rindex("}") + 1], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {_ARGUMENTS.get(name, name): _value(name, value) for name, value in found.items()}


def _value(name: str, value: object) -> object:
    if name == "standing" and isinstance(value, str) and value.upper() in Standing.__members__:
        return int(Standing[value.upper()])
    if name == "state" and isinstance(value, str) and value.upper() in ChannelState.__members__:
        return int(ChannelState[value.upper()])
    if name in _SUMS and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= 40 else value[:40]
    return value


def _inner(value: object, name: str) -> Any:  # noqa: ANN401 - JSON
    return value.get(name) if isinstance(value, dict) else None


def _sum(fields: object, name: str) -> object:
    text = _inner(fields, name)
    return int(text) if isinstance(text, str) and text.isdigit() and len(text) <= 40 else text


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:_MAX_SHOWN]
