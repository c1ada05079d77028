"""`deai channel`: a deposit for a node, and all of it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from deai import actions as act
from deai.chain.opening import info_of
from deai.channels import Channel, channel_id, sign_voucher
from deai.hashing import ZERO
from deai.ids import NEAR, NodeId, near_node_id, node_id
from deai.keys import create_key, load_signer
from deai.money import UNIT, Amount
from deai.network import Network, load_network, save_network
from deai.signing import Ed25519Signer
from tests.cli.conftest import Done, Shell
from tests.cli.network import Neighbourhood
from tests.client.support.world import PARAMETERS, signer
from tests.deai.chain.chains import PARAMETERS as ON_CHAIN
from tests.deai.chain.near.harness import NearChain, secret_of, settings

pytestmark = pytest.mark.world

PAYER, OWNER = signer("payer").account, signer("owner")
NODE = node_id(OWNER.account, 0)


def wallet(shell: Shell) -> int:
    return int(shell.json("account", "show").document["tokens"])


def key_of(shell: Shell, node: NodeId = NODE) -> Path:
    return shell.home / "keys" / "channels" / f"{node}.json"


def redeem(on: Neighbourhood, shell: Shell, amount: int) -> None:
    """A voucher of the client's session key is redeemed."""
    session = load_signer(key_of(shell), shell.home / "keys" / "passphrase")
    channel = Channel(PAYER, NODE, session.account)
    domain = on.chain.info.channels
    id_ = channel_id(channel, domain)
    voucher = sign_voucher(domain, session, id_, 1, Amount(amount), ZERO)

    async def take() -> None:
        await on.chain.ledger(OWNER).submit(act.RedeemVoucher(channel, voucher))

    trio.run(take)


