"""Bytes become messages only in their one canonical form."""

from __future__ import annotations

import math

import msgpack
import pytest
from hypothesis import given, strategies as st

from deai import messages, tasks
from deai.codec import (
    MAX_VALUE_DEPTH,
    decode_json,
    decode_value,
    encode_canonical,
    encode_json,
    encode_value,
)
from deai.errors import MalformedMessage
from deai.tasks import Task
from tests.support.samples import all_tasks, specs, task_messages

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20)
    | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(task_messages)
def test_a_message_survives_the_wire(message: messages.TaskMessage) -> None:
    assert messages.decode(messages.encode(message)) == message


@given(task_messages, st.data())
def test_no_two_byte_strings_are_the_same_message(
    message: messages.TaskMessage, data: st.DataObject
) -> None:
    wire = bytearray(messages.encode(message))
    position = data.draw(st.integers(min_value=0, max_value=len(wire) - 1))
    wire[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    try:
        tampered = messages.decode(bytes(wire))
    except MalformedMessage:
        return
    assert tampered != message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for decode in (messages.decode, messages.decode_beat):
        try:
            decode(data)
        except MalformedMessage:
            continue


@given(task_messages, st.binary(min_size=1, max_size=8))
def test_trailing_bytes_are_refused(message: messages.TaskMessage, tail: bytes) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode(messages.encode(message) + tail)


def test_a_message_with_an_extra_field_is_refused() -> None:
    wire = bytes([messages.TASK_VERSION]) + msgpack.packb(["Goodbye", "bye", "extra"])

    with pytest.raises(MalformedMessage, match="array"):
        messages.decode(wire)


def test_text_with_another_line_behind_it_is_no_name() -> None:
    task = "0x" + "5" * 64
    for fields in (["Resume", task + "\n"], ["DeclinedSeat", task, 0, "capacity\n", ""]):
        with pytest.raises(MalformedMessage, match="regex"):
            messages.decode(bytes([messages.TASK_VERSION]) + msgpack.packb(fields))


def test_another_wire_version_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="of version 3; this side speaks version 2"):
        messages.decode(b"\x03" + messages.encode(messages.AskOffer())[1:])
    with pytest.raises(MalformedMessage, match="no version"):
        messages.decode(b"")


def test_a_proposal_without_a_place_for_the_input_is_of_an_older_version() -> None:
    old = msgpack.packb(["Propose", [], [], 0, 0])
    with pytest.raises(MalformedMessage, match="of version 1; this side speaks version 2"):
        messages.decode(b"\x01" + old)
    assert {one.protocol_id for one in messages.TASK_DIALECTS.values()} == {
        "/deai/task/2",
        "/deai/task/2/near",
    }


@given(all_tasks)
def test_another_decoder_reads_a_task_alike(task: Task) -> None:
    fields = msgpack.unpackb(encode_canonical(task))

    assert fields[3] == str(int(task.fee))
    assert fields[0] == task.client
    assert fields[-1] == task.spec_hash


@given(all_tasks)
def test_a_task_survives_json(task: Task) -> None:
    assert decode_json(encode_json(task), Task) == task


@given(specs)
def test_a_spec_hash_is_stable_and_binds_the_salt(spec: tasks.TaskSpec) -> None:
    import msgspec

    other = msgspec.structs.replace(spec, salt=bytes(b ^ 1 for b in spec.salt))

    assert tasks.spec_hash(spec) == tasks.spec_hash(spec) != tasks.spec_hash(other)


@given(plain)
def test_free_form_values_have_one_form(value: object) -> None:
    assert decode_value(encode_value(value)) == _as_lists(value)


@given(st.dictionaries(st.text(max_size=6), st.integers(0, 9), min_size=2, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert encode_value(dict(reversed(value.items()))) == encode_value(value)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",  # never used
        msgpack.packb({"b": 1, "a": 2}),  # keys out of order
        msgpack.packb({1: 2}),  # keys that are no text
        msgpack.packb(b"bytes"),
        msgpack.packb(msgpack.ExtType(1, b"x")),
        b"\xcd\x00\x01",  # 1 in more bytes than needed
        b"\x81\xa1a\x01\x02",  # something behind the value
        b"\x82\xa1a\x01\xa1a\x02",  # the same key twice
    ],
)
def test_other_forms_of_values_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_value(data)


def test_values_are_bounded_in_depth_and_kind() -> None:
    deep: object = 1
    for _ in range(MAX_VALUE_DEPTH + 2):
        deep = [deep]

    for bad in (deep, object(), {1: 2}, b"raw", "x" * 40_000, 2**70):
        with pytest.raises(MalformedMessage):
            encode_value(bad)
    assert math.isinf(decode_value(encode_value(math.inf)))


def _as_lists(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return value
