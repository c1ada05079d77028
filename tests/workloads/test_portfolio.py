"""The risk report is right: against closed forms, against numpy, and in its own arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.workloads import limits
from workloads import portfolio
from workloads.runners import exactmath, portfolio as runner
from workloads.spec import RunnerTask

pytestmark = pytest.mark.slow

HOLDING = {
    "positions": [
        {"asset": "A", "value": 600_000},
        {"asset": "B", "value": -250_000},
        {"asset": "C", "value": 150_000},
        {"asset": "A", "value": 100_000},
    ],
    "assets": [
        {"name": "A", "drift": 0.07, "volatility": 0.22},
        {"name": "B", "drift": 0.03, "volatility": 0.35},
        {"name": "C", "drift": -0.01, "volatility": 0.6},
        {"name": "D", "drift": 0.0, "volatility": 0.1},
    ],
    "correlation": [
        [1, 0.6, -0.2, 0],
        [0.6, 1, 0.1, 0],
        [-0.2, 0.1, 1, 0.3],
        [0, 0, 0.3, 1],
    ],
    "scenarios": [
        {"name": "crash", "shocks": {"A": -0.3, "B": -0.4}},
        {"name": "calm", "shocks": {}},
    ],
}
SINGLE = {
    "positions": [{"asset": "A", "value": 1_000_000}],
    "assets": [{"name": "A", "drift": 0.08, "volatility": 0.25}],
    "correlation": [[1]],
}


def report(document: dict[str, Any], **given: Any) -> dict[str, Any]:
    parameters = portfolio.check_parameters(given)
    data = json.dumps(document).encode()
    output = runner.run(RunnerTask(parameters, data, None, b"", 1), lambda fraction: None)
    portfolio.check_output(output.data, portfolio.check_input(parameters, data))
    found: dict[str, Any] = json.loads(output.data)
    return found


def test_one_asset_agrees_with_the_closed_form() -> None:
    found = report(SINGLE, paths=1_000_000, horizon_days=21, seed=5)
    years, value, drift, vol = 21 / 252, 1_000_000, 0.08, 0.25
    scale, trend = vol * math.sqrt(years), (drift - vol**2 / 2) * years
    normal = NormalDist()
    for level in (0.95, 0.99):
        quantile = normal.inv_cdf(1 - level)
        var = -value * (math.exp(trend + scale * quantile) - 1)
        # The mean of a log-normal below its quantile.
        below = math.exp(drift * years) * normal.cdf(quantile - scale) / (1 - level)
        errors = found["standard_errors"]
        assert abs(found["var"][str(level)] - var) < 4 * errors["var"][str(level)]
        cvar = -value * (below - 1)
        assert abs(found["cvar"][str(level)] - cvar) < 4 * errors["cvar"][str(level)]
    mean = -value * (math.exp(drift * years) - 1)
    assert abs(found["mean"] - mean) < 4 * found["standard_errors"]["mean"]
    stdev = value * math.exp(drift * years) * math.sqrt(math.expm1(scale**2))
    assert abs(found["stdev"] - stdev) < 4 * found["standard_errors"]["stdev"]


def numpy_losses(document: dict[str, Any], paths: int, days: int, seed: int) -> Any:
    """The same model written independently, with numpy's generator and BLAS."""
    rng = np.random.default_rng(seed)
    names = [asset["name"] for asset in document["assets"]]
    drift = np.array([asset["drift"] for asset in document["assets"]])
    vol = np.array([asset["volatility"] for asset in document["assets"]])
    held = np.zeros(len(names))
    for position in document["positions"]:
        held[names.index(position["asset"])] += position["value"]
    z = rng.standard_normal((paths, len(names)))
    z = z @ np.linalg.cholesky(np.array(document["correlation"], float)).T
    years = days / 252
    returns = np.exp((drift - vol**2 / 2) * years + vol * np.sqrt(years) * z) - 1
    return -returns * held


def test_a_portfolio_agrees_with_numpy_within_the_standard_errors() -> None:
    paths = 400_000
    found = report(HOLDING, paths=paths, horizon_days=10, seed=1)
    by_asset = numpy_losses(HOLDING, paths, 10, 99)
    losses = by_asset.sum(1)
    order = np.argsort(losses)
    errors = found["standard_errors"]
    for level in (0.95, 0.99):
        rank = math.ceil(level * paths)
        tail = order[rank - 1 :]
        key = str(level)
        # Two independent simulations differ by √2 standard errors.
        assert abs(found["var"][key] - losses[order[rank - 1]]) < 6 * errors["var"][key]
        assert abs(found["cvar"][key] - losses[tail].mean()) < 6 * errors["cvar"][key]
        parts = found["contributions"][key]
        for name, theirs in zip("ABCD", by_asset[tail].mean(0), strict=True):
            spread = by_asset[tail, "ABCD".index(name)].std() / math.sqrt(len(tail))
            assert abs(parts[name] - theirs) <= 8 * spread
    assert abs(found["mean"] - losses.mean()) < 6 * errors["mean"]
    assert abs(found["stdev"] - losses.std(ddof=1)) < 6 * errors["stdev"]


