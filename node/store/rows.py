"""Rows of the journal as `Saved` engagements: reading only, over an open connection."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from deai.codec import Codec
from deai.ids import TaskId
from deai.messages import ApprovedOutputs, Member, Opened
from deai.tasks import Task, TaskSpec
from node.store.records import OwnResult, Saved, SeatKey

TASKS: Final = Codec[Task](Task, 4096)
SPECS: Final = Codec[TaskSpec](TaskSpec, 64 * 1024)
APPROVED: Final = Codec[ApprovedOutputs](ApprovedOutputs, 4096)
_MEMBERS: Final = Codec[tuple[Member, ...]](tuple[Member, ...], 256 * 1024)
_OPENED: Final = Codec[Opened](Opened, 4096)


def select(db: sqlite3.Connection, condition: str, *values: object) -> tuple[Saved, ...]:
    """Engagements with all that is known about them; `condition` is a constant of the program."""
    rows = db.execute(
        "SELECT task_id, seat, attempt, task, spec, valid_until, signature, since,"  # noqa: S608
        " accepted_at, client_peer, members, has_input, ended_at, outcome, payment, reason,"
        " input"
        f" FROM engagements WHERE {condition}",
        values,
    ).fetchall()
    return tuple(_saved(db, row) for row in rows)


def result_of(db: sqlite3.Connection, key: SeatKey) -> tuple[OwnResult | None, bytes | None]:
    """What was signed for a seat, and the small output that went with it."""
    row = db.execute(
        "SELECT digest, evidence, salt, value, commit_signature, result_signature, fault,"
        " output"
        " FROM results WHERE task_id=? AND seat=? AND attempt=?",
        (key.task_id, key.seat, key.attempt),
    ).fetchone()
    if row is None:
        return None, None
    names = OwnResult.__struct_fields__
    return OwnResult(**dict(zip(names, row[:-1], strict=True))), row[-1]


def _saved(db: sqlite3.Connection, row: tuple[Any, ...]) -> Saved:
    key = SeatKey(row[0], row[1], row[2])
    openings, lies, approvals = (
        _messages(db, table, row[0]) for table in ("openings", "lies", "approvals")
    )
    result, output = result_of(db, key)
    return Saved(
        key=key,
        task=TASKS.decode(row[3]),
        spec=SPECS.decode(row[4]),
        valid_until=row[5],
        signature=row[6],
        since=row[7],
        accepted_at=row[8],
        client_peer=row[9],
        members=_MEMBERS.decode(row[10]) if row[10] is not None else (),
        has_input=bool(row[11]),
        input=row[16],
        result=result,
        output=output,
        openings={seat: _OPENED.decode(data) for seat, data in openings},
        lies={seat: _OPENED.decode(data) for seat, data in lies},
        approvals={seat: APPROVED.decode(data) for seat, data in approvals},
        ended_at=row[12],
        outcome=row[13] or "",
        payment=int(row[14] or 0),
        reason=row[15] or "",
    )


def _messages(db: sqlite3.Connection, table: str, task: TaskId) -> list[tuple[int, bytes]]:
    return db.execute(
        f"SELECT seat, message FROM {table} WHERE task_id=?",  # noqa: S608 - as above
        (task,),
    ).fetchall()
