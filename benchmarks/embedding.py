"""Embedding throughput: through a node and through its worker, against the runner called directly.

All three compute the same texts with the same set-up (environment, one thread, warm-up), in turns
whose order rotates. Figures are medians; a share is taken within each round, since a machine's
speed drifts more between rounds than within one. Through a node is everything a client waits
for: matching, posting, the texts over libp2p, the vectors back and checked, settlement on a ledger
in memory, output and receipt on disk. Each process is warm before the first round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import trio

from benchmarks.one_node import libp2p, open_one_node
from benchmarks.report import Report, parser
from deai.client.client import Client
from deai.money import UNIT
from deai.ports import Computation, Executor
from workloads import embedding
from workloads.forkserver import ENVIRONMENT
from workloads.inputs import InstalledWorkloads
from workloads.models import import_model
from workloads.pool import open_workbench

TEXTS: Final = 5_000
QUICK_TEXTS: Final = 60
ROUNDS: Final = 3
FLOOR_SHARE: Final = 0.95  # what the project promises
DIRECT: Final = """
import sys, time
from pathlib import Path
from workloads import embedding
from workloads.models import load_model
from workloads.runners import embedding as runner
from workloads.spec import RunnerTask
store, path = Path(sys.argv[1]), Path(sys.argv[2])
parameters = embedding.check_parameters({})
model = load_model(store, parameters["model"])
runner.warm_up()
runner.run(RunnerTask(parameters, b"warm", model, b"", 1), lambda fraction: None)
data = path.read_bytes()
print("ready", flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    runner.run(RunnerTask(parameters, data, model, b"", 1), lambda fraction: None)
    print(time.perf_counter() - started, flush=True)
"""


def sample_texts(count: int) -> bytes:
    """Sentences of 4 to 60 words, the same every time."""
    words = ("nodes", "stream", "signed", "beats", "while", "clients", "compare", "results")
    lines = (
        " ".join(words[(n * 7 + i * (n % 11 + 1)) % len(words)] for i in range(4 + n * 31 % 57))
        for n in range(count)
    )
    return "\n".join(f"{line} {n}" for n, line in enumerate(lines)).encode()


class DirectRunner:
    """The runner in a process of its own, called without any lock or pipe for the data."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def seconds(self) -> float:
        """Time of one run over the texts."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def open_direct_runner(models: Path, data: Path) -> Iterator[DirectRunner]:
    """Start it and wait until it is warm."""
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", DIRECT, str(models), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield DirectRunner(process)
        finally:
            process.kill()


@asynccontextmanager
async def open_warm_worker(models: Path) -> AsyncIterator[Executor]:
    """A locked worker that has loaded the model."""
    opened = open_workbench(models, workloads=("embedding",))
    async with opened as bench, bench.executor("benchmark") as executor:
        await executor.run(computation(b"warm"), on_progress=_ignore, timeout=600)
        yield executor


def computation(data: bytes) -> Computation:
    """One embedding task with the default parameters."""
    installed = InstalledWorkloads.load()
    parameters = installed.parameters("embedding", {})
    return Computation(
        workload="embedding",
        version=embedding.SPEC.version,
        model=installed.model("embedding", parameters),
        parameters=parameters,
        input=data,
        seed=bytes(32),
    )


async def measure(models: Path, data: bytes, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round: through the node, through the worker, directly."""
    seconds: dict[str, list[float]] = {"node": [], "worker": [], "runner": []}
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        home = Path(place)
        path = home / "texts"
        path.write_bytes(data)
        async with (
            open_workbench(models, workloads=("embedding",)) as bench,
            open_one_node(home, models, bench, libp2p()) as client,
            open_warm_worker(models) as executor,
        ):
            await through_node(client, b"warm")
            # It imports torch; a node that stands still so long finds its chain silent.
            runner = await trio.to_thread.run_sync(
                stack.enter_context, open_direct_runner(models, path)
            )

            async def through_worker() -> float:
                began = trio.current_time()
                await executor.run(computation(data), on_progress=_ignore, timeout=3600)
                return trio.current_time() - began

            ways = deque[tuple[str, Callable[[], Awaitable[float]]]](
                (
                    ("node", partial(through_node, client, data)),
                    ("worker", through_worker),
                    ("runner", partial(trio.to_thread.run_sync, runner.seconds)),
                )
            )
            for _ in range(rounds):
                for name, way in ways:
                    seconds[name].append(await way())
                ways.rotate(1)
    return seconds


async def through_node(client: Client, data: bytes) -> float:
    """Seconds from the call of `submit` until the output is in the caller's hands."""
    began = trio.current_time()
    handle = await client.submit("embedding", data, policy="none/1", max_fee=UNIT, deadline=3600)
    outcome = await handle.wait()
    seconds = trio.current_time() - began
    if not outcome.ok:
        raise SystemExit(f"the task ended {outcome.state}: {outcome.document['detail']}")
    return seconds


def _ignore(fraction: float) -> None:
    pass


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    count = QUICK_TEXTS if options.quick else TEXTS
    with tempfile.TemporaryDirectory() as home:
        models = Path(home) / "models"
        import_model("all-minilm-l6-v2", models)
        seconds = trio.run(measure, models, sample_texts(count), ROUNDS)
    node, worker, runner = (median(seconds[way]) for way in ("node", "worker", "runner"))

    def share(way: str) -> float:
        return median(a / b for a, b in zip(seconds["runner"], seconds[way], strict=True))

    report = Report(
        "embedding",
        parameters={
            "texts": count,
            "threads": 1,
            "rounds": ROUNDS,
            "floor_node_share_of_runner": FLOOR_SHARE,
        },
    )
    report.add("node_texts_per_s", count / node, "1/s")
    report.add("node_share_of_runner", share("node"), "1")
    report.add("node_added_s", node - runner, "s")
    report.add("worker_texts_per_s", count / worker, "1/s")
    report.add("worker_share_of_runner", share("worker"), "1")
    report.baseline("runner_texts_per_s", count / runner, "1/s")
    report.emit(as_json=options.json)


if __name__ == "__main__":
    main()
