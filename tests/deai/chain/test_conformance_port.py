"""Intents, reading and following: the same on the ledger in memory and on real chains."""

from __future__ import annotations

import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Cursor, PricesGas
from deai.chain.tasks_view import fold, task_of
from deai.errors import InsufficientFunds, LedgerRejected
from deai.events import (
    Deposited,
    FeesSwept,
    LedgerRecord,
    NodeRegistered,
    StakeAdded,
    StakeWithdrawn,
    TokensMoved,
    VaultWithdrawn,
)
from deai.ids import AccountId
from deai.money import UNIT, Amount
from tests.support.ledger_conformance import (
    WRONG,
    World,
    batches_until,
    key_of,
    play,
    refused,
    words,
)


async def test_the_same_intent_has_one_effect(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, 10 * UNIT)
    ledger = await world.ledger(signer)
    action = act.TransferTokens(other.account, Amount(UNIT))
    first = await ledger.submit(action, key="rent of May")
    assert await ledger.submit(action, key="rent of May") == first
    done: list[str] = []

    async def pay() -> None:
        done.append((await ledger.submit(action, key="rent of June")).hash)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pay)
    assert len(set(done)) == 1
    assert (await world.reader.balances(other.account)).tokens == 2 * UNIT


async def test_the_price_of_gas_is_that_of_transactions(world: World) -> None:
    reader = world.reader
    if not isinstance(reader, PricesGas):
        assert world.name == "near"  # whose last transaction tells
        return
    signer = world.signer()
    await world.fund(signer.account, UNIT)
    ledger = await world.ledger(signer)
    done = await ledger.submit(act.TransferTokens(signer.account, Amount(1)), key="to myself")
    price = await reader.gas_price()
    assert price * 9 // 10 <= done.gas_price <= 2 * price + 10**9


async def test_a_refused_intent_may_be_tried_again(world: World) -> None:
    signer = world.signer()
    ledger = await world.ledger(signer)
    action = act.Deposit(Amount(UNIT))
    await refused(ledger.submit(action, key="deposit"), "ERC20InsufficientBalance")
    await world.fund(signer.account, UNIT)
    await ledger.submit(action, key="deposit")
    assert (await world.reader.balances(signer.account)).vault == UNIT


async def test_of_two_intents_that_exclude_each_other_one_takes_effect(world: World) -> None:
    signer = world.signer()
    await world.fund(signer.account, UNIT)
    ledger = await world.ledger(signer)
    action = act.Deposit(Amount(UNIT))
    refusals: dict[str, LedgerRejected] = {}

    async def deposit(key: str) -> None:
        try:
            await ledger.submit(action, key=key)
        except LedgerRejected as error:
            refusals[key] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deposit, "one")
        nursery.start_soon(deposit, "two")
    (failed,) = refusals
    assert refusals[failed].name == "ERC20InsufficientBalance"
    assert isinstance(refusals[failed], InsufficientFunds)
    assert (await world.reader.balances(signer.account)).vault == UNIT
    await world.fund(signer.account, UNIT)
    await ledger.submit(action, key=failed)
    assert (await world.reader.balances(signer.account)).vault == 2 * UNIT


async def test_many_transactions_of_one_account_may_be_in_flight(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, 100 * UNIT)
    ledger = await world.ledger(signer)

    async def pay(number: int) -> None:
        await ledger.submit(act.TransferTokens(other.account, Amount(number)), key=f"n{number}")

    async with trio.open_nursery() as nursery:
        for number in range(1, 31):
            nursery.start_soon(pay, number)
    assert (await world.reader.balances(other.account)).tokens == 465


async def test_simulating_changes_nothing(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, UNIT)
    ledger = await world.ledger(signer)
    assert await ledger.simulate(act.TransferTokens(other.account, Amount(UNIT))) >= 0
    assert (await world.reader.balances(other.account)).tokens == 0


async def test_a_reader_cannot_send(world: World) -> None:
    assert world.reader.account is None
    with pytest.raises(LedgerRejected):
        await world.reader.submit(act.Deposit(Amount(1)))


