"""Results on their way to a client and, until they are paid, for another way. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deai.lane.messages import MAX_MESSAGE_BYTES, MAX_TASKS, Results


@dataclass(slots=True)
class Parcel:
    """Results of one agreement that follow each other from the receipt index `first` on."""

    terms: int
    first: int
    ids: list[int]
    outputs: list[bytes]

    @property
    def end(self) -> int:
        """The index behind the last."""
        return self.first + len(self.ids)

    def since(self, index: int) -> Parcel:
        """What of it is at `index` or later."""
        gone = min(max(0, index - self.first), len(self.ids))
        if not gone:
            return self
        return Parcel(self.terms, self.first + gone, self.ids[gone:], self.outputs[gone:])


class Shelf:
    """Results that are not paid, in order; kept to be sent again after a lost link."""

    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()
        self.bytes = 0

    def add(self, parcel: Parcel) -> None:
        """Keep what was just made."""
        self._parcels.append(parcel)
        self.bytes += sum(map(len, parcel.outputs))

    def drop_before(self, index: int) -> None:
        """These are paid."""
        while self._parcels and self._parcels[0].first < index:
            parcel = self._parcels.popleft()
            rest = parcel.since(index)
            self.bytes -= sum(map(len, parcel.outputs[: len(parcel.ids) - len(rest.ids)]))
            if rest.ids:
                self._parcels.appendleft(rest)

    def drop_from(self, index: int) -> None:
        """Nobody knows these any more."""
        while self._parcels and self._parcels[-1].end > index:
            parcel = self._parcels.pop()
            kept = max(0, index - parcel.first)
            self.bytes -= sum(map(len, parcel.outputs[kept:]))
            if kept:
                short = Parcel(parcel.terms, parcel.first, parcel.ids[:kept], parcel.outputs[:kept])
                self._parcels.append(short)

    def since(self, index: int) -> list[Parcel]:
        """What is to be sent again to a client that has everything before `index`."""
        return [rest for one in self._parcels if (rest := one.since(index)).ids]


def as_messages(parcels: Iterable[Parcel]) -> Iterator[Results]:
    """Parcels in the order in which they are given, in as few messages as the bounds allow."""
    ids: list[int] = []
    outputs: list[bytes] = []
    terms, first, size = -1, 0, 0
    for parcel in parcels:
        if ids and (parcel.terms != terms or parcel.first != first + len(ids)):
            yield Results(terms, first, ids, outputs)
            ids, outputs = [], []
        for id_, output in zip(parcel.ids, parcel.outputs, strict=True):
            if ids and (len(ids) == MAX_TASKS or size + len(output) > MAX_MESSAGE_BYTES):
                yield Results(terms, first, ids, outputs)
                terms, first, size = parcel.terms, first + len(ids), 0
                ids, outputs = [], []
            elif not ids:
                terms, size = parcel.terms, 0
                first = parcel.first
            ids.append(id_)
            outputs.append(output)
            size += len(output)
    if ids:
        yield Results(terms, first, ids, outputs)
