"""A second client: web3.py must be able to live on this chain."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
from eth_account.signers.local import LocalAccount
from web3 import AsyncWeb3, HTTPProvider, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError, Web3RPCError
from web3.types import TxParams

from tests.devnet.evm.tools import KEEPER, KEYS, REFUSER, RICH, Running, words

pytestmark = [pytest.mark.chain, pytest.mark.network]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("chain"), "--block-time", "0.1") as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def w3(chain: Running) -> Web3:
    return Web3(HTTPProvider(chain.ready["rpc_url"]))


def send(w3: Web3, key: LocalAccount, **fields: Any) -> Any:
    transaction: dict[str, Any] = {
        "chainId": w3.eth.chain_id,
        "nonce": w3.eth.get_transaction_count(key.address, "pending"),
        "maxFeePerGas": w3.eth.gas_price * 2,
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
        **fields,
    }
    simulated = cast("TxParams", {"from": key.address, **transaction})
    signed = key.sign_transaction(transaction | {"gas": w3.eth.estimate_gas(simulated)})
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    return w3.eth.wait_for_transaction_receipt(sent, timeout=60, poll_latency=0.05)


def test_money_code_storage_logs_and_fees(w3: Web3) -> None:
    assert w3.is_connected()
    assert w3.eth.get_balance(KEYS[4].address) == RICH
    keeper = send(w3, KEYS[0], data=KEEPER)["contractAddress"]
    receipt = send(w3, KEYS[0], to=keeper, data=words(1, 5))
    assert receipt["status"] == 1
    assert w3.eth.get_storage_at(keeper, 1) == words(5)
    assert len(w3.eth.get_code(keeper)) == KEEPER[1]
    (log,) = w3.eth.get_logs({"address": keeper, "fromBlock": 0, "toBlock": "latest"})
    assert log == receipt["logs"][0]
    block = w3.eth.get_block(receipt["blockHash"], full_transactions=True)
    assert block["transactions"][0] == w3.eth.get_transaction(receipt["transactionHash"])
    assert len(w3.eth.fee_history(2, "latest", [50])["reward"]) == 2


def test_errors_arrive_as_web3_knows_them(w3: Web3) -> None:
    refuser = send(w3, KEYS[1], data=REFUSER)["contractAddress"]
    reason = bytes.fromhex("08c379a0") + words(32, 2) + b"no".ljust(32, b"\0")
    with pytest.raises(ContractLogicError, match="execution reverted: no"):
        w3.eth.call({"to": refuser, "data": reason})
    with pytest.raises(ContractCustomError) as caught:
        w3.eth.call({"to": refuser, "data": b"\x12\x34\x56\x78"})
    assert caught.value.data == "0x12345678"
    with pytest.raises(Web3RPCError, match="invalid transaction"):
        w3.eth.send_raw_transaction(b"\x02\x01")


def test_subscriptions_over_a_websocket(chain: Running) -> None:
    async def two_heads() -> list[int]:
        async with AsyncWeb3(WebSocketProvider(chain.ready["ws_url"])) as w3:
            await w3.eth.subscribe("newHeads")
            numbers: list[int] = []
            async for message in w3.socket.process_subscriptions():
                head: Any = message["result"]
                numbers.append(head["number"])
                if len(numbers) == 2:
                    break
            return numbers

    first, second = asyncio.run(asyncio.wait_for(two_heads(), 60))
    assert second == first + 1
