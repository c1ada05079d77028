"""Receipts: what blocks carry between accounts, and what becomes of each."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec

from devnet.near.actions import Action, attached_gas, deposits, execution_gas
from devnet.near.keys import SYSTEM
from devnet.near.rules import GAS_PRICE

HELD_BACK: Final = 0.25  # chance that a shuffled receipt waits for another block


class ActionReceipt(msgspec.Struct, frozen=True, tag=True):
    """Actions on their way to ``receiver``.

    ``inputs`` are the data it waits for, ``outputs`` (data id, receiver) who waits for its value.
    ``transaction`` is the id of the transaction it stems from. From ``system`` it is a refund,
    ``refunds_gas`` if also the signer's allowance gets it back.
    """

    id: str
    transaction: str
    predecessor: str
    receiver: str
    signer: str
    signer_key: str
    actions: tuple[Action, ...]
    inputs: tuple[bytes, ...] = ()
    outputs: tuple[tuple[bytes, str], ...] = ()
    refund_to: str | None = None
    refunds_gas: bool = False

    @property
    def is_refund(self) -> bool:
        """Say whether it gives back what was not used."""
        return self.predecessor == SYSTEM

    @property
    def bought_gas(self) -> int:
        """Gas that was paid for with the receipt."""
        if self.is_refund:
            return 0
        return execution_gas(self.actions, self.receiver) + attached_gas(self.actions)

    @property
    def worth(self) -> int:
        """All money in it: deposits and gas, in yoctoNEAR."""
        return deposits(self.actions) + self.bought_gas * GAS_PRICE


class DataReceipt(msgspec.Struct, frozen=True, tag=True):
    """The value of a promise on its way to who waits for it; None: the promise failed."""

    data_id: bytes
    transaction: str
    predecessor: str
    receiver: str
    data: bytes | None


Receipt = ActionReceipt | DataReceipt


class Outcome(msgspec.Struct, frozen=True):
    """What became of a transaction or a receipt; ``status`` in nearcore's form."""

    id: str
    executor: str
    status: dict[str, object]
    logs: tuple[str, ...]
    receipt_ids: tuple[str, ...]
    gas_burnt: int
    tokens_burnt: int


class Ready(msgspec.Struct, frozen=True):
    """A receipt that can run, and the data it waited for."""

    receipt: ActionReceipt
    results: tuple[bytes | None, ...]


@dataclass
class Pending:
    """Receipts that have not run: due in the next block, or waiting for data."""

    due: deque[Receipt] = field(default_factory=deque)
    postponed: dict[str, ActionReceipt] = field(default_factory=dict)
    received: dict[bytes, bytes | None] = field(default_factory=dict)
    _waiting: dict[bytes, str] = field(default_factory=dict)

    def restore(self, postponed: Iterable[ActionReceipt]) -> None:
        """Put back receipts that waited when the chain stopped."""
        for receipt in postponed:
            self._postpone(receipt)

    def arrive(self, receipt: Receipt) -> Ready | None:
        """Take a receipt in; returns what can run because of it."""
        if isinstance(receipt, DataReceipt):
            self.received[receipt.data_id] = receipt.data
            waiting = self._waiting.pop(receipt.data_id, None)
            found = None if waiting is None else self.postponed[waiting]
        else:
            found = receipt
        if found is None:
            return None
        if any(data_id not in self.received for data_id in found.inputs):
            self._postpone(found)
            return None
        self.postponed.pop(found.id, None)
        return Ready(found, tuple(self.received.pop(data_id) for data_id in found.inputs))

    def _postpone(self, receipt: ActionReceipt) -> None:
        self.postponed[receipt.id] = receipt
        for data_id in receipt.inputs:
            if data_id not in self.received:
                self._waiting[data_id] = receipt.id

    def actions(self) -> Iterator[ActionReceipt]:
        """Yield every receipt with actions."""
        yield from (one for one in self.due if isinstance(one, ActionReceipt))
        yield from self.postponed.values()

    def copy(self) -> "Pending":
        """Return one that later changes to this one do not change."""
        return Pending(
            deque(self.due), dict(self.postponed), dict(self.received), dict(self._waiting)
        )


def shuffled(due: Sequence[Receipt], chance: Random) -> tuple[list[Receipt], list[Receipt]]:
    """Return receipts in an order that several shards could have given them, and who is held back.

    Between one sender and one receiver order is kept, as NEAR keeps it; nothing else is.
    """
    lines: dict[tuple[str, str], deque[Receipt]] = {}
    for receipt in due:
        lines.setdefault((receipt.predecessor, receipt.receiver), deque()).append(receipt)
    order: list[Receipt] = []
    held: list[Receipt] = []
    pairs = list(lines)
    while pairs:
        at = chance.randrange(len(pairs))
        line = lines[pairs[at]]
        if chance.random() < HELD_BACK:
            held.extend(line)
            line.clear()
        else:
            order.append(line.popleft())
        if not line:
            pairs[at] = pairs[-1]
            pairs.pop()
    return order, held
