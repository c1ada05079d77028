"""Hands a finished task's output to a client that comes back for it later."""

from __future__ import annotations

from deai.chain.tasks_view import fold
from deai.errors import LedgerUnreachable
from deai.ids import TaskId
from deai.lifecycle import SeatState
from deai.messages import TaskMessage
from deai.net import Link
from node.services.sending import opened, send_output
from node.state import Node
from node.store.records import Saved


class Archive:
    """The journal's ended engagements, for as long as the operator keeps them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def deliver(self, link: Link[TaskMessage], task: TaskId) -> bool:
        """Send opening and output of an ended task to its client; False if we may not."""
        saved = await self._node.ports.journal.find(task)
        if saved is None or saved.result is None or saved.client_peer != link.peer_id:
            return False
        if not await self._may_hand_over(saved):
            return False
        await link.send(opened(saved.key, saved.result))
        blobs = self._node.ports.blobs
        is_here = saved.output is not None or saved.key.blob("output") in blobs
        if not saved.result.fault and is_here:
            await send_output(link, blobs, saved.key, saved.output)
        return True

    async def _may_hand_over(self, saved: Saved) -> bool:
        """An ended task's output may leave if the chain says that it was the result or paid."""
        assert saved.result is not None
        try:
            records = await self._node.ports.ledger.task_events(
                saved.key.task_id, since=saved.since
            )
        except LedgerUnreachable:
            return False
        view = fold(records)
        if view is None or not view.is_over:
            return False
        if view.result == saved.result.digest:
            return True
        return any(
            one.seat.node == self._node.ports.node and one.state is SeatState.PAID
            for one in view.attempts
        )
