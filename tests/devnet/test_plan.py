"""What a devnet is made of: which chains, which node on which, and whose keys."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from deai.ids import NEAR, SEI
from devnet.chains import BANK, NearChain, SeiChain, chains_of
from devnet.layout import Layout, free_ports, make_plan


@pytest.mark.parametrize(
    ("kind", "chains"),
    [("embedded", (SEI,)), ("anvil", (SEI,)), ("near", (NEAR,)), ("both", (SEI, NEAR))],
)
def test_every_node_serves_every_chain(kind: str, chains: tuple[str, ...]) -> None:
    plan = make_plan(kind, 5, "1", {})
    assert plan.chains == chains
    assert [node.chains for node in plan.nodes] == [chains] * 5


def test_every_process_has_a_port_of_its_own() -> None:
    plan = make_plan("both", 4, "1", {})
    ports = [
        plan.chain_port, plan.near_port, plan.coordinator_port, plan.coordinator_p2p_port,
        plan.coordinator_metrics_port, *(node.port for node in plan.nodes),
    ]  # fmt: skip
    assert len(set(ports)) == len(ports) == 9


def test_a_chain_begins_with_the_accounts_of_its_own_nodes(tmp_path: Path) -> None:
    layout, plan = Layout(tmp_path), make_plan("both", 3, "1", {})
    sei, near = chains_of(layout, plan).values()
    assert isinstance(sei, SeiChain)
    assert isinstance(near, NearChain)
    for chain in (sei, near):
        chain.directory.mkdir()
        chain.command()
    begun = {
        chain.name: set(json.loads((chain.directory / "genesis.json").read_text()))
        for chain in (sei, near)
    }
    names = ("client", "node-0", "node-1", "node-2")
    assert begun[NEAR] == {BANK, *map(near.account, ("treasury", *names))}
    assert {*map(sei.account, names), sei.account("node-0/operator")} < begun[SEI]


def test_keys_follow_from_the_seed_on_both_chains(tmp_path: Path) -> None:
    one, again, other = (
        NearChain(Layout(tmp_path), make_plan("near", 1, seed, {})) for seed in ("1", "1", "2")
    )
    assert one.account("client") == again.account("client") != other.account("client")
    assert len(one.account("client")) == 64


@pytest.mark.parametrize(("asked", "windows"), [(0, (10, 24)), (60, (60, 60))])
def test_windows_are_as_long_as_was_asked_for(
    tmp_path: Path, asked: int, windows: tuple[int, int]
) -> None:
    plan = make_plan("both", 1, "1", {}, window_seconds=asked)
    for chain, seconds in zip((SeiChain, NearChain), windows, strict=True):
        assert chain(Layout(tmp_path), plan).parameters.min_window == seconds


def test_ports_are_for_nobody_else_until_their_programs_listen() -> None:
    ports = [port for _ in range(5) for port in free_ports(20)]
    assert len(set(ports)) == 100, "two devnets that begin together share a port"
    with socket.socket() as chance, pytest.raises(OSError, match="in use"):
        chance.bind(("127.0.0.1", ports[0]))
    for port in ports[:2]:
        with socket.create_server(("127.0.0.1", port), reuse_port=False) as program:
            assert program.getsockname()[1] == port


@pytest.mark.parametrize(("asked", "takes"), [(0.0, ("0.4", "0.6")), (1.5, ("1.5", "1.5"))])
def test_blocks_take_as_long_as_was_asked_for(
    tmp_path: Path, asked: float, takes: tuple[str, str]
) -> None:
    plan = make_plan("both", 1, "1", {}, block_seconds=asked)
    for chain, seconds in zip((SeiChain, NearChain), takes, strict=True):
        made = chain(Layout(tmp_path), plan)
        made.directory.mkdir()
        command = made.command()
        assert command[command.index("--block-time") + 1] == seconds
