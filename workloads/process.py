"""One worker process seen from the daemon: its pipes, its handle, its end."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from deai.errors import MalformedMessage, NodeFault
from workloads import wire

READ_BYTES: Final = 256 * 1024
MEMORY_POLL: Final = 0.2
"""Seconds between two looks at a busy worker's memory."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class WorkerProcess:
    """Frames to and from one forked worker. Any broken rule is a `NodeFault`."""

    def __init__(self, pid: int, handle: int, to_worker: int, from_worker: int) -> None:
        self.pid = pid
        self._handle = handle
        self._sink = trio.lowlevel.FdStream(to_worker)
        self._source = trio.lowlevel.FdStream(from_worker)
        self._buffer = bytearray()
        self.born_with = self.resident_bytes()

    async def send(self, message: wire.Request, blobs: Sequence[bytes] = ()) -> None:
        """Write a request and its data."""
        pieces: list[bytes | memoryview] = [wire.frame(message)]
        for blob in blobs:
            pieces += wire.data_frames(blob)
        try:
            # Short pieces travel in one write: a small task is then one system call.
            if sum(map(len, pieces)) <= wire.MAX_MESSAGE_BYTES:
                await self._sink.send_all(b"".join(pieces))
                return
            for piece in pieces:
                await self._sink.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NodeFault("the worker closed its pipe", code="worker_died") from error

    async def receive(self) -> wire.Reply:
        """The next message."""
        kind, length = await self._header()
        payload = await self._take(length)
        if kind != wire.MESSAGE:
            raise NodeFault("the worker sent data out of turn", code="worker_babbled")
        try:
            return wire.decode_reply(payload)
        except MalformedMessage as error:
            raise NodeFault(f"the worker babbled: {error}", code="worker_babbled") from error

    async def receive_blob(self, size: int, limit: int) -> bytes:
        """`size` bytes, of which the caller allows `limit`."""
        if size > limit:
            raise NodeFault(f"an output of {size} bytes; at most {limit}", code="output_limit")
        blob = bytearray()
        while len(blob) < size:
            kind, length = await self._header()
            if kind != wire.DATA or len(blob) + length > size:
                raise NodeFault("the worker's data do not fit", code="worker_babbled")
            blob += await self._take(length)
        return bytes(blob)

    def write_now(self, data: memoryview) -> int:
        """Write what the pipe takes at once; return how much. Raises `NodeFault`."""
        try:
            return os.write(self._sink.fileno(), data)
        except BlockingIOError:
            return 0
        except (OSError, trio.ClosedResourceError) as error:
            raise NodeFault("the worker closed its pipe", code="worker_died") from error

    async def until_writable(self) -> None:
        """Wait until the pipe takes more."""
        try:
            await trio.lowlevel.wait_writable(self._sink.fileno())
        except trio.ClosedResourceError as error:
            raise NodeFault("the worker closed its pipe", code="worker_died") from error

    async def receive_frames(self) -> list[tuple[int, bytes]]:
        """Every frame that is complete after the next read: kinds and payloads, maybe none."""
        try:
            await trio.lowlevel.wait_readable(self._source.fileno())
            piece = os.read(self._source.fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        except (OSError, trio.ClosedResourceError) as error:
            raise NodeFault("the worker closed its pipe", code="worker_died") from error
        if not piece:
            raise NodeFault("the worker ended", code="worker_died")
        self._buffer += piece
        frames: list[tuple[int, bytes]] = []
        start, size = 0, wire.HEADER.size
        while len(self._buffer) - start >= size:
            kind, length = _parse(self._buffer[start : start + size])
            if len(self._buffer) - start - size < length:
                break
            start += size
            frames.append((kind, bytes(self._buffer[start : start + length])))
            start += length
        del self._buffer[:start]
        return frames

    async def _header(self) -> tuple[int, int]:
        return _parse(await self._take(wire.HEADER.size))

    async def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            try:
                piece = await self._source.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise NodeFault("the worker closed its pipe", code="worker_died") from error
            if not piece:
                raise NodeFault("the worker ended", code="worker_died")
            self._buffer += piece
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def resident_bytes(self) -> int:
        """Resident, less files it maps; the template's copied-on-write pages count. 0 if gone."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return (int(fields[1]) - int(fields[2])) * _PAGE

    async def until_memory_exceeds(self, most: int) -> int:
        """Wait until it holds `most` bytes more than when it was born; return how many."""
        # Nothing announces memory: it has to be looked at.
        while (held := self.resident_bytes() - self.born_with) <= most:
            await trio.sleep(MEMORY_POLL)
        return held

    def has_ended(self) -> bool:
        """Whether the process is over already."""
        # Not `select.select`, which takes no descriptor beyond 1023.
        watch = select.poll()
        watch.register(self._handle, select.POLLIN)
        return bool(watch.poll(0))

    def kill(self, *, whole_group: bool) -> None:
        """End it, and its process group while its id is surely its own (not yet reaped)."""
        if whole_group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        # Before it has made its own group only the handle reaches it.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def wait_ended(self) -> None:
        """Until the process is over; its exit status stays with the template."""
        await trio.lowlevel.wait_readable(self._handle)

    async def close(self) -> None:
        """Close the pipes and the handle."""
        with trio.CancelScope(shield=True):
            await self._sink.aclose()
            await self._source.aclose()
        os.close(self._handle)


def _parse(header: bytes | bytearray) -> tuple[int, int]:
    try:
        return wire.parse_header(header)
    except MalformedMessage as error:
        raise NodeFault(f"the worker babbled: {error}", code="worker_babbled") from error


def make_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pipes: (worker reads, we write), (we read, worker writes)."""
    inward = os.pipe2(os.O_CLOEXEC)
    try:
        outward = os.pipe2(os.O_CLOEXEC)
    except OSError:
        for descriptor in inward:
            os.close(descriptor)
        raise
    return inward, outward
