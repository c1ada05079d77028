"""`deai coordinator` as a process, over a real chain process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.store.store import Store
from deai.ids import NEAR
from deai.network import ChainEntry, Network, save_network
from tests.coordinator.support import SEI
from tests.deai.chain.chains import ChainProcess, chain_process, chain_world
from tests.deai.test_opening import ON_NEAR
from tests.support.ledger_conformance import WRONG, play
from tests.support.polling import wait

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("embedded")) as chain:
        yield chain


@pytest.fixture
def home(tmp_path: Path, embedded: ChainProcess) -> Path:
    save_network(Network(name="test", chains={SEI: embedded.entry}), tmp_path / "network.json")
    (tmp_path / "config.toml").write_text(
        '[coordinator]\nlisten = "127.0.0.1:0"\np2p = ["/ip4/127.0.0.1/tcp/0"]\n'
    )
    return tmp_path


def deai(home: Path, *arguments: str) -> list[str]:
    program = "from deai.cli.main import main; main()"
    return [sys.executable, "-c", program, "coordinator", *arguments, "--home", str(home)]


def ask(home: Path, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        deai(home, *arguments, "--json"), capture_output=True, text=True, timeout=240, check=False
    )
    return done.returncode, json.loads(done.stdout)


@contextmanager
def started(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A coordinator process, once it has said that it is ready."""
    with (home / "log").open("ab") as log, subprocess.Popen(deai(home, "run"), stderr=log) as child:
        try:
            ready = home / "coordinator.json"
            wait(lambda: ready.exists() or child.poll() is not None)
            assert child.poll() is None, (home / "log").read_text()
            yield child, json.loads(ready.read_text())
        finally:
            if child.poll() is None:
                child.kill()


def until(url: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first answer that meets a condition."""

    def look() -> dict[str, Any] | None:
        answer = httpx.get(url, timeout=60)
        document: dict[str, Any] = answer.json()
        return document if answer.is_success and met(document) else None

    found = wait(look)
    assert found is not None
    return found


def has_a_task(stats: dict[str, Any]) -> bool:
    return any(stats["tasks_by_state"].values())


async def test_it_indexes_a_real_chain_survives_a_kill_and_passes_its_audit(
    home: Path, embedded: ChainProcess
) -> None:
    async with chain_world(embedded) as world:
        playing = await play(world)
        await playing.commit(0, 1, 2, digests={2: WRONG})
        with started(home) as (child, ready):
            assert set(ready) == {"url", "metrics_url", "peer_id", "addresses", "pid"}
            assert ready["pid"] == child.pid
            until(f"{ready['url']}/api/v1/network/stats", has_a_task)
            os.kill(child.pid, signal.SIGKILL)
        (home / "coordinator.json").unlink()
        await playing.finalise()
        with started(home) as (child, again):
            assert again["peer_id"] == ready["peer_id"]
            url = again["url"]
            task = until(f"{url}/api/v1/tasks/{playing.id}", lambda it: it["state"] == "completed")
            assert [one["state"] for one in task["attempts"]] == ["paid", "paid", "forfeited"]
            assert {one["kind"] for one in task["transactions"]} == {
                "post_and_assign", "commit", "finalise",
            }  # fmt: skip
            for provider in playing.providers:
                record = await world.reader.node(provider.node)
                assert record is not None
                shown = until(f"{url}/api/v1/nodes/{provider.node}/status", lambda _: True)
                assert shown["reputation_thousandths"] == record.reputation
                assert shown["stake"] == str(record.stake + record.unbonding)
            status, audit = ask(home, "audit")
            assert (status, audit["ok"]) == (0, True), audit
            assert audit["digest"] == audit["rebuilt_digest"]
            status, refused = ask(home, "rebuild")
            assert (status, refused["error"]["code"]) == (3, "database_in_use")
            child.send_signal(signal.SIGTERM)
            assert child.wait(90) == 0
        assert not (home / "coordinator.json").exists()
        status, rebuilt = ask(home, "rebuild")
        assert (status, rebuilt["ok"]) == (0, True), rebuilt
        status, migrated = ask(home, "migrate")
        assert (status, migrated["before"]) == (0, migrated["after"])


def test_an_audit_of_nothing_says_what_to_do(home: Path) -> None:
    status, document = ask(home, "audit")
    assert (status, document["error"]["code"]) == (3, "not_set_up")
    assert "coordinator run" in document["error"]["hint"]


def test_the_only_chain_of_a_network_is_meant_unless_one_is_named(tmp_path: Path) -> None:
    document: dict[str, Any] = {**ON_NEAR, "rpc_urls": tuple(ON_NEAR["rpc_urls"])}
    entry = ChainEntry(**document)
    save_network(Network(name="test", chains={NEAR: entry}), tmp_path / "network.json")
    Store(tmp_path / "coordinator.db").close()
    for named, meant in ((), "near"), (("--chain", "sei"), "sei"):
        status, refused = ask(tmp_path, "rebuild", *named)
        assert (status, refused["error"]["code"]) == (3, "not_set_up")
        assert f"nothing of {meant} is indexed" in refused["error"]["message"]
    status, refused = ask(tmp_path, "audit", "--chain", "sei")
    assert (status, refused["error"]["hint"]) == (3, "one of near")


def test_a_taken_port_and_a_wrong_setting_are_named(home: Path) -> None:
    with started(home) as (_, ready):
        port = ready["url"].rpartition(":")[2]
        other = home / "other"
        other.mkdir()
        (other / "config.toml").write_text(
            f'network = "../network.json"\n[coordinator]\nlisten = "127.0.0.1:{port}"\n'
            'p2p = ["/ip4/127.0.0.1/tcp/0"]\n'
        )
        status, document = ask(other, "run")
        assert (status, document["error"]["code"]) == (3, "port_taken")
        assert port in document["error"]["message"]
    (home / "config.toml").write_text("[coordinator]\nport = 8080\n")
    status, document = ask(home, "run")
    assert status == 3
    assert "config.toml:2" in document["error"]["message"]
    assert "coordinator.port" in document["error"]["message"]
