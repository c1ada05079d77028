"""Lost links, lost processes, lost files: nothing is paid twice and nothing is lost."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from deai.client.lane.book import CRASH_POINTS, FILE, Book, BookReader
from deai.client.lane.halts import hint
from deai.errors import ConfigError, PeerUnreachable
from deai.ids import AccountId, NodeId
from deai.money import UNIT
from deai.signing import Domain
from tests.client.lane.node import Cheat
from tests.client.lane.world import PRICE, QUICK, LaneWorld, lane_world
from tests.support.polling import until

pytestmark = pytest.mark.world

MANY = [b"task %d" % n for n in range(1500)]
HASTY = replace(QUICK, dial=0.3, give_up=0.3, last=0.5)
ADOPTED_AGAIN = ("promise_adopted", 5)
SHOUTED = [data.upper() for data in MANY]


@pytest.mark.parametrize("loses_batch", [False, True])
@pytest.mark.parametrize("after", [1, 64, 300, 1000])
async def test_a_lost_link_loses_no_result_and_pays_none_twice(
    after: int, loses_batch: bool, tmp_path: Path
) -> None:
    cheat = Cheat(drops_after=after, loses_batch=loses_batch)
    async with lane_world(tmp_path, cheat) as world, world.client() as client:
        with trio.fail_after(30):
            async with client.lane("shout", max_fee=UNIT) as lane:
                assert [output async for output in lane.map(MANY)] == SHOUTED
        node = world.nodes[0]
        assert node.dropped
        assert node.links >= 2
        assert sorted(node.computed) == sorted(MANY)  # each of them once
        assert node.account.cumulative == len(MANY) * PRICE
        assert node.account.written_off == 0


async def test_a_storm_of_lost_links_is_survived(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        node = world.nodes[0]

        async def storm() -> None:
            for _ in range(20):
                enough = len(node.computed) + 40
                await until(lambda enough=enough: len(node.computed) >= enough)  # type: ignore[misc]
                world.world.network.drop(node.base.net.peer_id)

        with trio.fail_after(60):
            async with (
                client.lane("shout", max_fee=UNIT) as lane,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(storm)
                assert [output async for output in lane.map(MANY)] == SHOUTED
                nursery.cancel_scope.cancel()
        assert sorted(node.computed) == sorted(MANY)
        assert node.account.cumulative == len(MANY) * PRICE


async def test_a_node_that_is_gone_for_good_leaves_its_tasks_to_another(
    tmp_path: Path,
) -> None:
    async with (
        lane_world(tmp_path, Cheat(seconds=0.01), Cheat(seconds=0.01)) as world,
        world.client(patience=HASTY) as client,
    ):
        first = world.nodes[0]

        async def kill() -> None:
            await until(lambda: len(first.computed) >= 100)
            first.scope.cancel()
            first.base.die()

        async with client.lane("shout", max_fee=UNIT) as lane, trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            assert [output async for output in lane.map(MANY)] == SHOUTED
        account = first.account
        assert account.cumulative <= (len(first.computed) + 1) * PRICE


async def test_a_lone_node_that_is_gone_fails_the_tasks_in_the_end(
    tmp_path: Path,
) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client(patience=HASTY) as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            assert await lane.call(b"a") == b"A"
            world.nodes[0].scope.cancel()
            world.nodes[0].base.die()
            with pytest.raises(PeerUnreachable):
                await lane.call(b"b")


class Killed:
    """What is left of a client at a moment: its files. Messages on their way are lost."""

    def __init__(self, home: Path, point: str, at: int) -> None:
        self.home, self.point, self.left = home, point, at
        self.copy = home.parent / "later"
        self.happened = trio.Event()
        self.world: LaneWorld | None = None

    def __call__(self, point: str) -> None:
        if point != self.point or self.happened.is_set():
            return
        self.left -= 1
        if self.left > 0:
            return
        shutil.copytree(self.home / "keys", self.copy / "keys", dirs_exist_ok=True)
        source = sqlite3.connect(self.home / FILE)
        target = sqlite3.connect(self.copy / FILE)
        source.backup(target)  # what is committed at this moment
        source.close()
        target.close()
        assert self.world is not None
        node = self.world.nodes[0]
        node.cheat.how = "dead"
        self.world.world.network.drop(node.base.net.peer_id)
        self.happened.set()


@pytest.mark.parametrize(
    ("point", "at"),
    # A promise is adopted once in a life.
    [(point, at) for point in CRASH_POINTS for at in (1, 5) if (point, at) != ADOPTED_AGAIN],
)
async def test_a_client_killed_there_agrees_with_its_node_in_the_next_life(
    point: str, at: int, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    killed = Killed(home, point, at)
    async with lane_world(home, Cheat()) as world:
        killed.world = world
        node = world.nodes[0]
        if point == "promise_adopted":
            async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
                assert len([_ async for _ in lane.map(MANY[:200])]) == 200
            (home / FILE).unlink()  # the file was lost: the node shows what was promised
        with trio.fail_after(20):
            async with (
                world.client(crash=killed, patience=HASTY) as client,
                trio.open_nursery() as nursery,
            ):

                async def live() -> None:
                    async with client.lane("shout", max_fee=UNIT) as lane:
                        async for _ in lane.map(MANY[:400]):
                            pass

                nursery.start_soon(live)
                await killed.happened.wait()
                # Whatever this life still does, nobody hears it.
                world.world.network.kill(client.tools.net.peer_id)
                nursery.cancel_scope.cancel()
            node.cheat.how = ""
            before = node.account.cumulative
            async with world.client(home=killed.copy) as client:
                async with client.lane("shout", max_fee=UNIT) as lane:
                    assert [out async for out in lane.map(MANY[:200])] == SHOUTED[:200]
            reader = BookReader(killed.copy)
            _, id_ = world.channel(node)
            standing = reader.standing(id_, 1)
            reader.close()
        account = node.account
        assert standing.promised.cumulative == account.cumulative == account.settled
        assert standing.promised.number == account.number
        assert standing.unacknowledged == 0
        assert standing.signed == standing.windows, "receipts that were not heard came again"
        assert account.cumulative >= before


async def test_a_lost_link_is_told_to_whoever_waits(tmp_path: Path) -> None:
    patience = replace(QUICK, give_up=60)
    async with (
        lane_world(tmp_path, Cheat()) as world,
        world.client(patience=patience) as client,
        client.lane("shout", max_fee=UNIT) as lane,
    ):
        assert await lane.call(b"a") == b"A"
        changed = client._hub._change
        world.world.network.kill(world.nodes[0].base.net.peer_id)
        with trio.fail_after(10):
            await changed.wait()
        world.nodes.clear()


def test_commands_in_hints_name_the_chain() -> None:
    node = NodeId("0x" + "01" * 32)
    sei = Domain("x", 1, AccountId("0x" + "02" * 20))
    near = Domain("x", "localnet", AccountId("channels.near"))
    for code in ("deposit", "no_channel", "draining"):
        assert "--chain" not in hint(code, node, sei)
        assert "--chain near" in hint(code, node, near)


async def test_two_processes_do_not_pay_from_one_home(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT):
            with pytest.raises(ConfigError) as caught:
                Book(tmp_path)
            assert caught.value.reason_code == "lane_in_use"
        Book(tmp_path).close()
