"""Turns signed orders into money: many in a transaction, and what was earned to the owner.

Which orders go together is on disk before the transaction is sent, so that a node that is killed
shows the chain the same again. Sent twice it pays once: an order has one bit on chain. Whether an
order was settled, by us or by another seat, its events say; nothing is noted before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
import trio

from deai.actions import CollectEarnings, SettleOrders, intent_key
from deai.errors import Declined, InsufficientFunds, LedgerRejected, NodeFault, Unreachable
from deai.ids import AccountId
from node.daemon import Mode
from node.orders.live import Live
from node.orders.policy import BATCH, Circumstances, due
from node.orders.records import OVERDRAWN, OrderState
from node.store.errors import StoreFull

if TYPE_CHECKING:
    from node.orders.service import Orders

logger = structlog.get_logger(__name__)

EVERY: Final = 2.0
LOOK_EVERY: Final = 60.0
"""Seconds between two looks at balances, and at what was earned."""
SEEN_WITHIN: Final = 20.0
"""Seconds for the events of a transaction of ours to come."""
PAUSES: Final = (5.0, 30.0, 300.0)
"""After one failure, two, and more."""
READERS: Final = 8
"""Questions to the chain at once before orders are shown."""
MAX_LOOKED_AT: Final = 64
"""Clients whose balance is read in one look."""
NOTHING: Final = "NothingSettled"
"""The contract's word for a batch of which it settles none."""
ALREADY: Final = "AlreadySettled"
_PROBLEM: Final = "settle_failed"


