"""Runs a node over its ports: every service a child of one nursery, each ready before the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio

from deai.chain.ledger import Parameters
from deai.errors import LedgerUnreachable
from node.config import NodeConfig
from node.engagement import Engagement
from node.ports import Ports
from node.services.announce import announce
from node.services.archive import Archive
from node.services.conversation import Conversation
from node.services.driver import Driver
from node.services.follower import Follower
from node.services.heartbeat import Heartbeat
from node.services.negotiation import Negotiator
from node.services.offers import Offers
from node.services.watch import Watch
from node.state import Mode, Node

logger = structlog.get_logger(__name__)

RETRY: Final = 1.0
RELEASE_TIME: Final = 10.0
"""Seconds for giving seats back after the time for draining is over."""


async def run(
    config: NodeConfig,
    ports: Ports,
    *,
    speeds: Mapping[str, int] | None = None,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until `Node.stop` is set and the work is done, or until cancelled.

    `task_status` is given the live node once it takes work. Raises `AlreadyRunning` when
    another process beats with the same key.
    """
    node = Node(
        config=config,
        ports=ports,
        info=ports.ledger.info,
        parameters=await _parameters(ports),
        instance=ports.entropy(8),
        started_at=ports.wall(),
        speeds=dict(speeds or {}),
    )
    await _recall(node)
    conversation = Conversation(node, Negotiator(node), Archive(node))
    heartbeat = Heartbeat(node)
    async with trio.open_nursery() as nursery:
        await nursery.start(Follower(node).run)
        await nursery.start(Driver(node, conversation).run)
        await nursery.start(conversation.run)
        await nursery.start(Offers(node).run)
        await nursery.start(heartbeat.run)
        await nursery.start(Watch(node).run)
        await heartbeat.listen_for_twin()
        # Not before: a second copy must not move the first one's address on chain.
        nursery.start_soon(announce, node)
        if node.mode is Mode.JOINING:
            node.mode = Mode.RUNNING
        logger.info("node takes work", action="ready", node=ports.node)
        task_status.started(node)
        await node.stop.wait()
        await _drain(node)
        await conversation.goodbye("the node leaves")
        nursery.cancel_scope.cancel()


async def _parameters(ports: Ports) -> Parameters:
    while True:
        try:
            return await ports.ledger.parameters()
        except LedgerUnreachable as error:
            logger.warning("waiting for the chain", action="start", reason=str(error))
            await trio.sleep(RETRY)


async def _recall(node: Node) -> None:
    """Take up every open engagement where the journal says it stands."""
    for saved in await node.ports.journal.open_engagements():
        engagement = Engagement.of(saved)
        engagement.is_durable.set()
        engagement.has_input &= (
            saved.input is not None or saved.key.blob("input") in node.ports.blobs
        )
        engagement.outputs = {
            seat
            for seat in range(saved.task.seats)
            if seat != saved.key.seat and saved.key.blob("output", seat) in node.ports.blobs
        }
        other = node.engagements.get(engagement.task_id)
        if other is None or other.accepted_at <= engagement.accepted_at:
            node.engagements[engagement.task_id] = engagement


async def _drain(node: Node) -> None:
    """Finish what is under way, within bounds; give back what cannot be finished."""
    node.mode = Mode.DRAINING
    logger.info("draining", action="drain", tasks=len(node.engagements))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_at_once, node, nursery.cancel_scope)
        with trio.move_on_after(node.config.patience.drain):
            while node.engagements:
                await trio.sleep(0.1)
        node.is_stopping = True
        node.wake_all()
        with trio.move_on_after(RELEASE_TIME):
            while any(one.result is None for one in node.engagements.values()):
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


async def _leave_at_once(node: Node, scope: trio.CancelScope) -> None:
    await node.stop_now.wait()
    scope.cancel()
