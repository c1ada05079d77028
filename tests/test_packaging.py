"""What is at the root is shipped, typed, layered, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES: list[str] = TOOL["hatch"]["build"]["targets"]["wheel"]["packages"]
INSTALLED = packages_distributions()


def test_every_package_at_the_root_is_shipped_typed_and_layered() -> None:
    at_the_root = {marker.parent.name for marker in ROOT.glob("*/__init__.py")}

    assert set(PACKAGES) == at_the_root - {"tests", "benchmarks"}
    assert all((ROOT / package / "py.typed").exists() for package in PACKAGES)
    assert TOOL["mypy"]["files"] == [*PACKAGES, "benchmarks", "tests"]
    assert TOOL["importlinter"]["root_packages"] == PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_ships_a_package_of_ours(package: str) -> None:
    assert set(INSTALLED.get(package, [])) <= {"deai"}


def test_the_lock_names_no_package_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert "://" not in lock
    assert lock.count("--hash=sha256:") > 500


def test_help_loads_nothing_heavy() -> None:
    heavy = ["torch", "libp2p", "web3", "httpx", "trio", "rich", "sqlalchemy", "numpy", "eth_abi"]
    code = (
        "import sys, contextlib\n"
        "from deai.cli import main\n"
        "sys.argv = ['deai', '--help']\n"
        "with contextlib.suppress(SystemExit): main.main()\n"
        f"print('LOADED', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )

    assert "Commands:" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED []")
