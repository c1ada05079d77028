"""A node that cheated on one chain gets no seat on either, whatever its owner does then."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from deai.actions import AddStake, Unjail
from deai.chain.opening import open_ledger
from deai.ids import SEI, NodeId
from deai.keys import load_signer
from deai.money import UNIT, Amount
from devnet.layout import Layout
from devnet.network import opened
from node.home import Home
from tests.e2e.conftest import PATIENCE_S, Network, devnet, eventually
from tests.e2e.test_near import _lacks

pytestmark = [
    pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(_lacks()), reason=f"no NEAR devnet: {_lacks()}"),
]  # fmt: skip
LIAR = 2


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Network]:
    """A devnet of both chains; the registrations of each node are bound, the last one cheats."""
    cheat = ["--behaviour", f"{LIAR}=equivocator"]
    with devnet(tmp_path, "--chain", "both", "--nodes", "3", *cheat) as running:
        yield running


def known(both: Network, node: str) -> Any:
    """What the coordinator knows of a node, or nothing."""
    return both.deai("network", "node", node, status=None) or {}


def committee(chain: str, source: Path) -> list[str]:
    """What submits a task for three seats, which all nodes would have to share."""
    return [
        "--chain", chain, "task", "submit", "portfolio-risk", "--input", str(source),
        "--param", "paths=20000", "--policy", "exact/1", "--seats", "3",
    ]  # fmt: skip


def rejected(both: Network, chain: str, source: Path) -> dict[str, str]:
    """Whom the client would not ask, and why."""
    tried = both.deai(*committee(chain, source), "--dry-run")
    return {one["node_id"]: one["code"] for one in tried["rejected"]}


async def release(both: Network, node: NodeId) -> None:
    """What its owner does with the keys in its home: make the stake up and end the jail."""
    net = opened(Layout(both.directory), {})
    home = Home(net.layout.node(net.plan.nodes[LIAR].name))
    owner = load_signer(home.owner_key, home.passphrase, chain=SEI)
    both.devnet("faucet", owner.account, "500CT")
    outbox = home.outbox(SEI, owner.account)
    with trio.fail_after(PATIENCE_S):
        async with open_ledger(SEI, net.network.chains[SEI], owner, outbox) as ledger:
            await ledger.submit(AddStake(node, Amount(500 * UNIT)))
            await ledger.submit(Unjail(node))


def test_a_slash_on_one_chain_costs_the_seats_on_both_and_a_release_gives_none_back(
    both: Network, portfolio: Path
) -> None:
    chains = both.document["nodes"][LIAR]["chains"]
    sei, near = (chains[name]["node_id"] for name in ("sei", "near"))

    def all_set() -> bool:
        found = [known(both, node) for node in (sei, near)]
        stats = both.deai("network", "stats")
        return all(one.get("bound") for one in found) and stats["active_nodes"] == 6

    eventually(all_set)
    # A node that was slow to beat on chain is passed over until it has.
    for chain in ("sei", "near"):
        eventually(lambda chain=chain: rejected(both, chain, portfolio) == {})  # type: ignore[misc]

    done = both.task(*committee("sei", portfolio))
    assert done["state"] == "completed"
    eventually(lambda: int(known(both, sei)["slashed"]) > 0)
    assert known(both, sei)["standing"] == "jailed"
    assert known(both, near)["standing"] == "probation"

    assert rejected(both, "sei", portfolio)[sei] == "standing"
    assert rejected(both, "near", portfolio)[near] == "slashed_elsewhere"
    refused = both.deai(*committee("near", portfolio), status=1)["error"]
    assert refused["code"] == "no_offer"
    assert f"was slashed for equivocation on sei as {sei}" in refused["message"]

    trio.run(partial(release, both, NodeId(sei)))
    eventually(lambda: known(both, sei)["standing"] == "probation")
    assert rejected(both, "sei", portfolio)[sei] == "slashed"
    assert rejected(both, "near", portfolio)[near] == "slashed_elsewhere"
