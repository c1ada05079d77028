"""Rewards as accounts claim them: one Merkle root says what each was ever owed, in all.

An epoch's root stands over leaves of account and cumulative amount, so whoever missed ten epochs
claims once, and the contract keeps one number for each account. The tree is the one of
`deai.merkle` (RFC 6962: leaves and nodes are told apart, no leaf is doubled), and every leaf is
an EIP-712 digest, bound to the chain and to the contract that pays.

A `Statement` is everything that anybody needs to check a root. It is computed from the chain's
events by `rewards.epoch`; its canonical bytes are the same for everyone, and the proposal on
chain names their hash. `contracts/spec/vectors/rewards.json` is written from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Annotated, Final, Never, TypeAlias

import msgspec

from deai.codec import encode_canonical
from deai.errors import LedgerRejected, MalformedMessage
from deai.hashing import ZERO
from deai.ids import AccountId
from deai.merkle import leaf_hash, merkle_path, merkle_root, path_sides, root_by_sides
from deai.money import Amount
from deai.signing import Domain, struct_type
from deai.tasks import Account, Digest, Seconds

REWARDS_NAME: Final = "deai rewards"
MAX_SHARES: Final = 200
"""Accounts among which one payment into the contract may be divided."""
MAX_TIME: Final = (1 << 40) - 1
"""The last second and the last epoch that the contract can write down."""
MAX_PATH: Final = 64
"""Levels of a tree that the contract follows."""
NO_ROOT: Final = ZERO
"""The root while nobody was ever owed anything; it is never proposed."""

_CLAIM: Final = struct_type("Claim(ACCOUNT account,uint96 cumulativeAmount)")
_STATEMENT_TAG: Final = b"deai rewards statement/1\x00"

Epoch: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]


class Reason(IntEnum):
    """What money was put into the contract for, and what an account is owed it for."""

    POT = 0  # nobody's yet: insures clients, see `rewards.epoch`
    AUDIT = 1  # checking what others computed
    REFUND = 2  # a client's loss
    SLASH = 3  # a share of what a node lost
    DELEGATION = 4  # a share of what the node earned to which stake was lent

    @property
    def label(self) -> str:
        """The word used in documents."""
        return self.name.lower()


class Share(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one account gets of a payment into the contract."""

    account: Account
    amount: Amount


class Line(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """What an epoch adds to what an account is owed, and why."""

    account: Account
    reason: Reason
    amount: Amount


class Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An account's leaf and its path: whoever holds it can let the account be paid."""

    account: Account
    cumulative_amount: Amount
    sides: Annotated[int, msgspec.Meta(ge=0)]
    path: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_PATH)]


class Statement(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True
):
    """An epoch to the last unit: carried + received = sum of `lines` + pot.

    `carried` and `pot` are what was nobody's before and after; `owed` is what clients lost and
    the pot could not replace yet. `leaves` are in the order of the tree, and `total` is their sum.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    domain: Domain
    epoch: Epoch
    seconds: int
    carried: Amount
    received: Amount
    pot: Amount
    owed: Amount
    lines: tuple[Line, ...]
    leaves: tuple[Share, ...]
    total: Amount
    root: Digest

    @property
    def digest(self) -> bytes:
        """What the proposal on chain names: 32 bytes."""
        return hashlib.sha256(_STATEMENT_TAG + encode_canonical(self)).digest()


def claim_leaf(domain: Domain, account: AccountId, cumulative_amount: int) -> bytes:
    """The leaf of an account: 32 bytes. Raises `MalformedMessage` for none of this chain."""
    return leaf_hash(domain.digest(_CLAIM, (account, cumulative_amount)))


def claims_root(domain: Domain, leaves: Sequence[Share]) -> bytes:
    """The root over accounts in this order; `NO_ROOT` over none."""
    return ClaimTree(domain, leaves).root


class ClaimTree:
    """The tree of one root, for as many claims as are asked of it."""

    def __init__(self, domain: Domain, leaves: Sequence[Share]) -> None:
        self._leaves = leaves
        self._hashes = [claim_leaf(domain, one.account, one.amount) for one in leaves]
        self.root: Final = merkle_root(self._hashes)
        self._places: Mapping[AccountId, int] = {
            one.account: place for place, one in enumerate(leaves)
        }
        if len(self._places) != len(leaves):
            raise MalformedMessage("an account has one leaf")

    def claim(self, account: AccountId) -> Claim | None:
        """An account's claim, None if it was never owed anything."""
        place = self._places.get(account)
        if place is None:
            return None
        path = tuple(merkle_path(self._hashes, place))
        sides = path_sides(place, len(self._hashes))
        return Claim(account, self._leaves[place].amount, sides, path)


