"""What the services of a node on one chain share: engagements, problems, reasons, counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from deai.chain.ledger import ChainInfo, Head, NodeRecord, Parameters
from deai.ids import AccountId, TaskId, owner_of
from deai.offers import Signed
from deai.pools import PoolRecord
from deai.ports import WorkloadInfo
from node.config import NodeConfig
from node.daemon import Daemon, Mode
from node.engagement import Engagement
from node.notices import Notices
from node.ports import Ports

if TYPE_CHECKING:
    from node.lane.lanes import Lanes
    from node.orders.service import Orders

MAX_REASONS: Final = 64
TALLIED: Final = ("proposals", "accepted", "ended.paid")
"""Counters that outlive a process."""


@dataclass(slots=True)
class Reason:
    """Why work did not come or was not done; `since` and `last` are Unix seconds."""

    code: str
    message: str
    hint: str
    since: float
    last: float
    count: int = 1


@dataclass(eq=False, kw_only=True)
class Node(Notices):
    """The live state on one chain; problems of this chain."""

    daemon: Daemon
    ports: Ports
    info: ChainInfo
    parameters: Parameters
    instance: bytes
    is_ready: bool = False
    """No other instance was heard: it takes work."""
    record: NodeRecord | None = None
    head: Head | None = None
    chain_time: int = 0
    """Time of the newest block whose events are applied."""
    head_at: float = float("-inf")
    """Local time at which the head last moved."""
    offer: Signed | None = None
    offer_changed: trio.Event = field(default_factory=trio.Event)
    engagements: dict[TaskId, Engagement] = field(default_factory=dict)
    reasons: dict[str, Reason] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    earlier: Counter[str] = field(default_factory=Counter)
    """What earlier lives of this node counted."""
    hubs: dict[str, float] = field(default_factory=dict)
    """Peer id of a hub → Unix time at which it last confirmed a beat."""
    lanes: Lanes | None = None
    """The fast lane, where it is served."""
    orders: Orders | None = None
    """Signed orders, where they are taken."""
    pool: PoolRecord | None = None
    """Of the node, if it takes delegations, as it was read last."""
    pool_income: int = 0
    """What waits to be shared out there, in base units."""
    gas_price: int = 0
    """Of the last transaction whose price is known, in the chain's smallest unit."""
    is_stopping: bool = False
    """The daemon leaves without waiting."""
    engage: Callable[[Engagement], None] = lambda _engagement: None
    """Start the driver of an engagement; set by the service that drives them."""

    @property
    def config(self) -> NodeConfig:
        """What the operator decided, for all chains."""
        return self.daemon.config

    @property
    def mode(self) -> Mode:
        """What this node does about new work on this chain."""
        if self.daemon.stop.is_set():
            return Mode.DRAINING
        if not self.is_ready:
            return Mode.JOINING
        return Mode.PAUSED if self.daemon.is_paused else Mode.RUNNING

    @property
    def record_owner(self) -> AccountId:
        """Who is paid for this node's work."""
        return owner_of(self.ports.node)

    @property
    def running(self) -> int:
        """Tasks in a worker now."""
        orders = self.orders.running if self.orders is not None else 0
        return orders + sum(one.started_at is not None for one in self.engagements.values())

    @property
    def load(self) -> int:
        """Seats that still need a worker: accepted, assigned or computing; of orders, too."""
        orders = self.orders.load if self.orders is not None else 0
        seats = self.engagements.values()
        return orders + sum(one.result is None and one.gave_up is None for one in seats)

    def offered(self) -> tuple[WorkloadInfo, ...]:
        """What this node takes: installed, wanted by the operator, its model on this machine.

        `models` of each holds names and digests alike: specs name digests, people names.
        """
        wanted, models = self.config.workloads, self.ports.models
        found = []
        for info in self.ports.workbench.catalogue.list():
            here = [name for name in info.models if name in models]
            if (wanted and info.id not in wanted) or (info.models and not here):
                continue
            both = (*here, *(models[name] for name in here))
            found.append(msgspec.structs.replace(info, models=both))
        return tuple(found)

    def reason(self, code: str, message: str, hint: str = "") -> None:
        """Count why a task was not taken or not finished."""
        now = self.wall()
        known = self.reasons.get(code)
        if known is not None:
            known.count, known.last = known.count + 1, now
            known.message, known.hint = message, hint
        elif len(self.reasons) < MAX_REASONS:
            self.reasons[code] = Reason(code, message, hint, now, now)
        self.counters[f"reason.{code}"] += 1

    def tallied(self, name: str) -> int:
        """One of `TALLIED`, of all lives."""
        return self.counters[name] + self.earlier[name]

    def wake_all(self) -> None:
        """Make every driver look again."""
        for engagement in self.engagements.values():
            engagement.changed()
