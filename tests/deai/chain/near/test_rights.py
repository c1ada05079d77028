"""Keys that may not, and accounts that cannot pay."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.near.calls import operator_key, own_account
from deai.chain.near.keys import NearKey
from deai.chain.near.ledger import open_near_ledger
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import open_sender
from deai.chain.near.steps import NearCall, Send
from deai.errors import (
    InsufficientFunds,
    LedgerRejected,
)
from deai.hashing import keccak
from deai.ids import AccountId, near_node_id
from deai.money import Amount
from deai.signing import Ed25519Signer
from tests.deai.chain.near.faulty import IMPATIENT, funded, key_of, pay, through
from tests.deai.chain.near.harness import NEAR, NearChain, near_world, settings
from tests.deai.chain.proxy import PASS, open_proxy
from tests.support.channel_conformance import DEPOSIT, paying
from tests.support.ledger_conformance import refused

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


async def test_an_account_that_does_not_exist_has_no_money_for_gas(chain: NearChain) -> None:
    nobody = NearKey(AccountId("nobody.near"), Ed25519Signer(b"n" * 32))
    async with open_near_ledger(chain.entry, nobody, settings=settings()) as ledger:
        with pytest.raises(InsufficientFunds) as caught:
            await pay(ledger, chain.holder.account, 1, "x")
        assert (caught.value.name, caught.value.arguments["available"]) == ("GasMoney", 0)
        assert caught.value.hint


async def test_more_money_than_there_is_cannot_be_sent(chain: NearChain) -> None:
    signer = chain.signer()
    async with open_near_ledger(chain.entry, key_of(signer), settings=settings()) as ledger:
        action = act.TransferGas(chain.holder.account, Amount(2_000 * NEAR))
        await refused(ledger.submit(action), "GasMoney")
        await refused(ledger.simulate(action), "GasMoney")


async def test_a_key_that_the_account_does_not_have_is_forbidden(chain: NearChain) -> None:
    thief = NearKey(chain.holder.account, Ed25519Signer(b"t" * 32))
    async with open_near_ledger(chain.entry, thief, settings=settings()) as ledger:
        await refused(pay(ledger, AccountId("thief.near"), 1, "x"), "Forbidden")


async def test_a_nodes_key_moves_nothing_and_its_allowance_ends(chain: NearChain) -> None:
    owner, hot = await funded(chain), Ed25519Signer(b"h" * 32)
    node = near_node_id(owner.account, 0)
    operator = NearKey(owner.account, hot)
    async with AsyncExitStack() as stack:
        by_owner = await stack.enter_async_context(
            open_near_ledger(chain.entry, key_of(owner), settings=settings())
        )
        by_node = await stack.enter_async_context(
            open_near_ledger(chain.entry, operator, settings=settings())
        )
        await refused(by_node.submit(act.Heartbeat(node, 1)), "Forbidden")
        await by_owner.submit(act.TransferGas(hot.account, Amount(14 * 10**20)))
        assert (await by_node.balances(hot.account)).gas == 14 * 10**20
        before = await by_owner.balances(owner.account)
        for action in (
            act.TransferTokens(chain.holder.account, Amount(1)),
            act.Deposit(Amount(1)),
            act.WithdrawVault(chain.holder.account, Amount(1)),
            act.RequestUnstake(node, Amount(1)),
            act.TransferGas(chain.holder.account, Amount(1)),
            act.TransferGas(Ed25519Signer(b"x" * 32).account, Amount(1)),
            act.RotateOperator(node, hot.account, 1 << 39, bytes(64)),
        ):
            await refused(by_node.submit(action), "Forbidden", caller=owner.account)
        after = await by_owner.balances(owner.account)
        assert (after.tokens, after.gas) == (before.tokens, before.gas), "not even a fee"
        # It may beat, and is told by the contract that no such node is its own; that costs gas.
        await refused(by_node.submit(act.Heartbeat(node, 2)), "Forbidden")
        await refused(by_node.submit(act.Heartbeat(node, 3)), "GasMoney")
        # More for the same key, in place of what was left.
        await by_owner.submit(act.TransferGas(hot.account, Amount(10**24)), key="again")
        assert (await by_node.balances(hot.account)).gas == 10**24
        await refused(by_node.submit(act.Heartbeat(node, 3)), "Forbidden")


async def test_what_cannot_be_sent_anew_is_told_and_goes_out_when_it_can(
    chain: NearChain,
) -> None:
    owner, hot = await funded(chain), Ed25519Signer(b"r" * 32)
    beat = act.Heartbeat(near_node_id(owner.account, 0), 1)
    lost = trio.Event()

    async def forget_one(request: dict[str, Any]) -> object:
        if request["method"] == "send_tx" and not lost.is_set():
            lost.set()
            return {"result": {"final_execution_status": "NONE"}}
        return PASS

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(open_proxy(chain.rpc_url))
        by_owner = await stack.enter_async_context(
            open_near_ledger(chain.entry, key_of(owner), settings=settings())
        )
        await by_owner.submit(act.TransferGas(hot.account, Amount(NEAR)))
        operator = NearKey(owner.account, hot)
        by_node = await stack.enter_async_context(
            open_near_ledger(through(chain, proxy), operator, settings=IMPATIENT)
        )
        proxy.fault = forget_one

        async def try_in_vain() -> None:
            await refused(by_node.submit(beat), "GasMoney")

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(try_in_vain)
                await lost.wait()
                # The key begins anew with other nonces, and with nothing to spend.
                await by_owner.submit(act.TransferGas(hot.account, Amount(1)))
            await by_owner.submit(act.TransferGas(hot.account, Amount(NEAR)), key="more")
            await refused(by_node.submit(beat), "Forbidden")  # the contract's own answer


async def test_the_chain_itself_refuses_what_a_nodes_key_may_not(chain: NearChain) -> None:
    """The sender looks first; without that look the chain says the same."""
    owner, hot = await funded(chain), Ed25519Signer(b"c" * 32)
    compute = chain.entry.contracts["NodeRegistry"]
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool([chain.rpc_url], timeout=10))

        async def sender(by: NearKey) -> Any:
            opening = open_sender(pool, by, None, "test", settings=IMPATIENT)
            return await stack.enter_async_context(opening)

        grant = NearCall(None, (operator_key(hot.account, compute, NEAR),))
        await (await sender(key_of(owner))).send(grant, kind="Grant", key="grant")
        by_node = await sender(NearKey(owner.account, hot))
        allowed = await by_node.check(NearCall(compute, ()))

        async def let_all_pass(_: NearCall) -> Any:
            return allowed

        by_node.check = let_all_pass
        stolen = NearCall(chain.holder.account, (Send(1),))
        with pytest.raises(LedgerRejected) as caught:
            await by_node.send(stolen, kind="Theft", key="theft")
        assert caught.value.name == "Forbidden"


async def test_a_nodes_key_redeems_and_never_closes(chain: NearChain) -> None:
    """Whatever it earns goes to the owner; what it redeems with is its own small account's."""
    hot = Ed25519Signer(keccak(b"redeems"))
    async with near_world(chain) as world:
        one = await paying(world, deposit=1000)
        owner = await world.ledger(one.owner)
        await owner.submit(act.TransferGas(hot.account, Amount(NEAR)))
        owners = (await owner.balances(one.owner.account)).gas
        by = NearKey(one.owner.account, hot)
        own = own_account(hot.account)
        async with open_near_ledger(chain.entry, by, settings=settings()) as ledger:
            assert (await ledger.balances(own)).gas == NEAR // 10
            redeem = act.RedeemVoucher(one.channel, one.voucher(300))
            assert await ledger.simulate(redeem) > 0
            first = await ledger.submit(redeem)
            assert await ledger.submit(redeem) == first
            await ledger.submit(act.RedeemMany(((one.channel, one.voucher(500)),)))
            await refused(ledger.submit(redeem, key="again"), "NothingNew", claimed=500)
            assert await one.tokens() == (10 * DEPOSIT - 1000, 500)
            for action in (
                act.CloseChannel(one.channel, 1, one.voucher(600)),
                act.RequestClose(one.channel, 1),
                act.OpenChannel(one.channel.node, one.session.account, 1, Amount(1)),
                act.TopUpChannel(one.id, Amount(1)),
            ):
                await refused(ledger.submit(action), "Forbidden", caller=one.owner.account)
            # No yocto of it was the owner's, and a key that cannot redeem has little gas.
            assert (await owner.balances(one.owner.account)).gas == owners
            spent = NEAR // 10 - (await ledger.balances(own)).gas
            assert 0 < spent < NEAR // 100
            assert (await ledger.balances(hot.account)).gas == NEAR - 10 * spent
            # More for the same key fills both.
            await owner.submit(act.TransferGas(hot.account, Amount(NEAR)), key="more")
            assert (await ledger.balances(own)).gas == NEAR // 10
            assert (await ledger.balances(hot.account)).gas == NEAR


