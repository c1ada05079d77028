"""Endpoints that fail, forget, lie or lag; keys that may not; transactions that expire."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.ledger import Cursor
from deai.chain.near.calls import NearCall, Send, operator_key
from deai.chain.near.keys import NearKey
from deai.chain.near.ledger import NearLedger, open_near_ledger
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import VALID_FOR_BLOCKS, SenderSettings, open_sender
from deai.errors import (
    ConfigError,
    InsufficientFunds,
    LedgerRejected,
    LedgerUnreachable,
)
from deai.events import LedgerRecord, TokensMoved
from deai.ids import AccountId, near_node_id
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from deai.signing import Ed25519Signer
from tests.deai.chain.near.harness import NEAR, Actor, NearChain, settings
from tests.deai.chain.proxy import PASS, Broken, Proxy, Status, down, healthy, open_proxy, slow
from tests.support.ledger_conformance import refused

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]

IMPATIENT = SenderSettings(poll_s=0.03, stuck_s=0.5, dead_s=0.5, patience_s=60)


def through(chain: NearChain, *proxies: Proxy, direct: bool = False) -> ChainEntry:
    urls = tuple(proxy.url for proxy in proxies) + ((chain.rpc_url,) if direct else ())
    return msgspec.structs.replace(chain.entry, rpc_urls=urls)


def key_of(actor: Actor) -> NearKey:
    return NearKey(actor.account, actor.key)


async def pay(ledger: NearLedger, to: AccountId, amount: int, key: str) -> str:
    return (await ledger.submit(act.TransferTokens(to, Amount(amount)), key=key)).hash


async def funded(chain: NearChain) -> Actor:
    signer = chain.signer()
    bank = key_of(chain.holder)
    async with open_near_ledger(chain.entry, bank, settings=settings()) as ledger:
        await pay(ledger, signer.account, 1000 * UNIT, f"fund {signer.account}")
    return signer


async def tokens(chain: NearChain, account: AccountId) -> int:
    async with open_near_ledger(chain.entry) as reader:
        return (await reader.balances(account)).tokens


async def status_429(_: dict[str, Any]) -> object:
    raise Status(429)


async def status_408(_: dict[str, Any]) -> object:
    raise Status(408)


async def timed_out(_: dict[str, Any]) -> object:
    return {"error": {"name": "HANDLER_ERROR", "cause": {"name": "TIMEOUT_ERROR"}}}


@pytest.mark.parametrize("fault", [down, status_408, status_429, timed_out, slow(5)])
async def test_a_broken_endpoint_is_passed_over(chain: NearChain, fault: Any) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        entry = through(chain, proxy, direct=True)
        async with open_near_ledger(
            entry, key_of(signer), settings=IMPATIENT, timeout=0.5
        ) as ledger:
            proxy.fault = fault
            for number in range(3):
                await pay(ledger, to, 10**number, f"{number}")
            assert (await ledger.balances(to)).tokens == 111
            asked = sum(proxy.asked.values())
            for _ in range(20):
                await ledger.head()
            assert sum(proxy.asked.values()) - asked <= 5, "a resting endpoint is left alone"
            assert ledger.pool.health[0].failures > 0


async def test_no_answer_at_all_is_unreachable_and_passes(chain: NearChain) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT, timeout=1
        ) as ledger:
            proxy.fault = down
            with pytest.raises(LedgerUnreachable, match="no endpoint") as caught:
                await ledger.head()
            assert caught.value.hint
            with pytest.raises(LedgerUnreachable):
                await pay(ledger, to, 1, "a")
            proxy.fault = healthy
            await pay(ledger, to, 1, "a")
    assert await tokens(chain, to) == 1


async def test_the_same_bytes_go_out_again_until_the_chain_knows_them(chain: NearChain) -> None:
    signer, to = await funded(chain), chain.signer().account
    sent: list[str] = []

    async def forgetful(request: dict[str, Any]) -> object:
        if request["method"] == "send_tx":
            sent.append(request["params"]["signed_tx_base64"])
            if len(sent) < 3:
                return {"result": {"final_execution_status": "NONE"}}
        return PASS

    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT
        ) as ledger:
            proxy.fault = forgetful
            with trio.fail_after(30):
                await pay(ledger, to, 7, "forgotten")
    assert len(sent) >= 3
    assert len(set(sent)) == 1
    assert await tokens(chain, to) == 7


async def test_failing_calls_lose_and_repeat_nothing(chain: NearChain) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT
        ) as ledger:
            calls = 0

            def gate() -> None:
                nonlocal calls
                calls += 1
                if calls % 4 == 0:
                    raise Broken if calls % 8 else Status(503)

            proxy.gate = gate

            async def send(number: int) -> None:
                while True:
                    try:
                        await pay(ledger, to, 1 << number, f"n{number}")
                    except LedgerUnreachable:
                        continue  # the caller tries the same intent again
                    return

            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    for number in range(10):
                        nursery.start_soon(send, number)
    assert await tokens(chain, to) == (1 << 10) - 1, "each amount arrived exactly once"


async def test_nothing_is_lost_or_repeated_when_the_chain_is_killed(chain: NearChain) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_near_ledger(chain.entry, key_of(signer), settings=IMPATIENT) as ledger:

        async def send(number: int) -> None:
            while True:
                try:
                    await pay(ledger, to, 1 << number, f"k{number}")
                except LedgerUnreachable:
                    continue  # the caller tries the same intent again
                return

        with trio.fail_after(90):
            for first in (0, 4, 8):
                async with trio.open_nursery() as nursery:
                    for number in range(first, first + 4):
                        nursery.start_soon(send, number)
                    await trio.to_thread.run_sync(chain.kill)
                    await trio.to_thread.run_sync(chain.start_again)
        assert (await ledger.balances(to)).tokens == (1 << 12) - 1


async def test_a_nonce_that_somebody_else_spent_is_given_up(chain: NearChain) -> None:
    signer, to, other = await funded(chain), chain.signer().account, chain.signer().account
    lost = trio.Event()

    async def forget_one(request: dict[str, Any]) -> object:
        if request["method"] == "send_tx" and not lost.is_set():
            lost.set()
            return {"result": {"final_execution_status": "NONE"}}
        return PASS

    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT
        ) as ledger:
            proxy.fault = forget_one
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pay, ledger, to, 3, "mine")
                    await lost.wait()
                    async with open_near_ledger(
                        chain.entry, key_of(signer), settings=settings()
                    ) as second:
                        await pay(second, other, 4, "theirs")
    assert await tokens(chain, to) == 3
    assert await tokens(chain, other) == 4


async def test_a_transaction_that_expired_is_dated_anew_and_arrives_once(
    chain: NearChain,
) -> None:
    signer, to = await funded(chain), chain.signer().account
    lost, late = trio.Event(), False
    sent: list[str] = []

    async def forget(request: dict[str, Any]) -> object:
        if request["method"] == "send_tx":
            sent.append(request["params"]["signed_tx_base64"])
            if not late:
                lost.set()
                return {"result": {"final_execution_status": "NONE"}}
        return PASS

    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT
        ) as ledger:
            proxy.fault = forget
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pay, ledger, to, 3, "late")
                    await lost.wait()
                    skip = {"delta_height": VALID_FOR_BLOCKS + 1, "seconds": 1}
                    await trio.to_thread.run_sync(chain.ask, "sandbox_fast_forward", skip)
                    late = True
    assert len(set(sent)) == 2, "the old bytes, and one new date"
    assert await tokens(chain, to) == 3


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

        with trio.fail_after(30):
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


async def test_an_endpoint_with_a_false_head_is_not_believed(chain: NearChain) -> None:
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))

        def tamper(request: dict[str, Any], result: Any) -> Any:
            if request["method"] == "block" and request["params"] == {"finality": "final"}:
                header = {**result["header"], "height": result["header"]["height"] + 1000}
                return {**result, "header": header}
            return result

        liar.tamper = tamper
        ledger = await stack.enter_async_context(
            open_near_ledger(through(chain, liar, direct=True))
        )
        await ledger.pool.compare()
        assert ledger.pool.health[0].distrusted_until > trio.current_time()
        assert ledger.pool.health[1].distrusted_until <= trio.current_time()


async def follow_until(
    ledger: NearLedger, cursor: Cursor | None, block: int
) -> tuple[list[LedgerRecord], Cursor]:
    found: list[LedgerRecord] = []
    with trio.fail_after(30):
        async with ledger.follow(cursor) as batches:
            async for batch in batches:
                if batch.rewind_to is not None:
                    found = [r for r in found if r.position.block <= batch.rewind_to]
                found += batch.records
                if batch.cursor.number >= block:
                    return found, batch.cursor
    raise AssertionError


def forging(request: dict[str, Any], result: Any) -> Any:
    """Every sum of a token's event is ten times what it was."""
    if request["method"] != "tx" or "receipts_outcome" not in result:
        return result
    text = msgspec.json.encode(result).decode().replace('\\"amount\\":\\"', '\\"amount\\":\\"1')
    return msgspec.json.decode(text)