async def test_a_key_speaks_for_its_own_account_alone(world: World) -> None:
    owner, other = world.signer(), world.signer()
    key, strangers = key_of(owner), key_of(other)
    hot = world.operator(owner)
    for actor in (owner, other, hot):
        await world.ledger(actor)  # on NEAR this makes the accounts and the hot key

    assert await world.reader.speaks_for(owner.account, key)
    assert not await world.reader.speaks_for(owner.account, strangers)
    assert not await world.reader.speaks_for(other.account, key)
    assert not await world.reader.speaks_for(owner.account, hot.account)


async def test_no_key_speaks_for_an_account_that_is_not_there(world: World) -> None:
    name = AccountId("0x" + "97" * 20 if world.name != "near" else "nobody-ever.near")

    assert not await world.reader.speaks_for(name, key_of(world.signer()))


async def test_following_goes_on_from_a_cursor_without_gap_or_repetition(world: World) -> None:
    playing = await play(world)
    await playing.commit(0)
    middle = await batches_until(world.reader, None, (await playing.view()).updated.block)
    await playing.commit(1, 2)
    await playing.finalise()
    until = (await playing.view()).updated.block
    rest = await batches_until(world.reader, middle[-1].cursor, until)
    everything = await batches_until(world.reader, None, until)
    flat = [r for batch in (*middle, *rest) for r in batch.records]
    whole = [r for batch in everything for r in batch.records if r.position.block <= until]
    flat = [r for r in flat if r.position.block <= until]
    assert flat == whole
    positions = [(r.position.block, r.position.index) for r in whole]
    assert positions == sorted(set(positions))
    assert all(batch.rewind_to is None for batch in (*middle, *rest, *everything))
    mine = [r for r in whole if task_of(r.event) == playing.id]
    assert fold(mine) == await playing.view()
    transaction = (await playing.view()).updated.transaction
    assert {r.position.block_hash for r in mine if r.position.transaction == transaction}


async def test_followers_see_new_events_and_learn_the_head_when_idle(world: World) -> None:
    signer = world.signer()
    with trio.fail_after(200):
        start = await batches_until(world.reader, None, (await world.reader.head()).number)
        async with world.reader.follow(start[-1].cursor) as batches:
            await world.fund(signer.account, 3)
            seen: list[LedgerRecord] = []
            async for batch in batches:
                assert batch.head.number >= batch.cursor.number
                seen += batch.records
                if any(signer.account in words(r) for r in seen):
                    break
            await world.advance(5)
            now = await world.now()
            async for batch in batches:
                if batch.head.time >= now:
                    break


async def test_a_cursor_of_another_chain_starts_over(world: World) -> None:
    head = await world.reader.head()
    batches = await batches_until(world.reader, Cursor(head.number, "0x" + "99" * 32), head.number)
    assert batches[0].rewind_to == world.reader.info.deployed_at - 1
    assert [r.event for r in batches[0].records if isinstance(r.event, TokensMoved)]


async def test_all_tokens_are_somewhere(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2, digests={2: WRONG})
    await playing.finalise(stranger=True)
    await playing.as_stranger(act.SweepFees(playing.client.account, (0,), 1))
    until = (await world.reader.head()).number
    batches = await batches_until(world.reader, None, until)
    records = [record for batch in batches for record in batch.records]
    held: dict[str, int] = {}
    for record in records:
        if isinstance(event := record.event, TokensMoved):
            held[event.sender] = held.get(event.sender, 0) - event.amount
            held[event.receiver] = held.get(event.receiver, 0) + event.amount
    assert sum(held.values()) == 0
    for account, expected in held.items():
        if account not in ("0x" + "00" * 20, "system"):
            balances = await world.reader.balances(account)  # type: ignore[arg-type]
            assert balances.tokens == expected >= 0
    contracts = world.reader.info.contracts
    together = contracts["TaskEscrow"] == contracts["NodeRegistry"]
    flows = sum(_vault_flow(record, together) for record in records)
    assert held[contracts["TaskEscrow"]] == flows


def _vault_flow(record: LedgerRecord, together: bool) -> int:
    """What an event moved into the escrow; `together`: stakes and the treasury are there too."""
    match record.event:
        case Deposited(amount=amount):
            return int(amount)
        case VaultWithdrawn(amount=amount):
            return -int(amount)
        case FeesSwept(amount=amount):
            return 0 if together else -int(amount)
        case NodeRegistered(stake=amount) | StakeAdded(added=amount):
            return int(amount) if together else 0
        case StakeWithdrawn(amount=amount):
            return -int(amount) if together else 0
        case _:
            return 0  # moves inside the escrow
