"""The process from outside: JSON-RPC in nearcore's shapes, and what strangers may send."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from devnet.near.rpc import Rpc
from devnet.near.rules import NEAR, TGAS
from devnet.near.server import MAX_BODY_BYTES, application
from tests.devnet.near.process import Running
from tests.devnet.near.tools import (
    ALICE,
    BOB,
    HELLO,
    ROOT,
    World,
    a_world,
    call,
    deploy,
    keys,
    sign_raw,
    transfer,
)  # fmt: skip

pytestmark = [pytest.mark.chain, pytest.mark.network]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("chain"), "--block-time", "0.05") as running:
        running.install()
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A chain that makes a block only when it is told to."""
    with Running(tmp_path_factory.mktemp("slow"), "--block-time", "3600") as running:
        yield running
        assert running.stop() == 0


def forward(chain: Running, blocks: int = 1) -> None:
    for _ in range(blocks):
        chain.rpc("sandbox_fast_forward", {"delta_height": 0})


def invalid(answer: dict[str, Any]) -> Any:
    error = answer["error"]
    assert (error["name"], error["code"]) == ("HANDLER_ERROR", -32_000)
    assert error["cause"]["name"] == "INVALID_TRANSACTION"
    return error["data"]["TxExecutionError"]["InvalidTxError"]


def test_a_transaction_goes_from_unknown_to_final_one_block_at_a_time(slow: Running) -> None:
    raw = slow.sign(ALICE, BOB, transfer(3))
    sent = slow.rpc("broadcast_tx_async", [raw])
    asked = {"tx_hash": sent, "sender_account_id": ALICE, "wait_until": "NONE"}
    assert slow.rpc("tx", asked) == {"final_execution_status": "NONE"}
    seen = []
    for _ in range(3):
        forward(slow)
        seen.append(slow.rpc("EXPERIMENTAL_tx_status", asked))
    assert [one["final_execution_status"] for one in seen] == ["INCLUDED_FINAL", "FINAL", "FINAL"]
    assert [one["status"] for one in seen] == ["Started", *[{"SuccessValue": ""}] * 2]
    included, executed = seen[0], seen[1]
    assert included["receipts_outcome"] == []
    (outcome,) = executed["receipts_outcome"]
    assert outcome["block_hash"] != executed["transaction_outcome"]["block_hash"]
    assert executed["receipts"][0]["receipt"]["Action"]["actions"] == [
        {"Transfer": {"deposit": "3"}}
    ]
    assert slow.rpc("tx", {"signed_tx_base64": raw})["transaction"]["hash"] == sent
    assert slow.rpc("broadcast_tx_commit", [raw])["transaction"]["hash"] == sent  # known: no harm


def test_waiting_too_long_is_answered_with_timeout_error_and_408(tmp_path: Path) -> None:
    async def ask(world: World) -> httpx.Response:
        rpc = Rpc(world.chain, wake=lambda: None, polling_s=0.05)
        transport = httpx.ASGITransport(
            application(rpc, failed=lambda error: pytest.fail(str(error)))
        )
        block_hash = world.chain.head.hash
        raw = sign_raw(ALICE, BOB, [transfer(4)], nonce=1, block_hash=block_hash)
        request = {"id": 1, "method": "broadcast_tx_commit", "params": [raw]}
        async with httpx.AsyncClient(transport=transport, base_url="http://near") as client:
            first = await client.post("/", json=request)
            world.chain.settle()
            again = await client.post("/", json=request)
            assert again.json()["result"]["status"] == {"SuccessValue": ""}
            return first

    with a_world(tmp_path, contract=False) as world:
        answer = asyncio.run(ask(world))
    assert answer.status_code == 408
    error = answer.json()["error"]
    assert (error["name"], error["cause"]["name"]) == ("HANDLER_ERROR", "TIMEOUT_ERROR")


