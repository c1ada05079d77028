"""Portfolio risk: value at risk and expected shortfall, the same bits on every machine.

Path p, asset j: words 2(j mod 2) and the next of Philox(counter = (p low, p high, j div 2, 0),
key = seed) give one uniform, its quantile one normal; normals are correlated by the factor of
`workloads.portfolio`. A path's return depends on its number alone, so the second pass computes
the tail's paths again instead of keeping every asset of every path.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import torch
from torch import Tensor

from workloads.portfolio import (
    DAYS_PER_YEAR,
    SPEC,
    Portfolio,
    encode_report,
    parse_portfolio,
)
from workloads.runners import exactmath
from workloads.spec import Report, RunnerOutput, RunnerTask

BLOCK: Final = 1 << 14
"""Paths computed at once: fits a core's cache; any other number gives the same bytes."""


def run(task: RunnerTask, report: Report) -> RunnerOutput:
    """Simulate, sort, and describe the losses."""
    torch.set_num_threads(task.threads)
    with torch.inference_mode():
        return RunnerOutput(encode_report(measure(task.parameters, task.input, report)))


def warm_up() -> None:
    """Touch the kernels once, before the fork."""
    parameters, data = SPEC.examples[0]
    run(
        RunnerTask(SPEC.check_parameters(parameters), data, None, b"", 1),
        lambda fraction: None,
    )


def measure(
    parameters: dict[str, Any], data: bytes, report: Report, block: int = BLOCK
) -> dict[str, Any]:
    """The risk report of a portfolio, before encoding."""
    portfolio = parse_portfolio(data)
    paths, seed = parameters["paths"], parameters["seed"]
    model = _Model(portfolio, parameters["horizon_days"] / DAYS_PER_YEAR, seed)
    losses = torch.empty(paths, dtype=torch.float64)
    for start in range(0, paths, block):
        numbers = torch.arange(start, min(start + block, paths), dtype=torch.int64)
        losses[start : start + block] = model.loss(model.returns(numbers))
        report(0.8 * min(start + block, paths) / paths)
    # Stable, so that equal losses keep the order of their paths: the tail is then well defined.
    ordered, order = torch.sort(losses, stable=True)
    mean = exactmath.tree_sum(losses) / paths
    centred = losses - mean
    squares = centred * centred
    variance = exactmath.tree_sum(squares) / (paths - 1)
    fourth = exactmath.tree_sum(squares * squares) / paths
    report(0.85)
    tails = {_key(level): _Tail(ordered, order, level) for level in parameters["confidence"]}
    return {
        "contributions": _contributions(model, portfolio, tails, block),
        "cvar": {key: tail.shortfall for key, tail in tails.items()},
        "mean": _plain(mean),
        "scenarios": {name: _scenario(portfolio, moves) for name, moves in portfolio.scenarios},
        "standard_errors": {
            "cvar": {key: tail.shortfall_error for key, tail in tails.items()},
            "mean": math.sqrt(variance / paths),
            "stdev": _stdev_error(variance, fourth, paths),
            "var": {key: tail.value_error for key, tail in tails.items()},
        },
        "stdev": math.sqrt(variance),
        "var": {key: tail.value for key, tail in tails.items()},
    }


