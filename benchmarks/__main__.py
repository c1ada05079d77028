"""Runs every benchmark in turn, each in a process of its own, and prints one table.

`--quick` finds out whether they work; what it prints is not to be published. The status is 0 if
every benchmark ran to its end, whatever it found, and 1 otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.report import commit, machine, parser

ROOT: Final = Path(__file__).resolve().parent.parent
FULL_LIMIT_S: Final = 3_600
QUICK_LIMIT_S: Final = 600
"""Ten times what a quiet machine takes."""


@dataclass(frozen=True)
class Promise:
    """What a figure must reach."""

    limit: float
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Whether a figure keeps it."""
        return value <= self.limit if self.at_most else value >= self.limit


PROMISES: Final = {
    "embedding": {"node_share_of_runner": Promise(0.95)},
    "warm_task": {
        "lane_added_p50_ms": Promise(5, at_most=True),
        "escrow_added_p50_ms": Promise(5, at_most=True),
    },
    "assignment": {"p99_ms": Promise(5_000, at_most=True)},
    "escrow_latency": {"post_to_completed_p50_s": Promise(3, at_most=True)},
    "node_footprint": {"rss_mib_reconnected": Promise(200, at_most=True)},
    "reducer": {"rebuild_events_per_s": Promise(5_000)},
    "embedded_chain": {"transfers_per_s": Promise(300)},
    "near_chain": {"calls_per_s": Promise(300)},
    "near_escrow_latency": {"post_to_completed_p50_s": Promise(6, at_most=True)},
    "paid_tasks": {
        "map_per_s": Promise(10_000),
        "await_per_s": Promise(10_000),
        "one_window_per_s": Promise(5_000),
        "slow_disk_per_s": Promise(5_000),
        "many_clients_per_s": Promise(5_000),
        "offered_p50_ms": Promise(20, at_most=True),
        "offered_p99_ms": Promise(100, at_most=True),
    },
    "journal": {"durable_per_s": Promise(10_000)},
    "channel_contracts": {
        "sei_redeem_each_of_batch": Promise(25_000, at_most=True),
        "near_redeem": Promise(6, at_most=True),
    },
}
"""By benchmark and figure; `docs/benchmarks.md` explains each."""


def names() -> list[str]:
    """Every module here that can be run by itself, those with a promise first."""
    found = {
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path != Path(__file__) and "\ndef main()" in path.read_text(encoding="utf-8")
    }
    promised = [name for name in PROMISES if name in found]
    return [*promised, *sorted(found.difference(promised))]


def run(name: str, *, quick: bool) -> dict[str, Any] | None:
    """The document of one benchmark; None if it failed, and stderr says why."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] * quick)]
    limit = QUICK_LIMIT_S if quick else FULL_LIMIT_S
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=limit
        )
        document: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    return document


def rows(document: dict[str, Any], *, judge: bool = True) -> list[str]:
    """A benchmark's figures as lines: value, unit, what it must reach and whether it does."""
    units, lines = document["units"], [document["name"]]
    promises = PROMISES.get(document["name"], {})
    for metric, value in document["figures"].items():
        line = f"  {metric:<44} {_shown(value):>14} {units[metric]:<6}"
        if promise := promises.get(metric):
            verdict = "reached" if promise.holds(value) else "MISSED"
            line += f" {promise!s:>9}  {verdict if judge else ''}"
        lines.append(line.rstrip())
    for metric, value in document["baselines"].items():
        lines.append(f"  {'baseline ' + metric:<44} {_shown(value):>14} {units[metric]}")
    lines += [
        f"  {metric:<44} {'—':>14} {'':<6} {promise!s:>9}  not measured"
        for metric, promise in promises.items()
        if metric not in document["figures"]
    ]
    return lines


def _shown(value: float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    """Run them all."""
    options = parser(__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    flags = options.parse_args()
    known = names()
    if unknown := set(flags.names).difference(known):
        options.error(f"no benchmark {', '.join(sorted(unknown))}; one of {', '.join(known)}")
    where = machine()
    if not flags.json:
        print(f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, "
              f"Python {where['python']}, commit {commit()}")  # fmt: skip
    documents = []
    for name in flags.names or known:
        document = run(name, quick=flags.quick)
        documents.append(document)
        if document is not None and not flags.json:
            print("\n".join(rows(document, judge=not flags.quick)), flush=True)
    if flags.json:
        print(json.dumps([one for one in documents if one is not None], indent=2))
    if None in documents:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
