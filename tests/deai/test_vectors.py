"""The committed vectors are what the core says, and another implementation agrees with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from eth_account import Account

from deai.ids import raw
from deai.signing import recover

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "contracts" / "spec"


def test_the_committed_tables_and_vectors_are_current() -> None:
    done = subprocess.run(
        [sys.executable, SPEC / "generate.py", "--check"], capture_output=True, text=True,
        check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_every_signature_of_the_vectors_names_its_signer() -> None:
    cases = json.loads((SPEC / "vectors" / "digests.json").read_text())["cases"]

    for case in cases:
        assert Account.from_key(case["secret"]).address.lower() == case["signer"]
        for name, digest in case["digests"].items():
            assert recover(raw(digest), raw(case["signatures"][name])) == case["signer"]
