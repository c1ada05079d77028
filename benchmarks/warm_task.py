"""Added latency of one small task on a warm stream, over calling the worker directly.

One client and one node in one process: the ledger in memory, the real journals on disk, a real
locked worker. `none/1`, one seat, `matmul-proof` of the smallest size. The ways take turns, so
that a machine whose speed drifts is as slow for each: the worker alone; client and node over the
wire in memory, and over libp2p on loopback; on each wire paid through the escrow, with a chain's
record of this one task, and paid by voucher through an open channel, as a task is where there is
one. A task of the lane is verified when its output has come: the receipt of its window follows.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import trio

from benchmarks.one_node import in_memory, libp2p, open_one_node
from benchmarks.report import Report, parser
from deai.client.client import Client
from deai.client.lane.lane import Lane
from deai.money import UNIT
from deai.ports import Computation, Executor, Workbench
from workloads.inputs import InstalledWorkloads
from workloads.pool import open_workbench

ROUNDS: Final = 300
QUICK_ROUNDS: Final = 10
WARM_UP: Final = 10
WORKLOAD: Final = "matmul-proof"
PARAMETERS: Final = {"size": 16, "rounds": 1}


async def through_network(client: Client, seed: int) -> tuple[float, float]:
    """Seconds from submitting to the verified output, and to the settled task."""
    began = time.perf_counter()
    handle = await client.submit(
        WORKLOAD, b"", params={**PARAMETERS, "seed": seed}, policy="none/1", max_fee=UNIT
    )
    await handle.output()
    verified = time.perf_counter() - began
    outcome = await handle.wait()
    assert outcome.ok, outcome.document
    return verified, time.perf_counter() - began


async def through_lane(lane: Lane) -> float:
    """Seconds of a lone task to its output."""
    began = time.perf_counter()
    await lane.call(b"")
    return time.perf_counter() - began


async def directly(executor: Executor, catalogue: InstalledWorkloads, seed: int) -> float:
    """Seconds of the same computation in the same worker."""
    computation = Computation(
        workload=WORKLOAD,
        version=1,
        model="",
        parameters=catalogue.parameters(WORKLOAD, {**PARAMETERS, "seed": seed}),
        input=b"",
        seed=bytes(32),
    )
    began = time.perf_counter()
    await executor.run(computation, on_progress=lambda _: None, timeout=60)
    return time.perf_counter() - began


async def measure(rounds: int) -> Report:
    """All of them, one task at a time, over the same kind of worker."""
    report = Report("warm_task", parameters={"rounds": rounds, "policy": "none/1", **PARAMETERS})
    direct: list[float] = []
    through: dict[str, list[tuple[float, float]]] = {"memory": [], "libp2p": []}
    on_lane: dict[str, list[float]] = {"memory": [], "libp2p": []}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = folder / "models"
        models.mkdir()

        async def workbench() -> Workbench:  # of its own: a worker serves one client in its life
            return await stack.enter_async_context(open_workbench(models, workloads=(WORKLOAD,)))

        bench = await workbench()
        executor = await stack.enter_async_context(bench.executor("direct"))
        clients: dict[str, Client] = {}
        lanes: dict[str, Lane] = {}
        for name, nets in (("memory", in_memory()), ("libp2p", libp2p())):
            (folder / name).mkdir()
            network = open_one_node(folder / name, models, await workbench(), nets)
            client = clients[name] = await stack.enter_async_context(network)
            opened = client.lane(WORKLOAD, params={**PARAMETERS, "seed": 1}, max_fee=UNIT)
            lanes[name] = await stack.enter_async_context(opened)
        catalogue = InstalledWorkloads.load(only=(WORKLOAD,))
        for seed in range(WARM_UP + rounds):
            direct.append(await directly(executor, catalogue, seed))
            for name, client in clients.items():
                through[name].append(await through_network(client, seed))
                on_lane[name].append(await through_lane(lanes[name]))
    worker = median(direct[WARM_UP:])
    verified, settled = zip(*through["memory"][WARM_UP:], strict=True)
    over_libp2p, _ = zip(*through["libp2p"][WARM_UP:], strict=True)
    for wire, figure in (
        ("memory", "lane_added_p50_ms"),
        ("libp2p", "lane_added_over_libp2p_p50_ms"),
    ):
        report.add(figure, 1000 * (median(on_lane[wire][WARM_UP:]) - worker), "ms")
    report.add("escrow_added_p50_ms", 1000 * (median(verified) - worker), "ms")
    report.add("escrow_added_over_libp2p_p50_ms", 1000 * (median(over_libp2p) - worker), "ms")
    report.add("task_p50_ms", 1000 * median(verified), "ms")
    report.add("task_p95_ms", 1000 * quantiles(verified, n=20)[-1], "ms")
    report.add("settled_p50_ms", 1000 * median(settled), "ms")
    report.baseline("worker_p50_ms", 1000 * worker, "ms")
    return report


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    trio.run(measure, rounds).emit(as_json=options.json)


if __name__ == "__main__":
    main()
