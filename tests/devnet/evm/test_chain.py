"""Blocks, state and history, in this process and with a clock of ours."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth.exceptions import PyEVMError

from deai.errors import ConfigError
from devnet.evm.chain import Chain
from devnet.evm.errors import RpcError
from devnet.evm.rpc import Rpc
from devnet.evm.rules import ETHEREUM_SSTORE_SET_GAS, GWEI, Rules
from devnet.evm.vm import FEE_COLLECTOR, Call
from tests.devnet.evm.tools import (
    DIVER,
    GENESIS,
    KEEPER,
    KEYS,
    READER,
    REFUSER,
    RICH,
    SPINNER,
    TELLER,
    FakeClock,
    a_chain,
    address_of,
    sign,
    words,
)

pytestmark = pytest.mark.slow

ME = address_of(KEYS[0])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def chain(tmp_path: Path, clock: FakeClock) -> Iterator[Chain]:
    with a_chain(tmp_path, clock=clock) as chain:
        yield chain


def receipt(chain: Chain, transaction: bytes) -> dict[str, Any]:
    stored = chain.store.receipt(transaction)
    assert stored is not None
    return msgspec.json.decode(stored, type=dict[str, Any])


def run(chain: Chain, raw: bytes) -> dict[str, Any]:
    transaction = chain.submit(raw)
    chain.mine()
    return receipt(chain, transaction)


def deploy(chain: Chain, code: bytes, nonce: int = 0) -> str:
    found = run(chain, sign(KEYS[0], nonce, data=code, gas=1_000_000))
    assert found["status"] == "0x1"
    return str(found["contractAddress"])


def call(to: str, data: bytes = b"", gas: int | None = None) -> Call:
    return Call(ME, bytes.fromhex(to[2:]), 0, data, gas)


def test_a_transfer_moves_money_and_the_fee_goes_to_the_collector(chain: Chain) -> None:
    found = run(chain, sign(KEYS[0], 0, KEYS[1].address, value=7, tip=GWEI))
    fee = int(found["gasUsed"], 16) * int(found["effectiveGasPrice"], 16)
    assert found["gasUsed"] == hex(21_000)
    assert int(found["effectiveGasPrice"], 16) == 51 * GWEI
    assert chain.balance(address_of(KEYS[1]), chain.head) == RICH + 7
    assert chain.balance(ME, chain.head) == RICH - 7 - fee
    assert chain.balance(FEE_COLLECTOR, chain.head) == fee


def test_no_wei_appears_or_disappears(chain: Chain) -> None:
    keeper = deploy(chain, KEEPER)
    for nonce in range(1, 6):
        run(chain, sign(KEYS[0], nonce, keeper, data=words(nonce, nonce), tip=GWEI))
    run(chain, sign(KEYS[1], 0, KEYS[2].address, value=10**18))
    held = sum(chain.balance(account, chain.head) for account in [*GENESIS, FEE_COLLECTOR])
    assert held == RICH * len(GENESIS)


@pytest.mark.parametrize("price", [ETHEREUM_SSTORE_SET_GAS, 72_000])
def test_a_fresh_slot_costs_the_set_price_and_a_used_one_the_usual(
    tmp_path: Path, price: int
) -> None:
    with a_chain(tmp_path, Rules(sstore_set_gas=price)) as chain:
        keeper = deploy(chain, KEEPER)
        fresh = run(chain, sign(KEYS[0], 1, keeper, data=words(1, 5)))
        again = run(chain, sign(KEYS[0], 2, keeper, data=words(1, 6)))
    # Changing a used slot costs 2,900 (both rows pay the cold access of 2,100 beside it).
    assert int(fresh["gasUsed"], 16) - int(again["gasUsed"], 16) == price - 2_900


def test_every_transaction_of_a_block_begins_cold(chain: Chain) -> None:
    keeper = deploy(chain, KEEPER)
    run(chain, sign(KEYS[0], 1, keeper, data=words(1, 5)))
    hashes = [
        chain.submit(sign(KEYS[0], nonce, keeper, data=words(1, nonce + 10))) for nonce in (2, 3)
    ]
    chain.mine()
    first, second = (receipt(chain, one) for one in hashes)
    assert first["blockNumber"] == second["blockNumber"]
    assert first["gasUsed"] == second["gasUsed"]


def test_logs_are_numbered_over_the_block_and_found_by_topic(chain: Chain) -> None:
    keeper = deploy(chain, KEEPER)
    for nonce in (1, 2, 3):
        chain.submit(sign(KEYS[0], nonce, keeper, data=words(nonce, 9)))
    chain.mine()
    number = hex(chain.head.number)
    rpc = Rpc(chain)
    topic = "0x" + words(2).hex()

    def logs(**wanted: object) -> list[dict[str, Any]]:
        found = rpc.invoke("eth_getLogs", [{"fromBlock": number, "toBlock": number} | wanted])
        return msgspec.json.decode(msgspec.json.encode(found), type=list[dict[str, Any]])

    assert [log["logIndex"] for log in logs()] == ["0x0", "0x1", "0x2"]
    assert [log["topics"] for log in logs(topics=[topic])] == [[topic]]
    assert len(logs(address=[keeper, KEYS[0].address], topics=[[topic, "0x" + "00" * 32]])) == 1
    assert logs(address=KEYS[0].address) == []
    assert logs(topics=[None, topic]) == []


def test_a_log_query_may_span_two_thousand_blocks_and_no_more(chain: Chain) -> None:
    chain.mine_many(2_001)
    rpc = Rpc(chain)
    assert rpc.invoke("eth_getLogs", [{"fromBlock": "0x1", "toBlock": hex(2_000)}]) == []
    with pytest.raises(RpcError, match="block range too large"):
        rpc.invoke("eth_getLogs", [{"fromBlock": "0x0", "toBlock": hex(2_000)}])


def test_a_revert_is_code_three_with_its_data_and_reason(chain: Chain) -> None:
    refuser = deploy(chain, REFUSER)
    reason = bytes.fromhex("08c379a0") + words(32, 2) + b"no".ljust(32, b"\0")
    with pytest.raises(RpcError, match="execution reverted: no") as caught:
        chain.call(call(refuser, reason), chain.head)
    assert (caught.value.number, caught.value.data) == (3, "0x" + reason.hex())
    with pytest.raises(RpcError, match="execution reverted") as caught:
        chain.estimate(call(refuser, b"\x12\x34\x56\x78"), chain.head)
    assert (caught.value.number, caught.value.data) == (3, "0x12345678")


def test_a_failed_transaction_is_mined_with_status_zero_and_pays(chain: Chain) -> None:
    refuser = deploy(chain, REFUSER)
    before = chain.balance(ME, chain.head)
    found = run(chain, sign(KEYS[0], 1, refuser, data=b"x", value=5))
    assert (found["status"], found["logs"], found["contractAddress"]) == ("0x0", [], None)
    fee = int(found["gasUsed"], 16) * int(found["effectiveGasPrice"], 16)
    assert chain.balance(ME, chain.head) == before - fee


def test_a_call_changes_nothing(chain: Chain) -> None:
    keeper = deploy(chain, KEEPER)
    root = chain.head.state_root
    chain.call(call(keeper, words(1, 2)), chain.head)
    assert chain.storage(bytes.fromhex(keeper[2:]), 1, chain.head) == 0
    run(chain, sign(KEYS[1], 0, KEYS[2].address))
    assert chain.head.state_root != root
    assert chain.storage(bytes.fromhex(keeper[2:]), 1, chain.head) == 0


def test_an_endless_call_ends_at_the_gas_limit_for_calls(chain: Chain) -> None:
    spinner = deploy(chain, SPINNER)
    with pytest.raises(RpcError, match="out of gas"):
        chain.call(call(spinner, gas=200_000), chain.head)
    with pytest.raises(RpcError, match="gas required exceeds allowance"):
        chain.estimate(call(spinner, gas=200_000), chain.head)


def test_the_deepest_recursion_that_gas_can_buy_is_survived(chain: Chain) -> None:
    diver = deploy(chain, DIVER)
    assert chain.call(call(diver), chain.head) == b""


@pytest.mark.parametrize("code", [KEEPER, READER])
def test_an_estimate_is_exact_when_nothing_is_refunded(chain: Chain, code: bytes) -> None:
    contract = deploy(chain, code)
    gas = chain.estimate(call(contract, words(1, 5)), chain.head)
    found = run(chain, sign(KEYS[0], 1, contract, data=words(1, 5), gas=gas))
    assert (found["status"], found["gasUsed"]) == ("0x1", hex(gas))


def test_an_estimate_includes_what_will_be_refunded(chain: Chain) -> None:
    keeper = deploy(chain, KEEPER)
    run(chain, sign(KEYS[0], 1, keeper, data=words(1, 5)))
    clear = words(1, 0)
    gas = chain.estimate(call(keeper, clear), chain.head)
    found = run(chain, sign(KEYS[0], 2, keeper, data=clear, gas=gas))
    assert found["status"] == "0x1"
    refund = 4_800
    assert int(found["gasUsed"], 16) + refund <= gas <= int(found["gasUsed"], 16) * 1.25 + 3_000


def test_a_contract_sees_its_block(chain: Chain, clock: FakeClock) -> None:
    teller = deploy(chain, TELLER)
    clock.now += 5
    seen = chain.call(call(teller), chain.head)
    number, timestamp, _, chain_id, parent = (
        int.from_bytes(seen[at : at + 32], "big") for at in range(0, 160, 32)
    )
    assert number == chain.head.number + 1
    assert timestamp == int(clock.now)
    assert chain_id == chain.rules.chain_id
    assert parent == int.from_bytes(chain.head.hash, "big")


def test_old_blocks_answer_with_their_own_state(chain: Chain) -> None:
    keeper = deploy(chain, KEEPER)
    run(chain, sign(KEYS[0], 1, keeper, data=words(1, 5)))
    old = chain.head
    run(chain, sign(KEYS[0], 2, keeper, data=words(1, 6)))
    contract = bytes.fromhex(keeper[2:])
    assert chain.storage(contract, 1, old) == 5
    assert chain.storage(contract, 1, chain.head) == 6
    assert chain.nonce(ME, old) == 2


def test_time_never_goes_back_and_can_be_pushed(chain: Chain, clock: FakeClock) -> None:
    chain.mine()
    start = chain.head.timestamp
    clock.now -= 100
    chain.mine()
    assert chain.head.timestamp == start
    assert chain.increase_time(1_000) == 1_000
    chain.mine()
    assert chain.head.timestamp == int(clock.now) + 1_000
    wanted = chain.head.timestamp + 50
    chain.set_next_timestamp(wanted)
    chain.mine()
    assert chain.head.timestamp == wanted
    clock.now += 3
    chain.mine()
    assert chain.head.timestamp == wanted + 3
    with pytest.raises(RpcError, match="lower than the previous"):
        chain.set_next_timestamp(wanted)


def test_the_shift_of_time_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    with a_chain(tmp_path, clock=clock) as chain:
        chain.increase_time(10_000)
        chain.mine()
    with a_chain(tmp_path, clock=clock) as chain:
        clock.now += 1
        chain.mine()
        assert chain.head.timestamp == int(clock.now) + 10_000


def test_going_back_to_a_snapshot_looks_like_a_reorganisation(chain: Chain) -> None:
    kept = run(chain, sign(KEYS[0], 0, KEYS[1].address, value=1))
    snapshot = chain.snapshot()
    gone = chain.submit(sign(KEYS[0], 1, KEYS[1].address, value=1))
    chain.mine()
    chain.mine()
    removed = [chain.store.block(number) for number in (2, 3)]
    chain.submit(sign(KEYS[0], 2, KEYS[1].address, value=1))
    assert chain.revert(snapshot)
    assert chain.head.number == 1
    assert chain.store.receipt(gone) is None
    assert chain.store.receipt(bytes.fromhex(kept["transactionHash"][2:])) is not None
    assert chain.nonce(ME, chain.head) == 1
    assert len(chain.pool) == 0
    chain.mine()
    chain.mine()
    replaced = [chain.store.block(number) for number in (2, 3)]
    assert all(
        old and new and old.hash != new.hash for old, new in zip(removed, replaced, strict=True)
    )
    assert not chain.revert(snapshot), "a snapshot is used up"


def test_blocks_are_linked_and_their_hash_covers_the_header(chain: Chain) -> None:
    chain.mine_many(5)
    rpc = Rpc(chain)
    blocks = [
        msgspec.json.decode(msgspec.json.encode(rpc.invoke("eth_getBlockByNumber", [hex(number)])))
        for number in range(6)
    ]
    for parent, block in pairwise(blocks):
        assert block["parentHash"] == parent["hash"]
    assert len({block["hash"] for block in blocks}) == 6


def test_a_transaction_whose_nonce_was_used_up_by_a_delegation_is_dropped(chain: Chain) -> None:
    authority = KEYS[3]
    consent: Any = authority.sign_authorization(
        {"chainId": chain.rules.chain_id, "address": KEYS[4].address, "nonce": 0}
    )
    delegation = KEYS[0].sign_transaction(
        {
            "type": 4,
            "chainId": chain.rules.chain_id,
            "nonce": 0,
            "to": KEYS[1].address,
            "value": 0,
            "gas": 200_000,
            "maxFeePerGas": 200 * GWEI,
            "maxPriorityFeePerGas": 0,
            "authorizationList": [consent],
        }
    )
    delegated = chain.submit(bytes(delegation.raw_transaction))
    stale = chain.submit(sign(authority, 0, KEYS[1].address))
    follower = chain.submit(sign(authority, 1, KEYS[1].address))
    other = chain.submit(sign(KEYS[2], 0, KEYS[1].address))
    chain.mine()
    assert receipt(chain, delegated)["status"] == "0x1"
    assert receipt(chain, delegated)["type"] == "0x4"
    assert receipt(chain, other)["status"] == "0x1"
    assert chain.code(address_of(authority), chain.head)[3:] == address_of(KEYS[4])
    assert chain.store.receipt(stale) is None
    assert chain.store.receipt(follower) is None
    assert len(chain.pool) == 0


@pytest.mark.slow
def test_a_block_holds_no_more_gas_than_its_limit(chain: Chain) -> None:
    spinner = deploy(chain, SPINNER)
    hashes = [
        chain.submit(sign(key, int(key is KEYS[0]), spinner, gas=5_000_000)) for key in KEYS[:3]
    ]
    chain.mine()
    assert chain.head.gas_used == 10_000_000
    assert [chain.store.receipt(one) is not None for one in hashes] == [True, True, False]
    chain.mine()
    assert receipt(chain, hashes[2])["gasUsed"] == hex(5_000_000)


def test_a_block_stops_executing_when_its_time_is_up_and_the_rest_follows(chain: Chain) -> None:
    hashes = [chain.submit(sign(KEYS[0], nonce, KEYS[1].address)) for nonce in range(3)]
    for expected in range(1, 4):
        chain.mine(budget=0)
        mined = [one for one in hashes if chain.store.receipt(one) is not None]
        assert mined == hashes[:expected]


@pytest.mark.slow
def test_a_transaction_priced_under_the_base_fee_waits_for_it_to_fall(tmp_path: Path) -> None:
    rules = Rules(fee_up_millionths=900_000, fee_down_millionths=900_000)
    with a_chain(tmp_path, rules) as chain:
        spinner = deploy(chain, SPINNER)
        for key in KEYS[1:3]:
            chain.submit(sign(key, 0, spinner, gas=6_000_000))
        cheap = chain.submit(sign(KEYS[3], 0, KEYS[1].address, max_fee=50 * GWEI))
        chain.pool.drop_from(address_of(KEYS[3]), 0)
        chain.mine()
        assert chain.next_base_fee > 50 * GWEI
        with pytest.raises(RpcError, match="less than block base fee"):
            chain.submit(sign(KEYS[3], 0, KEYS[1].address, max_fee=50 * GWEI))
        chain.mine_many(2)
        assert chain.submit(sign(KEYS[3], 0, KEYS[1].address, max_fee=50 * GWEI)) == cheap
        chain.mine()
        assert receipt(chain, cheap)["status"] == "0x1"


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "invalid transaction"),
        (b"\x02", "invalid transaction"),
        (b"\x02\xc0", "invalid transaction"),
        (b"\x03" + b"\xc0", "transaction type not supported"),
        (b"\x7f\xc0", "invalid transaction"),
        (b"\xff" * 100, "invalid transaction"),
        (sign(KEYS[0], 0, KEYS[1].address, chain_id=1), "invalid chain id"),
        (sign(KEYS[0], 0, KEYS[1].address) + b"\0", "invalid transaction"),
        (sign(KEYS[0], 0, KEYS[1].address, gas=12_500_001), "exceeds block gas limit"),
        (sign(KEYS[0], 0, KEYS[1].address, gas=20_999), "intrinsic gas too low"),
        (sign(KEYS[0], 0, KEYS[1].address, tip=201 * GWEI), "higher than max fee"),
        (sign(KEYS[0], 0, KEYS[1].address, value=RICH), "insufficient funds"),
    ],
)
def test_a_bad_transaction_is_refused_with_a_reason(
    chain: Chain, raw: bytes, complaint: str
) -> None:
    with pytest.raises(RpcError, match=complaint):
        chain.submit(raw)


def test_a_mutilated_transaction_is_refused_and_nothing_else(chain: Chain) -> None:
    good = sign(KEYS[0], 0, KEYS[1].address, data=words(1, 2))
    refused = 0
    for position in range(len(good)):
        for change in (0x01, 0x80):
            mutilated = bytearray(good)
            mutilated[position] ^= change
            try:
                chain.submit(bytes(mutilated))
            except RpcError:
                refused += 1
            except PyEVMError as error:  # pragma: no cover - what this test is looking for
                pytest.fail(f"{type(error)} came through")
    # A changed signature can still be one: of somebody else, who has no money.
    assert refused == 2 * len(good)


def test_everything_is_as_before_after_a_restart(tmp_path: Path) -> None:
    with a_chain(tmp_path) as chain:
        keeper = deploy(chain, KEEPER)
        found = run(chain, sign(KEYS[0], 1, keeper, data=words(1, 5)))
        head, last = chain.head, chain.mine().head
    with a_chain(tmp_path) as chain:
        assert chain.head == last
        assert chain.store.block(head.number) == head
        assert receipt(chain, bytes.fromhex(found["transactionHash"][2:])) == found
        assert chain.storage(bytes.fromhex(keeper[2:]), 1, chain.head) == 5
        assert len(chain.store.logs(0, last.number, [], [], 10)) == 1
        assert run(chain, sign(KEYS[0], 2, keeper, data=words(1, 6)))["status"] == "0x1"


def test_a_chain_is_not_continued_under_other_rules(tmp_path: Path) -> None:
    with a_chain(tmp_path):
        pass
    with (
        pytest.raises(ConfigError, match="sstore_set_gas 72000, not 20000"),
        a_chain(tmp_path, Rules(sstore_set_gas=20_000)),
    ):
        pass
