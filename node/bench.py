"""`deai node bench`: measures each workload in the real worker, for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from deai.errors import DeaiError
from deai.hashing import ZERO
from deai.ports import Computation, Workbench

TOTAL_S: Final = 45.0
LEAST_S: Final = 2.0


async def measure(
    bench: Workbench, models: dict[str, str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One entry per workload: units, seconds, units a second; a failure is an entry too."""
    from workloads.catalog import load

    specs = {spec.id: spec for spec in load()}
    infos = [
        info for info in bench.catalogue.list() if info.id in specs and specs[info.id].examples
    ]
    results = []
    for info in infos:
        if info.models and not any(name in models for name in info.models):
            results.append({"workload": info.id, "error": "the model is not on this machine"})
            continue
        say(f"measuring {info.id}")
        given, data = specs[info.id].examples[0]
        # Small examples measure the way to the worker; a longer input measures the work.
        data = data * 64 if info.id == "embedding" else data
        try:
            parameters = bench.catalogue.parameters(info.id, dict(given))
            results.append(await _one(bench, info.id, info.version, parameters, data, len(infos)))
        except DeaiError as error:
            results.append({"workload": info.id, "error": str(error)})
    return results


async def _one(
    bench: Workbench, workload: str, version: int, parameters: bytes, data: bytes, among: int
) -> dict[str, Any]:
    computation = Computation(
        workload=workload, version=version, model="", parameters=parameters, input=data, seed=ZERO
    )
    budget = max(LEAST_S, TOTAL_S / among / 2)
    units, seconds, runs = 0, 0.0, 0
    until = time.monotonic() + budget
    async with bench.executor("bench") as executor:
        await executor.run(
            computation, on_progress=_nothing, timeout=TOTAL_S
        )  # warms up, not counted
        while runs == 0 or time.monotonic() < until:
            began = time.monotonic()
            output = await executor.run(computation, on_progress=_nothing, timeout=TOTAL_S)
            seconds += time.monotonic() - began
            units += output.units
            runs += 1
    return {
        "workload": workload,
        "units": units,
        "seconds": round(seconds, 3),
        "runs": runs,
        "units_per_second": round(units / seconds, 3),
    }


def _nothing(_done: float) -> None:
    """Nobody watches a measurement."""
