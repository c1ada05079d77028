"""One order while the daemon lives: the book's word, the input on its way, and its links."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from deai.ids import ChainName, OrderId
from deai.net import Link
from deai.order_messages import OrderMessage
from node.orders.records import Held, OrderState
from node.store.blobs import BlobReceiver, SmallReceiver


@dataclass(eq=False)
class Live:
    """An order that is not over."""

    chain: ChainName
    held: Held
    since: float
    """Local time at which this process took it, or found it in the book."""
    durable: trio.Event = field(default_factory=trio.Event)
    """The book has it, or it was given up."""
    turn: trio.Lock = field(default_factory=trio.Lock)
    """Steps follow each other, on disk as here."""
    links: dict[int, Link[OrderMessage]] = field(default_factory=dict)
    input: SmallReceiver | BlobReceiver | None = None
    small_input: bytes | None = None
    has_input: bool = False
    started_at: float | None = None
    computing: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Cancelled with the order's end: nobody pays for what goes on."""
    done: float = 0.0
    refused: str = ""
    """Why the chain skipped it last."""
    tries: int = 0
    """How often it was shown to the chain in vain."""
    not_before: float = 0.0
    """Local time before which it is not shown again."""

    @property
    def id(self) -> OrderId:
        """Its id."""
        return OrderId(self.held.id)

    @property
    def is_idle(self) -> bool:
        """Whether it holds a slot and its client has not sent the input."""
        return self.held.state is OrderState.TAKEN and not self.has_input

    @property
    def needs_worker(self) -> bool:
        """Whether it holds a slot."""
        return self.held.state is OrderState.TAKEN
