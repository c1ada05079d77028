"""The shape every published figure shares, and the flags every benchmark takes.

A benchmark is a module with a ``main`` that measures something and hands over a :class:`Report`::

    def main() -> None:
        options = parser(__doc__).parse_args()
        report = Report("embedded_chain", parameters={"transfers": 2_000})
        report.add("transfers_per_s", 552.1, "1/s")
        report.baseline("anvil_transfers_per_s", 1_724.0, "1/s")
        report.emit(as_json=options.json)

A figure without the machine it was measured on and the code that was measured says nothing, so
both are collected here. Baselines are other programs measured in the same run, side by side.
"""

import argparse
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUICK_LIMIT_S = 60
"""``--quick`` ends within this many seconds on two cores."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--json`` and ``--quick``; a benchmark adds its own flags."""
    first_line = (description or "").strip().partition("\n")[0]
    options = argparse.ArgumentParser(description=first_line)
    options.add_argument("--json", action="store_true", help="print one JSON document")
    options.add_argument(
        "--quick", action="store_true", help=f"fewer rounds: ends within {QUICK_LIMIT_S} s"
    )
    return options


@dataclass
class Report:
    """One run of one benchmark.

    ``figures`` are ours, ``baselines`` those of other programs in the same run; ``units`` names the
    unit of each of both. ``parameters`` is what was chosen: sizes, counts, versions.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float | int] = field(default_factory=dict)
    baselines: dict[str, float | int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, metric: str, value: float, unit: str) -> None:
        """Record one of our own figures."""
        self.figures[metric] = value
        self.units[metric] = unit

    def baseline(self, metric: str, value: float, unit: str) -> None:
        """Record a figure of another program, measured in this same run."""
        self.baselines[metric] = value
        self.units[metric] = unit

    def document(self) -> dict[str, Any]:
        """Return the JSON document, with the machine and the commit filled in."""
        return {
            "name": self.name,
            "figures": self.figures,
            "units": self.units,
            "baselines": self.baselines,
            "parameters": self.parameters,
            "machine": machine(),
            "commit": commit(),
        }

    def emit(self, *, as_json: bool) -> None:
        """Print the report: one JSON document, or a small table for people."""
        if as_json:
            print(json.dumps(self.document(), indent=2))
            return
        where = machine()
        print(f"{self.name}: {where['cpu']}, {where['cores']} cores, commit {commit()}")
        for title, rows in (("", self.figures), ("baseline ", self.baselines)):
            for metric, value in rows.items():
                shown = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
                print(f"  {title + metric:<48} {shown:>16} {self.units[metric]}")


def machine() -> dict[str, str | int | float]:
    """Describe this machine: CPU, usable cores, memory (GiB), Python and kernel versions."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def commit() -> str:
    """Return the commit of the measured code, with ``-dirty`` if it was changed, or ``unknown``."""
    root = Path(__file__).resolve().parent.parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
