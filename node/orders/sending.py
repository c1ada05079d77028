"""An order's output on the wire."""

from __future__ import annotations

from deai.errors import NodeFault
from deai.hashing import CHUNK_BYTES, chunk_count, leaf
from deai.ids import TaskId
from deai.messages import BlobChunk, BlobHeader
from deai.net import Link
from deai.order_messages import OrderMessage, Turned
from node.orders.records import Held
from node.store.blobs import BlobStore


async def send_output(
    link: Link[OrderMessage], blobs: BlobStore, held: Held, small: bytes | None
) -> None:
    """Send it: `small`, or else chunk by chunk from the disk. Raises `PeerUnreachable`."""
    task, seat = TaskId(held.id), held.seat
    if small is not None:
        await link.send(BlobHeader(task, "output", seat, len(small), (leaf(small),)))
        await link.send(BlobChunk(task, "output", seat, 0, small))
        return
    name = held.blob("output")
    try:
        length, leaves = await blobs.leaves(name)
        await link.send(BlobHeader(task, "output", seat, length, leaves))
        for index in range(chunk_count(length)):
            chunk = await blobs.read_chunk(name, index) if length > index * CHUNK_BYTES else b""
            await link.send(BlobChunk(task, "output", seat, index, chunk))
    except NodeFault as error:
        await link.send(Turned(held.id, "output_gone", str(error)[:512]))