def test_what_no_block_may_hold_is_refused_in_nearcores_shape(chain: Running) -> None:
    nonce = chain.nonce(ALICE)
    raw = chain.sign(ALICE, BOB, transfer(1), nonce=nonce or 1)
    if not nonce:
        chain.rpc("broadcast_tx_commit", [raw])
        nonce = chain.nonce(ALICE)
        raw = chain.sign(ALICE, BOB, transfer(2), nonce=nonce)
    found = invalid(chain.ask("broadcast_tx_commit", [raw]))
    assert found == {"InvalidNonce": {"tx_nonce": nonce, "ak_nonce": nonce}}
    asynchronous = chain.rpc("broadcast_tx_async", [raw])  # nobody is told here, as on NEAR
    unknown = chain.ask("tx", [asynchronous, ALICE])["error"]
    assert unknown["cause"] == {
        "name": "UNKNOWN_TRANSACTION",
        "info": {"requested_transaction_hash": asynchronous},
    }


def test_a_block_hash_that_the_chain_does_not_know_is_expired(chain: Running) -> None:
    raw = sign_raw(ALICE, BOB, [transfer(1)], nonce=10**5, block_hash=b"\5" * 32)
    assert invalid(chain.ask("send_tx", {"signed_tx_base64": raw})) == "Expired"


def test_a_wrong_signature_is_refused(chain: Running) -> None:
    raw = bytearray(base64.b64decode(chain.sign(ALICE, BOB, transfer(1))))
    raw[-1] ^= 1
    broken = base64.b64encode(bytes(raw)).decode()
    assert invalid(chain.ask("broadcast_tx_commit", [broken])) == "InvalidSignature"


def test_queries_answer_in_nearcores_words(chain: Running) -> None:
    view = chain.query("view_account", HELLO)
    assert view["storage_usage"] > 20_000
    assert int(view["amount"]) > 900 * NEAR
    assert chain.query("view_code", HELLO)["hash"] == view["code_hash"]
    (key,) = chain.query("view_access_key_list", HELLO)["keys"]
    assert key["public_key"] == keys(HELLO)[1]
    assert key["access_key"]["permission"] == "FullAccess"
    missing = chain.query("view_access_key", HELLO, public_key=keys("a stranger")[1])
    assert "does not exist while viewing" in missing["error"]
    chain.send(ALICE, HELLO, call("set_greeting", {"text": "héllo ☃"}, deposit=NEAR))
    assert chain.view("get_greeting") == "héllo ☃"
    state = chain.query("view_state", HELLO, prefix_base64=base64.b64encode(b"greet").decode())
    (entry,) = state["values"]
    assert base64.b64decode(entry["value"]).decode() == "héllo ☃"
    assert chain.rpc("query", [f"account/{HELLO}", ""])["storage_usage"]
    bad = chain.query("call_function", HELLO, method_name="nothing", args_base64="")
    assert "MethodResolveError(MethodNotFound)" in bad["error"]
    panicked = chain.query("call_function", HELLO, method_name="stake_of", args_base64="e30=")
    assert 'GuestPanic { panic_msg: "missing argument" }' in panicked["error"]


@pytest.mark.parametrize(
    ("kind", "account", "cause"),
    [
        ("view_account", "nobody.near", "UNKNOWN_ACCOUNT"),
        ("view_code", ALICE, "NO_CONTRACT_CODE"),
        ("call_function", ALICE, "NO_CONTRACT_CODE"),
        ("view_account", "Not An Account", "PARSE_ERROR"),
        ("view_nothing", ALICE, "PARSE_ERROR"),
    ],
)
def test_queries_fail_in_nearcores_words(
    chain: Running, kind: str, account: str, cause: str
) -> None:
    asked = {"request_type": kind, "account_id": account, "finality": "final"}
    assert chain.ask("query", asked)["error"]["cause"]["name"] == cause


