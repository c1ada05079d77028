"""A chain that runs receipts as several shards would: other orders, later blocks, lost heights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.ledger import Cursor, Head
from deai.chain.tasks_view import fold, task_of
from deai.claims import Statement
from deai.client.rewards import Bookkeeper
from deai.client.rewards_following import follow_book
from deai.errors import LedgerRejected
from deai.events import LedgerRecord, ResultCommitted
from deai.ids import AccountId
from deai.lifecycle import TaskState
from deai.signing import Signer
from deai.tasks import Seat
from devnet.accounts import channels_difference, read_books
from rewards.rules import RULES
from tests.deai.chain.near.harness import NearChain, near_chain, near_world
from tests.support.channel_conformance import DEPOSIT, Paying, paying
from tests.support.ledger_conformance import Play, World, batches_until, events_of, play
from tests.support.reward_conformance import Rewarding

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NearChain]:
    with near_chain(
        tmp_path_factory.mktemp("shuffled"), accounts=100, block_time=0.05, shuffle=20
    ) as found:
        yield found.embedded("nobody can make it shuffle")


@pytest.fixture
async def world(chain: NearChain) -> AsyncIterator[World]:
    async with near_world(chain) as found:
        yield found


async def commit_oneself(playing: Play, committee: tuple[Seat, ...], seat: int) -> None:
    own = await playing.commitment(seat)
    action = act.CommitResults(playing.task, committee, (own,))
    await playing.providers[seat].operates(action)


async def test_commits_of_one_block_are_told_in_the_order_of_the_chain(world: World) -> None:
    """The hash chain of a lane depends on it: a wrong order finalises nothing."""
    for _ in range(3):
        playing = await play(world)
        committee = await playing.committee()
        async with trio.open_nursery() as nursery:
            for seat in range(3):
                nursery.start_soon(commit_oneself, playing, committee, seat)
        view = await playing.view()
        assert (await world.reader.lane(playing.client.account, 0)).acc == view.acc
        await playing.finalise()
        assert (await playing.view()).state is TaskState.COMPLETED


async def redeem(one: Paying, amount: int) -> None:
    with suppress(LedgerRejected):  # a larger voucher came first
        await one.redeem(amount)


async def test_no_token_of_a_channel_is_lost_whatever_runs_first(world: World) -> None:
    """Transfers, their callbacks and what comes next overtake each other."""
    owner, client = world.signer(), world.signer()
    await world.fund(client.account, DEPOSIT)
    found = [
        await paying(world, client=client, owner=owner, index=index, deposit=100)
        for index in range(4)
    ]
    async with trio.open_nursery() as nursery:
        for number, one in enumerate(found):
            nursery.start_soon(redeem, one, 10 + number)
            nursery.start_soon(redeem, one, 50 + number)
            nursery.start_soon(one.top_up, 5, f"{one.id}:more")
    batch = tuple((one.channel, one.voucher(80)) for one in found[:3])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found[0].as_stranger, act.RedeemMany(batch))
        nursery.start_soon(found[3].close, 90)
    assert await found[0].tokens() == (DEPOSIT - 4 * 105 + 15, 3 * 80 + 90)
    assert [(await one.record()).remaining for one in found] == [25, 25, 25, 0]
    assert [(await one.record()).due for one in found] == [0, 0, 0, 0]
    books = await read_books(world.reader)
    assert (books.difference, await channels_difference(world.reader, books)) == (0, 0)


async def test_who_keeps_a_book_and_who_looks_later_compute_the_same_epoch(world: World) -> None:
    """Payments overtake each other and the word of them, and claims their transfers."""
    here, kept = Rewarding(world), dict[int, Statement]()

    async def visit(keeper: Bookkeeper, _: Head) -> bool:
        kept.update(keeper.statements)
        return False

    async def pay(to: AccountId, amount: int) -> None:
        await here.fund(amount + 1, audit={to: amount})

    async def claim(found: Statement, by: Signer) -> None:
        mine = await world.ledger(by)
        await mine.submit(act.ClaimRewards(here.claim_of(found, by.account)))

    people = [world.signer() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_book, world.reader, RULES, lambda _: None, visit)
        async with trio.open_nursery() as paying_:
            for number, one in enumerate(people):
                paying_.start_soon(pay, one.account, 10 + number)
                paying_.start_soon(pay, people[0].account, 5)
        epoch = await here.epoch_over()
        with trio.fail_after(60):
            while epoch not in kept:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    found = await here.statement(epoch)
    assert kept[epoch] == found
    assert (found.received, found.pot) == (46 + 4 + 4 * 6, 8)
    await here.propose(found)
    await here.delay_over()
    async with trio.open_nursery() as nursery:
        for one in people:
            nursery.start_soon(claim, found, one)
    assert [await here.tokens(one.account) for one in people] == [30, 11, 12, 13]
    assert (await world.reader.rewards()).paid == found.total == 66
    assert await here.tokens(here.contract) == found.pot


async def test_a_follower_tells_the_same_at_once_and_afterwards(world: World) -> None:
    head = await world.reader.head()
    start = Cursor(head.number, head.hash)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery, world.reader.follow(start) as batches:
            playing = await play(world, start=False)

            async def act_out() -> None:
                await playing.start()
                await playing.commit(0, 2)
                await playing.commit(1)
                await playing.finalise()

            nursery.start_soon(act_out)
            records: list[LedgerRecord] = []
            async for batch in batches:
                assert batch.rewind_to is None
                records += batch.records
                mine = [r for r in records if task_of(r.event) == playing.id]
                view = fold(mine)
                if view is not None and view.state is TaskState.COMPLETED:
                    break
            end = batch.cursor.number
    afterwards = await batches_until(world.reader, start, end)
    told = [r for one in afterwards for r in one.records if r.position.block <= end]
    assert told == records
    positions = [(r.position.block, r.position.index) for r in told]
    assert positions == sorted(set(positions))
    assert sum(isinstance(r.event, ResultCommitted) for r in mine) == 3
    assert await events_of(world, head.number + 1)
