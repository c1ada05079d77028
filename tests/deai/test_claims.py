"""Claims: the tree over what accounts are owed, and what the contract's record allows."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, strategies as st

from deai import claims as c
from deai.claims import Claim, ClaimTree, RewardsRecord, Share
from deai.errors import LedgerRejected, MalformedMessage
from deai.ids import AccountId, hexed
from deai.merkle import leaf_hash, merkle_path, merkle_root, path_sides, root_by_sides
from deai.money import Amount
from deai.signing import Domain

DOMAIN = Domain(c.REWARDS_NAME, 713714, AccountId("0x" + "44" * 20))
DAY = 86_400
NOW = 10 * DAY


def account(number: int) -> AccountId:
    return AccountId(hexed(number.to_bytes(20, "big")))


def shares(*amounts: int) -> tuple[Share, ...]:
    return tuple(Share(account(n + 1), Amount(sum_)) for n, sum_ in enumerate(amounts))


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_the_tree_is_that_of_rfc_6962_and_every_leaf_has_a_path(blobs: list[bytes]) -> None:
    leaves = [leaf_hash(blob) for blob in blobs]
    root = merkle_root(leaves)
    assert root == by_definition(leaves)
    for index, one in enumerate(leaves):
        path = merkle_path(leaves, index)
        assert root_by_sides(one, path_sides(index, len(leaves)), path) == root
        assert len(path) <= (len(leaves) - 1).bit_length()


@given(st.integers(1, 40), st.data())
def test_a_claim_is_good_for_its_account_amount_chain_and_contract_only(
    count: int, data: st.DataObject
) -> None:
    tree = ClaimTree(DOMAIN, shares(*range(1, count + 1)))
    number = data.draw(st.integers(1, count))
    claim = tree.claim(account(number))
    assert claim is not None
    assert claim.cumulative_amount == number
    assert c.claim_root(DOMAIN, claim) == tree.root
    sides, path = claim.sides, claim.path
    for wrong in (
        Claim(account(number + 1), claim.cumulative_amount, sides, path),
        Claim(claim.account, Amount(number + 1), sides, path),
        Claim(claim.account, claim.cumulative_amount, sides, (*path, bytes(32))),
        *([Claim(claim.account, claim.cumulative_amount, sides ^ 1, path)] if path else []),
        *([Claim(claim.account, claim.cumulative_amount, sides >> 1, path[1:])] if path else []),
    ):
        assert c.claim_root(DOMAIN, wrong) != tree.root
    for elsewhere in (
        Domain(c.REWARDS_NAME, 1, DOMAIN.contract),
        Domain(c.REWARDS_NAME, 713714, account(9)),
        Domain("deai channels", 713714, DOMAIN.contract),
    ):
        assert c.claim_root(elsewhere, claim) != tree.root


def test_an_inner_node_is_no_leaf() -> None:
    left, right = (leaf_hash(bytes([n])) for n in (1, 2))
    root = merkle_root([left, right])
    assert leaf_hash(left + right) != root
    assert leaf_hash(b"\x01" + left + right) != root


def test_who_was_never_owed_anything_has_no_claim() -> None:
    assert ClaimTree(DOMAIN, shares(5)).claim(account(2)) is None
    assert ClaimTree(DOMAIN, ()).claim(account(1)) is None
    assert ClaimTree(DOMAIN, ()).root == c.NO_ROOT


def test_an_account_has_one_leaf() -> None:
    with pytest.raises(MalformedMessage, match="one leaf"):
        ClaimTree(DOMAIN, (*shares(5), *shares(6)))


def test_what_is_no_account_of_the_chain_has_no_leaf() -> None:
    with pytest.raises(MalformedMessage):
        c.claim_leaf(DOMAIN, AccountId("alice.near"), 1)


def proposed(record: RewardsRecord, **changed: int) -> RewardsRecord:
    given_ = {"epoch": 3, "total": 50, "held": 50, "now": NOW, "delay": 100, "seconds": DAY}
    given_ |= changed
    epoch, total = given_.pop("epoch"), given_.pop("total")
    return c.proposed(record, epoch, b"\x01" * 32, total, **given_)


def test_a_root_waits_and_comes_into_force_by_itself() -> None:
    record = proposed(RewardsRecord())
    assert c.matured(record, NOW + 99) == record
    active = c.matured(record, NOW + 100)
    assert (active.epoch, active.root, active.total, active.waiting) == (3, b"\x01" * 32, 50, None)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"epoch": 9, "now": NOW - 1}, "TooEarly"),
        ({"epoch": c.MAX_TIME}, "TooEarly"),
        ({"epoch": 2}, "BadEpoch"),
        ({"total": 39}, "BadData"),
        ({"total": 71}, "Unfunded"),
    ],
)
def test_no_root_is_proposed_that(changed: dict[str, int], name: str) -> None:
    record = RewardsRecord(
        epoch=2, root=b"\x02" * 32, total=Amount(40), paid=Amount(20)
    )  # fmt: skip
    assert proposed(record, total=70).waiting is not None
    with pytest.raises(LedgerRejected) as refused:
        proposed(record, **changed)
    assert refused.value.name == name


def test_one_root_waits_at_a_time_and_a_cancelled_one_leaves_its_epoch_free() -> None:
    record = proposed(RewardsRecord())
    with pytest.raises(LedgerRejected, match="StillWaiting"):
        proposed(record, epoch=4)
    for epoch, now in ((4, NOW), (3, NOW + 100)):
        with pytest.raises(LedgerRejected, match="NothingWaits"):
            c.cancelled(record, epoch, now)
    without, gone = c.cancelled(record, 3, NOW + 99)
    assert (without, gone.root) == (RewardsRecord(), b"\x01" * 32)
    assert proposed(without).waiting is not None


def test_a_claim_pays_what_is_new_and_never_more_than_the_total() -> None:
    tree = ClaimTree(DOMAIN, shares(30, 40))
    record = RewardsRecord(epoch=1, root=tree.root, total=Amount(50))
    first, second = tree.claim(account(1)), tree.claim(account(2))
    assert first is not None
    assert second is not None
    record, paid = c.claimed(record, DOMAIN, first, 10, NOW)
    assert (record.paid, paid) == (20, 20)
    with pytest.raises(LedgerRejected, match="NothingNew"):
        c.claimed(record, DOMAIN, first, 30, NOW)
    with pytest.raises(LedgerRejected, match="Exhausted"):
        c.claimed(record, DOMAIN, second, 0, NOW)
    with pytest.raises(LedgerRejected, match="BadProof"):
        c.claimed(RewardsRecord(), DOMAIN, first, 0, NOW)


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_an_epoch_ends_where_the_next_begins(time: int, seconds: int) -> None:
    last = c.ended_before(time, seconds)
    assert (last + 1) * seconds <= time < (last + 2) * seconds
