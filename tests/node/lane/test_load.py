"""As many channels as a node keeps, hundreds of links at once, and one that reads slowly."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import trio

from deai.actions import OpenChannel
from deai.channels import Channel, Voucher, channel_id
from deai.hashing import keccak
from deai.ids import AccountId, hexed
from deai.lane.messages import Agreed, Halt, Pay, Welcome
from deai.lane.payee import Standing, Taken
from deai.money import Amount
from node.lane.book import MAX_CHANNELS, LaneBook
from node.lane.lanes import HELD
from tests.node.lane.support import (
    PRICE,
    LaneBench,
    LaneClient,
    lane_client,
    lane_provider,
    lanes_of,
)
from tests.node.support.names import key
from tests.node.support.world import CONFIG, Provider, World, open_world

pytestmark = pytest.mark.world

LIVE = 200
PROMISED = 7


async def channels_of_old(world: World, node: Provider, count: int) -> None:
    """So many channels are open on chain, and the node's book has a voucher of each."""
    payer = key("many")
    await world.fund(payer.account, count * 100)
    ledger, domain = world.chain.ledger(payer), world.chain.info.channels
    book = LaneBook(node.home / "lane.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(book.run)
        for number in range(count):
            session = AccountId(hexed(keccak(b"session", number.to_bytes(4, "big"))[-20:]))
            channel = Channel(payer.account, node.node_id, session)
            id_ = channel_id(channel, domain)
            await ledger.submit(OpenChannel(node.node_id, session, 1, Amount(100)))
            entry = book.entry(world.chain.info.name, id_, channel, 1)
            voucher = Voucher(id_, 1, Amount(PROMISED), bytes(32), bytes(64))
            standing = Standing(
                number=1, paid=2, settled=Amount(PROMISED), paid_task=Amount(4), voucher=voucher
            )
            pay = Pay(1, 2, Amount(PROMISED), bytes(32), bytes(64))
            taken = Taken(standing, (bytes(32), bytes(32)), None)
            book.voucher(entry, pay, taken, b"", 0, lambda: None)
        await book.writer.flushed()
        nursery.cancel_scope.cancel()
    book.close()


async def test_ten_thousand_channels_are_known_and_hundreds_of_them_live(tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        CONFIG, lane=msgspec.structs.replace(CONFIG.lane, clients=LIVE)
    )
    async with open_world(tmp_path) as world:
        bench = LaneBench(places=32)
        node = await lane_provider(world, bench=bench, config=config, start=False)
        old = MAX_CHANNELS - LIVE
        await channels_of_old(world, node, old)
        await node.start()
        lanes = lanes_of(node)
        assert len(lanes.book.entries) == old
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(lane_client(world, node, f"live {number}"))
                for number in range(LIVE)
            ]

            async def begin(client: LaneClient) -> None:
                assert isinstance(await client.connect(), Welcome)
                assert isinstance(await client.agree(), Agreed)
                await client.work_off(b"a", b"b")

            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(begin, client)
            assert len(lanes.book.entries) == MAX_CHANNELS
            assert sum(one.session is not None for one in lanes.accounts.values()) == LIVE
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(client.work_off, b"c")
            assert [client.outputs for client in clients] == [{0: b"A", 1: b"B", 2: b"C"}] * LIVE
            # There is room for nobody else, and whom the book refuses displaces nobody.
            await trio.sleep(HELD + 1)
            async with lane_client(world, node, "one more") as late:
                refused = await late.connect()
                assert isinstance(refused, Halt)
                assert refused.code == "busy"
            assert sum(one.session is not None for one in lanes.accounts.values()) == LIVE
            await lanes.book.writer.flushed()
        await node.kill()
        await node.start()
        found = lanes_of(node).book.entries.values()
        assert len(found) == MAX_CHANNELS
        assert sum(one.promised for one in found) == old * PROMISED + LIVE * 3 * PRICE
        assert not any(one.is_closed for one in found)


async def test_a_slow_reader_gets_everything_and_holds_up_nobody(tmp_path: Path) -> None:
    size, count, windows = 8_000, 400, 4
    async with open_world(tmp_path) as world:
        lane = msgspec.structs.replace(CONFIG.lane, unpaid_windows=windows)
        node = await lane_provider(world, config=msgspec.structs.replace(CONFIG, lane=lane))
        async with (
            lane_client(world, node, "slow") as slow,
            lane_client(world, node, "quick") as quick,
            trio.open_nursery() as nursery,
        ):
            for client in (slow, quick):
                await client.connect()
                await client.agree()
                await client.work_off(*[b"x"] * 100)
            lanes, most = lanes_of(node), 0
            await slow.pay(0, more=count * PRICE)
            for number in range(count):
                await slow.ask_for(b"%05d" % number + bytes(size))

            async def read() -> None:
                nonlocal most
                while len(slow.outputs) < 100 + count:
                    await trio.sleep(1.5)
                    most = max(most, lanes.accounts[slow.id].shelf.bytes)
                    await slow.hear()
                    if slow.unpaid:
                        await slow.pay(min(64, len(slow.unpaid)))

            nursery.start_soon(read)
            began = trio.current_time()
            await quick.work_off(*[b"y"] * 300)
            assert trio.current_time() - began < 10, "the quick one waits for nobody"
            assert len(slow.outputs) < 100 + count, "or it was not slow"
        assert 0 < most < (windows + 1) * 64 * size, "what nobody has paid waits in bounds"
        assert slow.halts == []
        assert slow.outputs[99 + count][:5] == b"%05d" % (count - 1)
