"""What one account has sent or is about to send: written down before anybody hears of it.

A row is an intent; its attempts are signed bytes that all carry the row's nonce, so at most one
of them can take effect. After a crash the same bytes go out again. Every method is blocking and
runs through one bounded limiter (`Outbox.run`); a commit is on disk when it returns.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, ParamSpec, TypeVar

import msgspec
import trio

from deai.chain.ledger import Transaction
from deai.errors import ConfigError
from deai.ids import AccountId

P = ParamSpec("P")
T = TypeVar("T")

_SCHEMA: Final = """
create table if not exists meta(name text primary key, value text not null);
create table if not exists intents(
    key text primary key,
    kind text not null,
    receiver text,
    data blob not null,
    value text not null,
    gas integer not null,
    nonce integer not null,
    state text not null,
    hash text not null default '',
    block integer not null default 0,
    time integer not null default 0,
    gas_used integer not null default 0,
    gas_price text not null default '0',
    refusal blob
);
create index if not exists intents_by_state on intents(state);
create index if not exists intents_by_nonce on intents(nonce);
create table if not exists attempts(
    hash text primary key,
    key text not null,
    nonce integer not null,
    raw blob not null,
    fee text not null,
    tip text not null,
    expires integer not null default 0
);
create index if not exists attempts_by_key on attempts(key);
"""
_COLUMNS: Final = (
    "key, kind, receiver, data, value, gas, nonce, state, hash, block, time, gas_used, gas_price,"
    " refusal"
)

FLYING: Final = "flying"
FINAL: Final = "final"
REVERTED: Final = "reverted"


class Attempt(msgspec.Struct, frozen=True):
    """Signed bytes; fees in wei for each gas, where a chain has them."""

    hash: str
    nonce: int
    raw: bytes
    fee: int = 0
    tip: int = 0
    expires: int = 0
    """No block above this number can hold it; 0: any can."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """One row: what is wanted, under which nonce, and what became of it."""

    key: str
    kind: str
    to: AccountId | None
    data: bytes
    gas: int
    nonce: int
    state: str
    attempts: tuple[Attempt, ...]
    """All that were ever signed for it, oldest first."""
    value: int = 0
    """Of the chain's own coin, in its smallest unit (wei, yoctoNEAR), that goes along."""
    hash: str = ""
    block: int = 0
    time: int = 0
    gas_used: int = 0
    gas_price: int = 0
    refusal: tuple[str, dict[str, Any]] | None = None

    @property
    def transaction(self) -> Transaction:
        """The final transaction."""
        return Transaction(
            kind=self.kind,
            hash=self.hash,
            block=self.block,
            time=self.time,
            gas_used=self.gas_used,
            gas_price=self.gas_price,
        )

    @property
    def current(self) -> tuple[Attempt, ...]:
        """The attempts under the present nonce, oldest first."""
        return tuple(one for one in self.attempts if one.nonce == self.nonce)


