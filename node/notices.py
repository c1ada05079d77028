"""What an operator should know: problems that stand now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """Something an operator should know now."""

    code: str
    message: str
    hint: str
    since: float


@dataclass(eq=False, kw_only=True)
class Notices:
    """Problems by code; `wall` is Unix seconds."""

    wall: Callable[[], float]
    problems: dict[str, Problem] = field(default_factory=dict)

    def problem(self, code: str, message: str, hint: str = "") -> None:
        """Say that something is wrong until `solved`."""
        known = self.problems.get(code)
        since = known.since if known is not None else self.wall()
        self.problems[code] = Problem(code, message, hint, since)

    def solved(self, code: str) -> None:
        """It is well again."""
        self.problems.pop(code, None)
