"""Everything a node uses of the world, in one value: the seam for tests and for misbehaviour.

A behaviour is `wrap(ports) -> ports`: what a liar wants to do differently (compute, talk, sign,
send transactions) goes through a port, and the honest node contains no dishonest line.
"""

from __future__ import annotations

import importlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from deai.chain.ledger import Ledger
from deai.errors import ConfigError
from deai.ids import NodeId
from deai.net import Net, PeerAddress
from deai.ports import Workbench
from deai.signing import Signer
from node.lane.book import LaneBook
from node.orders.book import OrderBook
from node.store.blobs import BlobStore
from node.store.journal import Journal

CRASH_POINTS: Final = (
    "accept.signed",
    "accept.journalled",
    "assigned.journalled",
    "input.written",
    "input.journalled",
    "result.computed",
    "result.written",
    "result.journalled",
    "commit.told",
    "commit.submitting",
    "commit.submitted",
    "opening.told",
    "opened.journalled",
    "output.told",
    "approval.journalled",
    "approval.told",
    "reveal.submitted",
    "approve.submitted",
    "finalise.submitted",
    "ended.journalled",
)
"""Named moments at which a kill is tested: nothing is lost or said twice, whichever it hits."""


def _go_on(_point: str) -> None:
    """The crash hook of a node that is not being tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a node is given."""

    node: NodeId
    journal: Journal
    blobs: BlobStore
    ledger: Ledger
    """Sends from the operator's account."""
    net: Net
    workbench: Workbench
    signer: Signer
    """The operator key: accepts, results, commitments, approvals, offers, beats."""
    book: LaneBook | None = None
    """The accounts of channels; without one the fast lane is not served."""
    orders: OrderBook | None = None
    """The signed orders; without one none are taken."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Name → manifest digest of the models on this machine."""
    hubs: tuple[PeerAddress, ...] = ()
    """Who collects heartbeats."""
    wall: Callable[[], float] = time.time
    """Unix seconds; only compared with chain time and written into beats."""
    entropy: Callable[[int], bytes] = secrets.token_bytes
    """Unpredictable bytes: salts and the instance id."""
    crash: Callable[[str], None] = field(default=_go_on)
    """Called with each of `CRASH_POINTS` as it is passed."""


Behaviour: TypeAlias = Callable[[Ports], Ports]


def load_behaviour(name: str) -> Behaviour:
    """The callable behind `module:callable`; raise `ConfigError` if there is none."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"no behaviour {name!r}", hint="write it as module:callable", code="bad_behaviour"
        ) from error
    if not callable(found):
        raise ConfigError(f"behaviour {name!r} cannot be called", code="bad_behaviour")
    wrap: Behaviour = found
    return wrap
