"""A client's channel on each chain of a devnet: commands, paid tasks, rewards, every last coin."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from deai import actions as act
from deai.chain.opening import open_ledger
from deai.channels import NO_RECEIPTS, Channel, channel_id, sign_voucher
from deai.ids import NEAR, SEI, AccountId, ChainName, ChannelId, NodeId
from deai.keys import key_file, load_signer
from deai.money import UNIT, Amount
from deai.network import load_network
from devnet.accounts import channels_difference, read_books
from tests.e2e.conftest import Network, devnet, eventually
from tests.e2e.test_near import _lacks

pytestmark = [
    pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(_lacks()), reason=f"no NEAR devnet: {_lacks()}"),
]  # fmt: skip
PAST_THE_CHALLENGE_S = 61
EPOCH_S, REWARD_DELAY_S = 60, 11
LINES = 300


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One honest node on both chains, whose time a test may move."""
    options = ["--nodes", "1", "--chain", "both"]
    with devnet(tmp_path_factory.mktemp("channels"), *options) as running:
        yield running


def redeem(net: Network, document: dict[str, Any], amount: int) -> None:
    """What a node will do: show the chain a voucher of the client's session key.

    On NEAR with the operator's own key, whose account of its own nobody else sends from.
    """
    keys, chain = Path(net.document["client"]["key_file"]).parent, document["chain"]
    sealed = keys / "channels" / f"{document['node_id']}.json"
    session = load_signer(sealed, keys / "passphrase", chain=chain)
    by, owner = load_signer(key_file(keys.parent, "client", chain), keys / "passphrase"), None
    if chain == NEAR:
        home = Path(net.document["nodes"][0]["home"])
        by, owner = load_signer(key_file(home, "operator", chain)), AccountId(document["owner"])
    entry = load_network(Path(net.document["network_file"])).chains[chain]
    channel = Channel(
        AccountId(document["client"]), NodeId(document["node_id"]), session.account
    )  # fmt: skip

    async def show_it() -> None:
        async with open_ledger(chain, entry, by, account=owner) as ledger:
            domain = ledger.info.channels
            id_ = channel_id(channel, domain)
            assert id_ == document["channel_id"]
            voucher = sign_voucher(domain, session, id_, 1, Amount(amount), NO_RECEIPTS)
            await ledger.submit(act.RedeemVoucher(channel, voucher))

    trio.run(show_it)


def coins_too_many(net: Network, chain: ChainName) -> tuple[int, int]:
    """On the chain, and in the channels' contract."""
    entry = load_network(Path(net.document["network_file"])).chains[chain]

    async def count() -> tuple[int, int]:
        async with open_ledger(chain, entry) as ledger:
            books = await read_books(ledger)
            return books.difference, await channels_difference(ledger, books)

    return trio.run(count)


def hurry(net: Network, chain: ChainName, seconds: int) -> None:
    """Let chain time pass."""
    url = net.document["chains"][chain]["rpc_url"]
    on_near = [("sandbox_fast_forward", {"delta_height": 0, "seconds": seconds})]
    on_sei = [("evm_increaseTime", [seconds]), ("evm_mine", [])]
    calls: list[tuple[str, Any]] = [*on_near] if chain == NEAR else [*on_sei]
    for method, params in calls:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(url, json=body, timeout=30, trust_env=False).json()
        assert "error" not in answer, answer


@pytest.mark.parametrize("chain", [SEI, NEAR])
def test_a_deposit_pays_a_voucher_and_the_rest_comes_back(small: Network, chain: ChainName) -> None:
    def deai(*arguments: str) -> Any:
        return small.deai("--chain", chain, *arguments)

    node = small.document["nodes"][0]["chains"][chain]
    before = deai("account", "show")
    opened = deai("channel", "open", node["node_id"], "10CT")
    assert (opened["state"], opened["owner"]) == ("open", node["owner"])
    again = deai("channel", "open", node["node_id"], "10CT")
    assert (again["transaction"], again["deposit"]) == (None, str(10 * UNIT))
    deai("channel", "top-up", node["node_id"], "2CT")
    redeem(small, opened, 3 * UNIT)
    shown = deai("channel", "show", node["node_id"])
    assert (shown["claimed"], shown["remaining"]) == (str(3 * UNIT), str(9 * UNIT))
    listed = deai("channel", "list")["items"]
    assert [(one["channel_id"], one["remaining"]) for one in listed] == [
        (opened["channel_id"], str(9 * UNIT))
    ]
    assert coins_too_many(small, chain) == (0, 0), "with money in a channel"

    closing = deai("channel", "close", node["node_id"])
    assert closing["state"] == "closing"
    assert closing["closes_at"] is not None
    redeem(small, opened, 4 * UNIT)
    hurry(small, chain, PAST_THE_CHALLENGE_S)
    closed = deai("channel", "close", node["node_id"])
    assert (closed["state"], closed["remaining"]) == ("closed", "0")
    after = deai("account", "show")
    assert int(before["tokens"]) - int(after["tokens"]) == 4 * UNIT
    assert coins_too_many(small, chain) == (0, 0)


