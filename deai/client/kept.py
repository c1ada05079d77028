"""Outcomes of finished tasks and orders as this machine kept them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deai.client.handle import TaskOutcome
from deai.client.journal import Entry, Offload, in_a_thread


async def kept_outcome(entry: Entry | None, offload: Offload = in_a_thread) -> TaskOutcome | None:
    """The document and, if the file is still there, the output of a finished task."""
    if entry is None or entry.is_open or entry.document is None:
        return None
    return await read_outcome(entry.document, entry.output, offload)


async def read_outcome(
    document: dict[str, Any], output: str, offload: Offload = in_a_thread
) -> TaskOutcome:
    """This document and, if the file that was noted is still there, the output."""
    data = None
    if output:
        try:
            data = await offload(Path(output).read_bytes)
        except OSError:
            data = None
    return TaskOutcome(document, data)
