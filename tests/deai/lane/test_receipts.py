"""A leaf binds its task, a window its leaves, and nothing can be moved elsewhere."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, strategies as st

from deai.channels import CHANNELS_NAME
from deai.errors import BadSignature
from deai.hashing import ZERO
from deai.ids import AccountId, ChannelId
from deai.lane.receipts import (
    Terms,
    WindowReceipt,
    lane_seed,
    sign_window,
    task_leaf,
    task_leaves,
    terms_hash,
    verify_window,
)
from deai.money import Amount
from deai.signing import Domain
from tests.support.samples import signer

DOMAIN = Domain(CHANNELS_NAME, 713714, AccountId("0x" + "ce" * 20))
CHANNEL = ChannelId("0x" + "0c" * 32)
TERMS = Terms(
    channel=CHANNEL, epoch=2, workload="echo", version=1, model="", parameters=b"\x80",
    max_units=10, price=Amount(1000),
)  # fmt: skip
WINDOW = WindowReceipt(CHANNEL, 2, 5, 100, 3, Amount(103_000), b"\x07" * 32)
OPERATOR = signer(8)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel", ChannelId("0x" + "0d" * 32)),
        ("epoch", 3),
        ("workload", "other"),
        ("version", 2),
        ("model", "m"),
        ("parameters", b"\x81"),
        ("max_units", 11),
        ("price", Amount(1001)),
    ],
)
def test_other_terms_are_other_tasks(field: str, value: object) -> None:
    other = msgspec.structs.replace(TERMS, **{field: value})
    assert terms_hash(other) != terms_hash(TERMS)
    assert lane_seed(terms_hash(other)) != lane_seed(terms_hash(TERMS))


@given(
    st.integers(0, 1 << 40), st.lists(st.tuples(st.binary(), st.binary()), min_size=1, max_size=9)
)
def test_leaves_in_bulk_are_those_of_single_tasks(
    first: int, tasks: list[tuple[bytes, bytes]]
) -> None:
    inputs, outputs = [given for given, _ in tasks], [output for _, output in tasks]
    terms = terms_hash(TERMS)
    assert task_leaves(terms, first, inputs, outputs) == [
        task_leaf(terms, index, hashlib.sha256(given).digest(), hashlib.sha256(output).digest())
        for index, (given, output) in enumerate(tasks, first)
    ]


def test_columns_of_different_lengths_make_no_leaves() -> None:
    with pytest.raises(ValueError, match="shorter"):
        task_leaves(ZERO, 0, [b"1", b"2"], [b"1"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel", ChannelId("0x" + "0d" * 32)),
        ("epoch", 3),
        ("number", 6),
        ("first", 101),
        ("tasks", 4),
        ("cumulative_amount", Amount(103_001)),
        ("root", b"\x08" * 32),
    ],
)
def test_a_signature_stands_for_one_window_only(field: str, value: object) -> None:
    signature = sign_window(DOMAIN, OPERATOR, WINDOW)
    verify_window(DOMAIN, OPERATOR.account, WINDOW, signature)
    other = msgspec.structs.replace(WINDOW, **{field: value})
    with pytest.raises(BadSignature):
        verify_window(DOMAIN, OPERATOR.account, other, signature)


def test_a_window_is_signed_for_one_contract_by_one_operator() -> None:
    signature = sign_window(DOMAIN, OPERATOR, WINDOW)
    elsewhere = Domain(CHANNELS_NAME, 713714, AccountId("0x" + "cf" * 20))
    for domain, operator in ((elsewhere, OPERATOR.account), (DOMAIN, signer(9).account)):
        with pytest.raises(BadSignature):
            verify_window(domain, operator, WINDOW, signature)
