"""Endpoints that fail or forget; a chain that is killed; transactions that expire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai.chain.near.ledger import open_near_ledger
from deai.chain.near.sender import VALID_FOR_BLOCKS
from deai.errors import (
    ConfigError,
    LedgerUnreachable,
)
from deai.ids import AccountId
from deai.money import UNIT
from tests.deai.chain.near.faulty import IMPATIENT, funded, key_of, pay, through, tokens
from tests.deai.chain.near.harness import NearChain, settings
from tests.deai.chain.proxy import PASS, Broken, Status, down, healthy, open_proxy, slow

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


async def status_429(_: dict[str, Any]) -> object:
    raise Status(429)


async def status_408(_: dict[str, Any]) -> object:
    raise Status(408)


async def timed_out(_: dict[str, Any]) -> object:
    return {"error": {"name": "HANDLER_ERROR", "cause": {"name": "TIMEOUT_ERROR"}}}


@pytest.mark.parametrize("fault", [down, status_408, status_429, timed_out, slow(60)])
async def test_a_broken_endpoint_is_passed_over(chain: NearChain, fault: Any) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        entry = through(chain, proxy, direct=True)
        async with open_near_ledger(entry, key_of(signer), settings=IMPATIENT, timeout=3) as ledger:
            proxy.fault = fault
            for number in range(3):
                await pay(ledger, to, 10**number, f"{number}")
            assert (await ledger.balances(to)).tokens == 111
            asked = sum(proxy.asked.values())
            for _ in range(20):
                await ledger.head()
            assert sum(proxy.asked.values()) - asked <= 5, "a resting endpoint is left alone"
            assert ledger.endpoints.health[0].failures > 0


async def test_no_answer_at_all_is_unreachable_and_passes(chain: NearChain) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT, timeout=20
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
            with trio.fail_after(120):
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

        with trio.fail_after(180):
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
            with trio.fail_after(120):
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
            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pay, ledger, to, 3, "late")
                    await lost.wait()
                    skip = {"delta_height": VALID_FOR_BLOCKS + 1, "seconds": 1}
                    await trio.to_thread.run_sync(chain.ask, "sandbox_fast_forward", skip)
                    late = True
    assert len(set(sent)) == 2, "the old bytes, and one new date"
    assert await tokens(chain, to) == 3


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


@pytest.mark.parametrize("cause", ["UNKNOWN_BLOCK", "GARBAGE_COLLECTED_BLOCK"])
async def test_a_read_is_asked_again_while_an_endpoint_is_between_two_blocks(
    chain: NearChain, cause: str
) -> None:
    signer = await funded(chain)
    left = 2

    async def between(request: dict[str, Any]) -> object:
        nonlocal left
        if request["method"] == "query" and left:
            left -= 1
            return {"error": {"name": "HANDLER_ERROR", "cause": {"name": cause, "info": {}}}}
        return PASS

    async with open_proxy(chain.rpc_url) as proxy:
        async with open_near_ledger(through(chain, proxy)) as ledger:
            proxy.fault = between
            assert (await ledger.balances(signer.account)).tokens == 1000 * UNIT
            assert left == 0
            left = 1_000  # it never gets beyond
            with pytest.raises(LedgerUnreachable):
                await ledger.balances(signer.account)
            assert left > 900
            left = 0
            assert (await ledger.balances(signer.account)).tokens == 1000 * UNIT
