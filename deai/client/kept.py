"""Outcomes of finished tasks as this machine kept them."""

from __future__ import annotations

from pathlib import Path

from deai.client.handle import TaskOutcome
from deai.client.journal import Entry, Offload, in_a_thread


async def kept_outcome(entry: Entry | None, offload: Offload = in_a_thread) -> TaskOutcome | None:
    """The document and, if the file is still there, the output of a finished task."""
    if entry is None or entry.is_open or entry.document is None:
        return None
    data = None
    if entry.output:
        try:
            data = await offload(Path(entry.output).read_bytes)
        except OSError:
            data = None
    return TaskOutcome(entry.document, data)
