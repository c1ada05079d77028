"""A client's channel on a devnet: through the command line and a voucher, to the last coin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from deai import actions as act
from deai.chain.opening import open_ledger
from deai.channels import NO_RECEIPTS, Channel, channel_id, sign_voucher
from deai.ids import SEI, AccountId, NodeId
from deai.keys import load_signer
from deai.money import UNIT, Amount
from deai.network import load_network
from devnet.accounts import channels_difference, read_books
from tests.e2e.conftest import Network, devnet

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200)]
PAST_THE_CHALLENGE_S = 61


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One honest node, and a chain whose time a test may move."""
    with devnet(tmp_path_factory.mktemp("channels"), "--nodes", "1") as running:
        yield running


def redeem(net: Network, document: dict[str, Any], amount: int) -> None:
    """What a node will do: show the chain a voucher of the client's session key."""
    key = Path(net.document["client"]["key_file"])
    sealed = key.parent / "channels" / f"{document['node_id']}.json"
    session = load_signer(sealed, key.parent / "passphrase")
    entry = load_network(Path(net.document["network_file"])).chains[document["chain"]]
    channel = Channel(
        AccountId(document["client"]), NodeId(document["node_id"]), session.account
    )  # fmt: skip

    async def show_it() -> None:
        async with open_ledger(document["chain"], entry, load_signer(key)) as ledger:
            domain = ledger.info.channels
            id_ = channel_id(channel, domain)
            assert id_ == document["channel_id"]
            voucher = sign_voucher(domain, session, id_, 1, Amount(amount), NO_RECEIPTS)
            await ledger.submit(act.RedeemVoucher(channel, voucher))

    trio.run(show_it)


def coins_too_many(net: Network) -> tuple[int, int]:
    """On the chain, and in the channels' contract."""
    entry = load_network(Path(net.document["network_file"])).chains[SEI]

    async def count() -> tuple[int, int]:
        async with open_ledger(SEI, entry) as ledger:
            books = await read_books(ledger)
            return books.difference, await channels_difference(ledger, books)

    return trio.run(count)


def hurry(net: Network, seconds: int) -> None:
    """Let chain time pass."""
    url = net.document["chains"][SEI]["rpc_url"]
    for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(url, json=body, timeout=30, trust_env=False).json()
        assert "error" not in answer, answer


def test_a_deposit_pays_a_voucher_and_the_rest_comes_back(small: Network) -> None:
    node = small.document["nodes"][0]
    before = small.deai("account", "show")
    opened = small.deai("channel", "open", node["node_id"], "10CT")
    assert (opened["state"], opened["owner"]) == ("open", node["owner"])
    again = small.deai("channel", "open", node["node_id"], "10CT")
    assert (again["transaction"], again["deposit"]) == (None, str(10 * UNIT))
    small.deai("channel", "top-up", node["node_id"], "2CT")
    redeem(small, opened, 3 * UNIT)
    shown = small.deai("channel", "show", node["node_id"])
    assert (shown["claimed"], shown["remaining"]) == (str(3 * UNIT), str(9 * UNIT))
    listed = small.deai("channel", "list")["items"]
    assert [(one["channel_id"], one["remaining"]) for one in listed] == [
        (opened["channel_id"], str(9 * UNIT))
    ]
    assert coins_too_many(small) == (0, 0), "with money in a channel"

    closing = small.deai("channel", "close", node["node_id"])
    assert closing["state"] == "closing"
    assert closing["closes_at"] is not None
    redeem(small, opened, 4 * UNIT)
    hurry(small, PAST_THE_CHALLENGE_S)
    closed = small.deai("channel", "close", node["node_id"])
    assert (closed["state"], closed["remaining"]) == ("closed", "0")
    after = small.deai("account", "show")
    assert int(before["tokens"]) - int(after["tokens"]) == 4 * UNIT
    assert coins_too_many(small) == (0, 0)
