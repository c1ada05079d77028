"""Files that are there with all their bytes or not at all, whenever the process is killed."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes, *, mode: int = 0o666, flush: bool = True) -> None:
    """Write a file in one step: readers see all of the old one or all of the new one.

    `mode` is lessened by the umask. With `flush` the file outlives a power cut, too. Raises
    `OSError`; then the old file is what it was.
    """
    draft = _draft(path, data, mode, flush=flush)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise
    if flush:
        sync_directory(path.parent)


def create_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that was not there, for its owner alone, past power cuts.

    Of several processes that do it at the same time one succeeds; the others get
    `FileExistsError`. Raises `OSError`.
    """
    draft = _draft(path, data, mode, flush=True)
    try:
        path.hardlink_to(draft)
    finally:
        draft.unlink()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory outlive a power cut. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(path: Path, data: bytes, mode: int, *, flush: bool) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    return draft
