"""The lane for code without an event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import deai.client
from deai.client import SyncClient
from deai.errors import WorkloadFault
from deai.money import UNIT
from tests.cli.lanes import Lanes
from tests.client.lane.node import Cheat
from tests.client.test_sdk import GUIDE, every_block

pytestmark = pytest.mark.world


def test_calls_and_maps_pass_without_an_event_loop_of_ones_own(tmp_path: Path) -> None:
    network = Lanes(tmp_path, Cheat(), deposit=50 * UNIT)
    with SyncClient(network.connect) as client:
        with client.lane("echo", max_fee=UNIT) as lane:
            assert lane.call(b"hello") == b"HELLO"
            assert len(lane.nodes) == 1
            inputs = [b"task %d" % n for n in range(700)]
            assert list(lane.map(inputs)) == [data.upper() for data in inputs]
            outputs = lane.map([b"a", b"fault", b"c"])
            assert next(outputs) == b"A"
            with pytest.raises(WorkloadFault):
                next(outputs)
        assert network.lanes[0].account.paid == 703


def test_the_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Lanes(tmp_path, Cheat(), deposit=50 * UNIT)
    network.install(monkeypatch)
    monkeypatch.setattr(deai.client, "connect", network.connect)
    (code,) = (code for code in every_block() if "client.lane(" in code)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, str(GUIDE), "exec"), namespace)
    assert namespace["one"] == b"HELLO"
    assert namespace["many"] == [b"LINE %d" % n for n in range(1000)]
    assert network.lanes[0].account.paid == 1001
