"""Embedding throughput: the locked worker against calling the runner directly.

Both use the same template set-up (environment, threads, warm-up) and the same texts, in turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import trio

from benchmarks.report import Report, parser
from deai.ports import Executor, Job
from workloads import embedding
from workloads.forkserver import SINGLE_THREADED
from workloads.models import import_model
from workloads.pool import open_workbench

TEXTS: Final = 5_000
QUICK_TEXTS: Final = 100
ROUNDS: Final = 3
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
    environment = {**SINGLE_THREADED, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
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
        await executor.run(job(b"warm"), on_progress=_ignore, timeout=600)
        yield executor


def job(data: bytes) -> Job:
    """One embedding task with the default parameters."""
    from workloads.inputs import InstalledWorkloads

    installed = InstalledWorkloads.load()
    parameters = installed.parameters("embedding", {})
    return Job(
        workload="embedding",
        version=embedding.SPEC.version,
        model=installed.model("embedding", parameters),
        parameters=parameters,
        input=data,
        seed=bytes(32),
    )


async def measure(models: Path, data: bytes, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round: through the worker, and directly."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        path = Path(place) / "texts"
        path.write_bytes(data)
        through, direct = [], []
        async with open_warm_worker(models) as executor:
            runner = stack.enter_context(open_direct_runner(models, path))
            for _ in range(rounds):
                started = trio.current_time()
                await executor.run(job(data), on_progress=_ignore, timeout=3600)
                through.append(trio.current_time() - started)
                direct.append(await trio.to_thread.run_sync(runner.seconds))
    return through, direct


def _ignore(fraction: float) -> None:
    pass


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    count = QUICK_TEXTS if options.quick else TEXTS
    with tempfile.TemporaryDirectory() as home:
        models = Path(home) / "models"
        import_model("all-minilm-l6-v2", models)
        data = sample_texts(count)
        through, direct = trio.run(measure, models, data, ROUNDS)
    report = Report("embedding", parameters={"texts": count, "threads": 1})
    report.add("worker_texts_per_s", count / median(through), "1/s")
    report.baseline("runner_texts_per_s", count / median(direct), "1/s")
    report.add("share_of_runner", median(direct) / median(through), "1")
    report.emit(as_json=options.json)


if __name__ == "__main__":
    main()
