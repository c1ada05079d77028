"""Writes the shared tables and test vectors that Python, Solidity and Rust replay.

Run `python contracts/spec/generate.py` after a change of the core and commit the result; with
`--check` it only compares. Inputs are drawn from a fixed seed plus the edges of every field.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from channel_parts import channel_vectors
from common import RANDOM
from near_parts import bindings, near
from order_parts import order_vectors
from pool_parts import pool_vectors
from reward_parts import reward_vectors
from rule_parts import arithmetic, tables
from task_parts import commitments, digests, ids, verdicts

HERE: Final = Path(__file__).parent
FILES: Final = {
    "tables.json": tables,
    "vectors/ids.json": ids,
    "vectors/digests.json": digests,
    "vectors/commitments.json": commitments,
    "vectors/arithmetic.json": arithmetic,
    "vectors/verdicts.json": verdicts,
    "vectors/near.json": near,
    "vectors/bindings.json": bindings,
    "vectors/channels.json": channel_vectors,
    "vectors/orders.json": order_vectors,
    "vectors/pools.json": pool_vectors,
    "vectors/rewards.json": reward_vectors,
}


def main() -> int:
    """Write all files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = []
    for name, make in FILES.items():
        RANDOM.seed(f"deai {name}")
        text = json.dumps(make(), indent=1) + "\n"
        path = HERE / name
        if check and (not path.exists() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    for name in stale:
        sys.stderr.write(f"contracts/spec/{name} is not what the core says; run this script\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
