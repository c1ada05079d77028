"""The SDK as the guide shows it, and its facade without async."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import deai.client
from deai.client import Client, SyncClient
from deai.errors import NotSetUp, TaskDeclined, WorkloadFault
from deai.money import UNIT
from tests.cli.network import Neighbourhood
from tests.client.support.node import Script, honest

pytestmark = pytest.mark.world

GUIDE = Path(__file__).parents[2] / "docs" / "sdk.md"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    made = Neighbourhood(tmp_path, *[Script(seconds=0.02)] * 4)
    made.install(monkeypatch)
    monkeypatch.setattr(deai.client, "connect", made.connect)
    return made


def test_a_task_runs_without_an_event_loop_of_ones_own(network: Neighbourhood) -> None:
    with SyncClient(network.connect) as client:
        outcome = client.run("matmul-proof", b"", max_fee=UNIT)
        assert outcome.ok
        assert outcome.data is not None
        handle = client.submit("matmul-proof", b"", params={"seed": 5}, max_fee=UNIT)
        kinds = [update.kind for update in handle.follow()]
        assert kinds[-1] == "settled"
        assert handle.wait().ok
        assert client.show(outcome.task_id)["state"] == "completed"
        assert client.result(outcome.task_id).data == outcome.data


def test_errors_arrive_as_themselves(network: Neighbourhood) -> None:
    with SyncClient(network.connect) as client:
        with pytest.raises(WorkloadFault):
            client.run("no-such-workload", b"", max_fee=UNIT)
        with pytest.raises(TaskDeclined):
            client.run("matmul-proof", b"", max_fee=1)


def test_a_client_that_cannot_open_says_why() -> None:
    class Broken:
        async def __aenter__(self) -> Client:
            raise NotSetUp("no network")

        async def __aexit__(self, *_: object) -> None:
            return

    client = SyncClient(Broken)
    with pytest.raises(NotSetUp):
        client.__enter__()


def blocks() -> list[str]:
    """Those of the escrow; the one of the lane has a test beside the lane's."""
    return [code for code in every_block() if "client.lane(" not in code]


def every_block() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks())))
def test_every_example_of_the_guide_runs(
    number: int, network: Neighbourhood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("The cat sits outside\nA man is playing guitar")
    code = blocks()[number].replace('"network.json"', repr(str(tmp_path / "network.json")))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, str(GUIDE), "exec"), namespace)
    outcome = namespace["outcome"]
    work = next(work for node in network.nodes for work in node.works.values())
    assert outcome.data == honest(work.spec, (tmp_path / "texts.txt").read_bytes())
