"""Whole tasks over the devnet: right results, right money, and every fault survived."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import (
    BEHAVIOURS,
    HONEST,
    PATIENCE_S,
    Network,
    eventually,
    kill,
    paid_in_full,
)

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200)]


def test_embeddings_come_back_right_and_paid(network: Network, texts: Path, tmp_path: Path) -> None:
    target = tmp_path / "vectors.npy"

    done = network.submit("embedding", texts, "--output", str(target), *network.among(*HONEST))

    assert (done["state"], done["policy"], done["result"]["agreed"]) == ("completed", "tol32/1", 3)
    paid_in_full(done)
    vectors = np.load(target)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]  # animals are nearer than markets
    report = network.deai("task", "verify-receipt", done["receipt"])
    assert report["ok"]


def test_risk_is_bit_for_bit_what_this_machine_computes(
    network: Network, portfolio: Path, tmp_path: Path
) -> None:
    options = ["--param", "paths=20000", "--param", "seed=3"]
    target, own = tmp_path / "net.json", tmp_path / "own.json"

    done = network.submit(
        "portfolio-risk", portfolio, *options, "--output", str(target), *network.among(*HONEST)
    )
    home = network.document["nodes"][0]["home"]
    network.deai(
        "workload", "run", "portfolio-risk", "--input", str(portfolio), *options,
        "--output", str(own), "--home", home,
    )  # fmt: skip

    assert done["state"] == "completed"
    assert target.read_bytes() == own.read_bytes()
    # A normal approximation of the ten-day loss is near: sqrt(10/252) of the yearly deviation.
    found = json.loads(target.read_text())
    deviation = np.sqrt((1000 * 0.2) ** 2 + (400 * 0.3) ** 2 - 2 * 0.4 * 200 * 120)
    assert found["stdev"] == pytest.approx(deviation * np.sqrt(10 / 252), rel=0.05)


def drawn(network: Network, index: int, workload: str, source: Path, *options: str) -> Any:
    """Submit until the node has a seat beside two of three honest ones; the task's document."""
    wanted = network.document["nodes"][index]["node_id"]
    for _ in range(12):
        done = network.submit(workload, source, *options, *network.among(*HONEST, index))
        if wanted in {attempt["node_id"] for attempt in done["attempts"]}:
            return done
    pytest.fail(f"{wanted} was never drawn")


@pytest.mark.parametrize("index", BEHAVIOURS, ids=BEHAVIOURS.values())
def test_a_misbehaving_node_gets_nothing_and_the_task_completes(
    network: Network, texts: Path, portfolio: Path, index: int
) -> None:
    workload, source = (
        ("embedding", texts)
        if BEHAVIOURS[index] == "wrong-weights"
        else ("portfolio-risk", portfolio)
    )
    if not network.node(index)["pid"]:
        network.devnet("start", f"node-{index}")
    salt = [] if workload == "embedding" else ["--param", f"seed={100 + index}"]

    # Who is drawn is chance; the fourth that is named stands ready to take a seat over.
    done = drawn(network, index, workload, source, *salt)

    assert done["state"] == "completed"
    paid_in_full(done)
    owner = network.document["nodes"][index]["owner"]
    assert owner not in {payment["provider"] for payment in done["payments"]}


def test_a_node_that_is_killed_in_mid_task_is_replaced_or_comes_back(
    network: Network, portfolio: Path
) -> None:
    node = network.node(0)
    client = network.start_until(
        "input", "task", "submit", "portfolio-risk", "--input", str(portfolio),
        "--param", "paths=600000", "--param", "seed=5", *network.among(*HONEST),
    )  # fmt: skip
    kill(node["pid"])
    network.devnet("start", "node-0")

    paid_in_full(network.finished(client))


@pytest.mark.parametrize("moment", ["posted", "input", "committed"])
def test_a_client_that_is_killed_resumes_with_the_same_command(
    network: Network, portfolio: Path, moment: str
) -> None:
    command = [
        "task", "submit", "portfolio-risk", "--input", str(portfolio), "--param", "paths=150000",
        "--param", f"seed={sum(moment.encode())}", *network.among(*HONEST),
    ]  # fmt: skip
    client = network.start_until(moment, *command)
    client.kill()
    client.communicate()

    done = network.task(*command)

    assert done["state"] == "completed"
    paid_in_full(done)
    tasks = network.deai("task", "list")["items"]
    assert sum(task["task_id"] == done["task_id"] for task in tasks) == 1


