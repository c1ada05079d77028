"""Attacks on the channel contract: vouchers that should not pay, tokens that do not arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from py_near import transactions as near

from deai import channels
from deai.ids import AccountId
from deai.money import UNIT
from deai.signing import Domain
from devnet.near.chain import Options
from devnet.near.rules import NEAR
from tests.contracts_near.channel_world import (
    CHANNELS,
    DEPOSIT,
    OTHER_CHANNELS,
    OTHER_TOKEN,
    POOR,
    ChannelWorld,
    a_channel_world,
    document,
    names,
    register,
)
from tests.contracts_near.world import (
    ARTIFACTS,
    CHAIN,
    CLIENT,
    OWNERS,
    STRANGER,
    SUPPLY,
    TOKEN,
    refusal,
)

pytestmark = pytest.mark.slow

VECTORS = Path(__file__).parents[2] / "contracts" / "spec" / "vectors" / "channels.json"
PAYEE = OWNERS[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ChannelWorld]:
    with a_channel_world(tmp_path) as made:
        yield made


# --- vouchers that should not pay ---------------------------------------------------------------


def test_vouchers_of_another_epoch_channel_contract_or_chain_pay_nothing(
    world: ChannelWorld,
) -> None:
    channel = world.channel()
    world.open(channel)
    old = world.voucher(channel, 9 * UNIT)
    world.close(channel, old)
    assert refusal(world.redeem(channel, old))[0] == "E_BAD_STATE"
    world.open(channel)
    sibling = world.channel(owner=OWNERS[1])
    world.open(sibling)
    strange = [
        old,
        world.voucher(channel, 9 * UNIT, epoch=3),
        world.voucher(sibling, 9 * UNIT, epoch=2),
        *(
            world.voucher(channel, 9 * UNIT, domain=domain)
            for domain in (
                Domain(channels.CHANNELS_NAME, "near:mainnet", AccountId(CHANNELS)),
                Domain(channels.CHANNELS_NAME, CHAIN, AccountId(OTHER_CHANNELS)),
                Domain("deai escrow", CHAIN, AccountId(CHANNELS)),
            )
        ),
    ]
    for voucher in strange:
        assert refusal(world.redeem(channel, voucher)) == ("E_BAD_SIGNATURE", {})
    assert world.tokens(PAYEE) == 9 * UNIT
    # The same channel of a second deployment.
    world.deploy(OTHER_CHANNELS)
    here = world.voucher(channel, UNIT)
    world.call(CLIENT, "storage_deposit", {}, deposit=NEAR, receiver=OTHER_CHANNELS)
    message = {"open": {"node": channel.node, "session_key": channel.session_key}}
    sent = {"receiver_id": OTHER_CHANNELS, "amount": "5", "msg": json.dumps(message)}
    opened = world.call(CLIENT, "ft_transfer_call", sent, deposit=1, receiver=TOKEN, gas=60)
    assert opened.value == "5"
    there = world.redeem(channel, here, contract=OTHER_CHANNELS)
    assert refusal(there) == ("E_BAD_SIGNATURE", {})


def test_one_voucher_sent_twice_in_one_block_pays_once(world: ChannelWorld) -> None:
    channel = world.channel()
    world.open(channel)
    arguments = {"channel": document(channel), "voucher": world.voucher(channel, 4)}
    sent = [world.submit_call(signer, "redeem", arguments) for signer in (STRANGER, CLIENT)]
    world.chain.settle()
    results = [world.result(one) for one in sent]
    failed = [one for one in results if "Failure" in one.status]
    assert [refusal(one) for one in failed] == [("E_NOTHING_NEW", {"claimed": "4"})]
    assert world.tokens(PAYEE) == 4


# --- tokens that do not arrive ------------------------------------------------------------------


def test_what_the_token_refuses_waits_for_the_owner(world: ChannelWorld) -> None:
    channel = world.channel(owner=POOR)
    world.open(channel)
    done = world.redeem(channel, world.voucher(channel, 5 * UNIT))
    assert done.value is False
    assert names(done) == ["voucher_redeemed", "transfer_failed"]
    found = world.of(channel)
    assert (found["claimed"], found["due_owner"]) == (str(5 * UNIT), str(5 * UNIT))
    assert world.tokens(CHANNELS) == world.owed(channel) == DEPOSIT
    assert world.pay_due(channel).value is False
    # The channel ends meanwhile, and begins again.
    done = world.close(channel, world.voucher(channel, 6 * UNIT))
    assert done.value is False  # one of two arrived
    world.open(channel, 9)
    found = world.of(channel)
    assert (found["epoch"], found["deposit"], found["due_owner"]) == (2, "9", str(6 * UNIT))
    register(world, POOR)
    assert world.pay_due(channel).value is True
    assert refusal(world.pay_due(channel)) == ("E_NOTHING_DUE", {})
    assert world.tokens(POOR) == 6 * UNIT
    assert world.tokens(CHANNELS) == world.owed(channel) == 9


def test_too_little_gas_for_the_callback_undoes_the_redemption(world: ChannelWorld) -> None:
    channel = world.channel(owner=POOR)
    world.open(channel)
    voucher = world.voucher(channel, UNIT)
    refused = 0
    for gas in range(1, 20):
        done = world.redeem(channel, voucher, gas=gas)
        found = world.of(channel)
        if "Failure" not in done.status:
            break
        refused += 1
        assert (found["claimed"], found["due_owner"]) == ("0", "0")
    assert refused >= 8
    # The least gas that starts it is enough to put back what the token refuses.
    assert (found["claimed"], found["due_owner"]) == (str(UNIT), str(UNIT))


def test_the_largest_batch_of_which_nothing_arrives_is_put_back(world: ChannelWorld) -> None:
    batch = []
    for i in range(40):
        # As many owners as the gas of a transaction pays, with the longest of names.
        owner = f"{i % 30}".rjust(64, "x")
        channel = world.channel(i, owner=owner)
        world.open(channel, UNIT)
        batch.append((channel, world.voucher(channel, 10**27, number=i)))
    done = world.redeem_many(batch, gas=300)
    assert done.value is False
    assert names(done).count("transfer_failed") == 40
    assert all(world.of(channel)["due_owner"] == str(UNIT) for channel, _ in batch)
    assert world.tokens(CHANNELS) == world.owed(*(channel for channel, _ in batch)) == 40 * UNIT
    assert refusal(world.redeem_many([batch[0]] * 41, gas=300)) == ("E_BAD_DATA", {})


@pytest.mark.parametrize("shuffle", [1, 2, 3, 4, 5])
def test_no_order_of_receipts_loses_a_unit(tmp_path: Path, shuffle: int) -> None:
    with a_channel_world(tmp_path, Options(shuffle=shuffle)) as world:
        given = world.tokens(CLIENT)
        poor, rich = world.channel(owner=POOR), world.channel(1, owner=OWNERS[1])
        for channel in (poor, rich):
            world.open(channel)
        vouchers = [world.voucher(poor, n * UNIT) for n in (1, 2, 3)]
        of_poor: dict[str, Any] = {"channel": document(poor)}
        first, second, third = ({**of_poor, "voucher": one} for one in vouchers)
        world.submit_call(STRANGER, "redeem", first)
        world.submit_call(CLIENT, "redeem", third)
        world.submit_call(POOR, "close", second, 1)
        nothing = {"channel": document(rich), "voucher": None}
        world.submit_call(OWNERS[1], "close", nothing, 1)
        world.chain.settle()
        register(world, POOR)
        if world.of(poor)["state"] == "open":
            world.close(poor)
        best = int(world.of(poor)["due_owner"])
        assert best in {UNIT, 2 * UNIT, 3 * UNIT}
        world.pay_due(poor)
        assert world.tokens(POOR) == best
        assert world.tokens(CLIENT) == given - best
        assert world.tokens(CHANNELS) == world.owed(poor, rich) == 0


def test_the_wrong_token_opens_nothing(world: ChannelWorld) -> None:
    code = (ARTIFACTS / "token.wasm").read_bytes()
    world.send(OTHER_TOKEN, OTHER_TOKEN, near.create_deploy_contract_action(code))
    world.call(
        OTHER_TOKEN, "new", {"holder": CLIENT, "supply": str(SUPPLY)}, receiver=OTHER_TOKEN
    )  # fmt: skip
    storage = {"account_id": CHANNELS}
    world.call(CLIENT, "storage_deposit", storage, deposit=NEAR // 100, receiver=OTHER_TOKEN)
    channel = world.channel()
    message = {"open": {"node": channel.node, "session_key": channel.session_key}}
    sent = {"receiver_id": CHANNELS, "amount": "5", "msg": json.dumps(message)}
    done = world.call(CLIENT, "ft_transfer_call", sent, deposit=1, receiver=OTHER_TOKEN, gas=60)
    assert (done.value, refusal(done)) == ("0", ("E_FORBIDDEN", {"caller": OTHER_TOKEN}))
    assert world.of(channel)["state"] == "none"
    # Nor does a plain transfer, which tells the contract nothing.
    world.call(
        CLIENT, "ft_transfer", {"receiver_id": CHANNELS, "amount": "5"}, deposit=1, receiver=TOKEN
    )  # fmt: skip
    assert world.of(channel)["state"] == "none"
