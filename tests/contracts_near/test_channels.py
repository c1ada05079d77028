"""The shipped channel contract on the embedded chain: real transfers, real callbacks."""

from __future__ import annotations

import hashlib
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
from devnet.near.errors import InvalidTransaction
from devnet.near.keys import base58, key_pair
from devnet.near.rules import GAS_PRICE, NEAR
from tests.contracts_near.channel_world import (
    CHANNELS,
    DEPOSIT,
    OTHER_CHANNELS,
    PARAMETERS,
    PERIOD,
    ROOT,
    ChannelWorld,
    a_channel_world,
    document,
    names,
)
from tests.contracts_near.world import (
    ARTIFACTS,
    CHAIN,
    CLIENT,
    OWNER,
    OWNERS,
    STRANGER,
    TOKEN,
    events,
    refusal,
    seed,
)
from tests.devnet.near.tools import Result

pytestmark = pytest.mark.slow

VECTORS = Path(__file__).parents[2] / "contracts" / "spec" / "vectors" / "channels.json"
PAYEE = OWNERS[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ChannelWorld]:
    with a_channel_world(tmp_path) as made:
        yield made


def yocto(world: ChannelWorld, account: str) -> int:
    return world.chain.state.accounts[account].amount


def test_a_channel_goes_from_open_to_the_last_refund(world: ChannelWorld) -> None:
    before = world.tokens(CLIENT)
    channel = world.channel()
    opened = world.open(channel)
    assert opened.value == str(DEPOSIT)
    told = events(opened)[0]
    assert (told["standard"], told["version"], told["event"]) == ("deai", "1.0.0", "channel_opened")
    assert told["data"] == {
        **document(channel), "channel_id": world.id(channel), "epoch": 1,
        "deposit": str(DEPOSIT),
    }  # fmt: skip
    assert world.view("channel_id", channel=document(channel)) == world.id(channel)
    assert world.top_up(channel, 7, by=CLIENT).value == "7"
    done = world.redeem(channel, world.voucher(channel, 3 * UNIT))
    assert done.value is True
    assert events(done)[0]["data"]["receipts_root"] == "0x" + ROOT.hex()
    assert world.tokens(PAYEE) == 3 * UNIT
    assert names(world.request_close(channel)) == ["channel_closing"]
    assert refusal(world.finish(channel))[0] == "E_TOO_EARLY"
    # The close was stale: whoever holds the newest voucher answers it.
    world.redeem(channel, world.voucher(channel, 5 * UNIT))
    world.advance(PERIOD + 1)
    done = world.finish(channel)
    assert (done.value, names(done)) == (True, ["channel_closed"])
    assert world.tokens(PAYEE) == 5 * UNIT
    assert world.tokens(CLIENT) == before - 5 * UNIT
    assert world.tokens(CHANNELS) == world.owed(channel) == 0
    assert world.of(channel)["state"] == "closed"


def test_the_owner_closes_with_its_last_voucher_and_both_are_paid(world: ChannelWorld) -> None:
    before = world.tokens(CLIENT)
    channel = world.channel()
    world.open(channel)
    done = world.close(channel, world.voucher(channel, DEPOSIT + 1))
    assert (done.value, names(done)) == (True, ["voucher_redeemed", "channel_closed"])
    assert (world.tokens(PAYEE), world.tokens(CLIENT)) == (DEPOSIT, before - DEPOSIT)
    world.open(channel)
    world.close(channel, world.voucher(channel, UNIT))
    assert (world.tokens(PAYEE), world.tokens(CLIENT)) == (DEPOSIT + UNIT, before - DEPOSIT - UNIT)
    assert world.tokens(CHANNELS) == 0


