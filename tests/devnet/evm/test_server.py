"""The process from outside: HTTP, WebSocket, and what strangers may send."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from devnet.evm.rules import MAX_BATCH, MAX_BODY_BYTES
from devnet.evm.server import MAX_SUBSCRIPTIONS
from tests.devnet.evm.tools import KEEPER, KEYS, REFUSER, Running, sign, words

pytestmark = [pytest.mark.chain, pytest.mark.network]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("chain"), "--block-time", "0.1") as running:
        yield running
        assert running.stop() == 0


def request(method: str, *params: Any, identity: object = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}


def nonce_of(chain: Running, key: int) -> int:
    return int(chain.rpc("eth_getTransactionCount", KEYS[key].address, "pending"), 16)


def deploy(chain: Running, code: bytes) -> str:
    sent = chain.send(sign(KEYS[0], nonce_of(chain, 0), data=code, gas=1_000_000))
    return str(chain.receipt(sent)["contractAddress"])


def test_it_says_who_it_is(chain: Running) -> None:
    assert chain.rpc("eth_chainId") == hex(chain.ready["chain_id"])
    assert chain.rpc("net_version") == str(chain.ready["chain_id"])
    assert "py-evm" in chain.rpc("web3_clientVersion")
    assert int(chain.rpc("eth_gasPrice"), 16) == 55 * 10**9


def test_blocks_come_without_anything_to_put_in_them(chain: Running) -> None:
    start = int(chain.rpc("eth_blockNumber"), 16)
    chain.rpc("evm_mine")
    assert int(chain.rpc("eth_blockNumber"), 16) > start
    block = chain.rpc("eth_getBlockByNumber", "latest", False)
    assert chain.rpc("eth_getBlockByHash", block["hash"], False) == block


def test_a_transaction_is_pending_and_then_has_a_receipt(chain: Running) -> None:
    raw = "0x" + sign(KEYS[0], nonce_of(chain, 0), KEYS[1].address, value=3).hex()
    sent, seen, again = chain.post(
        json.dumps(
            [
                request("eth_sendRawTransaction", raw),
                request("eth_blockNumber"),
                request("eth_sendRawTransaction", raw),
            ]
        )
    ).json()
    assert again["error"] == {"code": -32000, "message": "already known"}
    found = chain.receipt(sent["result"])
    assert int(found["blockNumber"], 16) > int(seen["result"], 16)
    transaction = chain.rpc("eth_getTransactionByHash", sent["result"])
    assert (transaction["value"], transaction["blockHash"]) == ("0x3", found["blockHash"])
    full = chain.rpc("eth_getBlockByNumber", found["blockNumber"], True)
    assert transaction in full["transactions"]
    assert chain.ask("eth_sendRawTransaction", raw)["error"]["message"] == "already known"


def test_a_waiting_transaction_is_shown_without_a_block(tmp_path: Path) -> None:
    with Running(tmp_path / "slow", "--block-time", "3600") as chain:
        sent = chain.send(sign(KEYS[0], 0, KEYS[1].address))
        assert chain.rpc("eth_getTransactionByHash", sent)["blockHash"] is None
        assert chain.rpc("eth_getTransactionReceipt", sent) is None
        for tag, count in (("latest", "0x0"), ("pending", "0x1")):
            assert chain.rpc("eth_getTransactionCount", KEYS[0].address, tag) == count
        chain.rpc("evm_mine")
        assert chain.rpc("eth_getTransactionReceipt", sent)["status"] == "0x1"
        assert chain.stop() == 0


def test_a_revert_carries_its_data_over_the_wire(chain: Running) -> None:
    refuser = deploy(chain, REFUSER)
    error = chain.ask("eth_call", {"to": refuser, "data": "0x12345678"}, "latest")["error"]
    assert error == {"code": 3, "message": "execution reverted", "data": "0x12345678"}


def test_fee_history_has_one_more_fee_than_blocks(chain: Running) -> None:
    chain.rpc("evm_mine", {"blocks": 5})
    history = chain.rpc("eth_feeHistory", "0x4", "latest", [25, 75])
    assert len(history["baseFeePerGas"]) == 5
    assert len(history["gasUsedRatio"]) == len(history["reward"]) == 4
    assert int(history["oldestBlock"], 16) > 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"', -32700),
        (b"[" * 200_000, -32700),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[9e99,-1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":["\xff"]}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"evm_mine","params":[' + b"9" * 5_000 + b"]}", -32700),
        (b"1", -32600),
        (b"null", -32600),
        (b'"text"', -32600),
        (b"{}", -32600),
        (b"[]", -32600),
        (b'{"id": 1, "method": "eth_chainId"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', -32600),
        (b'{"jsonrpc": "2.0", "id": [1], "method": "eth_chainId"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": {}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [1]}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": []}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "debug_setHead", "params": []}', -32601),
    ],
)  # fmt: skip
def test_malformed_requests_get_an_error_and_the_server_lives(
    chain: Running, body: bytes, code: int
) -> None:
    answer = chain.post(body)
    assert answer.status_code == 200
    found = answer.json()
    assert found["error"]["code"] == code, found
    assert chain.rpc("eth_chainId")


def test_every_method_refuses_wrong_types_and_none_breaks(chain: Running) -> None:
    wrong: list[Any] = [
        *(None, True, -1, 1.5, 2**70, "", "0x", "latest", "0xzz", "0x" + "11" * 33),
        *([], {}, [[]], {"to": 5}, {"topics": [[[]]]}, {"blockHash": 3}),
    ]
    methods = [
        "eth_getBalance", "eth_getTransactionCount", "eth_getCode", "eth_getStorageAt", "eth_call",
        "eth_estimateGas", "eth_sendRawTransaction", "eth_getTransactionByHash", "eth_getLogs",
        "eth_getTransactionReceipt", "eth_getBlockByNumber", "eth_getBlockByHash",
        "eth_feeHistory", "evm_increaseTime", "evm_setNextBlockTimestamp", "evm_revert",
    ]  # fmt: skip
    allowed = {-32000, -32602, -32601, 3}
    for method in methods:
        batch = [
            request(method, *params, identity=f"{one!r}")
            for one in wrong
            for params in ([one], [one, one], ["0x" + "11" * 20, one], [one, one, one])
        ]
        for answer in chain.post(json.dumps(batch)).json():
            assert "result" in answer or answer["error"]["code"] in allowed, (method, answer)
    assert chain.rpc("eth_chainId")


def test_a_notification_is_not_answered(chain: Running) -> None:
    silent = {"jsonrpc": "2.0", "method": "eth_chainId"}
    assert chain.post(json.dumps(silent)).content == b""
    both = chain.post(json.dumps([silent, request("eth_chainId", identity="a")])).json()
    assert [answer["id"] for answer in both] == ["a"]


def test_an_oversized_body_is_refused_with_an_error(chain: Running) -> None:
    largest = b" " * (MAX_BODY_BYTES - 2) + b"{}"
    assert chain.post(largest).json()["error"]["code"] == -32600
    answer = chain.post(largest + b" ")
    assert answer.status_code == 413
    assert "too large" in answer.json()["error"]["message"]


def test_a_batch_may_hold_a_thousand_requests_and_no_more(chain: Running) -> None:
    batch = [request("eth_chainId", identity=number) for number in range(MAX_BATCH)]
    answers = chain.post(json.dumps(batch)).json()
    assert [answer["id"] for answer in answers] == list(range(MAX_BATCH))
    refused = chain.post(json.dumps([*batch, request("eth_chainId")])).json()
    assert "batch too large" in refused["error"]["message"]


def test_only_post_is_served(chain: Running) -> None:
    assert chain.client.get(chain.ready["rpc_url"]).status_code == 405
    assert chain.client.post(chain.ready["rpc_url"] + "/other").status_code == 404


def test_a_client_that_stops_in_the_middle_hurts_nobody(chain: Running) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"jsonrpc"'
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        httpx.post(chain.ready["rpc_url"], content=endless())
    assert chain.rpc("eth_chainId")


async def _talk(chain: Running, *messages: str | bytes) -> list[dict[str, Any]]:
    async with connect(chain.ready["ws_url"], max_size=None) as socket:
        answers = []
        for message in messages:
            await socket.send(message)
            answers.append(json.loads(await asyncio.wait_for(socket.recv(), 30)))
        return answers


def test_a_websocket_takes_text_and_binary_frames(chain: Running) -> None:
    text = json.dumps(request("eth_chainId"))
    one, two = asyncio.run(_talk(chain, text, text.encode()))
    assert one == two == {"jsonrpc": "2.0", "id": 1, "result": hex(chain.ready["chain_id"])}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", -32700),
        ("[" * 100_000, -32700),
        (json.dumps(request("eth_subscribe")), -32602),
        (json.dumps(request("eth_subscribe", "syncing")), -32602),
        (json.dumps(request("eth_subscribe", "logs", {"topics": 5})), -32602),
        (json.dumps(request("eth_subscribe", "logs", 5)), -32602),
        (json.dumps(request("eth_unsubscribe", "0x99")), -32000),
        (json.dumps(request("eth_unsubscribe", [])), -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":{"a":1}}', -32602),
    ],
)
def test_a_websocket_answers_nonsense_with_an_error(
    chain: Running, message: str, code: int
) -> None:
    (answer,) = asyncio.run(_talk(chain, message))
    assert answer["error"]["code"] == code


def test_subscribing_over_http_does_not_exist(chain: Running) -> None:
    assert chain.ask("eth_subscribe", "newHeads")["error"]["code"] == -32601


def test_subscriptions_per_connection_are_bounded(chain: Running) -> None:
    wanted = json.dumps(request("eth_subscribe", "logs", {"address": KEYS[4].address}))
    answers = asyncio.run(_talk(chain, *[wanted] * (MAX_SUBSCRIPTIONS + 1)))
    assert all("result" in answer for answer in answers[:-1])
    assert "subscriptions on one connection" in answers[-1]["error"]["message"]


def test_an_oversized_frame_closes_only_its_own_connection(chain: Running) -> None:
    with pytest.raises(ConnectionClosed):
        asyncio.run(_talk(chain, b" " * (MAX_BODY_BYTES + 1)))
    assert chain.rpc("eth_chainId")


def test_subscribers_hear_every_head_and_the_logs_they_want(chain: Running) -> None:
    keeper = deploy(chain, KEEPER)
    nonce = nonce_of(chain, 0)

    async def listen() -> tuple[list[int], list[str]]:
        async with connect(chain.ready["ws_url"]) as socket:
            names = {}
            for kind, wanted in (
                ("newHeads", []),
                ("logs", [{"address": keeper, "topics": ["0x" + words(2).hex()]}]),
            ):
                await socket.send(json.dumps(request("eth_subscribe", kind, *wanted)))
                answer = json.loads(await socket.recv())
                while "id" not in answer:  # a head may come between
                    answer = json.loads(await socket.recv())
                names[answer["result"]] = kind
            for offset, topic in enumerate((1, 2, 3, 2)):
                raw = sign(KEYS[0], nonce + offset, keeper, data=words(topic, offset))
                await socket.send(json.dumps(request("eth_sendRawTransaction", "0x" + raw.hex())))
            heads: list[int] = []
            logs: list[str] = []
            while len(logs) < 2 or len(heads) < 5:
                message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                if "params" not in message:
                    assert "result" in message, message
                    continue
                found = message["params"]["result"]
                if names[message["params"]["subscription"]] == "newHeads":
                    heads.append(int(found["number"], 16))
                else:
                    logs.append(found["data"])
            return heads, logs

    heads, logs = asyncio.run(listen())
    assert heads == list(range(heads[0], heads[0] + len(heads)))
    assert logs == ["0x" + words(1).hex(), "0x" + words(3).hex()]
