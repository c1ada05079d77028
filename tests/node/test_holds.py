"""Slots that are held and not used: what a peer may keep from others, and who is forgiven."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import trio.testing
from hypothesis import given, strategies as st

from deai.ids import PeerId
from deai.messages import Accepted, CancelTask, DeclinedSeat
from deai.tasks import Policy
from node.documents import why
from node.engagement import MAX_CLIENT_PEERS
from node.holds import FORGIVEN_IN, LAPSES, MAX_PEERS, Holds
from tests.node.support.names import peer, until
from tests.node.support.world import CONFIG, Provider, World, begin, open_world

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock
SLOTS = CONFIG.capacity + CONFIG.queue
SPELL = 1200
LIMIT = LAPSES * SLOTS * CONFIG.accept_seconds
A, B = PeerId("a"), PeerId("b")


class Wall:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def held(world: World, provider: Provider, *, renew: bool) -> float:
    """Slot-seconds that a peer which never assigns anything gets in `SPELL` seconds."""
    client = await world.client("idler")
    lanes = itertools.count()
    made = [client.make(b"idle", lane=next(lanes), commit_deadline=world.chain.now + 80_000)
            for _ in range(SLOTS)]  # fmt: skip
    got = 0.0
    end = trio.current_time() + SPELL
    while trio.current_time() < end:
        for index, (task, spec) in enumerate(made):
            reply = await client.propose(provider, task, spec)
            if isinstance(reply, DeclinedSeat) or not renew:
                deadline = world.chain.now + 80_000
                made[index] = client.make(b"idle", lane=next(lanes), commit_deadline=deadline)
        before = trio.current_time()
        await trio.sleep(5)
        got += (trio.current_time() - before) * len(provider.live.engagements)
    return got


async def test_who_renews_accepts_without_end_holds_slots_for_a_small_share_of_the_time(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        got = await held(world, provider, renew=True)
        assert LIMIT / 2 < got < 2 * LIMIT < SPELL * SLOTS / 4


async def test_who_asks_for_ever_new_accepts_holds_no_more(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        got = await held(world, provider, renew=False)
        assert LIMIT / 2 < got < 2 * LIMIT
        found = [one for one in why(provider.whole)["reasons"] if one["code"] == "capacity"]
        assert "it may ask again in" in found[0]["message"]
        honest = await world.client("honest")
        task, spec = honest.make(b"hello")
        assert isinstance(await honest.propose(provider, task, spec), Accepted)


async def test_calling_off_in_time_is_no_way_around_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        client = await world.client()
        for lane in range(SPELL // (CONFIG.accept_seconds - 5)):
            task, spec = client.make(b"idle", lane=lane)
            reply = await client.propose(provider, task, spec)
            if isinstance(reply, DeclinedSeat):
                break
            await trio.sleep(CONFIG.accept_seconds - 5)
            await (await client.link(provider)).send(CancelTask(client.name(task)))
            await until(lambda: not provider.live.engagements)
        assert LIMIT / 2 < lane * CONFIG.accept_seconds < 2 * LIMIT


async def test_a_client_on_a_slow_chain_is_served_task_after_task(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        client = await world.client()
        for number in range(18):
            task, spec = client.make(b"hello", seats=1, policy=Policy.NONE, lane=number)
            reply = await client.propose(provider, task, spec)
            assert isinstance(reply, Accepted), reply
            if number % 3:
                # Its block came too late for the accept: the client asks anew.
                await until(lambda: not provider.live.engagements)
                continue
            await trio.sleep(CONFIG.accept_seconds - 5)
            await client.post(task, [reply])
            await client.send_input(provider, client.name(task), b"hello")
            await client.deliver(task)


async def test_a_client_that_was_killed_resumes_after_its_accepts_lapsed(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        client = await world.client()
        for lane in range(SLOTS):
            task, spec = client.make(b"hello", lane=lane)
            assert isinstance(await client.propose(provider, task, spec), Accepted)
        await client.hang_up(provider)
        await until(lambda: not provider.live.engagements)
        seen = set()
        for lane in range(SLOTS):
            task, spec = client.make(b"hello", lane=lane)
            seen.add(type(await client.propose(provider, task, spec)))
        assert seen == {Accepted}


async def test_nobody_runs_up_the_debt_of_the_peer_that_asked_first(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        first, other = await world.client("first"), await world.client("other")
        task, spec = first.make(b"hello", commit_deadline=world.chain.now + 80_000)
        assert isinstance(await first.propose(provider, task, spec), Accepted)
        # A node of the committee knows the spec as well.
        for _ in range(200):
            await trio.sleep(5)
            await other.propose(provider, task, spec)
        assert provider.whole.owed_by(first.net.peer_id) <= CONFIG.accept_seconds
        assert provider.whole.owed_by(other.net.peer_id) > 10 * CONFIG.accept_seconds


async def test_the_peers_that_count_as_the_client_of_a_seat_have_a_bound(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world, introduce=False, feed=False)
        spec = nodes[0].live.engagements[name].spec
        others = [f"other-{number}" for number in range(3 * MAX_CLIENT_PEERS)]
        known_as = {}
        for other in others:
            known_as[other] = await world.client(other)
            await known_as[other].propose(nodes[0], task, spec)
        known = list(nodes[0].live.engagements[name].client_peers)
        # The one that asked for the seat stays, whoever comes after it.
        assert known == [client.net.peer_id, *map(peer, others[1 - MAX_CLIENT_PEERS :])]
        await known_as[others[-3]].propose(nodes[0], task, spec)
        assert list(nodes[0].live.engagements[name].client_peers)[-1] == peer(others[-3])
        assert len(nodes[0].live.engagements[name].client_peers) == MAX_CLIENT_PEERS


def test_a_debt_is_forgiven_with_time_and_at_once_to_who_assigned() -> None:
    wall = Wall()
    holds = Holds(wall, slots=3, accept_seconds=30)
    assert holds.limit == LAPSES * 90
    holds.charge(A, holds.limit * 2)
    assert holds.wait(holds.owed(A)) == FORGIVEN_IN
    wall.now += FORGIVEN_IN / 2
    assert holds.owed(A) == holds.limit * 1.5
    wall.now -= 10 * FORGIVEN_IN  # a clock that is set back forgives nothing and adds nothing
    assert holds.owed(A) == holds.limit * 2
    wall.now += 20 * FORGIVEN_IN
    assert holds.owed(A) == 0
    holds.charge(A, 50)
    holds.charge(B, 7)
    holds.forgive(A)
    assert (holds.owed(A), holds.owed(B)) == (0, 7)
    assert holds.wait(holds.owed(B)) == 0


def test_debts_of_many_peers_take_bounded_room_and_the_largest_stay() -> None:
    holds = Holds(Wall(), slots=1, accept_seconds=30)
    for number in range(2 * MAX_PEERS):
        holds.charge(PeerId(str(number)), number)
    kept = [number for number in range(2 * MAX_PEERS) if holds.owed(PeerId(str(number)))]
    assert kept == list(range(MAX_PEERS, 2 * MAX_PEERS))


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 4000)), max_size=30))
def test_a_debt_is_never_negative_nor_more_than_was_charged(
    steps: list[tuple[float, float]],
) -> None:
    wall = Wall()
    holds = Holds(wall, slots=2, accept_seconds=30)
    charged = 0.0
    for seconds, passed in steps:
        holds.charge(A, seconds)
        charged += seconds
        assert 0 <= holds.owed(A) <= charged + 1e-6
        wall.now += passed
        assert 0 <= holds.owed(A) <= charged + 1e-6
