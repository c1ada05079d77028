"""Portfolio risk by Monte Carlo: parameters, input, cost; the simulation is in the runners.

All that decides whether an input is valid happens here, in plain Python floats (IEEE basic
operations and square roots), so that every machine finds the same answer and the same factor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from deai.ports import Estimate
from deai.tasks import FaultCode, Policy
from workloads.faults import fault, finite, inconsistent, integer, invalid, malformed
from workloads.spec import Determinism, WorkloadSpec
from workloads.tensors import convert_json
from workloads.text import decode_text, parse_json, require_list, require_name, require_object

MAX_INPUT_BYTES: Final = 4 * 1024 * 1024
MAX_ASSETS: Final = 64
MAX_POSITIONS: Final = 10_000
MAX_SCENARIOS: Final = 256
MAX_PATHS: Final = 10_000_000
MIN_PATHS: Final = 100
MAX_DAYS: Final = 2520
MAX_RATE: Final = 5.0
"""Largest drift (either sign) and volatility a year; beyond it binary64 could overflow."""
MAX_VALUE: Final = 1e15
MAX_CONFIDENCES: Final = 8
DAYS_PER_YEAR: Final = 252
ROUNDING: Final = 1e-9
"""How far a correlation's diagonal and symmetry may be off."""
PIVOT: Final = 1e-10
"""A squared pivot of the factor this near to zero is zero: a perfectly dependent asset."""
WORK_PER_UNIT: Final = 1_000_000
DEFAULTS: Final[Mapping[str, Any]] = {
    "confidence": [0.95, 0.99],
    "horizon_days": 10,
    "paths": 100_000,
    "seed": 0,
}


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A valid input: per asset (in the order given) exposure, drift, volatility, factor row."""

    names: tuple[str, ...]
    exposures: tuple[float, ...]
    drifts: tuple[float, ...]
    volatilities: tuple[float, ...]
    factor: tuple[tuple[float, ...], ...]
    """Lower triangle: row i has i + 1 numbers."""
    scenarios: tuple[tuple[str, tuple[float, ...]], ...]


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """`horizon_days`, `paths`, `confidence`, `seed`."""
    for key in given:
        if key not in DEFAULTS:
            invalid(f"portfolio-risk has no parameter {key[:40]!r}")
    chosen = {**DEFAULTS, **given}
    levels = chosen["confidence"]
    if isinstance(levels, float):
        levels = [levels]
    if not isinstance(levels, list) or not 1 <= len(levels) <= MAX_CONFIDENCES:
        invalid(f"confidence must be 1 to {MAX_CONFIDENCES} numbers between 0 and 1")
    if not all(isinstance(level, float) and 0.0 < level < 1.0 for level in levels):
        invalid("confidence must lie between 0 and 1")
    if len(set(levels)) != len(levels):
        invalid("confidence names a level twice")
    return {
        "confidence": levels,
        "horizon_days": integer(chosen["horizon_days"], "horizon_days", 1, MAX_DAYS),
        "paths": integer(chosen["paths"], "paths", MIN_PATHS, MAX_PATHS),
        "seed": integer(chosen["seed"], "seed", 0, (1 << 63) - 1),
    }


def parse_portfolio(data: bytes) -> Portfolio:
    """Read an input; a fault for anything but a portfolio that means something."""
    if len(data) > MAX_INPUT_BYTES:
        fault(FaultCode.INPUT_TOO_LARGE, f"{len(data)} bytes; at most {MAX_INPUT_BYTES}")
    keys = {"positions": True, "assets": True, "correlation": True, "scenarios": False}
    document = require_object(parse_json(decode_text(data), "the input"), "the input", keys)
    names, drifts, volatilities = _assets(document["assets"])
    return Portfolio(
        names=names,
        exposures=_exposures(document["positions"], names),
        drifts=drifts,
        volatilities=volatilities,
        factor=factorise(_correlation(document["correlation"], len(names))),
        scenarios=_scenarios(document.get("scenarios", []), names),
    )


def _assets(
    value: Any,  # noqa: ANN401 - a parsed JSON value, as below
) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    rows = require_list(value, "assets", MAX_ASSETS)
    if not rows:
        inconsistent("there are no assets")
    names, drifts, volatilities = [], [], []
    for index, row in enumerate(rows):
        what = f"assets[{index}]"
        asset = require_object(row, what, {"name": True, "drift": True, "volatility": True})
        names.append(require_name(asset["name"], f"{what}.name"))
        drifts.append(finite(asset["drift"], f"{what}.drift"))
        volatilities.append(finite(asset["volatility"], f"{what}.volatility"))
        if abs(drifts[-1]) > MAX_RATE:
            inconsistent(f"{what}.drift is beyond ±{MAX_RATE}")
        if not 0.0 <= volatilities[-1] <= MAX_RATE:
            inconsistent(f"{what}.volatility is not between 0 and {MAX_RATE}")
    if len(set(names)) != len(names):
        inconsistent("two assets have one name")
    return tuple(names), tuple(drifts), tuple(volatilities)


def _exposures(value: Any, names: tuple[str, ...]) -> tuple[float, ...]:  # noqa: ANN401
    rows = require_list(value, "positions", MAX_POSITIONS)
    if not rows:
        inconsistent("there are no positions")
    held = dict.fromkeys(names, 0.0)
    for index, row in enumerate(rows):
        what = f"positions[{index}]"
        position = require_object(row, what, {"asset": True, "value": True})
        name = require_name(position["asset"], f"{what}.asset")
        amount = finite(position["value"], f"{what}.value")
        if name not in held:
            inconsistent(f"{what}.asset {name!r} is not among the assets")
        if abs(amount) > MAX_VALUE:
            inconsistent(f"{what}.value is beyond ±{MAX_VALUE}")
        held[name] += amount
    return tuple(held.values())


def _correlation(value: Any, size: int) -> list[list[float]]:  # noqa: ANN401 - as above
    rows = require_list(value, "correlation", MAX_ASSETS)
    matrix = []
    for index, row in enumerate(rows):
        what = f"correlation[{index}]"
        numbers = require_list(row, what, MAX_ASSETS)
        matrix.append([finite(number, what) for number in numbers])
    if len(matrix) != size or any(len(row) != size for row in matrix):
        inconsistent(f"correlation is not {size} by {size}")
    for i in range(size):
        if abs(matrix[i][i] - 1.0) > ROUNDING:
            inconsistent(f"correlation[{i}][{i}] is not 1")
        for j in range(i):
            if abs(matrix[i][j] - matrix[j][i]) > ROUNDING:
                inconsistent(f"correlation[{i}][{j}] differs from correlation[{j}][{i}]")
            if abs(matrix[i][j]) > 1.0 + ROUNDING:
                inconsistent(f"correlation[{i}][{j}] is beyond ±1")
    return matrix


def _scenarios(
    value: Any,  # noqa: ANN401 - a parsed JSON value
    names: tuple[str, ...],
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    rows = require_list(value, "scenarios", MAX_SCENARIOS)
    found: dict[str, tuple[float, ...]] = {}
    for index, row in enumerate(rows):
        what = f"scenarios[{index}]"
        scenario = require_object(row, what, {"name": True, "shocks": True})
        name = require_name(scenario["name"], f"{what}.name")
        shocks = scenario["shocks"]
        if not isinstance(shocks, dict):
            malformed(f"{what}.shocks is not an object")
        moves = {asset: finite(move, f"{what}.shocks") for asset, move in shocks.items()}
        if not moves.keys() <= set(names):
            inconsistent(f"{what}.shocks names an asset that is not among the assets")
        if name in found:
            inconsistent(f"two scenarios are called {name!r}")
        if any(abs(move) > MAX_VALUE for move in moves.values()):
            inconsistent(f"{what}.shocks is beyond ±{MAX_VALUE}")
        found[name] = tuple(moves.get(asset, 0.0) for asset in names)
    return tuple(found.items())


def factorise(matrix: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    """Cholesky's factor of the lower triangle, row by row; a fault unless semidefinite.

    A pivot within `PIVOT` of zero is taken as zero, and what remains of its column must then
    vanish too (up to the square root of that), as it does in a semidefinite matrix.
    """
    size = len(matrix)
    factor = [[0.0] * (row + 1) for row in range(size)]
    for column in range(size):
        known = factor[column]
        square = matrix[column][column] - _dot(known, known, column)
        if square < -PIVOT:
            inconsistent("the correlation is not positive semidefinite")
        pivot = math.sqrt(square) if square > PIVOT else 0.0
        factor[column][column] = pivot
        for row in range(column + 1, size):
            rest = matrix[row][column] - _dot(factor[row], known, column)
            if pivot:
                factor[row][column] = rest / pivot
            elif abs(rest) > 2.0 * math.sqrt(PIVOT):
                inconsistent("the correlation is not positive semidefinite")
    return tuple(tuple(row) for row in factor)


def _dot(left: list[float], right: list[float], count: int) -> float:
    # Not `sum` or `math.sumprod`: their rounding differs between versions of Python.
    total = 0.0
    for index in range(count):
        total += left[index] * right[index]
    return total


def check_input(parameters: Mapping[str, Any], data: bytes) -> Estimate:
    """Count assets and cost units."""
    assets = len(parse_portfolio(data).names)
    work = parameters["paths"] * assets * (assets + 20)
    return Estimate(items=assets, units=-(-work // WORK_PER_UNIT))


def encode_report(report: Mapping[str, Any]) -> bytes:
    """The canonical output: sorted keys, no spaces, shortest decimal text of each binary64."""
    return json.dumps(
        report, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    ).encode()


def check_output(data: bytes, estimate: Estimate) -> None:
    """Raise `ValueError` unless it is a finite report in canonical JSON."""
    report = json.loads(data)
    names = {
        "contributions", "cvar", "mean", "scenarios", "standard_errors", "stdev", "var",
    }  # fmt: skip
    if not isinstance(report, dict) or set(report) != names:
        raise ValueError("not a risk report")
    if encode_report(report) != data:
        raise ValueError("not in canonical form")
    if any(len(assets) != estimate.items for assets in report["contributions"].values()):
        raise ValueError("contributions do not name every asset")


_EXAMPLE: Final = (
    b'{"positions":[{"asset":"A","value":1000000},{"asset":"B","value":-250000}],'
    b'"assets":[{"name":"A","drift":0.05,"volatility":0.2},'
    b'{"name":"B","drift":0.02,"volatility":0.35}],"correlation":[[1,0.4],[0.4,1]],'
    b'"scenarios":[{"name":"crash","shocks":{"A":-0.3,"B":-0.4}}]}'
)

SPEC: Final = WorkloadSpec(
    id="portfolio-risk",
    version=1,
    title="Portfolio risk",
    description="Value at risk and expected shortfall by Monte Carlo, equal to the last bit.",
    policies=(Policy.EXACT, Policy.NONE),
    default_policy=Policy.EXACT,
    determinism=Determinism.BITWISE,
    unit="million asset steps (paths × assets × (assets + 20))",
    output_type="json",
    input_form=(
        "JSON: positions (values in any currency), assets (drift and volatility a year), their "
        "correlation, and, if wanted, scenarios of shocks"
    ),
    parameters_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "horizon_days": {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": 10},
            "paths": {
                "type": "integer", "minimum": MIN_PATHS, "maximum": MAX_PATHS, "default": 100_000,
            },
            "confidence": {"type": "array", "items": {"type": "number"}, "default": [0.95, 0.99]},
            "seed": {"type": "integer", "minimum": 0, "default": 0},
        },
    },
    check_parameters=check_parameters,
    check_input=check_input,
    check_output=check_output,
    runner="workloads.runners.portfolio:run",
    warm_up="workloads.runners.portfolio:warm_up",
    convert=convert_json,
    memory_bytes=2 << 30,
    examples=(
        ({"paths": 1000}, _EXAMPLE),
        ({"paths": 70_001, "confidence": [0.9], "seed": 11, "horizon_days": 1}, _EXAMPLE),
    ),
)  # fmt: skip
