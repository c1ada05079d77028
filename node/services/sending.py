"""Sends messages and blobs to one peer, never waiting for it without end."""

from __future__ import annotations

from typing import Final

import trio

from deai.errors import PeerUnreachable
from deai.hashing import CHUNK_BYTES, chunk_count, leaf
from deai.messages import BlobChunk, BlobHeader, Opened, TaskMessage
from deai.net import Link
from node.store.blobs import BlobStore
from node.store.records import OwnResult, SeatKey

SEND_TIMEOUT: Final = 30.0
"""Seconds a message may wait for room in a link before the peer counts as gone."""


async def send(link: Link[TaskMessage], message: TaskMessage) -> None:
    """Send within `SEND_TIMEOUT`; raise `PeerUnreachable`."""
    with trio.move_on_after(SEND_TIMEOUT) as scope:
        await link.send(message)
    if scope.cancelled_caught:
        raise PeerUnreachable(f"{link.peer_id} takes no messages")


def opened(key: SeatKey, own: OwnResult) -> Opened:
    """Our opening, always with the same bytes."""
    return Opened(
        key.task_id,
        key.seat,
        key.attempt,
        own.digest,
        own.salt,
        own.evidence,
        own.result_signature,
    )


async def send_output(
    link: Link[TaskMessage], blobs: BlobStore, key: SeatKey, small: bytes | None
) -> None:
    """Send our output: `small`, or else chunk by chunk from the disk.

    Raises `PeerUnreachable` or `NodeFault`.
    """
    if small is not None:
        header = BlobHeader(key.task_id, "output", key.seat, len(small), (leaf(small),))
        await send(link, header)
        await send(link, BlobChunk(key.task_id, "output", key.seat, 0, small))
        return
    name = key.blob("output")
    length, leaves = await blobs.leaves(name)
    await send(link, BlobHeader(key.task_id, "output", key.seat, length, leaves))
    for index in range(chunk_count(length)):
        chunk = await blobs.read_chunk(name, index) if length > index * CHUNK_BYTES else b""
        await send(link, BlobChunk(key.task_id, "output", key.seat, index, chunk))
