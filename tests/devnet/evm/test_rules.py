"""The fee of the next block."""

from hypothesis import given, settings, strategies as st

from devnet.evm.rules import GWEI, Rules

RULES = Rules()
fees = st.integers(RULES.base_fee_floor, RULES.base_fee_ceiling)
gas = st.integers(0, RULES.block_gas_limit)


@settings(deadline=None)
@given(fees, gas)
def test_the_base_fee_stays_between_its_bounds(base_fee: int, used: int) -> None:
    assert RULES.base_fee_floor <= RULES.next_base_fee(base_fee, used) <= RULES.base_fee_ceiling


@settings(deadline=None)
@given(fees, gas, gas)
def test_a_fuller_block_never_makes_the_next_one_cheaper(base_fee: int, one: int, two: int) -> None:
    less, more = sorted((one, two))
    assert RULES.next_base_fee(base_fee, less) <= RULES.next_base_fee(base_fee, more)


def test_a_full_block_raises_the_fee_by_three_quarters_of_a_per_cent() -> None:
    assert RULES.next_base_fee(100 * GWEI, RULES.block_gas_limit) == 100_750_000_000


def test_a_block_at_the_target_leaves_the_fee_as_it_is() -> None:
    assert RULES.next_base_fee(100 * GWEI, RULES.block_gas_target) == 100 * GWEI


def test_an_empty_block_lowers_the_fee_towards_the_floor() -> None:
    assert RULES.next_base_fee(100 * GWEI, 0) == 99_610_000_000
    assert RULES.next_base_fee(50 * GWEI, 0) == 50 * GWEI
