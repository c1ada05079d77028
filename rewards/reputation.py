"""Reputation: an integer in thousandths of a point, 0 to 1,000,000; newcomers start at 100,000.

Only non-negative numbers are divided, so Python, Solidity and Rust round alike (downwards).
The weight of an outcome grows with the protocol fee that the seat paid, up to `w0`: moving
reputation always costs money, also when playing against oneself.
"""

from __future__ import annotations

from typing import Final

from rewards.fees import protocol_fee

MAX: Final = 1_000_000
START: Final = 100_000
_STEP: Final = 10_000
"""Ten points: what a full-weight success adds at reputation 0."""


def _weight(fee: int, reputation: int, w0: int) -> int:
    """min(protocol fee of the seat, w0), in base units; divided by `w0` it is w of 0..1."""
    return min(protocol_fee(fee, reputation), w0)


def success(reputation: int, fee: int, w0: int) -> int:
    """R += 10·w·(1000 - R)/1000 for a paid and checked seat."""
    return reputation + _STEP * _weight(fee, reputation, w0) * (MAX - reputation) // (w0 * MAX)


def lost_vote(reputation: int, fee: int, w0: int) -> int:
    """R -= w·R/10 for another digest than the winning one."""
    return reputation - reputation * _weight(fee, reputation, w0) // (10 * w0)


def silent(reputation: int) -> int:
    """R -= R/20 for a commitment that was never revealed."""
    return reputation - reputation // 20


def idle(reputation: int, weeks: int) -> int:
    """R -= (R - 100)/10 for each whole week without a settled seat, above 100 points only."""
    for _ in range(min(weeks, 128)):  # far below one thousandth of a point after that
        if reputation <= START:
            break
        reputation -= (reputation - START) // 10
    return reputation
