"""Defects of py-near that the adapter steps around.

Each test shows the defect itself. One that fails after an upgrade says that a detour may go: look
at the place that its docstring names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

pytest.importorskip("py_near", reason="py-near is not installed")

import aiohttp
import py_near_primitives as primitives
from py_near.account import Account
from py_near.exceptions.provider import InvalidTransactionError
from py_near.models import AccountAccessKey
from py_near.providers import JsonProvider

from deai.chain.near.refusals import invalid_transaction
from tests.deai.chain.near.canned import Canned, canned_server, error, ok

pytestmark = pytest.mark.network

T = TypeVar("T")


@pytest.fixture
def canned() -> Iterator[Canned]:
    with canned_server() as server:
        yield server


def run(doing: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(doing, 120))


async def with_provider(urls: list[str], method: str, params: object) -> Any:
    async with JsonProvider(urls, timeout=60) as provider:
        return await provider.json_rpc(method, params)


def test_it_waits_ten_minutes_for_an_endpoint_unless_told(canned: Canned) -> None:
    """`rpc.Endpoint.open` makes the session, `_one` the time limit."""
    assert JsonProvider(canned.url).timeout == 600
    assert Account("a.near", None, canned.url)._provider.timeout == 600


def test_an_endpoint_that_hangs_is_never_left_for_another(canned: Canned) -> None:
    """`pool.Pool` chooses endpoints; each has a provider of its own."""

    async def ask() -> None:
        async with JsonProvider([hanging.url, canned.url]) as provider:
            await provider.json_rpc("status", {})

    with canned_server() as hanging:
        hanging.reply = lambda _: (0, b"")
        canned.reply = lambda _: ok({})
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(asyncio.wait_for(ask(), 1))
        assert not canned.asked


def test_a_dead_endpoint_is_tried_first_every_time(canned: Canned) -> None:
    """`pool.Pool` lets a failing endpoint rest."""
    with canned_server() as dead:
        dead.reply = lambda _: (500, b"")
        canned.reply = lambda _: ok({})

        async def ask() -> None:
            async with JsonProvider([dead.url, canned.url], timeout=60) as provider:
                for _ in range(3):
                    await provider.json_rpc("status", {})

        run(ask())
        assert len(dead.asked) == 3


def test_an_error_without_data_raises_a_key_error(canned: Canned) -> None:
    """`rpc.Endpoint._read_error` reads errors itself."""
    canned.reply = lambda _: error("UNKNOWN_BLOCK")
    with pytest.raises(KeyError):
        run(with_provider([canned.url], "block", {}))


def test_a_reason_that_is_plain_text_loses_its_name(canned: Canned) -> None:
    """`refusals.invalid_transaction` reads nearcore's JSON."""
    reason = {"InvalidAccessKeyError": "DepositWithFunctionCall"}
    data = {"TxExecutionError": {"InvalidTxError": reason}}
    canned.reply = lambda _: error("INVALID_TRANSACTION", data=data)
    with pytest.raises(InvalidTransactionError) as caught:
        run(with_provider([canned.url], "send_tx", {}))
    assert "Deposit" not in type(caught.value).__name__
    assert invalid_transaction(reason).name == "Forbidden"


def test_an_error_under_another_http_status_is_hidden(canned: Canned) -> None:
    """`rpc._inner_error` takes it out of the text."""
    canned.reply = lambda _: error("UNKNOWN_BLOCK", 422, data="DB Not Found")

    async def ask() -> Any:
        async with JsonProvider(canned.url, timeout=60) as provider:
            return await provider.call_rpc_request("block", {})

    hidden = run(ask())["error"]
    assert hidden["cause"]["name"] == "RPC_ERROR"
    assert "UNKNOWN_BLOCK" in hidden["data"]


def test_answers_of_any_size_are_read(canned: Canned) -> None:
    """`rpc._Bounded` stops."""
    canned.reply = lambda _: ok("x" * (8 << 20))
    assert len(run(with_provider([canned.url], "status", {}))) == 8 << 20


def test_a_view_is_read_letter_by_letter(canned: Canned) -> None:
    """`queries.read_view` reads UTF-8."""
    told = json.dumps("héllo ☃", ensure_ascii=False).encode()
    canned.reply = lambda request: (
        ok({"result": list(told), "logs": [], "block_height": 1, "block_hash": "h"})
        if request["method"] == "query"
        else ok({"chain_id": "x"})
    )

    async def ask() -> Any:
        account = Account("a.near", None, canned.url)
        await account.startup()
        try:
            return (await account.view_function("c.near", "get", {})).result
        finally:
            await account.shutdown()

    assert run(ask()) != "héllo ☃"


def test_a_field_that_it_does_not_know_breaks_an_access_key() -> None:
    """`queries.read_access_key` takes what it needs."""
    told = {"nonce": 1, "permission": "FullAccess", "block_height": 1, "block_hash": "h"}
    AccountAccessKey(**told)
    with pytest.raises(TypeError):
        AccountAccessKey(**told, gas_key={})


def test_its_encoder_panics_past_every_handler() -> None:
    """`transaction.sign` hands it a valid placeholder and checked names only."""
    unsigned = primitives.Transaction(
        "a.near", bytes(32), 1, "b.near", bytes(32), [primitives.TransferAction(1)]
    )
    with pytest.raises(BaseException, match="signature") as caught:
        unsigned.to_vec(bytes(64))
    assert not isinstance(caught.value, Exception)


def test_its_session_has_no_public_door() -> None:
    """`rpc.Endpoint.open` sets `_client`; a rename must not go unnoticed."""

    async def open_and_close() -> None:
        provider = JsonProvider("http://127.0.0.1:1")
        assert provider._client is None
        provider._client = session = aiohttp.ClientSession()
        assert await provider.call_rpc_request("status", {}) is None, "failures are swallowed"
        assert provider._client is session
        await session.close()

    run(open_and_close())
