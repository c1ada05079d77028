"""What the ledger in memory offers beyond the port: time, pauses, outages, reorganisations."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from deai import actions as act
from deai.chain.memory import MemoryChain
from deai.chain.memory_state import Overlay
from deai.errors import LedgerRejected, LedgerUnreachable
from deai.events import LedgerRecord
from deai.money import UNIT, Amount
from rewards.rules import RULES
from tests.deai.chain.conftest import memory_world
from tests.support.ledger_conformance import client, play, provider, refused, registration


async def test_time_stands_still_until_it_is_advanced() -> None:
    world, chain = memory_world()
    before = await world.now()
    await provider(world)
    assert await world.now() == before
    chain.advance(90)
    assert await world.now() == before + 90
    assert (await world.reader.head()).time == before + 90


async def test_another_clock_moves_the_chain() -> None:
    now = [1_000.9]
    world, _ = memory_world()
    chain = MemoryChain(RULES, holder=world.holder.account, clock=lambda: now[0])
    ledger = chain.ledger()
    first = await ledger.head()
    assert first.time == 1_000
    now[0] += 60
    second = await ledger.head()
    assert (second.time, second.number) == (1_060, first.number + 1)


async def test_a_pause_stops_new_work_and_nothing_else() -> None:
    world, chain = memory_world()
    running = await play(world)
    posted = await play(world, start=False, payer=running.client, lane=1)
    await posted.post()
    chain.set_paused(True)
    owner, operator = world.signer(), world.signer()
    await world.fund(owner.account, 1000 * UNIT)
    ledger = await world.ledger(owner)
    await refused(ledger.submit(act.Deposit(Amount(5))), "IsPaused")
    await refused(ledger.submit(registration(world, owner, operator)), "EnforcedPause")
    await refused(posted.assign(), "IsPaused")
    other = await play(world, start=False, providers=posted.providers, payer=running.client, lane=2)
    await refused(other.post(), "IsPaused")
    await running.commit(0, 1, 2)
    await running.finalise()
    account = running.client.account
    await running.as_client(act.WithdrawVault(account, Amount(UNIT)))
    await posted.as_client(act.CancelTask(posted.task))
    chain.set_paused(False)
    await ledger.submit(act.Deposit(Amount(5)))


async def test_an_outage_is_unreachable_and_followers_wait_for_its_end() -> None:
    world, chain = memory_world()
    async with world.reader.follow(None) as batches:
        assert (await anext(batches)).records
        chain.set_reachable(False)
        for call in (world.reader.head(), world.reader.parameters()):
            with pytest.raises(LedgerUnreachable):
                await call
        got: list[object] = []

        async def follow() -> None:
            got.append(await anext(batches))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            assert not got
            chain.set_reachable(True)


async def test_a_reorganisation_is_told_as_a_rewind() -> None:
    world, chain = memory_world()
    account = await client(world)
    restore = chain.snapshot()
    fork = (await world.reader.head()).number
    ledger = await world.ledger(account)
    async with world.reader.follow(None) as batches:
        seen: list[LedgerRecord] = list((await anext(batches)).records)
        await ledger.submit(act.WithdrawVault(account.account, Amount(UNIT)))
        seen += (await anext(batches)).records
        restore()
        await ledger.submit(act.WithdrawVault(account.account, Amount(2 * UNIT)))
        batch = await anext(batches)
        assert batch.rewind_to is not None
        assert batch.rewind_to <= fork
        seen = [r for r in seen if r.position.block <= batch.rewind_to] + list(batch.records)
    assert tuple(seen) == chain.records


async def test_a_refused_transaction_leaves_no_trace() -> None:
    world, chain = memory_world()
    playing = await play(world, start=False)
    vault = (await world.reader.balances(playing.client.account)).vault
    records = chain.records
    wrong = playing.accepts()[:2]
    with pytest.raises(LedgerRejected):
        await playing.as_client(act.PostAndAssign(playing.task, wrong))
    assert (await world.reader.balances(playing.client.account)).vault == vault
    assert chain.records == records
    assert not (await world.reader.lane(playing.client.account, 0)).is_busy


def test_an_overlay_takes_effect_at_once_or_never() -> None:
    below = {"a": 1, "b": 2}
    over = Overlay(below)
    over["b"], over["c"] = 3, 4
    assert dict(over) == {"a": 1, "b": 3, "c": 4}
    assert (len(over), below) == (3, {"a": 1, "b": 2})
    with pytest.raises(TypeError):
        del over["a"]
    over.merge()
    assert below == {"a": 1, "b": 3, "c": 4}
