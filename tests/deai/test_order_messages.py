"""What is said about orders: one byte form for each message, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from deai.errors import MalformedMessage
from deai.ids import NEAR, SEI, AccountId, NodeId, OrderId, TaskId
from deai.messages import BlobChunk, BlobHeader, Goodbye, Progress
from deai.money import Amount
from deai.order_messages import (
    Abandon,
    Fetch,
    OrderMessage,
    Place,
    Secured,
    ShowQuorum,
    SignedResult,
    Taken,
    Turned,
    decode_order,
    encode_order,
    order_dialect,
)
from deai.orders import Order
from deai.tasks import Policy, TaskSpec

ID = OrderId("0x" + "0a" * 32)
SPEC = TaskSpec(
    domain="1:0x", workload="shout", workload_version=1, model="", input_digest=bytes(32),
    input_bytes=5, parameters=b"", salt=bytes(32),
)  # fmt: skip
NODES = tuple(NodeId("0x" + f"{i:02x}" * 20 + "00" * 12) for i in (1, 2, 3))
ORDER = Order(
    AccountId("0x" + "11" * 20), Amount(10**18), Policy.EXACT, 1_800_000_000, 1, bytes(32), NODES
)
MESSAGES: list[OrderMessage] = [
    Place(ORDER, bytes(64), SPEC),
    Taken(ID),
    Turned(ID, "price", "too little"),
    Abandon(ID),
    BlobHeader(TaskId(ID), "input", 0, 5, (bytes(32),)),
    BlobChunk(TaskId(ID), "output", 2, 0, b"hello"),
    Progress(TaskId(ID), 1, 0, 500),
    SignedResult(ID, bytes(32), bytes(64)),
    ShowQuorum(ID, bytes(32), (bytes(64), None, bytes(64))),
    Secured(ID, 2),
    Fetch(ID),
    Goodbye("leaving"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_every_message_is_read_as_it_was_written(message: OrderMessage) -> None:
    data = encode_order(message)
    assert decode_order(data) == message
    for wrong in (data[1:], bytes([2]) + data[1:], data + b"\0", data[:-1]):
        with pytest.raises(MalformedMessage):
            decode_order(wrong)


@given(st.binary(max_size=200))
def test_noise_is_no_message(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_order(b"\1" + data + b"\xc1")


def test_only_chunks_are_paced_and_each_chain_has_a_dialect() -> None:
    dialect = order_dialect(SEI)
    assert [type(one) for one in MESSAGES if dialect.is_bulk(one)] == [BlobChunk]
    assert dialect.protocol_id != order_dialect(NEAR).protocol_id
