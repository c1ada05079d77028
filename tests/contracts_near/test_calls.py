"""The shipped wasm on the embedded chain: what only a chain shows, and bad input at its door."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deai.ids import AccountId
from deai.money import UNIT
from deai.tasks import Policy
from devnet.near.errors import InvalidTransaction
from devnet.near.keys import base58
from devnet.near.rules import GAS_PRICE, NEAR
from tests.contracts_near.world import (
    ARTIFACTS,
    CLIENT,
    COMPUTE,
    EPOCH,
    FEE,
    GUARDIAN,
    OWNER,
    OWNERS,
    PARAMETERS,
    STAKE,
    STRANGER,
    SUPPLY,
    TIP,
    TOKEN,
    Play,
    World,
    a_world,
    events,
    refusal,
    seed,
)
from tests.devnet.near.tools import Result

pytestmark = pytest.mark.slow

RELEASED = sorted((Path(__file__).parents[2] / "contracts" / "near" / "released").glob("*.wasm"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def posted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A task with its committee, for tests that change nothing."""
    with a_world(tmp_path_factory.mktemp("posted")) as world:
        play = Play(world, world.task())
        play.post()
        yield play


def balance(world: World, account: str) -> int:
    return world.chain.state.accounts[account].amount


def owed(world: World) -> int:
    """Vaults, stakes, fees and burns that the compute account owes."""
    vaults = sum(
        world.vault(account) for account in (CLIENT, STRANGER, "treasury.deai.near", *OWNERS)
    )
    nodes = world.view("get_nodes")
    stakes = sum(int(node["bonded"]) + int(node["unbonding"]) for node in nodes)
    lanes = world.view("get_lanes", client=CLIENT)
    return (
        vaults + stakes + sum(int(lane["accrued"]) for lane in lanes) + int(world.view("burn_due"))
    )


def test_there_is_a_released_contract_to_upgrade_from() -> None:
    current = (ARTIFACTS / "compute.wasm").read_bytes()
    assert [one for one in RELEASED if one.read_bytes() != current]


