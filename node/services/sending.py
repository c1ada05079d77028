"""What is sent to a peer in several messages, or always in the same words."""

from __future__ import annotations

from deai.hashing import CHUNK_BYTES, chunk_count, leaf
from deai.messages import BlobChunk, BlobHeader, Opened, TaskMessage
from deai.net import Link
from node.store.blobs import BlobStore
from node.store.records import OwnResult, SeatKey


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
        await link.send(header)
        await link.send(BlobChunk(key.task_id, "output", key.seat, 0, small))
        return
    name = key.blob("output")
    length, leaves = await blobs.leaves(name)
    await link.send(BlobHeader(key.task_id, "output", key.seat, length, leaves))
    for index in range(chunk_count(length)):
        chunk = await blobs.read_chunk(name, index) if length > index * CHUNK_BYTES else b""
        await link.send(BlobChunk(key.task_id, "output", key.seat, index, chunk))
