"""What the chains of one daemon share: its slots, the operator's orders, and who is up.

A daemon has a branch for each chain it is registered on. A branch whose chain does not answer
keeps nobody else from working; what a machine can do at once, and what the operator wants, is
said once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import trio

from deai.binding import SignedBinding
from deai.errors import ConfigError, DeaiError, LimitExceeded, NodeFault
from deai.ids import AccountId, ChainName, NodeId, PeerId
from node.config import NodeConfig
from node.holds import Holds
from node.notices import Notices, Problem
from node.store.journal import Journal

if TYPE_CHECKING:
    from node.engagement import Engagement
    from node.lane.book import LaneBook
    from node.orders.book import OrderBook
    from node.state import Node

MAX_OPEN_PER_PEER: Final = 64
"""Accepts that one peer may hold unassigned at most, however many slots there are."""


class Mode(StrEnum):
    """What the node does about new work; the word is also that of its heartbeats."""

    JOINING = "joining"  # starting: listening for another instance, registering the beat
    RUNNING = "running"
    PAUSED = "paused"  # the operator said so
    DRAINING = "draining"  # finishing what it has, then leaving


@dataclass(eq=False, kw_only=True)
class Branch:
    """One chain of a daemon, whether it answers or not."""

    chain: ChainName
    node_id: NodeId
    operator: AccountId
    journal: Journal
    """This chain's part."""
    node: Node | None = None
    """The live state, from when the chain is read."""
    trouble: Problem | None = None
    """Why there is none."""
    is_hopeless: bool = False
    """Waiting does not mend it: something on this side is wrong."""
    settled: trio.Event = field(default_factory=trio.Event)
    """It takes work, or failed to come so far once."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of everything it does: cancelled when the daemon leaves before it takes work."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes work, as far as this chain is concerned."""
        return self.node is not None and self.node.is_ready

    def failed(self, error: DeaiError, at: float) -> bool:
        """Note why the chain is not served, since when (Unix seconds); whether it is news."""
        known = self.trouble
        is_news = known is None or known.code != error.reason_code
        since = at if known is None or is_news else known.since
        self.trouble = Problem(error.reason_code, str(error), error.hint, since)
        self.is_hopeless = isinstance(error, ConfigError)
        self.node = None
        self.settled.set()
        return is_news


@dataclass(eq=False, kw_only=True)
class Daemon(Notices):
    """One process with one home, one peer id and one pool of workers; problems of the machine."""

    config: NodeConfig
    branches: tuple[Branch, ...]
    speeds: dict[str, int] = field(default_factory=dict)
    """Measured thousandths of a unit per second, by workload."""
    started_at: float = 0.0
    book: LaneBook | None = None
    """The accounts of channels, of all chains."""
    orders: OrderBook | None = None
    """The signed orders, of all chains."""
    binding: SignedBinding | None = None
    """What both owners signed: that the registrations are one node; for hubs to know."""
    is_held: bool = False
    """The operator wants no new work, for good or until `held_until` (Unix seconds)."""
    held_until: float | None = None
    up: trio.Event = field(default_factory=trio.Event)
    """Set once the first chain is served."""
    stop: trio.Event = field(default_factory=trio.Event)
    """Set to drain and leave."""
    stop_now: trio.Event = field(default_factory=trio.Event)
    """Set to leave without draining."""
    holds: Holds = field(init=False)
    """What peers owe for accepts that they did not use."""

    def __post_init__(self) -> None:
        self.holds = Holds(
            lambda: self.wall(),
            slots=self.share,
            accept_seconds=self.config.accept_seconds,
        )

    @property
    def share(self) -> int:
        """Accepts that one peer may hold without having assigned them."""
        return max(1, min(MAX_OPEN_PER_PEER, self.config.capacity + self.config.queue))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The state on each chain that answers."""
        return tuple(one.node for one in self.branches if one.node is not None)

    @property
    def mode(self) -> Mode:
        """Of the whole daemon."""
        if self.stop.is_set():
            return Mode.DRAINING
        if not any(branch.is_ready for branch in self.branches):
            return Mode.JOINING
        return Mode.PAUSED if self.is_paused else Mode.RUNNING

    @property
    def is_paused(self) -> bool:
        """Whether the operator wants no new work now."""
        return self.is_held and (self.held_until is None or self.wall() < self.held_until)

    def pause(self, seconds: float = 0.0) -> None:
        """Take no new work for so long, 0 for until `resume`."""
        self.is_held = True
        self.held_until = self.wall() + seconds if seconds else None

    def resume(self) -> None:
        """Take work again."""
        self.is_held, self.held_until = False, None

    @property
    def running(self) -> int:
        """Tasks in a worker now, of all chains."""
        return sum(node.running for node in self.nodes)

    @property
    def load(self) -> int:
        """Seats that still need a worker, of all chains: there is one pool for them."""
        return sum(node.load for node in self.nodes)

    def held_by(self, peer: PeerId) -> int:
        """Accepts that a peer holds without having assigned them, on whichever chain."""
        return sum(1 for _ in self._waiting_for(peer))

    def owed_by(self, peer: PeerId) -> float:
        """Seconds for which a peer's accepts waited for nothing, those that still wait included."""
        waiting = sum(one.idle(node.chain_time) for node, one in self._waiting_for(peer))
        return self.holds.owed(peer) + waiting

    def _waiting_for(self, peer: PeerId) -> Iterator[tuple[Node, Engagement]]:
        for node in self.nodes:
            for one in node.engagements.values():
                if one.asked_by == peer and one.chain is None:
                    yield node, one

    def disk_failed(self, error: LimitExceeded | NodeFault) -> None:
        """The journal or the blobs took no more: a problem until there is room again."""
        self.problem("disk_full", str(error), error.hint)
