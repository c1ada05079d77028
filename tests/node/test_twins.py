"""Two processes with one key: what a hub must show before a node stops for its twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing

from deai.chain.memory import GENESIS_TIME
from deai.events import NodeAnnounced
from deai.ids import node_id
from deai.messages import (
    Accepted,
    DeclinedSeat,
)
from deai.offers import Signed, sign_beat
from node.daemon import Mode
from node.services.twins import NEW_BLOCKS, TWIN_SECONDS
from node.store.errors import AlreadyRunning
from tests.node.hub import Hub, open_hub
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, until
from tests.node.support.world import CONFIG, Provider, open_world

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock


async def test_a_second_instance_of_one_key_never_starts(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        first = await world.provider("node-0", hubs=(hub.address,))
        # A copy of the keys on another machine: another home, another peer id.
        copy = Provider(
            world,
            "copy",
            tmp_path / "copy",
            SmallBench(),
            CONFIG,
            first.node_id,
            first.signer,
            hubs=(hub.address,),
        )
        with pytest.raises(AlreadyRunning, match="key"):
            await copy.start()
        events = [record.event for record in world.chain.records]
        announced = [one.peer_id for one in events if isinstance(one, NodeAnnounced)]
        assert announced == [first.peer_id]
        assert copy.stopped.is_set()
        await trio.sleep(5)
        assert "another_instance" not in first.live.problems


async def test_a_node_that_hears_its_twin_takes_no_new_work(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        first = await world.provider("node-0", hubs=(hub.address,))
        twin = (first.node_id, b"copycopy")
        hub.seen[twin] = trio.current_time() + 20
        hub.signed[twin] = another_beat(hub, first, b"copycopy")
        await until(lambda: "another_instance" in first.live.problems)
        client = await world.client()
        task, spec = client.make(b"hello")
        reply = await client.propose(first, task, spec)
        assert isinstance(reply, DeclinedSeat)
        assert reply.code == "another_instance"
        await until(lambda: "another_instance" not in first.live.problems)
        assert isinstance(await client.propose(first, task, spec), Accepted)


def another_beat(hub: Hub, provider: Provider, instance: bytes, **changes: Any) -> Signed:
    """What a copy of a node would say a moment after its last beat."""
    last = hub.beats[-1]
    fields = {"instance": instance, "sent_at": last.sent_at + 1, "sequence": last.sequence + 100}
    signer = changes.pop("signer", provider.signer)
    made = msgspec.structs.replace(last, **(fields | changes))
    return sign_beat(made, provider.world.chain.info.registry, signer)


async def test_a_hub_that_claims_a_twin_and_shows_none_stops_nobody(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        hub.claims = 1
        provider = await world.provider("node-0", hubs=(hub.address,))
        assert provider.live.mode is Mode.RUNNING
        await until(lambda: "unproven_twin" in provider.live.problems)
        assert hub.address.peer_id in provider.live.problems["unproven_twin"].message
        client = await world.client()
        assert isinstance(await client.propose(provider, *client.make(b"hello")), Accepted)
        assert "another_instance" not in provider.live.problems
        hub.claims = 0
        await until(lambda: "unproven_twin" not in provider.live.problems)


LIES: dict[str, dict[str, Any]] = {
    "signed by another key": {"signer": key("another")},
    "of this very process": {"instance": None},
    "of another node": {"node": node_id(key("another").account, 0)},
    "of an earlier life": {"sent_at": GENESIS_TIME - 1, "head": 0},
}


@pytest.mark.parametrize("case", LIES)
async def test_a_beat_that_proves_no_twin_stops_nobody(
    case: str, tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node-0", hubs=(hub.address,))
        hub.claims, changes = 1, dict(LIES[case])
        instance = changes.pop("instance", b"copycopy") or provider.live.instance
        for number in range(20):
            hub.shows = another_beat(hub, provider, instance, **changes)
            await trio.sleep(1)
            assert "another_instance" not in provider.live.problems, number
        assert "unproven_twin" in provider.live.problems


async def test_a_beat_of_an_earlier_life_keeps_no_node_from_starting(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node-0", hubs=(hub.address,))
        await trio.sleep(3)
        (old,) = hub.signed.values()
        await provider.kill()
        await trio.sleep(1)
        hub.claims, hub.shows = 1, old
        await provider.start()
        await trio.sleep(30)
        assert provider.live.mode is Mode.RUNNING
        assert "another_instance" not in provider.live.problems


async def test_the_same_proof_of_a_twin_counts_once(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node-0", hubs=(hub.address,))
        hub.claims, hub.shows = 1, another_beat(hub, provider, b"copycopy")
        await until(lambda: "another_instance" in provider.live.problems)
        began = trio.current_time()
        await until(lambda: "another_instance" not in provider.live.problems)
        assert trio.current_time() - began < 2 * TWIN_SECONDS
        hub.shows = another_beat(hub, provider, b"copycopy")
        await until(lambda: "another_instance" in provider.live.problems)
        # A hub that counts one says that the other is gone.
        hub.claims = 0
        await until(lambda: "another_instance" not in provider.live.problems, seconds=3)


async def test_a_twin_whose_clock_is_slow_is_known_by_the_blocks_it_has_seen(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node-0", hubs=(hub.address,))
        head = hub.beats[0].head + NEW_BLOCKS + 1
        hub.claims = 1
        hub.shows = another_beat(hub, provider, b"copycopy", sent_at=GENESIS_TIME - 3600, head=head)
        await until(lambda: "another_instance" in provider.live.problems)


async def test_a_restart_after_a_kill_is_not_taken_for_a_twin(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node-0", hubs=(hub.address,))
        await trio.sleep(3)
        await provider.kill()
        await provider.start()
        assert provider.live.mode is Mode.RUNNING
