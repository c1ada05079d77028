"""What a client and a node, and the members of a committee, say to each other.

Pure data: no socket, no clock, no key. Whatever bytes a peer sends either become one of these
types or raise `MalformedMessage`. On the wire: one version byte, then a MessagePack array whose
first item is the type; unknown types, missing and extra fields are refused.

The order of a conversation (docs/protocol.md draws it):

    client → node   AskOffer            node → client   OfferReply
    client → node   Propose             node → client   Accepted | DeclinedSeat
    client → node   Assigned, then BlobHeader and BlobChunk of the input, if it was not in Propose
    node → client   Progress …, Committed, then (all seats on chain) Opened
    client → node   Opened of the others; node → client   BlobHeader, BlobChunk of the output
    client → node   the others' outputs (tolerance policies); node → client   ApprovedOutputs
    client → node   Ended

Members send each other `Opened`, outputs and `ApprovedOutputs` in the same words when the client
is silent; `Ask` fetches what is missing after a reconnect; `Resume` attaches a client again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from deai.binding import SignedBinding
from deai.codec import Codec
from deai.errors import MalformedMessage
from deai.ids import NEAR, SEI, ChainName
from deai.net import MAX_FRAME_BYTES, Dialect
from deai.offers import Address, Sequence, Signed, Text
from deai.tasks import (
    AttemptIndex,
    Digest,
    Mask,
    Node,
    Salt,
    Seat,
    SeatIndex,
    Seconds,
    Signature,
    Task,
    TaskKey,
    TaskSpec,
)

TASK_VERSION: Final = 2
"""1 had proposals without an input; its programs are told that they do not speak this."""
BEAT_VERSION: Final = 1
TASK_PROTOCOL: Final = f"/deai/task/{TASK_VERSION}"
"""On Sei; other chains have their name behind it. A link is about the tasks of one chain."""
BEAT_PROTOCOL: Final = "/deai/beat/1"
MAX_LEAVES: Final = 1024
EARLY_INPUT_BYTES: Final = 16 * 1024
"""Largest input that may travel with a proposal."""

Reason = Annotated[str, msgspec.Meta(max_length=512)]
Code = Annotated[str, msgspec.Meta(max_length=48, pattern=r"^[a-z_]+\Z")]


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """Base: tagged by its class name."""


class AskOffer(_Message, frozen=True):
    """What do you run, at what price?"""


class OfferReply(_Message, frozen=True):
    """The node's current signed offer."""

    offer: Signed


class Propose(_Message, frozen=True):
    """Will you take this seat? Nothing is owed until the chain says so."""

    task: Task
    spec: TaskSpec
    seat: SeatIndex
    attempt: AttemptIndex
    input: Annotated[bytes, msgspec.Meta(max_length=EARLY_INPUT_BYTES)] | None = None
    """The whole input, where it is small and the node took the last seat asked for on this link:
    then it can begin as soon as the chain names it. Else it follows in chunks (`Assigned`)."""


class Accepted(_Message, frozen=True):
    """The node takes the seat if it is assigned before `valid_until` (chain time)."""

    task_id: TaskKey
    seat: SeatIndex
    attempt: AttemptIndex
    node: Node
    valid_until: Seconds
    signature: Signature


class DeclinedSeat(_Message, frozen=True):
    """The node does not take the seat; `code` for programs, `reason` for people."""

    task_id: TaskKey
    seat: SeatIndex
    code: Code
    reason: Reason


