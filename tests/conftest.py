"""What every test shares: profiles of property tests, and a light run for between two edits."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import examples

HEAVY = ("chain", "network", "world", "slow", "gpu")
ALL_HEAVY = re.compile(rf"^pytestmark = .*\bpytest\.mark\.(?:{'|'.join(HEAVY)})\b", re.MULTILINE)

LONGEST = (
    "node/test_process",
    "coordinator/test_cli",
    "deai/chain/near/test_random_walks",
    "workloads/test_determinism",
    "deai/chain/test_conformance_pools",
    "deai/chain/test_conformance_pools_ending",
    "workloads/test_cheats",
    "deai/chain/near/test_shuffled",
    "deai/chain/test_random_walks",
    "contracts/test_gas",
    "workloads/test_embedding",
    "devnet/evm/test_process",
    "deai/chain/test_conformance_nodes",
    "deai/chain/test_conformance_settling",
    "attacks/p2p/test_hostile_hosts",
    "coordinator/test_store",
    "deai/chain/near/test_crashes",
    "deai/chain/test_conformance_seats",
    "e2e/test_tasks",
    "benchmarks/test_reports",
    "e2e/test_near",
)
"""Files that take long, as was measured: they begin first, so that none is left at the end."""

RECURSION_LIMIT = 1_000  # Python's own

examples.register()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--light",
        action="store_true",
        help=f"leave out what is marked {', '.join(HEAVY)}; fewer examples of each property",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--light"):
        settings.load_profile(examples.LIGHT)
        wanted = [f"not {mark}" for mark in HEAVY]
        if config.option.markexpr:
            wanted.append(f"({config.option.markexpr})")
        config.option.markexpr = " and ".join(wanted)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A light run does not even import (torch, libp2p) files of which nothing would run."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    if config.getoption("--light") and is_test and ALL_HEAVY.search(collection_path.read_text()):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"tests/{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda one: places.get(one.nodeid.partition("::")[0], len(places)))


def pytest_collection_finish() -> None:
    """Undo what importing eth-account sets: under that limit, deep JSON ends the interpreter."""
    sys.setrecursionlimit(RECURSION_LIMIT)