async def test_a_nodes_key_without_money_of_its_own_cannot_redeem(chain: NearChain) -> None:
    hot = Ed25519Signer(keccak(b"has nothing"))
    async with near_world(chain) as world:
        one = await paying(world, deposit=1000)
        by = NearKey(one.owner.account, hot)
        async with open_near_ledger(chain.entry, by, settings=settings()) as ledger:
            redeem = act.RedeemVoucher(one.channel, one.voucher(300))
            error = await refused(ledger.submit(redeem), "GasMoney", available=0)
            assert isinstance(error, InsufficientFunds)
            await one.as_owner(act.TransferGas(own_account(hot.account), Amount(NEAR // 10)))
            await ledger.submit(redeem)
        assert (await one.tokens())[1] == 300


async def test_a_redemption_whose_nonce_another_copy_spent_goes_out_again(
    chain: NearChain,
) -> None:
    """Nonces, deaths and hashes are those of the account that redeems, not of the owner."""
    hot, lost = Ed25519Signer(keccak(b"two copies")), trio.Event()

    async def forget_one(request: dict[str, Any]) -> object:
        if request["method"] == "send_tx" and not lost.is_set():
            lost.set()
            return {"result": {"final_execution_status": "NONE"}}
        return PASS

    async with near_world(chain) as world, open_proxy(chain.rpc_url) as proxy:
        one = await paying(world, deposit=1000)
        await one.redeem(1)  # the token knows the owner from now on
        await one.as_owner(act.TransferGas(hot.account, Amount(NEAR)))
        by, own = NearKey(one.owner.account, hot), own_account(hot.account)
        proxy.fault = forget_one
        entry = through(chain, proxy)
        with trio.fail_after(120):
            async with (
                open_near_ledger(entry, by, settings=IMPATIENT) as ledger,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(ledger.submit, one.redeeming(300))
                await lost.wait()
                other = NearKey(own, hot)
                async with open_near_ledger(chain.entry, other, settings=settings()) as second:
                    await second.submit(act.TransferGas(chain.holder.account, Amount(5)))
        assert (await one.tokens())[1] == 300
