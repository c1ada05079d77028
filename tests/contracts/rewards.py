"""The distributor of rewards beside the other contracts of a `World`, and trees to claim from."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode

from deai import claims as c
from deai.claims import Claim, ClaimTree, Share
from deai.ids import AccountId, hexed
from deai.money import Amount
from deai.signing import Domain
from devnet.evm.rules import Rules
from tests.contracts.evm import account
from tests.contracts.world import EPOCH, World

DELAY = 24 * 3600
SHARES = 100


def payee(number: int) -> AccountId:
    """An account that nobody paid before."""
    return AccountId(account(f"payee {number}").address.lower())


class Rewards:
    """The contract; its world's admin proposes and cancels."""

    def __init__(self, world: World) -> None:
        self.world = world
        admin = world.admin.address
        self.contract = world.evm.deploy(
            world.admin, "RewardDistributor", world.token.address, world.registry.address, admin,
            86_400, admin, admin, DELAY,
        )  # fmt: skip
        world.rows["deploy RewardDistributor"] = world.evm.gas
        self.domain = Domain(
            c.REWARDS_NAME, Rules().chain_id, AccountId(self.contract.address.lower())
        )

    def _row(self, row: str) -> None:
        if row:
            self.world.rows[row] = self.world.evm.gas

    def fund(self, amount: int, shares: int = 0, row: str = "") -> None:
        """Pay in, for so many accounts."""
        data = b""
        if shares:
            words = [int(payee(n), 16) << 96 | amount // shares for n in range(shares)]
            data = encode(["uint8", "uint256[]"], [int(c.Reason.AUDIT), words])
        self.world.token.do(
            self.world.admin, "transferAndCall(address,uint256,bytes)", self.contract.address,
            amount, data,
        )  # fmt: skip
        self._row(row)

    def tree(self, size: int, amount: int) -> ClaimTree:
        """Two payees at the ends of the tree, strangers between them."""
        names = [payee(0), *(AccountId(hexed(n.to_bytes(20, "big"))) for n in range(1, size - 1))]
        leaves = [Share(name, Amount(1)) for name in names]
        leaves[0] = Share(payee(0), Amount(amount))
        return ClaimTree(self.domain, [*leaves, Share(payee(1), Amount(amount))])

    def in_force(self, size: int, amount: int, row: str) -> list[Claim]:
        """A root proposed for the epoch that has just ended, its delay over; the payees' claims."""
        self.world.evm.wait(EPOCH)
        tree = self.tree(size, amount)
        self._propose(tree.root, 2 * amount + size - 2, row)
        self.world.evm.wait(DELAY)
        found = [tree.claim(payee(n)) for n in range(2)]
        return [one for one in found if one is not None]

    def _propose(self, root: bytes, total: int, row: str) -> None:
        epoch = self.world.evm.now // EPOCH - 1
        self.contract.do(self.world.admin, "propose", epoch, root, total, b"\x07" * 32)
        self._row(row)

    def cancel(self, row: str) -> None:
        """Propose something and take it back."""
        self.world.evm.wait(EPOCH)
        active = self.contract.read("roots")[0]
        self._propose(b"\x13" * 32, active[2], "")
        self.contract.do(self.world.admin, "cancel", self.world.evm.now // EPOCH - 1)
        self._row(row)

    def words(self, claim: Claim) -> tuple[Any, ...]:
        """A claim as the contract takes it."""
        return claim.account, claim.cumulative_amount, claim.sides, list(claim.path)

    def claim(self, claim: Claim, row: str = "") -> None:
        """By somebody else."""
        self.contract.do(self.world.other, "claim", *self.words(claim))
        self._row(row)
