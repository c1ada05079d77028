"""The same network on NEAR: separate processes, the contracts' real wasm, real sockets."""

from __future__ import annotations

import importlib.util
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deai.chain.outbox import FINAL, FLYING
from deai.errors import DeaiError
from tests.e2e.conftest import Network, daemon, devnet, eventually, paid_in_full


def _lacks() -> str:
    """What is not here that a NEAR devnet needs; empty if everything is."""
    for package in ("py_near", "wasmtime"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
    from deai.chain.near.deploy import contract_code

    try:
        for name in ("token", "compute"):
            contract_code(name)
    except DeaiError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(_lacks()), reason=f"no NEAR devnet: {_lacks()}"),
]  # fmt: skip


NODES = 4
"""Three seats, and one to take a seat over that was lost to a fault."""


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    options = ["--chain", "near", "--nodes", str(NODES)]
    with devnet(tmp_path_factory.mktemp("near"), *options) as running:
        eventually(lambda: running.deai("network", "stats")["active_nodes"] == NODES)
        yield running


def stake(near: Network, index: int, *arguments: str, status: int = 0) -> Any:
    home = near.document["nodes"][index]["home"]
    return near.plain("--home", home, "--chain", "near", "stake", *arguments, status=status)


def test_a_task_completes_and_its_money_is_where_the_document_says(
    near: Network, portfolio: Path
) -> None:
    before = [stake(near, index, "status")["vault"] for index in range(NODES)]

    done = near.submit("portfolio-risk", portfolio, "--param", "paths=20000")

    assert (done["chain"], done["state"], done["result"]["agreed"]) == ("near", "completed", 3)
    paid_in_full(done)
    paid = {one["provider"]: int(one["amount"]) for one in done["payments"]}
    for index, had in enumerate(before):
        now = stake(near, index, "status")
        assert int(now["vault"]) - int(had) == paid.pop(now["owner"], 0)
    assert not paid
    assert near.deai("task", "verify-receipt", done["receipt"])["ok"]
    assert eventually(lambda: near.indexed(done["task_id"]))
    assert len(near.deai("network", "tasks")["items"]) == 1


def test_every_operator_holds_a_limited_key_of_its_owners_account(near: Network) -> None:
    for index, node in enumerate(near.document["nodes"]):
        found = stake(near, index, "status")
        assert found["operator"].startswith("ed25519:")
        assert found["node_id"] == node["node_id"] == f"{found['owner']}#0"
        allowance = near.plain("--home", node["home"], "node", "status")["balance"]["gas"]
        assert 0 < int(allowance) <= 10**24


def test_setting_up_again_finds_everything_done(near: Network) -> None:
    home = near.document["nodes"][0]["home"]
    again = near.plain("--home", home, "node", "init", "--non-interactive")
    assert again["needs"] is None
    assert {step["state"] for step in again["steps"]} == {"done_before"}


def test_stake_that_is_not_there_is_named_and_what_is_there_is_added(near: Network) -> None:
    lacks = stake(near, 1, "add", "7CT", "--yes", status=5)["needs"]
    assert (lacks["address"], int(lacks["tokens"])) == (
        near.document["nodes"][1]["owner"], 7 * 10**18,
    )  # fmt: skip
    near.devnet("faucet", lacks["address"], lacks["tokens"])
    before = int(stake(near, 1, "status")["stake"])
    assert [one["state"] for one in stake(near, 1, "add", "7CT", "--yes")["steps"]] == ["done"]
    assert int(stake(near, 1, "status")["stake"]) == before + 7 * 10**18


def test_a_stranger_is_told_what_to_fund_and_is_paid_without_its_owners_key(
    near: Network, texts: Path, tmp_path: Path
) -> None:
    home = tmp_path / "stranger"
    init = [
        "--home", str(home), "--chain", "near", "node", "init",
        "--non-interactive", "--network", near.document["network_file"],
        "--listen", "/ip4/127.0.0.1/tcp/0",
    ]  # fmt: skip
    lacks = near.plain(*init, status=5)
    assert lacks["needs"]["address"] == lacks["owner"]
    assert int(lacks["needs"]["gas"]) == 11 * 10**23
    assert int(lacks["needs"]["tokens"]) > 0
    waiting = {step["name"] for step in lacks["steps"] if step["state"] == "waiting"}
    assert waiting == {"register", "operator_key"}
    near.devnet("faucet", lacks["needs"]["address"], lacks["needs"]["tokens"])
    done = near.plain(*init)
    assert done["needs"] is None
    steps = {step["name"]: step for step in done["steps"]}
    assert steps["register"]["state"] == steps["operator_key"]["state"] == "done"
    assert steps["register"]["transaction"] != steps["operator_key"]["transaction"]
    # The owner's key leaves the machine: neither setting up again nor serving needs it.
    (home / "keys" / "owner-near.json").unlink()
    again = near.plain(*init)
    assert (again["needs"], again["node_id"]) == (None, done["node_id"])
    with daemon(near, home):
        eventually(lambda: near.is_online(done["node_id"]))
        task = near.submit("embedding", texts, "--policy", "none/1", "--node", done["node_id"])
    paid_in_full(task)
    assert [one["provider"] for one in task["payments"]] == [done["owner"]]
    assert int(task["payments"][0]["amount"]) > 0


