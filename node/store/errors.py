"""Errors of the disk, as the rest of the node sees them."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final, NoReturn

from deai.errors import ConfigError, DeaiError, LimitExceeded, NodeFault


class StoreFull(LimitExceeded):
    """No room on disk (or within the node's own budget): nothing new is accepted."""

    code = "disk_full"


class AlreadyRunning(ConfigError):
    """Another process works with this home."""

    code = "already_running"
    exit_status = 1


_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HINT: Final = "free some space; a running node goes on by itself"
_LOOK: Final = "look at the disk: its space, quotas, rights and errors; nothing promised is lost"


def raise_os(error: OSError) -> NoReturn:
    """Translate a failed read or write of a blob."""
    if error.errno in _FULL:
        raise StoreFull(f"the disk is full: {error.strerror}", hint=_HINT) from error
    raise NodeFault(f"the disk failed: {error}", hint=_LOOK) from error


def raise_sqlite(error: sqlite3.Error) -> NoReturn:
    """Translate a failed statement of the journal."""
    translated: DeaiError
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        translated = StoreFull("no room for the journal", hint=_HINT)
    elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        translated = AlreadyRunning(
            "the journal is in use by another process", hint="stop the other node first"
        )
    else:
        translated = NodeFault(f"the journal failed: {error}", hint=_LOOK)
    raise translated from error
