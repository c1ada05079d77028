"""One signed order at its nodes: placed at every seat, fed, its signatures shown, its output got.

Each seat has a link of its own that is opened again when it is lost; `Place` then asks where
things stand. The output is fetched from one seat, and from the next if that one does not give it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

from deai.client.blobs import BlobReceiver, OutgoingBlob
from deai.client.orders.book import OrderEntry
from deai.client.orders.round import Round, SeatPhase, SeatView
from deai.client.tools import Tools
from deai.client.updates import Feed, Kind, TaskUpdate
from deai.errors import MalformedMessage, PeerUnreachable
from deai.hashing import digest_of_leaves
from deai.ids import PeerId, TaskId
from deai.messages import BlobChunk, BlobHeader, Goodbye, Progress
from deai.net import Link, Net, PeerAddress
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

DIAL: Final = 3.0
ANSWER: Final = 5.0
"""Seconds for every seat to say whether it takes the order."""
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
GRACE: Final = 2.0
"""Seconds for the last seats to sign once a quorum has, so that they are paid, too."""
SHOWING: Final = 5.0
"""Seconds for seats to say that they hold the signatures, once the output is here."""
STALL: Final = 10.0
"""Seconds that a seat has for the output, before the next one is asked,"""
SLOWEST: Final = 64 * 1024
"""and one more for so many bytes of it that are here: a trickle is not waited for."""


@dataclass(eq=False)
class _Talk:
    """What was said to one seat on its present link."""

    view: SeatView
    peer: PeerAddress
    link: Link[OrderMessage] | None = None
    is_abandoned: bool = False
    has_input: bool = False
    shown: int = 0
    is_fetching: bool = False
    receiver: BlobReceiver | None = None
    asked_at: float = field(default_factory=trio.current_time)
    """When it became the seat that the output is fetched from."""

    def begin(self, link: Link[OrderMessage]) -> None:
        self.link, self.has_input, self.shown = link, False, 0
        self.is_fetching = False

    @property
    def patience(self) -> float:
        """Until when it is waited for as things are; local time."""
        here = self.receiver.received if self.receiver is not None else 0
        return self.asked_at + STALL + here / SLOWEST


class Carrying:
    """The client's side of one order; the stages are called in their order, inside `open`."""

    def __init__(
        self, tools: Tools, entry: OrderEntry, data: bytes | None, feed: Feed, started: float
    ) -> None:
        """`data` is the input, None where it is not at hand: then nothing is computed anew."""
        placed = entry.placed
        self._net: Net = tools.net
        self._dialect = order_dialect(entry.chain)
        self._place = Place(placed.order, placed.signature, placed.spec)
        self._feed, self._started = feed, started
        operators = [one.operator for one in placed.seats]
        self.round = Round(placed.order_id, placed.order, tools.ledger.info.orders, operators)
        self._task = TaskId(placed.order_id)
        self._talks = [
            _Talk(view, PeerAddress(PeerId(one.peer_id), one.addresses))
            for view, one in zip(self.round.seats, placed.seats, strict=True)
        ]
        self._input = OutgoingBlob(data) if data is not None else None
        self._feeds = False
        self._abandons = False
        self._digest: bytes | None = None
        self._source: _Talk | None = None
        self._output: bytes | None = None
        self._changed = trio.Event()

    async def run(self) -> None:
        """Keep a link to every seat until cancelled."""
        async with trio.open_nursery() as nursery:
            for talk in self._talks:
                nursery.start_soon(self._attend, talk)

    # --- the stages ---------------------------------------------------------------------------

    async def until_taken(self) -> bool:
        """Wait for every seat's answer; False if one does not take the order."""
        with trio.move_on_after(ANSWER):
            while not self.round.is_taken:
                if self.round.is_answered:
                    return False
                await self._changed.wait()
        for one in self.round.seats:
            if one.phase is SeatPhase.ASKED:
                one.phase, one.code, one.reason = SeatPhase.TURNED, "slow", "no answer in time"
        return self.round.is_taken

    async def abandon(self) -> None:
        """Tell those who took it that nothing comes; best effort."""
        self._abandons = True
        self._poke()
        with trio.move_on_after(1):
            while any(
                one.link is not None and one.view.phase is SeatPhase.TAKEN and not one.is_abandoned
                for one in self._talks
            ):
                await self._changed.wait()

    async def until_agreed(self, deadline: float) -> bytes | None:
        """Send the input and wait until a quorum signed one digest, and the others had a moment.

        `deadline` is local time. None if no quorum can be reached, or none was in time.
        """
        self._feeds = True
        self._poke()
        began = trio.current_time()
        with trio.move_on_at(deadline):
            while self.round.winner is None:
                if self.round.is_hopeless:
                    return None
                await self._changed.wait()
        if self.round.winner is None:
            return None
        patience = max(GRACE, (trio.current_time() - began) / 4)
        with trio.move_on_after(patience):
            while not self.round.is_complete:
                await self._changed.wait()
        return self.round.winner

    async def until_output(self, digest: bytes, deadline: float) -> bytes | None:
        """Show the signatures to who gave them, and fetch the output; None if nobody gives it.

        `deadline`, local time, is for somebody to begin: then each has as long as it goes on.
        """
        self._digest = digest
        self._poke()
        while self._output is None:
            view = self.round.source(digest)
            talk = self._talks[view.index] if view is not None else None
            if talk is not self._source:
                self._source = talk
                if talk is not None:
                    talk.asked_at = trio.current_time()
                self._poke()
            if talk is not None:
                await self._piece(talk)
            elif all(one.was_useless for one in self.round.groups.get(digest, ())):
                return None
            else:
                with trio.move_on_at(deadline) as scope:
                    await self._changed.wait()
                if scope.cancelled_caught:
                    return None
        return self._output

    async def until_shown(self, digest: bytes) -> None:
        """Wait a moment for every seat that signed to hold what it is paid by."""
        with trio.move_on_after(SHOWING):
            while not all(one.secured for one in self.round.groups[digest]):
                await self._changed.wait()

    async def _piece(self, source: _Talk) -> None:
        """Until something changes, or the seat that is asked is too slow."""
        with trio.move_on_at(source.patience):
            await self._changed.wait()
            return
        source.view.was_useless = True

    # --- one seat -----------------------------------------------------------------------------

    async def _attend(self, talk: _Talk) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._net.dial(talk.peer, self._dialect, timeout=DIAL) as link:
                    pause = FIRST_PAUSE
                    talk.begin(link)
                    await self._converse(talk, link)
            except (PeerUnreachable, MalformedMessage) as error:
                if talk.view.phase is SeatPhase.ASKED:
                    self.round.turned(
                        talk.view, Turned(self.round.id, "unreachable", str(error)[:512])
                    )  # fmt: skip
            talk.link = None
            self._poke()
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _converse(self, talk: _Talk, link: Link[OrderMessage]) -> None:
        await link.send(self._place)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, talk, link, nursery.cancel_scope)
            try:
                await self._write(talk, link)
            except PeerUnreachable:
                nursery.cancel_scope.cancel()

    async def _read(
        self, talk: _Talk, link: Link[OrderMessage], scope: trio.CancelScope
    ) -> None:  # fmt: skip
        try:
            while True:
                message = await link.receive()
                if isinstance(message, Goodbye):
                    break
                self._heard(talk, message)
                self._poke()
        except (PeerUnreachable, MalformedMessage):
            pass
        scope.cancel()

    async def _write(self, talk: _Talk, link: Link[OrderMessage]) -> None:
        while True:
            changed = self._changed
            if not await self._say(talk, link):
                await changed.wait()

    async def _say(self, talk: _Talk, link: Link[OrderMessage]) -> bool:
        """One thing that is due to this seat; False if nothing is."""
        view, id_ = talk.view, self.round.id
        if self._abandons:
            if view.phase is SeatPhase.TAKEN and not talk.is_abandoned:
                await link.send(Abandon(id_))
                talk.is_abandoned = True
                self._poke()
                return True
            return False
        if (
            self._feeds and view.phase is SeatPhase.TAKEN
            and self._input is not None and not talk.has_input
        ):  # fmt: skip
            talk.has_input = True
            for message in self._input.messages(self._task, "input", view.index):
                await link.send(message)
            return True
        if self._digest is None or view.digest != self._digest:
            return False
        results = self.round.results(self._digest)
        count = sum(one is not None for one in results)
        if talk.shown < count:
            talk.shown = count
            await link.send(ShowQuorum(id_, self._digest, results))
            return True
        if self._source is talk and view.secured and not talk.is_fetching:
            talk.is_fetching = True
            await link.send(Fetch(id_))
            return True
        return False

    def _heard(self, talk: _Talk, message: OrderMessage) -> None:
        """Note what a seat said; anything that is not of this order is nothing."""
        view = talk.view
        named = getattr(message, "order_id", None) or getattr(message, "task_id", None)
        if named != self.round.id:
            return
        match message:
            case Taken():
                self.round.taken(view)
                self._tell("assigned", view)
            case Turned():
                before = view.phase
                self.round.turned(view, message)
                if before is SeatPhase.TAKEN:
                    self._tell("released", view, message.reason)
            case Progress(done=done):
                view.done = done / 1000
                self._tell("progress", view, done=view.done)
            case SignedResult():
                if self.round.signed(view, message):
                    self._tell("committed", view)
            case Secured(seats=seats):
                view.secured = seats
            case BlobHeader():
                self._announced(talk, message)
            case BlobChunk():
                self._took(talk, message)
            case _:
                return

    def _announced(self, talk: _Talk, header: BlobHeader) -> None:
        if self._digest is None or self._output is not None or talk is not self._source:
            return
        if digest_of_leaves(header.length, header.leaves) != self._digest:
            talk.view.was_useless = True
            return
        if talk.receiver is None:  # else the link was lost, and what came before it counts
            talk.receiver = BlobReceiver(header, self._digest)

    def _took(self, talk: _Talk, chunk: BlobChunk) -> None:
        if talk.receiver is None:
            return
        try:
            is_whole = talk.receiver.add(chunk)
        except MalformedMessage:
            talk.view.was_useless, talk.receiver = True, None
            return
        if is_whole:
            self._output, talk.receiver = talk.receiver.blob(), None
            self._tell("output", talk.view)

    def _poke(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _tell(
        self, kind: Kind, view: SeatView, message: str = "", *, done: float = 0.0
    ) -> None:  # fmt: skip
        at = trio.current_time() - self._started
        self._feed.publish(
            TaskUpdate(kind=kind, at=at, message=message, seat=view.index, node=view.node,
                       done=done)
        )  # fmt: skip