async def test_forged_events_are_outvoted_by_two_honest_endpoints(chain: NearChain) -> None:
    await funded(chain)
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))
        honest = await stack.enter_async_context(open_proxy(chain.rpc_url))
        liar.tamper = forging
        reader = await stack.enter_async_context(open_near_ledger(chain.entry))
        until = (await reader.head()).number
        cursor = Cursor(until - 40, "")
        truth, _ = await follow_until(reader, cursor, until)
        assert any(isinstance(r.event, TokensMoved) for r in truth)
        ledger = await stack.enter_async_context(
            open_near_ledger(through(chain, liar, honest, direct=True))
        )
        told, _ = await follow_until(ledger, cursor, until)
        assert told == truth


async def test_nothing_is_told_while_two_endpoints_contradict_each_other(
    chain: NearChain,
) -> None:
    await funded(chain)
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))
        liar.tamper = forging
        ledger = await stack.enter_async_context(
            open_near_ledger(through(chain, liar, direct=True))
        )
        cursor = Cursor((await ledger.head()).number - 10, "")
        batches = await stack.enter_async_context(ledger.follow(cursor))
        with trio.move_on_after(1.5):
            async for batch in batches:
                assert not batch.records, "a sum that only one of two endpoints knows"
        assert liar.asked["tx"] > 0


