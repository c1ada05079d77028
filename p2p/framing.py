"""The frames of a link, byte by byte. Normative: another implementation can be built from this.

A link is one libp2p stream (multistream-select, the dialect's protocol id) over TCP, Noise and
Yamux. After the negotiation both sides send frames, in any order, until one side ends its half
of the stream (FIN); the other side then ends its own. There is no greeting.

    frame   := kind (1 byte) · length (3 bytes, big-endian) · body (length bytes)

    kind  name     body
    0     MESSAGE  one encoded message of the dialect
    1     BULK     the same, for messages that the dialect calls bulk
    2     CREDIT   two unsigned 32-bit big-endian integers: cost handed back for MESSAGE, for BULK
    3     PING     8 bytes, anything
    4     PONG     the 8 bytes of the PING it answers

**Flow control.** A MESSAGE or BULK frame costs `256 + length`. A side may send one while the sum
of the costs it has sent and not been handed back is below the window of that kind: 524,288 for
MESSAGE, 262,144 for BULK (so four chunks of 64 KiB). The receiver hands cost back once the
message was consumed: for BULK after each one, for MESSAGE at the latest when half a window is
consumed. Control frames cost nothing. Both directions are independent.

**Life.** Each side sends a PING every 10 s (default) and answers every PING with one PONG. A side
that has completed no frame for 30 s (default) is taken for dead. At most 20 PINGs at once and
two per second on average.

**Order.** Frames are delivered in the order they were sent, whatever their kind.

Broken rules (unknown kind, a body beyond the dialect's limit, a window overrun, credit that was
not owed, a FIN within a frame, too many PINGs, a PONG that nobody asked for, a message that does
not decode) end the link and the connection under it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from deai.errors import MalformedMessage

HEADER: Final = struct.Struct(">I")
CREDIT: Final = struct.Struct(">II")
PING_BYTES: Final = 8
FRAME_COST: Final = 256
"""What a frame costs beside its body, so that empty messages are not free."""
MESSAGE_WINDOW: Final = 512 * 1024
BULK_WINDOW: Final = 256 * 1024
_LENGTH_MASK: Final = 0xFFFFFF


class Kind(IntEnum):
    """What a frame is."""

    MESSAGE = 0
    BULK = 1
    CREDIT = 2
    PING = 3
    PONG = 4


_CONTROL_BYTES: Final = {Kind.CREDIT: CREDIT.size, Kind.PING: PING_BYTES, Kind.PONG: PING_BYTES}


def encode_frame(kind: Kind, body: bytes) -> bytes:
    """One frame on the wire. The caller has checked the body's length."""
    return HEADER.pack(kind << 24 | len(body)) + body


class FrameDecoder:
    """Cuts frames out of whatever chunks arrive; holds at most one incomplete frame."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()

    @property
    def is_between_frames(self) -> bool:
        """Whether an end of the stream here would cut no frame."""
        return not self._buffer

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Return the frames that `data` completes; raise `MalformedMessage` at a bad header."""
        buffer, frames, start = self._buffer, [], 0
        buffer += data
        while len(buffer) - start >= HEADER.size:
            (word,) = HEADER.unpack_from(buffer, start)
            kind, length = self._check(word >> 24, word & _LENGTH_MASK)
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            frames.append((kind, bytes(buffer[start + HEADER.size : end])))
            start = end
        del buffer[:start]
        return frames

    def _check(self, kind_number: int, length: int) -> tuple[Kind, int]:
        try:
            kind = Kind(kind_number)
        except ValueError:
            raise MalformedMessage(f"a frame of unknown kind {kind_number}") from None
        expected = _CONTROL_BYTES.get(kind)
        if length > self._max_body if expected is None else length != expected:
            raise MalformedMessage(f"a {kind.name} frame of {length} bytes")
        return kind, length