class Outbox:
    """The table. One process at a time: the file is locked while it is open."""

    def __init__(self, path: Path | None, identity: str) -> None:
        """Open `path`, or a table in memory; `identity` names chain, contracts and account.

        Raises `ConfigError` if another process has it open or it belongs to another identity.
        """
        self._limiter = trio.CapacityLimiter(1)
        self._lock = _locked(path) if path is not None else None
        try:
            self._db = sqlite3.connect(
                path if path is not None else ":memory:",
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(_SCHEMA)
            self._widen()
            self._check(identity, path)
        except sqlite3.Error as error:
            self.close()
            raise ConfigError(f"{path}: not a usable outbox: {error}") from error
        except ConfigError:
            self.close()
            raise

    async def run(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of this outbox in a thread; one at a time.

        Raises `ConfigError` when the disk does not take it.
        """

        def call() -> T:
            try:
                return method(*args, **kwargs)
            except sqlite3.Error as error:
                raise ConfigError(
                    f"the outbox cannot be read or written: {error}",
                    hint="is the disk full, or the file damaged?",
                ) from error

        return await trio.to_thread.run_sync(call, limiter=self._limiter)

    def close(self) -> None:
        """Close the table and unlock the file."""
        with suppress(AttributeError):
            self._db.close()
        if self._lock is not None:
            self._lock.close()

    def find(self, key: str) -> Intent | None:
        """An intent by its key."""
        rows = self._select("where key = ?", key)
        return rows[0] if rows else None

    def flying(self) -> list[Intent]:
        """All intents that are not final, lowest nonce first."""
        return self._select("where state = ? order by nonce", FLYING)

    def next_nonce(self) -> int:
        """One more than the highest nonce ever used here."""
        (most,) = self._db.execute("select max(nonce) from attempts").fetchone()
        (kept,) = self._db.execute("select max(nonce) from intents").fetchone()
        return max(-1 if most is None else most, -1 if kept is None else kept) + 1

    def add(self, intent: Intent) -> None:
        """Write a new intent with its first attempt, replacing a refused one of the same key."""
        with _Transaction(self._db):
            self._db.execute(
                "delete from intents where key = ? and state = ?", (intent.key, REVERTED)
            )
            self._db.execute(
                "insert into intents(key, kind, receiver, data, value, gas, nonce, state)"
                " values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    intent.key, intent.kind, intent.to, intent.data, str(intent.value),
                    intent.gas, intent.nonce, FLYING,
                ),
            )  # fmt: skip
            self._attempt(intent.key, intent.attempts[-1])

    def add_attempt(self, key: str, attempt: Attempt) -> None:
        """Write another attempt; its nonce becomes the intent's."""
        with _Transaction(self._db):
            self._db.execute("update intents set nonce = ? where key = ?", (attempt.nonce, key))
            self._attempt(key, attempt)

    def finish(self, intent: Intent) -> None:
        """Write what became of an intent; its bytes are not needed any more."""
        refusal = None if intent.refusal is None else msgspec.json.encode(intent.refusal)
        with _Transaction(self._db):
            self._db.execute(
                "update intents set state = ?, hash = ?, block = ?, time = ?, gas_used = ?,"
                " gas_price = ?, refusal = ?, data = x'' where key = ?",
                (
                    intent.state, intent.hash, intent.block, intent.time, intent.gas_used,
                    str(intent.gas_price), refusal, intent.key,
                ),
            )  # fmt: skip
            self._db.execute("delete from attempts where key = ?", (intent.key,))

    def _attempt(self, key: str, attempt: Attempt) -> None:
        self._db.execute(
            "insert or ignore into attempts(hash, key, nonce, raw, fee, tip, expires)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (
                attempt.hash, key, attempt.nonce, attempt.raw, str(attempt.fee), str(attempt.tip),
                attempt.expires,
            ),
        )  # fmt: skip

    def _select(self, where: str, *arguments: object) -> list[Intent]:
        rows = self._db.execute(f"select {_COLUMNS} from intents {where}", arguments)  # noqa: S608
        return [self._intent(row) for row in rows.fetchall()]

    def _intent(self, row: tuple[Any, ...]) -> Intent:
        attempts = self._db.execute(
            "select hash, nonce, raw, fee, tip, expires from attempts where key = ? order by rowid",
            (row[0],),
        )
        return Intent(
            key=row[0],
            kind=row[1],
            to=row[2],
            data=row[3],
            value=int(row[4]),
            gas=row[5],
            nonce=row[6],
            state=row[7],
            hash=row[8],
            block=row[9],
            time=row[10],
            gas_used=row[11],
            gas_price=int(row[12]),
            refusal=None
            if row[13] is None
            else msgspec.json.decode(row[13], type=tuple[str, dict[str, Any]]),
            attempts=tuple(
                Attempt(hash_, nonce, raw, int(fee), int(tip), expires)
                for hash_, nonce, raw, fee, tip, expires in attempts.fetchall()
            ),
        )

    def _widen(self) -> None:
        """Take over a table of the first version, which had no expiry."""
        columns = self._db.execute("select name from pragma_table_info('attempts')").fetchall()
        if ("expires",) not in columns:
            self._db.execute("alter table attempts add column expires integer not null default 0")

    def _check(self, identity: str, path: Path | None) -> None:
        self._db.execute("insert or ignore into meta values ('identity', ?)", (identity,))
        (found,) = self._db.execute("select value from meta where name = 'identity'").fetchone()
        if found != identity:
            raise ConfigError(
                f"{path}: this outbox belongs to {found}, not to {identity}",
                hint="use another home for another network or key",
            )


class _Transaction:
    """`begin immediate` … `commit`, or `rollback` on any way out but the normal one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("begin immediate")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("commit" if kind is None else "rollback")


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(path.suffix + ".lock").open("ab")
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(
            f"{path} is in use by another process",
            hint="one key, one process: stop the other one first",
            code="outbox_in_use",
        ) from error
    return lock
