"""How long peers keep slots waiting for nothing: seconds of accepts that nobody assigned.

An accept is free for whoever asks for it and takes a slot from everybody else. So each second of
one that came to nothing is charged to the peer that asked for it last, and a peer that owes too
many gets no accept, and none renewed, until enough of them are forgiven. Whoever has a seat
assigned paid for it: its debt is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deai.ids import PeerId

LAPSES: Final = 4
"""Accepts that a peer may let lapse for each slot it may hold, before it gets no more: a slow
chain refuses some, and a client that was killed leaves some behind."""
FORGIVEN_IN: Final = 3600.0
"""Seconds in which as much is forgiven: in the long run a peer that never assigns anything holds
its slots for that share of the time only, a thirtieth with accepts of 30 s."""
MAX_PEERS: Final = 1024
"""Peers whose debts are known; beyond, the smallest is forgotten."""


@dataclass(slots=True)
class _Debt:
    seconds: float
    at: float


class Holds:
    """Debts by peer, in seconds of held slots."""

    def __init__(self, wall: Callable[[], float], *, slots: int, accept_seconds: int) -> None:
        """`slots` is what one peer may hold at once; `wall` is Unix seconds."""
        self._wall = wall
        self.limit = float(LAPSES * slots * accept_seconds)
        """Seconds that a peer may owe."""
        self._debts: dict[PeerId, _Debt] = {}

    def owed(self, peer: PeerId) -> float:
        """Seconds that a peer owes now."""
        known = self._debts.get(peer)
        if known is None:
            return 0.0
        passed = max(0.0, self._wall() - known.at)
        return max(0.0, known.seconds - passed * self.limit / FORGIVEN_IN)

    def charge(self, peer: PeerId, seconds: float) -> None:
        """An accept was held for so long and not assigned."""
        owed = self.owed(peer) + seconds
        if owed <= 0:
            self._debts.pop(peer, None)
            return
        self._debts[peer] = _Debt(owed, self._wall())
        if len(self._debts) > MAX_PEERS:
            del self._debts[min(self._debts, key=lambda one: self._debts[one].seconds)]

    def forgive(self, peer: PeerId) -> None:
        """It had a seat assigned."""
        self._debts.pop(peer, None)

    def wait(self, owed: float) -> float:
        """Seconds until somebody who owes so much may ask again."""
        return max(0.0, owed - self.limit) * FORGIVEN_IN / self.limit
