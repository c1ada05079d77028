"""Serves signed orders of one chain: takes seats, hands work on, keeps what makes them money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog
import trio

from deai.chain.ledger import ORDERS_CONTRACT, Cursor
from deai.errors import LedgerUnreachable, NodeFault, PeerUnreachable
from deai.events import LedgerRecord, OrderSettled, OrderSkipped, ThawRequested
from deai.ids import AccountId, OrderId
from deai.order_messages import OrderMessage, Turned, order_dialect
from node.orders.book import OrderBook
from node.orders.links import Links
from node.orders.live import Live
from node.orders.records import TRANSITIONS, Held, OrderEvent, OrderState, ended
from node.orders.settling import Settling
from node.orders.taking import DAY
from node.orders.working import Working
from node.state import Node
from node.store.errors import StoreFull

logger = structlog.get_logger(__name__)

INPUT: Final = 30.0
"""Seconds for a client to bring the input, and longer the larger it is."""
SLOWEST: Final = 128 * 1024
"""Bytes a second that an input may take at least, however it comes."""
RETRY: Final = 2.0
MINDED: Final = 0.5
PRUNE_EVERY: Final = 300.0
REMEMBER_EVERY: Final = 100
"""Blocks after which the book notes how far it has seen."""
FREE_FAULTS: Final = 8
"""Bad tasks of one client that are looked at for nothing, within a day."""
MAX_FAULTY: Final = 1024

CRASH_POINTS: Final = (
    "order.taken",
    "order.computed",
    "order.signed",
    "order.secured",
    "order.settling",
    "order.settled",
    "order.ended",
)
"""Named moments at which a kill is tested."""


class Orders:
    """The orders of one chain at this node."""

    def __init__(self, node: Node, book: OrderBook) -> None:
        self.node = node
        self.book = book
        self.chain = node.info.name
        self.domain = node.info.orders
        self.live: dict[OrderId, Live] = {}
        self.working = Working(self)
        self.settling = Settling(self)
        self.links = Links(self)
        self._news: list[LedgerRecord] = []
        self._faults: Counter[AccountId] = Counter()
        self._faults_since = 0
        self._digesting = trio.Lock()
        self._nursery: trio.Nursery | None = None

    # --- what others ask ----------------------------------------------------------------------

    @property
    def load(self) -> int:
        """Orders that hold a slot."""
        return sum(one.needs_worker for one in self.live.values())

    @property
    def running(self) -> int:
        """Orders in a worker now."""
        return sum(one.started_at is not None for one in self.live.values())

    @property
    def is_busy(self) -> bool:
        """Whether something should end before the node leaves: work, and what it earned."""
        return any(
            one.held.state is OrderState.SECURED or (one.needs_worker and one.has_input)
            for one in self.live.values()
        )

    def of(self, client: AccountId) -> list[Held]:
        """A client's orders that are not over."""
        return [one.held for one in self.live.values() if one.held.order.client == client]

    def crash(self, point: str) -> None:
        """A named moment has passed."""
        self.node.ports.crash(point)

    def faulted(self, client: AccountId) -> None:
        """A task of this client was bad."""
        if client not in self._faults and len(self._faults) >= MAX_FAULTY:
            self._faults = Counter(dict(self._faults.most_common(MAX_FAULTY // 2)))
        self._faults[client] += 1

    def has_too_many_faults(self, client: AccountId) -> bool:
        """Whether nothing is computed for it any more, today."""
        return self._faults[client] >= FREE_FAULTS

    def begin(self, live: Live) -> None:
        """The input is here: compute."""
        assert self._nursery is not None
        self._nursery.start_soon(self.working.report, live)
        self._nursery.start_soon(self.working.work, live)

    def noticed(self, records: Iterable[LedgerRecord]) -> None:
        """Events of the chain; they are acted on a moment later, in their order."""
        self._news += [
            one
            for one in records
            if isinstance(one.event, OrderSettled | OrderSkipped | ThawRequested)
        ]

    async def tell(self, live: Live, message: OrderMessage) -> None:
        """Say something on every link of the order's client; who is gone asks again."""
        for link in list(live.links.values()):
            with suppress(PeerUnreachable):
                await link.send(message)

    async def discard(self, *names: str) -> None:
        """Remove blobs that nothing needs; what the disk keeps is found again at its price."""
        try:
            await self.node.ports.blobs.delete(*names)
        except (StoreFull, NodeFault) as error:
            self.node.daemon.disk_failed(error)

    async def keep(
        self, live: Live, step: Callable[[Held], Held], *, output: bytes | None = None
    ) -> bool:
        """Make a step durable, then take it; False if the order is over meanwhile.

        Raises `StoreFull` or `NodeFault`.
        """
        async with live.turn:
            if self.live.get(live.id) is not live:
                return False
            held = step(live.held)
            await self.book.put(self.chain, held, output)
            live.held = held
        return True

    async def mark(self, lives: Sequence[Live], batch: int) -> bool:
        """Write down in which transaction orders go together (0: none); False if none is left."""
        for live in lives:
            await self.keep(live, lambda held: msgspec.structs.replace(held, batch=batch))
        return any(self.live.get(one.id) is one for one in lives)

    async def digested(self) -> None:
        """Wait until everything that the chain said by now is acted on."""
        await self._digest()

    async def end(
        self, live: Live, event: OrderEvent, *, payment: int = 0, reason: str = ""
    ) -> None:  # fmt: skip
        """An order is over, unless it is so far meanwhile that this cannot happen to it any more.

        Where the disk fails it is over again after the next start.
        """
        node = self.node
        async with live.turn:
            # It may have been computed and signed since somebody gave it up.
            if self.live.get(live.id) is not live or event not in TRANSITIONS[live.held.state]:
                return
            held = ended(live.held, event, node.chain_time, payment=payment, reason=reason)
            del self.live[live.id]
            live.held = held
            try:
                if held.state is OrderState.DROPPED:
                    await self.book.drop(self.chain, live.id)
                else:
                    await self.book.put(self.chain, held)
            except (StoreFull, NodeFault) as error:
                node.daemon.disk_failed(error)
        live.computing.cancel()
        self.crash("order.ended")
        await self.discard(held.blob("input"))
        is_paid = held.state is OrderState.PAID
        node.counters["ended.paid" if is_paid else f"ended.order_{held.state}"] += 1
        node.counters["orders.settled"] += is_paid
        if held.was_in_vain:
            node.reason(
                f"order_{held.state}",
                f"work for {held.order.client} was not paid: {held.reason or held.state}",
                "the client gets no more than node.orders.exposure of it in a day",
            )
        logger.info(
            "order over", action="order_ended", order=live.id, state=str(held.state),
            payment=held.payment,
        )  # fmt: skip

    # --- the life of the service --------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        for held in await self.book.open(self.chain):
            live = Live(self.chain, held, trio.current_time())
            live.durable.set()
            self.live[live.id] = live
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._keep_up)
            dialect = order_dialect(self.chain)
            await nursery.start(self.node.ports.net.serve, dialect, self.links.serve)
            task_status.started()

    async def _keep_up(self) -> None:
        """First what happened while nobody here listened: only then is anything judged by time."""
        while True:
            try:
                await self._catch_up()
                break
            except LedgerUnreachable as error:
                logger.warning("orders wait for the chain", action="orders", reason=str(error))
            except (StoreFull, NodeFault) as error:
                self.node.daemon.disk_failed(error)
            await trio.sleep(RETRY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mind)
            nursery.start_soon(self.settling.run)
            nursery.start_soon(self._prune)

    async def _catch_up(self) -> None:
        """What the chain said since the book last remembered."""
        ledger, known = self.node.ports.ledger, await self.book.recall(self.chain, "seen")
        until = (await ledger.head()).number
        if not known:
            await self.book.remember(self.chain, "seen", str(until))
        if not self.live:
            return
        async with ledger.follow(Cursor(int(known or until), "")) as batches:
            async for batch in batches:
                self.noticed(batch.records)
                if batch.cursor.number >= until:
                    return

    async def _mind(self) -> None:
        """Twice a second: what the chain said, and what has run out of time."""
        remembered = 0
        while True:
            # Taken first: events of every block up to this time were noticed before it was set.
            now, head = self.node.chain_time, self.node.head
            await self._digest()
            for live in list(self.live.values()):
                await self._look(live, now)
            if now - self._faults_since >= DAY:
                self._faults.clear()
                self._faults_since = now
            if head is not None and head.number - remembered >= REMEMBER_EVERY:
                remembered = head.number
                with suppress(StoreFull, NodeFault):
                    await self.book.remember(self.chain, "seen", str(head.number))
            await trio.sleep(MINDED)

    async def _prune(self) -> None:
        """Forget orders that are over and old, but not before their day is counted."""
        node = self.node
        while True:
            kept = max(DAY, int(node.config.retention_hours * 3600))
            try:
                while gone := await self.book.prune(self.chain, node.chain_time - kept):
                    await node.ports.blobs.delete(*(one.blob("output") for one in gone))
                    await trio.sleep(RETRY)
            except (StoreFull, NodeFault) as error:
                node.daemon.disk_failed(error)
            await trio.sleep(PRUNE_EVERY)

    async def _digest(self) -> None:
        async with self._digesting:
            news, self._news = self._news, []
            for record in news:
                event = record.event
                if isinstance(event, OrderSettled):
                    await self._settled(event)
                elif isinstance(event, OrderSkipped) and event.order_id in self.live:
                    self.live[event.order_id].refused = event.reason
                elif isinstance(event, ThawRequested) and self.of(event.client):
                    self.settling.look_soon()

    async def _settled(self, event: OrderSettled) -> None:
        order = event.order
        live = self.live.get(event.order_id)
        if live is not None:
            paid = int(event.payments[live.held.seat])
            step = OrderEvent.PAYMENT if paid else OrderEvent.OMISSION
            await self.end(live, step, payment=paid)
            return
        for other in list(self.live.values()):
            known = other.held.order
            if (known.client, known.nonce) == (order.client, order.nonce):
                await self.end(other, OrderEvent.OTHER_ORDER, reason="its nonce was used twice")

    async def _look(self, live: Live, now: int) -> None:
        held, node = live.held, self.node
        if now > held.order.valid_until:
            reason = live.refused if held.state is OrderState.SECURED else ""
            await self.end(live, OrderEvent.EXPIRY, reason=reason)
        elif live.is_idle and trio.current_time() - live.since > _patience(held):
            node.daemon.holds.charge(held.client_peer, trio.current_time() - live.since)
            node.reason("input_late", f"no input came in {INPUT:.0f} s")
            await self.end(live, OrderEvent.FAILURE, reason="input_late")
            # Not here: who reads nothing would hold up what is minded for everybody else.
            assert self._nursery is not None
            late = Turned(live.id, "input_late", f"no input in {INPUT:.0f} s")
            self._nursery.start_soon(self.tell, live, late)


def _patience(held: Held) -> float:
    """Seconds for the whole input: what arrives again and again is no progress."""
    return INPUT + held.spec.input_bytes / SLOWEST


def is_offered(node: Node) -> bool:
    """Whether orders are taken on this chain: not every deployment has the contract."""
    return (
        node.config.orders.enabled
        and node.ports.orders is not None
        and ORDERS_CONTRACT in node.info.contracts
    )
