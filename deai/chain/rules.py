"""The arithmetic that a ledger is handed: fees, reputation, slashing.

The contracts carry theirs; the ledger in memory runs the same formulas through this protocol,
which `rewards.rules.RULES` satisfies. Sums are base units, reputation thousandths of a point.
"""

from __future__ import annotations

from typing import Protocol


class Rules(Protocol):
    """Integers in, integers out; nothing here can fail for values that a chain accepts."""

    @property
    def start(self) -> int:
        """Reputation of a node that has just registered."""
        ...

    def paid_amount(self, fee: int, reputation: int, /) -> int:
        """What the owner of a paid seat receives; the rest of the fee is the protocol's."""
        ...

    def fault_amount(self, fee: int, /) -> int:
        """What a seat receives when all agree that the task itself is bad."""
        ...

    def success(self, reputation: int, fee: int, w0: int, /) -> int:
        """Reputation after a paid and checked seat."""
        ...

    def lost_vote(self, reputation: int, fee: int, w0: int, /) -> int:
        """Reputation after revealing another digest than the winning one."""
        ...

    def silent(self, reputation: int, /) -> int:
        """Reputation after a commitment that was never revealed."""
        ...

    def idle(self, reputation: int, weeks: int, /) -> int:
        """Reputation after whole weeks without a settled seat that was checked."""
        ...

    def slash(self, bonded: int, unbonding: int, bounty: int, /) -> tuple[int, int, int, int]:
        """`(from bonded, from unbonding, bounty, burned)` of a proven equivocation."""
        ...
