"""What every `Net` promises, in memory and over libp2p alike."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.abc import Clock

from deai.errors import BadSignature, MalformedMessage, PeerUnreachable
from deai.net import Dialect, Link, Net, PeerAddress
from p2p.framing import BULK_WINDOW, FRAME_COST, MESSAGE_WINDOW
from tests.p2p.worlds import GIBBERISH, OTHER, QUICK, TALK, Blob, Said, Text, Way, World, identity

CHUNK = 64 * 1024

Handler = Callable[[Link[Said]], Awaitable[None]]


async def echo(link: Link[Said]) -> None:
    while True:
        await link.send(await link.receive())


def to(net: Net) -> PeerAddress:
    return PeerAddress(net.peer_id, net.addresses)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll: the two ends of a socket share no event."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)


@asynccontextmanager
async def pair(
    world: World, handler: Handler = echo, dialect: Dialect[Said] = TALK
) -> AsyncIterator[tuple[Net, Net]]:
    """A client's net and a server's, which runs `handler`."""
    async with (
        world.open("client") as client,
        world.open("server") as server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, dialect, handler)
        yield client, server
        nursery.cancel_scope.cancel()


async def test_messages_arrive_as_they_were_sent(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        assert link.peer_id == server.peer_id
        for message in (Text(1, b"x"), Text(2), Blob(3, bytes(200_000)), Text(4, bytes(9))):
            await link.send(message)
            assert await link.receive() == message


async def test_a_link_knows_who_is_at_its_other_end(world: World, clock: Clock | None) -> None:
    seen = []

    async def note(link: Link[Said]) -> None:
        seen.append(link.peer_id)
        await echo(link)

    async with pair(world, note) as (client, server):
        async with client.dial(to(server), TALK, timeout=5) as link:
            await link.send(Text(1))
            await link.receive()
        assert seen == [client.peer_id]


async def test_messages_keep_their_order_bulk_or_not(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server):
        async with client.dial(to(server), TALK, timeout=5) as link, trio.open_nursery() as nursery:

            async def speak() -> None:
                for number in range(300):
                    body = bytes(20_000 if number % 3 == 0 else number)
                    await link.send((Blob if number % 3 == 0 else Text)(number, body))

            nursery.start_soon(speak)
            heard = [(await link.receive()).number for _ in range(300)]
        assert heard == list(range(300))


async def test_256_calls_at_once_are_all_answered(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
        trio.open_nursery() as nursery,
    ):
        answers: dict[int, trio.Event] = {}

        async def call(number: int) -> None:
            answers[number] = trio.Event()
            await link.send(Text(number))
            await answers[number].wait()

        async def dispatch() -> None:
            for _ in range(256 * 4):
                answers[(await link.receive()).number].set()

        async def caller(first: int) -> None:
            for step in range(4):
                await call(first + 1000 * step)

        with trio.fail_after(30):
            nursery.start_soon(dispatch)
            async with trio.open_nursery() as callers:
                for first in range(256):
                    callers.start_soon(caller, first)


@dataclass
class Reluctant:
    """A handler that only receives what it is allowed to, and notes it."""

    allowed: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(0))
    heard: list[Said] = field(default_factory=list)
    link: Link[Said] | None = None

    async def __call__(self, link: Link[Said]) -> None:
        self.link = link
        while True:
            await self.allowed.acquire()
            self.heard.append(await link.receive())

    def allow(self, count: int) -> None:
        for _ in range(count):
            self.allowed.release()


@pytest.mark.parametrize(
    ("message", "window"),
    [(Text(0, bytes(1000)), MESSAGE_WINDOW), (Blob(0, bytes(CHUNK)), BULK_WINDOW)],
)
async def test_a_sender_waits_for_a_slow_receiver(
    world: World, clock: Clock | None, message: Said, window: int
) -> None:
    reluctant, sent = Reluctant(), 0
    in_flight = -(-window // (FRAME_COST + len(TALK.encode(message))))
    total = 3 * in_flight

    async with (
        pair(world, reluctant) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
        trio.open_nursery() as nursery,
    ):

        async def speak() -> None:
            nonlocal sent
            for _ in range(total):
                await link.send(message)
                sent += 1

        nursery.start_soon(speak)
        await until(lambda: sent == in_flight)
        # What goes the other way passes meanwhile, and shows that time went by.
        assert reluctant.link is not None
        await reluctant.link.send(Text(7))
        assert await link.receive() == Text(7)
        assert sent == in_flight
        reluctant.allow(total)
        await until(lambda: len(reluctant.heard) == total)
        assert sent == total


@pytest.mark.parametrize("other_link", [False, True])
async def test_bulk_does_not_starve_small_messages(
    world: World, clock: Clock | None, other_link: bool
) -> None:
    """Counted, not timed: how much bulk was consumed while a small message was on its way."""
    consumed, waits = 0, []
    departed: dict[int, int] = {}

    async def consume(link: Link[Said]) -> None:
        nonlocal consumed
        while True:
            message = await link.receive()
            if isinstance(message, Blob):
                consumed += 1
                await trio.sleep(0.001)  # a consumer that has something to do
            else:
                waits.append(consumed - departed[message.number])
                await link.send(message)

    async with pair(world, consume) as (client, server), trio.open_nursery() as nursery:
        await nursery.start(server.serve, OTHER, consume)
        async with (
            client.dial(to(server), TALK, timeout=5) as bulk_link,
            client.dial(to(server), OTHER, timeout=5) as second_link,
        ):
            small_link = second_link if other_link else bulk_link

            async def upload() -> None:
                for number in range(200):
                    await bulk_link.send(Blob(number, bytes(CHUNK)))

            async with trio.open_nursery() as uploading:
                uploading.start_soon(upload)
                await until(lambda: consumed > 10)
                for number in range(20):
                    departed[number] = consumed
                    await small_link.send(Text(number))
                    assert await small_link.receive() == Text(number)
                assert consumed < 200, "the upload was over before the last call"
        nursery.cancel_scope.cancel()
    assert max(waits) <= 6


async def test_what_was_sent_before_a_close_still_arrives(
    world: World, clock: Clock | None
) -> None:
    heard: deque[Said] = deque()
    ended = trio.Event()

    async def collect(link: Link[Said]) -> None:
        try:
            while True:
                heard.append(await link.receive())
        finally:
            ended.set()

    async with pair(world, collect) as (client, server):
        async with client.dial(to(server), TALK, timeout=5) as link:
            for number in range(100):
                await link.send(Text(number, bytes(500)))
        with trio.fail_after(5):
            await ended.wait()
        assert [message.number for message in heard] == list(range(100))
        await until(lambda: server.stats()["links_inbound_open"] == 0)
        assert server.stats()["handlers_ended_by_peer"] == 1


async def test_the_serving_side_may_close(world: World, clock: Clock | None) -> None:
    async def say_goodbye(link: Link[Said]) -> None:
        await link.send(Text(1))
        await link.send(Text(2))

    async with (
        pair(world, say_goodbye) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        assert [await link.receive(), await link.receive()] == [Text(1), Text(2)]
        for _ in range(2):
            with pytest.raises(PeerUnreachable, match="closed"):
                await link.receive()
        with pytest.raises(PeerUnreachable):
            await link.send(Text(3))


async def test_a_closed_link_takes_and_gives_nothing(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        await link.aclose()
        await link.aclose()
        with pytest.raises(PeerUnreachable, match="this side"):
            await link.send(Text(1))
        with pytest.raises(PeerUnreachable, match="this side"):
            await link.receive()


async def test_a_close_wakes_whoever_waits_on_the_link(world: World, clock: Clock | None) -> None:
    async with (
        pair(world, Reluctant()) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        woken = []

        async def wait_for(operation: Callable[[], Awaitable[object]]) -> None:
            try:
                while True:
                    await operation()
            except PeerUnreachable:
                woken.append(operation)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(wait_for, lambda: link.send(Blob(1, bytes(CHUNK))))
                nursery.start_soon(wait_for, link.receive)
                await until(lambda: client.stats()["bytes_sent"] >= 4 * CHUNK)
                await link.aclose()
        assert len(woken) == 4


async def silence(way: Way, client: Net, server: Net) -> None:
    async with client.dial(way.to, TALK, timeout=5) as link:
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
        async with client.dial(way.to, TALK, timeout=5) as link:
            await link.send(Text(2))
            assert await link.receive() == Text(2)


async def test_an_idle_link_stays_open(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        await trio.sleep(2.5 * QUICK.ping_timeout)
        await link.send(Text(1))
        assert await link.receive() == Text(1)


async def test_a_receiver_that_is_busy_is_not_taken_for_dead(
    world: World, clock: Clock | None
) -> None:
    reluctant = Reluctant()
    async with (
        pair(world, reluctant) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        with trio.move_on_after(2.5 * QUICK.ping_timeout):
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
            async with client.dial(way.to, TALK, timeout=5) as link:
                await link.send(Text(number))
                assert await link.receive() == Text(number)
                way.drop()
                with trio.fail_after(QUICK.ping_timeout / 2), pytest.raises(PeerUnreachable):
                    await link.receive()
            await until(lambda: server.stats()["links_inbound_open"] == 0)
        assert server.stats()["links_inbound"] == 3


async def test_a_peer_is_reached_at_whichever_address_answers(
    world: World, clock: Clock | None
) -> None:
    async with pair(world) as (client, server):
        addresses = (world.dead_address, "no address", *server.addresses)
        async with client.dial(PeerAddress(server.peer_id, addresses), TALK, timeout=3) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)


async def test_all_addresses_together_get_one_timeout(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server), world.way_to(server) as way:
        way.freeze()
        begin = trio.current_time()
        with pytest.raises(PeerUnreachable):
            async with client.dial(
                PeerAddress(server.peer_id, way.to.addresses * 5), TALK, timeout=0.5
            ):
                pass
        assert trio.current_time() - begin < 2
        assert client.stats()["dials_failed"] == 1


async def test_somebody_else_at_the_address_is_refused(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server):
        expected = PeerAddress(identity("somebody else").peer_id, server.addresses)
        with pytest.raises(PeerUnreachable):
            async with client.dial(expected, TALK, timeout=3):
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
            async with client.dial(to(server), OTHER, timeout=3):
                pass
        async with client.dial(to(server), TALK, timeout=5) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)


async def test_a_protocol_is_served_once(world: World, clock: Clock | None) -> None:
    async with pair(world) as (_, server):
        with pytest.raises(ValueError, match="served already"):
            await server.serve(TALK, echo)


async def test_a_message_beyond_the_limit_is_not_sent(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        with pytest.raises(MalformedMessage):
            await link.send(Blob(1, bytes(TALK.max_frame_bytes)))
        await link.send(Text(1))
        assert await link.receive() == Text(1)


async def test_a_peer_that_speaks_gibberish_is_cut_off_and_nobody_else(
    world: World, clock: Clock | None
) -> None:
    async with (
        pair(world) as (client, server),
        world.open("rude") as rude,
        client.dial(to(server), TALK, timeout=5) as link,
    ):
        async with rude.dial(to(server), GIBBERISH, timeout=5) as rude_link:
            await rude_link.send(b"\xc1 is no MessagePack")
            with trio.fail_after(5), pytest.raises(PeerUnreachable):
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
        async with client.dial(to(server), TALK, timeout=5) as link:
            assert await link.receive() == Text(1)
            for _ in range(2):
                with trio.fail_after(5), pytest.raises(MalformedMessage):
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
            async with client.dial(to(server), TALK, timeout=5) as link:
                await link.send(Text(1))
                with trio.fail_after(5), pytest.raises(PeerUnreachable):
                    await link.receive()
            await until(lambda count=count: server.stats()["malformed"] == count)  # type: ignore[misc]


async def test_a_bug_in_a_handler_stops_the_program(world: World, clock: Clock | None) -> None:
    async def buggy(link: Link[Said]) -> None:
        await link.receive()
        raise ZeroDivisionError

    async def talk() -> None:
        async with (
            pair(world, buggy) as (client, server),
            client.dial(to(server), TALK, timeout=5) as link,
        ):
            await link.send(Text(1))
            await trio.sleep_forever()

    with trio.fail_after(10), pytest.raises(ZeroDivisionError):
        await talk()


async def test_one_peer_may_hold_only_so_many_links(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server), AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(client.dial(to(server), TALK, timeout=5))
            for _ in range(QUICK.max_links_per_peer)
        ]
        await until(lambda: server.stats()["links_inbound_open"] == QUICK.max_links_per_peer)
        with trio.fail_after(5), pytest.raises(PeerUnreachable):
            async with client.dial(to(server), TALK, timeout=5) as link:
                await link.receive()
        assert server.stats()["refused"] == 1
        for number, link in enumerate(links):
            await link.send(Text(number))
            assert await link.receive() == Text(number)


async def test_the_end_of_a_net_ends_its_links(world: World, clock: Clock | None) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(world.open("client"))
        nursery = await stack.enter_async_context(trio.open_nursery())
        served: list[PeerAddress] = []
        leave, up = trio.Event(), trio.Event()

        async def live_and_die() -> None:
            async with world.open("server") as server, trio.open_nursery() as inner:
                await inner.start(server.serve, TALK, echo)
                served.append(to(server))
                up.set()
                await leave.wait()
                inner.cancel_scope.cancel()

        nursery.start_soon(live_and_die)
        await up.wait()
        async with client.dial(served[0], TALK, timeout=5) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)
            leave.set()
            with trio.fail_after(QUICK.ping_timeout), pytest.raises(PeerUnreachable):
                await link.receive()


async def test_ten_peers_are_served_at_once(world: World, clock: Clock | None) -> None:
    async with pair(world) as (_, server), AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(world.open(f"client {number}")) for number in range(10)
        ]

        async def talk(client: Net) -> None:
            async with client.dial(to(server), TALK, timeout=10) as link:
                for number in range(20):
                    await link.send(Text(number))
                    assert await link.receive() == Text(number)

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(talk, client)
        assert server.stats()["links_inbound"] == 10


async def test_cancelling_anywhere_leaves_no_child_behind(
    world: World, clock: Clock | None
) -> None:
    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    async with pair(world) as (client, server):

        async def use() -> None:
            async with client.dial(to(server), TALK, timeout=5) as link:
                for number in range(3):
                    await link.send(Blob(number, bytes(3 * CHUNK)))
                    await link.receive()

        await use()  # so that the connection exists
        await until(lambda: server.stats()["links_inbound_open"] == 0)
        before, steps, finished = tasks(), 0, False
        while not finished:
            steps += 1
            with (
                trio.CancelScope() as scope,
                _CancelAtStep(scope, steps),
            ):
                await use()
            finished = not scope.cancelled_caught
            assert client.stats()["links_outbound_open"] <= 1
        assert steps > 5
        await until(lambda: client.stats()["links_outbound_open"] == 0)
        await until(lambda: server.stats()["links_inbound_open"] == 0)
        await until(lambda: tasks() <= before)
        await use()


class _CancelAtStep:
    """Cancels `scope` the `step`-th time that the current task is about to run."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope = scope
        self.left = step
        self.task = trio.lowlevel.current_task()

    def __enter__(self) -> None:
        trio.lowlevel.add_instrument(self)  # type: ignore[arg-type]

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)  # type: ignore[arg-type]

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()
