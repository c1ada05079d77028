"""Other people's workloads are found, and only behind the lock they ask for."""

from __future__ import annotations

import dataclasses
from importlib import metadata

import pytest

from deai.errors import ConfigError, WorkloadFault
from tests.attacks.worker import hostile
from workloads import catalog, matmul, wire
from workloads.inputs import InstalledWorkloads
from workloads.pool import judge
from workloads.spec import SandboxLevel

IMPOSTOR = dataclasses.replace(matmul.SPEC, title="not the real one")
NOT_A_SPEC = "text"
HERE = "tests.workloads.test_catalog"
LOCKED = {"read_file": True, "open_tcp_socket": True}


def test_ours_are_there_without_any_entry_point() -> None:
    names = [info.id for info in InstalledWorkloads.load().list()]
    assert {"echo", "embedding", "matmul-proof", "portfolio-risk"} <= set(names)
    assert names == sorted(names)


def test_an_entry_point_adds_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("h", "tests.attacks.worker.hostile:SPEC", catalog.ENTRY_POINTS)
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints([entry]))
    assert hostile.SPEC in catalog.load()


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        (f"{HERE}:IMPOSTOR", "two workloads"),
        (f"{HERE}:NOT_A_SPEC", "no WorkloadSpec"),
        (f"{HERE}:MISSING", "cannot load"),
        ("no.such.module:SPEC", "cannot load"),
    ],
)
def test_an_entry_that_cannot_be_used_says_so(reference: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        catalog.load(extra=[reference])


def test_a_workload_is_offered_only_behind_the_lock_it_asks_for() -> None:
    strict = dataclasses.replace(hostile.SPEC, id="strict", sandbox=SandboxLevel.FULL)
    installed = InstalledWorkloads([hostile.SPEC, strict])
    assert len(installed.within(SandboxLevel.FULL).list()) == 2
    assert [info.id for info in installed.within(SandboxLevel.PARTIAL).list()] == ["hostile"]
    assert installed.within(SandboxLevel.NONE).list() == ()
    with pytest.raises(WorkloadFault):
        installed.within(SandboxLevel.PARTIAL).info("strict")


@pytest.mark.parametrize(
    ("ready", "denied", "level"),
    [
        (wire.Ready(True, 7, True, []), LOCKED, "full"),
        (wire.Ready(True, 7, True, []), {**LOCKED, "read_file": False}, "partial"),
        (wire.Ready(True, 0, True, ["landlock: no"]), {**LOCKED, "read_file": False}, "partial"),
        (wire.Ready(True, 7, False, ["seccomp: no"]), {**LOCKED, "read_file": False}, "partial"),
        (wire.Ready(True, 0, False, ["landlock: no"]), LOCKED, "none"),
        (wire.Ready(False, 7, True, ["rlimits: no"]), LOCKED, "none"),
    ],
)
def test_the_level_is_what_held(ready: wire.Ready, denied: dict[str, bool], level: str) -> None:
    report = judge(ready, denied)
    assert report.level == level
    assert set(ready.problems) <= set(report.notes)
