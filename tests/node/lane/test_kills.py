"""Node and client of the lane are killed under load, as often as `DEAI_KILLS` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3]
KILLS: Final = int(os.environ.get("DEAI_KILLS", "15"))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(300 + 10 * KILLS)
def test_nothing_acknowledged_is_lost_and_nothing_counted_twice_whenever_they_are_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.node.lane.kills", "--kills", str(KILLS), "--seed", "7"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == []
    assert done.returncode == 0
    assert found["kills"] == KILLS
    assert found["of_nodes"] > KILLS // 4
    assert found["of_clients"] > KILLS // 4
    assert found["tasks"] > 2 * KILLS