class Member(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where the holder of a seat can be reached by the other members."""

    seat: SeatIndex
    peer_id: Text
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=16)]


class Assigned(_Message, frozen=True):
    """The committee on chain (the node checks it there) and how to reach its members."""

    task_id: TaskKey
    block: Seconds
    committee: Annotated[tuple[Seat, ...], msgspec.Meta(max_length=64)]
    members: Annotated[tuple[Member, ...], msgspec.Meta(max_length=15)]


class BlobHeader(_Message, frozen=True):
    """A blob follows in chunks of 64 KiB; its digest is that of `leaves` and `length`."""

    task_id: TaskKey
    kind: Literal["input", "output"]
    seat: SeatIndex
    length: Annotated[int, msgspec.Meta(ge=0, le=64 * 1024 * 1024)]
    leaves: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=MAX_LEAVES)]


class BlobChunk(_Message, frozen=True):
    """Chunk number `index` of a blob."""

    task_id: TaskKey
    kind: Literal["input", "output"]
    seat: SeatIndex
    index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_LEAVES)]
    data: Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]


class Progress(_Message, frozen=True):
    """Still working: thousandths done. At least every third of the lease."""

    task_id: TaskKey
    seat: SeatIndex
    attempt: AttemptIndex
    done: Annotated[int, msgspec.Meta(ge=0, le=1000)]


class Committed(_Message, frozen=True):
    """The seat's commitment, signed so that the client may relay it."""

    task_id: TaskKey
    seat: SeatIndex
    attempt: AttemptIndex
    value: Digest
    signature: Signature


class Opened(_Message, frozen=True):
    """Digest, salt and signed result of a seat; sent once every seat's commitment is on chain."""

    task_id: TaskKey
    seat: SeatIndex
    attempt: AttemptIndex
    digest: Digest
    salt: Salt
    evidence: Digest
    signature: Signature


class ApprovedOutputs(_Message, frozen=True):
    """A member's approval of the seats whose output is within tolerance of its own."""

    task_id: TaskKey
    seat: SeatIndex
    commitments: Digest
    mask: Mask
    signature: Signature


class FailedSeat(_Message, frozen=True):
    """This node cannot finish (its own fault) and gives the seat back on chain."""

    task_id: TaskKey
    seat: SeatIndex
    attempt: AttemptIndex
    code: Code
    reason: Reason


class Resume(_Message, frozen=True):
    """A client that reconnected: send me (again) all you have about this task."""

    task_id: TaskKey


class Ask(_Message, frozen=True):
    """Send me this of yours: an opening, an output or an approval."""

    task_id: TaskKey
    what: Literal["opening", "output", "approval"]
    seat: SeatIndex


class CancelTask(_Message, frozen=True):
    """The client gave up before assigning; forget the proposal."""

    task_id: TaskKey


class Ended(_Message, frozen=True):
    """The task ended on chain in this block; nothing more is needed."""

    task_id: TaskKey
    block: Seconds


class Refused(_Message, frozen=True):
    """An answer to a message that cannot be served; the link stays open."""

    task_id: TaskKey | None
    code: Code
    reason: Reason


class Goodbye(_Message, frozen=True):
    """The link is about to close on purpose (draining, shutdown)."""

    reason: Reason


TaskMessage: TypeAlias = (
    AskOffer
    | OfferReply
    | Propose
    | Accepted
    | DeclinedSeat
    | Assigned
    | BlobHeader
    | BlobChunk
    | Progress
    | Committed
    | Opened
    | ApprovedOutputs
    | FailedSeat
    | Resume
    | Ask
    | CancelTask
    | Ended
    | Refused
    | Goodbye
)


class PublishOffer(_Message, frozen=True):
    """Node → hub: the newest offer, at the start and whenever it changes."""

    offer: Signed


class PublishBeat(_Message, frozen=True):
    """Node → hub: alive."""

    beat: Signed


class PublishBinding(_Message, frozen=True):
    """Anybody → hub: two registrations are one node; both owners signed it, so both may tell it.

    A hub that takes it, or has it already, answers `BindingSeen`, else `Refused`.
    """

    signed: SignedBinding


class BindingSeen(_Message, frozen=True):
    """Hub → peer: the nonce of the binding of this pair that the hub holds now."""

    nonce: Sequence


class BeatSeen(_Message, frozen=True):
    """Hub → node: the newest sequence heard, and how many instances of this node beat.

    `instances` is the hub's word; what it rests on is `TwinHeard`.
    """

    sequence: Sequence
    instances: Annotated[int, msgspec.Meta(ge=0, le=255)]


class TwinHeard(_Message, frozen=True):
    """Hub → node, before a `BeatSeen` of more than one instance: the newest beat of another.

    Signed with the node's own key, so that no hub can make it up.
    """

    beat: Signed


BeatMessage: TypeAlias = (
    PublishOffer
    | PublishBeat
    | PublishBinding
    | BeatSeen
    | TwinHeard
    | BindingSeen
    | Refused
    | Goodbye
)

_TASK: Final = Codec[TaskMessage](TaskMessage, MAX_FRAME_BYTES - 1)
_BEAT: Final = Codec[BeatMessage](BeatMessage, 32 * 1024)


def _unversioned(data: bytes, version: int) -> bytes:
    if not data or data[0] != version:
        found = f"version {data[0]}" if data else "no version"
        raise MalformedMessage(f"a message of {found}; this side speaks version {version}")
    return data[1:]


def encode(message: TaskMessage) -> bytes:
    """Write a task message in its one canonical byte form."""
    return bytes([TASK_VERSION]) + _TASK.encode(message)


def decode(data: bytes) -> TaskMessage:
    """Read a task message; raise `MalformedMessage` for anything but its canonical form."""
    return _TASK.decode(_unversioned(data, TASK_VERSION))


def encode_beat(message: BeatMessage) -> bytes:
    """Write a heartbeat message in its one canonical byte form."""
    return bytes([BEAT_VERSION]) + _BEAT.encode(message)


def decode_beat(data: bytes) -> BeatMessage:
    """Read a heartbeat message; raise `MalformedMessage` for anything else."""
    return _BEAT.decode(_unversioned(data, BEAT_VERSION))


TASK_DIALECTS: Final[Mapping[ChainName, Dialect[TaskMessage]]] = {
    chain: Dialect(protocol, encode, decode, is_bulk=lambda message: isinstance(message, BlobChunk))
    for chain, protocol in ((SEI, TASK_PROTOCOL), (NEAR, f"{TASK_PROTOCOL}/{NEAR}"))
}
"""By chain: a node that serves two is spoken to about each on links of its own."""
TASK_DIALECT: Final = TASK_DIALECTS[SEI]
BEAT_DIALECT: Final[Dialect[BeatMessage]] = Dialect(
    BEAT_PROTOCOL, encode_beat, decode_beat, max_frame_bytes=32 * 1024 + 1
)
