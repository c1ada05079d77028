"""Whether a short blocking call may run on the event loop.

A call in a thread costs two wake-ups and the interpreter lock, several tenths of a millisecond:
as much as a flush to a good disk. So while calls are quick they stay on the loop; one that was
not sends the next ones to threads, and a slow disk stalls the loop now and then, never for long.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

QUICK: Final = 0.002
"""Seconds that a call on the loop may take."""
PROBATION: Final = 4
"""Quick calls in threads before the first on the loop."""
PENALTY: Final = 64
"""Calls that go to threads after a slow one."""


class Pace:
    """How quick the last calls of one kind were."""

    def __init__(self) -> None:
        self._beside = PROBATION

    @property
    def is_quick(self) -> bool:
        """Whether the next call may run on the loop."""
        return self._beside == 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around each call, wherever it runs; one at a time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            if time.perf_counter() - began > QUICK:
                self._beside = PENALTY
            elif self._beside:
                self._beside -= 1
