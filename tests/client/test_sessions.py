"""Warm links to nodes: shared, bounded, and given up when they are silent."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from deai.client.sessions import Sessions
from deai.errors import PeerUnreachable
from deai.ids import SEI
from deai.messages import TASK_DIALECTS, AskOffer, TaskMessage
from deai.net import Link, PeerAddress
from p2p.memory import MemoryNetwork
from tests.client.support.world import peer_name
from tests.support.polling import until


async def listening(
    network: MemoryNetwork, name: str, *, task_status: trio.TaskStatus[PeerAddress]
) -> None:
    async def listen(link: Link[TaskMessage]) -> None:
        while True:
            await link.receive()

    async with network.open_net(peer_name(name)) as net, trio.open_nursery() as nursery:
        await nursery.start(net.serve, TASK_DIALECTS[SEI], listen)
        task_status.started(PeerAddress(net.peer_id, net.addresses))
        await trio.sleep_forever()


async def test_the_link_that_was_silent_for_longest_makes_room(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        peers = [await nursery.start(listening, network, name) for name in ("a", "b", "c")]
        async with network.open_net(peer_name("client")) as net, trio.open_nursery() as links:
            sessions = Sessions(net, links, SEI, most=2)
            first = await sessions.open(peers[0], timeout=5)
            await trio.sleep(1)
            second = await sessions.open(peers[1], timeout=5)
            await trio.sleep(1)
            await first.send(AskOffer())
            await trio.sleep(1)
            await sessions.open(peers[2], timeout=5)
            await until(lambda: second.closed.is_set())
            assert [sessions.is_open(one.peer_id) for one in peers] == [True, False, True]
            with pytest.raises(PeerUnreachable):
                await second.send(AskOffer())
            # Who still needs it dials again.
            assert (await sessions.open(peers[1], timeout=5)).is_open
            links.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
