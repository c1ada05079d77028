"""The JSON forms of what the chain holds, as nearcore's RPC shows them."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Final

import msgspec

from devnet.near.actions import (
    Action,
    AddKey,
    CreateAccount,
    DeleteAccount,
    DeleteKey,
    DeployContract,
    FunctionCall,
    FunctionCallAccess,
    Transfer,
)
from devnet.near.borsh import SignedTransaction
from devnet.near.errors import Json
from devnet.near.keys import KINDS, base58
from devnet.near.receipts import ActionReceipt, Outcome
from devnet.near.rules import GAS_PRICE, MAX_BURNT_GAS, PROTOCOL_VERSION
from devnet.near.state import AccessKey

NOTHING: Final = base58(bytes(32))
"""Stands for the roots, and whatever else that a chain with one honest node has no use for."""
NO_SIGNATURE: Final = "ed25519:" + base58(bytes(64))
AUTHOR: Final = "node.near"

_UNUSED_ROOTS: Final = (
    "block_merkle_root", "challenges_root", "chunk_headers_root", "chunk_receipts_root",
    "chunk_tx_root", "epoch_id", "next_bp_hash", "next_epoch_id", "outcome_root",
    "prev_state_root", "random_value",
)  # fmt: skip
_UNUSED_CHUNK_ROOTS: Final = (
    "encoded_merkle_root", "outcome_root", "outgoing_receipts_root", "prev_state_root", "tx_root",
)  # fmt: skip


class Block(msgspec.Struct, frozen=True):
    """A block. ``timestamp`` in nanoseconds since 1970; heights may be left out."""

    height: int
    hash: bytes
    previous_hash: bytes
    previous_height: int
    timestamp: int
    supply: int  # yoctoNEAR in all accounts and receipts
    gas_burnt: int

    @property
    def chunk_hash(self) -> bytes:
        """The hash of its only chunk."""
        return hashlib.sha256(b"chunk" + self.hash).digest()


def text(data: bytes) -> str:
    """Write bytes in base64."""
    return base64.b64encode(data).decode()


def action_view(action: Action) -> str | Json:
    """Show an action."""
    match action:
        case CreateAccount():
            return "CreateAccount"
        case DeployContract(code):
            return {"DeployContract": {"code": text(hashlib.sha256(code).digest())}}
        case FunctionCall(method, args, gas, deposit):
            call: Json = {"method_name": method, "args": text(args), "gas": gas}
            return {"FunctionCall": {**call, "deposit": str(deposit)}}
        case Transfer(deposit):
            return {"Transfer": {"deposit": str(deposit)}}
        case AddKey(public_key, access):
            key: Json = {"nonce": 0, "permission": permission_view(access)}
            return {"AddKey": {"public_key": public_key, "access_key": key}}
        case DeleteKey(public_key):
            return {"DeleteKey": {"public_key": public_key}}
        case DeleteAccount(beneficiary):
            return {"DeleteAccount": {"beneficiary_id": beneficiary}}
        case _:
            raise AssertionError(action)


def permission_view(access: FunctionCallAccess | None) -> str | Json:
    """Show what a key may do."""
    if access is None:
        return "FullAccess"
    allowance = None if access.allowance is None else str(access.allowance)
    call: Json = {"allowance": allowance, "receiver_id": access.receiver}
    return {"FunctionCall": {**call, "method_names": list(access.methods)}}


def access_key_view(key: AccessKey) -> Json:
    """Show an access key."""
    return {"nonce": key.nonce, "permission": permission_view(key.access)}


def transaction_view(transaction: SignedTransaction) -> Json:
    """Show a transaction."""
    signature = transaction.signature
    return {
        "signer_id": transaction.signer,
        "public_key": transaction.public_key,
        "nonce": transaction.nonce,
        "receiver_id": transaction.receiver,
        "actions": [action_view(action) for action in transaction.actions],
        "signature": f"{KINDS[signature[0]]}:{base58(signature[1:])}",
        "hash": transaction.id,
        "priority_fee": 0,
    }


def outcome_view(outcome: Outcome, block_hash: str) -> Json:
    """Show what became of a transaction or a receipt."""
    return {
        "id": outcome.id,
        "block_hash": block_hash,
        "proof": [],
        "outcome": {
            "logs": outcome.logs,
            "receipt_ids": outcome.receipt_ids,
            "gas_burnt": outcome.gas_burnt,
            "tokens_burnt": str(outcome.tokens_burnt),
            "executor_id": outcome.executor,
            "status": outcome.status,
            "metadata": {"version": 3, "gas_profile": []},
        },
    }


def receipt_view(receipt: ActionReceipt) -> Json:
    """Show a receipt."""
    body: Json = {
        "signer_id": receipt.signer,
        "signer_public_key": receipt.signer_key,
        "gas_price": str(GAS_PRICE),
        "actions": [action_view(action) for action in receipt.actions],
        "input_data_ids": [base58(data_id) for data_id in receipt.inputs],
        "output_data_receivers": [
            {"data_id": base58(data_id), "receiver_id": receiver}
            for data_id, receiver in receipt.outputs
        ],
        "is_promise_yield": False,
    }
    return {
        "predecessor_id": receipt.predecessor,
        "receiver_id": receipt.receiver,
        "receipt_id": receipt.id,
        "priority": 0,
        "receipt": {"Action": body},
    }


def chunk_header_view(block: Block) -> Json:
    """Show the header of a block's only chunk."""
    return {
        **dict.fromkeys(_UNUSED_CHUNK_ROOTS, NOTHING),
        "chunk_hash": base58(block.chunk_hash),
        "prev_block_hash": base58(block.previous_hash),
        "height_created": block.height,
        "height_included": block.height,
        "shard_id": 0,
        "encoded_length": 0,
        "gas_used": block.gas_burnt,
        "gas_limit": MAX_BURNT_GAS,
        "rent_paid": "0",
        "validator_reward": "0",
        "balance_burnt": str(block.gas_burnt * GAS_PRICE),
        "validator_proposals": [],
        "signature": NO_SIGNATURE,
    }


def block_view(block: Block) -> Json:
    """Show a block."""
    header: Json = {
        **dict.fromkeys(_UNUSED_ROOTS, NOTHING),
        "height": block.height,
        "prev_height": block.previous_height,
        "hash": base58(block.hash),
        "prev_hash": base58(block.previous_hash),
        "last_final_block": base58(block.hash),
        "last_ds_final_block": base58(block.hash),
        "timestamp": block.timestamp,
        "timestamp_nanosec": str(block.timestamp),
        "gas_price": str(GAS_PRICE),
        "total_supply": str(block.supply),
        "rent_paid": "0",
        "validator_reward": "0",
        "latest_protocol_version": PROTOCOL_VERSION,
        "chunks_included": 1,
        "chunk_mask": [True],
        "approvals": [],
        "challenges_result": [],
        "validator_proposals": [],
        "signature": NO_SIGNATURE,
    }
    return {"author": AUTHOR, "chunks": [chunk_header_view(block)], "header": header}


def moment(nanoseconds: int) -> str:
    """Write a time of a block as text."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