def test_blocks_and_chunks_by_height_and_by_hash(chain: Running) -> None:
    done = chain.send(ALICE, BOB, transfer(1))
    block = chain.rpc("block", {"block_id": done["transaction_outcome"]["block_hash"]})
    header = block["header"]
    assert chain.rpc("block", {"block_id": header["height"]}) == block
    assert chain.rpc("block", [header["height"]]) == block
    before = chain.rpc("block", {"block_id": header["prev_hash"]})["header"]
    assert (before["height"], before["hash"]) == (header["prev_height"], header["prev_hash"])
    (chunk,) = block["chunks"]
    found = chain.rpc("chunk", {"chunk_id": chunk["chunk_hash"]})
    assert chain.rpc("chunk", {"block_id": header["height"], "shard_id": 0}) == found
    assert done["transaction"] in found["transactions"]
    later = chain.rpc(
        "chunk", {"block_id": done["receipts_outcome"][0]["block_hash"], "shard_id": 0}
    )
    ran = [receipt["receipt_id"] for receipt in later["receipts"]]
    assert done["receipts_outcome"][0]["id"] in ran
    receipt = chain.rpc("EXPERIMENTAL_receipt", {"receipt_id": ran[0]})
    assert receipt in later["receipts"]
    for method, params, cause in (
        ("block", {"block_id": 10**9}, "UNKNOWN_BLOCK"),
        ("block", {"block_id": "1" * 32}, "UNKNOWN_BLOCK"),
        ("query", {"request_type": "view_code", "account_id": HELLO, "block_id": 10**9},
         "UNKNOWN_BLOCK"),
        ("chunk", {"chunk_id": "1" * 32}, "UNKNOWN_CHUNK"),
        ("EXPERIMENTAL_receipt", {"receipt_id": "1" * 32}, "UNKNOWN_RECEIPT"),
    ):  # fmt: skip
        error = chain.ask(method, params)["error"]
        assert (error["name"], error["cause"]["name"]) == ("HANDLER_ERROR", cause)


def test_state_of_older_blocks_is_read_until_it_is_garbage(tmp_path: Path) -> None:
    with Running(tmp_path, "--block-time", "0") as chain:
        start = chain.head()
        chain.send(ALICE, BOB, transfer(NEAR))
        now, then = (
            int(chain.query("view_account", BOB, **block)["amount"])
            for block in ({}, {"block_id": start["hash"]})
        )
        assert now - then == NEAR
        assert chain.stop() == 0
    with Running(tmp_path, "--block-time", "0") as chain:
        asked = {"request_type": "view_account", "account_id": BOB, "block_id": start["hash"]}
        error = chain.ask("query", asked)["error"]
        assert error["cause"]["name"] == "GARBAGE_COLLECTED_BLOCK"
        assert error["cause"]["info"]["block_height"] == start["height"]
        assert chain.stop() == 0


def test_time_goes_forward_on_demand_and_heights_are_left_out(chain: Running) -> None:
    before = chain.head()
    chain.rpc("sandbox_fast_forward", {"delta_height": 5_000})
    after = chain.head()
    assert after["height"] >= before["height"] + 5_000
    assert chain.ask("block", {"block_id": before["height"] + 2_500})["error"]["cause"]["name"] == (
        "UNKNOWN_BLOCK"
    )
    chain.rpc("sandbox_fast_forward", {"delta_height": 0, "seconds": 86_400})
    assert chain.head()["timestamp"] - after["timestamp"] >= 86_400 * 10**9


def test_a_snapshot_and_a_patch(tmp_path: Path) -> None:
    with Running(tmp_path, "--block-time", "0") as chain:
        taken = chain.rpc("sandbox_snapshot")
        patch: list[dict[str, Any]] = [
            {"Account": {"account_id": "new.near", "account": {"amount": str(NEAR)}}},
            {
                "AccessKey": {
                    "account_id": "new.near",
                    "public_key": keys("new.near")[1],
                    "access_key": {"nonce": 0, "permission": "FullAccess"},
                }
            },
            {"Data": {"account_id": HELLO, "data_key": "YQ==", "value": "Yg=="}},
        ]
        chain.rpc("sandbox_patch_state", {"records": patch})
        assert "SuccessValue" in chain.send("new.near", ALICE, transfer(1))["status"]
        chain.rpc("sandbox_restore", taken)
        gone = chain.ask("query", {"request_type": "view_account", "account_id": "new.near"})
        assert gone["error"]["cause"]["name"] == "UNKNOWN_ACCOUNT"
        half = chain.ask("sandbox_patch_state", {"records": [*patch, {"Account": None}]})
        assert half["error"]["cause"]["name"] == "PARSE_ERROR"
        gone = chain.ask("query", {"request_type": "view_account", "account_id": "new.near"})
        assert gone["error"]["cause"]["name"] == "UNKNOWN_ACCOUNT"
        assert chain.ask("sandbox_restore", taken)["error"]["cause"]["name"] == "PARSE_ERROR"
        assert chain.stop() == 0


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"1", b"null", b'"text"', b"{}", b"[]", b'[{"id":1,"method":"status"}]',
        b'{"id": 1, "method": 7}', b'{"id": 1, "method": "adv_produce_blocks"}',
        b'{"id": 1, "method": "query", "params": {"request_type": "view_account"}}',
        b'{"id": 1, "method": "query", "params": ["account"]}',
        b'{"id": 1, "method": "tx", "params": []}',
        b'{"id": 1, "method": "tx", "params": ["x", "alice.near"]}',
        b'{"id": 1, "method": "send_tx", "params": {"signed_tx_base64": "AAAA"}}',
        b'{"id": 1, "method": "broadcast_tx_commit", "params": ["%%%"]}',
        b'{"id": 1, "method": "block", "params": {"block_id": -1}}',
        b'{"id": 1, "method": "block", "params": {"block_id": 1e99}}',
        b'{"id": 1, "method": "block", "params": {"block_id": ' + b"9" * 4_000 + b"}}",
    ],
)  # fmt: skip
def test_malformed_requests_get_an_error_and_the_server_lives(chain: Running, body: bytes) -> None:
    answer = chain.post(body)
    assert answer.status_code == 400
    assert answer.json()["error"]["name"] == "REQUEST_VALIDATION_ERROR"
    assert chain.rpc("status")


