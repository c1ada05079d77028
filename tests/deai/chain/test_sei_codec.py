"""Bytes for the chain and from it, held to other people's implementations and to strangers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import rlp
from eth_abi.abi import encode
from eth_account import Account
from hypothesis import given, strategies as st

from deai.chain.sei.abi import (
    call_data,
    creation_data,
    interface,
    merged,
    read_answer,
    read_error,
)
from deai.chain.sei.calls import join_addresses, split_addresses
from deai.chain.sei.logs import Decoder, RawLog, read_log
from deai.chain.sei.quantities import quantity
from deai.chain.sei.rpc import RpcError
from deai.chain.sei.sender import refused
from deai.chain.sei.transaction import Envelope, contract_address, encode as encode_rlp, sign
from deai.errors import InsufficientFunds, LedgerRejected, MalformedMessage
from deai.events import NodeRegistered, TaskPosted, VoucherSkipped
from deai.hashing import keccak
from deai.ids import AccountId, ChannelId, node_id, raw
from deai.signing import LocalSigner
from deai.tasks import Policy
from tests.support import samples

CONTRACTS = {
    name: AccountId(f"0x{index:040x}")
    for index, name in enumerate(
        ("ComputeToken", "NodeRegistry", "TaskEscrow", "PaymentChannels"), 1
    )
}
CLIENT = AccountId("0x" + "c1" * 20)
ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=80) | st.integers(0, 1 << 200), lambda inner: st.lists(inner, max_size=5)
)


@given(ITEMS)
def test_rlp_is_that_of_another_implementation(item: Any) -> None:
    assert encode_rlp(item) == rlp.encode(item)


@given(
    nonce=st.integers(0, 1 << 40),
    fee=st.integers(1, 1 << 60),
    gas=st.integers(21_000, 12_500_000),
    data=st.binary(max_size=300),
    secret=st.integers(1, 1 << 200),
    create=st.booleans(),
)
def test_a_signed_transaction_is_that_of_another_implementation(
    nonce: int, fee: int, gas: int, data: bytes, secret: int, create: bool
) -> None:
    key = secret.to_bytes(32, "big")
    to = None if create else AccountId("0x" + "c0" * 20)
    mine = sign(
        Envelope(chain_id=1328, nonce=nonce, tip=1, fee=fee, gas=gas, to=to, data=data),
        LocalSigner(key),
    )
    fields: dict[str, Any] = {
        "type": 2, "chainId": 1328, "nonce": nonce, "maxPriorityFeePerGas": 1,
        "maxFeePerGas": fee, "gas": gas, "value": 0, "data": data,
    }  # fmt: skip
    if to is not None:
        fields["to"] = bytes.fromhex(to[2:])
    theirs = Account.from_key(key).sign_transaction(fields)
    assert mine.raw == bytes(theirs.raw_transaction)
    assert mine.hash == "0x" + bytes(theirs.hash).hex()


def test_a_contract_stands_where_the_chain_puts_it() -> None:
    # The published example of a creator and its first contracts (EIP-161 era test vectors).
    creator = AccountId("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0")
    assert contract_address(creator, 0) == "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert contract_address(creator, 1) == "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"


def test_the_escrow_names_tasks_as_we_do() -> None:
    task = samples.task(CLIENT)
    data = call_data("TaskEscrow", "taskIdOf", (
        task.client, task.lane, task.nonce, int(task.fee), int(task.tip), task.seats,
        int(task.policy), task.lease, task.commit_deadline, task.window, task.spec_hash,
    ))  # fmt: skip
    assert len(data) == 4 + 11 * 32
    assert (
        data[:4]
        == keccak(
            b"taskIdOf((address,uint32,uint32,uint96,uint96,uint8,uint8,uint32,uint40,uint32,bytes32))"
        )[:4]
    )


def test_creation_code_ends_with_the_constructors_arguments() -> None:
    data = creation_data("ComputeToken", CONTRACTS["TaskEscrow"], 5)
    assert data.startswith(interface("ComputeToken").bytecode)
    assert data.endswith((5).to_bytes(32, "big"))


def test_errors_are_read_whichever_contract_raised_them() -> None:
    owner = AccountId("0x" + "ab" * 20)
    twice = read_error(keccak(b"OwnerTwice(address)")[:4] + encode(["address"], [owner]))
    assert (twice.name, twice.arguments) == ("OwnerTwice", {"owner": owner})
    assert twice.hint
    poor = read_error(
        keccak(b"Insufficient(address,uint256,uint256)")[:4]
        + encode(["address", "uint256", "uint256"], [owner, 1, 2])
    )
    assert isinstance(poor, InsufficientFunds)
    panic = read_error(bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]))
    assert (panic.name, panic.arguments) == ("Panic", {"code": 0x11})
    text = read_error(bytes.fromhex("08c379a0") + encode(["string"], ["no"]))
    assert (text.name, text.arguments) == ("Error", {"reason": "no"})


def test_no_two_contracts_mean_different_things_by_one_error() -> None:
    seen: dict[bytes, Any] = {}
    for contract in CONTRACTS:
        for selector, shape in interface(contract).errors.items():
            assert seen.setdefault(selector, shape) == shape
    late = read_error(keccak(b"TooLate(uint40)")[:4] + encode(["uint40"], [9]))
    assert (late.name, late.arguments) == ("TooLate", {"closesAt": 9})


def test_a_contract_that_comes_later_gives_no_error_other_arguments() -> None:
    late, other = keccak(b"TooLate(uint40)")[:4], keccak(b"Other()")[:4]
    first = {late: ("TooLate", (("closesAt", "uint40"),))}
    second = {late: ("TooLate", (("deadline", "uint40"),)), other: ("Other", ())}
    assert merged(first, second) == {**first, other: ("Other", ())}
    assert merged(second, first) == second


def test_a_voucher_that_was_skipped_names_an_error_of_its_contract() -> None:
    known, unknown = keccak(b"NothingNew(uint96)")[:4], b"\x01\x02\x03\x04"
    topics = [b"\x09" * 32]
    log = log_of("PaymentChannels", "VoucherSkipped", topics, known.ljust(32, b"\0"))
    event = Decoder(CONTRACTS).decode(log)
    assert event == VoucherSkipped(ChannelId("0x" + "09" * 32), "NothingNew")
    log = log_of("PaymentChannels", "VoucherSkipped", topics, unknown.ljust(32, b"\0"))
    with pytest.raises(MalformedMessage):
        Decoder(CONTRACTS).decode(log)


@given(st.binary(max_size=200))
def test_any_revert_data_becomes_a_refusal(data: bytes) -> None:
    assert isinstance(read_error(data), LedgerRejected)


@given(st.binary(max_size=64), st.text(max_size=80))
def test_a_nodes_error_becomes_a_refusal(data: bytes, message: str) -> None:
    assert isinstance(refused(RpcError(3, message, data)), LedgerRejected)


@given(st.binary(max_size=500))
def test_an_answer_is_read_or_refused_as_malformed(data: bytes) -> None:
    try:
        read_answer("TaskEscrow", "laneOf", data)
    except MalformedMessage:
        return
    assert len(data) >= 12 * 32


def log_of(contract: str, event: str, topics: list[bytes], data: bytes) -> RawLog:
    topic = next(t for t, shape in interface(contract).events.items() if shape.name == event)
    return RawLog(
        contract=CONTRACTS[contract], topics=(topic, *topics), data=data, block=1,
        block_hash="0x" + "00" * 32, index=0, transaction="0x" + "11" * 32,
    )  # fmt: skip


def test_a_registration_that_is_no_text_stops_no_index() -> None:
    owner = AccountId("0x" + "0a" * 20)
    node = node_id(owner, 3)
    data = encode(
        ["address", "uint96", "bytes", "bytes"], [owner, 7, b"\xff\xfe", b"/ip4\n\xff\x00"]
    )
    log = log_of("NodeRegistry", "NodeRegistered", [raw(node), bytes(12) + raw(owner)], data)
    event = Decoder(CONTRACTS).decode(log)
    assert isinstance(event, NodeRegistered)
    assert event.node == node
    assert event.addresses[0] == "/ip4"


@pytest.mark.parametrize("policy", [0, 1, 128, 2, 127, 129, 255])
def test_a_task_of_a_policy_that_we_do_not_know_is_skipped(policy: int) -> None:
    task = samples.task(CLIENT)
    words = (
        task.client, task.lane, task.nonce, int(task.fee), int(task.tip), task.seats, policy,
        task.lease, task.commit_deadline, task.window, task.spec_hash,
    )  # fmt: skip
    shape = "(address,uint32,uint32,uint96,uint96,uint8,uint8,uint32,uint40,uint32,bytes32)"
    log = log_of(
        "TaskEscrow", "TaskPosted", [bytes(32), bytes(12) + raw(task.client)],
        encode([shape], [words]),
    )  # fmt: skip
    event = Decoder(CONTRACTS).decode(log)
    if policy in [int(one) for one in Policy]:
        assert isinstance(event, TaskPosted)
        assert int(event.task.policy) == policy
    else:
        assert event is None


def test_logs_of_other_contracts_and_events_are_skipped() -> None:
    decoder = Decoder(CONTRACTS)
    approval = log_of("ComputeToken", "Approval", [bytes(32), bytes(32)], bytes(32))
    assert decoder.decode(approval) is None
    nobody = RawLog(
        contract=AccountId("0x" + "99" * 20), topics=(), data=b"", block=1, block_hash="",
        index=0, transaction="",
    )  # fmt: skip
    assert decoder.decode(nobody) is None


@pytest.mark.parametrize("contract", ["TaskEscrow", "PaymentChannels"])
@given(data=st.binary(max_size=400), topics=st.integers(0, 4), pick=st.integers(0, 99))
def test_any_log_is_an_event_or_malformed(
    contract: str, data: bytes, topics: int, pick: int
) -> None:
    shapes = [*interface(contract).events.items()]
    item = shapes[pick % len(shapes)]
    log = RawLog(
        contract=CONTRACTS[contract], topics=(item[0], *[data[:32].ljust(32)] * topics),
        data=data, block=1, block_hash="", index=0, transaction="",
    )  # fmt: skip
    with suppress(MalformedMessage):
        Decoder(CONTRACTS).decode(log)


@pytest.mark.parametrize(
    "log", [None, {}, [], "0x", {"address": 1}, {"address": "0x1", "topics": 5}]
)
def test_what_is_no_log_is_malformed(log: object) -> None:
    with pytest.raises(MalformedMessage):
        read_log(log)


@pytest.mark.parametrize("text", [None, 5, "", "5", "0x", "0xzz", "0x" + "f" * 20, "0x" + "1" * 90])
def test_what_is_no_quantity_is_malformed(text: object) -> None:
    with pytest.raises(MalformedMessage):
        quantity(text)


@given(st.lists(st.text("/abc1.:", min_size=1, max_size=40), max_size=8))
def test_addresses_survive_the_contracts_one_text(addresses: list[str]) -> None:
    assert split_addresses(join_addresses(addresses)) == tuple(addresses)
