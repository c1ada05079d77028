"""Links that are lost, replaced or never proper, and where both sides stand afterwards."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from deai.channels import Channel, ChannelRecord
from deai.errors import NodeFault, PeerUnreachable
from deai.ids import ChannelId
from deai.lane.greeting import sign_greeting
from deai.lane.messages import MAX_UNHEARD, Ask, Halt, Welcome, lane_dialect
from deai.lane.receipts import verify_window
from deai.lane.writer import Writer
from deai.money import UNIT
from node.lane.book import LaneBook
from node.lane.lanes import HELD
from tests.node.lane.support import (
    PRICE,
    LaneBench,
    at_work,
    channel_open,
    lane_client,
    lane_provider,
    lanes_of,
)
from tests.node.support.names import key, peer, until
from tests.node.support.world import CONFIG, World, open_world

pytestmark = pytest.mark.world


async def test_results_that_were_not_seen_are_sent_again(tmp_path: Path) -> None:
    bench = LaneBench()
    async with at_work(tmp_path, paid=200, bench=bench) as client:
        node = client.provider
        bench.may_go = trio.Event()
        await client.ask_for(*[b"y"] * 5)
        lanes = lanes_of(node)
        payee = lanes.accounts[client.id].payee
        await until(lambda: payee.executing)
        await client.hang_up()
        async with trio.open_nursery() as nursery:
            # The greeting waits for what a worker has.
            nursery.start_soon(client.connect)
            await until(lambda: client.id in lanes._greeting)
            await wait_all_tasks_blocked()
            assert client.welcome is not None
            assert client.welcome.next_index == 0
            bench.may_go.set()
        # What waited for a worker is forgotten, and the client's to ask for again.
        made = client.welcome.next_index - 200
        assert 1 <= made <= 5
        await client.hear_until(lambda: client.received == 200 + made)
        await client.pay(made)
        await client.hear_until(lambda: client.acknowledged == client.number)


async def test_another_life_of_the_client_does_not_get_what_it_cannot_know(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, paid=200) as client:
        node = client.provider
        await client.ask_for(*[b"y"] * 5)
        lanes = lanes_of(node)
        account = lanes.accounts[client.id]
        await until(lambda: len(account.payee.due) == 5)
        await client.hang_up()
        client.life, client.received, client.unpaid, client.prices = b"life-two", 200, [], []
        answer = await client.connect()
        assert isinstance(answer, Welcome)
        assert answer.next_index == 200
        assert account.payee.written_off == 5 * PRICE
        # Which costs its credit for good, so that nobody lives from forgetting.
        assert answer.credit == 10 * PRICE - 5 * PRICE
        assert account.shelf.bytes == 0


async def test_vouchers_that_the_node_did_not_get_are_taken_after_the_link_is_back(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, paid=200) as client:
        await client.ask_for(*[b"y"] * 4)
        await client.hear_until(lambda: len(client.unpaid) == 4)
        first, second = client.voucher(2), client.voucher(2)
        answer = await client.connect()
        assert isinstance(answer, Welcome)
        assert (answer.number, answer.next_index) == (client.number - 2, 204)
        await client.peer.send(first)
        await client.peer.send(second)
        await client.hear_until(lambda: client.acknowledged == client.number)


@pytest.mark.parametrize("is_killed", [False, True])
async def test_receipts_that_were_not_heard_come_again_when_the_link_is_back(
    tmp_path: Path, is_killed: bool
) -> None:
    async with at_work(tmp_path, paid=200) as client:
        node = client.provider
        await client.ask_for(*[b"y"] * 4)
        await client.hear_until(lambda: len(client.unpaid) == 4)
        heard = len(client.signatures)
        pays = [client.voucher(2), client.voucher(2)]
        windows = [client.window(pay, first) for pay, first in zip(pays, (200, 202), strict=True)]
        for pay in pays:
            await client.peer.send(pay)
        lanes = lanes_of(node)
        account = lanes.accounts[client.id]
        await until(lambda: account.payee.standing.number == client.number)
        await lanes.book.writer.flushed()
        if is_killed:
            await client.hang_up()
            await node.kill()
            await node.start()
        await client.connect()
        await client.hear_until(lambda: client.acknowledged == client.number)
        again = client.signatures[heard:]
        for window, signature in zip(windows, again, strict=True):
            verify_window(client.domain, node.signer.account, window, signature)


async def test_a_client_cannot_ask_for_receipts_without_end(tmp_path: Path) -> None:
    async with channel_open(tmp_path) as client:
        answer = await client.connect(number=MAX_UNHEARD + 1, acknowledged=0)
        assert isinstance(answer, Halt)
        with pytest.raises(PeerUnreachable):
            await client.hear()


async def test_a_killed_node_knows_every_voucher_it_acknowledged(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=200) as client:
        node = client.provider
        await client.ask_for(*[b"y"] * 4)
        await client.hear_until(lambda: len(client.unpaid) == 4)
        await node.kill()
        await node.start()
        answer = await client.connect()
        assert isinstance(answer, Welcome)
        assert (answer.number, answer.paid) == (client.number, 200)
        # It has lost the leaves of four results that the client has: they are paid unsigned.
        assert answer.next_index == 204
        await client.pay(4)
        await client.hear_until(lambda: client.acknowledged == client.number)
        assert client.signatures[-1] == b""
        await client.agree()
        await client.work_off(b"z")
        assert len(client.signatures[-1]) == 64
        assert client.outputs[204] == b"Z"


async def test_a_session_does_not_begin_on_an_account_that_was_dropped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with channel_open(tmp_path) as client:
        node = client.provider
        await client.connect()
        lanes = lanes_of(node)
        await client.hang_up()
        await until(lambda: lanes.accounts[client.id].session is None)
        flushed = type(lanes.book.writer).flushed

        async def slow(writer: Writer) -> None:
            """The channel is found closed while the greeting waits for the disk."""
            lanes._drop(lanes.accounts[client.id])
            await flushed(writer)

        monkeypatch.setattr(Writer, "flushed", slow)
        await client.connect()
        await client.hear_until(lambda: client.halts)
        assert client.halts[0].code == "busy"
        monkeypatch.undo()
        assert isinstance(await client.connect(), Welcome)
        assert lanes.accounts[client.id].session is not None


async def test_a_book_that_cannot_be_read_leaves_the_channel_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> list[bytes]:
        raise NodeFault("the disk does not say")

    async with channel_open(tmp_path) as client:
        monkeypatch.setattr(LaneBook, "signatures", fails)
        await client.connect()
        await client.hear_until(lambda: client.halts)
        assert client.halts[0].code == "store_full"
        monkeypatch.undo()
        assert isinstance(await client.connect(), Welcome)


async def test_strangers_who_wait_for_the_chain_hold_up_no_client(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with (
            lane_client(world, node) as client,
            trio.open_nursery() as nursery,
            AsyncExitStack() as stack,
        ):
            await client.connect()
            await client.agree()
            await client.work_off(b"one")
            ledger = node.live.ports.ledger
            read, asked = ledger.channel, 0

            async def slow(id_: ChannelId) -> ChannelRecord:
                nonlocal asked
                asked += id_ != client.id
                if id_ != client.id:
                    await trio.sleep_forever()
                return await read(id_)

            ledger.channel = slow  # type: ignore[method-assign, assignment]
            for number in range(8):
                other = await stack.enter_async_context(
                    lane_client(world, node, f"stranger {number}", deposit=0)
                )
                nursery.start_soon(other.connect)
            await until(lambda: asked == 8)
            with trio.fail_after(2):
                assert isinstance(await client.connect(), Welcome)
            nursery.cancel_scope.cancel()


async def test_a_newer_link_of_a_channel_replaces_the_older(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        world = client.world
        await client.work_off(b"a")
        async with world.network.open_net(peer("second")) as net:
            newer = replace(client, net=net, link=None, _stack=AsyncExitStack())
            assert isinstance(await newer.connect(), Welcome)
            assert await client.halted() == "replaced"
            with pytest.raises(PeerUnreachable):
                await client.hear()
            await newer.agree()
            await newer.work_off(b"b")
            await newer.hang_up()


async def test_a_stranger_does_not_speak_for_a_channel(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=100) as client:
        node, world = client.provider, client.world
        await client.ask_for(b"mine")
        await client.hear_until(lambda: client.unpaid)
        seen = client.hello()
        async with lane_client(world, node, "thief", deposit=0) as thief:
            for signature in (seen.signature, bytes(64), thief_signs(thief, seen.channel)):
                greeting = msgspec.structs.replace(seen, life=b"stranger", signature=signature)
                answer = await thief.connect(**as_dict(greeting))
                assert isinstance(answer, Halt)
                assert answer.code == "bad_signature"
        # The client's own link never noticed.
        await client.pay(1)
        await client.hear_until(lambda: client.acknowledged == client.number)


def thief_signs(thief: object, channel: Channel) -> bytes:
    domain = thief.domain  # type: ignore[attr-defined]
    return sign_greeting(domain, key("thief"), channel, 1, peer("thief"))


def as_dict(message: msgspec.Struct) -> dict[str, object]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


async def test_greetings_that_no_client_of_ours_sends_are_refused(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        other = await world.provider("node-1")
        async with lane_client(world, node, deposit=0) as client:
            never = await client.connect()
            assert isinstance(never, Halt)
            assert never.code == "no_channel"
            await client.open()
            client.epoch = 2
            future = await client.connect()
            assert isinstance(future, Halt)
            assert future.code == "no_channel"
            client.epoch = 1
            elsewhere = msgspec.structs.replace(client.channel, node=other.node_id)
            signature = sign_greeting(client.domain, client.session, elsewhere, 1, peer("client"))
            foreign = await client.connect(channel=elsewhere, signature=signature)
            assert isinstance(foreign, Halt)
            assert foreign.code == "not_here"
            beyond = await client.connect(received=1 << 40)
            assert isinstance(beyond, Halt)
            assert isinstance(await client.connect(), Welcome)
            assert node.whole.book is not None
            assert node.whole.book.entries == {}


async def test_a_link_that_says_nothing_or_something_else_first_is_ended(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        node, world = client.provider, client.world
        terms = client.make_terms()
        async with lane_client(world, node, "rude") as rude:
            async with rude.net.dial(
                node.address, lane_dialect(world.chain.info.name), timeout=5
            ) as link:
                await link.send(Ask(0, terms))
                with pytest.raises(PeerUnreachable), trio.fail_after(5):
                    await link.receive()
            assert isinstance(await rude.connect(), Welcome)
        await client.work_off(b"a")


async def test_a_chain_that_does_not_answer_lets_nobody_in(tmp_path: Path) -> None:
    async with channel_open(tmp_path) as client:
        world = client.world
        world.chain.set_reachable(False)
        answer = await client.connect()
        assert isinstance(answer, Halt)
        assert answer.code == "chain"
        world.chain.set_reachable(True)
        assert isinstance(await client.connect(), Welcome)


async def test_nothing_is_started_on_the_word_of_a_chain_that_fell_silent(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    async with at_work(tmp_path) as client:
        node, world = client.provider, client.world
        await client.work_off(b"a")
        world.chain.set_reachable(False)
        lanes = lanes_of(node)
        patient_clock.autojump_threshold = 0
        await until(lambda: lanes.accounts[client.id].is_stale)
        patient_clock.autojump_threshold = 0.02
        await client.ask_for(b"b")
        assert await client.halted() == "chain"
        world.chain.set_reachable(True)
        await client.hear_until(lambda: client.outputs.get(1) == b"B")


async def test_a_reconnect_storm_leaves_one_account_and_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, paid=100) as client:
        node = client.provider
        for round_ in range(30):
            answer = await client.connect()
            assert isinstance(answer, Welcome)
            assert answer.number == client.number
            client.acknowledged = answer.number
            while client.received < answer.next_index:
                await client.hear()
            if round_ % 3 == 2:
                while client.unpaid:
                    await client.pay(min(64, len(client.unpaid)))
                await client.hear_until(lambda: client.acknowledged == client.number)
            await client.agree()
            await client.ask_for(b"y", b"z")
        lanes = lanes_of(node)
        assert len(lanes.accounts) == 1
        account = lanes.accounts[client.id]
        await until(lambda: account.idle.is_set())
        assert client.cumulative == account.entry.promised


async def crowd(world: World, clients: int) -> None:
    config = msgspec.structs.replace(
        CONFIG, lane=msgspec.structs.replace(CONFIG.lane, clients=clients)
    )
    node = await lane_provider(world, config=config)
    async with (
        lane_client(world, node, "a") as a,
        lane_client(world, node, "b") as b,
        lane_client(world, node, "c") as c,
    ):
        for one in (a, b):
            await one.connect()
            await one.agree()
            await one.work_off(*[b"x"] * 50)
        answer = await c.connect()
        assert isinstance(answer, Halt)
        assert answer.code == "busy"
        await a.ask_for(b"y")
        await a.hear_until(lambda: a.unpaid)
        await a.hang_up()
        lanes = lanes_of(node)
        await until(lambda: lanes.accounts[a.id].session is None)
        assert isinstance(await c.connect(), Welcome)
        assert a.id not in lanes.accounts
        # What was owed when it left is owed for good: its credit is so much smaller.
        await c.hang_up()
        await until(lambda: lanes.accounts[c.id].session is None)
        a.life = b"life-two"
        back = await a.connect()
        assert isinstance(back, Welcome)
        assert back.number == a.number
        assert back.credit == 50 * PRICE // 20 - PRICE


async def test_a_link_that_pays_nothing_gives_its_place_to_one_that_would(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, lane=msgspec.structs.replace(CONFIG.lane, clients=2))
    async with open_world(tmp_path) as world:
        node = await lane_provider(world, config=config)
        async with (
            lane_client(world, node, "a") as idle,
            lane_client(world, node, "b") as good,
            lane_client(world, node, "c") as new,
        ):
            for one in (idle, good):
                assert isinstance(await one.connect(), Welcome)
                await one.agree()
            answer = await new.connect()  # nobody is idle for long
            assert isinstance(answer, Halt)
            assert answer.code == "busy"
            await good.work_off(b"x")
            await trio.sleep(HELD - 1)
            await good.work_off(b"y")
            await trio.sleep(2)
            assert isinstance(await new.connect(), Welcome)
            halt = await idle.hear_one(Halt)
            assert isinstance(halt, Halt)
            assert halt.code == "idle"
            with pytest.raises(PeerUnreachable):
                await idle.hear()
            await good.work_off(b"z")
            lanes = lanes_of(node)
            assert set(lanes.accounts) == {good.id, new.id}


async def test_dust_is_not_served(tmp_path: Path) -> None:
    lane = msgspec.structs.replace(CONFIG.lane, min_deposit="2CT")
    async with open_world(tmp_path) as world:
        node = await lane_provider(world, config=msgspec.structs.replace(CONFIG, lane=lane))
        async with lane_client(world, node, deposit=2 * UNIT - 1) as client:
            answer = await client.connect()
            assert isinstance(answer, Halt)
            assert answer.code == "deposit"
            assert "2.000000 CT or more" in answer.reason
            await client.top_up(1)
            assert isinstance(await client.connect(), Welcome)


async def test_so_many_clients_and_no_more(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await crowd(world, 2)
