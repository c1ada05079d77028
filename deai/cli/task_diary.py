"""Tasks of the lane among the others: what `deai task list` and `show` know of them."""

from __future__ import annotations

import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deai.cli.base import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from deai.client import TaskOutcome

_NAME: Final = re.compile(r"lane-([0-9a-f]{16})-(\d{1,9})-(\d{1,16})")
_POLICY: Final = "none/1"


def recent(settings: Settings, limit: int) -> list[tuple[float, dict[str, Any]]]:
    """The newest tasks and runs as `task list` shows them, each with when it was begun."""
    from deai.client.documents import rfc3339
    from deai.client.lane.diary import Diary

    diary = Diary(settings.home)
    return [
        (
            one.at,
            {
                "task_id": one.name,
                "workload": one.document["workload"],
                "policy": _POLICY,
                "chain": one.document["chain"],
                "state": _state(diary, one.document),
                "submitted_at": rfc3339(int(one.at)),
                "receipt": one.document.get("receipt") or None,
            },
        )
        for one in diary.recent(limit)
    ]


def show(settings: Settings, text: str) -> dict[str, Any] | None:
    """The document of a task or run of the lane; None for anything else.

    Raises `UsageError` for a task that this home never promised anything for.
    """
    from deai.client.lane.diary import Diary

    if not text.startswith(("lane-", "map-")):
        return None
    diary = Diary(settings.home)
    if (found := diary.find(text)) is not None:
        state = _state(diary, found.document)
        if state != found.document["state"]:
            return {**found.document, "state": state, "detail": "its process ended without a word"}
        return found.document
    return _traced(diary, settings, text)


def result(settings: Settings, text: str) -> TaskOutcome | None:
    """The outcome of a task of the lane whose output is kept; None for what is none of it.

    Raises `UsageError` for a run, and for a task of one: their outputs are where the run wrote
    them.
    """
    from deai.client.handle import TaskOutcome
    from deai.errors import UsageError

    if (document := show(settings, text)) is None:
        return None
    if "attempts" not in document:
        where = document.get("output") or "the output of its run"
        raise UsageError(
            f"the results of {document['task_id']} are in {where}",
            hint="`deai task show` tells what is known of it",
            code="bad_task_id",
        )
    data = None
    with suppress(OSError):
        data = Path(document["result"]["path"]).read_bytes()
    return TaskOutcome(document, data)


def render(console: Console, document: dict[str, Any]) -> None:
    """`task show` of a run, or of a task of one."""
    from deai.cli.render import marked, pairs, say, tokens

    say(console, f"{document['task_id']}   {marked(document['state'])}   {document['workload']}")
    say(console, document["detail"])
    say(console)
    tasks = f"{document['tasks']:,} ({document['failed']:,} failed)" if "tasks" in document else ""
    pairs(
        console,
        [
            ("Tasks", tasks),
            ("Paid", tokens(document["paid"]) if document.get("paid") else ""),
            ("Input", document.get("input") or ""),
            ("Output", document.get("output") or ""),
            ("Channel", document.get("channel_id") or ""),
            ("Begun", document.get("submitted_at") or ""),
            ("Ended", document.get("ended_at") or ""),
        ],
    )


def keep(settings: Settings, name: str, at: float, document: dict[str, Any]) -> None:
    """Write a task or run down; a disk that does not take it is no fault of the task's."""
    from deai.client.journal import JournalError
    from deai.client.lane.diary import Diary, Noted

    with suppress(JournalError):
        Diary(settings.home).write(Noted(name, at, document))


class Run:
    """One run of `task map` in the diary."""

    def __init__(self, settings: Settings, workload: str, source: str, output: str | None) -> None:
        from deai.client.documents import rfc3339

        self._settings = settings
        self._at = time.time()
        self._document: dict[str, Any] = {
            "task_id": f"map-{secrets.token_hex(8)}",
            "lane": "map",
            "workload": workload,
            "chain": settings.chain,
            "policy": _POLICY,
            "input": source,
            "output": output,
            "submitted_at": rfc3339(int(self._at)),
        }

    def keep(self, *, tasks: int, failed: int, paid: int, state: str, detail: str) -> None:
        """Write how far it is; blocks for as long as the disk takes."""
        from deai.client.documents import rfc3339

        ended = None if state == "in_progress" else rfc3339(int(time.time()))
        document = {
            **self._document, "state": state, "detail": detail, "tasks": tasks,
            "failed": failed, "paid": str(paid), "ended_at": ended,
        }  # fmt: skip
        keep(self._settings, document["task_id"], self._at, document)


def _state(diary: Any, document: dict[str, Any]) -> str:  # noqa: ANN401 - imported late
    state = str(document["state"])
    return "cancelled" if state == "in_progress" and not diary.is_in_use else state


def _traced(diary: Any, settings: Settings, text: str) -> dict[str, Any]:  # noqa: ANN401
    from deai.errors import UsageError

    named = _NAME.fullmatch(text)
    found = None
    if named is not None:
        epoch, index = int(named[2]), int(named[3])
        found = diary.trace(f"0x{named[1]}", epoch, index)
    if named is None or found is None:
        raise UsageError(
            f"no task or run {text} is known to this home",
            hint="`deai task list` shows those that are; runs and tasks before the last thousand "
            "are forgotten",
            code="bad_task_id",
        )
    kept = (
        "its place in a window that the node signed is kept"
        if found.is_kept
        else "its window is not signed yet, or was forgotten"
    )
    return {
        "task_id": text,
        "lane": "channel",
        "workload": "",
        "chain": settings.chain,
        "policy": _POLICY,
        "state": "completed",
        "detail": f"paid by voucher; {kept}; its output is where its run wrote it",
        "channel_id": found.channel,
        "epoch": epoch,
        "index": index,
        "receipt_kept": found.is_kept,
    }
