"""Looking at a task without taking part in it: no key, no peers."""

from __future__ import annotations

from typing import Any

from deai.actions import CancelTask
from deai.chain.ledger import Ledger, Transaction
from deai.chain.tasks_view import fold
from deai.client.documents import rfc3339, task_document, transactions
from deai.client.journal import Entry, Journal
from deai.errors import Declined
from deai.events import LedgerRecord
from deai.ids import TaskId, parse_task
from deai.lifecycle import TaskState


async def records_of(
    journal: Journal, ledger: Ledger, task: str
) -> tuple[Entry | None, tuple[LedgerRecord, ...]]:
    """A task's events by id, or a unique prefix of one of this client's.

    Raises `Declined` when neither the journal nor the chain knows it.
    """
    entry = await journal.by_task(task)
    if entry is not None and entry.task_id is not None:
        identity, since = entry.task_id, entry.since
    else:
        identity, since = parse_task(task), ledger.info.deployed_at
    records = await ledger.task_events(TaskId(identity), since=since)
    if not records:
        raise Declined(f"no task {task} is known here or on this chain", code="not_found")
    return entry, records


async def show(journal: Journal, ledger: Ledger, task: str) -> dict[str, Any]:
    """A task's document as journal and chain tell it now."""
    entry, records = await records_of(journal, ledger, task)
    kept = entry.document if entry is not None and not entry.is_open else None
    if kept is not None:
        # What happened after the end (a proven equivocation) is on chain only.
        seen = {one["hash"] for one in kept["transactions"]}
        later = [one for one in transactions(records) if one["hash"] not in seen]
        return {**kept, "transactions": [*kept["transactions"], *later]}
    return task_document(
        records, ledger.info, workload=entry.spec.workload if entry is not None else ""
    )


async def events(journal: Journal, ledger: Ledger, task: str) -> list[dict[str, Any]]:
    """Everything the chain reported about a task, in order."""
    _, records = await records_of(journal, ledger, task)
    kinds = {one["hash"]: one["kind"] for one in transactions(records)}
    return [
        {
            "at": rfc3339(record.position.time),
            "block": record.position.block,
            "event": type(record.event).__name__,
            "seat": getattr(record.event, "seat", None),
            "transaction": record.position.transaction,
            "kind": kinds[record.position.transaction],
        }
        for record in records
    ]


async def cancel(journal: Journal, ledger: Ledger, task: str) -> Transaction:
    """Take back a task that was posted and not assigned; raise `Declined` otherwise."""
    _, records = await records_of(journal, ledger, task)
    view = fold(records)
    assert view is not None
    if view.state is not TaskState.PENDING:
        raise Declined(
            f"the task is {view.state}: it can be cancelled only before nodes are assigned",
            hint="an assigned task ends by itself; what is not earned comes back",
            code="not_cancellable",
        )
    return await ledger.submit(CancelTask(view.task))
