"""Clients whose tasks end workers: how often lately, and when enough is enough. Pure.

A task that ends its worker costs its client nothing, for a worker may die of anything. So an
input that does it could be sent for ever, and each time a process is born anew and the rest of
its batch is lost. A few deaths are borne with; then nothing is computed for the client until the
oldest of them is some time ago. Its other channels, links and epochs count with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from deai.ids import AccountId
from deai.ports import Failure

BORNE: Final = 5
"""Deaths within `FORGOTTEN_AFTER`."""
FORGOTTEN_AFTER: Final = 600.0
"""Seconds."""
MAX_CLIENTS: Final = 4096
_DEADLY: Final = ("worker_died:", "worker_babbled:", "memory_limit:", "timeout:")
"""How failures begin that cost a worker; other failures are the node's own doing."""


class Deaths:
    """Those of one client, by local time."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=BORNE)

    @property
    def last(self) -> float:
        """When the last was."""
        return self._times[-1] if self._times else float("-inf")

    def note(self, now: float) -> None:
        """One more; batches that were lost with one worker count once."""
        if now != self.last:
            self._times.append(now)

    def banned_for(self, now: float) -> float:
        """Seconds for which nothing more is computed for the client; 0 while it is welcome."""
        if len(self._times) < BORNE:
            return 0.0
        return max(0.0, self._times[0] + FORGOTTEN_AFTER - now)


class Register:
    """Of every client that was here lately, so that a new link does not begin anew."""

    def __init__(self) -> None:
        self._by_client: dict[AccountId, Deaths] = {}

    def of(self, client: AccountId) -> Deaths:
        """What counts for a client."""
        found = self._by_client.pop(client, None) or Deaths()
        if len(self._by_client) >= MAX_CLIENTS:
            # Whoever has ended nothing goes first, then whose last death is longest ago.
            del self._by_client[min(self._by_client, key=lambda one: self._by_client[one].last)]
        self._by_client[client] = found
        return found


def is_deadly(answers: Iterable[object]) -> bool:
    """Whether a batch cost a worker."""
    return any(
        isinstance(one, Failure) and not one.fault and one.reason.startswith(_DEADLY)
        for one in answers
    )
