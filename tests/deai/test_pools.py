"""Shares of a pool: nobody gains by rounding, and a slash is borne in proportion."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from deai import pools
from deai.errors import MalformedMessage
from deai.ids import AccountId, index_of, owner_of
from deai.money import MAX_AMOUNT, MAX_COUNT, Amount, Count
from deai.pools import MAX_SHARES, PoolRecord, PoolState
from deai.signing import Domain
from tests.support.examples import examples

DOMAIN = Domain(pools.POOLS_NAME, 1329, AccountId("0x" + "d1" * 20))
MANAGER = AccountId("0x" + "11" * 20)
sums = st.integers(1, MAX_AMOUNT // 4)
shares_of = st.integers(1, MAX_SHARES // 4)


@given(sums, shares_of, sums)
@examples(200)
def test_lending_makes_no_other_share_cheaper_and_buys_no_more_than_was_lent(
    amount: int, shares: int, assets: int
) -> None:
    bought = pools.minted(amount, shares, assets)
    assert (assets + amount) * shares >= assets * (shares + bought)
    assert pools.worth(bought, shares + bought, assets + amount) <= amount


@given(sums, st.integers(0, pools.MAX_COMMISSION), shares_of, sums)
@examples(200)
def test_a_manager_gets_no_more_of_income_than_its_commission(
    income: int, bps: int, shares: int, assets: int
) -> None:
    kept, bought = pools.commission(income, bps, shares, assets)
    assert kept == income * bps // 10_000
    assert pools.worth(bought, shares + bought, assets + income) <= kept
    others = Fraction(shares * (assets + income), shares + bought)
    assert others >= assets + income - kept


@given(sums, st.integers(0, MAX_AMOUNT // 4), shares_of, st.data())
@examples(200)
def test_a_slash_is_borne_in_proportion_and_its_bounty_by_the_manager(
    assets: int, leaving: int, shares: int, data: st.DataObject
) -> None:
    free = data.draw(st.integers(0, shares))
    fixed = data.draw(st.integers(0, MAX_AMOUNT // 4))
    whole = assets + leaving
    amount = -(-whole // 5)
    found = pools.slash(amount, fixed, assets=assets, leaving=leaving, shares=shares, free=free)
    alone = min(amount // 10, fixed)
    common = amount - alone
    assert found.lost <= leaving
    assert amount - found.lost <= assets
    assert 0 <= found.lost - Fraction(common * leaving, whole) < 1 or found.bounty < alone
    if found.bounty < alone or found.burnt == free:
        return  # there was no more to take: an open pool has the manager's own part
    left, rest = assets - (amount - found.lost), shares - found.burnt
    before, after = Fraction(assets, shares), Fraction(left, rest)
    # Of others' shares: what was burned, in proportion, and not a part of the bounty.
    assert after >= before * (1 - Fraction(common, whole)) - Fraction(1, rest)


def test_an_owner_is_named_by_contract_manager_and_number() -> None:
    owners = {
        pools.pool_owner(domain, manager, index)
        for domain in (DOMAIN, Domain(pools.POOLS_NAME, 1329, MANAGER))
        for manager in (MANAGER, AccountId("0x" + "22" * 20))
        for index in (0, 1, (1 << 96) - 1)
    }
    assert len(owners) == 12
    node = pools.pool_node(DOMAIN, MANAGER, 7)
    assert (owner_of(node), index_of(node)) == (pools.pool_owner(DOMAIN, MANAGER, 7), 0)
    for index in (-1, 1 << 96):
        with pytest.raises(MalformedMessage, match="96 bits"):
            pools.pool_owner(DOMAIN, MANAGER, index)


def test_a_record_tells_what_shares_are_worth() -> None:
    record = PoolRecord(
        manager=MANAGER, commission=0, next_commission=0, next_commission_epoch=0,
        state=PoolState.OPEN, batch=1, matures_at=0, assets=Amount(1_000), leaving=Amount(0),
        unbonding=Amount(0), shares=3, manager_shares=1, queued=0, leaving_shares=0,
    )  # fmt: skip
    assert (record.own, record.delegated, record.worth(2)) == (333, 667, 666)
    assert PoolState.CLOSING.label == "closing"
    assert pools.worth(5, 0, 9) == 0


def test_a_count_has_112_bits() -> None:
    assert Count(MAX_COUNT) == MAX_COUNT == pools.MAX_SHARES
    for number in (-1, MAX_COUNT + 1):
        with pytest.raises(ValueError, match="count"):
            Count(number)
