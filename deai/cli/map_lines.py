"""The input of `deai task map`: lines of a file, or of a pipe that may be silent or endless."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import sys
from functools import partial
from pathlib import Path
from typing import IO, Final

from deai.errors import LimitExceeded, UsageError

FORMATS: Final = ("text", "json", "base64")
MAX_LINE: Final = 512 * 1024
"""Bytes of a line of the input or the output; an input has at most 64 KiB."""
_CHUNK: Final = 64 * 1024


class Lines:
    """Lines of a file, each read when it is asked for: a line and a chunk at most are held.

    To iterate blocks for a pipe that is silent; to iterate asynchronously waits beside the links.
    """

    def __init__(self, source: str) -> None:
        """Open a file, or standard input for `-`; raise `UsageError`."""
        self.total: int | None = None
        """How many there are; None of a pipe."""
        self._name = source
        self._held = bytearray()
        self._seen = 0
        """So many bytes of what is held have no end of a line."""
        self._is_out = False
        try:
            if source == "-":
                self._file: IO[bytes] = sys.stdin.buffer
            else:
                self._file = Path(source).open("rb")  # noqa: SIM115 - `close` ends it
            self._fd = self._file.fileno()
            kind = os.fstat(self._fd).st_mode
            # The loop cannot wait for what never makes anybody wait: files, /dev/null.
            self._is_pipe = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(self._fd)
            if source != "-" and stat.S_ISREG(kind):
                chunks = iter(partial(self._file.read, 1 << 20), b"")
                self.total = sum(chunk.count(b"\n") for chunk in chunks)
                os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Let the file go."""
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes:
        while (line := self._next()) is None:
            self._read()
        return line

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                line = self._next()
            except StopIteration:
                raise StopAsyncIteration from None
            if line is not None:
                return line
            if self._is_pipe:
                await _until_readable(self._fd)
            self._read()

    def _next(self) -> bytes | None:
        """A line, or None where more has to be read first."""
        held = self._held
        end = held.find(b"\n", self._seen)
        if end < 0:
            self._seen = len(held)
            if self._seen >= MAX_LINE:
                raise LimitExceeded(
                    f"a line of {self._name} is longer than {MAX_LINE} bytes",
                    code="input_too_large",
                )
            if not self._is_out:
                return None
            if not held:
                raise StopIteration
            end = len(held)
        line = bytes(held[:end])
        del held[: end + 1]
        self._seen = 0
        return line.rstrip(b"\r\n")

    def _read(self) -> None:
        try:
            chunk = os.read(self._fd, _CHUNK)
        except OSError as error:
            raise self._unreadable(error) from error
        self._held += chunk
        self._is_out = not chunk

    def _unreadable(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot read the input {self._name!r}: {error.strerror}", code="unreadable_input"
        )


async def _until_readable(fd: int) -> None:
    import trio

    await trio.lowlevel.wait_readable(fd)


def read_line(line: bytes, form: str, index: int) -> bytes:
    """The input that a line stands for; raise `UsageError` naming the line."""
    if form == "text":
        return line
    try:
        if form == "base64":
            return base64.b64decode(line, validate=True)
        value = json.loads(line)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise UsageError(
            f"line {index + 1} of the input is no {form}: {error}",
            hint="--format says what a line is: " + ", ".join(FORMATS),
            code="bad_line",
        ) from error
    return value.encode() if isinstance(value, str) else line
