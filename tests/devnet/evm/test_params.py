"""Strict reading of parameters."""

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from devnet.evm import params
from devnet.evm.errors import INVALID_PARAMS, RpcError
from tests.support.examples import examples

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("0x"),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(
        st.sampled_from(
            ["from", "to", "data", "input", "gas", "value", "address", "topics", "blockHash",
             "fromBlock", "toBlock", "accessList", "storageKeys", "blockNumber", "nonce"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip

READERS: list[Callable[[object], object]] = [
    params.quantity,
    params.number,
    params.data,
    params.address,
    params.digest,
    params.block_number,
    params.block_or_hash,
    params.call,
    params.log_filter,
]


@examples(200)
@given(value=anything)
def test_any_json_is_read_or_refused_as_invalid_params(value: object) -> None:
    for reader in READERS:
        try:
            reader(value)
        except RpcError as error:
            refusal = error
        else:
            continue
        assert refusal.number == INVALID_PARAMS, reader


@given(st.integers(0, 2**256 - 1))
def test_a_quantity_is_read_back(value: int) -> None:
    assert params.quantity(hex(value)) == value


@pytest.mark.parametrize("text", ["", "0x", "0x00", "0x01", "12", "0xg", " 0x1", "0x1\n", "-0x1"])
def test_a_quantity_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(RpcError):
        params.quantity(text)


@given(st.binary(max_size=80))
def test_bytes_are_read_back(value: bytes) -> None:
    assert params.data("0x" + value.hex()) == value


@pytest.mark.parametrize("size", [0, 19, 21, 32])
def test_an_address_has_twenty_bytes(size: int) -> None:
    with pytest.raises(RpcError, match="20 bytes expected"):
        params.address("0x" + "11" * size)


def test_data_and_input_must_agree() -> None:
    assert params.call({"data": "0x12", "input": "0x12"}).data == b"\x12"
    with pytest.raises(RpcError, match="not equal"):
        params.call({"data": "0x12", "input": "0x13"})


def test_a_filter_names_a_block_hash_or_a_range_but_not_both() -> None:
    with pytest.raises(RpcError, match="both BlockHash and FromBlock"):
        params.log_filter({"blockHash": "0x" + "11" * 32, "fromBlock": "0x1"})


def test_a_null_among_alternative_topics_accepts_everything() -> None:
    topic = "0x" + "22" * 32
    assert params.log_filter({"topics": [[topic, None], topic]}).topics == ((), (b"\x22" * 32,))


def test_long_lists_are_refused() -> None:
    address = "0x" + "11" * 20
    with pytest.raises(RpcError, match="more than"):
        params.log_filter({"address": [address] * (params.MAX_FILTER_VALUES + 1)})
