"""Inputs and outputs of tasks on disk: written chunk by chunk, checked, within one budget.

A blob exists under its name only once it is complete, checked and synced; before that it is a
`.part` file, and after a crash parts are thrown away and asked for again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from deai.errors import MalformedMessage, NodeFault
from deai.files import sync_directory
from deai.hashing import CHUNK_BYTES, chunk_count, digest_of_leaves, leaf
from node.store.calls import Caller, InThreads
from node.store.errors import StoreFull, raise_os

T = TypeVar("T")

_PART: Final = ".part"


class BlobStore:
    """A directory of blobs by name, at most `max_bytes` together."""

    def __init__(self, directory: Path, *, max_bytes: int, caller: Caller | None = None) -> None:
        self.directory = directory
        self._max_bytes = max_bytes
        self._caller = caller or InThreads(2)
        self._sizes: dict[str, int] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in directory.iterdir():
                if path.suffix == _PART:
                    path.unlink()
                else:
                    self._sizes[path.name] = path.stat().st_size
        except OSError as error:
            raise_os(error)

    @property
    def is_crowded(self) -> bool:
        """Whether three quarters of the budget are taken."""
        return 4 * self.used > 3 * self._max_bytes

    @property
    def used(self) -> int:
        """Bytes held or promised to blobs on their way."""
        return sum(self._sizes.values())

    def __contains__(self, name: str) -> bool:
        return name in self._sizes and not (self.directory / (name + _PART)).exists()

    def names(self) -> tuple[str, ...]:
        """Every blob that is here or on its way."""
        return tuple(self._sizes)

    def reserve(self, name: str, length: int) -> None:
        """Set `length` bytes of the budget aside; raise `StoreFull`."""
        if self.used - self._sizes.get(name, 0) + length > self._max_bytes:
            raise StoreFull(
                f"{length} bytes do not fit the store's {self._max_bytes}",
                hint="raise node.max_store_mib or shorten node.retention_hours",
            )
        self._sizes[name] = length

    async def write(self, name: str, data: bytes) -> None:
        """Store a whole blob durably; raise `StoreFull` or `NodeFault`."""
        self.reserve(name, len(data))
        try:
            await self._call(self._write, name, data)
        except (StoreFull, NodeFault):
            self._sizes.pop(name, None)
            raise

    async def read(self, name: str) -> bytes:
        """A whole blob; raise `NodeFault` if it is gone."""
        return await self._call((self.directory / name).read_bytes)

    async def read_chunk(self, name: str, index: int) -> bytes:
        """Chunk `index` of a blob."""
        return await self._call(self._read_chunk, name, index)

    async def leaves(self, name: str) -> tuple[int, tuple[bytes, ...]]:
        """Length and chunk hashes of a blob, as its header needs them."""
        return await self._call(self._leaves, name)

    async def digest(self, name: str) -> bytes:
        """The digest of what is on disk now."""
        return digest_of_leaves(*await self.leaves(name))

    async def delete(self, *names: str) -> None:
        """Remove blobs, also unfinished ones; those that are gone are fine."""
        here = [name for name in names if name in self._sizes]
        if not here:
            return
        await self._call(self._delete, here)
        for name in here:
            self._sizes.pop(name, None)

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        try:
            return await self._caller(lambda: function(*args))
        except OSError as error:
            raise_os(error)

    def _write(self, name: str, data: bytes) -> None:
        part = self.directory / (name + _PART)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._publish(name)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _publish(self, name: str) -> None:
        (self.directory / (name + _PART)).replace(self.directory / name)
        sync_directory(self.directory)

    def _read_chunk(self, name: str, index: int) -> bytes:
        with (self.directory / name).open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            return file.read(CHUNK_BYTES)

    def _leaves(self, name: str) -> tuple[int, tuple[bytes, ...]]:
        length, leaves = 0, []
        with (self.directory / name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                length += len(chunk)
                leaves.append(leaf(chunk))
        return length, tuple(leaves) or (leaf(b""),)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            (self.directory / name).unlink(missing_ok=True)
            (self.directory / (name + _PART)).unlink(missing_ok=True)

    def receive(self, name: str, length: int, leaves: Sequence[bytes]) -> BlobReceiver:
        """Start taking in a blob; raise `StoreFull`, or `MalformedMessage` for a false header."""
        part = self.directory / (name + _PART)
        receiver = BlobReceiver(self, part, name, length, tuple(leaves))
        self.reserve(name, length)
        return receiver

    async def put_chunk(self, part: Path, offset: int, data: bytes) -> None:
        """Write one chunk of an unfinished blob."""
        await self._call(_write_at, part, offset, data)

    async def finish(self, part: Path, name: str, length: int) -> None:
        """Sync an unfinished blob and give it its name."""

        def work() -> None:
            with part.open("ab") as file:
                file.truncate(length)
                os.fsync(file.fileno())
            self._publish(name)

        await self._call(work)


def _write_at(part: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


class BlobReceiver:
    """A blob on its way: each chunk is checked against the header's hashes on arrival."""

    def __init__(
        self, store: BlobStore, part: Path, name: str, length: int, leaves: tuple[bytes, ...]
    ) -> None:
        if len(leaves) != chunk_count(length):
            raise MalformedMessage(f"{len(leaves)} chunks do not make {length} bytes")
        self._store = store
        self._part = part
        self._name = name
        self._length = length
        self._leaves = leaves
        self._missing = set(range(len(leaves)))
        self._writing = 0

    async def put(self, index: int, data: bytes) -> bool:
        """Take a chunk; True once the blob is complete and durable under its name.

        Raises `MalformedMessage` for a chunk that is not the announced one, `StoreFull` or
        `NodeFault` when the disk does not take it: then it is missing as before.
        """
        if index >= len(self._leaves):
            raise MalformedMessage(f"the blob has no chunk {index}")
        if index not in self._missing:
            return False
        if leaf(data) != self._leaves[index]:
            raise MalformedMessage(f"chunk {index} is not the announced one")
        self._missing.discard(index)
        self._writing += 1
        lost = {index}
        try:
            await self._store.put_chunk(self._part, index * CHUNK_BYTES, data)
            # Chunks may come over several links: whoever is the last to have written finishes.
            is_last = not self._missing and self._writing == 1
            # After a flush that failed, nobody knows which chunks the disk has.
            lost = set(range(len(self._leaves))) if is_last else set()
            if is_last:
                await self._store.finish(self._part, self._name, self._length)
                lost = set()
        finally:
            self._writing -= 1
            self._missing |= lost
        return is_last


class SmallReceiver:
    """A blob of a single chunk on its way to the journal: checked, and never a file."""

    def __init__(self, length: int, leaves: tuple[bytes, ...]) -> None:
        if len(leaves) != 1 or length > CHUNK_BYTES:
            raise MalformedMessage(f"{len(leaves)} chunks do not make {length} bytes")
        self._leaf = leaves[0]

    def check(self, index: int, data: bytes) -> bytes:
        """The whole blob; raise `MalformedMessage` for a chunk that is not the announced one."""
        if index != 0:
            raise MalformedMessage(f"the blob has no chunk {index}")
        if leaf(data) != self._leaf:
            raise MalformedMessage(f"chunk {index} is not the announced one")
        return data
