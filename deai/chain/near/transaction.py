"""Signed transactions: py-near's encoding, our signature.

The secret key stays with the `Signer`: py-near encodes and hashes, a throw-away key takes the place
of the signature until ours is put there. Its encoder must not be given bytes that are no key or
an account that is none: it panics.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, assert_never

import msgspec
from py_near_primitives import (
    AccessKey,
    AccessKeyPermissionFieldless,
    AddKeyAction,
    CreateAccountAction,
    DeleteKeyAction,
    DeployContractAction,
    FunctionCallAction,
    FunctionCallPermission,
    Transaction,
    TransferAction,
)

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
from deai.errors import MalformedMessage
from deai.ids import base58, parse_near_account
from deai.signing import SIGNATURE_BYTES, Ed25519Signer, public_key

_NOBODY: Final = Ed25519Signer(bytes(32))
_PLACEHOLDER: Final = bytes(32) + public_key(_NOBODY.account)
"""Everybody's secret key, only to make the encoder write a signature that is then replaced."""


class Signed(msgspec.Struct, frozen=True):
    """Bytes for `send_tx` and the transaction's hash in base58."""

    raw: bytes
    hash: str


def sign(call: NearCall, key: NearKey, nonce: int, block_hash: bytes) -> Signed:
    """Sign a transaction of the key's account that is dated by `block_hash` (32 bytes).

    Raises `MalformedMessage` for a receiver that is no account.
    """
    receiver = parse_near_account(call.to if call.to is not None else key.account)
    unsigned = Transaction(
        parse_near_account(key.account), public_key(key.public_key), nonce, receiver, block_hash,
        [_action(step) for step in call.steps],
    )  # fmt: skip
    encoded = bytes(unsigned.to_vec(_PLACEHOLDER))[:-SIGNATURE_BYTES]
    digest = sha256(encoded[:-1]).digest()  # without the kind of the signature, 0 for Ed25519
    if digest != bytes(unsigned.get_hash()):
        raise MalformedMessage("the encoder writes transactions in another form than we know")
    return Signed(encoded + key.signer.sign(digest), base58(digest))


def _action(step: Step) -> Any:  # noqa: ANN401 - py-near has no types
    match step:
        case Call():
            return FunctionCallAction(step.method, step.args, step.gas, step.deposit)
        case Send():
            return TransferAction(step.deposit)
        case AddKey():
            return AddKeyAction(public_key(step.public_key), AccessKey(0, _permission(step)))
        case DeleteKey():
            return DeleteKeyAction(public_key(step.public_key))
        case CreateAccount():
            return CreateAccountAction()
        case Deploy():
            return DeployContractAction(step.code)
        case _:
            assert_never(step)


def _permission(step: AddKey) -> Any:  # noqa: ANN401 - py-near has no types
    if step.contract is None:
        return AccessKeyPermissionFieldless.FullAccess
    return FunctionCallPermission(step.contract, list(step.methods), step.allowance)
