"""What the network in memory adds to the port: virtual time and faults on demand."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from deai.errors import PeerUnreachable
from deai.net import Link, PeerAddress
from p2p.limits import NetLimits
from p2p.memory import MemoryNetwork
from tests.p2p.pairs import echo, to
from tests.p2p.worlds import QUICK, TALK, Said, Text, identity
from tests.support.polling import until

A, B, C = (identity(name).peer_id for name in "abc")


async def test_a_message_takes_the_latency_and_nothing_else(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(latency=0.05)
    async with network.open_net(A) as a, network.open_net(B) as b, trio.open_nursery() as nursery:
        await nursery.start(b.serve, TALK, echo)
        async with a.dial(to(b), TALK, timeout=5) as link:
            assert trio.current_time() == pytest.approx(0.1)
            for _ in range(10):
                await link.send(Text(1, bytes(1000)))
                await link.receive()
            assert trio.current_time() == pytest.approx(1.1)
        nursery.cancel_scope.cancel()


async def test_a_partition_concerns_two_peers_and_heals(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(latency=0.01)
    async with (
        network.open_net(A) as a,
        network.open_net(B) as b,
        network.open_net(C) as c,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(c.serve, TALK, echo)
        async with a.dial(to(c), TALK, timeout=5) as of_a, b.dial(to(c), TALK, timeout=5) as of_b:
            network.partition(A, C)
            await of_a.send(Text(1))
            await of_b.send(Text(2))
            assert await of_b.receive() == Text(2)
            with trio.move_on_after(5):
                await of_a.receive()
                pytest.fail("something passed")
            network.heal(A, C)
            assert await of_a.receive() == Text(1)  # shorter than anybody's patience
            network.partition(A, C)
            with pytest.raises(PeerUnreachable, match="silent"):
                await of_a.receive()
            await of_b.send(Text(3))
            assert await of_b.receive() == Text(3)
        nursery.cancel_scope.cancel()


async def test_a_killed_peer_is_gone_at_once_and_may_start_again(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(latency=0.01)
    async with network.open_net(A) as a:
        async with network.open_net(B) as b, trio.open_nursery() as nursery:
            await nursery.start(b.serve, TALK, echo)
            async with a.dial(to(b), TALK, timeout=5) as link:
                network.kill(B)
                with trio.fail_after(0.1), pytest.raises(PeerUnreachable, match="reset"):
                    await link.receive()
            with pytest.raises(PeerUnreachable):
                async with a.dial(to(b), TALK, timeout=5):
                    pass
            with pytest.raises(PeerUnreachable):
                async with b.dial(to(a), TALK, timeout=5):
                    pass
            nursery.cancel_scope.cancel()
        async with network.open_net(B) as b, trio.open_nursery() as nursery:
            await nursery.start(b.serve, TALK, echo)
            async with a.dial(to(b), TALK, timeout=5) as link:
                await link.send(Text(1))
                assert await link.receive() == Text(1)
            nursery.cancel_scope.cancel()


async def test_two_nets_cannot_have_one_identity(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open_net(A):
        with pytest.raises(ValueError, match="open already"):
            async with network.open_net(A):
                pass


async def test_closed_links_leave_no_wire_behind(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(latency=0.01)
    async with (
        network.open_net(A, limits=QUICK) as a,
        network.open_net(B, limits=QUICK) as b,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(b.serve, TALK, echo)
        for fault in (None, network.drop, network.freeze):
            with trio.move_on_after(5 * QUICK.ping_timeout):
                async with a.dial(to(b), TALK, timeout=5) as link:
                    if fault is not None:
                        fault(B)
                        with pytest.raises(PeerUnreachable):
                            await link.receive()
            network.thaw(B)
            await until(lambda: b.stats()["links_inbound_open"] == 0)
        assert not network._wires
        nursery.cancel_scope.cancel()


async def test_who_sends_too_fast_is_read_more_slowly(autojump_clock: MockClock) -> None:
    limits = NetLimits(frames_per_second=100, frame_burst=50)
    network, heard = MemoryNetwork(), 0

    async def count(link: Link[Said]) -> None:
        nonlocal heard
        while True:
            await link.receive()
            heard += 1

    async with (
        network.open_net(A) as a,
        network.open_net(B, limits=limits) as b,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(b.serve, TALK, count)
        async with a.dial(to(b), TALK, timeout=5) as link:
            begin = trio.current_time()
            for number in range(1_050):
                await link.send(Text(number, bytes(1000)))
                await trio.sleep(0.001)
            await until(lambda: heard == 1_050, 60)
            assert 9 < trio.current_time() - begin < 11
            assert b.stats()["malformed"] == b.stats()["dead_peers"] == 0
        nursery.cancel_scope.cancel()


def test_the_same_scenario_takes_the_same_course() -> None:
    async def scenario() -> list[tuple[float, int]]:
        network, trace = MemoryNetwork(latency=0.007), []
        async with (
            network.open_net(A, limits=QUICK) as a,
            network.open_net(B, limits=QUICK) as b,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(b.serve, TALK, echo)
            for number in range(5):
                try:
                    async with a.dial(PeerAddress(B, b.addresses), TALK, timeout=0.5) as link:
                        await link.send(Text(number))
                        trace.append((trio.current_time(), (await link.receive()).number))
                        if number in (1, 3):
                            (network.freeze if number == 1 else network.drop)(B)
                            await link.receive()
                except PeerUnreachable:
                    trace.append((trio.current_time(), -number))
                    network.thaw(B)
            nursery.cancel_scope.cancel()
        return trace

    runs = [trio.run(scenario, clock=MockClock(autojump_threshold=0)) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == 7
