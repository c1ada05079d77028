"""What an endpoint's answers mean: an answer, an answer that is an error, or ask elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai.chain.near import rpc
from deai.chain.near.loop import open_loop
from deai.chain.near.queries import access_key, free_money, read_access_key, read_view, view
from deai.chain.near.rpc import Endpoint, RpcError
from deai.chain.pool import EndpointFailed
from deai.errors import LedgerRejected, MalformedMessage
from tests.deai.chain.near.canned import Canned, canned_server, error, ok

pytestmark = pytest.mark.network


@pytest.fixture
def canned() -> Iterator[Canned]:
    with canned_server() as server:
        yield server


@pytest.fixture
async def endpoint(canned: Canned) -> AsyncIterator[Endpoint]:
    async with opened(canned, timeout=60) as found:
        yield found


@asynccontextmanager
async def opened(canned: Canned, *, timeout: float) -> AsyncIterator[Endpoint]:
    async with open_loop() as loop:
        found = Endpoint(1, canned.url.replace("//", "//api-key-7@"), loop, timeout=timeout)
        await found.open()
        yield found
        await found.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        (429, b"slow down"),
        (408, b""),
        (500, b"<html>oops</html>"),
        (200, b"not json"),
        (200, b"[1, 2]"),
        (200, b"null"),
        (200, b'{"jsonrpc": "2.0", "id": "x"}'),
        (200, b'{"error": "strange"}'),
        (200, b'{"error": {"message": "rate limit"}}'),
        error("TIMEOUT_ERROR", 408),
        error("TIMEOUT_ERROR"),
        error("INTERNAL_ERROR", 500, data="x"),
        error("NO_SYNCED_BLOCKS"),
        error("NOT_SYNCED_YET"),
        error("UNAVAILABLE_SHARD"),
    ],
)
async def test_what_is_no_useful_answer_fails_the_endpoint(
    canned: Canned, endpoint: Endpoint, reply: tuple[int, bytes]
) -> None:
    canned.reply = lambda _: reply
    await is_given_up(endpoint)


async def is_given_up(endpoint: Endpoint) -> None:
    with pytest.raises(EndpointFailed) as caught:
        await endpoint.batch([("status", None)])
    assert "endpoint 1 (127.0.0.1)" in str(caught.value)
    assert "api-key-7" not in str(caught.value) + repr(endpoint)


async def test_who_never_answers_is_given_up(canned: Canned) -> None:
    canned.reply = lambda _: (0, b"")
    with trio.fail_after(60):
        async with opened(canned, timeout=0.5) as endpoint:
            await is_given_up(endpoint)


@pytest.mark.parametrize("status", [200, 404, 422])
@pytest.mark.parametrize(
    "name",
    ["UNKNOWN_BLOCK", "GARBAGE_COLLECTED_BLOCK", "UNKNOWN_TRANSACTION", "UNKNOWN_ACCESS_KEY",
     "INVALID_TRANSACTION", "PARSE_ERROR"],
)  # fmt: skip
async def test_an_error_that_informs_is_an_answer_whatever_its_status(
    canned: Canned, endpoint: Endpoint, name: str, status: int
) -> None:
    canned.reply = lambda _: error(name, status)  # without the `data` that py-near insists on
    (answer,) = await endpoint.batch([("block", {})])
    assert isinstance(answer, RpcError)
    assert answer.name == name
    assert len(canned.asked) == 1


@pytest.mark.parametrize(
    "reason",
    ["Expired", {"InvalidNonce": {"tx_nonce": 1, "ak_nonce": 2}},
     {"InvalidAccessKeyError": "DepositWithFunctionCall"}],
)  # fmt: skip
@pytest.mark.parametrize("place", ["data", "info"])
async def test_the_reason_of_an_invalid_transaction_is_kept_in_every_form(
    canned: Canned, endpoint: Endpoint, reason: object, place: str
) -> None:
    body = {"TxExecutionError": {"InvalidTxError": reason}}
    cause = {"name": "INVALID_TRANSACTION", "info": body if place == "info" else {}}
    told = {"cause": cause, "data": body if place == "data" else "?"}
    canned.reply = lambda _: (200, json.dumps({"error": told}).encode())
    answer = await endpoint.send(b"raw")
    assert isinstance(answer, RpcError)
    assert answer.invalid == reason


async def test_an_answer_without_end_is_given_up(
    canned: Canned, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "MAX_ANSWER_BYTES", 10_000)
    canned.reply = lambda _: ok("x" * 9_000)
    assert await endpoint.batch([("status", None)]) == ["x" * 9_000]
    canned.reply = lambda _: ok("x" * 20_000)
    with pytest.raises(EndpointFailed):
        await endpoint.batch([("status", None)])


async def test_of_many_requests_only_those_that_failed_are_asked_again(
    canned: Canned, endpoint: Endpoint
) -> None:
    def reply(request: dict[str, Any]) -> tuple[int, bytes]:
        times = sum(one["params"] == request["params"] for one in canned.asked)
        return (429, b"") if request["params"] % 3 == 0 and times < 3 else ok(request["params"])

    canned.reply = reply
    answers = await endpoint.batch([("block", number) for number in range(40)])
    assert answers == list(range(40))
    assert len(canned.asked) == 40 + 2 * 14


async def test_cancelling_a_caller_leaves_the_endpoint_usable(
    canned: Canned, endpoint: Endpoint
) -> None:
    canned.reply = lambda _: (0, b"")
    with trio.move_on_after(0.1) as scope:
        await endpoint.batch([("status", None)])
    assert scope.cancelled_caught
    canned.reply = lambda _: ok(5)
    assert await endpoint.batch([("status", None)]) == [5]


async def test_a_contracts_answer_is_read_as_utf_8(canned: Canned, endpoint: Endpoint) -> None:
    told = json.dumps({"name": "héllo ☃"}, ensure_ascii=False).encode()
    canned.reply = lambda _: ok({"result": list(told), "logs": []})
    (answer,) = await endpoint.batch([view("c.near", "get", a=1)])
    assert read_view(answer) == {"name": "héllo ☃"}
    asked = canned.asked[-1]["params"]
    assert (asked["finality"], asked["method_name"]) == ("final", "get")


def test_a_view_that_panics_is_the_contracts_refusal() -> None:
    text = 'wasm execution failed with error: HostError(GuestPanic { panic_msg: "E_BAD_DATA: {}" })'
    with pytest.raises(LedgerRejected, match="BadData"):
        read_view({"error": text, "logs": []})
    with pytest.raises(LedgerRejected, match="BadData"):
        read_view(RpcError("CONTRACT_EXECUTION_ERROR", {}, text))


@pytest.mark.parametrize(
    "answer",
    [None, 5, {}, {"result": "x"}, {"result": [300]}, {"result": [123]}, {"result": []},
     RpcError("UNKNOWN_ACCOUNT", {}, "?")],
)  # fmt: skip
def test_what_is_no_answer_of_a_view_is_malformed(answer: object) -> None:
    with pytest.raises(MalformedMessage):
        read_view(answer)


def test_access_keys_are_read_whatever_else_an_endpoint_tells() -> None:
    place = {"block_height": 9, "block_hash": "h"}
    full = read_access_key({"nonce": 4, "permission": "FullAccess", "gas_key": {}, **place})
    assert (full.nonce, full.next_nonce, full.contract) == (4, 5, None)
    call = {"receiver_id": "c.near", "method_names": ["m"], "allowance": "12", "new": 1}
    limited = read_access_key({"nonce": 4, "permission": {"FunctionCall": call}, **place})
    assert (limited.contract, limited.methods, limited.allowance) == ("c.near", ("m",), 12)
    for none in (
        {"error": "access key x does not exist while viewing", **place},
        RpcError("UNKNOWN_ACCESS_KEY", place, "?"),
        RpcError("UNKNOWN_ACCOUNT", place, "?"),
    ):
        assert read_access_key(none).nonce is None
    for wrong in ({}, None, {"nonce": 1, "permission": {"Strange": {}}, **place}):
        with pytest.raises(MalformedMessage):
            read_access_key(wrong)
    assert access_key("a.near", "ed25519:x")[1]["public_key"] == "ed25519:x"


def test_money_that_storage_holds_back_is_not_free() -> None:
    price = 10**19
    assert free_money({"amount": "5", "storage_usage": 770}) == 5
    assert free_money({"amount": str(1000 * price + 7), "storage_usage": 1000}) == 7
    assert free_money({"amount": "1", "storage_usage": 1000}) == 0
    assert free_money(RpcError("UNKNOWN_ACCOUNT", {}, "?")) is None
    with pytest.raises(MalformedMessage):
        free_money({})
