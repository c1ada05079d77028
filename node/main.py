"""Runs a node over its ports, on one chain or more: every service a child of one nursery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from deai.errors import ConfigError, DeaiError, LedgerUnreachable
from deai.ids import AccountId, ChainName, NodeId
from node.config import NodeConfig
from node.daemon import Branch, Daemon
from node.engagement import Engagement
from node.lane.book import LaneBook
from node.lane.lanes import Lanes, is_offered
from node.lane.service import keep_book
from node.orders import service as order_service
from node.orders.book import OrderBook
from node.ports import Ports
from node.services.announce import announce
from node.services.archive import Archive
from node.services.binding import BindingFile
from node.services.conversation import Conversation
from node.services.driver import Driver
from node.services.follower import Follower
from node.services.heartbeat import Heartbeat
from node.services.negotiation import Negotiator
from node.services.offers import Offers
from node.services.pool import PoolCare
from node.services.tally import Tally
from node.services.watch import Watch
from node.state import Node
from node.store.errors import AlreadyRunning
from node.store.journal import Journal

logger = structlog.get_logger(__name__)

RETRY: Final = 1.0
MEND: Final = 300.0
"""Seconds before a chain is tried again that something on this side keeps from being served: for
each try, the other instance of a node that has one takes no new work."""
RELEASE_TIME: Final = 10.0
"""Seconds for giving seats back after the time for draining is over."""


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """One chain for a daemon: who the node is there, and how it gets in."""

    chain: ChainName
    node_id: NodeId
    operator: AccountId
    journal: Journal
    open: Callable[[], AbstractAsyncContextManager[Ports]]
    """Entering raises `LedgerUnreachable`, or `ConfigError` for what waiting does not mend."""


async def run(
    config: NodeConfig,
    ports: Ports,
    *,
    speeds: Mapping[str, int] | None = None,
    task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As `run_chains`, on the one chain whose ports are open."""
    entrance = Entrance(
        chain=ports.ledger.info.name,
        node_id=ports.node,
        operator=ports.signer.account,
        journal=ports.journal,
        open=lambda: nullcontext(ports),
    )
    await run_chains(
        config, (entrance,), wall=ports.wall, speeds=speeds, book=ports.book,
        orders=ports.orders, task_status=task_status,
    )  # fmt: skip


