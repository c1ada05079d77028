"""Says that a task itself is bad, with a code every honest node finds by parsing alone.

The parsers raise in a fixed order (size, encoding, count, items from first to last), because
nodes that find different codes for one bad input could not agree on its fault digest.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from deai.errors import WorkloadFault
from deai.tasks import FaultCode


def fault(code: FaultCode, message: str, *, hint: str = "") -> NoReturn:
    """Raise the `WorkloadFault` of `code`."""
    raise WorkloadFault(message, fault=int(code), hint=hint)


def malformed(message: str) -> NoReturn:
    """Not of the documented form at all."""
    fault(FaultCode.MALFORMED_INPUT, message)


def invalid(message: str) -> NoReturn:
    """A parameter that is missing, unknown or outside its range."""
    fault(FaultCode.INVALID_PARAMETERS, message)


def inconsistent(message: str) -> NoReturn:
    """Well formed, but it cannot mean anything."""
    fault(FaultCode.INCONSISTENT_INPUT, message)


def finite(value: Any, what: str) -> float:  # noqa: ANN401 - a parsed JSON value
    """A number as binary64; a fault for text, booleans, NaN, infinity and overflow."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        malformed(f"{what} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        fault(FaultCode.NOT_FINITE, f"{what} is not a finite number")
    return number


def integer(value: Any, what: str, low: int, high: int) -> int:  # noqa: ANN401 - as above
    """A whole parameter within [low, high]; `10.0` counts as 10."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        invalid(f"{what} must be a whole number from {low} to {high}")
    return value
