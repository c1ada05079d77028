"""Reads text inputs strictly: UTF-8, LF lines, JSON without duplicate keys, NaN or infinity."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from deai.tasks import FaultCode
from workloads.faults import fault, malformed

MAX_DIGITS: Final = 400
"""No finite binary64 needs more; Python's own limit may be set differently on each machine."""


def decode_text(data: bytes) -> str:
    """UTF-8 to text; a fault otherwise."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        malformed(f"not UTF-8 at byte {error.start}")


def split_lines(text: str, most: int) -> list[str]:
    """Cut at LF only (other characters that Python calls line ends are text); one last LF is free.

    A fault when there is no line, or more than `most`; blank lines are the caller's business.
    """
    if not text:
        malformed("no lines")
    text = text.removesuffix("\n")
    count = text.count("\n") + 1  # before they are cut: a list of them takes eight times the input
    if count > most:
        fault(FaultCode.TOO_MANY_ITEMS, f"{count} lines; at most {most}")
    return text.split("\n")


def parse_json(text: str, what: str) -> Any:  # noqa: ANN401 - any JSON value
    """Strict JSON; a fault for duplicate keys, NaN, infinity, numbers beyond binary64."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_not_finite,
            parse_float=_number,
            parse_int=_whole,
        )
    except json.JSONDecodeError as error:
        malformed(f"{what} is not JSON: {error.msg} at {error.pos}")
    except RecursionError:
        malformed(f"{what} is nested too deeply")


def require_object(value: Any, what: str, known: dict[str, bool]) -> dict[str, Any]:  # noqa: ANN401
    """A JSON object with exactly the `known` keys (value: whether required); else a fault."""
    if not isinstance(value, dict):
        malformed(f"{what} is not an object")
    for key in value:
        if key not in known:
            malformed(f"{what} has an unknown key {key[:40]!r}")
    for key, required in known.items():
        if required and key not in value:
            malformed(f"{what} lacks {key!r}")
    return value


def require_list(value: Any, what: str, most: int) -> list[Any]:  # noqa: ANN401 - any JSON value
    """A JSON array of at most `most` items; else a fault."""
    if not isinstance(value, list):
        malformed(f"{what} is not an array")
    if len(value) > most:
        fault(FaultCode.TOO_MANY_ITEMS, f"{what} has {len(value)} items; at most {most}")
    return value


def require_name(value: Any, what: str) -> str:  # noqa: ANN401 - any JSON value
    """Text of 1 to 128 characters that UTF-8 can carry; else a fault."""
    if not isinstance(value, str) or not value or len(value) > 128 or not encodable(value):
        malformed(f"{what} is not a name of 1 to 128 characters")
    return value


def encodable(text: str) -> bool:
    """Whether UTF-8 can carry it: JSON escapes may smuggle in half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        malformed("an object has the same key twice")
    return found


def _not_finite(constant: str) -> NoReturn:
    fault(FaultCode.NOT_FINITE, f"{constant} is not a finite number")


def _number(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        fault(FaultCode.NOT_FINITE, "a number is beyond binary64")
    return number


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        fault(FaultCode.NOT_FINITE, "a number is beyond binary64")
    return int(digits)
