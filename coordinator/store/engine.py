"""Opening the database file: one writer at a time, readers that never wait for it.

WAL with `synchronous=NORMAL`: after a power cut the newest transactions may be missing, never
torn. That is enough, because cursor and rows are one transaction and the chain has the rest.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.pool import QueuePool

from deai.errors import ConfigError

READERS: Final = 8
_BUSY_MS: Final = 10_000


def open_engine(path: Path, *, readonly: bool = False) -> Engine:
    """An engine on a database file; the writer's transactions take the write lock at once."""
    target = f"file:{path}?mode=ro&uri=true" if readonly else str(path)
    engine = create_engine(
        f"sqlite:///{target}",
        connect_args={"isolation_level": None, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=READERS if readonly else 1,
        max_overflow=0,
        pool_timeout=5.0,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own types
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        if readonly:
            cursor.execute("PRAGMA query_only=1")
        else:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA wal_autocheckpoint=2000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Be the only process that writes this database; raise `ConfigError` if another does."""
    lock = path.with_name(path.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {lock}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another coordinator uses {path}",
                hint="stop it first, or give this one a database of its own",
                code="database_in_use",
            ) from error
        yield
    finally:
        os.close(handle)
