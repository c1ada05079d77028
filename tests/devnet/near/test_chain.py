"""The chain in this process: contracts, promises, gas, storage, keys, blocks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from py_near import transactions as near
from py_near_primitives import DeleteAccountAction

from devnet.near.chain import Options
from devnet.near.errors import InvalidTransaction
from devnet.near.rules import GAS_PRICE, NEAR, STORAGE_PRICE, TGAS
from tests.devnet.near.tools import (
    ALICE,
    BOB,
    HELLO,
    RICH,
    ROOT,
    a_world,
    call,
    deploy,
    keys,
    transfer,
)

pytestmark = pytest.mark.slow


def test_a_call_changes_state_and_its_caller_pays_for_the_storage(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        assert world.view("get_greeting") == "hello"
        before, usage = world.balance(ALICE), world.chain.state.accounts[HELLO].usage
        done = world.send(ALICE, HELLO, call("set_greeting", {"text": 'a"b'}, deposit=NEAR))
        assert done.value is None
        assert world.view("get_greeting") == 'a"b'
        stored = len("greeting") + 3 + 40
        assert world.chain.state.accounts[HELLO].usage - usage == stored
        fee = before - world.balance(ALICE) - stored * STORAGE_PRICE
        assert 0 < fee < NEAR // 1_000
        refused = world.send(ALICE, HELLO, call("set_greeting", {"text": "x" * 100}))
        assert "deposit does not cover the storage" in refused.failure
        assert world.view("get_greeting") == 'a"b'


def test_a_failed_call_gives_the_deposit_back_to_the_yocto(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        before = world.balance(ALICE)
        done = world.send(ALICE, HELLO, call("nothing_of_that_name", deposit=7 * NEAR + 3))
        assert "MethodNotFound" in done.failure
        assert world.balance(ALICE) == before - done.gas * GAS_PRICE


def test_a_promise_and_its_callback_return_what_the_callee_said(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        world.send(BOB, BOB, deploy())
        done = world.send(ALICE, HELLO, call("ask", {"contract": BOB}, gas=50 * TGAS))
        assert done.value == "hello"
        blocks = [one["block_hash"] for one in done.outcomes.values()]
        assert len(set(blocks)) >= 3  # call, callee, callback: each in a block of its own
        nobody = world.send(ALICE, HELLO, call("ask", {"contract": "nobody.near"}, gas=50 * TGAS))
        assert nobody.value is None
        assert any("Failure" in one["outcome"]["status"] for one in nobody.outcomes.values())
        assert "private" in world.send(ALICE, HELLO, call("on_answer")).failure


def test_too_little_gas_fails_the_call_and_burns_all_of_it(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        done = world.send(ALICE, HELLO, call("spin", {"n": 10**12}, gas=20 * TGAS))
        assert "Exceeded the prepaid gas" in done.failure
        assert done.gas > 20 * TGAS
        little = world.send(ALICE, HELLO, call("ask", {"contract": BOB}, gas=8 * TGAS))
        assert "Exceeded the prepaid gas" in little.failure


def test_an_event_and_money_that_the_contract_sends_back(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        done = world.send(ALICE, HELLO, call("stake", deposit=3 * NEAR))
        assert done.value == str(3 * NEAR)
        event = json.loads(done.logs[0].removeprefix("EVENT_JSON:"))
        assert event["data"] == [{"account_id": ALICE, "amount": str(3 * NEAR)}]
        before = world.balance(ALICE)
        world.send(ALICE, HELLO, call("unstake", deposit=1))
        assert world.balance(ALICE) - before > 2.99 * NEAR
        again = world.send(ALICE, HELLO, call("unstake", deposit=1))
        assert "nothing staked" in again.failure


def test_a_contract_checks_an_ed25519_signature(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        secret = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"voucher").digest())
        world.send(ALICE, HELLO, call("stake", deposit=3 * NEAR))
        public = secret.public_key().public_bytes_raw().hex()
        world.send(ALICE, HELLO, call("set_voucher_key", {"public_key": public}, deposit=1))
        message = f"deai-test-voucher:{HELLO}:{ALICE}:{BOB}:{NEAR}".encode()
        voucher = {"payer": ALICE, "amount": str(NEAR), "signature": secret.sign(message).hex()}
        before = world.balance(BOB)
        assert world.send(BOB, HELLO, call("redeem", voucher)).value is None
        assert world.balance(BOB) - before > 0.99 * NEAR
        assert "already redeemed" in world.send(BOB, HELLO, call("redeem", voucher)).failure
        assert "bad voucher" in world.send(ROOT, HELLO, call("redeem", voucher)).failure


def test_a_view_sees_state_and_may_not_change_it(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        chain = world.chain
        outcome = chain.view(chain.state, chain.head, HELLO, "set_greeting", b'{"text":"no"}')
        assert outcome is not None
        assert "is not allowed in view calls" in str(outcome.failure)
        assert world.view("get_greeting") == "hello"


def test_an_account_is_created_funded_used_and_deleted(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        child = f"child.{ALICE}"
        actions = [
            near.create_create_account_action(),
            transfer(5 * NEAR),
            near.create_full_access_key_action(keys(child)[1]),
        ]
        assert "CreateAccountNotAllowed" in world.send(BOB, child, *actions).failure
        assert world.send(ALICE, child, *actions).value is None
        assert world.chain.state.accounts[child].usage == 182
        assert "AccountAlreadyExists" in world.send(ALICE, child, *actions).failure
        assert world.send(child, BOB, transfer(NEAR)).value is None
        before = world.balance(BOB)
        assert world.send(child, child, DeleteAccountAction(BOB)).value is None
        assert world.chain.state.account(child) is None
        assert world.balance(BOB) - before > 3.99 * NEAR
        assert "AccountDoesNotExist" in world.send(ALICE, child, transfer(1)).failure


def test_storage_has_to_be_covered_by_the_balance(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        many = [near.create_full_access_key_action(keys(f"key {at}")[1]) for at in range(10)]
        poor = world.send(ALICE, f"poor.{ALICE}", near.create_create_account_action(), *many)
        assert "LackBalanceForState" in poor.failure
        assert world.chain.state.account(f"poor.{ALICE}") is None
        with pytest.raises(InvalidTransaction, match="NotEnoughBalance"):
            world.send(ALICE, BOB, transfer(10**6 * NEAR))


def test_a_restricted_key_calls_its_methods_within_its_allowance_and_nothing_else(
    tmp_path: Path,
) -> None:
    with a_world(tmp_path) as world:
        allowance = NEAR // 10
        added = near.create_function_call_access_key_action(
            keys("session")[1], allowance, HELLO, ["stake_of"]
        )
        world.send(ALICE, ALICE, added)
        asked = call("stake_of", {"account_id": BOB})
        assert world.send(ALICE, HELLO, asked, key="session").value == "0"
        key = world.chain.state.key(ALICE, keys("session")[1])
        assert key is not None
        assert key.access is not None
        assert key.access.allowance is not None
        assert 0 < allowance - key.access.allowance < NEAR // 1_000
        for complaint, receiver, action in (
            ("RequiresFullAccess", HELLO, transfer(1)),
            ("DepositWithFunctionCall", HELLO, call("stake_of", deposit=1)),
            ("ReceiverMismatch", BOB, call("stake_of")),
            ("MethodNameMismatch", HELLO, call("stake")),
            ("NotEnoughAllowance", HELLO, call("stake_of", gas=1_000 * TGAS)),
        ):
            with pytest.raises(InvalidTransaction) as caught:
                world.send(ALICE, receiver, action, key="session")
            assert complaint in json.dumps(caught.value.reason)


def test_what_no_block_may_hold_is_refused_in_nearcores_words(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        nonce = world.sign(ALICE, BOB, transfer(1)).nonce
        for complaint, how in (
            ("InvalidNonce", {"nonce": nonce - 1}),
            ("NonceTooLarge", {"nonce": 10**12}),
            ("Expired", {"block_hash": b"\7" * 32}),
            ("AccessKeyNotFound", {"key": "a stranger"}),
        ):
            with pytest.raises(InvalidTransaction) as caught:
                world.send(ALICE, BOB, transfer(1), **how)
            assert complaint in json.dumps(caught.value.reason)
        with pytest.raises(InvalidTransaction) as caught:
            world.send("nobody.near", BOB, transfer(1))
        assert "SignerDoesNotExist" in json.dumps(caught.value.reason)
        with pytest.raises(InvalidTransaction) as caught:
            world.send(ALICE, HELLO, call("stake", gas=1_001 * TGAS))
        assert "TotalPrepaidGasExceeded" in json.dumps(caught.value.reason)


def test_an_old_block_hash_expires_with_its_height(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        old = world.chain.head.hash
        start = world.chain.head
        world.chain.fast_forward(86_398)
        assert world.chain.head.height == start.height + 86_399
        assert world.chain.head.timestamp - start.timestamp > 86_397 * 10**9
        assert world.send(ALICE, BOB, transfer(1), block_hash=old).value is None
        with pytest.raises(InvalidTransaction, match="Expired"):
            world.send(ALICE, BOB, transfer(1), block_hash=old)


def test_an_implicit_account_is_made_by_its_first_money(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        secret = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"implicit").digest())
        name = secret.public_key().public_bytes_raw().hex()
        assert world.send(ALICE, name, transfer(NEAR)).value is None
        assert world.send(name, BOB, transfer(1), key="implicit").value is None


def test_a_snapshot_brings_everything_back_and_new_blocks_have_new_hashes(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        chain = world.chain
        taken, head, balance = chain.snapshot(), chain.head, world.balance(BOB)
        world.send(ALICE, BOB, transfer(NEAR))
        removed = chain.head
        assert chain.restore(taken)
        assert (chain.head, world.balance(BOB)) == (head, balance)
        world.send(ALICE, BOB, transfer(NEAR))
        assert chain.head.height == removed.height
        assert chain.head.hash != removed.hash
        assert not chain.restore(taken)


def test_state_of_older_blocks_can_be_read(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        chain = world.chain
        blocks, greetings = [chain.head], ["hello"]
        for text in ("one", "two", "three"):
            world.send(ALICE, HELLO, call("set_greeting", {"text": text}, deposit=NEAR))
            blocks.append(chain.head)
            greetings.append(text)
        for block, text in zip(blocks, greetings, strict=True):
            state = chain.at(block)
            assert state is not None
            outcome = chain.view(state, block, HELLO, "get_greeting", b"{}")
            assert outcome is not None
            assert outcome.returned == json.dumps(text).encode()


def test_another_process_finds_the_chain_as_it_was_left(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        world.send(ALICE, HELLO, call("set_greeting", {"text": "kept"}, deposit=NEAR))
        transaction = world.sign(ALICE, HELLO, call("ask", {"contract": HELLO}, gas=50 * TGAS))
        world.chain.submit(transaction)
        world.chain.produce()
        world.chain.produce()
        world.chain.produce()  # the callback now waits for its data
        assert world.chain.pending.postponed
        head, state = world.chain.head, dict(world.chain.state.entries())
    with a_world(tmp_path) as world:
        assert world.chain.head == head
        assert dict(world.chain.state.entries()) == state
        assert world.view("get_greeting") == "kept"
        world.chain.settle()
        assert world.result(transaction.id).value == "kept"
        left = world.chain.progress(transaction.id)
        assert left is not None
        assert left.all == 0


def test_nonces_that_arrive_out_of_order_are_sorted_by_the_block(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        first = world.sign(ALICE, BOB, transfer(1)).nonce
        sent = [world.sign(ALICE, BOB, transfer(1), nonce=first + more) for more in (2, 0, 1)]
        for transaction in sent:
            world.chain.submit(transaction)
        world.chain.settle()
        assert all(world.result(one.id).value is None for one in sent)


def test_of_two_with_one_nonce_the_second_is_refused_afterwards(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        one, other = (world.sign(ALICE, BOB, transfer(more)) for more in (1, 2))
        world.chain.submit(one)
        world.chain.submit(other)
        world.chain.settle()
        refusal = world.chain.pool.refusal(other.id)
        assert refusal is not None
        assert "InvalidNonce" in json.dumps(refusal.reason)
        assert world.chain.progress(other.id) is None


def test_a_shuffled_chain_gives_the_same_results(tmp_path: Path) -> None:
    for seed in range(6):
        with a_world(tmp_path / str(seed), Options(shuffle=seed)) as world:
            world.send(BOB, BOB, deploy())
            done = world.send(ALICE, HELLO, call("ask", {"contract": BOB}, gas=50 * TGAS))
            assert done.value == "hello"
            assert world.balance(ROOT) == RICH
