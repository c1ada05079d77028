"""The functions built from basic operations are accurate, and Philox is Philox."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from workloads.runners import exactmath

pytestmark = pytest.mark.slow

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123's known answers for philox4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_its_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    first, *rest = counter
    found = exactmath.philox((torch.tensor([first]), *rest), key[0] | key[1] << 32)
    assert tuple(int(word) for word in found) == words


@given(st.lists(st.floats(-700, 700), min_size=1))
def test_exp_is_accurate(values: list[float]) -> None:
    found = exactmath.exp(torch.tensor(values, dtype=torch.float64))
    for value, result in zip(values, found.tolist(), strict=True):
        assert result == pytest.approx(math.exp(value), rel=4.5e-16)


@given(st.lists(st.floats(2.0**-60, 1e300), min_size=1))
def test_log_is_accurate(values: list[float]) -> None:
    found = exactmath.log(torch.tensor(values, dtype=torch.float64))
    for value, result in zip(values, found.tolist(), strict=True):
        assert result == pytest.approx(math.log(value), rel=4.5e-16, abs=1e-300)


@given(st.lists(st.floats(2.0**-60, 1e300), min_size=1))
def test_sqrt_is_accurate(values: list[float]) -> None:
    found = exactmath.sqrt(torch.tensor(values, dtype=torch.float64))
    for value, result in zip(values, found.tolist(), strict=True):
        assert result == pytest.approx(math.sqrt(value), rel=4.5e-16)


@given(st.lists(st.floats(2.0**-53, 1 - 2.0**-53), min_size=1))
def test_normal_is_the_quantile_function(values: list[float]) -> None:
    found = exactmath.normal(torch.tensor(values, dtype=torch.float64))
    for value, result in zip(values, found.tolist(), strict=True):
        # Back through the distribution function, whose own error dominates far out.
        assert math.erfc(-result / math.sqrt(2)) / 2 == pytest.approx(value, rel=1e-12, abs=1e-16)


def test_uniform_never_is_zero_or_one() -> None:
    words = torch.tensor([0, FULL, 0, FULL]), torch.tensor([0, FULL, FULL, 0])
    found = exactmath.uniform(*words)
    assert found[0].item() == 2.0**-53
    assert found[1].item() == 1 - 2.0**-53
    assert torch.isfinite(exactmath.normal(found)).all()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300))
def test_the_tree_sum_is_a_sum(values: list[float]) -> None:
    found = exactmath.tree_sum(torch.tensor(values, dtype=torch.float64))
    assert found == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-4)


def test_the_tree_sum_pairs_halves_and_adds_blocks_in_order() -> None:
    width = exactmath.SUM_WIDTH
    values = torch.zeros(width + 1, dtype=torch.float64)
    # 1 and 2**-53 meet in the first step only if they are half a block apart.
    values[0], values[1], values[width // 2] = 1.0, 2.0**-53, 2.0**-53
    values[width] = 2.0**-53
    assert exactmath.tree_sum(values) == 1.0
    values[width // 2], values[width // 2 + 1], values[width] = 0.0, 2.0**-53, 0.0
    assert exactmath.tree_sum(values) == 1.0 + 2.0**-52


@given(st.lists(st.integers(0, 100_000), max_size=5), st.integers(0, 2**32))
def test_sums_of_what_comes_in_pieces_are_equal_to_the_last_bit(
    lengths: list[int], seed: int
) -> None:
    count = sum(lengths)
    values = torch.randn((2, count), generator=torch.Generator().manual_seed(seed)).double()
    sums = exactmath.TreeSum(2)
    for piece in torch.split(values, lengths, 1):
        sums.add(piece)
    assert sums.totals() == [exactmath.tree_sum(row) for row in values]


@pytest.mark.slow
def test_sixty_thousand_normals_look_normal() -> None:
    numbers = torch.arange(60_000)
    words = exactmath.philox((numbers, 0, 3, 0), 12345)
    for pair in (words[:2], words[2:]):
        values = exactmath.normal(exactmath.uniform(*pair))
        assert abs(values.mean().item()) < 4 / math.sqrt(60_000)
        assert values.std().item() == pytest.approx(1, abs=4 / math.sqrt(120_000))
        assert abs((values**3).mean().item()) < 4 * math.sqrt(15 / 60_000)
        assert (values**4).mean().item() == pytest.approx(3, abs=4 * math.sqrt(96 / 60_000))
    first, second = (exactmath.normal(exactmath.uniform(*p)) for p in (words[:2], words[2:]))
    assert abs((first * second).mean().item()) < 4 / math.sqrt(60_000)
