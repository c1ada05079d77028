"""The arithmetic of a network as one object, for ledgers that are handed their rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deai.signing import Domain
from rewards import fees, reputation, slashing
from rewards.epoch import Book


@dataclass(frozen=True, slots=True)
class Rules:
    """Satisfies the rules that `deai.chain` asks for."""

    start: int = reputation.START

    def paid_amount(self, fee: int, reputation_before: int) -> int:
        """What a paid seat's owner receives."""
        return fees.paid(fee, reputation_before)

    def fault_amount(self, fee: int) -> int:
        """What a seat gets when all agree that the task is bad."""
        return fees.fault_paid(fee)

    def success(self, before: int, fee: int, w0: int) -> int:
        """Reputation after a paid and checked seat."""
        return reputation.success(before, fee, w0)

    def lost_vote(self, before: int, fee: int, w0: int) -> int:
        """Reputation after a lost vote."""
        return reputation.lost_vote(before, fee, w0)

    def silent(self, before: int) -> int:
        """Reputation after a commitment that was never revealed."""
        return reputation.silent(before)

    def idle(self, before: int, weeks: int) -> int:
        """Reputation after idle weeks."""
        return reputation.idle(before, weeks)

    def slash(self, bonded: int, unbonding: int, fixed_bounty: int) -> tuple[int, int, int, int]:
        """`(from bonded, from unbonding, bounty, burned)` of an equivocation."""
        split = slashing.equivocation(bonded, unbonding, fixed_bounty)
        return split.from_bonded, split.from_unbonding, split.bounty, split.burned

    def book(self, domain: Domain, seconds: int, epoch: int) -> Book:
        """Rewards of one contract until the end of an epoch, to be fed with its chain's events."""
        return Book(domain, seconds, epoch)


RULES: Final = Rules()
