"""How much a client may have open, as far as this node's disk decides it. Pure."""

from __future__ import annotations

from typing import Final

FEWEST: Final = 4
MOST: Final = 16
_QUICK: Final = 0.001
_SLOW: Final = 0.010


def unpaid_windows(setting: int, flush_seconds: float) -> int:
    """How many full windows may be unpaid: the operator's number, or 4 to 16 by the disk.

    While vouchers wait for a flush the client works on the next windows, so that a slow disk
    wants more of them: 4 up to a millisecond a flush, 16 from ten on.
    """
    if setting:
        return setting
    share = (flush_seconds - _QUICK) / (_SLOW - _QUICK)
    return FEWEST + round((MOST - FEWEST) * min(1.0, max(0.0, share)))
