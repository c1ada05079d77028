"""Reading signed transactions: what py-near writes, and whatever a stranger may send."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, strategies as st
from py_near import transactions as near
from py_near_primitives import DeleteAccountAction, StakeAction

from devnet.near.actions import (
    AddKey,
    CreateAccount,
    DeleteAccount,
    DeleteKey,
    DeployContract,
    FunctionCall,
    FunctionCallAccess,
    Transfer,
)
from devnet.near.borsh import signed_transaction
from devnet.near.keys import base58, public_key_bytes, public_key_text, unbase58
from tests.devnet.near.tools import ALICE, BOB, keys, sign_raw

KEY = keys("some key")[1]
WRITTEN: list[tuple[Any, Any]] = [
    (near.create_create_account_action(), CreateAccount()),
    (near.create_deploy_contract_action(b"\0asm"), DeployContract(b"\0asm")),
    (
        near.create_function_call_action("häuser", b"{}", 2**64 - 1, 2**128 - 1),
        FunctionCall("häuser", b"{}", 2**64 - 1, 2**128 - 1),
    ),
    (near.create_transfer_action(2**128 - 1), Transfer(2**128 - 1)),
    (near.create_full_access_key_action(KEY), AddKey(KEY, None)),
    (
        near.create_function_call_access_key_action(KEY, 7, BOB, ["a", "b"]),
        AddKey(KEY, FunctionCallAccess(BOB, ("a", "b"), 7)),
    ),
    (near.create_delete_access_key_action(KEY), DeleteKey(KEY)),
    (DeleteAccountAction(BOB), DeleteAccount(BOB)),
]
RAW = base64.b64decode(
    sign_raw(ALICE, BOB, [written for written, _ in WRITTEN], nonce=5, block_hash=b"\3" * 32)
)


def test_every_action_is_read_as_it_was_written() -> None:
    found = signed_transaction(RAW)
    assert (found.signer, found.receiver, found.nonce) == (ALICE, BOB, 5)
    assert found.block_hash == b"\3" * 32
    assert found.actions == tuple(read for _, read in WRITTEN)
    assert found.is_genuine
    assert found.size == len(RAW)


def test_what_is_not_modelled_is_refused_by_name() -> None:
    stake = StakeAction(5, public_key_bytes(KEY)[1:])
    raw = sign_raw(ALICE, BOB, [stake], nonce=5, block_hash=bytes(32))
    with pytest.raises(ValueError, match="action 4 is not modelled"):
        signed_transaction(base64.b64decode(raw))


@given(st.data())
def test_noise_is_refused_and_a_changed_transaction_is_not_genuine(data: st.DataObject) -> None:
    changed = bytearray(RAW)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        if data.draw(st.booleans()):
            changed[at] = data.draw(st.integers(0, 255))
        else:
            del changed[at:]
            changed += data.draw(st.binary(max_size=20)) or b"\0"
    try:
        found = signed_transaction(bytes(changed))
    except ValueError:
        return
    assert bytes(changed) == RAW or not found.is_genuine


@given(st.binary(max_size=100))
def test_base58_is_read_as_it_was_written(data: bytes) -> None:
    assert unbase58(base58(data), len(data)) == data
    with pytest.raises(ValueError, match=r"expected|letters"):
        unbase58(base58(data), len(data) + 1)


@given(st.text(max_size=80))
def test_what_is_no_key_is_refused(text: str) -> None:
    try:
        key = public_key_bytes(text)
    except ValueError:
        return
    assert public_key_text(key).endswith(text.rpartition(":")[2])
