"""Inputs and outputs on the wire: cut into chunks, checked chunk by chunk on arrival."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from deai.errors import MalformedMessage
from deai.hashing import CHUNK_BYTES, chunks, digest_of_leaves, leaf
from deai.ids import TaskId
from deai.messages import BlobChunk, BlobHeader


class OutgoingBlob:
    """A blob to send, perhaps several times: hashed once, cut without copying it whole."""

    def __init__(self, blob: bytes) -> None:
        """Raise `LimitExceeded` above the limit."""
        self._parts = chunks(blob)
        self._length = len(blob)
        self._leaves = tuple(leaf(part) for part in self._parts)

    def messages(
        self, task: TaskId, kind: Literal["input", "output"], seat: int
    ) -> Iterator[BlobHeader | BlobChunk]:
        """A header, then every chunk in order."""
        yield BlobHeader(task, kind, seat, self._length, self._leaves)
        for index, part in enumerate(self._parts):
            yield BlobChunk(task, kind, seat, index, part)


class BlobReceiver:
    """One blob on its way in: bound to a digest, chunks in any order, each at most once.

    Holds at most the length that its header names, which the digest binds.
    """

    def __init__(self, header: BlobHeader, digest: bytes) -> None:
        """Raise `MalformedMessage` unless the header is that of the blob `digest`."""
        if digest_of_leaves(header.length, header.leaves) != digest:
            raise MalformedMessage("the header is not that of the blob that was committed to")
        self._leaves = header.leaves
        self._length = header.length
        self._parts: dict[int, bytes] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every chunk arrived."""
        return len(self._parts) == len(self._leaves)

    @property
    def received(self) -> int:
        """Bytes that arrived and were right."""
        return sum(len(part) for part in self._parts.values())

    def add(self, chunk: BlobChunk) -> bool:
        """Take a chunk; True once the blob is complete.

        Raises `MalformedMessage` for a chunk that is not the one the header announced.
        """
        if chunk.index >= len(self._leaves) or leaf(chunk.data) != self._leaves[chunk.index]:
            raise MalformedMessage(f"chunk {chunk.index} is not the one that was announced")
        is_last = chunk.index == len(self._leaves) - 1
        expected = self._length - chunk.index * CHUNK_BYTES if is_last else CHUNK_BYTES
        if len(chunk.data) != expected:
            raise MalformedMessage(f"chunk {chunk.index} has {len(chunk.data)} bytes")
        self._parts[chunk.index] = chunk.data
        return self.is_complete

    def blob(self) -> bytes:
        """The whole; only once it is complete."""
        return b"".join(self._parts[index] for index in range(len(self._leaves)))
