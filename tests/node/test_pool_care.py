"""A node that takes delegations advances its own pool: when it is due, and once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import trio
import trio.testing
from rich.console import Console

from deai import actions as act
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.errors import LedgerRejected
from deai.events import BatchMatured, BatchStarted, IncomeShared
from deai.ids import AccountId, NodeId, owner_of
from deai.money import UNIT, Amount, Count
from deai.pools import PoolRecord, PoolState, pool_node
from deai.tasks import operate_digest
from node import documents, screens
from node.config import Pool
from node.ports import Ports
from node.services.pool import why_advance
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, peer, until
from tests.node.support.world import CONFIG, Provider, World, open_world

PARAMETERS = msgspec.structs.replace(DEFAULT_PARAMETERS, unbonding_seconds=400)
STAKE = int(PARAMETERS.min_stake)
PERIOD = 360
SETTINGS = Pool(advance_hours=PERIOD / 3600, advance_least="1CT")

T = TypeVar("T")
Clock = trio.testing.MockClock


def pool(**changed: Any) -> PoolRecord:
    values: dict[str, Any] = {
        "manager": AccountId("0x" + "11" * 20), "commission": 1000, "next_commission": 0,
        "next_commission_epoch": 0, "state": PoolState.OPEN, "batch": 3, "matures_at": 0,
        "assets": Amount(STAKE), "leaving": Amount(0), "unbonding": Amount(0), "shares": STAKE,
        "manager_shares": STAKE, "queued": 0, "leaving_shares": 0,
    }  # fmt: skip
    return PoolRecord(**{**values, **changed})


@pytest.mark.parametrize(
    ("record", "income", "price", "why"),
    [
        (pool(), 0, 0, ""),
        (pool(), UNIT - 1, 0, ""),
        (pool(), UNIT, 0, "share:2"),
        (pool(), UNIT, 11, ""),
        (pool(queued=5, matures_at=800), 0, 0, ""),
        (pool(queued=5, matures_at=799), 0, 11, "pay:799"),
        (pool(matures_at=800), UNIT, 0, "share:2"),
        (pool(matures_at=799, state=PoolState.CLOSING), 0, 0, "pay:799"),
    ],
)
def test_a_pool_is_advanced_for_who_waits_at_any_price_and_else_when_it_is_worth_it(
    record: PoolRecord, income: int, price: int, why: str
) -> None:
    settings = msgspec.structs.replace(SETTINGS, max_gas_price=10)
    found = why_advance(record, income, settings, chain_time=800, gas_price=price)
    assert found == why
    # What was shared out within a period waits, whatever the number of the period.
    soon = why_advance(
        record, income, settings, chain_time=800, gas_price=price, shared_at=800 - PERIOD + 1
    )
    assert soon == ("" if why.startswith("share") else why)


async def pooled(world: World, terms: Pool = SETTINGS, **settings: Any) -> Provider:
    """A node whose stake others may lend to, started."""
    manager, operator = key("manager"), key("pool operator")
    node = pool_node(world.chain.info.delegations, manager.account, 0)
    await world.fund(manager.account, 10 * STAKE)
    until_ = world.chain.now + 3600
    consent = operator.sign(
        operate_digest(world.chain.info.registry, node, operator.account, until_)
    )
    await world.chain.ledger(manager).submit(
        act.OpenPool(0, 1000, Amount(STAKE), operator.account, until_, consent, peer("pool"), ())
    )
    config = msgspec.structs.replace(CONFIG, pool=terms)
    made = Provider(
        world, "pool", world.folder / "pool", SmallBench(), config, node, operator, **settings
    )
    await made.start()
    return made


async def delegated(world: World, name: str, node: NodeId, amount: int = STAKE) -> None:
    await world.fund(key(name).account, amount)
    await world.chain.ledger(key(name)).submit(act.Delegate(node, Amount(amount)))


def told(world: World, kind: type[T]) -> list[T]:
    return [one.event for one in world.chain.records if isinstance(one.event, kind)]


def when(world: World, kind: type) -> list[int]:
    return [one.position.time for one in world.chain.records if isinstance(one.event, kind)]


@pytest.mark.world
async def test_income_is_shared_out_once_in_a_period_and_not_when_it_is_little(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path, PARAMETERS) as world:
        node = await pooled(world)
        owner = owner_of(node.node_id)
        await world.fund(owner, 1 + UNIT // 2)  # a unit stays there
        await trio.sleep(2 * PERIOD + PERIOD // 4)
        assert told(world, IncomeShared) == []
        assert node.live.pool_income == UNIT // 2
        await world.fund(owner, UNIT // 2)
        await until(lambda: bool(told(world, IncomeShared)))
        first = when(world, IncomeShared)[0]
        # More comes in the same period, and waits for the next one, also over a restart.
        await world.fund(owner, 2 * UNIT)
        await trio.sleep(40)
        await node.kill()
        await node.start()
        await until(lambda: len(told(world, IncomeShared)) == 2)
        again = when(world, IncomeShared)[1]
        assert again // PERIOD == first // PERIOD + 1
        assert sum(int(one.income) for one in told(world, IncomeShared)) == 3 * UNIT
        assert node.live.pool is not None
        await until(lambda: node.live.pool_income == 0)
        assert int(node.live.pool.assets) == STAKE + 3 * UNIT


@pytest.mark.world
async def test_income_waits_while_gas_costs_more_than_it_may(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path, PARAMETERS) as world:
        world.chain.gas_price = 11
        terms = msgspec.structs.replace(SETTINGS, max_gas_price=10)
        node = await pooled(world, terms)
        await world.fund(owner_of(node.node_id), 5 * UNIT)
        await trio.sleep(3 * PERIOD)
        assert told(world, IncomeShared) == []
        world.chain.gas_price = 10
        await until(lambda: bool(told(world, IncomeShared)))


@pytest.mark.world
async def test_batches_are_paid_and_started_without_anybodys_help(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path, PARAMETERS) as world:
        node = await pooled(world)
        for name in ("ann", "bob"):
            await delegated(world, name, node.node_id)
            ledger = world.chain.ledger(key(name))
            await ledger.submit(act.Undelegate(node.node_id, Count(STAKE)))
        assert len(told(world, BatchStarted)) == 1
        await until(lambda: len(told(world, BatchMatured)) == 2)
        assert len(told(world, BatchStarted)) == 2
        started, paid = when(world, BatchStarted), when(world, BatchMatured)
        assert all(
            400 < done - begun <= 400 + 35 for begun, done in zip(started, paid, strict=True)
        )
        assert started[1] == paid[0]
        reader = world.chain.ledger()
        for name in ("ann", "bob"):
            mine = await reader.delegation(node.node_id, key(name).account)
            assert mine.claimable == STAKE


@pytest.mark.world
async def test_a_pool_that_cannot_be_advanced_is_a_problem_until_it_can(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    refusals = [2]
    keys = []

    def wrap(ports: Ports) -> Ports:
        real = ports.ledger.submit

        async def submit(action: act.Action, *, key: str = "") -> Any:
            if isinstance(action, act.AdvancePool):
                keys.append(key)
                if refusals[0]:
                    refusals[0] -= 1
                    raise LedgerRejected("IsPaused")
            return await real(action, key=key)

        ports.ledger.submit = submit  # type: ignore[method-assign]
        return ports

    async with open_world(tmp_path, PARAMETERS) as world:
        node = await pooled(world, wrap=wrap)
        await world.fund(owner_of(node.node_id), 5 * UNIT)
        await until(lambda: "advance_failed" in node.live.problems)
        assert any(one["code"] == "advance_failed" for one in documents.problems(node.whole))
        await until(lambda: "advance_failed" not in node.live.problems)
        assert len(told(world, IncomeShared)) == 1
        # What the chain refused is another intent when it is tried again.
        assert len(set(keys)) == len(keys) == 3


@pytest.mark.world
async def test_a_node_says_whose_its_money_is(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path, PARAMETERS) as world:
        node = await pooled(world)
        await delegated(world, "ann", node.node_id)
        await world.fund(owner_of(node.node_id), 1 + UNIT // 2)
        await until(lambda: node.live.pool is not None and node.live.pool.delegated == STAKE)
        document = await documents.status(node.whole)
        found = document["pool"]
        assert (found["own"], found["delegated"], found["income"]) == (
            str(STAKE), str(STAKE), str(UNIT // 2),
        )  # fmt: skip
        assert (found["manager"], found["commission_bps"]) == (key("manager").account, 1000)
        earned = await documents.earnings(node.whole)
        assert earned["manager"] == key("manager").account
        console = Console(record=True, width=200)
        screens.status(console, document)
        screens.earnings(console, earned)
        text = console.export_text()
        assert "0.500000 CT not shared out yet" in text
        assert "Wallet" not in text
        assert f"a commission to its manager {key('manager').account}" in text
        assert document["stake"] == str(2 * STAKE)


@pytest.mark.world
async def test_the_end_of_a_pool_is_a_problem_of_its_node(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path, PARAMETERS) as world:
        node = await pooled(world)
        await world.chain.ledger(key("manager")).submit(act.ClosePool(node.node_id))
        await until(lambda: "pool_closed" in node.live.problems)
        assert "not_assignable" not in node.live.problems
        # It pays everybody out at the end, too.
        await until(lambda: node.live.pool is not None and node.live.pool.state is PoolState.CLOSED)
        mine = await world.chain.ledger().delegation(node.node_id, key("manager").account)
        assert mine.claimable == STAKE


@pytest.mark.world
async def test_an_ordinary_node_has_no_pool_to_look_after(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path, PARAMETERS) as world:
        node = await world.provider("plain")
        await world.fund(owner_of(node.node_id), 5 * UNIT)
        await trio.sleep(2 * PERIOD)
        document = await documents.status(node.whole)
        assert (document["pool"], told(world, IncomeShared)) == (None, [])
        assert "manager" not in await documents.earnings(node.whole)
