"""Equal bytes on every processor, and embeddings within the manifest's thresholds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workloads.manifests.known import resolve
from workloads.models import read_manifest
from workloads.runners import exactmath
from workloads.tensors import matrix_values

pytestmark = pytest.mark.slow

CELLS = [
    (1, {}),
    (2, {}),
    (4, {"ATEN_CPU_CAPABILITY": "avx512"}),
    (1, {"ATEN_CPU_CAPABILITY": "avx2"}),
    (1, {"ATEN_CPU_CAPABILITY": "default"}),
    (2, {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    (
        1,
        {
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_CBWR": "COMPATIBLE",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
        },
    ),
]
X86 = ("DEFAULT", "AVX2", "AVX512")
MARGIN = 10
"""The thresholds exceed the worst honest difference by this at least."""


@pytest.fixture(scope="module")
def cells(models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    place = tmp_path_factory.mktemp("cells")
    found = []
    for index, (threads, settings) in enumerate(CELLS):
        target = place / str(index)
        arguments = [str(threads), str(models), resolve("all-minilm-l6-v2"), str(target)]
        output = subprocess.run(
            [sys.executable, "-m", "tests.workloads.fresh", *arguments],
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", **settings},
            capture_output=True,
            check=True,
            timeout=800,
            cwd=Path(__file__).parents[2],
        )
        found.append({**json.loads(output.stdout), "embeddings": target.read_bytes()})
    return found


def test_exact_workloads_give_the_same_bytes_everywhere(cells: list[dict[str, Any]]) -> None:
    assert [cell["digests"] for cell in cells] == [cells[0]["digests"]] * len(cells)
    # Without different instruction sets the comparison would say nothing: on x86-64 it is of
    # every one up to the best of this machine.
    tried = {cell["capability"] for cell in cells}
    if (best := cells[0]["capability"]) in X86:
        assert tried == set(X86[: X86.index(best) + 1])
    assert len(tried) >= 2


def test_exact_workloads_give_the_bytes_of_the_first_release(cells: list[dict[str, Any]]) -> None:
    assert cells[0]["digests"] == json.loads(
        (Path(__file__).parent / "exact_digests.json").read_text()
    )


def test_honest_embeddings_are_far_within_the_thresholds(
    cells: list[dict[str, Any]], models: Path
) -> None:
    from workloads.verification.compare import distance, matrices_agree  # with torch

    manifest = read_manifest(models, resolve("all-minilm-l6-v2"))
    limits = manifest.tolerances["tol32/1"]
    values = [matrix_values(cell["embeddings"], "embeddings").astype(float) for cell in cells]
    worst = dict.fromkeys(limits, 0.0)
    for left in values:
        for right in values:
            found = distance(left, right)
            worst = {name: max(worst[name], found[name]) for name in limits}
    assert all(0 < worst[name] * MARGIN < limits[name] for name in limits), worst
    outputs = [cell["embeddings"] for cell in cells]
    assert matrices_agree(outputs, limits) == [[True] * len(cells)] * len(cells)


def test_the_width_of_partial_sums_is_part_of_the_definition() -> None:
    # Changing it changes every digest: then the workload gets a new version.
    assert exactmath.SUM_WIDTH == 32_768
