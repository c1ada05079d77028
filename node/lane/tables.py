"""The tables of the lane's database, and its rows as values.

An account is one epoch of one channel. Every sum stands in its row, so that the rows of vouchers
may be forgotten once they are redeemed and old.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Final

from deai.channels import Channel
from deai.codec import Codec, encode_canonical
from deai.errors import ConfigError, MalformedMessage, NodeFault
from deai.ids import ChainName, ChannelId
from deai.lane.payee import Standing
from deai.lane.writer import Row

SCHEMA_VERSION: Final = 1
# Amounts are text: SQLite's integers have 64 bits, amounts 96.
_TABLES: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE accounts (id INTEGER PRIMARY KEY, chain TEXT NOT NULL, channel TEXT NOT NULL,"
    " epoch INTEGER NOT NULL, parties BLOB NOT NULL, standing BLOB NOT NULL,"
    " deposit TEXT NOT NULL, redeemed TEXT NOT NULL, redeemed_number INTEGER NOT NULL,"
    " closed INTEGER NOT NULL, work TEXT NOT NULL, owed_since INTEGER NOT NULL,"
    " changed_at INTEGER NOT NULL, UNIQUE (chain, channel, epoch)) STRICT",
    "CREATE TABLE vouchers (account INTEGER NOT NULL, number INTEGER NOT NULL,"
    " first INTEGER NOT NULL, tasks INTEGER NOT NULL, amount TEXT NOT NULL, root BLOB NOT NULL,"
    " signature BLOB NOT NULL, leaves BLOB NOT NULL, at INTEGER NOT NULL,"
    " PRIMARY KEY (account, number)) STRICT",
    "CREATE INDEX vouchers_at ON vouchers (at)",
    "CREATE TABLE days (chain TEXT NOT NULL, day TEXT NOT NULL, paid TEXT NOT NULL,"
    " PRIMARY KEY (chain, day)) STRICT",
    "CREATE TABLE gone (chain TEXT PRIMARY KEY, sums TEXT NOT NULL) STRICT",
)
_COLUMNS: Final = (
    "id, chain, channel, epoch, parties, standing, deposit, redeemed, redeemed_number, closed,"
    " work, owed_since, changed_at"
)
_PARTIES: Final = Codec[Channel](Channel, 4096)
_STANDING: Final = Codec[Standing](Standing, 4096)


@dataclass(eq=False, slots=True, kw_only=True)
class Entry:
    """One account; money in base units, times in Unix seconds."""

    id: int
    chain: ChainName
    channel_id: ChannelId
    channel: Channel
    epoch: int
    standing: Standing = field(default_factory=Standing)
    deposit: int = 0
    redeemed: int = 0
    redeemed_number: int = 0
    """Vouchers up to this one are known to be redeemed."""
    is_closed: bool = False
    work: dict[str, int] = field(default_factory=dict)
    """What was settled, by workload."""
    owed_since: int = 0
    """When the oldest of what is not redeemed was promised."""
    changed_at: int = 0
    is_kept: bool = False
    """There is a row of it."""
    closes_at: int = 0
    """When its client's close is over, in chain time; 0 while nobody asked. Not kept: the chain
    is asked again after a restart."""
    shown: Standing | None = None
    """Where it stood when its voucher was last shown to the chain."""

    @property
    def promised(self) -> int:
        """What vouchers promise in all."""
        return int(self.standing.cumulative)

    @property
    def unredeemed(self) -> int:
        """What may still be redeemed; 0 once it is closed."""
        return 0 if self.is_closed else max(0, self.promised - self.redeemed)

    @property
    def lost(self) -> int:
        """What was not redeemed before it was closed."""
        return max(0, self.promised - self.redeemed) if self.is_closed else 0

    def row(self) -> Row:
        """It, whole."""
        return (
            f"INSERT OR REPLACE INTO accounts ({_COLUMNS})"  # noqa: S608 - constants
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.id, self.chain, self.channel_id, self.epoch, encode_canonical(self.channel),
                encode_canonical(self.standing), str(int(self.deposit)), str(int(self.redeemed)),
                self.redeemed_number, int(self.is_closed), _text(self.work), self.owed_since,
                self.changed_at,
            ),
        )  # fmt: skip

    def change(self) -> Row:
        """What a voucher changes of it."""
        return (
            "UPDATE accounts SET standing=?, work=?, owed_since=?, changed_at=? WHERE id=?",
            (encode_canonical(self.standing), _text(self.work), self.owed_since, self.changed_at,
             self.id),
        )  # fmt: skip


@dataclass(slots=True)
class Gone:
    """Sums of accounts that were forgotten."""

    promised: int = 0
    redeemed: int = 0
    tasks: int = 0

    def row(self, chain: ChainName) -> Row:
        """It, whole."""
        sums = {"promised": self.promised, "redeemed": self.redeemed, "tasks": self.tasks}
        return "INSERT OR REPLACE INTO gone VALUES (?, ?)", (chain, _text(sums))


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables of a new file; raise `ConfigError` for one of a newer program."""
    if version_of(db) is None:
        for statement in _TABLES:
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))


def version_of(db: sqlite3.Connection) -> int | None:
    """The version of a file, None for an empty one; raise `ConfigError` for a newer one."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:
        return None
    found = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
    version = int(found[0]) if found and str(found[0]).isdigit() else 0
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"the lane's database is of version {version}, this program writes {SCHEMA_VERSION}",
            hint="run the newer deai that wrote it",
            code="newer_journal",
        )
    return version


def entries(db: sqlite3.Connection) -> list[Entry]:
    """Every account, the oldest first; raise `NodeFault` for a row that is damaged."""
    return [_entry(row) for row in db.execute(f"SELECT {_COLUMNS} FROM accounts ORDER BY id")]  # noqa: S608


def days(db: sqlite3.Connection) -> dict[tuple[ChainName, str], int]:
    """What was redeemed, by chain and day."""
    return {(ChainName(chain), day): int(paid)
            for chain, day, paid in db.execute("SELECT chain, day, paid FROM days")}  # fmt: skip


def gone(db: sqlite3.Connection) -> dict[ChainName, Gone]:
    """Sums of accounts that were forgotten, by chain."""
    return {ChainName(chain): Gone(**_numbers(sums))
            for chain, sums in db.execute("SELECT chain, sums FROM gone")}  # fmt: skip


def _entry(row: tuple[object, ...]) -> Entry:
    (id_, chain, channel_id, epoch, parties, standing, deposit, redeemed, number, closed, work,
     owed_since, changed_at) = row  # fmt: skip
    try:
        return Entry(
            id=int(str(id_)),
            chain=ChainName(str(chain)),
            channel_id=ChannelId(str(channel_id)),
            channel=_PARTIES.decode(_bytes(parties)),
            epoch=int(str(epoch)),
            standing=_STANDING.decode(_bytes(standing)),
            deposit=int(str(deposit)),
            redeemed=int(str(redeemed)),
            redeemed_number=int(str(number)),
            is_closed=bool(closed),
            work=_numbers(str(work)),
            owed_since=int(str(owed_since)),
            changed_at=int(str(changed_at)),
            is_kept=True,
        )
    except (MalformedMessage, ValueError) as error:
        raise NodeFault(
            f"the lane's account {id_} is damaged: {error}",
            hint="look at the disk; vouchers of other channels are not concerned",
        ) from error


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedMessage("no bytes")
    return value


def _text(numbers: dict[str, int]) -> str:
    return json.dumps({name: str(value) for name, value in numbers.items()})


def _numbers(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in json.loads(text).items()}