class Settling:
    """The policy of one chain, carried out."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._node = orders.node
        self._wake = trio.Event()
        self._failures = 0
        self._short: dict[AccountId, int] = {}
        self._looked_at = float("-inf")
        self._batches = 0
        self._most = BATCH

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    def look_soon(self) -> None:
        """A client that we hold something of has asked for its money."""
        self._looked_at = float("-inf")
        self._wake.set()

    async def run(self) -> None:
        """Settle what is due until cancelled."""
        self._batches = max((o.held.batch for o in self._orders.live.values()), default=0)
        while True:
            self._wake = trio.Event()
            try:
                await self._round()
            except (StoreFull, NodeFault) as error:
                self._node.daemon.disk_failed(error)
                self._failures += 1
            if self._failures:
                await trio.sleep(PAUSES[min(self._failures, len(PAUSES)) - 1])
                continue
            with trio.move_on_after(EVERY):
                await self._wake.wait()

    async def _round(self) -> None:
        node, orders = self._node, self._orders
        if trio.current_time() - self._looked_at >= LOOK_EVERY:
            self._looked_at = trio.current_time()
            await self._look_at_balances()
            await self._collect()
        begun = [one for one in orders.live.values() if one.held.batch]
        if begun:
            first = min(one.held.batch for one in begun)
            await self._show([one for one in begun if one.held.batch == first])
            return
        now = trio.current_time()
        waiting = {one.id: one for one in orders.live.values() if one.not_before <= now}
        seen = Circumstances(
            now=node.chain_time,
            gas_price=node.gas_price,
            is_draining=node.mode is Mode.DRAINING,
            short=self._short,
        )
        chosen, why = due((o.held for o in waiting.values()), node.config.orders, seen)
        if chosen:
            logger.info("orders are due", action="settle", orders=len(chosen), why=why)
            found = [live for one in chosen if (live := orders.live.get(one.id)) is not None]
            await self._begin(found[: self._most])

    async def _begin(self, lives: Sequence[Live]) -> None:
        """Leave out what would not be settled, and write down what goes together."""
        orders, chosen = self._orders, list[Live]()
        try:
            pages, left = await self._asked(lives)
        except Unreachable as error:
            self._failed(error)
            return
        for live in lives:
            order = live.held.order
            if pages[order.client, order.page] & order.bit:
                self._aside(live)  # its event says for whom
            elif order.cost > left[order.client]:
                # It would be skipped, at our expense, in every transaction until its end.
                live.refused = OVERDRAWN
                self._aside(live)
            else:
                left[order.client] -= order.cost
                chosen.append(live)
        self._batches += 1
        if await orders.mark(chosen, self._batches):
            await self._show(chosen)

    async def _asked(
        self, lives: Sequence[Live]
    ) -> tuple[dict[tuple[AccountId, int], int], dict[AccountId, int]]:
        """The words that hold their bits, and what their clients have; raises `Unreachable`."""
        ledger, limit = self._node.ports.ledger, trio.CapacityLimiter(READERS)
        pages, left, failed = dict[tuple[AccountId, int], int](), dict[AccountId, int](), []

        async def read(client: AccountId, page: int | None) -> None:
            try:
                async with limit:
                    if page is None:
                        left[client] = int((await ledger.order_balance(client)).balance)
                    else:
                        pages[client, page] = await ledger.order_page(client, page)
            except Unreachable as error:
                failed.append(error)

        wanted = [one.held.order for one in lives]
        async with trio.open_nursery() as nursery:
            for client, page in {(one.client, one.page) for one in wanted}:
                nursery.start_soon(read, client, page)
            for client in {one.client for one in wanted}:
                nursery.start_soon(read, client, None)
        if failed:
            raise failed[0]
        return pages, left

    async def _show(self, lives: Sequence[Live]) -> None:
        """One transaction for these, the same ones again until the chain has answered."""
        node, orders = self._node, self._orders
        shown = [one for one in lives if one.held.state is OrderState.SECURED][:BATCH]
        if not shown:
            return
        orders.crash("order.settling")
        action = SettleOrders(tuple(one.held.settlement() for one in shown))
        key = f"{intent_key(action)}#{shown[0].held.batch}"
        try:
            done = await node.ports.ledger.submit(action, key=key)
        except (Unreachable, Declined) as error:
            if isinstance(error, LedgerRejected) and not isinstance(error, InsufficientFunds):
                await self._refused(shown, error)
            else:
                self._failed(error)
            return
        self._failures, self._most = 0, min(BATCH, 2 * self._most)
        node.solved(_PROBLEM)
        node.gas_price = done.gas_price or node.gas_price
        node.counters["submitted.settle_orders"] += 1
        orders.crash("order.settled")
        with trio.move_on_after(SEEN_WITHIN):
            while node.head is None or node.head.number < done.block:
                await trio.sleep(0.1)
            await orders.digested()
        # Whatever the chain settled has ended by now; the rest it skipped.
        await self._put_aside([one for one in shown if orders.live.get(one.id) is one])

    async def _refused(self, shown: Sequence[Live], error: LedgerRejected) -> None:
        """Nothing of it settled. Of several the others are shown again at once.

        The contract gives its reason for the first of them only. Another error is about the
        transaction as a whole, which may be larger than the chain takes: many seats, or many
        owners that never earned before. Half of it may do then.
        """
        is_first = error.name == NOTHING
        reason = str(error.arguments.get("reason") or error.name)
        if reason != ALREADY:
            message = f"orders are not settled: {reason}"
            self._node.problem(_PROBLEM, message, error.hint)
            logger.warning("orders not settled", action="settle", reason=reason)
        if is_first or len(shown) == 1:
            shown[0].refused = reason
            self._aside(shown[0])
        else:
            self._most = max(1, len(shown) // 2)
        await self._orders.mark(shown, 0)

    async def _put_aside(self, lives: Sequence[Live]) -> None:
        """They are shown again later, perhaps together with others."""
        for live in lives:
            self._aside(live)
        await self._orders.mark(lives, 0)

    def _aside(self, live: Live) -> None:
        live.tries += 1
        live.not_before = trio.current_time() + PAUSES[min(live.tries, len(PAUSES)) - 1]

    def _failed(self, error: Unreachable | Declined) -> None:
        self._failures += 1
        self._node.problem(_PROBLEM, f"orders are not settled: {error}", error.hint)
        logger.warning("orders not settled", action="settle", reason=str(error))

    async def _look_at_balances(self) -> None:
        """Whose balance, less what thaws, barely covers what we hold: others hold of it, too."""
        held: dict[AccountId, int] = {}
        for live in self._orders.live.values():
            # What it did not cover when we would have settled is no reason to hurry any more.
            if live.held.state is OrderState.SECURED and live.refused != OVERDRAWN:
                order = live.held.order
                held[order.client] = held.get(order.client, 0) + order.cost
        node, short = self._node, dict[AccountId, int]()
        for client in sorted(held, key=held.__getitem__, reverse=True)[:MAX_LOOKED_AT]:
            with suppress(Unreachable):
                balance = await node.ports.ledger.order_balance(client)
                if balance.free < 2 * held[client]:
                    short[client] = self._short.get(client, node.chain_time)
        self._short = short

    async def _collect(self) -> None:
        """Send the owner what was earned, once it is worth a transaction."""
        node, orders = self._node, self._orders
        owner = node.record_owner
        try:
            waiting = await node.ports.ledger.order_earnings(owner)
            least = node.config.orders.collected
            if not waiting.earned or waiting.earned < least:
                return
            number = int(await orders.book.recall(orders.chain, "collections") or 0)
            action = CollectEarnings(owner)
            with suppress(LedgerRejected):  # somebody else has sent it
                await node.ports.ledger.submit(action, key=f"{intent_key(action)}#{number}")
                node.counters["submitted.collect"] += 1
            await orders.book.remember(orders.chain, "collections", str(number + 1))
        except (Unreachable, Declined) as error:
            logger.warning("earnings not collected", action="collect", reason=str(error))
