"""What a window of tasks proves: one leaf per task, one root and one signature per window.

A leaf binds the terms (channel, workload, parameters, price …), the place of the task in the
channel's epoch, and the digests of its input and output. Whoever holds a leaf's data, its path
and the node's signature over the window shows offline that the node did this task and was paid
for it. Until audits exist the policy of a channel's tasks is `none/1`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from deai.channels import ChannelKey, Epoch
from deai.codec import encode_canonical
from deai.hashing import keccak
from deai.ids import raw
from deai.merkle import leaf_hash
from deai.money import Amount
from deai.signing import Domain, Signer, struct_type, verify
from deai.tasks import Digest, Operator, Signature

MAX_WINDOW: Final = 64
"""Tasks that one voucher pays, at most."""
MAX_TASK_BYTES: Final = 64 * 1024
"""Of an input and of an output in the lane."""
MAX_PARAMETER_BYTES: Final = 16 * 1024
MAX_NUMBER: Final = (1 << 53) - 1

_TERMS_TAG: Final = b"deai lane terms/1\x00"
_WINDOW: Final = struct_type(
    "Window(bytes32 channelId,uint24 epoch,uint64 number,uint64 first,uint32 tasks,"
    "uint96 cumulativeAmount,bytes32 root)"
)
_LEAF: Final = struct.Struct(">32sQ32s32s")

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Parameters = Annotated[bytes, msgspec.Meta(max_length=MAX_PARAMETER_BYTES)]


class Terms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What is the same for every task of a call: agreed once, then named by a small number.

    `price` is paid per task, in base units, and covers inputs of at most `max_units` cost units.
    """

    channel: ChannelKey
    epoch: Epoch
    workload: Name
    version: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    model: Annotated[str, msgspec.Meta(max_length=128)]
    parameters: Parameters
    max_units: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    price: Amount


class WindowReceipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The node's word for one window: tasks `first` to `first + tasks - 1` under `root`.

    `number` counts the vouchers of the epoch, `cumulative_amount` is what this one promises in all.
    """

    channel: ChannelKey
    epoch: Epoch
    number: Number
    first: Number
    tasks: Annotated[int, msgspec.Meta(ge=0, le=MAX_WINDOW)]
    cumulative_amount: Amount
    root: Digest


def terms_hash(terms: Terms) -> bytes:
    """32 bytes that stand for the terms in every leaf."""
    return hashlib.sha256(_TERMS_TAG + encode_canonical(terms)).digest()


def task_leaf(terms: bytes, index: int, input_digest: bytes, output_digest: bytes) -> bytes:
    """The hashed leaf of one task; digests are SHA-256 of the bytes themselves."""
    return leaf_hash(_LEAF.pack(terms, index, input_digest, output_digest))


def task_leaves(
    terms: bytes, first: int, inputs: Iterable[bytes], outputs: Iterable[bytes]
) -> list[bytes]:
    """The hashed leaves of tasks that follow each other: `task_leaf` in a tight loop."""
    sha256, pack, leaves = hashlib.sha256, _LEAF.pack, []
    for index, (given, output) in enumerate(zip(inputs, outputs, strict=True), first):
        body = pack(terms, index, sha256(given).digest(), sha256(output).digest())
        leaves.append(sha256(b"\x00" + body).digest())
    return leaves


def window_digest(domain: Domain, window: WindowReceipt) -> bytes:
    """What the node's operator key signs for a window."""
    return domain.digest(
        _WINDOW,
        (
            raw(window.channel), window.epoch, window.number, window.first, window.tasks,
            window.cumulative_amount, window.root,
        ),
    )  # fmt: skip


def sign_window(domain: Domain, key: Signer, window: WindowReceipt) -> bytes:
    """The operator's signature over a window."""
    return key.sign(window_digest(domain, window))


def verify_window(
    domain: Domain, operator: Operator, window: WindowReceipt, signature: Signature
) -> None:
    """Raise `BadSignature` unless the operator signed this window for this domain."""
    verify(window_digest(domain, window), signature, operator)


def lane_seed(terms: bytes) -> bytes:
    """The 32 bytes that the tasks of one agreement share where a task of the escrow has its id."""
    return keccak(b"deai lane seed/1\x00", terms)
