"""`deai node bench`: every workload measured by running it; what cannot run says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deai.codec import decode_value
from deai.errors import NodeFault
from deai.ports import Computation, Output, SandboxReport
from node import bench
from workloads.inputs import InstalledWorkloads


class Counting:
    """A workbench of the installed workloads, whose every run takes a second of its clock."""

    def __init__(self, failing: str = "") -> None:
        self.catalogue = InstalledWorkloads.load()
        self.sandbox = SandboxReport(level="full", details={})
        self.failing = failing
        self.now = 0.0
        self.jobs: list[Computation] = []

    @asynccontextmanager
    async def executor(self, client: str) -> AsyncIterator[Counting]:
        yield self

    async def run(self, job: Computation, *, on_progress: object, timeout: float) -> Output:
        if job.workload == self.failing:
            raise NodeFault("the worker died")
        self.jobs.append(job)
        self.now += 1.0
        found = self.catalogue.check(job.workload, job.parameters, job.input)
        return Output(data=b"", evidence=b"", units=found.units, seconds=1.0, measurements={})


def clocked(counting: Counting, patch: pytest.MonkeyPatch) -> Counting:
    patch.setattr("node.bench.time.monotonic", lambda: counting.now)
    return counting


async def test_a_speed_is_units_over_the_seconds_of_counted_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting, said = clocked(Counting(), monkeypatch), list[str]()
    found = await bench.measure(counting, {"all-minilm-l6-v2": "x"}, said.append)  # type: ignore[arg-type]
    assert {one["workload"] for one in found} == {
        "echo", "embedding", "portfolio-risk", "matmul-proof",
    }  # fmt: skip
    assert said == [f"measuring {one['workload']}" for one in found]
    for one in found:
        jobs = [job for job in counting.jobs if job.workload == one["workload"]]
        assert one["runs"] == len(jobs) - 1, "the first run warms up and is not counted"
        units = counting.catalogue.check(jobs[0].workload, jobs[0].parameters, jobs[0].input).units
        assert one["units"] == units * one["runs"]
        assert one["seconds"] == one["runs"]
        assert one["units_per_second"] == pytest.approx(units)
        assert isinstance(decode_value(jobs[0].parameters), dict)
    assert counting.now <= 60, "at most a minute, on a machine that takes a second a run"


async def test_what_cannot_be_measured_says_why_and_stops_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = clocked(Counting(failing="matmul-proof"), monkeypatch)
    found = await bench.measure(counting, {}, lambda _: None)  # type: ignore[arg-type]
    said = {one["workload"]: one.get("error") for one in found}
    assert said == {
        "echo": None,
        "embedding": "the model is not on this machine",
        "matmul-proof": "the worker died",
        "portfolio-risk": None,
    }
