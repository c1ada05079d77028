"""The same on NEAR: whatever is killed in the middle of a task, it is finished, and paid once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Network, eventually, on_near, paid_in_full, stake

pytestmark = on_near()


@pytest.mark.parametrize("moment", ["posted", "input", "committed"])
def test_a_client_that_is_killed_resumes_with_the_same_command(
    near: Network, portfolio: Path, moment: str
) -> None:
    command = [
        "task", "submit", "portfolio-risk", "--input", str(portfolio), "--param", "paths=150000",
        "--param", f"seed={sum(moment.encode())}",
    ]  # fmt: skip
    client = near.start_until(moment, *command)
    client.kill()
    client.communicate()

    done = near.task(*command)

    assert done["state"] == "completed"
    paid_in_full(done)
    tasks = near.deai("task", "list")["items"]
    assert sum(task["task_id"] == done["task_id"] for task in tasks) == 1


@pytest.mark.parametrize("moment", ["posted", "input", "committed"])
def test_nodes_that_are_killed_in_mid_task_are_replaced_or_come_back(
    near: Network, portfolio: Path, moment: str
) -> None:
    client = near.start_until(
        moment, "task", "submit", "portfolio-risk", "--input", str(portfolio),
        "--param", "paths=300000", "--param", f"seed={7 * len(moment)}",
    )  # fmt: skip
    for index in (0, 1):  # of the three that hold a seat it is one at least
        near.devnet("kill", f"node-{index}")
    for index in (0, 1):
        near.devnet("start", f"node-{index}")

    paid_in_full(near.finished(client))


@pytest.mark.parametrize("moment", ["posted", "committed"])
def test_a_chain_that_is_killed_in_mid_task_loses_nothing(
    near: Network, portfolio: Path, moment: str
) -> None:
    client = near.start_until(
        moment, "task", "submit", "portfolio-risk", "--input", str(portfolio),
        "--param", "paths=200000", "--param", f"seed={len(moment)}",
    )  # fmt: skip
    near.devnet("kill", "near")
    near.devnet("start", "near")

    paid_in_full(near.finished(client))


def test_the_network_works_without_its_coordinator_and_the_index_catches_up(
    near: Network, portfolio: Path
) -> None:
    client = near.start_until(
        "posted", "task", "submit", "portfolio-risk", "--input", str(portfolio),
        "--param", "paths=20000", "--param", "seed=77",
    )  # fmt: skip
    near.devnet("kill", "coordinator")
    done = near.finished(client)

    near.devnet("start", "coordinator")
    shown = eventually(lambda: near.indexed(done["task_id"]))
    assert (shown["chain"], shown["paid"]) == ("near", done["paid"])
    home = str(near.directory / "coordinator")
    audit = near.deai("coordinator", "audit", "--home", home, "--config", f"{home}/config.toml",
                      "--chain", "near")  # fmt: skip
    assert audit["ok"]
    assert audit["digest"] == audit["rebuilt_digest"]


def test_a_killed_chain_comes_back_with_everything(near: Network) -> None:
    before = stake(near, 2, "status")
    near.devnet("kill", "near")
    near.devnet("start", "near")
    assert stake(near, 2, "status") == before


def test_every_coin_is_accounted_for(near: Network) -> None:
    eventually(lambda: near.books("near") == [0, 0])
