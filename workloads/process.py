"""One worker process seen from the daemon: its pipes, its handle, its end."""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
        self._sink = to_worker
        self._source = from_worker
        os.set_blocking(to_worker, False)
        os.set_blocking(from_worker, False)
        self._buffer = bytearray()
        self._most: int | None = None
        """Bytes that it may hold now, beyond those that it was born with."""
        self._look_at = 0.0
        """When its memory is looked at next."""
        self.born_with = self.resident_bytes()

    async def send(self, message: wire.Request, blobs: Sequence[bytes] = ()) -> None:
        """Write a request and its data."""
        pieces: list[bytes | memoryview] = [wire.frame(message)]
        for blob in blobs:
            pieces += wire.data_frames(blob)
        # Short pieces travel in one write: a small task is then one system call.
        if sum(map(len, pieces)) <= wire.MAX_MESSAGE_BYTES:
            pieces = [b"".join(pieces)]
        await trio.lowlevel.checkpoint_if_cancelled()
        for piece in pieces:
            await self._write(piece)

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
            return os.write(self._sink, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise NodeFault("the worker closed its pipe", code="worker_died") from error

    async def until_writable(self) -> None:
        """Wait until the pipe takes more."""
        await self._until(trio.lowlevel.wait_writable, self._sink)

    async def receive_frames(self) -> list[tuple[int, bytes]]:
        """Every frame that is complete after the next read: kinds and payloads, maybe none."""
        self._buffer += await self._read()
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
            self._buffer += await self._read()
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    async def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            written = self.write_now(rest)
            rest = rest[written:]
            if not written:
                await self.until_writable()

    async def _read(self) -> bytes:
        while True:
            await self._until(trio.lowlevel.wait_readable, self._source)
            try:
                piece = os.read(self._source, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise NodeFault("the worker closed its pipe", code="worker_died") from error
            if not piece:
                raise NodeFault("the worker ended", code="worker_died")
            return piece

    @contextmanager
    def limited(self, most: int) -> Iterator[None]:
        """Inside, it may hold `most` bytes more than when it was born.

        Waiting for one that holds more raises `NodeFault` of code `memory_limit`.
        """
        self._most, self._look_at = most, trio.current_time() + MEMORY_POLL
        try:
            yield
        finally:
            self._most = None

    async def _until(self, is_ready: Callable[[int], Awaitable[None]], descriptor: int) -> None:
        is_waiting = True
        while is_waiting:
            look_at = self._look_at if self._most is not None else math.inf
            with trio.move_on_at(look_at):
                try:
                    await is_ready(descriptor)
                    is_waiting = False
                except (OSError, ValueError, trio.ClosedResourceError) as error:
                    raise NodeFault("the worker closed its pipe", code="worker_died") from error
            if trio.current_time() >= look_at:
                self._look()

    def _look(self) -> None:
        # Nothing announces memory: it has to be looked at.
        self._look_at = trio.current_time() + MEMORY_POLL
        held = self.resident_bytes() - self.born_with
        if self._most is not None and held > self._most:
            raise NodeFault(f"the worker holds {held} bytes", code="memory_limit")

    def resident_bytes(self) -> int:
        """Resident, less files it maps; the template's copied-on-write pages count. 0 if gone."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return (int(fields[1]) - int(fields[2])) * _PAGE

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
        for descriptor in (self._sink, self._source):
            trio.lowlevel.notify_closing(descriptor)
            os.close(descriptor)
        self._sink = self._source = -1
        os.close(self._handle)
        await trio.lowlevel.cancel_shielded_checkpoint()


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
