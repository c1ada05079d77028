"""Takes seats of orders: the judgement with all that it needs, and the promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from deai.errors import LedgerUnreachable
from deai.ids import AccountId, OrderId, PeerId
from deai.order_messages import Place
from deai.orders import OrderBalance
from node.orders.book import Record
from node.orders.judging import Refusal, Situation, Standing, judge, judge_standing
from node.orders.live import Live
from node.orders.records import Held

if TYPE_CHECKING:
    from node.orders.service import Orders

CHAIN: Final = 10.0
"""Seconds for the chain to tell of a client."""
READERS: Final = 8
MAX_OPEN: Final = 10_000
"""Orders kept that are not over."""
DAY: Final = 24 * 3600
"""Seconds of the chain for which it is remembered what a client cost."""
_ILLS: Final = ("disk_full", "another_instance", "chain_silent")


class Taking:
    """The part of the service that promises."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._node = orders.node
        self._locks: dict[AccountId, trio.Lock] = {}
        self._readers = trio.CapacityLimiter(READERS)

    async def take(self, id_: OrderId, place: Place, peer: PeerId) -> Refusal | None:
        """Promise the seat, or say why not. Orders of one client are judged one by one."""
        client = place.order.client
        past = await self._orders.book.record(
            self._orders.chain, client, self._node.chain_time - DAY
        )
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
            seat=place.order.nodes.index(self._node.ports.node),
            peer=peer,
            taken_at=self._node.chain_time,
        )
        self._orders.live[id_] = live = Live(self._orders.chain, held, trio.current_time())
        return live

    async def _promise(self, live: Live) -> None:
        is_kept = False
        try:
            await self._orders.book.put(self._orders.chain, live.held)
            is_kept = True
        finally:
            if not is_kept:
                self._orders.live.pop(live.id, None)
            live.durable.set()
        self._orders.crash("order.taken")
        self._node.counters["accepted"] += 1

    def _situation(self, place: Place, peer: PeerId, past: Record) -> Situation:
        node, order = self._node, place.order
        problems = node.problems.keys() | node.daemon.problems.keys()
        wanted = place.spec.workload
        own = self._orders.of(order.client)
        ill = next((code for code in _ILLS if code in problems), "")
        if not ill and self._orders.has_too_many_faults(order.client):
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
            room=MAX_OPEN - len(self._orders.live),
            peer_open=sum(o.is_idle and o.held.peer == peer for o in self._orders.live.values()),
            share=node.daemon.share,
            peer_waits=node.daemon.holds.wait(node.daemon.owed_by(peer)),
            nonce_is_taken=any(one.order.nonce == order.nonce for one in own),
            at_risk=sum(int(one.order.fee) for one in own if one.is_at_risk),
            past=past,
            is_ill=ill,
        )

    async def _standing(self, place: Place) -> Standing:
        order, ledger = place.order, self._node.ports.ledger
        # First: what ends meanwhile is promised no more, but this balance may still hold it.
        promised = sum(one.order.cost for one in self._orders.of(order.client))
        balance: OrderBalance = await ledger.order_balance(order.client)
        page = await ledger.order_page(order.client, order.page)
        return Standing(balance, page, promised)
