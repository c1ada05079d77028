"""The output of `deai task map`: results in the order of their lines, none of them paid twice.

A result is in the file before its voucher is written: behind its predecessors in the output, or,
if it came before its turn, beside it (`OUTPUT.ahead`). So a program that is killed asks again
only for what it had not received. The output is flushed once a second for a power cut.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from deai.cli.map_lines import MAX_LINE
from deai.errors import DeaiError, UsageError

SYNC_EVERY: Final = 1.0
"""Seconds after which results are on disk at the latest."""
MAX_UNPRINTED: Final = 1 << 20
"""Bytes that standard output has not taken, above which nothing more is asked for."""
_SPARE: Final = 1 << 20
"""Bytes of the file beside the output that are of no more use."""


class Results:
    """Where results go: a file that this process alone writes, or standard output."""

    def __init__(self, path: Path | None, *, as_base64: bool, is_dry: bool = False) -> None:
        """Take the file for this process alone; raise `UsageError`.

        With `is_dry` it is looked at and not changed, and nothing can be added.
        """
        if is_dry and path is not None and not path.exists():
            path = None
        self._is_dry = is_dry
        self._as_base64 = as_base64
        self._path = path
        self._unprinted = bytearray()
        self._is_printing = False
        self._is_unsynced = False
        self._early: dict[int, tuple[str, bytes, bool]] = {}
        """Results before their turn, that an earlier run received: key, line, whether it failed."""
        self._beside: IO[bytes] | None = None
        self._beside_bytes = 0
        self._ahead: dict[int, bytes] = {}
        """Those of this run and what is left of the earlier one, as they stand beside."""
        self._ahead_bytes = 0
        if path is None:
            return
        try:
            self._file = path.open("rb" if is_dry else "a+b")
            if is_dry:
                return
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another process writes to {path}", hint="wait for it", code="output_in_use"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    # --- what an earlier run has left ------------------------------------------------------------

    def kept(self) -> Iterator[tuple[str, bool]]:
        """Key of every whole line, and whether its task failed; cuts off one that is not."""
        if self._path is None:
            return
        self._file.seek(0)
        end = count = 0
        for line in iter(partial(self._file.readline, 2 * MAX_LINE), b""):
            if not line.endswith(b"\n"):
                break
            place, key, is_failed = _shown(line)
            if place != count:
                raise UsageError(
                    f"{self._path}: line {count + 1} is no result of this command",
                    hint="name another --output",
                    code="other_output",
                )
            end, count = end + len(line), count + 1
            yield key, is_failed
        if not self._is_dry:
            self._file.truncate(end)
            self._file.seek(0, os.SEEK_END)
        self._load(count)

    def early(self, index: int, key: str) -> tuple[bytes, bool] | None:
        """The result of a line that an earlier run received, and whether its task failed."""
        found = self._early.pop(index, None)
        return found[1:] if found is not None and found[0] == key else None

    def _load(self, count: int) -> None:
        assert self._path is not None
        try:
            with self._beside_path.open("rb") as file:
                for line in iter(partial(file.readline, 2 * MAX_LINE), b""):
                    place, key, is_failed = _shown(line)
                    if place >= count and line.endswith(b"\n"):
                        self._early[place] = key, line, is_failed
                        self._note(place, line)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(error) from error

    # --- what this run adds ----------------------------------------------------------------------

    def row(self, index: int, key: str, output: bytes | None, error: DeaiError | None) -> bytes:
        """The line of a result."""
        row: dict[str, Any] = {"index": index, "key": key}
        if error is not None:
            row["error"] = {"code": error.reason_code, "message": str(error)}
        else:
            row |= self._as_text(output or b"")
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"

    def add(self, first: int, rows: list[bytes]) -> None:
        """Write the results of the lines from `first` on; raise `UsageError`."""
        if self._path is None:
            self._unprinted += b"".join(rows)
            return
        self._write(self._file, b"".join(rows))
        if self._ahead:
            for index in range(first, first + len(rows)):
                self._ahead_bytes -= len(self._ahead.pop(index, b""))

    def put_by(self, index: int, row: bytes) -> None:
        """Write a result before its turn beside the output; raise `UsageError`."""
        if self._path is None:
            return
        self._note(index, row)
        if self._beside is None or self._beside_bytes > _SPARE + 4 * self._ahead_bytes:
            self._rewrite()
            return
        self._write(self._beside, row)
        self._beside_bytes += len(row)

    def _note(self, index: int, row: bytes) -> None:
        self._ahead_bytes += len(row) - len(self._ahead.get(index, b""))
        self._ahead[index] = row

    def _rewrite(self) -> None:
        """Keep beside the output what is still ahead of it, and nothing else."""
        new = self._beside_path.with_name(self._beside_path.name + ".new")
        try:
            if self._beside is not None:
                self._beside.close()
            self._beside = new.open("wb")
            self._write(self._beside, b"".join(self._ahead.values()))
            new.replace(self._beside_path)
        except OSError as error:
            raise self._unwritable(error) from error
        self._beside_bytes = self._ahead_bytes

    def _write(self, file: IO[bytes], data: bytes) -> None:
        """To the system at once: what a killed program has in its own memory is lost."""
        left = memoryview(data)
        self._is_unsynced = True
        try:
            while left:
                left = left[os.write(file.fileno(), left) :]
        except OSError as error:
            raise self._unwritable(error) from error

    # --- and lets go -----------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether whoever reads standard output is far behind."""
        return len(self._unprinted) > MAX_UNPRINTED

    @property
    def is_printed(self) -> bool:
        """Whether standard output has everything."""
        return not self._unprinted and not self._is_printing

    async def print_on(self) -> None:
        """Give standard output what waits for it, without holding up the loop."""
        import trio

        data, self._unprinted, self._is_printing = self._unprinted, bytearray(), True
        # Whoever reads it may never go on: then the thread is left behind.
        await trio.to_thread.run_sync(self._print, data, abandon_on_cancel=True)
        self._is_printing = False

    async def keep_synced(self) -> None:
        """Flush once a second what was added; raise `UsageError`."""
        import trio

        while True:
            await trio.sleep(SYNC_EVERY)
            if self._is_unsynced:
                self._is_unsynced = False
                await trio.to_thread.run_sync(self._flush)

    def sync(self) -> None:
        """What was added outlives the process, and a file a power cut; raise `UsageError`."""
        if self._unprinted:
            data, self._unprinted = self._unprinted, bytearray()
            self._print(data)
        self._flush()
        if self._path is not None and not self._ahead:
            self._close_beside()
            with suppress(OSError):
                self._beside_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the files go."""
        if self._path is not None:
            with suppress(OSError):
                self._file.close()
            self._close_beside()

    def _close_beside(self) -> None:
        if self._beside is not None:
            with suppress(OSError):
                self._beside.close()
            self._beside = None

    @property
    def _beside_path(self) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + ".ahead")

    def _print(self, data: bytearray) -> None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _flush(self) -> None:
        if self._path is None:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _as_text(self, output: bytes) -> dict[str, str]:
        if not self._as_base64:
            with suppress(UnicodeDecodeError):
                return {"output": output.decode()}
        return {"base64": base64.b64encode(output).decode()}

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot write {self._path or 'the results'}: {error.strerror}",
            hint="make room; the same command goes on behind the last whole line",
            code="unwritable_output",
        )


def _shown(line: bytes) -> tuple[int, str, bool]:
    """Place and key of a result, and whether its task failed; -1 of any other line."""
    try:
        found = json.loads(line)
        return int(found["index"]), str(found["key"]), found.get("error") is not None
    except (ValueError, KeyError, TypeError, AttributeError):
        return -1, "", False
