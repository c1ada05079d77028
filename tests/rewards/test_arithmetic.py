"""Fees, reputation and slashes: integers that stay in range and add up."""

from __future__ import annotations

from hypothesis import given, strategies as st

from rewards import fees, reputation, slashing

MAX_FEE = (1 << 96) - 1
fee_amounts = st.integers(min_value=1, max_value=MAX_FEE)
reputations = st.integers(min_value=0, max_value=reputation.MAX)
scales = st.integers(min_value=1, max_value=MAX_FEE)


@given(fee_amounts, reputations)
def test_payment_and_protocol_cut_add_up_to_the_fee(fee: int, points: int) -> None:
    assert fees.paid(fee, points) + fees.protocol_cut(fee, points) == fee


@given(fee_amounts, reputations)
def test_a_provider_receives_between_85_and_95_percent(fee: int, points: int) -> None:
    assert fee * 85 // 100 <= fees.paid(fee, points) <= fee * 95 // 100


@given(reputations, fee_amounts, scales)
def test_reputation_never_leaves_its_range(points: int, fee: int, w0: int) -> None:
    for after in (
        reputation.success(points, fee, w0),
        reputation.lost_vote(points, fee, w0),
        reputation.silent(points),
        reputation.idle(points, 7),
    ):
        assert 0 <= after <= reputation.MAX


@given(reputations, fee_amounts, scales)
def test_success_never_lowers_and_a_lost_vote_never_raises(points: int, fee: int, w0: int) -> None:
    assert reputation.lost_vote(points, fee, w0) <= points <= reputation.success(points, fee, w0)


def test_a_newcomer_needs_41_full_weight_successes_to_reach_400() -> None:
    points, count = reputation.START, 0
    while points < 400_000:
        points, count = reputation.success(points, 10**18, 1), count + 1
    # 1000 - 900·0.99^n ≥ 400 first holds at n = 41.
    assert count == 41


@given(st.integers(min_value=0, max_value=reputation.START), st.integers(0, 500))
def test_idling_costs_nothing_at_or_below_the_start(points: int, weeks: int) -> None:
    assert reputation.idle(points, weeks) == points


@given(reputations, st.integers(0, 10_000))
def test_idling_never_goes_below_the_start(points: int, weeks: int) -> None:
    assert reputation.idle(points, weeks) >= min(points, reputation.START)


@given(st.integers(0, MAX_FEE), st.integers(0, MAX_FEE), st.integers(0, MAX_FEE))
def test_a_slash_takes_a_fifth_rounded_up_and_splits_exactly(
    bonded: int, unbonding: int, bounty: int
) -> None:
    slash = slashing.equivocation(bonded, unbonding, bounty)

    assert 5 * (slash.amount - 1) < bonded + unbonding or slash.amount == 0
    assert 5 * slash.amount >= bonded + unbonding
    assert slash.bounty + slash.burned == slash.amount
    assert slash.bounty <= min(bounty, slash.amount // 10)
    assert slash.from_bonded <= bonded
    assert slash.from_unbonding <= unbonding
