"""What was agreed with one node: terms under small numbers, and tasks in messages under them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from deai.channels import Channel
from deai.client.lane.tasks import Kind
from deai.ids import AccountId, NodeId
from deai.lane.messages import MAX_MESSAGE_BYTES, MAX_TASKS, LaneMessage, Work
from deai.lane.payer import Payer
from deai.lane.receipts import Terms, terms_hash
from deai.money import Amount

MAX_ASKS: Final = 256
"""Agreements on one link, at most; a node keeps no more."""
_NUMBERS: Final = 1 << 16


@dataclass(eq=False)
class Agreement:
    """Terms under which this node is asked for tasks of a kind."""

    number: int
    kind: Kind
    terms: Terms
    hash: bytes
    price: int
    channel: Channel
    operator: AccountId
    """Who signs the windows of its tasks."""
    is_agreed: bool = False

    @property
    def node(self) -> NodeId:
        """Whose they are."""
        return self.channel.node


class Agreements:
    """Those of the present link, and of earlier ones while tasks under them are outstanding."""

    def __init__(self) -> None:
        self._by_kind: dict[Kind, Agreement] = {}
        self._by_number: dict[int, Agreement] = {}
        self._asked = 0
        self._next = 0

    def __iter__(self) -> Iterator[Agreement]:
        return iter(self._by_kind.values())

    @property
    def are_settled(self) -> bool:
        """Whether the node has answered for all of them."""
        return all(one.is_agreed for one in self._by_kind.values())

    @property
    def is_full(self) -> bool:
        """Whether the node takes no more of them on this link."""
        return self._asked >= MAX_ASKS

    def of(self, kind: Kind) -> Agreement | None:
        """What was asked or agreed for a kind of tasks."""
        return self._by_kind.get(kind)

    def numbered(self, number: int) -> Agreement | None:
        """What a number stands for."""
        return self._by_number.get(number)

    def add(self, kind: Kind, payer: Payer, operator: AccountId, price: int) -> Agreement:
        """New ones, to be asked for."""
        while self._next in self._by_number:
            self._next = (self._next + 1) % _NUMBERS
        terms = Terms(
            channel=payer.id,
            epoch=payer.epoch,
            workload=kind.workload,
            version=kind.version,
            model=kind.model,
            parameters=kind.parameters,
            max_units=kind.units,
            price=Amount(price),
        )
        made = Agreement(
            self._next, kind, terms, terms_hash(terms), price, payer.channel, operator
        )  # fmt: skip
        self._by_kind[kind] = self._by_number[self._next] = made
        self._next = (self._next + 1) % _NUMBERS
        self._asked += 1
        return made

    def drop(self, agreement: Agreement) -> None:
        """The node refused."""
        del self._by_kind[agreement.kind]

    def begin_link(self, outstanding: Iterable[Agreement]) -> list[Agreement]:
        """Only those of outstanding tasks are left, to be asked for again.

        Others are agreed anew, under a number of their own, when there are tasks for them.
        """
        left = list(dict.fromkeys(outstanding))
        self._by_kind = {one.kind: one for one in left}
        self._by_number = {one.number: one for one in left}
        self._asked = len(left)
        for one in left:
            one.is_agreed = False
        return left


def packed(terms: int, ids: list[int], inputs: list[bytes]) -> list[LaneMessage]:
    """Tasks of one agreement in messages of at most `MAX_TASKS` and `MAX_MESSAGE_BYTES`."""
    messages: list[LaneMessage] = []
    start, size = 0, 0
    for at, data in enumerate(inputs):
        if at > start and (at - start >= MAX_TASKS or size + len(data) > MAX_MESSAGE_BYTES):
            messages.append(Work(terms, ids[start:at], inputs[start:at]))
            start, size = at, 0
        size += len(data)
    if ids:
        messages.append(Work(terms, ids[start:], inputs[start:]))
    return messages
