"""Says what the node runs at what price: a signed offer, renewed before it expires."""

from __future__ import annotations

import os
from typing import Final

import psutil
import trio

from deai import __version__
from deai.money import Amount
from deai.offers import Hardware, Offer, WorkloadOffer, sign_offer
from deai.ports import WorkloadInfo
from node.state import Node

UNMEASURED: Final = 0
"""Claimed until `deai node bench` has measured: unknown, so clients leave room."""


class Offers:
    """Keeps `Node.offer` fresh."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sequence = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew at half of an offer's life, until cancelled."""
        started = False
        while True:
            self.renew()
            if not started:
                task_status.started()
                started = True
            await trio.sleep(self._node.config.offer_seconds / 2)

    def renew(self) -> None:
        """Sign a new offer now."""
        node = self._node
        self._sequence = max(self._sequence + 1, node.chain_time)
        offered = tuple(self._workload(info) for info in node.offered())
        offer = Offer(
            node=node.ports.node,
            peer_id=node.ports.net.peer_id,
            addresses=node.ports.net.addresses[:16],
            version=__version__,
            sequence=self._sequence,
            issued_at=node.chain_time,
            expires_at=node.chain_time + node.config.offer_seconds,
            capacity=node.config.capacity,
            sandbox=node.ports.workbench.sandbox.level,
            hardware=hardware(),
            workloads=offered[:32],
        )
        node.offer = sign_offer(offer, node.info.registry, node.ports.signer)
        node.offer_changed.set()
        node.offer_changed = trio.Event()

    def _workload(self, info: WorkloadInfo) -> WorkloadOffer:
        price = self._node.config.price(info.id)
        return WorkloadOffer(
            workload=info.id,
            version=info.version,
            models=info.models[:32],
            policies=info.policies[:8],
            base_fee=Amount(max(price.base, self._node.parameters.min_fee)),
            unit_fee=price.unit,
            milliunits_per_second=self._node.daemon.speeds.get(info.id, UNMEASURED),
        )


def hardware() -> Hardware:
    """What this process may use of the machine."""
    return Hardware(
        device="cpu",
        cores=len(os.sched_getaffinity(0)),
        memory_mib=psutil.virtual_memory().total >> 20,
    )
