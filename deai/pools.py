"""A pool: the stake of one node, lent by many, and what each has of it.

A node that takes delegations is owned by a contract account that nobody but the contract
`Delegations` drives. So whatever a node's owner is paid becomes income of the pool, and whatever
the registry takes is taken from all, by shares. A share is worth its part of the pool's assets;
income raises that worth, a slash lowers it, and every division rounds against who takes.

The manager put in the first stake, and holds shares as any delegator does; commission comes as
further shares. Sums are base units; `contracts/spec/vectors/pools.json` is written from here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from deai.errors import MalformedMessage
from deai.hashing import keccak
from deai.ids import AccountId, NodeId, hexed, node_id, raw
from deai.money import Amount
from deai.signing import Domain, word

POOLS_NAME: Final = "deai delegations"
MAX_COMMISSION: Final = 2_000
"""The most of income that a manager keeps, in hundredths of a percent."""
LEVERAGE: Final = 9
"""How many times the manager's own part delegators may lend."""
WHOLE_BPS: Final = 10_000
_CLONE: Final = (
    bytes.fromhex("3d602d80600a3d3981f3363d3d373d3d3d363d73"),
    bytes.fromhex("5af43d82803e903d91602b57fd5bf3"),
)
"""The creation code of a minimal proxy (EIP-1167), before and behind the address it calls."""


class PoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as the contract tells it: sums in base units, commissions in hundredths of a percent.

    `assets` is what all shares are worth, what unbonds included and income that nobody has shared
    out yet left out. `batch` is the number of the batch that collects requests; `unbonding` is
    what unbonds for the one before it, to be paid after chain time `matures_at` (0: none).
    """

    manager: AccountId
    commission: int
    next_commission: int
    next_commission_epoch: int
    assets: Amount
    shares: int
    manager_shares: int
    batch: int
    unbonding: Amount
    matures_at: int
    closing: bool

    @property
    def own(self) -> Amount:
        """What the manager's shares are worth."""
        return self.worth(self.manager_shares)

    @property
    def delegated(self) -> Amount:
        """What everybody else's shares are worth."""
        return Amount(self.assets - self.own)

    def worth(self, shares: int) -> Amount:
        """What so many shares are worth, rounded down."""
        return Amount(shares * self.assets // self.shares if self.shares else 0)

    def commission_at(self, epoch: int) -> int:
        """The commission in force in an epoch, as far as it is announced."""
        announced = self.next_commission_epoch and epoch >= self.next_commission_epoch
        return self.next_commission if announced else self.commission


class DelegationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has in a pool.

    `queued` shares wait in batch `queued_batch`, or unbond with it; `shares` are the others.
    `claimable` is what a matured batch holds for the account, in base units.
    """

    shares: int = 0
    queued: int = 0
    queued_batch: int = 0
    claimable: Amount = Amount(0)


NO_DELEGATION: Final = DelegationRecord()


def pool_owner(domain: Domain, manager: AccountId, index: int) -> AccountId:
    """The account that owns a manager's pool number `index`, also before it exists.

    Raises `MalformedMessage` for an index of more than 96 bits.
    """
    if not 0 <= index < 1 << 96:
        raise MalformedMessage(f"a pool's index has 96 bits: {index}")
    # What the contract created first, in its constructor: RLP of its address and nonce 1.
    template = keccak(b"\xd6\x94", raw(domain.contract), b"\x01")[-20:]
    code = _CLONE[0] + template + _CLONE[1]
    salt = keccak(word(manager), word(index))
    return AccountId(hexed(keccak(b"\xff", raw(domain.contract), salt, keccak(code))[-20:]))


def pool_node(domain: Domain, manager: AccountId, index: int) -> NodeId:
    """The node that a manager's pool number `index` has: number 0 of the account that owns it."""
    return node_id(pool_owner(domain, manager, index), 0)