async def test_following_survives_failing_endpoints(chain: NearChain) -> None:
    await funded(chain)
    async with open_near_ledger(chain.entry) as reader:
        until = (await reader.head()).number
        truth, _ = await follow_until(reader, Cursor(until - 40, ""), until)
    async with open_proxy(chain.rpc_url) as proxy:
        calls = 0

        def gate() -> None:
            nonlocal calls
            calls += 1
            if calls % 5 == 0:
                raise Status(503)

        async with open_near_ledger(through(chain, proxy)) as ledger:
            proxy.gate = gate
            told, _ = await follow_until(ledger, Cursor(until - 40, ""), until)
    assert told == truth


@pytest.mark.parametrize("missing", ["block", "chunk"])
async def test_blocks_that_an_endpoint_threw_away_say_so(chain: NearChain, missing: str) -> None:
    await funded(chain)
    async with open_near_ledger(chain.entry) as reader:
        head = (await reader.head()).number

    async def pruned(request: dict[str, Any]) -> object:
        asked = request["params"]
        if missing == "chunk" and request["method"] == "chunk":
            return {"error": {"name": "HANDLER_ERROR", "cause": {"name": "UNKNOWN_CHUNK"}}}
        if missing == request["method"] == "block" and asked.get("block_id", head) == head - 3:
            data = "DB Not Found Error: BLOCK HEIGHT"
            return {
                "error": {"cause": {"name": "UNKNOWN_BLOCK", "info": {}}, "data": data},
            }
        return PASS

    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(through(chain, proxy)) as ledger:
            proxy.fault = pruned
            with pytest.raises(LedgerUnreachable) as caught:
                await ledger.task_events("0x" + "11" * 32, since=head - 5)  # type: ignore[arg-type]
    assert "archival" in caught.value.hint


async def test_another_history_rewinds_to_the_common_ancestor(chain: NearChain) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(open_near_ledger(chain.entry))
        taken: Any = await trio.to_thread.run_sync(chain.ask, "sandbox_snapshot", {})
        fork = (await reader.head()).number
        batches = await stack.enter_async_context(reader.follow(Cursor(fork - 5, "")))
        seen: list[LedgerRecord] = []
        async with open_near_ledger(chain.entry, key_of(signer), settings=settings()) as ledger:
            await pay(ledger, to, 10, "undone")

        def received() -> int:
            moved = [r.event for r in seen if isinstance(r.event, TokensMoved)]
            return sum(int(event.amount) for event in moved if event.receiver == to)

        with trio.fail_after(30):
            async for batch in batches:
                seen += batch.records
                if received():
                    break
            await trio.to_thread.run_sync(chain.ask, "sandbox_restore", taken)
            rewound = False
            async with open_near_ledger(chain.entry, key_of(signer), settings=settings()) as ledger:
                await pay(ledger, to, 3, "instead")
            async for batch in batches:
                if batch.rewind_to is not None:
                    assert batch.rewind_to <= fork
                    seen = [r for r in seen if r.position.block <= batch.rewind_to]
                    rewound = True
                seen += batch.records
                if rewound and received() == 3:
                    break


async def test_the_wrong_chain_is_refused_at_once(chain: NearChain) -> None:
    wrong = msgspec.structs.replace(chain.entry, chain_id="near:mainnet")
    with pytest.raises(ConfigError, match="serves chain"):
        async with open_near_ledger(wrong):
            pass


async def test_contracts_that_are_not_there_are_named(chain: NearChain) -> None:
    empty = dict.fromkeys(chain.entry.contracts, AccountId("nothing.near"))
    wrong = msgspec.structs.replace(chain.entry, contracts=empty)
    async with open_near_ledger(wrong) as ledger:
        with pytest.raises(LedgerUnreachable) as caught:
            await ledger.parameters()
        assert "network file" in caught.value.hint