async def run_chains(
    config: NodeConfig,
    entrances: Sequence[Entrance],
    *,
    wall: Callable[[], float] = time.time,
    speeds: Mapping[str, int] | None = None,
    binding: Path | None = None,
    book: LaneBook | None = None,
    orders: OrderBook | None = None,
    task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until `Daemon.stop` is set and the work is done, or until cancelled.

    `task_status` is given the live daemon once every chain was tried and one takes work. A chain
    that does not answer, or on which another process beats with the same key, is tried again and
    keeps the other one from nothing; raises `ConfigError` (`AlreadyRunning`) when there is no
    chain that waiting could bring up. `binding` is where the file stands that says the
    registrations are one node, if there is one. `book` is kept while the daemon runs.
    """
    branches = tuple(
        Branch(chain=one.chain, node_id=one.node_id, operator=one.operator, journal=one.journal)
        for one in entrances
    )
    daemon = Daemon(
        wall=wall,
        config=config,
        branches=branches,
        speeds=dict(speeds or {}),
        started_at=wall(),
        book=book,
        orders=orders,
    )
    async with trio.open_nursery() as minding:
        minding.start_soon(_tell, daemon, task_status)
        minding.start_soon(_stop_the_joining, daemon)
        if book is not None:
            await minding.start(keep_book, daemon, book)
        if binding is not None:
            file = BindingFile(daemon, binding)
            file.look()  # before any hub is spoken to
            minding.start_soon(file.run)
        async with trio.open_nursery() as nursery:
            for branch, entrance in zip(branches, entrances, strict=True):
                nursery.start_soon(_keep, daemon, branch, entrance)
        minding.cancel_scope.cancel()


async def _tell(daemon: Daemon, task_status: trio.TaskStatus[Daemon]) -> None:
    await daemon.up.wait()
    for branch in daemon.branches:
        await branch.settled.wait()
    task_status.started(daemon)


async def _stop_the_joining(daemon: Daemon) -> None:
    """A chain that takes no work yet has nothing to finish."""
    await daemon.stop.wait()
    for branch in daemon.branches:
        if not branch.is_ready:
            branch.scope.cancel()


async def _keep(daemon: Daemon, branch: Branch, entrance: Entrance) -> None:
    """Serve one chain until the daemon leaves, however often it has to be tried."""
    with branch.scope:
        while (error := await _serve(daemon, branch, entrance)) is not None:
            if branch.failed(error, daemon.wall()):
                logger.warning(
                    "chain not served", action="start", chain=branch.chain, reason=str(error)
                )
            if all(one.is_hopeless for one in daemon.branches):
                raise error
            await trio.sleep(MEND if branch.is_hopeless else RETRY)


async def _serve(daemon: Daemon, branch: Branch, entrance: Entrance) -> DeaiError | None:
    """Serve one chain; what keeps it from that, None once the daemon leaves."""
    try:
        async with entrance.open() as ports:
            # Returned, not raised: what passes a nursery comes out in a group.
            return await _serve_over(daemon, branch, ports)
    except (LedgerUnreachable, ConfigError) as error:
        return error


async def _serve_over(daemon: Daemon, branch: Branch, ports: Ports) -> DeaiError | None:
    try:
        node = Node(
            wall=ports.wall,
            daemon=daemon,
            ports=ports,
            info=ports.ledger.info,
            parameters=await ports.ledger.parameters(),
            instance=ports.entropy(8),
        )
        follower = Follower(node)
        await _recall(node)
        tally = Tally(node)
        await tally.recall()
        await follower.begin()
    except LedgerUnreachable as error:
        return error
    conversation = Conversation(node, Negotiator(node), Archive(node))
    if is_offered(node):
        assert ports.book is not None
        node.lanes = Lanes(node, ports.book)
    if order_service.is_offered(node):
        assert ports.orders is not None
        node.orders = order_service.Orders(node, ports.orders)
    heartbeat, driver = Heartbeat(node), Driver(node, conversation)
    # What was promised goes on at once after a restart, but not beside a twin that was heard: it
    # may have the same tasks.
    is_wary = branch.is_hopeless
    async with trio.open_nursery() as nursery:
        branch.node, branch.trouble, branch.is_hopeless = node, None, False
        nursery.start_soon(follower.run)
        nursery.start_soon(tally.run)
        if not is_wary:
            await nursery.start(driver.run)
        await nursery.start(conversation.run)
        await nursery.start(Offers(node).run)
        await nursery.start(heartbeat.run)
        await nursery.start(Watch(node).run)
        has_twin = await heartbeat.listen_for_twin()
        if not has_twin:
            # Not before: a second copy must not move the first one's address on chain.
            nursery.start_soon(announce, node)
            nursery.start_soon(PoolCare(node).run)
            if node.lanes is not None:
                await nursery.start(node.lanes.run)
            if node.orders is not None:
                await nursery.start(node.orders.run)
            if is_wary:
                await nursery.start(driver.run)
            await _work(daemon, branch, node)
            await tally.keep()
            await conversation.goodbye("the node leaves")
        nursery.cancel_scope.cancel()
    if not has_twin:
        return None
    return AlreadyRunning(
        "another process beats with this node's key",
        hint="stop it first: two signers of one key lose the stake",
        code="another_instance",
    )


async def _work(daemon: Daemon, branch: Branch, node: Node) -> None:
    node.is_ready = True
    branch.settled.set()
    daemon.up.set()
    logger.info("node takes work", action="ready", node=node.ports.node)
    await daemon.stop.wait()
    await _drain(node)


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
    logger.info("draining", action="drain", node=node.ports.node, tasks=len(node.engagements))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_at_once, node, nursery.cancel_scope)
        with trio.move_on_after(node.config.patience.drain):
            while node.engagements or any(
                one is not None and one.is_busy for one in (node.lanes, node.orders)
            ):
                await trio.sleep(0.1)
        node.is_stopping = True
        node.wake_all()
        with trio.move_on_after(RELEASE_TIME):
            while any(one.result is None for one in node.engagements.values()):
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


async def _leave_at_once(node: Node, scope: trio.CancelScope) -> None:
    await node.daemon.stop_now.wait()
    scope.cancel()
