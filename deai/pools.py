"""A pool: the stake of one node, lent by many, and what each has of it.

A node that takes delegations is owned by a contract account that nobody but the contract
`Delegations` drives. So whatever a node's owner is paid becomes income of the pool, and whatever
the registry takes is taken from all, by shares. A share is worth its part of the pool's assets;
income raises that worth, a slash lowers it, and every division rounds against who takes.

Who wants out waits for a batch. Its worth is set apart when it begins to unbond: it earns nothing
any more, and bears its part of a slash until it is paid. The manager put in the first stake, and
holds shares as any delegator does; commission comes as further shares.

Sums are base units, commissions hundredths of a percent. `contracts/spec/vectors/pools.json` is
written from here, and `PoolMath.sol` mirrors these lines.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

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
"""How many times the manager's own shares those of delegators may be."""
NOTICE_EPOCHS: Final = 2
"""Epoch boundaries until an announced commission is in force: a whole epoch lies between."""
MAX_SHARES: Final = (1 << 112) - 1
"""A delegation beyond is refused, a commission beyond is cut."""
MIN_MINTED: Final = 1_000_000
"""The fewest shares that a delegation may buy: rounding costs a millionth at most."""
WHOLE_BPS: Final = 10_000
_CLONE: Final = (
    bytes.fromhex("3d602d80600a3d3981f3363d3d373d3d3d363d73"),
    bytes.fromhex("5af43d82803e903d91602b57fd5bf3"),
)
"""The creation code of a minimal proxy (EIP-1167), before and behind the address it calls."""


class PoolState(IntEnum):
    """Where a pool is; the number is the contract's."""

    NONE = 0  # never opened
    OPEN = 1
    CLOSING = 2  # everything leaves: at once, or when the batch that unbonds has been paid
    CLOSED = 3  # everything has left the registry; a claim redeems shares

    @property
    def label(self) -> str:
        """The word used in documents."""
        return self.name.lower()


class PoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as the contract tells it, as of its last verb: a slash or income since is not in it.

    `commission` is in force now; `next_commission` from epoch `next_commission_epoch` on, and
    none waits while that is 0. Batch number `batch` collects requests, `queued` shares so far.
    What unbonds for the one before it has left `assets` and `shares`: `leaving` is what it will
    be paid after chain time `matures_at` (0: nothing unbonds), divided among `leaving_shares`.
    `unbonding` is what unbonds in the registry. `manager_shares` are those that do not wait.
    """

    manager: AccountId
    commission: int
    next_commission: int
    next_commission_epoch: int
    state: PoolState
    batch: int
    matures_at: int
    assets: Amount
    leaving: Amount
    unbonding: Amount
    shares: int
    manager_shares: int
    queued: int
    leaving_shares: int

    @property
    def own(self) -> Amount:
        """What the manager's shares that do not wait are worth."""
        return self.worth(self.manager_shares)

    @property
    def delegated(self) -> Amount:
        """What all other shares are worth."""
        return Amount(self.assets - self.own)

    def worth(self, shares: int) -> Amount:
        """What so many shares are worth, rounded down."""
        return Amount(worth(shares, self.shares, int(self.assets)))


class DelegationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has in a pool.

    `queued` shares wait in batch `queued_batch`, unbond with it or were paid with it; `shares`
    are the others. `claimable` is what a claim pays now, in base units, without what sharing out
    would add first.
    """

    shares: int = 0
    queued: int = 0
    queued_batch: int = 0
    claimable: Amount = Amount(0)


NO_DELEGATION: Final = DelegationRecord()


def worth(some: int, shares: int, assets: int) -> int:
    """What `some` of all `shares` are worth."""
    return some * assets // shares if shares else 0


def minted(amount: int, shares: int, assets: int) -> int:
    """Shares for `amount` that joins `assets`."""
    return amount * shares // assets


def commission(income: int, bps: int, shares: int, assets: int) -> tuple[int, int]:
    """The manager's part of income that joins `assets`, and the shares that it buys."""
    kept = income * bps // WHOLE_BPS
    return kept, min(kept * shares // (assets + income - kept), MAX_SHARES - shares)


class Slash(NamedTuple):
    """What the batch that unbonds loses, what the manager bears alone, his shares for it."""

    lost: int
    bounty: int
    burnt: int


def slash(
    amount: int, bounty: int, *, assets: int, leaving: int, shares: int, free: int
) -> Slash:  # fmt: skip
    """Who bears `amount`, not 0, that the registry took from assets and what leaves.

    `bounty` is the registry's; `free` are the manager's shares that do not leave.
    """
    alone = min(amount // 10, bounty)
    common = amount - alone
    lost = -(-common * leaving // (assets + leaving))
    assets -= common - lost
    if alone > assets:
        lost, alone = lost + alone - assets, assets
    burnt = min(-(-alone * shares // assets), free) if alone else 0
    return Slash(lost, alone, burnt)


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