def test_an_owner_registers_with_the_stake_command_and_leaves(
    near: Network, tmp_path: Path
) -> None:
    config = near.document["client"]["config"]
    at = ["--home", str(tmp_path / "home"), "--config", config, "--chain", "near"]
    for kind in ("owner", "operator", "peer"):
        near.plain(*at, "keys", "new", "--kind", kind)
    register = [*at, "stake", "register", "--yes"]
    lacks = near.plain(*register, status=5)
    assert lacks["needs"]["address"] == lacks["owner"]
    near.devnet("faucet", lacks["owner"], lacks["needs"]["tokens"])
    for state in ("done", "done_before"):
        done = near.plain(*register)
        steps = [(step["name"], step["state"]) for step in done["steps"]]
        assert steps == [("register", state), ("operator_key", state)]
    found = near.plain(*at, "stake", "status")
    assert (found["node_id"], found["stake"]) == (done["node_id"], lacks["needs"]["tokens"])
    left = near.plain(*at, "stake", "unbond", "--all", "--yes")
    assert [step["state"] for step in left["steps"]] == ["done"]
    assert near.plain(*at, "stake", "status")["state"] == "unbonding"


@pytest.mark.parametrize("address", ["nobody.near", "0x" + "11" * 20])
def test_the_faucet_refuses_accounts_that_nobody_has(near: Network, address: str) -> None:
    command = ["devnet", "faucet", address, "1CT", "--dir", str(near.directory)]
    assert near.plain(*command, status=2)["error"]["code"] in {"no_account", "wrong_chain"}


# While an input is sent no chain is asked: that moment is tried on the other one.
@pytest.mark.parametrize("moment", ["posted", "committed"])
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


@pytest.mark.parametrize("moment", ["posted", "committed"])
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
    before = stake(near, 2, "status")["stake"]
    client = near.start_until(
        moment, "task", "submit", "portfolio-risk", "--input", str(portfolio),
        "--param", "paths=200000", "--param", f"seed={len(moment)}",
    )  # fmt: skip
    near.devnet("kill", "near")
    near.devnet("start", "near")

    paid_in_full(near.finished(client))
    assert stake(near, 2, "status")["stake"] == before


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


class Intents:
    """The transactions that an account means to send, as its outbox has them."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def own(self) -> dict[str, str]:
        """Kind → state, of which there is one each (`…/vault` pays for another's storage)."""
        (file,) = self.home.glob("outbox-near-*.db")
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            rows = db.execute("select key, state from intents").fetchall()
        found = [(key.partition(":")[0], state) for key, state in rows if "/" not in key]
        assert len(dict(found)) == len(found), found
        return dict(found)


def kill_once_there(running: subprocess.Popen[str], file: Path) -> None:
    """It may be further by then, or have ended: whatever is there is whole."""
    eventually(lambda: file.exists() or running.poll() is not None)
    running.kill()
    running.communicate()


def test_setting_up_that_is_killed_at_any_step_goes_on_and_pays_once(
    near: Network, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    intents = Intents(home)
    command = [
        "--home", str(home), "--chain", "near", "node", "init", "--non-interactive", "--network",
        near.document["network_file"], "--listen", "/ip4/127.0.0.1/tcp/0",
    ]  # fmt: skip

    for name in ("operator-near.json", "owner-near.json", "peer.key"):
        kill_once_there(near.spawn(*command), home / "keys" / name)
    needs = near.plain(*command, status=5)["needs"]
    # Twice of everything: whoever pays twice can.
    for _ in range(2):
        near.devnet("faucet", needs["address"], needs["tokens"])
    near.dies("add", "register:", *command)
    assert intents.own() == {"register": FLYING}
    near.dies("finish", "register:", *command)
    assert intents.own() == {"register": FINAL}
    near.dies("add", "gas:", *command)
    assert intents.own() == {"register": FINAL, "gas": FLYING}
    near.dies("finish", "gas:", *command)

    done = near.plain(*command)

    assert done["needs"] is None
    found = near.plain("--home", str(home), "--chain", "near", "stake", "status")
    assert found["stake"] == needs["tokens"]
    # One intent of each, however often it was taken up again.
    assert intents.own() == {"register": FINAL, "gas": FINAL}
    left = near.devnet("faucet", needs["address"], "0")["balance"]
    assert left["tokens"] == needs["tokens"], "the stake was paid once, from twice as much"


def test_every_coin_is_accounted_for(near: Network) -> None:
    eventually(lambda: near.books("near") == [0, 0])
