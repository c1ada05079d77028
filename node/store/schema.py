"""The journal's tables, and how a file of an earlier version becomes one of this.

Version 2 keeps small inputs and outputs in the rows, 3 the signed results that are not on chain,
4 says of which chain each row is.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from deai.errors import ConfigError
from deai.ids import ChainName

SCHEMA_VERSION: Final = 4
_LIES: Final = """
CREATE TABLE lies (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (task_id, seat)) STRICT
"""
_DAYS: Final = """
CREATE TABLE days (
  chain TEXT NOT NULL, day TEXT NOT NULL, workload TEXT NOT NULL,
  paid TEXT NOT NULL, forfeited TEXT NOT NULL, tasks INTEGER NOT NULL, unpaid INTEGER NOT NULL,
  PRIMARY KEY (chain, day, workload)) STRICT
"""
# A task's id binds its chain: what hangs off a task needs no column of its own.
_TABLES: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE engagements (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, attempt INTEGER NOT NULL,
  task BLOB NOT NULL, spec BLOB NOT NULL,
  valid_until INTEGER NOT NULL, signature BLOB NOT NULL,
  since INTEGER NOT NULL, accepted_at INTEGER NOT NULL, client_peer TEXT NOT NULL,
  members BLOB, has_input INTEGER NOT NULL DEFAULT 0, input BLOB,
  ended_at INTEGER, outcome TEXT, payment TEXT, reason TEXT,
  chain TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (task_id, seat, attempt)) STRICT;
CREATE INDEX engagements_ended ON engagements (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE results (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, attempt INTEGER NOT NULL,
  digest BLOB NOT NULL, evidence BLOB NOT NULL, salt BLOB NOT NULL, value BLOB NOT NULL,
  commit_signature BLOB NOT NULL, result_signature BLOB NOT NULL, fault INTEGER NOT NULL,
  output BLOB, PRIMARY KEY (task_id, seat, attempt)) STRICT;
CREATE TABLE openings (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (task_id, seat)) STRICT;
CREATE TABLE approvals (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (task_id, seat)) STRICT;
{_LIES.strip()};
{_DAYS.strip()}
"""


def prepare(db: sqlite3.Connection, chain: ChainName) -> None:
    """Make the tables, or bring old ones up to date: inside a transaction of the caller's.

    Rows from before version 4 are of `chain`. Raises `ConfigError` for a newer file.
    """
    version = version_of(db)
    if version is None:
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (_written(),))
    elif version > SCHEMA_VERSION:
        raise ConfigError(
            f"the journal is of version {version}, this program writes {SCHEMA_VERSION}",
            hint="run the newer deai that wrote it",
            code="newer_journal",
        )
    elif version < SCHEMA_VERSION:
        _upgrade(db, version, chain)


def version_of(db: sqlite3.Connection) -> int | None:
    """The version of a journal, None for an empty file."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:
        return None
    return int(db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()[0])


def _upgrade(db: sqlite3.Connection, version: int, chain: ChainName) -> None:
    if version < 2:
        db.execute("ALTER TABLE engagements ADD COLUMN input BLOB")
        db.execute("ALTER TABLE results ADD COLUMN output BLOB")
    if version < 3:
        db.execute(_LIES)
    db.execute("ALTER TABLE engagements ADD COLUMN chain TEXT NOT NULL DEFAULT ''")
    db.execute("UPDATE engagements SET chain=?", (chain,))
    db.execute("ALTER TABLE days RENAME TO old_days")
    db.execute(_DAYS)
    db.execute(
        "INSERT INTO days SELECT ?, day, workload, paid, forfeited, tasks, unpaid FROM old_days",
        (chain,),
    )
    db.execute("DROP TABLE old_days")
    db.execute("UPDATE meta SET key=? || key WHERE key != 'schema'", (f"{chain}:",))
    db.execute("UPDATE meta SET value=? WHERE key='schema'", (_written(),))


def _written() -> bytes:
    return str(SCHEMA_VERSION).encode()