def test_a_deposit_goes_in_and_what_no_voucher_took_comes_back(
    shell: Shell, rich: Neighbourhood
) -> None:
    opened = shell.json("channel", "open", NODE, "10CT")
    assert opened.status == 0
    document = opened.document
    session = json.loads(key_of(shell).read_text())["address"]
    assert document["session_key"] == f"0x{session}"
    assert (document["node_id"], document["owner"]) == (NODE, OWNER.account)
    assert (document["client"], document["chain"]) == (PAYER, "sei")
    assert (document["state"], document["epoch"], document["deposit"]) == (
        "open", 1, str(10 * UNIT),
    )  # fmt: skip
    assert document["transaction"]
    assert document["closes_at"] is None
    assert wallet(shell) == 90 * UNIT

    more = shell.json("channel", "top-up", NODE, "2.5CT").document
    assert more["deposit"] == str(12 * UNIT + UNIT // 2)
    redeem(rich, shell, 3 * UNIT)
    shown = shell.json("channel", "show", NODE).document
    assert (shown["claimed"], shown["transaction"]) == (str(3 * UNIT), None)
    assert shown["remaining"] == str(9 * UNIT + UNIT // 2)

    asked = shell.json("channel", "close", NODE).document
    assert (asked["state"], asked["transaction"] is None) == ("closing", False)
    assert asked["closes_at"].endswith("Z")
    waiting = shell.json("channel", "close", NODE)
    assert (waiting.status, waiting.document["state"]) == (0, "closing")
    assert waiting.document["transaction"] is None
    rich.chain.advance(PARAMETERS.close_period + 1)
    done = shell.json("channel", "close", NODE).document
    assert (done["state"], done["deposit"], done["remaining"]) == ("closed", "0", "0")
    assert wallet(shell) == 97 * UNIT
    over = shell.json("channel", "close", NODE).document
    assert (over["state"], over["transaction"]) == ("closed", None)


def test_opening_may_be_repeated_and_goes_on_after_a_close(
    shell: Shell, rich: Neighbourhood
) -> None:
    first = shell.json("channel", "open", NODE, "10CT").document
    again = shell.json("channel", "open", NODE, "10CT")
    assert (again.status, again.document["transaction"]) == (0, None)
    assert again.document["session_key"] == first["session_key"]
    assert wallet(shell) == 90 * UNIT

    refused = shell.json("channel", "open", NODE, "11CT")
    assert (refused.status, refused.error["code"]) == (2, "channel_exists")
    shell.json("channel", "close", NODE)
    assert shell.json("channel", "open", NODE, "10CT").error["code"] == "channel_exists"
    rich.chain.advance(PARAMETERS.close_period + 1)
    shell.json("channel", "close", NODE)

    second = shell.json("channel", "open", NODE, "4CT").document
    assert (second["epoch"], second["channel_id"]) == (2, first["channel_id"])
    assert wallet(shell) == 96 * UNIT


def test_a_named_top_up_is_made_once(shell: Shell, rich: Neighbourhood) -> None:
    shell.json("channel", "open", NODE, "1CT")
    for _ in range(2):
        done = shell.json("channel", "top-up", NODE, "1CT", "--key", "november")
        assert done.document["deposit"] == str(2 * UNIT)


def test_what_is_missing_is_told_and_the_same_command_goes_on(
    shell: Shell, rich: Neighbourhood
) -> None:
    asked = shell.json("channel", "open", NODE, "101CT")
    assert asked.status == 5
    assert asked.document["needs"] == {"address": PAYER, "gas": "0", "tokens": str(UNIT)}
    assert (asked.document["state"], asked.document["transaction"]) == ("none", None)
    rich.give(UNIT)
    done = shell.json("channel", "open", NODE, "101CT")
    assert (done.status, done.document["state"]) == (0, "open")
    assert done.document["session_key"] == asked.document["session_key"]
    short = shell.json("channel", "top-up", NODE, "1CT")
    assert (short.status, short.document["needs"]["tokens"]) == (5, str(UNIT))


def test_all_channels_are_listed_and_others_homes_are_reached_by_session_key(
    shell: Shell, rich: Neighbourhood
) -> None:
    other = node_id(OWNER.account, 1)
    shell.json("channel", "open", NODE, "1CT")
    second = shell.json("channel", "open", other, "2CT").document
    items = shell.json("channel", "list").document["items"]
    assert [(one["node_id"], one["deposit"]) for one in items] == [
        (NODE, str(UNIT)), (other, str(2 * UNIT)),
    ]  # fmt: skip
    key_of(shell, other).unlink()
    lost = shell.json("channel", "show", other)
    assert (lost.status, lost.error["code"]) == (3, "no_session_key")
    for command in ("show", "close"):
        found = shell.json("channel", command, other, "--session-key", second["session_key"])
        assert found.document["channel_id"] == second["channel_id"]


def test_a_network_without_channels_is_said_to_have_none(shell: Shell, rich: Neighbourhood) -> None:
    del rich.chain.info.contracts["PaymentChannels"]
    network = load_network(shell.home / "network.json")
    save_network(network, shell.home / "network.json")
    asked: list[Done] = [
        shell.json("channel", "open", NODE, "1CT"),
        shell.json("channel", "show", NODE),
        shell.json("channel", "list"),
    ]
    for one in asked:
        assert (one.status, one.error["code"]) == (3, "no_channels")
        assert one.error["hint"]
    assert not key_of(shell).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("open", NODE, "ten"),
        ("open", "0x12", "1CT"),
        ("open", NODE),
        ("top-up", NODE, "-1"),
        ("show", "node-0"),
        ("show", NODE, "--session-key", "0x12"),
        ("show", NODE, "--session-key", Ed25519Signer(bytes(32)).account),
        ("close",),
    ],
)
def test_wrong_words_are_a_usage_error(
    shell: Shell, rich: Neighbourhood, arguments: tuple[str, ...]
) -> None:
    refused = shell.json("channel", *arguments)
    assert refused.status == 2
    assert set(refused.error) == {"code", "message", "hint"}