def test_the_same_idempotency_key_never_pays_twice(network: Network, texts: Path) -> None:
    first = network.submit("embedding", texts, "--idempotency-key", "once", *network.among(*HONEST))
    again = network.submit("embedding", texts, "--idempotency-key", "once", *network.among(*HONEST))
    other = texts.with_name("other.txt")
    other.write_text("something else\n")

    refused = network.submit("embedding", other, "--idempotency-key", "once")

    assert first["task_id"] == again["task_id"]
    assert refused["error"]["code"] == "idempotency_conflict"


def test_the_network_works_without_its_coordinator_and_the_index_catches_up(
    network: Network, texts: Path
) -> None:
    network.devnet("kill", "coordinator")
    assert "error" in network.deai("network", "stats", status=75)

    done = network.submit("embedding", texts, *network.among(*HONEST))

    assert done["state"] == "completed"
    network.devnet("start", "coordinator")
    assert eventually(lambda: network.indexed(done["task_id"]))
    home = str(network.directory / "coordinator")
    audit = network.deai("coordinator", "audit", "--home", home, "--config", f"{home}/config.toml")
    assert audit["ok"]
    assert audit["digest"] == audit["rebuilt_digest"]


@pytest.mark.parametrize(
    ("process", "moment"), [("sei", "posted"), ("sei", "committed"), ("coordinator", "input")]
)
def test_a_chain_or_coordinator_that_is_killed_in_mid_task_loses_nothing(
    network: Network, portfolio: Path, process: str, moment: str
) -> None:
    client = network.start_until(
        moment, "task", "submit", "portfolio-risk", "--input", str(portfolio),
        "--param", "paths=300000", "--param", f"seed={sum((process + moment).encode())}",
        *network.among(*HONEST),
    )  # fmt: skip
    network.devnet("kill", process)
    network.devnet("start", process)

    done = network.finished(client)
    paid_in_full(done)
    assert eventually(lambda: network.indexed(done["task_id"]))


def test_a_stranger_joins_with_two_commands_and_is_paid(
    network: Network, texts: Path, tmp_path: Path
) -> None:
    home = tmp_path / "stranger"
    init = [
        "node", "init", "--network", network.document["network_file"], "--non-interactive",
        "--home", str(home), "--listen", "/ip4/127.0.0.1/tcp/0",
    ]  # fmt: skip
    asked = 0
    while (document := network.plain(*init, status=None))["needs"]:
        asked += 1
        assert asked == 1, "one account is funded, once"
        needs = document["needs"]
        network.devnet("faucet", needs["address"], needs["tokens"])
    log = (tmp_path / "log").open("w")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "deai", "node", "run", "--home", str(home)],
        env=network.environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        eventually(lambda: network.is_online(document["node_id"]))
        done = network.submit(
            "embedding", texts, f"--node={document['node_id']}", *network.among(0, 1)
        )
        assert document["owner"] in {payment["provider"] for payment in done["payments"]}

        def booked() -> bool:
            earned = network.plain("node", "earnings", "--home", str(home))
            page = network.deai("network", "node", document["node_id"])
            return int(earned["paid"]) == int(page["earned"]) > 0

        # The node and the index hear of it each in its time.
        eventually(booked)

        twin = subprocess.run(
            [sys.executable, "-m", "deai", "node", "run", "--home", str(home)],
            env=network.environment, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert twin.returncode == 1
        assert "in use" in twin.stderr + twin.stdout or "another" in twin.stderr + twin.stdout
    finally:
        daemon.terminate()
        try:
            daemon.wait(timeout=PATIENCE_S)
        finally:
            daemon.kill()
            log.close()


def test_every_coin_is_accounted_for(network: Network) -> None:
    eventually(lambda: network.books("sei") == [0, 0])
