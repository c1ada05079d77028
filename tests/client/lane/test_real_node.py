"""The client's lane against the node of the network, in memory: both ends as they are shipped."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from deai.actions import OpenChannel
from deai.channels import Channel, channel_id
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.journal import Journal
from deai.client.lane.book import BookReader
from deai.client.lane.places import session_key_file
from deai.client.opening import open_client
from deai.errors import TaskDeclined, WorkloadFault
from deai.ids import ChannelId
from deai.lane.payee import Payee
from deai.lane.proof import verify_lane_receipt
from deai.money import UNIT, Amount
from deai.signing import LocalSigner
from tests.client.support.world import inline
from tests.node.lane.support import LaneBench, lane_provider
from tests.node.support.names import key, peer
from tests.node.support.world import CONFIG, Provider, World, open_world

pytestmark = pytest.mark.world

DEPOSIT = 100 * UNIT
MANY = [b"task %d" % n for n in range(800)]
SHOUTED = [data.upper() for data in MANY]


@pytest.fixture(autouse=True)
def patient_clock(autojump_clock: MockClock) -> MockClock:
    autojump_clock.autojump_threshold = 0.03  # for the writers' threads
    return autojump_clock


class Payer:
    """An account with a home, and channels with some nodes."""

    def __init__(self, world: World, home: Path, name: str = "payer of lanes") -> None:
        self.world, self.home, self.lives = world, home, 0
        self.name = name
        self.signer = key(name)
        self.providers: list[Provider] = []

    async def open_channel(self, provider: Provider) -> None:
        """As `deai channel open` does."""
        secret = hashlib.sha256(provider.node_id.encode()).digest()
        path = session_key_file(self.home, provider.node_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secret.hex())
        path.chmod(0o600)
        await self.world.fund(self.signer.account, DEPOSIT)
        session = LocalSigner(secret).account
        action = OpenChannel(provider.node_id, session, 1, Amount(DEPOSIT))
        await self.world.chain.ledger(self.signer).submit(action)
        self.providers.append(provider)

    def channel(self, provider: Provider) -> ChannelId:
        """The id of the channel with a node."""
        session = LocalSigner(hashlib.sha256(provider.node_id.encode()).digest()).account
        channel = Channel(self.signer.account, provider.node_id, session)
        return channel_id(channel, self.world.chain.info.channels)

    def payee(self, provider: Provider) -> Payee:
        """The node's book of the channel."""
        lanes = provider.live.lanes
        assert lanes is not None
        return lanes.accounts[self.channel(provider)].payee

    @asynccontextmanager
    async def client(self, home: Path | None = None) -> AsyncIterator[Client]:
        """One life."""
        self.lives += 1
        journal = Journal((home or self.home) / "client.db", inline)
        try:
            async with (
                self.world.network.open_net(peer(f"{self.name} {self.lives}")) as net,
                open_client(
                    ledger=self.world.chain.ledger(self.signer),
                    net=net,
                    catalogue=self.providers[0].bench.catalogue,
                    home=home or self.home,
                    sources=(PeerList(one.address for one in self.providers),),
                    journal=journal,
                    offload=inline,
                ) as client,
            ):
                yield client
        finally:
            journal.close()


async def test_an_idle_client_gives_its_place_away_and_takes_one_when_it_has_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 3.0
    monkeypatch.setattr("node.lane.lanes.HELD", held)
    lane_of_one = msgspec.structs.replace(CONFIG.lane, clients=1)
    config = msgspec.structs.replace(CONFIG, lane=lane_of_one)
    async with open_world(tmp_path / "nodes") as world:
        provider = await lane_provider(world, "node-0", bench=LaneBench(), config=config)
        payers = [Payer(world, tmp_path / name, name) for name in ("first", "second")]
        for payer in payers:
            await payer.open_channel(provider)
        first, second = payers
        async with first.client() as one, one.lane("shout", max_fee=UNIT) as mine:
            assert await mine.call(b"a") == b"A"
            await trio.sleep(held)
            async with second.client() as two, two.lane("shout", max_fee=UNIT) as other:
                assert await other.call(b"b") == b"B"
                (session,) = one._hub.sessions.values()
                links = session.links
                await trio.sleep(held / 2)  # and the first does not come back for nothing
                assert (session.links, session.is_resting) == (links, True)
                assert await mine.call(b"c") == b"C"
                assert session.links == links + 1
            await trio.sleep(held)
            assert await mine.call(b"d") == b"D"


