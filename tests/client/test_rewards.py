"""Epochs computed from a chain: what is asked too early, replaced blocks, a silent endpoint."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Cursor, EventBatch
from deai.chain.memory import MemoryChain, MemoryLedger
from deai.claims import Reason, Share
from deai.client.rewards import claim_under, read_history
from deai.errors import LedgerUnreachable, ProtocolError, UsageError
from deai.ids import AccountId
from deai.money import Amount
from rewards.rules import RULES
from tests.client.support.world import PARAMETERS, signer

ONE, TWO = (AccountId(f"0x{n:040x}") for n in (1, 2))
HOLDER = signer("holder").account


@pytest.fixture
async def chain() -> MemoryChain:
    """Five base units for an account, in an epoch that is over."""
    made = MemoryChain(RULES, holder=HOLDER, parameters=PARAMETERS)
    shares = (Share(ONE, Amount(5)),)
    await made.ledger(HOLDER).submit(act.FundRewards(Amount(9), Reason.AUDIT, shares))
    made.advance(PARAMETERS.epoch_seconds)
    return made


def last(chain: MemoryChain) -> int:
    return chain.now // PARAMETERS.epoch_seconds - 1


class Disturbed(MemoryLedger):
    """Followed, it says nothing, or that blocks were replaced."""

    rewinds = False

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        async with super().follow(cursor) as batches:
            disturbed = self._disturbed(batches)
            try:
                yield disturbed
            finally:
                await disturbed.aclose()

    async def _disturbed(
        self, batches: AsyncIterator[EventBatch]
    ) -> AsyncGenerator[EventBatch, None]:
        async for batch in batches:
            if not self.rewinds:
                await trio.sleep_forever()
            yield msgspec.structs.replace(batch, rewind_to=1)


async def test_an_epoch_is_computed_and_claimed_from(chain: MemoryChain) -> None:
    epoch = last(chain)
    history = await read_history(chain.ledger(), RULES, {epoch, epoch - 1})
    found = history.statements[epoch]
    assert (found.received, found.pot, found.total) == (9, 4, 5)
    assert history.statements[epoch - 1].leaves == ()
    one = claim_under(found, found.root, ONE)
    assert one is not None
    assert one.cumulative_amount == 5
    assert claim_under(found, found.root, TWO) is None
    with pytest.raises(ProtocolError, match="not what the chain's events say"):
        claim_under(found, b"\x13" * 32, ONE)


async def test_what_was_proposed_for_an_epoch_last_is_told(chain: MemoryChain) -> None:
    epoch, ledger = last(chain), chain.ledger(HOLDER)
    for root in (b"\x01" * 32, b"\x02" * 32):
        await ledger.submit(act.ProposeRewards(epoch, root, Amount(5), bytes(32)))
        seen = (await read_history(ledger, RULES, {epoch})).told[epoch]
        assert (seen.proposal.root, seen.is_cancelled) == (root, False)
        await ledger.submit(act.CancelRewards(epoch, root))
        assert (await read_history(ledger, RULES, {epoch})).told[epoch].is_cancelled


@pytest.mark.parametrize("ahead", [1, 2])
async def test_an_epoch_that_is_not_over_is_refused(chain: MemoryChain, ahead: int) -> None:
    with pytest.raises(UsageError, match="is not over"):
        await read_history(chain.ledger(), RULES, {last(chain) + ahead})


@pytest.mark.parametrize(("rewinds", "why"), [(True, "replaced blocks"), (False, "stopped coming")])
async def test_a_disturbed_reading_is_never_taken_for_an_epoch(
    chain: MemoryChain, autojump_clock: trio.testing.MockClock, rewinds: bool, why: str
) -> None:
    ledger = Disturbed(chain, None)
    ledger.rewinds = rewinds
    with pytest.raises(LedgerUnreachable, match=why):
        await read_history(ledger, RULES, {last(chain)})
