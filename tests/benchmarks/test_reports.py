"""Every benchmark, quickly: that it runs and reports in the one shape. No figure is judged here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import PROMISES, Promise, names, rows

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK_LIMIT_S = 900
"""Quick runs take a minute on a quiet machine; tests seldom have one."""
NAMES = names()
STARTS_A_CHAIN = {
    "channel_contracts", "embedded_chain", "escrow_latency", "near_chain", "near_escrow_latency",
    "node_footprint", "paid_tasks",
}  # fmt: skip


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "name": "node_footprint",
        "figures": {"rss_mib_reconnected": 123.4, "children_late": 2},
        "baselines": {"rss_mib_early": 120.0},
        "units": {"rss_mib_reconnected": "MiB", "children_late": "1", "rss_mib_early": "MiB"},
    }


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(QUICK_LIMIT_S + 60)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.chain) if name in STARTS_A_CHAIN else name
        for name in NAMES
    ],
)
def test_a_quick_run_prints_one_document_of_the_common_shape(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=QUICK_LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)

    assert set(found) == {
        "name", "figures", "units", "baselines", "parameters", "machine", "commit"
    }  # fmt: skip
    assert found["name"] == name
    assert found["figures"]
    assert found["baselines"]
    measured = {**found["figures"], **found["baselines"]}
    assert set(found["units"]) == set(measured)
    assert all(math.isfinite(value) for value in measured.values())
    assert set(PROMISES.get(name, {})) <= set(found["figures"])
    assert found["machine"]["cores"] >= 1


def test_figures_are_judged_by_what_was_promised(document: dict[str, Any]) -> None:
    assert [line.split()[-1] for line in rows(document) if "≤" in line] == ["reached"]
    document["figures"]["rss_mib_reconnected"] = 200.1
    assert [line.split()[-1] for line in rows(document) if "≤" in line] == ["MISSED"]


def test_a_quick_run_is_not_judged(document: dict[str, Any]) -> None:
    document["figures"]["rss_mib_reconnected"] = 900.0
    assert "MISSED" not in "".join(rows(document, judge=False))


def test_a_promised_figure_that_is_missing_is_said_to_be(document: dict[str, Any]) -> None:
    del document["figures"]["rss_mib_reconnected"]
    assert "not measured" in rows(document)[-1]


@pytest.mark.parametrize(
    ("promise", "kept", "broken"),
    [(Promise(0.95), 0.95, 0.949), (Promise(5, at_most=True), 5.0, 5.001)],
)
def test_a_promise_holds_at_its_limit(promise: Promise, kept: float, broken: float) -> None:
    assert promise.holds(kept)
    assert not promise.holds(broken)


def test_the_list_has_every_benchmark_and_no_helper() -> None:
    assert {"embedding", "node_footprint", "embedded_chain", "near_chain"} <= set(NAMES)
    assert not {"report", "one_node", "__main__", "__init__"} & set(NAMES)


def test_a_name_that_is_no_benchmark_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 2
    assert "embedding" in done.stderr


def test_every_benchmark_and_every_promise_is_documented() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"python -m benchmarks.{name}`" in text
    for name, promises in PROMISES.items():
        for metric, promise in promises.items():
            assert any(
                f"`{name}`" in line and f"`{metric}`" in line and str(promise) in line
                for line in text.splitlines()
            ), (name, metric)