class _Model:
    """Log-normal returns of correlated assets over one horizon of `years`."""

    def __init__(self, portfolio: Portfolio, years: float, seed: int) -> None:
        self._portfolio = portfolio
        self._seed = seed
        pairs = zip(portfolio.drifts, portfolio.volatilities, strict=True)
        self._trends = [(drift - vol * vol * 0.5) * years for drift, vol in pairs]
        self._scales = [vol * math.sqrt(years) for vol in portfolio.volatilities]

    def returns(self, paths: Tensor) -> list[Tensor]:
        """Simple returns of each asset on the numbered paths."""
        normals = self._normals(paths)
        found = []
        for row, trend, scale in zip(
            self._portfolio.factor, self._trends, self._scales, strict=True
        ):
            shock = normals[0] * row[0]
            for weight, value in zip(row[1:], normals[1:], strict=False):
                shock = shock + value * weight
            found.append(exactmath.exp(shock * scale + trend) - 1.0)
        return found

    def loss(self, returns: list[Tensor]) -> Tensor:
        """Minus the change in value of the portfolio."""
        total = returns[0] * -self._portfolio.exposures[0]
        for value, exposure in zip(returns[1:], self._portfolio.exposures[1:], strict=True):
            total = total + value * -exposure
        return total

    def _normals(self, paths: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        low, high = paths & 0xFFFFFFFF, paths >> 32
        for pair in range((len(self._scales) + 1) // 2):
            words = exactmath.philox((low, high, pair, 0), self._seed)
            for first in (0, 2):
                if len(found) < len(self._scales):
                    level = exactmath.uniform(words[first], words[first + 1])
                    found.append(exactmath.normal(level))
        return found


class _Tail:
    """What lies at and beyond one confidence level of the sorted losses."""

    def __init__(self, ordered: Tensor, order: Tensor, level: float) -> None:
        count = ordered.numel()
        # The decimal text of the level is meant, not its binary neighbour: 0.07 × 100 is 7.
        rank = math.ceil(Decimal(repr(level)) * count)
        beyond = ordered[rank - 1 :]
        size = beyond.numel()
        self.value = _plain(float(ordered[rank - 1]))
        self.shortfall = _plain(exactmath.tree_sum(beyond) / size)
        self.paths = torch.sort(order[rank - 1 :]).values
        centred = beyond - self.shortfall
        spread = exactmath.tree_sum(centred * centred) / size
        gap = self.shortfall - self.value
        self.shortfall_error = math.sqrt((spread + level * (gap * gap)) / size)
        deviation = math.sqrt(count * level * (1.0 - level))
        reach = math.ceil(deviation)
        low, high = max(1, rank - reach), min(count, rank + reach)
        width = float(ordered[high - 1]) - float(ordered[low - 1])
        self.value_error = width / (high - low) * deviation


def _contributions(
    model: _Model, portfolio: Portfolio, tails: dict[str, _Tail], block: int
) -> dict[str, dict[str, float]]:
    """Mean loss of each asset over the paths of each tail.

    Tails lie within each other: the widest is computed again, once, and each takes its paths.
    """
    sums = {key: exactmath.TreeSum(len(portfolio.names)) for key in tails}
    widest = max((tail.paths for tail in tails.values()), key=Tensor.numel)
    for start in range(0, widest.numel(), block):
        paths = widest[start : start + block]
        returns = model.returns(paths)
        losses = torch.stack(
            [moves * -held for moves, held in zip(returns, portfolio.exposures, strict=True)]
        )
        for key, tail in tails.items():
            first, last = (
                torch.searchsorted(tail.paths, paths[0]),
                torch.searchsorted(tail.paths, paths[-1], right=True),
            )
            sums[key].add(losses[:, torch.searchsorted(paths, tail.paths[first:last])])
    return {
        key: {
            name: _plain(total / tail.paths.numel())
            for name, total in zip(portfolio.names, sums[key].totals(), strict=True)
        }
        for key, tail in tails.items()
    }


def _scenario(portfolio: Portfolio, moves: tuple[float, ...]) -> float:
    total = 0.0
    for exposure, move in zip(portfolio.exposures, moves, strict=True):
        total -= exposure * move
    return _plain(total)


def _stdev_error(variance: float, fourth: float, count: int) -> float:
    if variance == 0.0:
        return 0.0
    inner = fourth - variance * variance * ((count - 3) / (count - 1))
    return math.sqrt(max(0.0, inner) / count) / (2.0 * math.sqrt(variance))


def _key(level: float) -> str:
    return repr(level)


def _plain(value: float) -> float:
    """Without the sign of a negative zero."""
    return value + 0.0
