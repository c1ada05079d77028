"""Every call of the channel contract, played on the embedded chain and measured there.

Rows are those of `gas_plays`; a call that pays somebody is followed by the token's transfer and
the contract's callback, which `whole` holds too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from deai.money import UNIT
from devnet.near.keys import base58
from devnet.near.rules import NEAR
from tests.contracts_near.channel_world import (
    CHANNELS,
    LONGEST,
    PARAMETERS,
    PERIOD,
    POOR,
    ChannelWorld,
    a_channel_world,
    register,
)
from tests.contracts_near.gas_plays import Meter
from tests.contracts_near.world import (
    ARTIFACTS,
    CLIENT,
    GUARDIAN,
    OWNER,
    OWNERS,
    STRANGER,
    SUPPLY,
    TOKEN,
)

BATCH = 10


def play(directory: Path) -> Meter:
    """Gas and storage of every call on a chain of their own."""
    with a_channel_world(directory) as world:
        meter = Meter(world)
        _one(world, meter)
        _many(world, meter)
        _due(world, meter)
        _longest(world, meter)
        _storage(world, meter)
        _governance(world, meter)
        return meter


def _one(world: ChannelWorld, meter: Meter) -> None:
    channel = world.channel()
    done = meter.add("channels open (new)", world.open(channel))
    meter.add("channels ft_transfer_call (open)", done, TOKEN)
    meter.add("channels top_up", world.top_up(channel, UNIT))
    meter.add("channels redeem (owner's first)", world.redeem(channel, world.voucher(channel, 5)))
    meter.add("channels redeem", world.redeem(channel, world.voucher(channel, UNIT)))
    meter.add("channels request_close", world.request_close(channel))
    done = world.redeem(channel, world.voucher(channel, 2 * UNIT))
    meter.add("channels redeem (closing)", done)
    world.advance(PERIOD + 1)
    meter.add("channels finish", world.finish(channel))
    meter.add("channels open (again)", world.open(channel))
    meter.add("channels close (voucher)", world.close(channel, world.voucher(channel, UNIT)))
    world.open(channel)
    meter.add("channels close", world.close(channel))


def _many(world: ChannelWorld, meter: Meter) -> None:
    for label, owners in (("one owner", OWNERS[:1]), ("two owners", OWNERS[:2])):
        batch = []
        for i in range(BATCH):
            channel = world.channel(i, owner=owners[i % len(owners)])
            if world.of(channel)["state"] != "open":
                world.open(channel)
            amount = int(world.of(channel)["claimed"]) + UNIT
            batch.append((channel, world.voucher(channel, amount, number=i)))
        meter.skip()
        meter.add(f"channels redeem_many, {BATCH} of {label}", world.redeem_many(batch))


def _due(world: ChannelWorld, meter: Meter) -> None:
    channel = world.channel(50, owner=POOR)
    world.open(channel)
    world.redeem(channel, world.voucher(channel, UNIT, number=50))  # the token refuses
    world.call(
        OWNER, "storage_deposit", {"account_id": POOR}, deposit=NEAR // 100, receiver=TOKEN
    )  # fmt: skip
    meter.skip()
    meter.add("channels pay_due", world.pay_due(channel))


def _longest(world: ChannelWorld, meter: Meter) -> None:
    """The longest names there are, and a tenth of all tokens."""
    client, owner, anybody = LONGEST
    for account in (client, owner):
        register(world, account)
    world.give(client, SUPPLY // 10)
    world.call(client, "storage_deposit", {}, deposit=NEAR)
    channel = world.channel(60, client=client, owner=owner)
    world.open(channel, SUPPLY // 10)
    meter.skip()
    for amount in (SUPPLY // 30, SUPPLY // 20):
        done = world.redeem(channel, world.voucher(channel, amount, number=60), by=anybody)
    meter.add("channels redeem (longest names)", done)


def _storage(world: ChannelWorld, meter: Meter) -> None:
    done = world.call(STRANGER, "storage_deposit", {}, deposit=NEAR)
    meter.add("channels storage_deposit", done)
    for method in ("storage_withdraw", "storage_unregister"):
        meter.add(f"channels {method}", world.owner_call(STRANGER, method))


def _governance(world: ChannelWorld, meter: Meter) -> None:
    meter.add("channels pause", world.call(GUARDIAN, "pause"))
    meter.add("channels unpause", world.call(GUARDIAN, "unpause"))
    for method in ("add_guardian", "remove_guardian"):
        meter.add(f"channels {method}", world.owner_call(OWNER, method, account_id=STRANGER))
    done = world.owner_call(OWNER, "propose_owner", account_id=CLIENT)
    meter.add("channels propose_owner", done)
    world.advance(PARAMETERS["owner_delay"])
    meter.add("channels accept_owner", world.owner_call(CLIENT, "accept_owner"))
    code = (ARTIFACTS / "channels.wasm").read_bytes()
    named = {"code_hash": base58(hashlib.sha256(code).digest())}
    meter.add("channels propose_upgrade", world.owner_call(CLIENT, "propose_upgrade", **named))
    meter.add("channels cancel_upgrade", world.call(CLIENT, "cancel_upgrade"))
    world.owner_call(CLIENT, "propose_upgrade", **named)
    world.advance(PARAMETERS["upgrade_delay"])
    meter.skip()
    meter.add("channels upgrade", world.call(CLIENT, "upgrade", code, gas=300))
    assert world.view("governance")["upgrade"] is None, CHANNELS