def test_many_channels_are_redeemed_with_one_transfer_for_each_owner(world: ChannelWorld) -> None:
    batch = []
    for i in range(6):
        channel = world.channel(i, owner=OWNERS[i % 2])
        world.open(channel)
        batch.append((channel, world.voucher(channel, 10**i, number=0 if i == 4 else i)))
    done = world.redeem_many(batch)
    assert done.value is True
    assert names(done).count("voucher_redeemed") == 5
    skipped = [one["data"] for one in events(done) if one["event"] == "voucher_skipped"]
    assert skipped == [{"channel_id": world.id(batch[4][0]), "reason": "E_BAD_SIGNATURE"}]
    transfers = [line for line in done.logs if '"event":"ft_transfer"' in line]
    assert len(transfers) == 2
    assert (world.tokens(OWNERS[0]), world.tokens(OWNERS[1])) == (101, 101_010)
    assert world.tokens(CHANNELS) == world.owed(*(channel for channel, _ in batch))
    assert refusal(world.redeem_many(batch)) == ("E_NOTHING_REDEEMED", {})


@pytest.mark.parametrize("number", [0, 7])
def test_a_run_of_the_vectors_does_what_the_core_says(world: ChannelWorld, number: int) -> None:
    """Every run is replayed in Rust; two of them here, on the wasm with real transfers.

    A second of a run is a hundred here, because blocks take time.
    """
    file = json.loads(VECTORS.read_text())
    run = file["runs"][number]
    new = {
        "token": TOKEN, "chain_id": CHAIN, "owner": OWNER, "guardian": OWNER,
        "parameters": {**PARAMETERS, "close_period": 100 * file["period"]},
    }  # fmt: skip
    code = (ARTIFACTS / "channels.wasm").read_bytes()
    world.send(OTHER_CHANNELS, OTHER_CHANNELS, near.create_deploy_contract_action(code))
    world.call(OTHER_CHANNELS, "new", new, receiver=OTHER_CHANNELS)
    world.contract = OTHER_CHANNELS
    world.domain = Domain(channels.CHANNELS_NAME, CHAIN, AccountId(OTHER_CHANNELS))
    world.call(CLIENT, "storage_deposit", {}, deposit=NEAR)
    channel = world.channel()
    begun = world.now
    start, put = world.tokens(CLIENT), 0
    compared = 0
    for i, op in enumerate(run["ops"]):
        amount, epoch = run["amounts"][i], run["epochs"][i]
        if amount == 0 and op < 2:
            continue  # the token sends nothing for nothing
        then = begun + 100 * (run["times"][i] - file["start"])
        if int(world.of(channel)["closes_at"]):
            then -= 50  # what comes in the last second still does, however long calls take
        if then > world.now:
            world.advance(then - world.now)
        voucher = world.voucher(channel, amount, epoch=epoch)
        match file["ops"][op]:
            case "open":
                done = world.open(channel, amount)
            case "topUp":
                done = world.top_up(channel, amount)
            case "redeem":
                done = world.redeem(channel, voucher)
            case "requestClose":
                done = world.request_close(channel)
            case "close":
                done = world.close(channel, voucher if amount else None)
            case _:
                done = world.finish(channel)
        failed = any("Failure" in one["outcome"]["status"] for one in done.outcomes.values())
        wanted = run["errors"][i]
        said = refusal(done)[0].removeprefix("E_").replace("_", "") if failed else ""
        assert said == wanted.upper(), (i, file["ops"][op])
        if not failed and op < 2:
            put += amount
        found = world.of(channel)
        assert int(found["deposit"]) == run["deposits"][i]
        assert int(found["claimed"]) == run["claimed"][i]
        assert found["epoch"] == run["counts"][i]
        assert world.tokens(PAYEE) == run["ownerHas"][i]
        assert world.tokens(CLIENT) + put - start == run["clientGot"][i]
        compared += 1
    assert compared >= 30


