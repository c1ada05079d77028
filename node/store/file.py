"""The journal's file: one connection, held exclusively, used by one thread at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from deai.ids import ChainName
from node.store import schema
from node.store.calls import Caller, InThreads
from node.store.errors import raise_os, raise_sqlite
from node.store.group import Writer

T = TypeVar("T")


class JournalFile:
    """An open SQLite file with the journal's tables; errors are the node's own."""

    def __init__(
        self,
        path: Path,
        chain: ChainName,
        *,
        max_pages: int = 0,
        read_only: bool = False,
        caller: Caller | None = None,
    ) -> None:
        """Open or create; raise `AlreadyRunning`, `ConfigError`, `StoreFull` or `NodeFault`.

        What a file from before a node could serve two chains holds is of `chain`. `max_pages`
        bounds the file (4 KiB each, 0: no bound). `read_only` is for looking on while no daemon
        runs; only a file of an older version is written to, once.
        """
        self._caller = caller or InThreads(1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise_os(error)
        try:
            self.db = _connect(path, read_only=read_only)
            if read_only and schema.version_of(self.db) != schema.SCHEMA_VERSION:
                self.db.close()
                JournalFile(path, chain, caller=caller).close()
                self.db = _connect(path, read_only=True)
            self._writer = Writer(self.db, self._caller)
            if not read_only:
                self._prepare(chain, max_pages)
        except sqlite3.Error as error:
            raise_sqlite(error)

    def _prepare(self, chain: ChainName, max_pages: int) -> None:
        self.db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self.db.execute("PRAGMA journal_mode=WAL")
        if max_pages:
            self.db.execute(f"PRAGMA max_page_count={int(max_pages)}")
        with self._writer.transaction():
            schema.prepare(self.db, chain)

    def close(self) -> None:
        """Let the file go."""
        self.db.close()

    async def write(self, work: Callable[[], T], *, flush: bool = True) -> T:
        """What `work` returns, once the disk has what it wrote; see `Writer.write`."""
        try:
            return await self._writer.write(work, flush=flush)
        except sqlite3.Error as error:
            raise_sqlite(error)

    async def read(self, work: Callable[[], T]) -> T:
        """What `work` returns; not abandoned on cancellation."""
        try:
            return await self._caller(work)
        except sqlite3.Error as error:
            raise_sqlite(error)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{path}?mode=ro" if read_only else f"file:{path}",
        uri=True, timeout=1, isolation_level=None, check_same_thread=False,
    )  # fmt: skip
