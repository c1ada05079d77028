"""What a stranger can make grow ends somewhere, and what is full says so."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from devnet.near.borsh import SignedTransaction
from devnet.near.chain import MAX_SNAPSHOTS
from devnet.near.errors import InvalidTransaction, RpcError
from devnet.near.pool import MAX_PER_SIGNER, MAX_POOL_BYTES, MAX_REMEMBERED, MAX_TRANSACTIONS, Pool
from devnet.near.rules import TGAS
from devnet.near.state import HISTORY_BLOCKS, HISTORY_ENTRIES, Changes, History, State
from devnet.serving import MAX_CONNECTIONS
from tests.devnet.near.process import Running
from tests.devnet.near.tools import ALICE, BOB, HELLO, World, a_world, call, transfer
from tests.support.polling import wait


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as made:
        yield made


@pytest.fixture
def transaction(world: World) -> SignedTransaction:
    return world.sign(ALICE, BOB, transfer(1))


def others(one: SignedTransaction, signers: int) -> Iterator[SignedTransaction]:
    number = 0
    while True:
        number += 1
        yield msgspec.structs.replace(
            one, id=str(number), nonce=number, signer=f"signer-{number % signers}"
        )


@pytest.mark.parametrize(("signers", "most"), [(1, MAX_PER_SIGNER), (64, MAX_TRANSACTIONS)])
def test_the_pool_is_full_at_some_point(
    transaction: SignedTransaction, signers: int, most: int
) -> None:
    pool = Pool()
    more = others(transaction, signers)
    for _ in range(most):
        pool.add(next(more))
    refused = next(more)
    with pytest.raises(InvalidTransaction, match="ShardCongested"):
        pool.add(refused)
    assert len(pool) == most
    pool.remove(pool.in_order()[0])
    pool.add(next(others(transaction, signers)))


def test_the_pool_holds_so_many_bytes(transaction: SignedTransaction) -> None:
    pool = Pool()
    large = msgspec.structs.replace(transaction, size=MAX_POOL_BYTES - 1)
    pool.add(large)
    with pytest.raises(InvalidTransaction, match="ShardCongested"):
        pool.add(msgspec.structs.replace(transaction, id="other", size=2))
    pool.refuse(large, InvalidTransaction("Expired"))
    pool.add(msgspec.structs.replace(transaction, id="other", size=2))


def test_only_the_last_refusals_are_remembered(transaction: SignedTransaction) -> None:
    pool, more = Pool(), others(transaction, 1)
    for _ in range(MAX_REMEMBERED + 1):
        one = next(more)
        pool.add(one)
        pool.refuse(one, InvalidTransaction("Expired"))
    assert pool.refusal("1") is None
    assert pool.refusal("2") is not None


def test_older_states_are_forgotten_by_age_and_by_size() -> None:
    state, history = State(), History(0)
    change: Changes = {("data", "a.near", b"key"): b"old"}
    history.add(1, change)
    assert history.before(state, 0) is not None
    history.add(HISTORY_BLOCKS + 1, {})
    assert history.before(state, 0) is None
    assert history.before(state, 1) is not None
    large: Changes = {
        ("data", "a.near", number.to_bytes(4, "big")): b"" for number in range(HISTORY_ENTRIES)
    }
    history.add(HISTORY_BLOCKS + 2, large)
    assert history.before(state, HISTORY_BLOCKS + 1) is not None
    history.add(HISTORY_BLOCKS + 3, change)
    assert history.before(state, HISTORY_BLOCKS + 1) is None
    assert history.before(state, HISTORY_BLOCKS + 2) is not None


def test_a_block_stops_when_its_time_is_up_and_the_next_goes_on(world: World) -> None:
    nonce = world.sign(ALICE, HELLO, transfer(1)).nonce
    sent = [
        world.sign(ALICE, HELLO, call("spin", {"n": 10**9}, gas=40 * TGAS), nonce=nonce + more)
        for more in range(4)
    ]
    for one in sent:
        world.chain.submit(one)
    world.chain.produce()  # they become receipts
    counts = []
    while world.chain.is_busy:
        world.chain.produce(budget=0)
        counts.append(len(world.chain.store.receipts(world.chain.head.height)))
    assert max(counts) == 1
    assert all("Exceeded the prepaid gas" in world.result(one.id).failure for one in sent)


def test_snapshots_are_counted(world: World) -> None:
    for _ in range(MAX_SNAPSHOTS):
        world.chain.snapshot()
    with pytest.raises(RpcError):
        world.chain.snapshot()


@pytest.mark.chain
@pytest.mark.network
def test_more_connections_than_allowed_are_turned_away_for_as_long_as_they_last(
    tmp_path: Path,
) -> None:
    request = json.dumps({"id": 1, "method": "status"})
    with Running(tmp_path, "--block-time", "0") as chain:
        port = int(chain.url.rpartition(":")[2])
        with ExitStack() as opened:
            for _ in range(MAX_CONNECTIONS + 8):
                opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))

            def turned_away() -> bool:
                return chain.post(request).status_code == 503

            assert wait(turned_away)

        def served() -> bool:
            return chain.post(request).status_code == 200

        assert wait(served)
        assert chain.stop() == 0
