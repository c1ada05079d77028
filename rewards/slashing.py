"""What a proven fault costs, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EQUIVOCATION_PERCENT: Final = 20
BOUNTY_PERCENT: Final = 10


@dataclass(frozen=True, slots=True)
class Slash:
    """Base units taken from bonded and unbonding stake, and their split; bounty + burned = all."""

    from_bonded: int
    from_unbonding: int
    bounty: int
    burned: int

    @property
    def amount(self) -> int:
        """All that the node lost."""
        return self.from_bonded + self.from_unbonding


def equivocation(bonded: int, unbonding: int, fixed_bounty: int) -> Slash:
    """20 % of all stake, rounded up; a fixed bounty near the gas of proving it, at most 10 %.

    Bonded stake is taken first. The rest is burned: neither a thief of the hot key nor the
    owner gains by reporting himself.
    """
    amount = -(-(bonded + unbonding) * EQUIVOCATION_PERCENT // 100)
    bounty = min(fixed_bounty, amount * BOUNTY_PERCENT // 100)
    from_bonded = min(amount, bonded)
    return Slash(from_bonded, amount - from_bonded, bounty, amount - bounty)
