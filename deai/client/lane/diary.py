"""What this home had computed over the lane, for `deai task list` and `show`.

A row for each task that was submitted by itself and for each run of `task map`, in the file of the
book. Of the tasks of a run no rows are kept: their results are where the run wrote them, their
receipts in the book (`MAX_WINDOWS_KEPT` windows of each epoch).
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deai.client.lane.book import FILE, BookReader, opened
from deai.ids import ChannelId

KEPT: Final = 1000
"""Rows; those begun longest ago are forgotten."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS diary (
    name TEXT PRIMARY KEY, at REAL NOT NULL, document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS diary_at ON diary (at);
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """One row: when it was begun (Unix seconds), and what is known of it."""

    name: str
    at: float
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Traced:
    """What the book still has of one task of a run."""

    channel: ChannelId
    promised: int
    """Tasks of the epoch that vouchers cover; this is one of them."""
    is_kept: bool
    """Whether its place in a signed window is still there, and its receipt can be made."""


class Diary:
    """The diary of a home; opened for a moment, also while another process pays from it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / FILE

    def write(self, noted: Noted) -> None:
        """Keep a row, or change it; raises `JournalError`."""
        with opened(self._home, _SCHEMA) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(
                "INSERT INTO diary VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET document = excluded.document",
                (noted.name, noted.at, json.dumps(noted.document)),
            )
            db.execute(
                "DELETE FROM diary WHERE name NOT IN"
                " (SELECT name FROM diary ORDER BY at DESC, name LIMIT ?)",
                (KEPT,),
            )
            db.execute("COMMIT")

    def recent(self, limit: int) -> list[Noted]:
        """The newest rows; raises `JournalError`."""
        return self._read("ORDER BY at DESC, name LIMIT ?", (limit,))

    def find(self, beginning: str) -> Noted | None:
        """The row of a name, or of the only one that begins so; raises `JournalError`."""
        found = self._read("WHERE substr(name, 1, ?) = ? LIMIT 2", (len(beginning), beginning))
        exact = [one for one in found if one.name == beginning]
        return exact[0] if exact else found[0] if len(found) == 1 else None

    def trace(self, channel: str, epoch: int, index: int) -> Traced | None:
        """A task by its place; None where this home promised nothing for it.

        `channel` is the beginning of a channel's id. Raises `JournalError`.
        """
        if not self._path.exists():
            return None
        with opened(self._home, _SCHEMA) as db:
            ids = db.execute(
                "SELECT DISTINCT channel FROM vouchers WHERE substr(channel, 1, ?) = ? LIMIT 2",
                (len(channel), channel),
            ).fetchall()
        if len(ids) != 1:
            return None
        id_ = ChannelId(ids[0][0])
        reader = BookReader(self._home)
        try:
            promised = int(reader.standing(id_, epoch).promised.received)
            is_kept = reader.proof(id_, epoch, index) is not None
        finally:
            reader.close()
        return Traced(id_, promised, is_kept) if index < promised else None

    @property
    def is_in_use(self) -> bool:
        """Whether a process pays from this home now."""
        try:
            with (self._home / "lane.lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _read(self, rest: str, values: tuple[object, ...]) -> list[Noted]:
        if not self._path.exists():
            return []
        with opened(self._home, _SCHEMA) as db:
            rows = db.execute(f"SELECT name, at, document FROM diary {rest}", values)  # noqa: S608
            return [Noted(name, at, json.loads(text)) for name, at, text in rows]
