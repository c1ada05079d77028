"""Signed transactions: py-near's bytes, our signature, and no secret in its hands."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

import pytest

pytest.importorskip("py_near", reason="py-near is not installed")

import py_near_primitives as primitives
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from py_near.transactions import sign_and_serialize_transaction

from deai.chain.near.calls import OPERATOR_METHODS, encode_action, operator_key
from deai.chain.near.keys import NearKey
from deai.chain.near.steps import (
    AddKey,
    Call,
    CreateAccount,
    DeleteKey,
    Deploy,
    NearCall,
    Send,
    Step,
)
from deai.chain.near.transaction import sign
from deai.errors import MalformedMessage
from deai.ids import AccountId, base58
from deai.signing import Ed25519Signer, public_key
from tests.deai.chain.near.samples import ACTIONS, ALICE, BOB, COMPUTE, CONTRACTS, KEY

SEED = bytes(range(32))
BY = NearKey(ALICE, Ed25519Signer(SEED))
DATE = bytes(reversed(range(32)))


def theirs(step: Step) -> object:
    """The step as py-near's own constructors write it."""
    match step:
        case Call(method, args, gas, deposit):
            return primitives.FunctionCallAction(method, args, gas, deposit)
        case Send(deposit):
            return primitives.TransferAction(deposit)
        case AddKey():
            limited = primitives.FunctionCallPermission(COMPUTE, list(OPERATOR_METHODS), 5)
            return primitives.AddKeyAction(
                public_key(KEY.account), primitives.AccessKey(0, limited)
            )
        case DeleteKey():
            return primitives.DeleteKeyAction(public_key(KEY.account))
        case CreateAccount():
            return primitives.CreateAccountAction()
        case Deploy(code):
            return primitives.DeployContractAction(code)


@pytest.mark.parametrize(
    "call",
    [
        *(encode_action(action, CONTRACTS) for action in ACTIONS),
        NearCall(BOB, (CreateAccount(), Send(10**25), Deploy(b"\0asm"), Call("new", b"{}", 5))),
        NearCall(None, (DeleteKey(KEY.account), operator_key(KEY.account, COMPUTE, 5))),
    ],
)
def test_the_bytes_are_those_that_py_near_signs_with_the_secret(call: NearCall) -> None:
    signed = sign(call, BY, 7, DATE)
    secret = SEED + public_key(BY.public_key)
    receiver = call.to if call.to is not None else ALICE
    expected = sign_and_serialize_transaction(
        ALICE, secret, receiver, 7, [theirs(step) for step in call.steps], DATE
    )
    assert signed.raw == b64decode(expected)
    body = signed.raw[:-65]
    assert signed.hash == base58(sha256(body).digest())
    verifier = Ed25519PublicKey.from_public_bytes(public_key(BY.public_key))
    verifier.verify(signed.raw[-64:], sha256(body).digest())


def test_a_key_with_all_rights_is_another_action_than_a_limited_one() -> None:
    full = sign(NearCall(None, (AddKey(KEY.account),)), BY, 7, DATE)
    limited = sign(NearCall(None, (operator_key(KEY.account, COMPUTE, 5),)), BY, 7, DATE)
    assert full.raw != limited.raw
    assert COMPUTE.encode() not in full.raw


def test_nothing_that_is_no_account_or_key_reaches_the_encoder() -> None:
    """It would panic, which no `except Exception` catches."""
    with pytest.raises(MalformedMessage):
        sign(NearCall(AccountId("Not An Account"), (Send(1),)), BY, 7, DATE)
    with pytest.raises(MalformedMessage):
        sign(NearCall(BOB, (Send(1),)), NearKey(AccountId("UPPER"), BY.signer), 7, DATE)
    with pytest.raises(MalformedMessage):
        sign(NearCall(None, (DeleteKey("ed25519:nonsense"),)), BY, 7, DATE)


def test_keys_show_their_public_half_only() -> None:
    shown = repr(BY) + str(BY)
    assert BY.public_key in shown
    for secret in (SEED.hex(), base58(SEED), base58(SEED + public_key(BY.public_key))):
        assert secret not in shown