@pytest.mark.slow
def test_the_standard_errors_are_the_spread_of_repetitions() -> None:
    runs = [report(SINGLE, paths=4_000, seed=seed) for seed in range(200)]

    def spread(pick: Any) -> float:
        return float(np.std([pick(run) for run in runs], ddof=1))

    def stated(pick: Any) -> float:
        return float(np.mean([pick(run["standard_errors"]) for run in runs]))

    for pick in (
        lambda r: r["mean"],
        lambda r: r["stdev"],
        lambda r: r["var"]["0.95"],
        lambda r: r["cvar"]["0.95"],
        lambda r: r["cvar"]["0.99"],
    ):
        assert stated(pick) == pytest.approx(spread(pick), rel=0.25)


def test_contributions_add_up_to_the_shortfall() -> None:
    found = report(HOLDING, paths=70_001, confidence=[0.9, 0.99])
    for key, parts in found["contributions"].items():
        assert sum(parts.values()) == pytest.approx(found["cvar"][key], rel=1e-12)
        assert parts["D"] == 0.0


def test_every_tail_is_computed_again_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [0.01, 0.02, 0.03, 0.05, 0.5, 0.95, 0.99, 0.999]
    alone = [report(HOLDING, paths=5000, confidence=[level]) for level in levels]
    simulated: list[int] = []
    philox = exactmath.philox

    def counted(counter: Sequence[torch.Tensor | int], key: int) -> Any:
        simulated.append(torch.as_tensor(counter[0]).numel())
        return philox(counter, key)

    monkeypatch.setattr(exactmath, "philox", counted)
    together = report(HOLDING, paths=5000, confidence=levels)
    # Two assets take one call: four assets two.
    assert sum(simulated) <= 2 * 2 * 5000, "the price knows nothing of the levels"
    for level, one in zip(levels, alone, strict=True):
        assert together["contributions"][repr(level)] == one["contributions"][repr(level)]


@pytest.mark.slow
def test_a_wide_tail_of_many_assets_takes_little_memory() -> None:
    class Ramp:
        def returns(self, paths: torch.Tensor) -> list[torch.Tensor]:
            return [paths.to(torch.float64)] * portfolio.MAX_ASSETS

    paths, assets = 2_000_000, portfolio.MAX_ASSETS  # all of it at once would be 1 GB
    held = portfolio.Portfolio(
        names=tuple(map(str, range(assets))), exposures=(-1.0,) * assets, drifts=(),
        volatilities=(), factor=(), scenarios=(),
    )  # fmt: skip
    tail = runner._Tail(torch.zeros(paths).double(), torch.arange(paths), 1e-9)
    with limits.memory(400 << 20):
        found = runner._contributions(
            cast("runner._Model", Ramp()), held, {"0": tail}, runner.BLOCK
        )
    assert set(found["0"].values()) == {(paths - 1) / 2}


def test_quantiles_count_ranks_by_the_decimal_text_of_the_level() -> None:
    parameters = portfolio.check_parameters({"paths": 100, "confidence": [0.07, 0.5]})
    data = json.dumps(SINGLE).encode()
    found = runner.measure(parameters, data, lambda fraction: None)
    model = runner._Model(portfolio.parse_portfolio(data), 10 / 252, 0)
    import torch

    losses = sorted(model.loss(model.returns(torch.arange(100))).tolist())
    assert found["var"]["0.07"] == losses[6]  # in binary, 0.07 × 100 exceeds 7
    assert found["cvar"]["0.5"] == pytest.approx(sum(losses[49:]) / 51, rel=1e-13)


def test_scenarios_are_losses_of_the_shocks() -> None:
    found = report(HOLDING, paths=100)
    assert found["scenarios"] == {
        "calm": 0.0,
        "crash": pytest.approx(0.3 * 700_000 - 0.4 * 250_000),
    }


def test_a_riskless_portfolio_has_no_spread() -> None:
    still = {
        "positions": [{"asset": "A", "value": 100}],
        "assets": [{"name": "A", "drift": 0.0, "volatility": 0.0}],
        "correlation": [[1]],
    }
    found = report(still, paths=1000)
    assert found["var"] == {"0.95": 0.0, "0.99": 0.0}
    assert found["stdev"] == found["standard_errors"]["stdev"] == 0.0


def test_the_extremes_of_every_limit_stay_finite() -> None:
    wild = {
        "positions": [{"asset": "A", "value": 1e15}, {"asset": "B", "value": -1e15}],
        "assets": [
            {"name": "A", "drift": 5, "volatility": 5},
            {"name": "B", "drift": -5, "volatility": 5},
        ],
        "correlation": [[1, -1], [-1, 1]],
    }
    report(wild, paths=20_000, horizon_days=2520)


@pytest.mark.parametrize("block", [1, 7, 1 << 10, 1 << 20])
def test_the_size_of_a_batch_changes_no_byte(block: int) -> None:
    paths = 70_001 if block > 100 else 100 * block
    parameters = portfolio.check_parameters({"paths": paths, "seed": 3})
    data = json.dumps(HOLDING).encode()

    def quiet(fraction: float) -> None:
        assert 0 <= fraction <= 1

    assert portfolio.encode_report(
        runner.measure(parameters, data, quiet, block)
    ) == portfolio.encode_report(runner.measure(parameters, data, quiet))
