"""Keeps the lane's database written while the daemon runs, and forgets what is old."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from deai.errors import NodeFault
from node.daemon import Daemon
from node.lane.book import LaneBook

logger = structlog.get_logger(__name__)

FORGET_EVERY: Final = 60.0
LOOK_EVERY: Final = 1.0
FAILED: Final = "lane_store"
HELD_UP: Final = "lane_store_full"


async def keep_book(
    daemon: Daemon,
    book: LaneBook,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until cancelled. A disk that fails ends the lane, not the node."""
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(book.run)
            task_status.started()
            nursery.start_soon(_forget, daemon, book)
            nursery.start_soon(_watch, daemon, book)
    except* NodeFault as group:
        error = group.exceptions[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, NodeFault)
        logger.error(  # noqa: TRY400 - the disk's doing, not the program's
            "the lane stops", action="lane_store", reason=str(error)
        )
        daemon.problem(FAILED, str(error), error.hint)


async def _forget(daemon: Daemon, book: LaneBook) -> None:
    while True:
        await trio.sleep(FORGET_EVERY)
        if not book.writer.problem:
            book.forget(int(daemon.wall() - daemon.config.lane.keep_hours * 3600))


async def _watch(daemon: Daemon, book: LaneBook) -> None:
    while True:
        await trio.sleep(LOOK_EVERY)
        if book.writer.problem:
            daemon.problem(
                HELD_UP, f"no voucher is taken: {book.writer.problem}", "the node goes on by itself"
            )
        else:
            daemon.solved(HELD_UP)
