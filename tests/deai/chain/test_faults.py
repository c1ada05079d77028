"""Bad days of a chain's endpoints: every intent takes effect once, every event is told once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.sei.ledger import SeiLedger, open_sei_ledger
from deai.chain.sei.sender import SenderSettings
from deai.errors import ConfigError, InsufficientFunds, LedgerUnreachable
from deai.events import LedgerRecord, TokensMoved
from deai.hashing import keccak
from deai.ids import AccountId, hexed
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from deai.signing import LocalSigner
from tests.deai.chain.chains import SETTINGS, ChainProcess, chain_process
from tests.deai.chain.proxy import (
    PASS,
    Proxy,
    busy,
    down,
    failing,
    forgetting,
    healthy,
    lossy,
    open_proxy,
    slow,
)
from tests.support.following import follow_until
from tests.support.polling import eventually, until

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]

IMPATIENT = SenderSettings(poll_s=0.03, stuck_s=0.6, dead_s=0.6, patience_s=60)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    directory = tmp_path_factory.mktemp("faults")
    with chain_process("embedded", directory, accounts=100) as found:
        yield found


def through(chain: ChainProcess, *proxies: Proxy, direct: bool = False) -> ChainEntry:
    urls = tuple(proxy.url for proxy in proxies) + ((chain.rpc_url,) if direct else ())
    return msgspec.structs.replace(chain.entry, rpc_urls=urls)


async def opened(entry: ChainEntry) -> None:
    async with open_sei_ledger(entry, timeout=1):
        pass


async def pay(ledger: SeiLedger, to: AccountId, amount: int, key: str) -> str:
    return (await ledger.submit(act.TransferTokens(to, Amount(amount)), key=key)).hash


async def funded(chain: ChainProcess) -> LocalSigner:
    signer = chain.signer()
    async with open_sei_ledger(chain.entry, chain.holder, settings=SETTINGS) as bank:
        await pay(bank, signer.account, 1000 * UNIT, f"fund {signer.account}")
    return signer


async def tokens(chain: ChainProcess, account: AccountId) -> int:
    async with open_sei_ledger(chain.entry) as reader:
        return (await reader.balances(account)).tokens


@pytest.mark.parametrize("fault", [down, failing, busy, slow(60)])
async def test_a_broken_endpoint_is_passed_over(chain: ChainProcess, fault: Any) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        entry = through(chain, proxy, direct=True)
        async with open_sei_ledger(entry, signer, settings=IMPATIENT, timeout=3) as ledger:
            proxy.fault = fault
            for number in range(3):
                await pay(ledger, to, 10**number, f"{number}")
            assert (await ledger.balances(to)).tokens == 111
            resting = ledger.endpoints.health[0]
            asked = sum(proxy.asked.values())
            for _ in range(20):
                await ledger.head()
            assert sum(proxy.asked.values()) - asked <= 5, "a resting endpoint is left alone"
            assert resting.failures > 0


async def test_no_answer_at_all_is_unreachable_and_passes(chain: ChainProcess) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        async with open_sei_ledger(
            through(chain, proxy), signer, settings=IMPATIENT, timeout=20
        ) as ledger:
            proxy.fault = down
            with pytest.raises(LedgerUnreachable, match="no endpoint") as caught:
                await ledger.head()
            assert caught.value.hint
            with pytest.raises(LedgerUnreachable):
                await pay(ledger, to, 1, "a")
            proxy.fault = healthy
            await pay(ledger, to, 1, "a")
        proxy.fault = down
        with pytest.raises(LedgerUnreachable):
            await opened(through(chain, proxy))
    assert await tokens(chain, to) == 1


async def test_what_was_sent_becomes_final_although_the_chain_went_away(
    chain: ChainProcess,
) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        sent = trio.Event()

        async def vanish(request: dict[str, Any]) -> object:
            if sent.is_set():
                return await down(request)
            if request["method"] == "eth_sendRawTransaction":
                sent.set()
            return PASS

        async with open_sei_ledger(through(chain, proxy), signer, settings=IMPATIENT) as ledger:
            proxy.fault = vanish
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pay, ledger, to, 5, "away")
                await sent.wait()
                with pytest.raises(LedgerUnreachable):
                    await ledger.head()
                proxy.fault = healthy
    assert await tokens(chain, to) == 5


async def test_lost_transactions_and_failing_calls_lose_and_repeat_nothing(
    chain: ChainProcess,
) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        async with open_sei_ledger(through(chain, proxy), signer, settings=IMPATIENT) as ledger:
            lossy(proxy, errors=0.3, losses=0.3)
            hashes: list[str] = []

            async def send(number: int) -> None:
                while True:
                    try:
                        hashes.append(await pay(ledger, to, 1 << number, f"n{number}"))
                    except LedgerUnreachable:
                        continue  # the caller tries the same intent again
                    return

            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    for number in range(12):
                        nursery.start_soon(send, number)
    assert len(set(hashes)) == 12
    assert await tokens(chain, to) == (1 << 12) - 1, "each amount arrived exactly once"


async def test_a_fee_that_is_too_low_is_raised(chain: ChainProcess) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        stale = [True]

        def tamper(request: dict[str, Any], result: Any) -> Any:
            if request["method"] == "eth_gasPrice" and stale[0]:
                stale[0] = False
                return hex(int(result, 16) // 4)
            return result

        async with open_sei_ledger(through(chain, proxy), signer, settings=IMPATIENT) as ledger:
            proxy.tamper = tamper
            with trio.fail_after(120):
                await pay(ledger, to, 7, "cheap")
    assert await tokens(chain, to) == 7


async def test_a_nonce_that_somebody_else_spent_is_given_up(chain: ChainProcess) -> None:
    signer, to, other = await funded(chain), chain.signer().account, chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        entry = through(chain, proxy)
        async with open_sei_ledger(entry, signer, settings=IMPATIENT) as ledger:
            # Two endpoints' worth of bad luck: our bytes are lost, and a second copy of the key
            # uses the nonce.
            proxy.fault = forgetting(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pay, ledger, to, 3, "mine")
                await until(lambda: proxy.asked["eth_sendRawTransaction"])
                async with open_sei_ledger(chain.entry, signer, settings=SETTINGS) as second:
                    await pay(second, other, 4, "theirs")
    assert await tokens(chain, to) == 3
    assert await tokens(chain, other) == 4


async def test_an_account_without_money_for_gas_says_so(chain: ChainProcess) -> None:
    poor = LocalSigner(keccak(b"poor"))
    async with open_sei_ledger(chain.entry, chain.holder, settings=SETTINGS) as bank:
        await pay(bank, poor.account, 10, "to the poor")
    async with open_sei_ledger(chain.entry, poor, settings=SETTINGS) as ledger:
        with pytest.raises(InsufficientFunds) as caught:
            await pay(ledger, chain.holder.account, 1, "x")
        assert caught.value.name == "GasMoney"
        assert caught.value.hint


async def test_a_transaction_that_finds_no_gas_money_goes_out_when_there_is_some(
    chain: ChainProcess,
) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        async with open_sei_ledger(through(chain, proxy), signer, settings=IMPATIENT) as ledger:

            async def broke(request: dict[str, Any]) -> object:
                if request["method"] == "eth_sendRawTransaction":
                    message = "insufficient funds for gas * price + value"
                    return {"error": {"code": -32000, "message": message}}
                return PASS

            proxy.fault = broke
            for _ in range(2):
                with pytest.raises(InsufficientFunds, match="GasMoney"):
                    await pay(ledger, to, 6, "broke")
            proxy.fault = healthy
            with trio.fail_after(120):
                await eventually(partial(tokens, chain, to))
                await pay(ledger, to, 6, "broke")
    assert await tokens(chain, to) == 6


async def test_an_endpoint_with_a_false_head_is_not_believed(chain: ChainProcess) -> None:
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))

        def tamper(request: dict[str, Any], result: Any) -> Any:
            if request["params"][:1] == ["latest"] and isinstance(result, dict):
                return {**result, "number": hex(int(result["number"], 16) + 1000)}
            return result

        liar.tamper = tamper
        entry = through(chain, liar, direct=True)
        ledger = await stack.enter_async_context(open_sei_ledger(entry))
        await ledger.endpoints.compare()
        assert ledger.endpoints.health[0].distrusted_until > trio.current_time()
        assert ledger.endpoints.health[1].distrusted_until <= trio.current_time()
        truth = int(str(await trio.to_thread.run_sync(chain.ask, "eth_blockNumber")), 16)
        assert (await ledger.head()).number < truth + 100


async def test_an_endpoint_of_another_history_is_outvoted(chain: ChainProcess) -> None:
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))
        honest = await stack.enter_async_context(open_proxy(chain.rpc_url))

        def tamper(request: dict[str, Any], result: Any) -> Any:
            if isinstance(result, dict) and "hash" in result:
                return {**result, "hash": hexed(keccak(result["hash"].encode()))}
            return result

        liar.tamper = tamper
        ledger = await stack.enter_async_context(
            open_sei_ledger(through(chain, liar, honest, direct=True))
        )
        await ledger.endpoints.compare()
        distrusted = [one.distrusted_until > trio.current_time() for one in ledger.endpoints.health]
        assert distrusted == [True, False, False]


async def test_an_endpoint_that_stands_still_is_left_alone(chain: ChainProcess) -> None:
    async with AsyncExitStack() as stack:
        late = await stack.enter_async_context(open_proxy(chain.rpc_url))
        stuck = await trio.to_thread.run_sync(chain.ask, "eth_getBlockByNumber", "0x1", False)

        def tamper(request: dict[str, Any], result: Any) -> Any:
            return stuck if request["params"][:1] == ["latest"] else result

        late.tamper = tamper
        ledger = await stack.enter_async_context(open_sei_ledger(through(chain, late, direct=True)))

        async def is_past_twenty() -> bool:
            return (await ledger.head()).number >= 20

        await eventually(is_past_twenty)
        await ledger.endpoints.compare()
        assert [one.is_lagging for one in ledger.endpoints.health] == [True, False]
        asked = sum(late.asked.values())
        assert (await ledger.head()).number >= 20
        assert sum(late.asked.values()) == asked


def forging(request: dict[str, Any], result: Any) -> Any:
    """Logs in which every sum is larger than it was."""
    if request["method"] != "eth_getLogs":
        return result
    return [
        {**log, "data": hexed((int(log["data"], 16) + 1).to_bytes(32, "big"))}
        if len(log["data"]) == 66
        else log
        for log in result
    ]


async def test_forged_events_are_outvoted_by_two_honest_endpoints(chain: ChainProcess) -> None:
    await funded(chain)
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))
        honest = await stack.enter_async_context(open_proxy(chain.rpc_url))
        liar.tamper = forging
        reader = await stack.enter_async_context(open_sei_ledger(chain.entry))
        until = (await reader.head()).number
        truth, _ = await follow_until(reader, None, until)
        ledger = await stack.enter_async_context(
            open_sei_ledger(through(chain, liar, honest, direct=True))
        )
        told, _ = await follow_until(ledger, None, until)
        bounded = [r for r in told if r.position.block <= until]
        assert bounded == [r for r in truth if r.position.block <= until]
        assert any(isinstance(r.event, TokensMoved) for r in bounded)


async def test_nothing_is_told_while_two_endpoints_contradict_each_other(
    chain: ChainProcess,
) -> None:
    await funded(chain)
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(open_proxy(chain.rpc_url))
        liar.tamper = forging
        ledger = await stack.enter_async_context(open_sei_ledger(through(chain, liar, direct=True)))
        batches = await stack.enter_async_context(ledger.follow(None))
        told: list[LedgerRecord] = []

        async def listen() -> None:
            async for batch in batches:
                told.extend(batch.records)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await until(lambda: liar.asked["eth_getLogs"] > 3)
            nursery.cancel_scope.cancel()
        assert not told, "a sum that only one of two endpoints knows"
    async with open_proxy(chain.rpc_url) as honest:
        async with open_sei_ledger(through(chain, honest, direct=True)) as ledger:
            told, _ = await follow_until(ledger, None, (await ledger.head()).number)
            assert told


async def test_following_survives_an_endpoint_that_fails_and_refuses_large_ranges(
    chain: ChainProcess,
) -> None:
    await funded(chain)
    async with open_sei_ledger(chain.entry) as reader:
        until = (await reader.head()).number
        truth, _ = await follow_until(reader, None, until)
    async with open_proxy(chain.rpc_url) as proxy:
        lossy(proxy, errors=0.1, losses=0)

        async def fault(request: dict[str, Any]) -> object:
            if request["method"] == "eth_getLogs":
                query = request["params"][0]
                if int(query["toBlock"], 16) - int(query["fromBlock"], 16) >= 50:
                    return {"error": {"code": -32005, "message": "block range too large"}}
            return PASS

        proxy.fault = fault
        async with open_sei_ledger(through(chain, proxy)) as ledger:
            told, _ = await follow_until(ledger, None, until)
    bounded = [r for r in told if r.position.block <= until]
    assert bounded == [r for r in truth if r.position.block <= until]


async def test_a_reorganisation_rewinds_to_the_common_ancestor(chain: ChainProcess) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(open_sei_ledger(chain.entry))
        ask = chain.ask
        snapshot = await trio.to_thread.run_sync(ask, "evm_snapshot")
        fork = (await reader.head()).number
        batches = await stack.enter_async_context(reader.follow(None))
        seen: list[LedgerRecord] = []
        async with open_sei_ledger(chain.entry, signer, settings=SETTINGS) as ledger:
            await pay(ledger, to, 10, "undone")

        def received() -> int:
            moved = [r.event for r in seen if isinstance(r.event, TokensMoved)]
            return sum(int(event.amount) for event in moved if event.receiver == to)

        with trio.fail_after(120):
            async for batch in batches:
                seen += batch.records
                if received():
                    break
            await trio.to_thread.run_sync(ask, "evm_revert", snapshot)
            rewound = False
            async with open_sei_ledger(chain.entry, signer, settings=SETTINGS) as ledger:
                await pay(ledger, to, 3, "instead")
            async for batch in batches:
                if batch.rewind_to is not None:
                    kept = [r.position.block for r in seen if r.position.block <= fork]
                    assert kept[-1] <= batch.rewind_to <= fork, "no further than needed"
                    seen = [r for r in seen if r.position.block <= batch.rewind_to]
                    rewound = True
                seen += batch.records
                if rewound and received() == 3:
                    break
        fresh, _ = await follow_until(reader, None, seen[-1].position.block)
        assert [r for r in fresh if r.position.block <= seen[-1].position.block] == seen


async def test_the_wrong_chain_is_refused_at_once(chain: ChainProcess) -> None:
    wrong = msgspec.structs.replace(chain.entry, chain_id=1329)
    with pytest.raises(ConfigError, match="serves chain"):
        await opened(wrong)


async def test_contracts_that_are_not_there_are_named(chain: ChainProcess) -> None:
    empty = dict.fromkeys(chain.entry.contracts, AccountId("0x" + "12" * 20))
    wrong = msgspec.structs.replace(chain.entry, contracts=empty)
    async with open_sei_ledger(wrong) as ledger:
        with pytest.raises(LedgerUnreachable, match="is the contract there"):
            await ledger.parameters()
