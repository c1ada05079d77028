"""What every `Net` promises of a link, in memory and over libp2p alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio
from trio.abc import Clock

from deai.errors import MalformedMessage, PeerUnreachable
from deai.net import Link, PeerAddress
from p2p.framing import BULK_WINDOW, FRAME_COST, MESSAGE_WINDOW
from tests.p2p.pairs import CHUNK, Reluctant, echo, pair, to
from tests.p2p.worlds import AT_EASE, OTHER, QUICK, TALK, Blob, Said, Text, World
from tests.support.polling import until


async def test_messages_arrive_as_they_were_sent(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
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
        async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
            await link.send(Text(1))
            await link.receive()
        assert seen == [client.peer_id]


async def test_messages_keep_their_order_bulk_or_not(world: World, clock: Clock | None) -> None:
    async with pair(world) as (client, server):
        async with (
            client.dial(to(server), TALK, timeout=AT_EASE) as link,
            trio.open_nursery() as nursery,
        ):

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
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
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

        with trio.fail_after(4 * AT_EASE):
            nursery.start_soon(dispatch)
            async with trio.open_nursery() as callers:
                for first in range(256):
                    callers.start_soon(caller, first)


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
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
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


async def test_a_sender_does_not_wait_for_ever(world: World, clock: Clock | None) -> None:
    """The receiver is alive, it answers pings, and takes nothing: its window never opens."""
    impatient = replace(QUICK, send_timeout=2 * QUICK.ping_timeout)
    async with (
        world.open("client", impatient) as client,
        world.open("server") as server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, TALK, Reluctant())
        async with client.dial(to(server), TALK, timeout=AT_EASE) as link:

            async def speak() -> None:
                while True:
                    await link.send(Text(0, bytes(1000)))

            with trio.fail_after(10 * impatient.send_timeout):
                with pytest.raises(PeerUnreachable, match="takes no messages"):
                    await speak()
            with pytest.raises(PeerUnreachable, match="takes no messages"):
                await link.receive()
        nursery.cancel_scope.cancel()


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
            client.dial(to(server), TALK, timeout=AT_EASE) as bulk_link,
            client.dial(to(server), OTHER, timeout=AT_EASE) as second_link,
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

    # However slow the machine is, there is time for it.
    async with pair(world, collect, limits=replace(QUICK, close_timeout=AT_EASE)) as (
        client,
        server,
    ):
        async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
            for number in range(100):
                await link.send(Text(number, bytes(500)))
        with trio.fail_after(AT_EASE):
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
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
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
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
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
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
    ):
        woken = []

        async def wait_for(operation: Callable[[], Awaitable[object]]) -> None:
            try:
                while True:
                    await operation()
            except PeerUnreachable:
                woken.append(operation)

        with trio.fail_after(AT_EASE):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(wait_for, lambda: link.send(Blob(1, bytes(CHUNK))))
                nursery.start_soon(wait_for, link.receive)
                await until(lambda: client.stats()["bytes_sent"] >= 4 * CHUNK)
                await link.aclose()
        assert len(woken) == 4


async def test_a_message_beyond_the_limit_is_not_sent(world: World, clock: Clock | None) -> None:
    async with (
        pair(world) as (client, server),
        client.dial(to(server), TALK, timeout=AT_EASE) as link,
    ):
        with pytest.raises(MalformedMessage):
            await link.send(Blob(1, bytes(TALK.max_frame_bytes)))
        await link.send(Text(1))
        assert await link.receive() == Text(1)


async def test_a_bug_in_a_handler_stops_the_program(world: World, clock: Clock | None) -> None:
    async def buggy(link: Link[Said]) -> None:
        await link.receive()
        raise ZeroDivisionError

    async def talk() -> None:
        async with (
            pair(world, buggy) as (client, server),
            client.dial(to(server), TALK, timeout=AT_EASE) as link,
        ):
            await link.send(Text(1))
            await trio.sleep_forever()

    with trio.fail_after(AT_EASE), pytest.raises(ZeroDivisionError):
        await talk()


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
        async with client.dial(served[0], TALK, timeout=AT_EASE) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)
            leave.set()
            with trio.fail_after(AT_EASE), pytest.raises(PeerUnreachable) as told:
                await link.receive()
            assert "silent" not in str(told.value), "it was not told, it only heard nothing"


async def test_cancelling_anywhere_leaves_no_child_behind(
    world: World, clock: Clock | None
) -> None:
    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    async with pair(world) as (client, server):

        async def use() -> None:
            async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
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


async def test_a_link_is_drained_once_what_was_queued_is_on_its_way_or_the_link_is_gone(
    world: World, clock: Clock | None
) -> None:
    heard = 0

    async def count(link: Link[Said]) -> None:
        nonlocal heard
        while True:
            await link.receive()
            heard += 1

    async with pair(world, count) as (client, server):
        async with client.dial(to(server), TALK, timeout=AT_EASE) as link:
            with trio.fail_after(AT_EASE):
                await link.drained()  # nothing was queued
                for number in range(3):
                    await link.send(Text(number))
                await link.drained()
            await until(lambda: heard == 3)
            await link.send(Text(4))
        with trio.fail_after(AT_EASE):
            await link.drained()
