"""Sums of tokens: whole numbers of the smallest unit, 18 decimals, symbol CT."""

from __future__ import annotations

import re
from typing import Final, Self

from deai.errors import UsageError

DECIMALS: Final = 18
SYMBOL: Final = "CT"
UNIT: Final = 10**DECIMALS
"""One token in base units."""
MAX_AMOUNT: Final = (1 << 96) - 1
"""No sum exceeds the supply, and the supply fits 96 bits."""
MAX_COUNT: Final = (1 << 112) - 1
SCREEN_DECIMALS: Final = 6

_TOKENS: Final = re.compile(r"(\d{1,11})(?:\.(\d{1,18}))?CT")


class Amount(int):
    """A sum in base units: whole, never negative, below 2^96."""

    __slots__ = ()

    def __new__(cls, units: int) -> Self:
        if not 0 <= units <= MAX_AMOUNT:
            raise ValueError(f"an amount lies between 0 and 2^96 - 1: {units}")
        return super().__new__(cls, units)


class Count(int):
    """A whole number that is no sum and may be as long: shares of a pool, the number of one."""

    __slots__ = ()

    def __new__(cls, number: int) -> Self:
        if not 0 <= number <= MAX_COUNT:
            raise ValueError(f"a count lies between 0 and 2^112 - 1: {number}")
        return super().__new__(cls, number)


def parse_amount(text: str) -> Amount:
    """Read `"1000"` (base units) or `"0.12CT"` (tokens); raise `UsageError` for anything else."""
    cleaned = text.strip()
    try:
        if cleaned.isascii() and cleaned.isdigit() and len(cleaned) <= 30:
            return Amount(int(cleaned))
        if match := _TOKENS.fullmatch(cleaned):
            whole, fraction = match.groups()
            return Amount(int(whole) * UNIT + int((fraction or "").ljust(DECIMALS, "0")))
    except ValueError as error:
        raise UsageError(str(error), code="bad_amount") from error
    raise UsageError(
        f"not an amount: {text[:60]!r}",
        hint="write base units as a whole number (1000) or tokens with the symbol (0.12CT)",
        code="bad_amount",
    )


def parse_positive(text: str) -> Amount:
    """As `parse_amount`, of what has to be more than nothing."""
    units = parse_amount(text)
    if not units:
        raise UsageError("nothing is no amount here", hint="as 0.12CT", code="bad_amount")
    return units


def decimals_of(*amounts: int) -> int:
    """How many decimals show all of the sums exactly: six at least.

    Sums that are told beside each other have to add up as they are read.
    """
    return max(SCREEN_DECIMALS, *(len(_fraction(units).rstrip("0")) for units in amounts))


def format_tokens(units: int, decimals: int = SCREEN_DECIMALS) -> str:
    """Tokens for screens: `1.250000 CT`, rounded towards zero."""
    sign = "-" if units < 0 else ""
    return f"{sign}{abs(units) // UNIT:,}.{_fraction(units)[:decimals]} {SYMBOL}"


def format_exactly(units: int) -> str:
    """Tokens with as many decimals as they have, six at least."""
    return format_tokens(units, decimals_of(units))


def typed_amount(units: int) -> str:
    """A sum as one types it: `0.12CT`, or base units where those are shorter."""
    fraction = _fraction(units).rstrip("0")
    if len(fraction) > len(str(units)):
        return str(units)
    return f"{units // UNIT}{'.' if fraction else ''}{fraction}{SYMBOL}"


def _fraction(units: int) -> str:
    return f"{abs(units) % UNIT:0{DECIMALS}d}"