def claim_root(domain: Domain, claim: Claim) -> bytes:
    """The root under which a claim is good."""
    own = claim_leaf(domain, claim.account, claim.cumulative_amount)
    return root_by_sides(own, claim.sides, claim.path)


def epoch_of(time: int, seconds: int) -> int:
    """The epoch to which a moment of chain time belongs."""
    return time // seconds


def ended_before(time: int, seconds: int) -> int:
    """The last epoch that is over at a moment; -1 if none is."""
    return epoch_of(time, seconds) - 1


# --- what the contract stores, what each call does to it, and what refuses the call ---------------


class Proposed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A root that nobody may claim under before `active_at`, in chain time."""

    epoch: Epoch
    root: Digest
    total: Amount
    active_at: Seconds


class RewardsRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The root under which accounts claim, what was paid in all, and the root that is waiting.

    `paid` never exceeds `total`, and `total` never what the contract was given.
    """

    epoch: Epoch = 0
    root: Digest = NO_ROOT
    total: Amount = Amount(0)
    paid: Amount = Amount(0)
    waiting: Proposed | None = None


def matured(record: RewardsRecord, now: int) -> RewardsRecord:
    """The record as the contract reads it: a waiting root whose time has come is in force."""
    next_ = record.waiting
    if next_ is None or now < next_.active_at:
        return record
    return RewardsRecord(epoch=next_.epoch, root=next_.root, total=next_.total, paid=record.paid)


def check_shares(reason: Reason, amount: int, shares: Sequence[Share]) -> None:
    """What the contract asks of a payment: it brings money, and names accounts or nobody."""
    is_pot = reason is Reason.POT
    fits = not shares if is_pot else 0 < len(shares) <= MAX_SHARES
    if not amount or not fits or not all(one.amount for one in shares):
        _refuse("BadData")
    if sum(one.amount for one in shares) > amount:
        _refuse("BadData")


def proposed(
    record: RewardsRecord, epoch: int, root: bytes, total: int, *,
    held: int, now: int, delay: int, seconds: int,
) -> RewardsRecord:  # fmt: skip
    """A root begins to wait. `held` is what the contract holds, `seconds` the epoch's length."""
    if now < (ends := (epoch + 1) * seconds):
        _refuse("TooEarly", closesAt=min(ends, MAX_TIME))
    record = matured(record, now)
    if record.waiting is not None:
        _refuse("StillWaiting", activeAt=record.waiting.active_at)
    if epoch <= record.epoch:
        _refuse("BadEpoch", epoch=record.epoch)
    if root == NO_ROOT or total < record.total:
        _refuse("BadData")
    if total > record.paid + held:
        _refuse("Unfunded", total=int(total), available=record.paid + held)
    waiting = Proposed(epoch, root, Amount(total), now + delay)
    return msgspec.structs.replace(record, waiting=waiting)


def cancelled(record: RewardsRecord, epoch: int, now: int) -> tuple[RewardsRecord, Proposed]:
    """The record without its waiting root, and that root."""
    record = matured(record, now)
    waiting = record.waiting
    if waiting is None or waiting.epoch != epoch:
        _refuse("NothingWaits")
    return msgspec.structs.replace(record, waiting=None), waiting


def claimed(
    record: RewardsRecord, domain: Domain, claim: Claim, before: int, now: int
) -> tuple[RewardsRecord, Amount]:
    """The record after a claim of an account that had `before`, and what it is paid now."""
    record = matured(record, now)
    if len(claim.path) > MAX_PATH or claim_root(domain, claim) != record.root:
        _refuse("BadProof")
    if claim.cumulative_amount <= before:
        _refuse("NothingNew", claimed=before)
    amount = Amount(claim.cumulative_amount - before)
    if amount > (left := record.total - record.paid):
        _refuse("Exhausted", left=left)
    return msgspec.structs.replace(record, paid=Amount(record.paid + amount)), amount


def _refuse(name: str, **arguments: object) -> Never:
    raise LedgerRejected(name, arguments)
