"""The table of what was sent: what it takes over, keeps and refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from deai.chain.outbox import FLYING, Attempt, Intent, Outbox
from deai.errors import ConfigError

FIRST_VERSION = """
create table attempts(
    hash text primary key, key text not null, nonce integer not null, raw blob not null,
    fee text not null, tip text not null
);
insert into attempts values ('0x01', 'old', 4, x'aa', '7', '1');
"""


def intent(key: str, *attempts: Attempt) -> Intent:
    return Intent(
        key=key, kind="Test", to=None, data=b"", gas=1, nonce=attempts[-1].nonce, state=FLYING,
        attempts=attempts,
    )  # fmt: skip


def test_a_table_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(FIRST_VERSION)
    db.close()
    outbox = Outbox(path, "me")
    assert outbox.next_nonce() == 5
    outbox.add(intent("new", Attempt("0x02", 9, b"\xbb", expires=77)))
    outbox.close()
    again = Outbox(path, "me")
    (found,) = again.flying()
    assert found.attempts == (Attempt("0x02", 9, b"\xbb", expires=77),)
    assert again.next_nonce() == 10
    again.close()


def test_sums_beyond_what_a_database_counts_are_kept_exactly() -> None:
    outbox = Outbox(None, "me")
    yocto = 10**27 + 1
    large = intent("large", Attempt("h", 1 << 60, b""))
    outbox.add(msgspec.structs.replace(large, value=yocto))
    found = outbox.find("large")
    assert found is not None
    assert (found.value, found.nonce) == (yocto, 1 << 60)
    assert outbox.next_nonce() == (1 << 60) + 1
    outbox.close()


def test_an_outbox_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    Outbox(path, "me").close()
    with pytest.raises(ConfigError, match="belongs to me"):
        Outbox(path, "you")
