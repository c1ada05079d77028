"""Weight tiers 1, 2, 3 of a provider in drawn panels and weighted selection."""

from __future__ import annotations


def tier(stake: int, min_stake: int, reputation: int) -> int:
    """The lower of the stake's and the reputation's tier (reputation in thousandths).

    3 from 750 points and four times the minimum stake, 2 from 400 points and twice, else 1.
    """
    by_stake = 3 if stake >= 4 * min_stake else 2 if stake >= 2 * min_stake else 1
    by_reputation = 3 if reputation >= 750_000 else 2 if reputation >= 400_000 else 1
    return min(by_stake, by_reputation)
