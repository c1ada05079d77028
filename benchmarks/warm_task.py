"""Added latency of one small task on a warm stream, over calling the worker directly.

One client and one node in one process: the in-memory wire and ledger, the real journals on
disk, a real locked worker. `none/1`, one seat, `matmul-proof` of the smallest size.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import trio

from benchmarks.one_node import in_memory, open_one_node
from benchmarks.report import Report, parser
from deai.client.client import Client
from deai.money import UNIT
from deai.ports import Executor, Job
from workloads.inputs import InstalledWorkloads
from workloads.pool import open_workbench

ROUNDS: Final = 300
QUICK_ROUNDS: Final = 60
WARM_UP: Final = 10
PARAMETERS: Final = {"size": 16, "rounds": 1}


async def through_network(client: Client, seed: int) -> tuple[float, float]:
    """Seconds from submitting to the verified output, and to the settled task."""
    began = time.perf_counter()
    handle = await client.submit(
        "matmul-proof", b"", params={**PARAMETERS, "seed": seed}, policy="none/1", max_fee=UNIT
    )
    await handle.output()
    verified = time.perf_counter() - began
    outcome = await handle.wait()
    assert outcome.ok, outcome.document
    return verified, time.perf_counter() - began


async def directly(executor: Executor, seed: int) -> float:
    """Seconds of the same computation in the same worker."""
    catalogue = InstalledWorkloads.load(only=("matmul-proof",))
    job = Job(
        workload="matmul-proof",
        version=1,
        model="",
        parameters=catalogue.parameters("matmul-proof", {**PARAMETERS, "seed": seed}),
        input=b"",
        seed=bytes(32),
    )
    began = time.perf_counter()
    await executor.run(job, on_progress=lambda _: None, timeout=60)
    return time.perf_counter() - began


async def measure(rounds: int) -> Report:
    """Both, one after the other, over the same kind of worker."""
    report = Report("warm_task", parameters={"rounds": rounds, "policy": "none/1", **PARAMETERS})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        models.mkdir()
        async with open_workbench(models, workloads=("matmul-proof",)) as bench:
            async with bench.executor("direct") as executor:
                direct = [await directly(executor, seed) for seed in range(WARM_UP + rounds)]
            async with open_one_node(folder, models, bench, in_memory()) as client:
                whole = [await through_network(client, seed) for seed in range(WARM_UP + rounds)]
    direct = direct[WARM_UP:]
    verified, settled = zip(*whole[WARM_UP:], strict=True)
    report.add("added_p50_ms", 1000 * (median(verified) - median(direct)), "ms")
    report.add("task_p50_ms", 1000 * median(verified), "ms")
    report.add("task_p95_ms", 1000 * quantiles(verified, n=20)[-1], "ms")
    report.add("settled_p50_ms", 1000 * median(settled), "ms")
    report.baseline("worker_p50_ms", 1000 * median(direct), "ms")
    return report


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    trio.run(measure, rounds).emit(as_json=options.json)


if __name__ == "__main__":
    main()
