"""Endpoints that lie, lag or have thrown away, and a chain that goes back."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai.chain.ledger import Cursor
from deai.chain.near.ledger import open_near_ledger
from deai.errors import (
    LedgerUnreachable,
)
from deai.events import LedgerRecord, TokensMoved
from tests.deai.chain.near.faulty import funded, key_of, pay, through
from tests.deai.chain.near.harness import NearChain, settings
from tests.deai.chain.proxy import PASS, Status, open_proxy
from tests.support.following import follow_until
from tests.support.polling import until

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


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
        await ledger.endpoints.compare()
        assert ledger.endpoints.health[0].distrusted_until > trio.current_time()
        assert ledger.endpoints.health[1].distrusted_until <= trio.current_time()


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
        last = (await reader.head()).number
        cursor = Cursor(last - 40, "")
        truth, _ = await follow_until(reader, cursor, last)
        assert any(isinstance(r.event, TokensMoved) for r in truth)
        ledger = await stack.enter_async_context(
            open_near_ledger(through(chain, liar, honest, direct=True))
        )
        told, _ = await follow_until(ledger, cursor, last)
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

        async def listen() -> None:
            async for batch in batches:
                assert not batch.records, "a sum that only one of two endpoints knows"

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await until(lambda: liar.asked["tx"] >= 3, 60)  # contradicted, and asked again
                nursery.cancel_scope.cancel()


async def test_following_survives_failing_endpoints(chain: NearChain) -> None:
    await funded(chain)
    async with open_near_ledger(chain.entry) as reader:
        last = (await reader.head()).number
        truth, _ = await follow_until(reader, Cursor(last - 40, ""), last)
    async with open_proxy(chain.rpc_url) as proxy:
        calls = 0

        def gate() -> None:
            nonlocal calls
            calls += 1
            if calls % 5 == 0:
                raise Status(503)

        async with open_near_ledger(through(chain, proxy)) as ledger:
            proxy.gate = gate
            told, _ = await follow_until(ledger, Cursor(last - 40, ""), last)
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

        with trio.fail_after(120):
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
