"""What a client and a node say to each other about a signed order. Pure data.

On the wire: one version byte, then a MessagePack array whose first item names the message.

    client → node   Place              node → client   Taken | Turned
    client → node   BlobHeader, BlobChunk … of the input, once every seat has taken the order
    node → client   Progress …, then SignedResult | Turned
    client → node   ShowQuorum         node → client   Secured | Turned
    client → node   Fetch              node → client   BlobHeader, BlobChunk … of the output

`Place` may be said again, by a client that lost its link or its life: the node answers with all it
has said before. The output leaves a node only once it holds the signatures with which it can settle
the order by itself, whatever its client does afterwards.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from deai.codec import Codec
from deai.errors import MalformedMessage
from deai.ids import SEI, ChainName, OrderId
from deai.messages import BlobChunk, BlobHeader, Code, Goodbye, Progress, Reason
from deai.net import MAX_FRAME_BYTES, Dialect
from deai.orders import Order
from deai.tasks import MAX_SEATS, Digest, Signature, TaskSpec

ORDER_VERSION: Final = 1
ORDER_PROTOCOL: Final = "/deai/order/1"

OrderKey: TypeAlias = Annotated[OrderId, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}\Z")]


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """Base: tagged by its class name."""


class Place(_Message, frozen=True):
    """Will you take your seat of this order? Said again: where do we stand with it?"""

    order: Order
    signature: Signature
    spec: TaskSpec


class Taken(_Message, frozen=True):
    """The seat is taken; the input may come."""

    order_id: OrderKey


class Turned(_Message, frozen=True):
    """No: to a `Place`, to what was asked of the order, or to going on with it."""

    order_id: OrderKey
    code: Code
    reason: Reason


class Abandon(_Message, frozen=True):
    """The client gives the order up before any input was sent: the seat is free again."""

    order_id: OrderKey


class SignedResult(_Message, frozen=True):
    """The seat's signature over the digest of its output, as the chain will judge it."""

    order_id: OrderKey
    output_digest: Digest
    signature: Signature


class ShowQuorum(_Message, frozen=True):
    """Signatures by seat over one digest: with them the node can settle. More may follow."""

    order_id: OrderKey
    output_digest: Digest
    results: Annotated[tuple[Signature | None, ...], msgspec.Meta(max_length=MAX_SEATS)]


class Secured(_Message, frozen=True):
    """So many seats' signatures are kept here for good, and the output may be fetched."""

    order_id: OrderKey
    seats: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEATS)]


class Fetch(_Message, frozen=True):
    """Send me the output."""

    order_id: OrderKey


OrderMessage: TypeAlias = (
    Place
    | Taken
    | Turned
    | Abandon
    | BlobHeader
    | BlobChunk
    | Progress
    | SignedResult
    | ShowQuorum
    | Secured
    | Fetch
    | Goodbye
)

_CODEC: Final = Codec[OrderMessage](OrderMessage, MAX_FRAME_BYTES - 1)
_PREFIX: Final = bytes([ORDER_VERSION])


def encode_order(message: OrderMessage) -> bytes:
    """Write a message in its one canonical byte form."""
    return _PREFIX + _CODEC.encode(message)


def decode_order(data: bytes) -> OrderMessage:
    """Read a message; raise `MalformedMessage` for anything but its canonical form."""
    if data[:1] != _PREFIX:
        raise MalformedMessage("another version of the protocol")
    return _CODEC.decode(data[1:])


def order_dialect(chain: ChainName) -> Dialect[OrderMessage]:
    """The dialect about orders of one chain."""
    suffix = "" if chain == SEI else f"/{chain}"
    return Dialect(
        f"{ORDER_PROTOCOL}{suffix}",
        encode_order,
        decode_order,
        is_bulk=lambda message: isinstance(message, BlobChunk),
    )
