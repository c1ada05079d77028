"""Processes that are killed in the middle of a task: it is finished, and paid once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import HONEST, Network, eventually, kill, paid_in_full

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200)]


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


@pytest.mark.parametrize("moment", ["posted", "input", "committed"])
@pytest.mark.parametrize("process", ["sei", "coordinator"])
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


def test_every_coin_is_accounted_for(network: Network) -> None:
    eventually(lambda: network.books("sei") == [0, 0])
