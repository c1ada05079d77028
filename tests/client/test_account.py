"""One account for several commands: the outbox is held only while something is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from deai.actions import Deposit, TransferTokens
from deai.chain.ledger import Ledger
from deai.client.account import LINGER, PATIENCE, TurnTaking
from deai.errors import ConfigError, InsufficientFunds
from deai.money import UNIT, Amount
from tests.client.support.world import World, open_world


class Outbox:
    """A lock that one holder at a time may have, as the file of an outbox is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_taken = False
        self.opened = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ledger]:
        if self.is_taken:
            raise ConfigError("in use", code="outbox_in_use")
        self.is_taken = True
        self.opened += 1
        try:
            yield self.world.chain.ledger(self.world.payer)
        finally:
            self.is_taken = False


def shared(world: World, outbox: Outbox, nursery: trio.Nursery) -> TurnTaking:
    reader = world.chain.ledger()
    return TurnTaking(reader, world.payer.account, outbox.open, nursery)


async def test_two_commands_of_one_account_send_in_turns(autojump_clock: MockClock) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        outbox = Outbox(world)
        first, second = (shared(world, outbox, nursery) for _ in range(2))

        async def send(ledger: TurnTaking, number: int) -> None:
            await ledger.submit(Deposit(Amount(UNIT)), key=f"deposit {number}")

        async with trio.open_nursery() as senders:
            for number in range(6):
                senders.start_soon(send, (first, second)[number % 2], number)
        assert (await first.balances(world.payer.account)).vault == 6 * UNIT
        await trio.sleep(3 * LINGER)
        assert not outbox.is_taken


async def test_transactions_that_follow_each_other_share_one_opening(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        outbox = Outbox(world)
        ledger = shared(world, outbox, nursery)
        for number in range(5):
            await ledger.submit(Deposit(Amount(UNIT)), key=f"{number}")
        assert outbox.opened == 1


async def test_an_outbox_that_stays_taken_is_an_error_after_a_while(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        outbox = Outbox(world)
        outbox.is_taken = True
        began = trio.current_time()
        with pytest.raises(ConfigError):
            await shared(world, outbox, nursery).submit(Deposit(Amount(UNIT)))
        assert trio.current_time() - began >= PATIENCE


async def test_what_the_contract_refuses_reaches_the_caller_and_the_next_one_may_send(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        ledger = shared(world, Outbox(world), nursery)
        with pytest.raises(InsufficientFunds):
            await ledger.submit(TransferTokens(world.payer.account, Amount(10**9 * UNIT)))
        await ledger.submit(Deposit(Amount(UNIT)))
