"""Numbers in JSON-RPC's form."""

from __future__ import annotations

from typing import Final

from deai.errors import MalformedMessage

_MAX_NUMBER: Final = 1 << 53
_MAX_SUM: Final = 1 << 256


def quantity(text: object) -> int:
    """A JSON-RPC quantity of at most 53 bits; raises `MalformedMessage`."""
    return _below(_MAX_NUMBER, text)


def wei(text: object) -> int:
    """A sum of wei, of at most 256 bits; raises `MalformedMessage`."""
    return _below(_MAX_SUM, text)


def _below(limit: int, text: object) -> int:
    if not isinstance(text, str) or not text.startswith("0x") or len(text) > 80:
        raise MalformedMessage(f"not a quantity: {str(text)[:40]!r}")
    try:
        value = int(text, 16)
    except ValueError as error:
        raise MalformedMessage(f"not a quantity: {text[:40]!r}") from error
    if not 0 <= value < limit:
        raise MalformedMessage(f"out of range: {text[:40]!r}")
    return value
