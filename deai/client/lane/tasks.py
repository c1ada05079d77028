"""Tasks that wait for a node, and how many of them each node is given. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from deai.client.matching import ask_of
from deai.errors import DeaiError
from deai.ids import NodeId
from deai.offers import WorkloadOffer

if TYPE_CHECKING:
    import trio

    from deai.client.lane.agreements import Agreement

MAX_TRIES: Final = 3
"""Nodes, or lives of one, that may fail a task before the task has failed."""
_EXACT_UNITS: Final = 8


class Task:
    """One task from the caller's hand to its output or error; `done` is called once, or is None.

    `agreement` and `index` tell by whom and in which place of the receipts it was done.
    """

    __slots__ = (
        "agreement", "data", "done", "error", "excluded", "failure", "index", "kind", "output",
        "tries", "waiter",
    )  # fmt: skip

    def __init__(self, data: bytes, kind: Kind | None, done: Callable[[Task], None] | None) -> None:
        self.data = data
        self.kind = kind
        self.done = done
        self.output: bytes | None = None
        self.error: DeaiError | None = None
        self.failure: DeaiError | None = None
        """Why the last node that tried has not done it."""
        self.tries = 0
        self.excluded: set[NodeId] | None = None
        self.agreement: Agreement | None = None
        self.index = -1
        self.waiter: trio.lowlevel.Task | None = None

    def fail(self, error: DeaiError) -> None:
        """It has no output."""
        done, self.done = self.done, None
        if done is not None:
            self.error = error
            done(self)


class Kind:
    """Tasks that differ in their inputs alone, as they wait for whichever node has a place."""

    def __init__(
        self, *, workload: str, version: int, model: str, parameters: bytes, units: int,
        max_fee: int, offers: Mapping[NodeId, WorkloadOffer],
    ) -> None:  # fmt: skip
        """Every input costs `units` at most; `offers` says who computes it and at what price."""
        self.workload = workload
        self.version = version
        self.model = model
        self.parameters = parameters
        self.units = units
        self.max_fee = max_fee
        self.lost: DeaiError | None = None
        """Why nobody computes them; None while somebody may."""
        self._offers = offers
        self._queue: deque[Task] = deque()
        self._again: list[Task] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue) + len(self._again)

    def price(self, node: NodeId) -> int | None:
        """What a node asks for one, in base units; None if it does not compute them."""
        offer = self._offers.get(node)
        return ask_of(offer, self.units) if offer is not None else None

    def has_for(self, node: NodeId) -> bool:
        """Whether one waits that this node has not failed."""
        return bool(self._queue) or any(not _is_excluded(task, node) for task in self._again)

    def put(self, task: Task) -> None:
        """A new one."""
        self._queue.append(task)

    def put_again(self, task: Task) -> None:
        """One that a node failed; it comes before the others."""
        self._again.append(task)

    def take(self, node: NodeId, count: int, room: int) -> list[Task]:
        """At most `count` for a node, with inputs of at most `room` bytes together."""
        taken: list[Task] = []
        if self._again:
            kept: list[Task] = []
            for task in self._again:
                if task.done is None:
                    continue
                if len(taken) >= count or len(task.data) > room or _is_excluded(task, node):
                    kept.append(task)
                else:
                    room -= len(task.data)
                    taken.append(task)
            self._again = kept
        queue = self._queue
        while queue and len(taken) < count:
            task = queue[0]
            if task.done is not None:
                room -= len(task.data)
                if room < 0:
                    break
                taken.append(task)
            queue.popleft()
        return taken

    def drain(self) -> list[Task]:
        """Everything that waits, which then waits no more."""
        found = [*self._again, *self._queue]
        self._again.clear()
        self._queue.clear()
        return found

    def drain_unservable(self, nodes: set[NodeId]) -> list[Task]:
        """Those that failed before and may go to none of `nodes`."""
        lost = [task for task in self._again if nodes <= (task.excluded or set())]
        if lost:
            self._again = [task for task in self._again if task not in lost]
        return lost


def fair_share(waiting: int, mine: int, others: list[int]) -> int:
    """How many waiting tasks a node takes so that all with places have equally many in hand.

    `mine` and `others` are what each has in hand already.
    """
    each = -(-(waiting + mine + sum(others)) // (1 + len(others)))
    return max(0, min(waiting, each - mine))


def rounded_units(units: int) -> int:
    """`units`, above eight rounded up to two binary digits behind the first (a quarter at most).

    Terms name the units that a price covers; so a stream of unequal inputs needs few of them.
    """
    if units <= _EXACT_UNITS:
        return units
    step = 1 << (units.bit_length() - 3)
    return -(-units // step) * step


def _is_excluded(task: Task, node: NodeId) -> bool:
    return task.excluded is not None and node in task.excluded
