"""Fees: what of a seat's price reaches the provider, and what pays for checking.

φ = 1500 - R basis points with the reputation before the task, unrounded: 15 % for a node that
nobody trusts yet, 5 % at the top.
"""

from __future__ import annotations

from typing import Final

_SCALE: Final = 10_000_000
"""10,000 basis points in thousandths, the unit of reputation."""
_MOST: Final = 1_500_000


def paid(fee: int, reputation: int) -> int:
    """Base units that a paid seat's owner receives: fee·(10000 - φ)/10000, rounded down."""
    return fee * (_SCALE - _MOST + reputation) // _SCALE


def protocol_cut(fee: int, reputation: int) -> int:
    """The rest: rounding goes to the protocol, so that the two always add up to the fee."""
    return fee - paid(fee, reputation)


def protocol_fee(fee: int, reputation: int) -> int:
    """fee·φ/10000 rounded down: the part that weighs an outcome (see `rewards.reputation`)."""
    return fee * (_MOST - reputation) // _SCALE


def fault_paid(fee: int) -> int:
    """What a seat gets for proving, with all others, that the task itself is bad: a tenth."""
    return fee // 10
