"""Where a client looks for nodes: coordinators first, then the bootstrap list and the chain."""

from __future__ import annotations

from pathlib import Path

from trio.testing import MockClock

from deai.client.access import fallback_of, sources_of
from deai.client.directory import Directory
from deai.ids import SEI
from deai.network import BootstrapPeer, ChainEntry, Network
from tests.client.support.node import Script
from tests.client.support.world import World, open_world
from tests.client.test_directory import WISH


def network_of(world: World, role: str, *coordinators: str) -> Network:
    """A network file that names the first node's peer in its bootstrap list."""
    node = world.nodes[0]
    return Network(
        name="test",
        chains={SEI: ChainEntry(kind="memory", chain_id=1, rpc_urls=(), contracts={})},
        coordinators=coordinators,
        bootstrap=(
            BootstrapPeer(peer_id=node.net.peer_id, addresses=node.net.addresses, role=role),
        ),
    )


async def test_a_bootstrap_peer_is_found_when_no_coordinator_and_no_event_names_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script()) as world, world.client(tmp_path) as client:
        ledger = world.chain.ledger()
        bootstrap, events = fallback_of(network_of(world, "node"), ledger)
        for sources, known in (((bootstrap,), [world.nodes[0].node]), ((), [])):
            directory = Directory(ledger, client.tools.sessions, [], sources)
            found = await directory.candidates(WISH, world.chain.now)
            assert [one.node for one in found] == known
        directory = Directory(ledger, client.tools.sessions, [], (events,))
        found = await directory.candidates(WISH, world.chain.now)
        assert [one.node for one in found] == [world.nodes[0].node], "the registry's own events"


async def test_a_hub_is_asked_for_no_offers(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(Script()) as world, world.client(tmp_path):
        sources = fallback_of(network_of(world, "hub"), world.chain.ledger())
        assert [type(one).__name__ for one in sources] == ["RegistryEvents"]


async def test_coordinators_are_those_that_were_named_else_the_networks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script()) as world, world.client(tmp_path):
        network = network_of(world, "hub", "http://127.0.0.1:1")
        assert len(sources_of(network, SEI)) == 1
        assert sources_of(network_of(world, "hub"), SEI) == ()
        assert len(sources_of(network_of(world, "hub"), SEI, ["http://127.0.0.1:2"])) == 1
