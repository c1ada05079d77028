"""Our workloads pass the suite that other people's must pass, and the suite notices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.worker import hostile
from workloads import matmul
from workloads.spec import Determinism, WorkloadSpec
from workloads.testing import check_conformance

NOT_BITWISE: WorkloadSpec = dataclasses.replace(
    matmul.SPEC, id="loose", determinism=Determinism.TOLERANCE
)
ACCEPTS_ALL: WorkloadSpec = dataclasses.replace(
    matmul.SPEC, id="gullible", check_output=lambda data, estimate: None
)
DRIFTS: WorkloadSpec = dataclasses.replace(
    matmul.SPEC, id="drifting", runner="tests.workloads.test_conformance:run_by_threads"
)


def run_by_threads(task: Any, report: Any) -> Any:
    from workloads.spec import RunnerOutput

    return RunnerOutput(matmul.encode_digest(f"{task.threads:064x}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["echo", "embedding", "matmul", "portfolio"])
def test_our_workloads_conform(name: str, models: Path) -> None:
    check_conformance(f"workloads.{name}:SPEC", models=models)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("NOT_BITWISE", "exact/1 needs equal bytes"),
        ("ACCEPTS_ALL", "for a result"),
        pytest.param("DRIFTS", "depend on the number of threads", marks=pytest.mark.slow),
    ],
)
def test_the_suite_notices(name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_conformance(f"tests.workloads.test_conformance:{name}", models=tmp_path)


def test_a_workload_without_examples_does_not_conform(tmp_path: Path) -> None:
    assert hostile.SPEC.examples == ()
    with pytest.raises(AssertionError, match="no examples"):
        check_conformance("tests.attacks.worker.hostile:SPEC", models=tmp_path)
