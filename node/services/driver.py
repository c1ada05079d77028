"""Drives each engagement: asks the planner what is due, has it done, looks again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, assert_never

import structlog
import trio

from deai.errors import (
    LedgerRejected,
    LimitExceeded,
    NodeFault,
    PeerUnreachable,
    Unreachable,
)
from node.engagement import Engagement
from node.planner import Action, End, Execute, GiveUp, Judge, Submit, Tell, plan
from node.services.checks import is_committee_final
from node.services.conversation import Conversation
from node.services.delivery import Delivery
from node.services.execution import Execution
from node.services.settlement import Settlement
from node.state import Node
from node.store.errors import StoreFull

logger = structlog.get_logger(__name__)

PACE: Final = 0.25
"""Seconds between two looks when nothing changes."""
REST: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds that an action rests after its first, second … failure."""
SETTLE: Final = 10.0
"""Seconds for a final transaction to show in the events before it may be sent again."""
ASK_AGAIN: Final = 5.0
"""Seconds between two words to a member that has not answered."""


class Driver:
    """One child per engagement."""

    def __init__(self, node: Node, conversation: Conversation) -> None:
        self._node = node
        self._conversation = conversation
        self._execution = Execution(node)
        self._settlement = Settlement(node)
        self._failures: dict[tuple[Engagement, Action], int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive whatever `Node.engage` hands over, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._node.engage = lambda engagement: nursery.start_soon(self._drive, engagement)
            for engagement in list(self._node.engagements.values()):
                self._node.engage(engagement)
            task_status.started()
            await trio.sleep_forever()

    async def _drive(self, engagement: Engagement) -> None:
        node = self._node
        log = logger.bind(task_id=engagement.task_id, seat=engagement.key.seat)
        async with trio.open_nursery() as nursery:
            delivery = Delivery(node, self._conversation, nursery)
            while True:
                was_seated = engagement.seated_at
                view = engagement.view(
                    node.ports.node,
                    node.ports.signer.account,
                    now=node.chain_time,
                    clock=trio.current_time(),
                    patience=node.config.patience,
                    is_stopping=node.is_stopping,
                )
                if engagement.seated_at and not was_seated:
                    node.daemon.holds.forgive(engagement.asked_by)
                if engagement.early and is_committee_final(engagement, node.chain_time):
                    await self._guard(engagement, log)
                    continue
                match plan(view):
                    case None:
                        await engagement.wait(PACE)
                    case End() as end:
                        if await self._end(engagement, end, log):
                            break
                        await engagement.wait(REST[-1])
                    case GiveUp(code, reason):
                        engagement.gave_up = (code, reason)
                        node.reason(code, reason)
                    case action:
                        engagement.held[action] = float("inf")
                        if delivery.is_quick(engagement, action):
                            await self._carry_out(engagement, action, delivery, log)
                        else:
                            nursery.start_soon(self._carry_out, engagement, action, delivery, log)
            nursery.cancel_scope.cancel()

    async def _guard(self, engagement: Engagement, log: structlog.stdlib.BoundLogger) -> None:
        try:
            await self._conversation.take_early(engagement)
        except (StoreFull, NodeFault) as error:
            self._node.daemon.disk_failed(error)
            log.warning("journal failed", action="take_opening", reason=str(error))
            await engagement.wait(REST[0])

    async def _carry_out(
        self,
        engagement: Engagement,
        action: Action,
        delivery: Delivery,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        rest = 0.0
        try:
            match action:
                case Execute():
                    await self._execution.execute(engagement)
                case Judge():
                    await self._execution.judge(engagement)
                case Tell():
                    await delivery.tell(engagement, action)
                    rest = ASK_AGAIN if action.to is not None else 0.0
                case Submit(verb):
                    await self._settlement.submit(engagement, verb)
                    log.info("transaction final", action=verb)
                    rest = SETTLE
                case GiveUp() | End():
                    return
                case _:
                    assert_never(action)
            self._failures.pop((engagement, action), None)
        except StoreFull as error:
            self._node.daemon.disk_failed(error)
            rest = self._rest(engagement, action)
        except (Unreachable, LedgerRejected, LimitExceeded, NodeFault) as error:
            rest = self._rest(engagement, action)
            if isinstance(error, PeerUnreachable):
                self._node.counters["peer_unreachable"] += 1
            else:
                log.info("will try again", action=str(action), reason=str(error), rest_s=rest)
        finally:
            if rest:
                engagement.held[action] = trio.current_time() + rest
            else:
                engagement.held.pop(action, None)
            engagement.changed()

    def _rest(self, engagement: Engagement, action: Action) -> float:
        count = self._failures.get((engagement, action), 0)
        self._failures[engagement, action] = count + 1
        return REST[min(count, len(REST) - 1)]

    async def _end(
        self, engagement: Engagement, end: End, log: structlog.stdlib.BoundLogger
    ) -> bool:
        """Close the file; False if the disk would not have it."""
        node, key = self._node, engagement.key
        at = node.chain_time
        code, reason = engagement.gave_up or ("", "")
        keeps_output = end.outcome in ("paid", "forfeited", "silent")
        try:
            await node.ports.journal.ended(
                key,
                at=at,
                day=datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d"),
                outcome=end.outcome,
                payment=end.payment,
                reason=f"{code}: {reason}" if code else "",
                keep_output=keeps_output,
            )
        except (StoreFull, NodeFault) as error:
            node.daemon.disk_failed(error)
            return False
        node.ports.crash("ended.journalled")
        keep = {key.blob("output")} if keeps_output else set()
        names = {key.blob("input"), key.blob("output")}
        names |= {key.blob("output", seat) for seat in engagement.incoming}
        try:
            await node.ports.blobs.delete(*(names - keep))
        except NodeFault as error:
            log.warning("blob not removed", action="prune", reason=str(error))
        if node.engagements.get(key.task_id) is engagement:
            del node.engagements[key.task_id]
        self._failures = {
            pair: count for pair, count in self._failures.items() if pair[0] is not engagement
        }
        if end.outcome == "unassigned":
            node.daemon.holds.charge(engagement.asked_by, engagement.idle(at))
        node.counters[f"ended.{end.outcome}"] += 1
        if end.outcome != "unassigned":
            log.info("task ended", action="ended", outcome=end.outcome, payment=str(end.payment))
        return True
