"""Is a node there, and may it work? What the chain says and what was heard, put together.

Standing is a fact of the chain; presence is this coordinator's hearing and no more than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from deai.standing import Standing

HEARD_SECONDS: Final = 15.0
"""A node whose last heartbeat is older is offline."""
ASSIGNABLE: Final = frozenset(s.label for s in Standing if s.is_assignable)


def status_of(row: Mapping[str, Any], now: float) -> str:
    """`online`, `maintenance` (it beats but takes no work) or `offline`."""
    received = row["received_at"]
    if received is None or now - received > HEARD_SECONDS or row["standing"] == "exited":
        return "offline"
    return "online" if row["mode"] == "running" else "maintenance"


def state_of(row: Mapping[str, Any], status: str) -> str:
    """Standing on chain, or why an assignable node gets no work now.

    `joining` has not beaten yet, `suspended` stopped beating, `draining` asked for no more.
    """
    standing: str = row["standing"]
    if standing not in ASSIGNABLE:
        return standing
    if status == "offline":
        return "joining" if row["received_at"] is None else "suspended"
    if row["mode"] in ("draining", "joining"):
        return str(row["mode"])
    return "paused" if row["mode"] == "paused" else standing


def is_active(row: Mapping[str, Any], status: str) -> bool:
    """Whether it counts as an active node: assignable, heard lately, taking work."""
    return row["standing"] in ASSIGNABLE and status == "online"


def count(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, sorted by name."""
    return dict(sorted(Counter(values).items()))