def test_a_node_of_the_other_chain_is_told_as_such(shell: Shell, rich: Neighbourhood) -> None:
    theirs = f"{'ab' * 32}#0"
    source = shell.home / "lines.txt"
    source.write_text("a\n")
    there = [("channel", "show", theirs), ("channel", "open", theirs, "1CT")]
    asked = ("echo", "--input", str(source), "--output", str(shell.home / "out"), "--node", theirs)
    there += [("task", "submit", *asked), ("task", "map", *asked)]
    for arguments in there:
        refused = shell.json(*arguments)
        assert (refused.status, refused.error["code"]) == (2, "bad_node_id")
        assert "say --chain near" in refused.error["hint"]
    assert "--json" in shell.json("channel", "show", "0x12").error["hint"]


def test_pages_for_people(shell: Shell, rich: Neighbourhood) -> None:
    shown = shell("channel", "open", NODE, "10CT", "--yes").out
    assert "10.000000 CT" in shown
    assert NODE in shown
    listed = shell("channel", "list").out
    assert "10.000000" in listed
    assert "open" in listed


@pytest.mark.chain
@pytest.mark.network
@pytest.mark.slow
def test_the_same_commands_do_the_same_on_near(shell: Shell, near: NearChain) -> None:
    payer, owner = near.signer(), near.signer()
    keys = shell.home / "keys"
    keys.mkdir(mode=0o700, parents=True)
    create_key(keys / "client-near.json", keys / "passphrase", secret=secret_of(payer), chain=NEAR)
    save_network(Network(name="t", chains={NEAR: near.entry}), shell.home / "network.json")
    config = f'chain = "near"\n[client]\naccount = "{payer.account}"\n'
    (shell.home / "config.toml").write_text(config)
    node = near_node_id(owner.account, 3)

    def run(*arguments: str) -> Any:
        done = shell.json("channel", *arguments)
        assert done.status == 0, (done.out, done.err)
        return done.document

    async def as_holder(*actions: act.Action) -> None:
        from deai.chain.near.keys import NearKey
        from deai.chain.near.ledger import open_near_ledger

        key = NearKey(near.holder.account, near.holder.key)
        async with open_near_ledger(near.entry, key, settings=settings()) as ledger:
            for action in actions:
                await ledger.submit(action)

    poor = shell.json("channel", "open", node, "10CT")
    assert (poor.status, poor.document["needs"]["address"]) == (5, payer.account)
    trio.run(as_holder, act.TransferTokens(payer.account, Amount(100 * UNIT)))
    opened = run("open", node, "10CT")
    assert opened["session_key"].startswith("ed25519:")
    assert opened["session_key"] == poor.document["session_key"]
    assert (opened["chain"], opened["client"], opened["owner"]) == (
        "near", payer.account, owner.account,
    )  # fmt: skip
    assert (opened["state"], opened["deposit"], opened["epoch"]) == ("open", str(10 * UNIT), 1)
    assert run("open", node, "10CT")["transaction"] is None
    assert run("top-up", node, "2CT")["deposit"] == str(12 * UNIT)
    assert wallet(shell) == 88 * UNIT

    session = load_signer(key_of(shell, node), keys / "passphrase", chain=NEAR)
    channel = Channel(payer.account, node, session.account)
    domain = info_of(NEAR, near.entry).channels
    voucher = sign_voucher(domain, session, opened["channel_id"], 1, Amount(3 * UNIT), ZERO)
    trio.run(as_holder, act.RedeemVoucher(channel, voucher))
    assert run("show", node, "--session-key", session.account)["claimed"] == str(3 * UNIT)
    assert [one["channel_id"] for one in run("list")["items"]] == [opened["channel_id"]]

    assert run("close", node)["state"] == "closing"
    waiting = run("close", node)
    assert (waiting["state"], waiting["transaction"]) == ("closing", None)
    near.advance(ON_CHAIN.close_period + 1)
    closed = run("close", node)
    assert (closed["state"], closed["remaining"], closed["due"]) == ("closed", "0", "0")
    assert wallet(shell) == 97 * UNIT
    assert run("close", node)["transaction"] is None
    again = run("open", node, "1CT")
    assert (again["epoch"], again["channel_id"]) == (2, opened["channel_id"])
    wrong = shell.json("channel", "show", node, "--session-key", "0x" + "ab" * 20)
    assert wrong.status == 2
