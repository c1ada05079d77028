"""What waits for a block: order, replacement, bounds."""

import random

import pytest
from eth.db.atomic import AtomicDB
from hypothesis import given, strategies as st

from devnet.evm import pool as pool_module
from devnet.evm.errors import RpcError
from devnet.evm.pool import Pool, Waiting
from devnet.evm.rules import GWEI, Rules
from devnet.evm.vm import Machine
from tests.devnet.evm.tools import KEYS, RICH, address_of, sign
from tests.support.examples import examples

RULES = Rules()
MACHINE = Machine(RULES, AtomicDB())
FLOOR = RULES.base_fee_floor


def waiting(nonce: int, *, key: int = 0, **fields: int) -> Waiting:
    raw = sign(KEYS[key], nonce, KEYS[1].address, gas=21_000, **fields)  # type: ignore[arg-type]
    return Waiting.of(MACHINE.decode(raw), raw)


def add(pool: Pool, one: Waiting, *, nonce: int = 0, balance: int = RICH) -> None:
    pool.add(one, nonce=nonce, balance=balance, base_fee=FLOOR)


def test_nonces_of_a_sender_follow_each_other() -> None:
    pool = Pool(RULES)
    add(pool, waiting(0))
    add(pool, waiting(1))
    with pytest.raises(RpcError, match="nonce too high: next nonce 2, tx nonce 3"):
        add(pool, waiting(3))
    with pytest.raises(RpcError, match="nonce too low: next nonce 1, tx nonce 0"):
        add(pool, waiting(0, max_fee=500 * GWEI), nonce=1)
    assert [one.nonce for one in pool.in_order()] == [0, 1]


def test_the_same_bytes_are_already_known() -> None:
    pool = Pool(RULES)
    add(pool, waiting(0))
    with pytest.raises(RpcError, match="already known"):
        add(pool, waiting(0))


def test_a_replacement_pays_a_tenth_more_and_keeps_its_place() -> None:
    pool = Pool(RULES)
    add(pool, waiting(0, max_fee=100 * GWEI))
    add(pool, waiting(0, key=2))
    with pytest.raises(RpcError, match="replacement transaction underpriced"):
        add(pool, waiting(0, max_fee=110 * GWEI - 1))
    better = waiting(0, max_fee=110 * GWEI)
    add(pool, better)
    assert next(one.hash for one in pool.in_order()) == better.hash
    assert len(pool) == 2


def test_a_replacement_must_raise_the_tip_too() -> None:
    pool = Pool(RULES)
    add(pool, waiting(0, max_fee=100 * GWEI, tip=2 * GWEI))
    with pytest.raises(RpcError, match="replacement transaction underpriced"):
        add(pool, waiting(0, max_fee=200 * GWEI, tip=2 * GWEI))
    add(pool, waiting(0, max_fee=200 * GWEI, tip=3 * GWEI))


def test_a_fee_below_the_base_fee_is_refused() -> None:
    with pytest.raises(RpcError, match="max fee per gas less than block base fee"):
        add(Pool(RULES), waiting(0, max_fee=FLOOR - 1))


def test_the_balance_must_cover_everything_that_waits() -> None:
    pool = Pool(RULES)
    one = waiting(0)
    add(pool, one, balance=2 * one.cost)
    add(pool, waiting(1), balance=2 * one.cost)
    with pytest.raises(RpcError, match="insufficient funds for gas"):
        add(pool, waiting(2), balance=2 * one.cost)


def test_the_pool_is_bounded_in_count_per_sender_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_PER_SENDER", 2)
    monkeypatch.setattr(pool_module, "MAX_TRANSACTIONS", 3)
    pool = Pool(RULES)
    add(pool, waiting(0))
    add(pool, waiting(1))
    with pytest.raises(RpcError, match="account limit exceeded"):
        add(pool, waiting(2))
    add(pool, waiting(1, max_fee=300 * GWEI))  # a replacement needs no room
    add(pool, waiting(0, key=2))
    with pytest.raises(RpcError, match="txpool is full"):
        add(pool, waiting(0, key=3))
    pool.settle(address_of(KEYS[0]), 2)
    monkeypatch.setattr(pool_module, "MAX_POOL_BYTES", 150)
    with pytest.raises(RpcError, match="txpool is full"):
        add(pool, waiting(0, key=3))


def test_an_oversized_transaction_is_refused() -> None:
    raw = sign(KEYS[0], 0, KEYS[1].address, data=bytes(pool_module.MAX_TRANSACTION_BYTES))
    with pytest.raises(RpcError, match="oversized data"):
        add(Pool(RULES), Waiting.of(MACHINE.decode(raw), raw))


def test_gas_below_the_floor_of_the_data_is_refused() -> None:
    raw = sign(KEYS[0], 0, KEYS[1].address, data=b"\x01" * 100, gas=24_999)
    with pytest.raises(RpcError, match="intrinsic gas too low: gas 24999, minimum needed 25000"):
        add(Pool(RULES), Waiting.of(MACHINE.decode(raw), raw))


def test_dropping_one_drops_what_can_no_longer_follow() -> None:
    pool = Pool(RULES)
    for nonce in range(4):
        add(pool, waiting(nonce))
    pool.drop_from(address_of(KEYS[0]), 2)
    assert [one.nonce for one in pool.in_order()] == [0, 1]
    assert pool.next_nonce(address_of(KEYS[0]), 0) == 2


SIGNED = {
    (key, nonce, fee): waiting(nonce, key=key, max_fee=fee * GWEI)
    for key in range(2)
    for nonce in range(4)
    for fee in (60, 80, 120)
}


@examples(60)
@given(st.integers(0, 2**32))
def test_whatever_happens_each_sender_waits_with_consecutive_nonces(seed: int) -> None:
    chance = random.Random(seed)
    pool, mined = Pool(RULES), {address_of(key): 0 for key in KEYS[:2]}
    for _ in range(40):
        sender = address_of(KEYS[chance.randrange(2)])
        if chance.random() < 0.8:
            one = SIGNED[chance.randrange(2), chance.randrange(4), chance.choice((60, 80, 120))]
            try:
                add(pool, one, nonce=mined[one.sender])
            except RpcError:
                continue
        elif pool.next_nonce(sender, mined[sender]) > mined[sender]:
            mined[sender] += 1
            pool.settle(sender, mined[sender])
        else:
            pool.drop_from(sender, chance.randrange(4))
        for account, nonce in mined.items():
            found = sorted(one.nonce for one in pool.in_order() if one.sender == account)
            assert found == list(range(nonce, nonce + len(found)))
            assert pool.next_nonce(account, nonce) == nonce + len(found)
