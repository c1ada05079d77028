"""Not a yocto is made or lost, whatever is sent and whatever fails."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from py_near import transactions as near
from py_near_primitives import DeleteAccountAction

from devnet.near.chain import Options
from devnet.near.errors import InvalidTransaction
from devnet.near.receipts import ActionReceipt
from devnet.near.rules import NEAR, TGAS
from tests.devnet.near.tools import (
    ALICE,
    BOB,
    HELLO,
    ROOT,
    SUPPLY,
    World,
    a_world,
    call,
    deploy,
    keys,
    transfer,
)
from tests.support.examples import examples

pytestmark = pytest.mark.slow

NAMES = [ALICE, BOB, HELLO, ROOT, "nobody.near", f"child.{ALICE}", "ab" * 32]
SIGNERS = [ALICE, BOB, HELLO, ROOT, f"child.{ALICE}"]

amounts = st.sampled_from([0, 1, 10**19, NEAR, 900 * NEAR, 2_000 * NEAR, 2**128 - 1])
gas = st.sampled_from([1, 10**9, TGAS, 5 * TGAS, 30 * TGAS, 100 * TGAS, 900 * TGAS])
calls = st.builds(
    lambda method, arguments, gas, deposit: call(method, arguments, gas=gas, deposit=deposit),
    st.sampled_from(["stake", "unstake", "ask", "set_greeting", "get_greeting", "spin", "nothing"]),
    st.fixed_dictionaries(
        {
            "contract": st.sampled_from(NAMES),
            "text": st.text(max_size=50),
            "n": st.sampled_from([1, 10**5, 10**9]),
        }
    ),
    gas,
    amounts,
)
actions = st.one_of(
    calls,
    calls,
    amounts.map(transfer),
    st.just(deploy()),
    st.just(near.create_create_account_action()),
    st.sampled_from(NAMES).map(DeleteAccountAction),
    st.sampled_from(SIGNERS).map(lambda name: near.create_full_access_key_action(keys(name)[1])),
    st.builds(
        lambda allowance: near.create_function_call_access_key_action(
            keys("session")[1], allowance, HELLO, []
        ),
        amounts,
    ),
)
sendings = st.tuples(
    st.sampled_from(SIGNERS),
    st.sampled_from(NAMES),
    st.lists(actions, min_size=1, max_size=4),
    st.sampled_from(["", "", "", "session"]),
    st.integers(0, 2),  # blocks made afterwards
)


def check(world: World) -> None:
    chain = world.chain
    assert chain.books.minted == SUPPLY
    assert chain.supply() + chain.books.burnt == SUPPLY
    assert all(account.amount >= 0 for account in chain.state.accounts.values())
    open_receipts = [one for one in chain.pending.actions() if isinstance(one, ActionReceipt)]
    assert sum(left.all for left in chain.books.open.values()) == len(open_receipts)


def counted(world: World, name: str) -> int:
    """What an account occupies, counted from what is there."""
    state = world.chain.state
    account = state.accounts[name]
    code = len(state.code(account.code_hash)) if account.code_hash else 0
    data = sum(len(key) + len(value) + 40 for key, value in state.data(name, b""))
    own_keys = 0
    for key in state.keys(name).values():
        own_keys += 33 + 40 + 9
        if key.access is not None:
            own_keys += (
                8 + len(key.access.receiver) + (17 if key.access.allowance is not None else 1)
            )
    return 100 + code + data + own_keys


@examples(40)
@given(sent=st.lists(sendings, max_size=12), shuffle=st.none() | st.integers(0, 2**32))
def test_money_and_storage_always_add_up(
    sent: list[tuple[str, str, list[Any], str, int]], shuffle: int | None
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        options = Options(shuffle=shuffle)
        with a_world(Path(directory), options) as world:
            for signer, receiver, todo, key, blocks in sent:
                transaction = world.sign(signer, receiver, *todo, key=key)
                try:
                    world.chain.submit(transaction)
                except InvalidTransaction:
                    continue
                for _ in range(blocks):
                    world.chain.produce()
                    check(world)
            world.chain.settle()
            check(world)
            assert not world.chain.pending.postponed
            assert not world.chain.pending.received
            assert not world.chain.books.open
            for name, account in world.chain.state.accounts.items():
                assert account.usage == counted(world, name), name
            left = (world.chain.head, dict(world.chain.state.entries()), world.chain.books.burnt)
        with a_world(Path(directory), options, contract=False) as world:
            chain = world.chain
            assert (chain.head, dict(chain.state.entries()), chain.books.burnt) == left


@examples(15)
@given(
    many=st.lists(st.tuples(st.sampled_from([ALICE, BOB]), amounts), min_size=1, max_size=10),
    seeds=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)),
)
def test_the_order_of_receipts_changes_nothing_for_calls_that_do_not_meet(
    many: list[tuple[str, int]], seeds: tuple[int, int]
) -> None:
    results = []
    for seed in (None, *seeds):
        with tempfile.TemporaryDirectory() as directory:
            with a_world(Path(directory), Options(shuffle=seed)) as world:
                for signer, amount in many:
                    try:
                        world.send(signer, HELLO, call("stake", deposit=amount))
                    except InvalidTransaction:
                        continue
                state = world.chain.state
                results.append((dict(state.data(HELLO, b"")), world.balance(ROOT)))
    assert results[0] == results[1] == results[2]
