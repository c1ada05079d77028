"""What a devnet says of itself while nothing runs: its nodes on each chain, and the stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from deai.cli.base import Options, load_settings
from deai.errors import NotSetUp
from deai.ids import NEAR, SEI, AccountId, ChainName
from deai.network import ChainEntry, Network, save_network
from devnet import status
from devnet.layout import Layout, State, make_plan
from devnet.network import Devnet, opened
from devnet.stage import stages_of
from devnet.story import Story

CONTRACT = {SEI: AccountId("0x" + "11" * 20), NEAR: AccountId("compute.devnet")}


def devnet(folder: Path, kind: str) -> Devnet:
    layout = Layout(folder)
    plan = make_plan(kind, 3, "1", {1: "lazy"})
    layout.save(State(plan=plan))
    chains = {
        name: ChainEntry(
            kind="embedded", chain_id=1 if name == SEI else "near:localnet",
            rpc_urls=("http://127.0.0.1:1",),
            contracts=dict.fromkeys(("ComputeToken", "NodeRegistry", "TaskEscrow"), CONTRACT[name]),
        )
        for name in plan.chains
    }  # fmt: skip
    save_network(Network(name="devnet", chains=chains), layout.network)
    return opened(layout, {})


@pytest.mark.parametrize(
    ("kind", "chains"), [("embedded", [SEI]), ("near", [NEAR]), ("both", [SEI, NEAR])]
)
async def test_a_node_is_told_on_each_of_its_chains(
    tmp_path: Path, kind: str, chains: list[ChainName]
) -> None:
    document = await status.describe(devnet(tmp_path, kind))
    assert set(document["chains"]) == set(chains)
    for node in document["nodes"]:
        assert list(node["chains"]) == chains
        first = node["chains"][node["chain"]]
        assert (node["node_id"], node["owner"]) == (first["node_id"], first["owner"])
        assert (node["pid"], node["state"]) == (None, "stopped")
    assert [node["behaviour"] for node in document["nodes"]] == ["honest", "lazy", "honest"]
    assert document["processes"] == []


async def test_every_stage_has_the_ids_of_its_own_chain(tmp_path: Path) -> None:
    found = devnet(tmp_path, "both")
    described = (await status.describe(found))["nodes"]
    story = Story(load_settings(Options(home=tmp_path)), total=1)
    sei, near = stages_of(found, story, described, tied=True)
    assert (sei.chain, near.chain) == (SEI, NEAR)
    assert (sei.is_first, near.is_first) == (True, False)
    for stage in (sei, near):
        assert [node["name"] for node in stage.nodes] == ["node-0", "node-1", "node-2"]
        assert (stage.serving(), stage.acting("lazy")) == ([0, 2], 1)
    assert all(node["node_id"].startswith("0x") for node in sei.nodes)
    assert all(node["node_id"].endswith("#0") for node in near.nodes)


def test_a_devnet_that_never_came_up_is_not_opened(tmp_path: Path) -> None:
    Layout(tmp_path).save(State(plan=make_plan("both", 1, "1", {})))
    with pytest.raises(NotSetUp, match="never came up"):
        opened(Layout(tmp_path), {})