async def test_a_deposit_that_is_too_small_to_be_served_is_added_to_where_that_is_allowed(
    tmp_path: Path,
) -> None:
    lane_of_rich = msgspec.structs.replace(CONFIG.lane, min_deposit="150CT")
    config = msgspec.structs.replace(CONFIG, lane=lane_of_rich)
    async with open_world(tmp_path / "nodes") as world:
        provider = await lane_provider(world, "node-0", bench=LaneBench(), config=config)
        payer = Payer(world, tmp_path / "client")
        await payer.open_channel(provider)
        await world.fund(payer.signer.account, DEPOSIT)
        async with payer.client() as client:
            with pytest.raises(TaskDeclined, match=r"150\.000000 CT or more") as caught:
                async with client.lane("shout", max_fee=UNIT):
                    pass
            assert "deai channel top-up" in caught.value.hint
            async with client.lane("shout", max_fee=UNIT, auto_top_up=DEPOSIT) as lane:
                assert await lane.call(b"a") == b"A"


async def test_both_ends_agree_on_every_task_and_coin(tmp_path: Path) -> None:
    async with open_world(tmp_path / "nodes") as world:
        payer = Payer(world, tmp_path / "client")
        for name in ("node-0", "node-1"):
            provider = await lane_provider(world, name, bench=LaneBench())
            await payer.open_channel(provider)
        async with payer.client() as client:
            async with client.lane("shout", max_fee=UNIT) as lane:
                assert [output async for output in lane.map(MANY)] == SHOUTED
                with pytest.raises(WorkloadFault):
                    await lane.call(b"bad")
                one = await lane.result(b"prove me")
                receipt = await lane.receipt(one)
                assert receipt is not None
                assert verify_lane_receipt(receipt, b"prove me", b"PROVE ME").ok
                assert {share.node for share in lane.shares} == {
                    one.node_id for one in payer.providers
                }
        reader = BookReader(payer.home)
        tasks = 0
        for provider in payer.providers:
            payee, standing = payer.payee(provider), reader.standing(payer.channel(provider), 1)
            assert standing.promised.cumulative == payee.standing.cumulative
            assert standing.promised.number == payee.standing.number
            assert standing.signed == standing.windows
            assert not payee.due
            assert payee.written_off == 0
            tasks += int(payee.standing.paid)
        reader.close()
        assert tasks == len(MANY) + 1


@pytest.mark.parametrize("seen", [1, 100, 500])
async def test_a_lost_link_is_taken_up_again(seen: int, tmp_path: Path) -> None:
    async with open_world(tmp_path / "nodes") as world:
        payer = Payer(world, tmp_path / "client")
        provider = await lane_provider(world, bench=LaneBench())
        await payer.open_channel(provider)
        outputs = []
        async with payer.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            async for output in lane.map(MANY):
                outputs.append(output)
                if len(outputs) in (seen, seen + 150):
                    world.network.drop(provider.peer_id)
        assert outputs == SHOUTED
        payee = payer.payee(provider)
        assert payee.standing.paid == len(MANY)
        assert payee.standing.cumulative == payee.standing.settled
        assert payee.written_off == 0


async def test_a_node_that_is_killed_and_back_goes_on(tmp_path: Path) -> None:
    async with open_world(tmp_path / "nodes") as world:
        payer = Payer(world, tmp_path / "client")
        provider = await lane_provider(world, bench=LaneBench())
        await payer.open_channel(provider)
        outputs = []
        async with payer.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            async for output in lane.map(MANY):
                outputs.append(output)
                if len(outputs) == 300:
                    await provider.kill()
                    await provider.start()
        assert outputs == SHOUTED
        reader = BookReader(payer.home)
        standing = reader.standing(payer.channel(provider), 1)
        reader.close()
        payee = payer.payee(provider)
        assert payee.standing.cumulative == standing.promised.cumulative
        assert payee.standing.number == standing.promised.number


async def test_a_home_whose_book_was_lost_learns_from_the_node(tmp_path: Path) -> None:
    async with open_world(tmp_path / "nodes") as world:
        payer = Payer(world, tmp_path / "client")
        provider = await lane_provider(world, bench=LaneBench())
        await payer.open_channel(provider)
        async with payer.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            assert [output async for output in lane.map(MANY[:200])] == SHOUTED[:200]
        before = payer.payee(provider).standing
        again = tmp_path / "another home"
        shutil.copytree(payer.home / "keys", again / "keys")
        async with (
            payer.client(again) as client,
            client.lane("shout", max_fee=UNIT) as lane,
        ):
            assert [output async for output in lane.map(MANY[:200])] == SHOUTED[:200]
        after = payer.payee(provider).standing
        assert after.paid == before.paid + 200
        assert after.cumulative == before.cumulative * 2
