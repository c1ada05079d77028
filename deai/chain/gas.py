"""How much money for gas accounts need on each chain, in its smallest unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from deai.ids import NEAR, SEI


class GasMoney(NamedTuple):
    """Sums in `unit`, of which 10^`decimals` are one coin."""

    unit: str
    decimals: int
    owner: int
    """What any transaction of an owner surely costs less than; on NEAR with the storage of a
    node, its account in the vault and the one at the token."""
    operator: int
    """What an operator begins with. On Sei its owner sends it; on NEAR it is the allowance of its
    key: burnt from the owner's account, so that account has to hold it. A tenth of it goes to the
    key's own account there, which redeems vouchers."""
    step: str
    """What the step is called by which an operator gets it."""
    refill: str
    """How it gets more."""

    @property
    def little(self) -> int:
        """Below this an operator is given `operator` again."""
        return self.operator // 4

    @property
    def low(self) -> int:
        """Below this somebody is told."""
        return self.operator // 2

    def coins(self, amount: int) -> str:
        """A sum on a screen."""
        return f"{amount / 10**self.decimals:.6f} of the chain's coin"


GAS: Final[Mapping[str, GasMoney]] = {
    SEI: GasMoney(
        "wei", 18, 2 * 10**16, 10**17, "operator_gas", "send it some of the chain's own coin"
    ),
    NEAR: GasMoney(
        "yoctoNEAR", 24, 10**23, 10**24, "operator_key",
        "run `deai stake register` again with the owner's key: it renews the allowance",
    ),
}  # fmt: skip
