"""Frames between a node and its worker: one pipe in, one pipe out, every length capped.

A frame is a kind byte, a four-byte big-endian length and the payload. `MESSAGE` carries one of
the types below (MessagePack), `DATA` a piece of an input, an output or evidence. Blobs follow
the message that announces their sizes. The parent believes no length that a worker claims.

Small tasks travel in columns: a `BATCH` frame carries a `RunBatch` one way, a `BatchDone` the
other. The worker answers batches in their order, each with as many `BatchDone` as its outputs
need, or with a `Fault` or `Failed` that stands for every task of it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import msgspec

from deai.errors import MalformedMessage
from deai.lane.messages import MAX_TASKS
from deai.lane.receipts import MAX_PARAMETER_BYTES, MAX_TASK_BYTES

HEADER: Final = struct.Struct(">BI")
MESSAGE: Final = 0
DATA: Final = 1
BATCH: Final = 2
MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_DATA_BYTES: Final = 1024 * 1024
MAX_BATCH_TASKS: Final = MAX_TASKS
MAX_BATCH_BYTES: Final = 1024 * 1024
"""Of the inputs of one batch together."""
MAX_BATCH_FRAME_BYTES: Final = 2 * MAX_BATCH_BYTES
"""Room for parameters, lengths, and a reason for every task."""
PART_BYTES: Final = 256 * 1024
"""A worker sends what it has once its outputs are so many bytes."""
MAX_REASON: Final = 200
"""Characters of why a task of a batch failed."""
MAX_COMPARED: Final = 15
"""As many outputs as a committee has seats."""

Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=2000)]


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """Compute one task; `input_bytes` of data follow."""

    workload: str
    version: int
    model: str
    parameters: bytes
    seed: bytes
    input_bytes: Size
    max_units: Size | None = None


class Compare(msgspec.Struct, frozen=True, array_like=True, tag="compare"):
    """Which outputs agree under `policy`? The outputs follow, one after the other."""

    workload: str
    version: int
    policy: str
    model: str
    parameters: bytes
    sizes: Annotated[list[Size], msgspec.Meta(max_length=MAX_COMPARED)]


class RunBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Compute many small tasks of the same terms; see `deai.ports.Batch`."""

    number: Size
    workload: str
    version: int
    model: str
    parameters: Annotated[bytes, msgspec.Meta(max_length=MAX_PARAMETER_BYTES)]
    seed: bytes
    max_units: Size
    inputs: Annotated[Sequence[bytes], msgspec.Meta(max_length=MAX_BATCH_TASKS)]


class Missing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The output at `position` of this message stands for nothing; `fault` as in `Failure`."""

    position: Annotated[int, msgspec.Meta(ge=0, lt=MAX_BATCH_TASKS)]
    fault: Annotated[int, msgspec.Meta(ge=0, lt=256)]
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class BatchDone(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The next outputs of the batch of this number, empty where one is missing."""

    number: Size
    outputs: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=MAX_TASK_BYTES)]],
        msgspec.Meta(min_length=1, max_length=MAX_BATCH_TASKS),
    ]
    missing: Annotated[list[Missing], msgspec.Meta(max_length=MAX_BATCH_TASKS)]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag="probe"):
    """Try to break out, and say what happened."""


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """How much of the task is done, 0 to 1; for people."""

    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """The task is computed; output and evidence follow. `measured` is outside the digest."""

    output_bytes: Size
    evidence_bytes: Size
    units: Size
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    measured: Annotated[dict[str, float], msgspec.Meta(max_length=16)]


class Compared(msgspec.Struct, frozen=True, array_like=True, tag="compared"):
    """Row i, column j: whether outputs i and j agree."""

    agree: Annotated[list[list[bool]], msgspec.Meta(max_length=MAX_COMPARED)]


class Probed(msgspec.Struct, frozen=True, array_like=True, tag="probed"):
    """By attempt: whether it was denied."""

    denied: Annotated[dict[str, bool], msgspec.Meta(max_length=64)]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The worker is locked and waits for work; which parts of the lock hold, and why not."""

    rlimits: bool
    landlock: int
    seccomp: bool
    problems: list[Text]


class Fault(msgspec.Struct, frozen=True, array_like=True, tag="fault"):
    """The task itself is bad: a code of `deai.tasks.FaultCode`."""

    code: int
    message: Text


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """This worker could not do it."""

    reason: Annotated[str, msgspec.Meta(max_length=64)]
    message: Text


Request: TypeAlias = Run | Compare | Probe
Reply: TypeAlias = Progress | Done | Compared | Probed | Ready | Fault | Failed

_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUEST: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_REPLY: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)
_RUN_BATCH: Final = msgspec.msgpack.Decoder(RunBatch)
_BATCH_DONE: Final = msgspec.msgpack.Decoder(BatchDone)
_CAPS: Final = {MESSAGE: MAX_MESSAGE_BYTES, DATA: MAX_DATA_BYTES, BATCH: MAX_BATCH_FRAME_BYTES}


def frame(message: Request | Reply) -> bytes:
    """One `MESSAGE` frame; raise `MalformedMessage` when it would be too long."""
    payload = _ENCODER.encode(message)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"{len(payload)} bytes exceed {MAX_MESSAGE_BYTES}")
    return HEADER.pack(MESSAGE, len(payload)) + payload


def batch_frame(columns: RunBatch | BatchDone) -> bytearray:
    """One `BATCH` frame; raise `MalformedMessage` when it would be too long."""
    payload = bytearray(HEADER.size)
    _ENCODER.encode_into(columns, payload, HEADER.size)
    length = len(payload) - HEADER.size
    if length > MAX_BATCH_FRAME_BYTES:
        raise MalformedMessage(f"{length} bytes exceed {MAX_BATCH_FRAME_BYTES}")
    HEADER.pack_into(payload, 0, BATCH, length)
    return payload


def data_frames(blob: bytes) -> list[bytes | memoryview]:
    """Headers and pieces of `blob`, to be written in order; nothing for an empty blob."""
    view = memoryview(blob)
    frames: list[bytes | memoryview] = []
    for start in range(0, len(blob), MAX_DATA_BYTES):
        piece = view[start : start + MAX_DATA_BYTES]
        frames += [HEADER.pack(DATA, len(piece)), piece]
    return frames


def parse_header(data: bytes | bytearray) -> tuple[int, int]:
    """Kind and length of the frame that follows; raise `MalformedMessage` beyond the caps."""
    kind, length = HEADER.unpack(data)
    cap = _CAPS.get(kind)
    if cap is None or length > cap or (kind == DATA and length == 0):
        raise MalformedMessage(f"no frame: kind {kind}, length {length}")
    return kind, length


def decode_request(payload: bytes) -> Request:
    """What the parent wants; raise `MalformedMessage` for anything else."""
    try:
        return _REQUEST.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def decode_reply(payload: bytes) -> Reply:
    """What the worker says; raise `MalformedMessage` for anything else."""
    try:
        return _REPLY.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def decode_run_batch(payload: bytes) -> RunBatch:
    """A batch that the parent wants computed; raise `MalformedMessage` for anything else."""
    try:
        return _RUN_BATCH.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def decode_batch_done(payload: bytes) -> BatchDone:
    """Outputs of a batch as the worker says; raise `MalformedMessage` for anything else."""
    try:
        return _BATCH_DONE.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
