"""What only rewards on NEAR do: money that nobody told of, claims that cannot arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.near.calls import encode_action
from deai.chain.near.keys import NearKey
from deai.chain.near.ledger import open_near_ledger
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import open_sender
from deai.chain.near.steps import AddKey, NearCall, Needs
from deai.claims import Reason
from deai.errors import LedgerRejected
from deai.hashing import keccak
from deai.money import Amount
from deai.signing import Ed25519Signer
from tests.deai.chain.near.faulty import key_of
from tests.deai.chain.near.harness import NEAR, NearChain, near_world, settings
from tests.support.ledger_conformance import refused
from tests.support.reward_conformance import Rewarding

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


@pytest.fixture
async def here(chain: NearChain) -> AsyncIterator[Rewarding]:
    async with near_world(chain) as world:
        yield Rewarding(world)


async def send(chain: NearChain, made: NearCall, key: str) -> None:
    """As a program that looks after nothing does it: what has to be there before is not."""
    bare = msgspec.structs.replace(made, needs=Needs())
    async with (
        open_pool([chain.rpc_url], timeout=30) as pool,
        open_sender(pool, key_of(chain.holder), None, f"bare {key}", settings=settings()) as sender,
    ):
        await sender.send(bare, kind="Bare", key=key)


async def test_a_plain_transfer_is_nobodys_and_no_root_may_promise_it(here: Rewarding) -> None:
    one = here.world.signer().account
    await here.fund(10, audit={one: 10})
    await here.as_holder(act.TransferTokens(here.contract, Amount(1_000)))
    found = await here.statement(await here.epoch_over())
    assert (found.received, found.pot, found.total) == (10, 0, 10)
    more = msgspec.structs.replace(found, total=Amount(11))
    ledger = await here.world.ledger(here.world.holder)
    for ask in (ledger.simulate, here.as_holder):
        await refused(ask(here.proposal(more)), "Unfunded", total=11, available=10)
    await here.propose(found)
    await here.delay_over()


async def test_a_payment_that_is_refused_comes_back_and_counts_for_nothing(
    chain: NearChain, here: Rewarding
) -> None:
    payer = here.world.holder.account
    before, held = await here.tokens(payer), await here.tokens(here.contract)
    good = act.FundRewards(Amount(9), Reason.POT, ())
    made = encode_action(good, here.world.reader.info.contracts)
    (step,) = made.steps
    for text in ("nonsense", '{"reason": 9, "shares": []}', '{"reason": 1, "shares": [["a", 1]]}'):
        arguments = {"receiver_id": here.contract, "amount": "9", "msg": text}
        wrong = msgspec.structs.replace(step, args=msgspec.json.encode(arguments))
        with pytest.raises(LedgerRejected, match="BadData"):
            await send(chain, msgspec.structs.replace(made, steps=(wrong,)), text)
    assert (await here.tokens(payer), await here.tokens(here.contract)) == (before, held)
    found = await here.statement(await here.epoch_over())
    assert found.received == 0


async def test_what_an_account_cannot_be_sent_it_can_claim_later(
    chain: NearChain, here: Rewarding
) -> None:
    one = here.world.signer().account  # the token has never heard of it
    await here.fund(30, audit={one: 30})
    found = await here.in_force()
    before = await here.world.reader.rewards()
    action = act.ClaimRewards(here.claim_of(found, one))
    made = encode_action(action, here.world.reader.info.contracts)
    with pytest.raises(LedgerRejected, match="Storage"):
        await send(chain, made, "without a deposit")
    (step,) = made.steps
    paying = msgspec.structs.replace(step, deposit=NEAR // 100)
    with pytest.raises(LedgerRejected, match="NotRegistered"):
        await send(chain, msgspec.structs.replace(made, steps=(paying,)), "with one")
    assert await here.world.reader.rewards() == before
    assert await here.world.reader.rewards_paid(one) == 0
    await here.as_holder(action)
    assert (await here.tokens(one), await here.world.reader.rewards_paid(one)) == (30, 30)


async def test_only_the_first_claim_of_an_account_costs_its_record(here: Rewarding) -> None:
    one, payer = here.world.signer(), here.world.signer()
    await here.world.fund(one.account, 1)  # the token knows it
    ledger = await here.world.ledger(payer)
    spent = []
    for amount in (5, 6):
        await here.fund(amount, audit={one.account: amount})
        found = await here.in_force()
        before = (await ledger.balances(payer.account)).gas
        await ledger.submit(act.ClaimRewards(here.claim_of(found, one.account)))
        spent.append(before - (await ledger.balances(payer.account)).gas)
    record = 10**21
    assert spent[0] - spent[1] > record // 2
    assert spent[1] < 2 * record


async def test_what_would_be_refused_is_told_before_it_is_sent(here: Rewarding) -> None:
    one, stranger = here.world.signer().account, here.world.signer()
    await here.fund(10, audit={one: 10})
    found = await here.statement(await here.epoch_over())
    ruler, theirs = await here.world.ledger(here.world.holder), await here.world.ledger(stranger)
    assert await ruler.simulate(here.proposal(found)) > 0
    await refused(theirs.simulate(here.proposal(found)), "Forbidden", caller=stranger.account)
    cancel = act.CancelRewards(found.epoch, found.root)
    await refused(ruler.simulate(cancel), "NothingWaits")
    claim = act.ClaimRewards(here.claim_of(found, one))
    await refused(theirs.simulate(claim), "BadProof")
    await here.propose(found)
    await refused(ruler.simulate(here.proposal(found)), "StillWaiting")
    await here.delay_over()
    assert await theirs.simulate(claim) > 0
    await here.as_holder(claim)
    await refused(theirs.simulate(claim), "NothingNew", claimed=10)
    wrong = act.FundRewards(Amount(5), Reason.AUDIT, ())
    await refused(ruler.simulate(wrong), "BadData")


async def test_a_key_for_proposing_alone_is_enough_to_propose(
    chain: NearChain, here: Rewarding
) -> None:
    """It can be kept where the program runs: it moves nothing."""
    key = Ed25519Signer(keccak(b"proposes only"))
    grant = AddKey(key.account, here.contract, ("propose",), NEAR)
    await send(chain, NearCall(None, (grant,)), "a key")
    one = here.world.signer().account
    await here.fund(10, audit={one: 10})
    found = await here.statement(await here.epoch_over())
    holder = NearKey(chain.holder.account, key)
    async with open_near_ledger(chain.entry, holder, settings=settings()) as ledger:
        await ledger.submit(here.proposal(found))
        cancel = act.CancelRewards(found.epoch, found.root)
        for other in (cancel, act.FundRewards(Amount(1), Reason.POT, ())):
            await refused(ledger.submit(other), "Forbidden")
    await here.delay_over()
    assert (await here.world.reader.rewards()).root == found.root
