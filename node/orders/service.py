"""Serves signed orders of one chain: takes seats, hands work on, keeps what makes them money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog
import trio

from deai.chain.ledger import ORDERS_CONTRACT, Cursor, NodeRecord
from deai.errors import (
    BadSignature,
    LedgerUnreachable,
    MalformedMessage,
    NodeFault,
    PeerUnreachable,
)
from deai.events import LedgerRecord, OrderSettled, OrderSkipped, ThawRequested
from deai.ids import AccountId, NodeId, OrderId, PeerId
from deai.messages import BlobChunk, BlobHeader, Goodbye
from deai.net import Link
from deai.order_messages import (
    Abandon,
    Fetch,
    OrderMessage,
    Place,
    Secured,
    ShowQuorum,
    SignedResult,
    Taken,
    Turned,
    order_dialect,
)
from deai.orders import PAYABLE, OrderBalance, order_id, result_digest
from deai.signing import verify
from node.orders.book import OrderBook, Record
from node.orders.judging import Refusal, Situation, Standing, judge, judge_standing
from node.orders.live import Live
from node.orders.records import (
    Held,
    OrderEvent,
    OrderState,
    ended,
    with_results,
)
from node.orders.sending import send_output
from node.orders.settling import Settling
from node.orders.working import Working
from node.state import Node
from node.store.errors import StoreFull

logger = structlog.get_logger(__name__)

CHAIN: Final = 10.0
"""Seconds for the chain to tell of a client."""
INPUT: Final = 30.0
"""Seconds for a client to bring the input, or to go on bringing it."""
RETRY: Final = 2.0
MINDED: Final = 0.5
PRUNE_EVERY: Final = 300.0
REMEMBER_EVERY: Final = 100
"""Blocks after which the book notes how far it has seen."""
READERS: Final = 8
MAX_OPEN: Final = 10_000
"""Orders kept that are not over."""
MAX_LINKS_OF_ORDER: Final = 4
RECORD_SECONDS: Final = 60.0
MAX_RECORDS: Final = 512
DAY: Final = 24 * 3600
FREE_FAULTS: Final = 8
"""Bad tasks of one client that are looked at for nothing, within a day."""
MAX_FAULTY: Final = 1024
_ILLS: Final = ("disk_full", "another_instance", "chain_silent")

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
        self.leaving: set[AccountId] = set()
        """Clients that asked for their money back."""
        self._working = Working(self)
        self.settling = Settling(self)
        self._news: list[LedgerRecord] = []
        self._locks: dict[AccountId, trio.Lock] = {}
        self._readers = trio.CapacityLimiter(READERS)
        self._faults: Counter[AccountId] = Counter()
        self._faults_since = 0
        self._records: dict[NodeId, tuple[float, NodeRecord | None]] = {}
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
        if len(self._faults) < MAX_FAULTY:
            self._faults[client] += 1

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
        """An order is over; where the disk fails it is over again after the next start."""
        node = self.node
        async with live.turn:
            if self.live.get(live.id) is not live:
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
        self.crash("order.ended")
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
            await nursery.start(self.node.ports.net.serve, dialect, self._serve)
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
        for client in {one.held.order.client for one in self.live.values()}:
            if (await ledger.order_balance(client)).thaws_at:
                self.leaving.add(client)
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
                gone = await self.book.prune(self.chain, node.chain_time - kept)
                await node.ports.blobs.delete(*(one.blob("output") for one in gone))
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
                elif isinstance(event, ThawRequested):
                    if event.amount and self.of(event.client):
                        self.leaving.add(event.client)
                        self.settling.wake()
                    else:
                        self.leaving.discard(event.client)

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
        elif live.is_idle and trio.current_time() - live.since > INPUT:
            node.daemon.holds.charge(held.client_peer, trio.current_time() - live.since)
            node.reason("input_late", f"no input came in {INPUT:.0f} s")
            await self.tell(live, Turned(live.id, "input_late", f"no input in {INPUT:.0f} s"))
            await node.ports.blobs.delete(held.blob("input"))
            await self.end(live, OrderEvent.FAILURE, reason="input_late")

    # --- links --------------------------------------------------------------------------------

    async def _serve(self, link: Link[OrderMessage]) -> None:
        """The life of one link. A client's bad message ends its link only."""
        shown: set[OrderId] = set()
        try:
            while True:
                message = await link.receive()
                if isinstance(message, Goodbye):
                    return
                try:
                    await self._answer(link, message, shown)
                except (StoreFull, NodeFault) as error:
                    self.node.daemon.disk_failed(error)
                    named = _named(message)
                    if named is not None:
                        await link.send(Turned(named, "disk_full", "nothing can be kept now"))
        finally:
            for live in self.live.values():
                live.links.pop(id(link), None)

    async def _answer(
        self, link: Link[OrderMessage], message: OrderMessage, shown: set[OrderId]
    ) -> None:
        if isinstance(message, Place):
            await self._place(link, message, shown)
            return
        id_ = _named(message)
        if id_ is None:
            raise MalformedMessage(f"a {type(message).__name__} is nothing to tell a node")
        if id_ not in shown:
            await link.send(Turned(id_, "unknown_order", "place it on this link first"))
            return
        live = self.live.get(id_)
        match message:
            case BlobHeader() | BlobChunk():
                if live is not None:
                    await self._take_in(link, live, message)
            case Abandon():
                if live is not None and live.is_idle and live.input is None:
                    await self.end(live, OrderEvent.FAILURE)
            case ShowQuorum():
                await self._shown(link, live, message)
            case Fetch():
                await self._fetch(link, live, id_)
            case _:
                raise MalformedMessage(f"a {type(message).__name__} is nothing to tell a node")

    async def _place(self, link: Link[OrderMessage], place: Place, shown: set[OrderId]) -> None:
        id_ = order_id(place.order, self.domain)
        self.node.counters["proposals"] += 1
        held = await self._known(id_)
        if held is None:
            refusal = await self._take(id_, place, link.peer_id)
            if refusal is not None:
                self.node.reason(refusal.code, refusal.reason, refusal.hint)
                await link.send(Turned(id_, refusal.code, refusal.reason[:512]))
                return
        elif held.spec != place.spec:
            # Ids and signatures can be read on chain; the spec's salt only its client knows.
            await link.send(Turned(id_, "bad_spec", "another spec than before"))
            return
        shown.add(id_)
        live = self.live.get(id_)
        if live is not None and len(live.links) < MAX_LINKS_OF_ORDER:
            live.links[id(link)] = link
        await link.send(Taken(id_))
        held = live.held if live is not None else held
        if held is not None and held.digest is not None:
            await self._repeat(link, held)

    async def _known(self, id_: OrderId) -> Held | None:
        live = self.live.get(id_)
        if live is not None:
            await live.durable.wait()
            return live.held if self.live.get(id_) is live else None
        return await self.book.find(self.chain, id_)

    async def _repeat(self, link: Link[OrderMessage], held: Held) -> None:
        own = held.results[held.seat]
        assert own is not None
        assert held.digest is not None
        await link.send(SignedResult(held.id, held.digest, own))

    # --- taking an order ----------------------------------------------------------------------

    async def _take(self, id_: OrderId, place: Place, peer: PeerId) -> Refusal | None:
        """Promise the seat, or say why not. Orders of one client are judged one by one."""
        client = place.order.client
        past = await self.book.record(self.chain, client, self.node.chain_time - DAY)
        refusal = judge(place, self._situation(place, peer, past))
        if refusal is not None:
            return refusal
        lock = self._locks.setdefault(client, trio.Lock())
        try:
            with trio.fail_after(CHAIN):
                async with lock, self._readers:
                    standing = await self._standing(place)
                    # As things are by now: others may have taken the slot, or the nonce.
                    seen = self._situation(place, peer, past)
                    refusal = judge(place, seen) or judge_standing(place, seen, standing)
                    if refusal is not None:
                        return refusal
                    live = self._register(id_, place, peer)
        except (LedgerUnreachable, trio.TooSlowError):
            return Refusal("chain", "the chain does not answer, so nothing can be checked")
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(client, None)
        await self._promise(live)
        return None

    def _register(self, id_: OrderId, place: Place, peer: PeerId) -> Live:
        """In memory, before the disk is waited for: two must not both find the slot free."""
        held = Held(
            id=id_,
            order=place.order,
            signature=place.signature,
            spec=place.spec,
            seat=place.order.nodes.index(self.node.ports.node),
            peer=peer,
            taken_at=self.node.chain_time,
        )
        self.live[id_] = live = Live(self.chain, held, trio.current_time())
        return live

    async def _promise(self, live: Live) -> None:
        is_kept = False
        try:
            await self.book.put(self.chain, live.held)
            is_kept = True
        finally:
            if not is_kept:
                self.live.pop(live.id, None)
            live.durable.set()
        self.crash("order.taken")
        self.node.counters["accepted"] += 1

    def _situation(self, place: Place, peer: PeerId, past: Record) -> Situation:
        node, order = self.node, place.order
        problems = node.problems.keys() | node.daemon.problems.keys()
        wanted = place.spec.workload
        own = self.of(order.client)
        ill = next((code for code in _ILLS if code in problems), "")
        if not ill and self._faults[order.client] >= FREE_FAULTS:
            ill = "too_many_faults"
        return Situation(
            config=node.config,
            info=node.info,
            parameters=node.parameters,
            node=node.ports.node,
            operator=node.ports.signer.account,
            mode=node.mode,
            record=node.record,
            now=node.chain_time,
            workload=next((one for one in node.offered() if one.id == wanted), None),
            sandbox=node.ports.workbench.sandbox.level,
            load=node.daemon.load,
            room=MAX_OPEN - len(self.live),
            peer_open=sum(o.is_idle and o.held.peer == peer for o in self.live.values()),
            share=node.daemon.share,
            peer_waits=node.daemon.holds.wait(node.daemon.owed_by(peer)),
            nonce_is_taken=any(one.order.nonce == order.nonce for one in own),
            at_risk=sum(int(one.order.fee) for one in own if one.is_at_risk),
            past=past,
            is_ill=ill,
        )

    async def _standing(self, place: Place) -> Standing:
        order, ledger = place.order, self.node.ports.ledger
        balance: OrderBalance = await ledger.order_balance(order.client)
        page = await ledger.order_page(order.client, order.page)
        promised = sum(one.order.cost for one in self.of(order.client))
        return Standing(balance, page, promised)

    # --- going on with it ---------------------------------------------------------------------

    async def _take_in(
        self, link: Link[OrderMessage], live: Live, message: BlobHeader | BlobChunk
    ) -> None:
        live.since = trio.current_time()  # it is on its way
        try:
            is_whole = await self._working.take_in(live, message)
        except MalformedMessage as error:
            self.node.counters["bad_blobs"] += 1
            await link.send(Turned(live.id, "wrong_input", str(error)[:512]))
            return
        if is_whole and live.needs_worker:
            assert self._nursery is not None
            self._nursery.start_soon(self._working.report, live)
            self._nursery.start_soon(self._working.work, live)

    async def _shown(
        self, link: Link[OrderMessage], live: Live | None, message: ShowQuorum
    ) -> None:
        if live is None or live.held.digest is None:
            held = await self._known(OrderId(message.order_id))
            if held is not None and held.state in (OrderState.PAID, OrderState.LEFT_OUT):
                await link.send(Secured(held.id, max(1, held.signed)))  # the chain has it
            else:
                await link.send(Turned(message.order_id, "nothing_signed", "not computed here"))
            return
        held = live.held
        if message.output_digest != held.digest or len(message.results) != len(held.results):
            await link.send(Turned(held.id, "other_digest", "this seat signed another output"))
            return
        try:
            more = await self._checked(held, message)
        except LedgerUnreachable:
            await link.send(Turned(held.id, "chain", "the chain does not answer"))
            return
        except BadSignature as error:
            await link.send(Turned(held.id, "bad_signature", str(error)[:512]))
            return
        now = self.node.chain_time
        # What is being shown to the chain is not changed.
        if more and not held.batch and with_results(held, more, now).state is OrderState.SECURED:
            await self.keep(live, lambda known: with_results(known, more, now))
            self.crash("order.secured")
            self.settling.wake()
        if live.held.state is OrderState.SECURED or live.held.state.is_over:
            await link.send(Secured(held.id, max(1, live.held.signed)))
        else:
            least = held.order.quorum
            await link.send(Turned(held.id, "no_quorum", f"{least} seats have to agree"))

    async def _checked(self, held: Held, message: ShowQuorum) -> dict[int, bytes]:
        """Signatures that are new here; raises `BadSignature` if one is not its seat's."""
        more: dict[int, bytes] = {}
        for seat, signature in enumerate(message.results):
            if signature is None or held.results[seat] is not None:
                continue
            node = held.order.nodes[seat]
            record = await self._record(node)
            if record is None or record.standing not in PAYABLE:
                continue  # the chain would not count it
            digest = result_digest(self.domain, OrderId(held.id), node, message.output_digest)
            verify(digest, signature, record.operator)
            more[seat] = signature
        return more

    async def _record(self, node: NodeId) -> NodeRecord | None:
        at, record = self._records.get(node, (float("-inf"), None))
        if trio.current_time() - at < RECORD_SECONDS:
            return record
        if len(self._records) >= MAX_RECORDS:
            self._records.clear()
        record = await self.node.ports.ledger.node(node)
        self._records[node] = (trio.current_time(), record)
        return record

    async def _fetch(self, link: Link[OrderMessage], live: Live | None, id_: OrderId) -> None:
        held = live.held if live is not None else await self._known(id_)
        may = (OrderState.SECURED, OrderState.PAID, OrderState.LEFT_OUT, OrderState.UNPAID)
        if held is None or held.state not in may or held.digest is None:
            await link.send(
                Turned(id_, "not_secured", "show the signatures of a quorum first")
            )  # fmt: skip
            return
        small = await self.book.output(self.chain, id_)
        await send_output(link, self.node.ports.blobs, held, small)
        self.node.counters["orders.delivered"] += 1


def _named(message: OrderMessage) -> OrderId | None:
    name = getattr(message, "order_id", None) or getattr(message, "task_id", None)
    return OrderId(name) if name is not None else None


def is_offered(node: Node) -> bool:
    """Whether orders are taken on this chain: not every deployment has the contract."""
    return (
        node.config.orders.enabled
        and node.ports.orders is not None
        and ORDERS_CONTRACT in node.info.contracts
    )
