"""Frames between a node and its worker: one pipe in, one pipe out, every length capped.

A frame is a kind byte, a four-byte big-endian length and the payload. `MESSAGE` carries one of
the types below (MessagePack), `DATA` a piece of an input, an output or evidence. Blobs follow
the message that announces their sizes. The parent believes no length that a worker claims.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, TypeAlias

import msgspec

from deai.errors import MalformedMessage

HEADER: Final = struct.Struct(">BI")
MESSAGE: Final = 0
DATA: Final = 1
MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_DATA_BYTES: Final = 1024 * 1024
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


def frame(message: Request | Reply) -> bytes:
    """One `MESSAGE` frame; raise `MalformedMessage` when it would be too long."""
    payload = _ENCODER.encode(message)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"{len(payload)} bytes exceed {MAX_MESSAGE_BYTES}")
    return HEADER.pack(MESSAGE, len(payload)) + payload


def data_frames(blob: bytes) -> list[bytes | memoryview]:
    """Headers and pieces of `blob`, to be written in order; nothing for an empty blob."""
    view = memoryview(blob)
    frames: list[bytes | memoryview] = []
    for start in range(0, len(blob), MAX_DATA_BYTES):
        piece = view[start : start + MAX_DATA_BYTES]
        frames += [HEADER.pack(DATA, len(piece)), piece]
    return frames


def parse_header(data: bytes) -> tuple[int, int]:
    """Kind and length of the frame that follows; raise `MalformedMessage` beyond the caps."""
    kind, length = HEADER.unpack(data)
    cap = {MESSAGE: MAX_MESSAGE_BYTES, DATA: MAX_DATA_BYTES}.get(kind)
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
