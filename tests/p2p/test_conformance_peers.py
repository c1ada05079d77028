"""What every `Net` promises of peers lost, wrong or many, in memory and over libp2p alike."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.abc import Clock

from deai.errors import BadSignature, MalformedMessage, PeerUnreachable
from deai.net import Link, Net, PeerAddress
from tests.p2p.pairs import Reluctant, echo, pair, to
from tests.p2p.worlds import (
    AT_EASE,
    GIBBERISH,
    OTHER,
    QUICK,
    TALK,
    Said,
    Text,
    Way,
    World,
    identity,
)
from tests.support.polling import until


async def silence(way: Way, client: Net, server: Net) -> None:
    async with client.dial(way.to, TALK, timeout=AT_EASE) as link:
        await link.send(Text(1))
        assert await link.receive() == Text(1)
        way.freeze()
        with (
            trio.fail_after(10 * QUICK.ping_timeout),
            pytest.raises(PeerUnreachable, match="silent"),
        ):
            await link.receive()


async def test_a_peer_that_falls_silent_is_found_dead_and_may_come_back(
    world: World, clock: Clock | None
) -> None:
    async with pair(world) as (client, server), world.way_to(server) as way:
        await silence(way, client, server)
        assert client.stats()["dead_peers"] == 1
        await until(lambda: server.stats()["links_inbound_open"] == 0)
        assert server.stats()["dead_peers"] == 1
        with pytest.raises(PeerUnreachable):
            async with client.dial(way.to, TALK, timeout=0.3):
                pass
        way.thaw()
        async with client.dial(way.to, TALK, timeout=AT_EASE) as link:
            await link.send(Text(2))
            assert await link.receive() == Text(2)


async def test_an_idle_link_stays_open(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
    ):
        await trio.sleep(1.5 * QUICK.ping_timeout)
        await link.send(Text(1))
        assert await link.receive() == Text(1)


async def test_a_receiver_that_is_busy_is_not_taken_for_dead(
    world: World, clock: Clock | None
) -> None:
    reluctant = Reluctant()
    async with (
        pair(world, reluctant) as (client, server),
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
    ):
        with trio.move_on_after(1.5 * QUICK.ping_timeout):
            while True:
                await link.send(Text(1, bytes(5000)))
        assert client.stats()["dead_peers"] == server.stats()["dead_peers"] == 0
        reluctant.allow(1_000)
        await link.send(Text(2))


async def test_a_dropped_connection_is_noticed_by_both_and_opened_again(
    world: World, clock: Clock | None
) -> None:
    async with pair(world) as (client, server), world.way_to(server) as way:
        for number in range(3):
            async with client.dial(way.to, TALK, timeout=AT_EASE) as link:
                await link.send(Text(number))
                assert await link.receive() == Text(number)
                way.drop()
                with trio.fail_after(AT_EASE), pytest.raises(PeerUnreachable) as told:
                    await link.receive()
                assert "silent" not in str(told.value), "it was not told, it only heard nothing"
            await until(lambda: server.stats()["links_inbound_open"] == 0)
        assert server.stats()["links_inbound"] == 3


async def test_a_peer_is_reached_at_whichever_address_answers(
    world: World, clock: Clock | None
) -> None:
    async with pair(world) as (client, server):
        addresses = (world.dead_address, "no address", *server.addresses)
        async with client.dial(
            PeerAddress(server.peer_id, addresses), TALK, timeout=AT_EASE
        ) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)


async def test_all_addresses_together_get_one_timeout(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server), world.way_to(server) as way:
        way.freeze()
        begin = trio.current_time()
        with pytest.raises(PeerUnreachable):
            async with client.dial(
                PeerAddress(server.peer_id, way.to.addresses * 8), TALK, timeout=3
            ):
                pass
        assert trio.current_time() - begin < 8 * 3
        assert client.stats()["dials_failed"] == 1


async def test_somebody_else_at_the_address_is_refused(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server):
        expected = PeerAddress(identity("somebody else").peer_id, server.addresses)
        with pytest.raises(PeerUnreachable):
            async with client.dial(expected, TALK, timeout=AT_EASE):
                pass
        assert server.stats()["links_inbound"] == 0


async def test_nonsense_for_a_peer_is_unreachable(world: World, clock: Clock | None) -> None:
    async with world.open("client") as client:
        for addresses in ((), ("",), ("/ip4/1.2.3.4",), ("/unix/a/tcp/1", "\0", "/tcp/1")):
            with pytest.raises(PeerUnreachable):
                async with client.dial(
                    PeerAddress(identity("nobody").peer_id, addresses), TALK, timeout=1
                ):
                    pass


async def test_a_protocol_that_is_not_served_is_refused(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server):
        with pytest.raises(PeerUnreachable):
            async with client.dial(to(server), OTHER, timeout=AT_EASE):
                pass
        async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)


async def test_a_protocol_is_served_once(world: World, clock: Clock | None) -> None:
    async with pair(world) as (_, server):
        with pytest.raises(ValueError, match="served already"):
            await server.serve(TALK, echo)


async def test_a_peer_that_speaks_gibberish_is_cut_off_and_nobody_else(
    world: World, clock: Clock | None
) -> None:
    async with (
        pair(world) as (client, server),
        world.open("rude") as rude,
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
    ):
        async with rude.dial(to(server), GIBBERISH, timeout=AT_EASE) as rude_link:
            await rude_link.send(b"\xc1 is no MessagePack")
            with trio.fail_after(AT_EASE), pytest.raises(PeerUnreachable):
                await rude_link.receive()
        await until(lambda: server.stats()["links_inbound_open"] == 1)
        assert server.stats()["malformed"] == 1
        await link.send(Text(1))
        assert await link.receive() == Text(1)


async def test_the_receiver_of_gibberish_is_told(world: World, clock: Clock | None) -> None:
    async def babble(link: Link[bytes]) -> None:
        await link.send(TALK.encode(Text(1)))
        await link.send(b"\xc1")
        await link.receive()

    async with (
        world.open("client") as client,
        world.open("server") as server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, GIBBERISH, babble)
        async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
            assert await link.receive() == Text(1)
            for _ in range(2):
                with trio.fail_after(AT_EASE), pytest.raises(MalformedMessage):
                    await link.receive()
            with pytest.raises(PeerUnreachable):
                await link.send(Text(1))
        nursery.cancel_scope.cancel()


async def test_a_handler_that_finds_a_lie_cuts_the_peer_off(
    world: World, clock: Clock | None
) -> None:
    async def judge(link: Link[Said]) -> None:
        async with trio.open_nursery():  # as handlers do; its group is no reason to stop
            await link.receive()
            raise BadSignature("not theirs")

    async with pair(world, judge) as (client, server):
        for count in (1, 2):
            async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
                await link.send(Text(1))
                with trio.fail_after(AT_EASE), pytest.raises(PeerUnreachable):
                    await link.receive()
            await until(lambda count=count: server.stats()["malformed"] == count)  # type: ignore[misc]


async def test_one_peer_may_hold_only_so_many_links(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server), AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(client.dial(to(server), TALK, timeout=AT_EASE))
            for _ in range(QUICK.max_links_per_peer)
        ]
        await until(lambda: server.stats()["links_inbound_open"] == QUICK.max_links_per_peer)
        with trio.fail_after(AT_EASE), pytest.raises(PeerUnreachable):
            async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
                await link.receive()
        assert server.stats()["refused"] == 1
        for number, link in enumerate(links):
            await link.send(Text(number))
            assert await link.receive() == Text(number)


async def test_ten_peers_are_served_at_once(world: World, clock: Clock | None) -> None:
    async with pair(world) as (_, server), AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(world.open(f"client {number}")) for number in range(10)
        ]

        async def talk(client: Net) -> None:
            async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
                for number in range(20):
                    await link.send(Text(number))
                    assert await link.receive() == Text(number)

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(talk, client)
        assert server.stats()["links_inbound"] == 10
