"""Answers have the shape that nearcore publishes: models generated from its OpenAPI read them."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from devnet.near.rules import NEAR
from tests.devnet.near.process import Running
from tests.devnet.near.tools import ALICE, BOB, HELLO, call, keys, transfer

models = pytest.importorskip("near_jsonrpc_models")

pytestmark = [pytest.mark.chain, pytest.mark.network]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("chain"), "--block-time", "0") as running:
        running.install()
        running.send(ALICE, HELLO, call("stake", deposit=NEAR))
        yield running
        assert running.stop() == 0


def model(name: str) -> Any:
    """The model's class; the modules are named like the classes, in another case."""
    found = getattr(models, name, None)
    if found is not None and hasattr(found, "model_validate"):
        return found
    module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return getattr(importlib.import_module(f"near_jsonrpc_models.{module.lstrip('_')}"), name)


@pytest.mark.parametrize(
    ("method", "params", "shape"),
    [
        ("status", None, "RpcStatusResponse"),
        ("block", {"finality": "final"}, "RpcBlockResponse"),
        ("chunk", {"block_id": 1, "shard_id": 0}, "RpcChunkResponse"),
        ("gas_price", [None], "RpcGasPriceResponse"),
        ("validators", [None], "RpcValidatorResponse"),
        ("EXPERIMENTAL_protocol_config", {"finality": "final"}, "RpcProtocolConfigResponse"),
    ],
)
def test_answers_about_the_chain(chain: Running, method: str, params: Any, shape: str) -> None:
    model(shape).model_validate(chain.rpc(method, params))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("view_account", {}),
        ("view_access_key", {"public_key": keys(HELLO)[1]}),
        ("view_access_key_list", {}),
        ("view_state", {"prefix_base64": ""}),
        ("view_code", {}),
        ("call_function", {"method_name": "get_greeting", "args_base64": "e30="}),
    ],
)
def test_answers_to_queries(chain: Running, kind: str, more: dict[str, str]) -> None:
    model("RpcQueryResponse").model_validate(chain.query(kind, HELLO, **more))


def test_answers_about_transactions(chain: Running) -> None:
    shape = model("RpcTransactionResponse")
    raw = chain.sign(ALICE, HELLO, call("ask", {"contract": HELLO}))
    sent = chain.rpc("broadcast_tx_commit", [raw])
    shape.model_validate(sent)
    failed = chain.send(ALICE, HELLO, call("nothing_of_that_name"))
    shape.model_validate(failed)
    asked = {"tx_hash": sent["transaction"]["hash"], "sender_account_id": ALICE}
    for method in ("tx", "EXPERIMENTAL_tx_status"):
        shape.model_validate(chain.rpc(method, asked))
    receipt = sent["receipts_outcome"][0]["id"]
    found = chain.rpc("EXPERIMENTAL_receipt", {"receipt_id": receipt})
    model("RpcReceiptResponse").model_validate(found)


def test_errors_about_transactions_and_queries(chain: Running) -> None:
    raw = chain.sign(ALICE, BOB, transfer(1))
    chain.rpc("broadcast_tx_commit", [raw])
    stale = chain.sign(ALICE, BOB, transfer(2), nonce=chain.nonce(ALICE))
    refused = chain.ask("broadcast_tx_commit", [stale])["error"]
    model("ErrorWrapperForRpcTransactionError").model_validate(refused)
    query = {"request_type": "view_account", "account_id": "nobody.near", "finality": "final"}
    error = chain.ask("query", query)["error"]
    model("ErrorWrapperForRpcQueryError").model_validate(error)
    error = chain.ask("block", {"block_id": 10**9})["error"]
    model("ErrorWrapperForRpcBlockError").model_validate(error)
    broken = base64.b64encode(b"no transaction").decode()
    error = chain.ask("broadcast_tx_commit", [broken])["error"]
    model("ErrorWrapperForRpcTransactionError").model_validate(error)
