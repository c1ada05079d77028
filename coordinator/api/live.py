"""The live feed: one reader of the store, any number of WebSocket subscribers.

A subscriber is a position in the feed and nothing else, so a slow one costs no memory. It gets
every event after its cursor once, in order. Whoever does not take an event for
`SEND_SECONDS`, or falls `MAX_BEHIND` events behind, is closed with 1013 and told where to
resume.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from coordinator.metrics import Metrics
from coordinator.store.reader import Reader
from coordinator.store.rows import Row
from deai.ids import NEAR, SEI

logger = logging.getLogger(__name__)

EVENTS: Final = ("task_update", "node_status", "network_stats")
RECENT: Final = 4096
PAGE: Final = 256
MAX_BEHIND: Final = 2 * RECENT
SEND_SECONDS: Final = 5.0
POLL_SECONDS: Final = 1.0
MAX_SUBSCRIBERS: Final = 1500
TRY_AGAIN: Final = 1013
REFUSED: Final = 1008


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may send: the events it wants from now on."""

    subscribe: tuple[str, ...]


class Event(msgspec.Struct, frozen=True):
    """One live event as every subscriber gets it."""

    seq: int
    kind: str
    chain: str | None
    """None: about all of them."""
    text: str


class Feed:
    """The newest events in memory, older ones from the store."""

    def __init__(self, reader: Reader, metrics: Metrics) -> None:
        self._reader = reader
        self._metrics = metrics
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._subscribers = 0
        self.newest = 0

    def wake(self) -> None:
        """Something was committed: look now and not at the next poll."""
        self._wake.set()

    async def run(self) -> None:
        """Take in what the writer commits, until cancelled."""
        _, self.newest = await asyncio.to_thread(self._reader.feed_range)
        while True:
            try:
                found = await asyncio.to_thread(self._reader.feed, self.newest, PAGE)
            except SQLAlchemyError:
                logger.exception("cannot read the feed")
                found = []
            for row in found:
                self._recent.append(_event(row))
            if found:
                self.newest = found[-1]["seq"]
                self._changed.set()
                self._changed = asyncio.Event()
            if len(found) == PAGE:
                continue
            try:
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            except TimeoutError:
                continue
            self._wake.clear()

    async def serve(self, socket: WebSocket) -> None:
        """One subscriber from its cursor on, until it leaves, lags or breaks a rule."""
        try:
            cursor = _cursor(socket.query_params.get("cursor"))
            chain = _chain(socket.query_params.get("chain"))
        except ValueError as error:
            await socket.accept()
            await _close(socket, REFUSED, str(error))
            return
        if self._subscribers >= MAX_SUBSCRIBERS:
            await socket.accept()
            await _close(socket, TRY_AGAIN, "too many subscribers; try again later")
            return
        self._subscribers += 1
        self._metrics.sockets.inc()
        try:
            # Before the other side may think that it is subscribed: it shall miss nothing.
            oldest, newest = await asyncio.to_thread(self._reader.feed_range)
            newest = max(newest, self.newest)
            await socket.accept()
            await self._follow(socket, cursor, oldest, newest, _Wanted(chain))
        except WebSocketDisconnect:
            pass
        finally:
            self._subscribers -= 1
            self._metrics.sockets.dec()

    async def _follow(
        self, socket: WebSocket, cursor: int | None, oldest: int, newest: int, wanted: _Wanted
    ) -> None:
        position = newest if cursor is None else cursor
        if position > newest:
            await _close(
                socket, REFUSED, f"the cursor is ahead of this feed, which ends at {newest}"
            )
            return
        if cursor is not None and position + 1 < oldest:
            await _close(socket, REFUSED, f"events before {oldest} are no longer kept")
            return
        listener = asyncio.create_task(wanted.listen(socket))
        sender = asyncio.create_task(self._send(socket, position, wanted))
        done, left = await asyncio.wait({listener, sender}, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for task in done:
            code, reason = task.result()
            if code:
                if code == TRY_AGAIN:
                    self._metrics.sockets_dropped.inc()
                await _close(socket, code, reason)

    async def _send(self, socket: WebSocket, position: int, wanted: _Wanted) -> tuple[int, str]:
        caught_up = False
        while True:
            changed = self._changed
            events = await self._after(position)
            for event in events:
                if wanted.takes(event):
                    try:
                        await asyncio.wait_for(socket.send_text(event.text), SEND_SECONDS)
                    except TimeoutError:
                        return TRY_AGAIN, f"too slow: resume from {position}"
                position = event.seq
            if caught_up and self.newest - position > MAX_BEHIND:
                return TRY_AGAIN, f"too slow: resume from {position}"
            if not events:
                caught_up = True
                await changed.wait()

    async def _after(self, position: int) -> list[Event]:
        """A page of events after `position`, from memory if it still has all of them."""
        if position >= self.newest:
            return []
        if self._recent and self._recent[0].seq <= position + 1:
            behind = min(self.newest - position, len(self._recent))
            start = max(0, len(self._recent) - behind)
            found = [self._recent[i] for i in range(start, min(start + PAGE, len(self._recent)))]
            return [event for event in found if event.seq > position]
        found_rows = await asyncio.to_thread(self._reader.feed, position, PAGE)
        return [_event(row) for row in found_rows if row["seq"] <= self.newest]


class _Wanted:
    """Which events a subscriber asked for: all of its chain, until it says otherwise."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._kinds = frozenset(EVENTS)

    def takes(self, event: Event) -> bool:
        about = event.chain or self._chain
        return event.kind in self._kinds and (not self._chain or about == self._chain)

    async def listen(self, socket: WebSocket) -> tuple[int, str]:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return 0, ""
            raw = message.get("text") or message.get("bytes") or b""
            try:
                asked = msgspec.json.decode(raw, type=Subscription)
            except (msgspec.DecodeError, ValueError, RecursionError):
                return REFUSED, 'send {"subscribe": [events]} and nothing else'
            unknown = set(asked.subscribe) - set(EVENTS)
            if unknown:
                return REFUSED, f"no such event; there are {', '.join(EVENTS)}"
            self._kinds = frozenset(asked.subscribe)


def _cursor(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError("the cursor is the seq of the last event you have: a whole number")
    return int(text)


def _chain(text: str | None) -> str:
    if text not in (None, "", SEI, NEAR):
        raise ValueError(f"a chain is one of {NEAR}, {SEI}")
    return text or ""


def _event(row: Row) -> Event:
    data = row["data"]  # JSON as stored: spliced, not parsed and written again
    text = f'{{"seq":{row["seq"]},"event":"{row["event"]}","data":{data}}}'
    return Event(row["seq"], row["event"], row["chain"], text)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    if socket.application_state is WebSocketState.DISCONNECTED:
        return
    try:
        await asyncio.wait_for(socket.close(code, reason[:120]), 2.0)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        return  # it went away, or does not even read that it was closed
