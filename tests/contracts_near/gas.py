"""Keeps `contracts/near/gas.json`: what each call costs, by two implementations of the VM.

    python -m tests.contracts_near.gas            the embedded chain's table, printed
    python -m tests.contracts_near.gas --vm       nearcore's VM beside it (needs cargo; minutes)
    … --write                                     replaces what was measured in the committed file
    … --check                                     fails when the committed file says something else

The embedded chain makes the calls; nearcore's VM (`contracts/near/compute/examples/gas.rs`) is
given the same calls on the same storage, must end them with the same logs, success and storage,
and says what they burn. Its `whole` is the embedded chain's with the calls' own gas replaced: what
receipts cost beside their calls is a sum of constants. It has no trie; the embedded chain counts
eight nodes of one for every write, which is all that the two differ by.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from devnet.near.rules import PROTOCOL_VERSION, TGAS
from tests.contracts_near import channel_plays, gas_plays, reward_plays
from tests.contracts_near.gas_plays import Meter, Row
from tests.contracts_near.world import ARTIFACTS

SOURCE: Final = Path(__file__).parents[2] / "contracts" / "near"
LEDGER: Final = SOURCE / "gas.json"
DRIFT: Final = 0.02  # of a committed figure
APART: Final = 0.05  # of nearcore's figure
COSTS: Final = (
    "instructions", "ed25519_verify", "storage_read", "storage_write", "keccak256", "receipts",
)  # fmt: skip
COSTS_FOR: Final = ("submit_task", "assign", "commit", "channels redeem")

Table = dict[str, Row]


def play(directory: Path) -> Meter:
    """Every call of every contract on the embedded chain."""
    meter = gas_plays.play(directory / "compute")
    for name, plays in (("channels", channel_plays), ("rewards", reward_plays)):
        other = plays.play(directory / name)
        meter.rows.update(other.rows)
        meter.recorder.codes.update(other.recorder.codes)
    return meter


def run_vm(meter: Meter, directory: Path) -> list[dict[str, Any]]:
    """Run what was recorded in nearcore's VM; the calls come back in their order."""
    records = [record for one in meter.rows.values() for record in one.records]
    codes = {name: base64.b64encode(code).decode() for name, code in meter.recorder.codes.items()}
    path = directory / "calls.json"
    path.write_text(json.dumps({"protocol": PROTOCOL_VERSION, "codes": codes, "calls": records}))
    command = ["cargo", "run", "--quiet", "--locked", "--example", "gas", "--", str(path)]
    done = subprocess.run(command, cwd=SOURCE, stdout=subprocess.PIPE, check=True)
    calls: list[dict[str, Any]] = json.loads(done.stdout)
    for record, call in zip(records, calls, strict=True):
        if not call["same"] or call["fees"] != record["fees"]:
            del call["costs"]
            raise SystemExit(f"{record['method']} ends otherwise in nearcore's VM: {call}")
    return calls


def vm_table(meter: Meter, calls: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows as nearcore's VM has them, some with where their gas went."""
    left = iter(calls)
    table: dict[str, dict[str, Any]] = {}
    for name, one in meter.rows.items():
        told = [(record, next(left)) for record in one.records]
        own = [(record, call) for record, call in told if record["receipt"] == one.receipt]
        row: dict[str, Any] = {
            "call": one.row["call"] + sum(c["burnt"] - r["burnt"] for r, c in own),
            "whole": one.row["whole"] + sum(c["burnt"] - r["burnt"] for r, c in told),
        }
        if name.startswith(COSTS_FOR):
            costs: Mapping[str, int] = own[0][1]["costs"]
            row["costs"] = {
                kind: sum(gas for cost, gas in costs.items() if kind in cost) for kind in COSTS
            }
        table[name] = row
    return table


def checksums() -> dict[str, str]:
    """Which wasm was measured."""
    lines = (ARTIFACTS / "SHA256SUMS").read_text().split()
    return dict(zip(lines[1::2], lines[::2], strict=True))


def committed() -> dict[str, Any]:
    """The committed file."""
    found: dict[str, Any] = json.loads(LEDGER.read_text())
    return found


def drifted(measured: Mapping[str, Row], said: Mapping[str, Row], by: float) -> list[str]:
    """Cells that are further than ``by`` from what is said, and rows of one side only."""
    wrong = [f"{name}: in one table only" for name in measured.keys() ^ said.keys()]
    for name in measured.keys() & said.keys():
        for kind in ("call", "whole"):
            one, other = measured[name][kind], said[name][kind]
            if abs(one - other) > other * by:
                wrong.append(f"{name}: {kind} is {one}, not {other}")
        if measured[name].get("storage") != said[name].get(
            "storage", measured[name].get("storage")
        ):
            wrong.append(f"{name}: storage is {measured[name]['storage']}")
    return sorted(wrong)


def main() -> None:
    """Print, write or check the tables."""
    parser = argparse.ArgumentParser(description="Gas of every call of the NEAR contracts.")
    parser.add_argument("--vm", action="store_true", help="also in nearcore's VM")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    tables: dict[str, Any] = {"protocol": PROTOCOL_VERSION, "wasm": checksums()}
    with tempfile.TemporaryDirectory() as directory:
        meter = play(Path(directory))
        tables["embedded"] = {name: one.row for name, one in meter.rows.items()}
        if asked.vm:
            tables["nearcore"] = vm_table(meter, run_vm(meter, Path(directory)))
    show(tables)
    if asked.check:
        check(tables)
    if asked.write:
        before = committed() if LEDGER.exists() else {}
        LEDGER.write_text(json.dumps({**before, **tables}, indent=1) + "\n")


def show(tables: Mapping[str, Any]) -> None:
    """Print TGas: the call and the whole, here and in nearcore's VM."""
    other: Mapping[str, Row] = tables.get("nearcore", {})
    for name, row in tables["embedded"].items():
        line = f"{name:40s} {row['call'] / TGAS:6.2f} {row['whole'] / TGAS:6.2f}"
        if name in other:
            vm = other[name]
            apart = (row["call"] / vm["call"] - 1) * 100
            line += f" {vm['call'] / TGAS:6.2f} {vm['whole'] / TGAS:6.2f} {apart:+5.1f} %"
        sys.stdout.write(f"{line} {row['storage']:5d} B\n")


def check(tables: Mapping[str, Any]) -> None:
    """Compare with the committed file; raises SystemExit."""
    said = committed()
    wrong = drifted(tables["embedded"], said["embedded"], DRIFT)
    wrong += drifted(tables["embedded"], said["nearcore"], APART)
    if "nearcore" in tables:
        wrong += drifted(tables["nearcore"], said["nearcore"], DRIFT)
    if said["wasm"] != tables["wasm"]:
        wrong.append("the tables are those of another wasm")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