def test_the_artifacts_are_those_of_their_checksums() -> None:
    for line in (ARTIFACTS / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((ARTIFACTS / name).read_bytes()).hexdigest() == digest


def test_a_task_of_three_seats_goes_from_post_to_payout(world: World) -> None:
    play = Play(world, world.task())
    posted = play.post()
    assert posted.value == play.id
    assert world.view("task_id", task=play.document) == play.id
    assert [event["event"] for event in events(posted)] == ["task_posted", "task_assigned"]
    play.commit(0, 1)
    # A node sends its own commitment with its function-call key; the key is its signature.
    own = {**play.commitment(2), "signature": None}
    sent = world.operator_call(2, "commit", **play.both, commitments=[own])
    assert [event["event"] for event in events(sent)] == ["result_committed"]
    done = world.operator_call(1, "finalise", **play.both, openings=play.openings(), approvals=[])
    told = events(done)[-1]["data"]
    assert [seat["verdict"] for seat in told["seats"]] == [2, 2, 2]
    paid = sum(int(seat["payment"]) for seat in told["seats"])
    assert (
        paid + int(told["refunded"]) + int(told["protocol_fee"]) + int(told["tip"]) == 3 * FEE + TIP
    )
    assert world.view("total_rewards_distributed") == str(paid)
    assert owed(world) == world.tokens(COMPUTE)


def test_the_deposit_beyond_a_lanes_storage_comes_back_to_the_yocto(world: World) -> None:
    world.owner_call(CLIENT, "storage_withdraw")
    lane = int(world.view("storage_cost", account_id=CLIENT)["lane"])
    before, held = balance(world, CLIENT), balance(world, COMPUTE)
    done = Play(world, world.task()).post(assign=False, deposit=lane + 987_654_321)
    assert "Failure" not in done.status
    assert before - balance(world, CLIENT) == lane + done.gas * GAS_PRICE
    reward = balance(world, COMPUTE) - held - lane  # the chain gives contracts a share of the gas
    assert 0 < reward < NEAR // 1_000
    short = Play(world, world.task(lane=1))
    before = balance(world, CLIENT)
    done = short.post(assign=False, deposit=lane - 1)
    assert refusal(done) == ("E_STORAGE", {"needed": str(lane)})
    assert before - balance(world, CLIENT) == done.gas * GAS_PRICE


def test_a_function_call_key_can_do_nothing_that_moves_value(world: World) -> None:
    world.advance(EPOCH)
    assert "Failure" not in world.operator_call(0, "heartbeat", node=world.nodes[0]).status
    key = seed("operator 0")
    with pytest.raises(InvalidTransaction) as refused:
        world.call(OWNERS[0], "heartbeat", {"node": world.nodes[0]}, deposit=1, key=key)
    assert "DepositWithFunctionCall" in json.dumps(refused.value.reason)
    with pytest.raises(InvalidTransaction) as refused:
        world.call(OWNERS[0], "request_unstake", {"node": world.nodes[0], "amount": "1"}, key=key)
    assert "MethodNameMismatch" in json.dumps(refused.value.reason)
    # The owner's own key is not the operator's.
    done = world.call(OWNERS[0], "heartbeat", {"node": world.nodes[1]})
    assert refusal(done) == ("E_FORBIDDEN", {"caller": OWNERS[0]})


def test_a_refused_deposit_goes_back_to_its_sender(world: World) -> None:
    before = world.tokens(CLIENT)
    world.call(
        OWNER, "ft_transfer", {"receiver_id": CLIENT, "amount": "7"}, deposit=1, receiver=TOKEN
    )
    for message, name in [
        ("no json", "E_BAD_DATA"),
        ({"deposit": {"account_id": "nobody.near"}}, "E_NOT_REGISTERED"),
        ({"add_stake": {"node": "nobody.near#0"}}, "E_BAD_STANDING"),
    ]:
        done = world.pay_in(CLIENT, 7, message)
        assert done.value == "0"
        assert refusal(done)[0] == name
    assert world.tokens(CLIENT) == before + 7
    assert owed(world) == world.tokens(COMPUTE)


def test_a_withdrawal_to_an_account_without_token_storage_comes_back(world: World) -> None:
    before = world.vault(CLIENT)
    done = world.owner_call(CLIENT, "withdraw", to=GUARDIAN, amount="5")
    assert done.value is False
    assert events(done)[-1]["event"] == "transfer_failed"
    assert world.vault(CLIENT) == before
    done = world.owner_call(CLIENT, "withdraw", to=STRANGER, amount="5")
    assert done.value is True
    assert (world.vault(CLIENT), world.tokens(STRANGER)) == (before - 5, 5)
    assert owed(world) == world.tokens(COMPUTE)


def test_too_little_gas_for_the_callback_undoes_the_withdrawal(world: World) -> None:
    before = world.vault(CLIENT), world.tokens(STRANGER), owed(world)
    arguments = {"to": STRANGER, "amount": "5"}
    refused = 0
    for gas in range(1, 16):
        done = world.call(CLIENT, "withdraw", arguments, deposit=1, gas=gas)
        if done.status.get("SuccessValue") is not None:
            break
        refused += 1
        assert (world.vault(CLIENT), world.tokens(STRANGER), owed(world)) == before
    assert refused >= 10
    assert world.vault(CLIENT) == before[0] - 5


def test_stake_that_cannot_arrive_stays_where_it_was(world: World) -> None:
    owner, node = OWNERS[0], world.nodes[0]
    world.owner_call(owner, "request_unstake", node=node, amount=str(2 * STAKE))
    world.advance(int(PARAMETERS["unbonding_seconds"]) + 1)  # type: ignore[call-overload]

    def books() -> list[object]:
        return [world.view("get_node", node=node), world.tokens(owner), owed(world)]

    before = books()
    assert before[0]["unbonding"] == str(2 * STAKE)  # type: ignore[index]
    # Who never paid the token for its storage cannot receive.
    done = world.owner_call(owner, "withdraw_stake", node=node, to=GUARDIAN)
    assert (done.value, books()) == (False, before)
    assert events(done)[-1]["event"] == "transfer_failed"
    # Whatever gas is given: it arrives, or nothing happened.
    arguments, refused = {"node": node, "to": owner}, 0
    for gas in range(1, 16):
        done = world.call(owner, "withdraw_stake", arguments, deposit=1, gas=gas)
        if done.status.get("SuccessValue") is not None:
            break
        refused += 1
        assert books() == before
    assert refused >= 10
    assert world.view("get_node", node=node)["standing"] == "exited"
    assert world.tokens(owner) == 2 * STAKE
    assert owed(world) == world.tokens(COMPUTE)


@pytest.mark.parametrize("method", ["on_withdrawn", "on_stake_withdrawn", "on_burned", "migrate"])
def test_callbacks_are_the_contracts_own(world: World, method: str) -> None:
    arguments = {
        "account": CLIENT, "node": world.nodes[0], "to": CLIENT, "amount": str(UNIT),
    }  # fmt: skip
    done = world.call(STRANGER, method, arguments)
    assert "is private" in done.failure


def test_the_contract_is_initialised_once(world: World) -> None:
    new = {
        "token": STRANGER, "chain_id": "near:x", "owner": STRANGER, "guardian": STRANGER,
        "parameters": PARAMETERS,
    }  # fmt: skip
    assert "already been initialized" in world.call(STRANGER, "new", new).failure
    done = world.call(STRANGER, "new", {"holder": STRANGER, "supply": "5"}, receiver=TOKEN)
    assert "already been initialized" in done.failure


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{" * 5_000, b'{"node":"a#0","node":"b#0"}']
)
def test_arguments_that_are_no_json_object_are_refused(posted: Play, body: bytes) -> None:
    assert "Failure" in posted.world.call(STRANGER, "heartbeat", body).status


def test_the_largest_task_is_posted_committed_and_settled(world: World) -> None:
    play = Play(world, world.task(seats=15, policy=Policy.TOL32))
    assert "Failure" not in play.post().status
    assert "Failure" not in play.commit(*range(15)).status
    done = play.finalise(play.openings(), [play.approval(i, 2**15 - 1) for i in range(15)])
    assert [seat["verdict"] for seat in events(done)[-1]["data"]["seats"]] == [2] * 15
    assert owed(world) == world.tokens(COMPUTE)


def test_slashed_tokens_leave_the_supply(world: World) -> None:
    play = Play(world, world.task())
    play.post()
    pair = {"first": play.result(1), "second": play.result(1, b"\x09" * 32)}
    done = world.call(STRANGER, "prove_equivocation", {**play.both, "seat": 1, **pair})
    assert [event["event"] for event in events(done)] == ["equivocation_proven", "node_slashed"]
    due = int(world.view("burn_due"))
    assert due == 2 * STAKE // 5  # the stranger has no account here, so there is no bounty
    assert world.call(STRANGER, "sweep_burns").value is True
    assert int(world.view("ft_total_supply", TOKEN)) == SUPPLY - due
    assert world.view("burn_due") == "0"


def test_contracts_tell_where_they_come_from(world: World) -> None:
    for contract in (TOKEN, COMPUTE):
        found = world.view("contract_source_metadata", contract)
        assert found["version"]
        assert {"standard": "nep297", "version": "1.0.0"} in found["standards"]
    assert world.view("ft_metadata", TOKEN)["symbol"] == "CT"
    assert world.view("min_stake") == str(STAKE)


def test_tokens_are_burned_by_their_holder_only(world: World) -> None:
    done = world.call(OWNER, "burn", {"amount": "5"}, receiver=TOKEN)
    assert "Requires attached deposit of exactly 1 yoctoNEAR" in done.failure
    assert (
        "Failure"
        not in world.call(OWNER, "burn", {"amount": "5"}, deposit=1, receiver=TOKEN).status
    )
    assert int(world.view("ft_total_supply", TOKEN)) == SUPPLY - 5
    done = world.call(STRANGER, "burn", {"amount": "5"}, deposit=1, receiver=TOKEN)
    assert "enough balance" in done.failure


def upgrade(world: World, code: bytes, *, wait: bool = True) -> Result:
    hash_ = base58(hashlib.sha256(code).digest())
    proposed = world.owner_call(OWNER, "propose_upgrade", code_hash=hash_)
    assert "Failure" not in proposed.status, refusal(proposed)
    if wait:
        world.advance(int(PARAMETERS["upgrade_delay"]))  # type: ignore[call-overload]
    return world.call(OWNER, "upgrade", code, gas=300)


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.stem)
def test_a_released_contract_is_upgraded_in_the_middle_of_a_task(
    tmp_path: Path, released: Path
) -> None:
    current = (ARTIFACTS / "compute.wasm").read_bytes()
    with a_world(tmp_path, released.read_bytes()) as world:
        play = Play(world, world.task())
        play.post()
        play.commit(0, 1, 2)
        world.call(STRANGER, "reveal", {**play.both, "openings": play.openings()})

        def told() -> list[object]:
            views = ("get_nodes", "parameters", "total_rewards_distributed", "burn_due")
            return [
                *map(world.view, views), world.view("get_lane", client=CLIENT, lane=0),
                world.view("get_account", account_id=CLIENT), owed(world),
            ]  # fmt: skip

        def deployed() -> str:
            return world.chain.state.accounts[COMPUTE].code_hash.hex()

        assert refusal(upgrade(world, current, wait=False))[0] == "E_TOO_EARLY"
        assert deployed() == hashlib.sha256(released.read_bytes()).hexdigest()
        world.advance(int(PARAMETERS["upgrade_delay"]))  # type: ignore[call-overload]
        before = told()
        done = world.call(OWNER, "upgrade", current, gas=300)
        assert "upgraded" in [event["event"] for event in events(done)]
        assert deployed() == hashlib.sha256(current).hexdigest()
        assert told() == before
        assert world.view("governance")["upgrade"] is None
        # The task ends under the new code, by what the old one wrote down.
        done = play.finalise(play.openings(), by=STRANGER)
        assert [seat["verdict"] for seat in events(done)[-1]["data"]["seats"]] == [2, 2, 2]
        assert owed(world) == world.tokens(COMPUTE)


def test_code_that_does_not_migrate_leaves_the_old_one_in_place(world: World) -> None:
    token = (ARTIFACTS / "token.wasm").read_bytes()  # has no `migrate`
    before = world.chain.state.accounts[COMPUTE].code_hash
    done = upgrade(world, token)
    assert "MethodNotFound" in json.dumps(
        [one["outcome"]["status"] for one in done.outcomes.values()]
    )
    assert world.chain.state.accounts[COMPUTE].code_hash == before
    assert world.view("governance")["upgrade"] is not None
    assert refusal(world.call(STRANGER, "upgrade", token, gas=300)) == (
        "E_FORBIDDEN",
        {"caller": STRANGER},
    )
    assert refusal(world.call(OWNER, "upgrade", b"other", gas=300)) == ("E_NO_UPGRADE", {})


def test_an_owner_is_named_by_its_account(world: World) -> None:
    assert world.view("governance")["owner"] == AccountId(OWNER)