def test_storage_is_paid_before_the_first_opening_and_to_the_yocto(world: ChannelWorld) -> None:
    world.give(STRANGER, 100)
    channel = world.channel(client=STRANGER)
    done = world.open(channel, 5)
    assert (done.value, refusal(done)) == ("0", ("E_NOT_REGISTERED", {"account": STRANGER}))
    cost = {
        name: int(value) for name, value in world.view("storage_cost", account_id=STRANGER).items()
    }
    for sent, kept in ((cost["account"] - 1, None), (cost["account"] + 987_654_321, True)):
        before = yocto(world, STRANGER)
        only = {"registration_only": True}
        done = world.call(STRANGER, "storage_deposit", only, deposit=sent)
        spent = before - yocto(world, STRANGER) - done.gas * GAS_PRICE
        assert spent == (cost["account"] if kept else 0)
    assert refusal(world.open(channel, 5)) == ("E_STORAGE", {"needed": str(cost["channel"])})
    world.call(STRANGER, "storage_deposit", {}, deposit=cost["channel"] - 1)
    assert refusal(world.open(channel, 5)) == ("E_STORAGE", {"needed": "1"})
    assert world.tokens(STRANGER) == 100
    world.call(STRANGER, "storage_deposit", {}, deposit=1 + 123)
    grown, byte = world.usage(), 10**19
    assert world.open(channel, 5).value == "5"
    assert (world.usage() - grown) * byte == cost["channel"]
    before = yocto(world, STRANGER)
    done = world.owner_call(STRANGER, "storage_withdraw")
    assert yocto(world, STRANGER) - before == 123 - done.gas * GAS_PRICE
    world.close(channel)
    assert refusal(world.owner_call(STRANGER, "storage_unregister"))[0] == "E_IN_USE"


def test_a_function_call_key_redeems_and_cannot_close(world: ChannelWorld) -> None:
    channel = world.channel()
    world.open(channel)
    key = seed("hot key")
    methods = ["redeem", "close"]
    access = near.create_function_call_access_key_action(
        key_pair(key)[1], NEAR // 4, CHANNELS, methods
    )
    world.send(PAYEE, PAYEE, access)
    arguments = {"channel": document(channel), "voucher": world.voucher(channel, 3)}
    assert world.call(PAYEE, "redeem", arguments, key=key).value is True
    assert refusal(world.call(PAYEE, "close", arguments, key=key))[0] == "E_ONE_YOCTO"
    with pytest.raises(InvalidTransaction) as refused:
        world.call(PAYEE, "close", arguments, deposit=1, key=key)
    assert "DepositWithFunctionCall" in json.dumps(refused.value.reason)


def test_the_contract_is_initialised_once_and_its_callbacks_are_its_own(
    world: ChannelWorld,
) -> None:
    new = {
        "token": STRANGER, "chain_id": "near:x", "owner": STRANGER, "guardian": STRANGER,
        "parameters": PARAMETERS,
    }  # fmt: skip
    assert "already been initialized" in world.call(STRANGER, "new", new).failure
    for method, body in (("on_sent", bytes(4)), ("migrate", b"{}")):
        assert "is private" in world.call(STRANGER, method, body).failure
    found = world.view("contract_source_metadata")
    assert found["version"] == "1.0.0"
    assert {"standard": "nep297", "version": "1.0.0"} in found["standards"]
    assert world.view("parameters") == PARAMETERS


def upgrade(world: ChannelWorld, code: bytes) -> Result:
    hash_ = base58(hashlib.sha256(code).digest())
    world.owner_call(OWNER, "propose_upgrade", code_hash=hash_)
    assert refusal(world.call(OWNER, "upgrade", code, gas=300))[0] == "E_TOO_EARLY"
    world.advance(PARAMETERS["upgrade_delay"])
    return world.call(OWNER, "upgrade", code, gas=300)


def test_an_upgrade_keeps_open_channels_and_a_broken_one_the_old_code(
    world: ChannelWorld,
) -> None:
    channel = world.channel()
    world.open(channel)
    world.redeem(channel, world.voucher(channel, UNIT))
    before: Any = world.of(channel)
    done = upgrade(world, (ARTIFACTS / "channels.wasm").read_bytes())
    assert names(done) == ["upgraded"]
    assert world.of(channel) == before
    kept = world.chain.state.accounts[CHANNELS].code_hash
    upgrade(world, (ARTIFACTS / "token.wasm").read_bytes())  # has no `migrate`
    assert world.chain.state.accounts[CHANNELS].code_hash == kept
    # `compute` knows the same method, and refuses a state that is not its own.
    upgrade(world, (ARTIFACTS / "compute.wasm").read_bytes())
    assert world.chain.state.accounts[CHANNELS].code_hash == kept
    world.close(channel, world.voucher(channel, 2 * UNIT))
    assert world.tokens(PAYEE) == 2 * UNIT
