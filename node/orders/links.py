"""Speaks with clients of orders: what each message may do, and what is answered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from deai.chain.ledger import NodeRecord
from deai.errors import BadSignature, LedgerUnreachable, MalformedMessage, NodeFault
from deai.ids import NodeId, OrderId
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
)
from deai.orders import PAYABLE, order_id, result_digest
from deai.signing import verify
from node.orders.live import Live
from node.orders.records import Held, OrderEvent, OrderState, with_results
from node.orders.sending import send_output
from node.orders.taking import Taking
from node.store.errors import StoreFull

if TYPE_CHECKING:
    from node.orders.service import Orders

MAX_LINKS_OF_ORDER: Final = 4
ABANDONED: Final = 1.0
"""Seconds for which a slot counts as held, at least, by a client that gives its order up."""
MAY_LEAVE: Final = frozenset({OrderState.SECURED, OrderState.PAID, OrderState.UNPAID})
"""Where the output may be handed over: a quorum of signatures was kept."""
MAX_FETCHED: Final = 16
"""How often one output is sent: bytes out cost a node more than asking costs anybody."""
MAX_SHOWN: Final = 4096
"""Orders that were placed on one link."""
RECORD_SECONDS: Final = 60.0
"""How long a node's key, once read from the chain, is used again."""
MAX_RECORDS: Final = 512


class Links:
    """Every link to this node about orders of one chain."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._node = orders.node
        self._taking = Taking(orders)
        self._fetched: Counter[OrderId] = Counter()
        self._records: dict[NodeId, tuple[float, NodeRecord | None]] = {}

    async def serve(self, link: Link[OrderMessage]) -> None:
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
                    self._node.daemon.disk_failed(error)
                    named = _named(message)
                    if named is not None:
                        await link.send(Turned(named, "disk_full", "nothing can be kept now"))
        finally:
            for live in self._orders.live.values():
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
        live = self._orders.live.get(id_)
        match message:
            case BlobHeader() | BlobChunk():
                if live is not None:
                    await self._take_in(link, live, message)
            case Abandon():
                if live is not None and live.is_idle and live.input is None:
                    # A slot was held for nothing, if only for a moment.
                    held = trio.current_time() - live.since
                    self._node.daemon.holds.charge(link.peer_id, max(ABANDONED, held))
                    await self._orders.end(live, OrderEvent.FAILURE)
            case ShowQuorum():
                await self._shown(link, live, message)
            case Fetch():
                await self.fetch(link, live, id_)
            case _:
                raise MalformedMessage(f"a {type(message).__name__} is nothing to tell a node")

    async def _place(self, link: Link[OrderMessage], place: Place, shown: set[OrderId]) -> None:
        id_ = order_id(place.order, self._orders.domain)
        self._node.counters["proposals"] += 1
        held = await self._known(id_)
        if held is None:
            refusal = await self._taking.take(id_, place, link.peer_id)
            if refusal is not None:
                self._node.reason(refusal.code, refusal.reason, refusal.hint)
                await link.send(Turned(id_, refusal.code, refusal.reason[:512]))
                return
        elif held.spec != place.spec:
            # Ids and signatures can be read on chain; the spec's salt only its client knows.
            await link.send(Turned(id_, "bad_spec", "another spec than before"))
            return
        if len(shown) >= MAX_SHOWN:
            shown.clear()  # what it still speaks of it places again
        shown.add(id_)
        live = self._orders.live.get(id_)
        if live is not None and len(live.links) < MAX_LINKS_OF_ORDER:
            live.links[id(link)] = link
        await link.send(Taken(id_))
        held = live.held if live is not None else held
        if held is not None and held.digest is not None:
            await self._repeat(link, held)

    async def _known(self, id_: OrderId) -> Held | None:
        live = self._orders.live.get(id_)
        if live is not None:
            await live.durable.wait()
            return live.held if self._orders.live.get(id_) is live else None
        return await self._orders.book.find(self._orders.chain, id_)

    async def _repeat(self, link: Link[OrderMessage], held: Held) -> None:
        own = held.results[held.seat]
        assert own is not None
        assert held.digest is not None
        await link.send(SignedResult(held.id, held.digest, own))

    async def _take_in(
        self, link: Link[OrderMessage], live: Live, message: BlobHeader | BlobChunk
    ) -> None:
        try:
            is_whole = await self._orders.working.take_in(live, message)
        except MalformedMessage as error:
            self._node.counters["bad_blobs"] += 1
            await link.send(Turned(live.id, "wrong_input", str(error)[:512]))
            return
        if is_whole and live.needs_worker:
            self._orders.begin(live)

    async def _shown(
        self, link: Link[OrderMessage], live: Live | None, message: ShowQuorum
    ) -> None:
        if live is None or live.held.digest is None:
            held = await self._known(OrderId(message.order_id))
            if held is not None and held.state in MAY_LEAVE:
                await link.send(Secured(held.id, max(1, held.signed)))  # as it was before its end
            else:
                await link.send(Turned(message.order_id, "nothing_signed", "not computed, or over"))
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
        now = self._node.chain_time
        # What is being shown to the chain is not changed.
        if more and not held.batch and with_results(held, more, now).state is OrderState.SECURED:
            await self._orders.keep(
                live, lambda known: known if known.batch else with_results(known, more, now)
            )
            self._orders.crash("order.secured")
            self._orders.settling.wake()
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
            digest = result_digest(
                self._orders.domain, OrderId(held.id), node, message.output_digest
            )
            verify(digest, signature, record.operator)
            more[seat] = signature
        return more

    async def _record(self, node: NodeId) -> NodeRecord | None:
        at, record = self._records.get(node, (float("-inf"), None))
        if trio.current_time() - at < RECORD_SECONDS:
            return record
        if len(self._records) >= MAX_RECORDS:
            self._records.clear()
        record = await self._node.ports.ledger.node(node)
        self._records[node] = (trio.current_time(), record)
        return record

    async def fetch(self, link: Link[OrderMessage], live: Live | None, id_: OrderId) -> None:
        held = live.held if live is not None else await self._known(id_)
        if held is None or held.state not in MAY_LEAVE or held.digest is None:
            await link.send(
                Turned(id_, "not_secured", "show the signatures of a quorum first")
            )  # fmt: skip
            return
        if self._fetched[id_] >= MAX_FETCHED:
            await link.send(Turned(id_, "fetched", f"the output was sent {MAX_FETCHED} times"))
            return
        if len(self._fetched) > MAX_SHOWN:
            self._fetched.clear()
        self._fetched[id_] += 1
        small = await self._orders.book.output(self._orders.chain, id_)
        await send_output(link, self._node.ports.blobs, held, small)
        self._node.counters["orders.delivered"] += 1


def _named(message: OrderMessage) -> OrderId | None:
    name = getattr(message, "order_id", None) or getattr(message, "task_id", None)
    return OrderId(name) if name is not None else None
