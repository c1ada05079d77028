"""What a client and a node say to each other in the fast lane. Pure data.

On the wire: one version byte, then a MessagePack array whose first item names the message. Tasks
travel in columns, many in a message; an index of a receipt is the order on the link.

    client → node   Hello           node → client   Welcome
    client → node   Ask             node → client   Agreed | Refused
    client → node   Work …          node → client   Results …, Faults …
    client → node   Pay …           node → client   Receipts …
    client → node   LookAgain       node → client   Credit (also on its own), Halt

The client asks for work as it likes up to the node's bounds; the node computes what credit and
deposit cover, in order, and holds the rest. A `Halt` says why it holds all of it.
After a lost link both say where they stand (`Hello`, `Welcome`): the node sends the unpaid
results and the receipts that the client has not seen, the client the vouchers that the node has
not.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from deai.channels import Channel, Epoch, Voucher
from deai.codec import Codec
from deai.errors import MalformedMessage
from deai.ids import SEI, ChainName
from deai.lane.receipts import MAX_TASK_BYTES, MAX_WINDOW, Number, Terms
from deai.messages import Code, Reason
from deai.money import Amount
from deai.net import MAX_FRAME_BYTES, Dialect
from deai.tasks import Digest, Signature

LANE_VERSION: Final = 1
LANE_PROTOCOL: Final = "/deai/lane/1"
MAX_TASKS: Final = 512
"""In one message."""
MAX_MESSAGE_BYTES: Final = 192 * 1024
"""Of inputs or outputs in one message that holds more than one."""

MAX_UNHEARD: Final = 4096
"""Vouchers whose receipts a client may not have heard: more than it ever lets be under way."""

TaskNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
TermsNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Blob: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=MAX_TASK_BYTES)]
Batch = msgspec.Meta(min_length=1, max_length=MAX_TASKS)
Numbers: TypeAlias = Annotated[list[TaskNumber], Batch]
Blobs: TypeAlias = Annotated[list[Blob], Batch]


class _Message(
    msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True, gc=False
):
    """Base: tagged by its class name."""


class Hello(_Message, frozen=True):
    """The channel that pays, and where the client stands in it.

    `life` is random per process of the client: in the same life it still knows every task that it
    asked for. `received` counts the results it has seen in this epoch, `number` its vouchers, of
    which it heard that the first `acknowledged` are durable at the node.
    `signature` is the session key's over the peer that sends this (`deai.lane.greeting`).
    """

    channel: Channel
    epoch: Epoch
    life: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    received: Number
    number: Number
    acknowledged: Number
    signature: Signature


class Welcome(_Message, frozen=True):
    """Where the node stands: its newest voucher (None before the first) and what it grants.

    `paid` counts the receipts that vouchers cover. Results below `next_index` exist: those that
    the client has not seen follow at once, under the numbers of the agreements they were made
    under; whatever else it asked for is forgotten, and asked for again, as agreements are.
    `tasks` and `bytes` bound what may be asked for and not answered.
    """

    voucher: Voucher | None
    number: Number
    paid: Number
    next_index: Number
    credit: Amount
    deposit: Amount
    tasks: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
    bytes: Annotated[int, msgspec.Meta(ge=MAX_TASK_BYTES, le=1 << 28)]
    spent: Amount = Amount(0)
    """What the results that the client has received cost, with those of another life of it that
    it had paid ahead and never saw."""


class Ask(_Message, frozen=True):
    """May tasks of these terms be asked for as `terms` from now on?"""

    number: TermsNumber
    terms: Terms


class Agreed(_Message, frozen=True):
    """They may."""

    number: TermsNumber


class Refused(_Message, frozen=True):
    """They may not; `code` for programs, `reason` for people."""

    number: TermsNumber
    code: Code
    reason: Reason


class Work(_Message, frozen=True):
    """Tasks of agreed terms; `ids` are the client's own and come back with the results."""

    terms: TermsNumber
    ids: Numbers
    inputs: Blobs


class Results(_Message, frozen=True):
    """Outputs of tasks of one agreement; the receipt of the i-th has the index `first` + i."""

    terms: TermsNumber
    first: Number
    ids: Numbers
    outputs: Blobs


class Faults(_Message, frozen=True):
    """Tasks that cannot be computed by anybody (`fault` > 0) or were not by this node (0).

    They cost nothing and have no receipt.
    """

    ids: Numbers
    faults: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=256)]], Batch]
    reasons: Annotated[list[Reason], Batch]


class Pay(_Message, frozen=True):
    """The next voucher, for the first `tasks` results that are not paid yet.

    None of them: the client pays a task ahead, which it may where no credit covers it.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
    tasks: Annotated[int, msgspec.Meta(ge=0, le=MAX_WINDOW)]
    cumulative_amount: Amount
    root: Digest
    """Of the window's leaves; zeros for none."""
    signature: Signature


class Receipts(_Message, frozen=True):
    """Vouchers up to `number` are durable at the node; its signatures over their windows.

    An empty signature stands for a window whose leaves the node has lost in a crash: it takes the
    money and does not sign what it cannot check.
    """

    number: Number
    signatures: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=1024)
    ]


class Credit(_Message, frozen=True):
    """What the client may owe from now on, and the deposit that the node counts on."""

    credit: Amount
    deposit: Amount


class Halt(_Message, frozen=True):
    """Why nothing that waits is computed: `unpaid`, `deposit`, `closing`, `draining`, …"""

    code: Code
    reason: Reason


class LookAgain(_Message, frozen=True):
    """The channel has changed on chain: topped up."""


LaneMessage: TypeAlias = (
    Hello | Welcome | Ask | Agreed | Refused | Work | Results | Faults | Pay | Receipts | Credit
    | Halt | LookAgain
)  # fmt: skip

_CODEC: Final = Codec[LaneMessage](LaneMessage, MAX_FRAME_BYTES - 1)
_VERSION: Final = bytes([LANE_VERSION])


def encode_lane(message: LaneMessage) -> bytes:
    """The message as a frame's body."""
    return _VERSION + _CODEC.encode(message)


def decode_lane(data: bytes) -> LaneMessage:
    """Read one message; raise `MalformedMessage`."""
    if data[:1] != _VERSION:
        raise MalformedMessage("this side speaks version 1 of the lane")
    # What is hashed or signed of it is encoded by whoever checks that.
    message = _CODEC.decode_any_form(memoryview(data)[1:])
    match message:
        case Work(ids=ids, inputs=column) | Results(ids=ids, outputs=column):
            if len(ids) != len(column):
                raise MalformedMessage(f"{len(ids)} tasks, {len(column)} blobs")
        case Faults(ids=ids, faults=faults, reasons=reasons):
            if not len(ids) == len(faults) == len(reasons):
                raise MalformedMessage("columns of different lengths")
        case _:
            pass
    return message


def lane_dialect(chain: ChainName) -> Dialect[LaneMessage]:
    """The lane about channels of one chain."""
    suffix = "" if chain == SEI else f"/{chain}"
    return Dialect(f"{LANE_PROTOCOL}{suffix}", encode_lane, decode_lane)