def test_every_method_refuses_wrong_types_and_none_breaks(chain: Running) -> None:
    wrong: list[Any] = [
        *(None, True, -1, 1.5, 2**63, 2**70, "", "latest", "1" * 44, "x" * 10_000, "☃", "\0"),
        *([], {}, [[]], [None], {"block_id": []}, {"finality": 5}, {"records": [{}]}),
    ]
    methods = [
        "query", "block", "chunk", "gas_price", "tx", "EXPERIMENTAL_tx_status", "send_tx",
        "broadcast_tx_async", "broadcast_tx_commit", "EXPERIMENTAL_receipt", "sandbox_restore",
        "sandbox_patch_state", "validators",
    ]  # fmt: skip
    for method in methods:
        for one in wrong:
            for params in (one, [one], [one, one], {"account_id": one, "request_type": one}):
                answer = chain.ask(method, params)
                kind = answer.get("error", {}).get("name", "")
                assert kind in {"", "REQUEST_VALIDATION_ERROR", "HANDLER_ERROR"}, answer
    assert chain.rpc("status")


def test_an_oversized_body_is_refused_with_an_error(chain: Running) -> None:
    largest = b" " * (MAX_BODY_BYTES - 2) + b"{}"
    assert chain.post(largest).json()["error"]["name"] == "REQUEST_VALIDATION_ERROR"
    answer = chain.post(largest + b" ")
    assert answer.status_code == 413
    assert "too large" in answer.json()["error"]["data"]


def test_a_client_that_stops_in_the_middle_hurts_nobody(chain: Running) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"jsonrpc"'
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        httpx.post(chain.url, content=endless())
    assert chain.rpc("status")


def test_a_contract_that_never_ends_is_stopped_and_nobody_waits_for_it(chain: Running) -> None:
    spin = call("spin", {"n": 10**15}, gas=300 * TGAS)
    with ThreadPoolExecutor(2) as pool:
        spinning = pool.submit(chain.rpc, "broadcast_tx_commit", [chain.sign(ALICE, HELLO, spin)])
        assert chain.view("get_greeting")
        assert "Exceeded the prepaid gas" in json.dumps(spinning.result()["status"])


def test_a_transaction_too_large_is_refused(chain: Running) -> None:
    raw = chain.sign(ROOT, ROOT, deploy(bytes(1_600_000)))
    found = invalid(chain.ask("broadcast_tx_commit", [raw]))
    assert found["TransactionSizeExceeded"]["limit"] == 1_572_864
    broken = chain.send(ROOT, ROOT, deploy(b"this is no wasm"))
    assert broken["status"] == {"SuccessValue": ""}  # NEAR too finds out when it is called
    called = chain.send(ALICE, ROOT, call("anything"))
    assert "CompilationError" in json.dumps(called["status"])


def test_only_post_is_served_and_status_also_by_get(chain: Running) -> None:
    assert chain.client.get(chain.url).status_code == 405
    assert chain.client.get(chain.url + "/status").json()["chain_id"] == "localnet"
    assert chain.client.post(chain.url + "/other").status_code == 404
