"""Reading a task's events: all of them at every look, and few blocks for it."""

from __future__ import annotations

from typing import cast

import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from deai.chain.ledger import Head, Ledger
from deai.client.chronicle import PAUSE, WINDOW, Chronicle
from deai.events import LedgerRecord, Position, SeatReleased
from deai.ids import TaskId

TASK = TaskId("0x" + "11" * 32)
SINCE = 1_000


class Chain:
    """Blocks with or without an event of the task, which may be replaced."""

    def __init__(self) -> None:
        self.blocks: list[tuple[str, int]] = []
        """From `SINCE` on: hash, and how many events."""
        self.forks = 0
        self.behind = 0
        """Blocks that the endpoint which is asked for events lacks."""
        self.asked: list[int] = []
        self.grow(1, 1)

    def grow(self, count: int, events: int = 0) -> None:
        """So many blocks, the last of which has events."""
        for number in range(count):
            name = f"{self.forks}/{len(self.blocks)}"
            self.blocks.append((name, events if number == count - 1 else 0))

    def fork(self, depth: int) -> None:
        self.forks += 1
        keep = max(0, len(self.blocks) - depth)
        del self.blocks[keep:]

    @property
    def head(self) -> Head:
        return Head(SINCE + len(self.blocks) - 1, self.blocks[-1][0] if self.blocks else "", 0)

    def records(self, since: int, until: int) -> tuple[LedgerRecord, ...]:
        return tuple(
            LedgerRecord(Position(number, index, name, 0, f"{name}/{index}"), SeatReleased(TASK, 0))
            for number, (name, events) in enumerate(self.blocks, SINCE)
            for index in range(events)
            if since <= number <= until
        )

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        assert task == TASK
        await trio.lowlevel.checkpoint()
        self.asked.append(since)
        return self.records(since, self.head.number - self.behind)

    @property
    def all(self) -> tuple[LedgerRecord, ...]:
        return self.records(SINCE, self.head.number)


def opened() -> tuple[Chain, Chronicle]:
    chain = Chain()
    return chain, Chronicle(cast("Ledger", chain), TASK, SINCE)


STEPS = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, 2 * WINDOW), st.integers(0, 3)),
    st.tuples(st.just("fork"), st.integers(1, WINDOW), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, 120), st.just(0)),
    st.tuples(st.just("behind"), st.integers(0, 5), st.just(0)),
)


@given(st.lists(STEPS, max_size=25))
@settings(deadline=None)
def test_every_look_knows_what_a_look_at_everything_would_know(
    steps: list[tuple[str, int, int]],
) -> None:
    async def play() -> None:
        chain, chronicle = opened()
        for what, count, events in steps:
            match what:
                case "grow":
                    chain.grow(count, events)
                case "fork":
                    chain.fork(min(count, len(chain.blocks) - 1))
                    chain.grow(count + 1, events)
                case "wait":
                    await trio.sleep(count)
                case _:
                    chain.behind = count
            full = chain.records(SINCE, chain.head.number - chain.behind)
            assert await chronicle.read(chain.head) == full

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_an_hours_long_task_is_not_read_from_its_post_at_every_look(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, chronicle = opened()
    blocks = 0
    for look in range(200):
        chain.grow(100, events=look == 100)
        assert await chronicle.read(chain.head) == chain.all
        blocks += chain.head.number - chain.asked[-1]
        await trio.sleep(0.4)
    assert len(chain.blocks) == 20_001
    assert blocks < 200 * (WINDOW + 101)
    assert len(chain.asked) == 200


async def test_a_deep_reorganisation_is_noticed_by_the_events_that_went(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, chronicle = opened()
    for _ in range(20):
        chain.grow(100, events=1)
        await chronicle.read(chain.head)
    chain.fork(1_500)
    chain.grow(1_600, events=2)
    assert await chronicle.read(chain.head) == chain.all


async def test_a_chain_that_starts_anew_and_a_long_pause_forget_everything(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, chronicle = opened()
    chain.grow(1_000, events=1)
    await chronicle.read(chain.head)
    chain.fork(1_000)
    chain.grow(10, events=1)
    assert await chronicle.read(chain.head) == chain.all
    chain.grow(2_000)
    await chronicle.read(chain.head)
    chain.fork(1_990)  # deeper than the window, and without an event in it
    chain.grow(3_000)
    await trio.sleep(PAUSE + 1)
    assert await chronicle.read(chain.head) == chain.all


async def test_what_could_not_be_read_is_read_the_next_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, chronicle = opened()
    await chronicle.read(chain.head)
    chain.grow(3_000, events=2)
    with trio.CancelScope() as scope:
        scope.cancel()
        await chronicle.read(chain.head)
    assert len(chronicle.records) == 1
    chain.grow(3_000)
    assert await chronicle.read(chain.head) == chain.all