def claimed_and_held(net: Network, chain: ChainName, opened: dict[str, Any]) -> tuple[int, int]:
    """What was claimed from a channel, and what its node's owner holds outside every contract."""
    entry = load_network(Path(net.document["network_file"])).chains[chain]

    async def look() -> tuple[int, int]:
        async with open_ledger(chain, entry) as ledger:
            record = await ledger.channel(ChannelId(opened["channel_id"]))
            owner = await ledger.balances(AccountId(opened["owner"]))
            return int(record.claimed), owner.tokens

    return trio.run(look)


def redeemed(found: tuple[int, int], before: int) -> tuple[int, int] | None:
    """The same, once something was claimed and has arrived."""
    claimed, held = found
    return found if claimed and held > before else None


@pytest.mark.parametrize("chain", [SEI, NEAR])
def test_lines_are_computed_over_a_channel_and_their_node_redeems_what_they_cost(
    small: Network, chain: ChainName, tmp_path: Path
) -> None:
    def deai(*arguments: str) -> Any:
        return small.deai("--chain", chain, *arguments)

    def of_node(*arguments: str) -> Any:
        return small.plain("--home", node["home"], "--chain", chain, *arguments)

    node = small.document["nodes"][0]
    name = node["chains"][chain]["node_id"]
    opened = deai("channel", "open", name, "10CT")
    none, before = claimed_and_held(small, chain, opened)
    assert none == 0
    lines, results = tmp_path / "lines.txt", tmp_path / "results.jsonl"
    lines.write_text("".join(f"line {at}\n" for at in range(LINES)))
    mapped = deai("task", "map", "echo", "--input", str(lines), "--output", str(results))
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["output"] for row in rows] == [f"line {at}" for at in range(LINES)]
    one = deai("task", "submit", "echo", "--input", str(lines), "--lane", "channel")
    checked = ["--input", str(lines), "--output", one["result"]["path"]]
    assert small.plain("task", "verify-receipt", one["receipt"], *checked)["ok"]

    price = int(one["paid"])
    cost = (LINES + 1) * price
    assert (int(mapped["paid"]), mapped["failed"]) == (LINES * price, 0)
    shown = deai("channel", "show", name)
    promised = shown["promised"]
    assert (promised["amount"], promised["tasks"]) == (str(cost), LINES + 1)
    assert (promised["unpaid"], promised["unacknowledged"]) == ("0", 0)
    of_node("channel", "redeem")
    # On NEAR the tokens arrive some blocks after the claim.
    claimed, held = eventually(lambda: redeemed(claimed_and_held(small, chain, opened), before))
    assert (claimed, held - before) == (cost, cost)
    items = of_node("channel", "show", name)["items"]
    theirs = next(item for item in items if item["channel_id"] == opened["channel_id"])
    assert theirs["tasks"]["paid"] == LINES + 1
    assert (theirs["promised"], theirs["unredeemed"]) == (str(cost), "0")
    assert coins_too_many(small, chain) == (0, 0)


def begin_epoch(net: Network, chain: ChainName) -> None:
    """Let the present epoch end just now, so that the next one does not for a minute."""
    entry = load_network(Path(net.document["network_file"])).chains[chain]

    async def now() -> int:
        async with open_ledger(chain, entry) as ledger:
            return (await ledger.head()).time

    hurry(net, chain, EPOCH_S + 1 - trio.run(now) % EPOCH_S)


def proposer(net: Network, chain: ChainName) -> list[str]:
    home = str(net.directory / "treasury")
    return ["--home", home, "--chain", chain, "rewards", "propose", "--follow"]


@contextmanager
def proposing(net: Network, chain: ChainName) -> Iterator[None]:
    """The treasury's own program, until Ctrl-C."""
    child = net.spawn(*proposer(net, chain))
    try:
        yield
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=60)
        assert child.returncode == 0, (out, errors)
        assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


@pytest.mark.parametrize("chain", [SEI, NEAR])
def test_the_treasury_proposes_by_itself_what_an_account_is_owed(
    small: Network, chain: ChainName
) -> None:
    def deai(*arguments: str) -> Any:
        return small.deai("--chain", chain, *arguments)

    def proposed() -> int | None:
        shown = deai("rewards", "status")
        found: int | None = (shown["waiting"] or shown)["epoch"]
        return found

    me, before = deai("account", "show")["account"], int(deai("account", "show")["tokens"])
    deai("rewards", "fund", "5CT", "--for", f"{me}=3CT", "--as", "refund")
    begin_epoch(small, chain)
    # Its first life ends when it knows what to send and nobody has heard of it.
    small.dies("add", "ProposeRewards:", *proposer(small, chain))
    assert proposed() is None
    with proposing(small, chain):
        epoch = eventually(proposed)
    assert deai("rewards", "verify", str(epoch))["ok"] is True
    hurry(small, chain, REWARD_DELAY_S)
    got = deai("rewards", "claim")
    assert (got["ok"], got["paid"], got["claimable"]) == (True, str(3 * UNIT), "0")
    assert int(deai("account", "show")["tokens"]) == before - 2 * UNIT
    assert coins_too_many(small, chain) == (0, 0)
