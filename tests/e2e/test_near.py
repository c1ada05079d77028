"""The same network on NEAR: separate processes, the contracts' real wasm, real sockets."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deai.errors import DeaiError
from tests.e2e.conftest import Network, eventually, kill, paid_in_full


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
    pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(600),
    pytest.mark.skipif(bool(_lacks()), reason=f"no NEAR devnet: {_lacks()}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    directory = tmp_path_factory.mktemp("near")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DEAI_")}
    up = [sys.executable, "-m", "deai", "devnet", "up", "--detach", "--json", "--chain", "near",
          "--nodes", "3", "--dir", str(directory)]  # fmt: skip
    done = subprocess.run(
        up, capture_output=True, text=True, check=False, timeout=400, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    running = Network(directory, environment, json.loads(done.stdout))
    try:
        eventually(lambda: running.deai("network", "stats")["active_nodes"] == 3, 120)
        yield running
    finally:
        running.devnet("down")


def stake(near: Network, index: int, *arguments: str, status: int = 0) -> Any:
    home = near.document["nodes"][index]["home"]
    return near.plain("--home", home, "--chain", "near", "stake", *arguments, status=status)


def test_a_task_completes_and_its_money_is_where_the_document_says(
    near: Network, portfolio: Path
) -> None:
    before = [stake(near, index, "status")["vault"] for index in range(3)]

    done = near.submit("portfolio-risk", portfolio, "--param", "paths=20000")

    assert (done["chain"], done["state"], done["result"]["agreed"]) == ("near", "completed", 3)
    paid_in_full(done)
    paid = {one["provider"]: int(one["amount"]) for one in done["payments"]}
    for index, had in enumerate(before):
        now = stake(near, index, "status")
        assert int(now["vault"]) - int(had) == paid[now["owner"]] > 0
    assert near.deai("task", "verify-receipt", done["receipt"])["ok"]
    listed = near.deai("network", "tasks")["items"]
    assert [one["task_id"] for one in listed] == [done["task_id"]]


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


def test_a_stranger_is_told_what_to_fund_and_goes_on_from_there(
    near: Network, tmp_path: Path
) -> None:
    init = [
        "--home", str(tmp_path / "stranger"), "--chain", "near", "node", "init",
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
    # The owner's key may leave the machine: setting up again does not need it.
    (tmp_path / "stranger" / "keys" / "owner-near.json").unlink()
    again = near.plain(*init)
    assert (again["needs"], again["node_id"]) == (None, done["node_id"])


def test_a_killed_chain_comes_back_with_everything(near: Network) -> None:
    owner = near.document["nodes"][2]["owner"]
    before = stake(near, 2, "status")
    pids = {one["name"]: one["pid"] for one in near.devnet("status")["processes"]}
    kill(pids["near"])
    near.devnet("start", "near")
    after = stake(near, 2, "status")
    assert after == before
    assert after["owner"] == owner
