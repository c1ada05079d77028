"""Tasks of one client that wait for a worker, in the order in which they were asked for. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from deai.errors import ProtocolError
from deai.lane.messages import Work
from node.lane.account import MAX_BATCH_BYTES, Agreement

MAX_QUEUED: Final = 1024
"""Tasks of one channel that wait; more break the protocol, and so do more bytes."""
MAX_QUEUED_BYTES: Final = 4 << 20


@dataclass(eq=False, slots=True)
class _Group:
    """Tasks of one agreement that were asked for one behind the other."""

    agreement: Agreement
    ids: list[int]
    inputs: list[bytes]
    at: int = 0
    """Those before it were taken."""

    def take(self, most: int) -> tuple[list[int], list[bytes], int]:
        """At most so many tasks, and at most the bytes of a batch; the bytes they have."""
        end, size = self.at, 0
        while end < len(self.ids) and end - self.at < most:
            size += len(self.inputs[end])
            if size > MAX_BATCH_BYTES and end > self.at:
                size -= len(self.inputs[end])
                break
            end += 1
        ids, inputs = self.ids[self.at : end], self.inputs[self.at : end]
        self.at = end
        return ids, inputs, size


class Queue:
    """All of them."""

    def __init__(self) -> None:
        self._groups: deque[_Group] = deque()
        self._bytes = 0
        self.tasks = 0
        """How many wait."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def first(self) -> Agreement:
        """Under which the first was asked for; there is one."""
        return self._groups[0].agreement

    def add(self, agreement: Agreement, work: Work) -> None:
        """Tasks behind the others; raise `ProtocolError` for more than may wait."""
        self.tasks += len(work.ids)
        self._bytes += sum(map(len, work.inputs))
        if self.tasks > MAX_QUEUED or self._bytes > MAX_QUEUED_BYTES:
            raise ProtocolError("more work than the node said it takes", code="too_much_work")
        last = self._groups[-1] if self._groups else None
        if last is not None and last.agreement is agreement and not last.at:
            last.ids += work.ids
            last.inputs += work.inputs
        else:
            self._groups.append(_Group(agreement, list(work.ids), list(work.inputs)))

    def take(self, most: int) -> tuple[list[int], list[bytes]]:
        """At most so many of the first agreement, in a batch."""
        group = self._groups[0]
        ids, inputs, size = group.take(most)
        if group.at == len(group.ids):
            self._groups.popleft()
        self.tasks -= len(ids)
        self._bytes -= size
        return ids, inputs
