"""One link: frames, windows, pings and queues over any stream of bytes.

`StreamLink.run` is the whole life of a link. Its users only fill and empty queues, so that they
may be cancelled anywhere without leaving half a frame on the wire. The rules are in `p2p.framing`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

import trio

from deai.errors import MalformedMessage, PeerUnreachable
from deai.ids import PeerId
from deai.net import Dialect
from p2p.counters import Counters
from p2p.flow import ReceiveWindow, SendWindow, TokenBucket
from p2p.framing import (
    BULK_WINDOW,
    CREDIT,
    FRAME_COST,
    MESSAGE_WINDOW,
    PING_BYTES,
    FrameDecoder,
    Kind,
    encode_frame,
)
from p2p.limits import NetLimits

M = TypeVar("M")
_PASSES_BEFORE_WRITE: Final = 3
"""At most, while others still add to it."""
_SHORTEST_PAUSE: Final = 0.001


class ByteStream(Protocol):
    """What carries a link. One task reads, one writes; neither is cancelled without `abort`."""

    @property
    def peer_id(self) -> PeerId:
        """The authenticated id of the other side."""
        ...

    async def read(self) -> bytes:
        """Return some bytes, or none once the peer ended its half; raise `PeerUnreachable`."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all of `data`; raise `PeerUnreachable`."""
        ...

    def write_now(self, data: bytes) -> bool:
        """Write all of `data` if that needs no waiting; False if nothing was written."""
        ...

    async def end(self) -> None:
        """End our half: the peer reads what was written, then nothing. Raise `PeerUnreachable`."""
        ...

    async def release(self) -> None:
        """Give the stream back after an orderly end. Bounded in time; raises nothing."""
        ...

    async def abort(self) -> None:
        """Cut the connection, which ends any read and write. Bounded in time; raises nothing."""
        ...


class StreamLink(Generic[M]):
    """The `Link` of `deai.net`; its owner keeps `run` running in a nursery."""

    def __init__(
        self, stream: ByteStream, dialect: Dialect[M], limits: NetLimits, counters: Counters
    ) -> None:
        self.peer_id: Final = stream.peer_id
        self._stream = stream
        self._dialect = dialect
        self._limits = limits
        self._counters = counters
        self._heard_at = trio.current_time()
        self._unanswered = 0  # our pings

        self._down = trio.Event()  # the link takes no more messages, because of:
        self._reason: PeerUnreachable | MalformedMessage | None = None
        self._broken = False  # no orderly end is possible any more
        self._flushed = trio.Event()  # our half has ended
        self._peer_ended = trio.Event()  # their half has ended
        self._finished = trio.Event()  # nothing of the link runs any more

        self._outgoing = bytearray()
        self._frames_out = 0  # in it
        self._out_wake = trio.Event()
        self._is_idle = False  # the writer sleeps, and there is nothing to write
        self._is_writing = False
        self._drained = trio.Event()
        self._send_windows = {
            Kind.MESSAGE: SendWindow(MESSAGE_WINDOW),
            Kind.BULK: SendWindow(BULK_WINDOW),
        }
        self._senders = {kind: trio.lowlevel.ParkingLot() for kind in self._send_windows}

        self._incoming: deque[tuple[M, Kind, int]] = deque()
        self._in_wake = trio.Event()
        # Bulk is paced by whoever consumes it, so every piece is acknowledged; messages in batches.
        self._receive_windows = {
            Kind.MESSAGE: ReceiveWindow(MESSAGE_WINDOW, hand_back_at=MESSAGE_WINDOW // 2),
            Kind.BULK: ReceiveWindow(BULK_WINDOW, hand_back_at=1),
        }

    @property
    def has_room(self) -> bool:
        return self._down.is_set() or all(one.is_open for one in self._send_windows.values())

    async def send(self, message: M) -> None:
        body = self._dialect.encode(message)
        if len(body) > self._dialect.max_frame_bytes:
            raise MalformedMessage(
                f"a message of {len(body)} bytes exceeds {self._dialect.max_frame_bytes}"
            )
        kind = Kind.BULK if self._dialect.is_bulk(message) else Kind.MESSAGE
        window, senders = self._send_windows[kind], self._senders[kind]
        await trio.lowlevel.checkpoint_if_cancelled()
        if not window.is_open and not self._down.is_set():
            await self._room(window, senders)
        if self._down.is_set():
            raise PeerUnreachable(str(self._reason)) from self._reason
        window.spend(FRAME_COST + len(body))
        self._put(kind, body)
        if window.is_open:
            senders.unpark()

    async def _room(self, window: SendWindow, senders: trio.lowlevel.ParkingLot) -> None:
        with trio.move_on_after(self._limits.send_timeout) as scope:
            while not window.is_open and not self._down.is_set():
                await senders.park()
        if scope.cancelled_caught:
            self._break(PeerUnreachable(f"{self.peer_id} takes no messages"))

    async def drained(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while (self._outgoing or self._is_writing) and not self._down.is_set():
            if self._drained.is_set():
                self._drained = trio.Event()
            await self._drained.wait()

    async def receive(self) -> M:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._incoming:
            if isinstance(self._reason, MalformedMessage):
                await self._finished.wait()
                raise MalformedMessage(str(self._reason)) from self._reason
            if self._down.is_set():
                raise PeerUnreachable(str(self._reason)) from self._reason
            self._in_wake = trio.Event()
            await self._in_wake.wait()
        message, kind, cost = self._incoming.popleft()
        if credit := self._receive_windows[kind].consume(cost):
            owed = (0, credit) if kind is Kind.BULK else (credit, 0)
            self._put(Kind.CREDIT, CREDIT.pack(*owed))
        return message

    async def aclose(self) -> None:
        self.close_soon()
        await self._finished.wait()

    def close_soon(self) -> None:
        """Begin an orderly close without waiting for its end."""
        self._stop(PeerUnreachable("the link was closed on this side"))

    def cut_off(self, reason: MalformedMessage) -> None:
        """Cut the connection: the peer said something that it must not say."""
        self._break(reason)

    async def run(self) -> None:
        """Carry the link until either side closes or breaks it; raises nothing of its own."""
        released = False
        try:
            async with trio.open_nursery() as nursery:
                for loop in (self._read_all, self._write_all, self._watch):
                    nursery.start_soon(self._until_broken, loop)
                await self._down.wait()
                with trio.move_on_after(self._limits.close_timeout):
                    await self._flushed.wait()
                    await self._peer_ended.wait()
                # Before the children are cancelled: both unblock what they are doing.
                if self._broken or not self._flushed.is_set():
                    await self._stream.abort()
                else:
                    await self._stream.release()
                released = True
                nursery.cancel_scope.cancel()
        finally:
            self._stop(PeerUnreachable("this side went away"))
            if not released:
                with trio.CancelScope(shield=True):
                    await self._stream.abort()
            self._finished.set()

    async def _until_broken(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except (PeerUnreachable, MalformedMessage) as error:
            self._break(error)

    async def _read_all(self) -> None:
        decoder = FrameDecoder(self._dialect.max_frame_bytes)
        limits, now = self._limits, trio.current_time()
        frames = TokenBucket.full(limits.frames_per_second, limits.frame_burst, now)
        pings = TokenBucket.full(limits.pings_per_second, limits.ping_burst, now)
        while data := await self._stream.read():
            arrived = decoder.feed(data)
            now = trio.current_time()
            self._counters.bytes_received += len(data)
            self._counters.frames_received += len(arrived)
            if arrived:
                self._heard_at = now
            for kind, body in arrived:
                if kind is Kind.PING and pings.take(1, now):
                    raise MalformedMessage("too many pings")
                self._take(kind, body)
            pause = frames.take(len(arrived), now)
            while pause > _SHORTEST_PAUSE:
                await trio.sleep(min(pause, 1.0))
                self._heard_at = trio.current_time()  # while we do not listen, silence says nothing
                pause = frames.take(0, self._heard_at)
        if not decoder.is_between_frames:
            raise MalformedMessage("the stream ended within a frame")
        self._peer_ended.set()
        self._stop(PeerUnreachable("the peer closed the link"))

    def _take(self, kind: Kind, body: bytes) -> None:
        if kind is Kind.PING:
            self._put(Kind.PONG, body)
        elif kind is Kind.CREDIT:
            for of, cost in zip((Kind.MESSAGE, Kind.BULK), CREDIT.unpack(body), strict=True):
                self._send_windows[of].hand_back(cost)
                if self._send_windows[of].is_open:
                    self._senders[of].unpark()
        elif kind is Kind.PONG:
            self._unanswered -= 1
            if self._unanswered < 0:
                raise MalformedMessage("a pong that nobody asked for")
        else:
            cost = FRAME_COST + len(body)
            self._receive_windows[kind].arrive(cost)
            if not self._down.is_set():
                self._incoming.append((self._decode(body), kind, cost))
                self._in_wake.set()

    def _decode(self, body: bytes) -> M:
        try:
            return self._dialect.decode(body)
        except (ValueError, RecursionError) as error:
            # Decoders leak these for text that is no UTF-8 and for deep nesting; a stranger's
            # bytes must not be taken for a bug of ours.
            raise MalformedMessage(f"not a message: {error}") from error

    async def _write_all(self) -> None:
        while True:
            if self._outgoing:
                # Whoever the last read woke gets to add to this write. Without this, 16 callers
                # settle into small groups: 2 frames a write instead of 16, at 5 times the CPU.
                # A frame that is alone after our own turn to wake has nobody to wait for.
                size, passes = 0, 0
                while (
                    self._frames_out > 1
                    and len(self._outgoing) > size
                    and passes < _PASSES_BEFORE_WRITE
                ):
                    size, passes = len(self._outgoing), passes + 1
                    await trio.lowlevel.checkpoint()
                data, self._outgoing, self._frames_out = bytes(self._outgoing), bytearray(), 0
                self._counters.bytes_sent += len(data)
                self._is_writing = True
                await self._stream.write(data)
                self._is_writing = False
                self._drained.set()
            elif self._down.is_set():
                await self._stream.end()
                self._flushed.set()
                return
            else:
                self._out_wake = trio.Event()
                self._is_idle = True
                await self._out_wake.wait()
                self._is_idle = False

    async def _watch(self) -> None:
        interval, timeout = self._limits.ping_interval, self._limits.ping_timeout
        ping_at = trio.current_time() + interval
        while not self._down.is_set():
            dead_at = self._heard_at + timeout
            await trio.sleep_until(min(ping_at, dead_at))
            now = trio.current_time()
            if now >= self._heard_at + timeout:
                self._counters.dead_peers += 1
                raise PeerUnreachable(f"the peer was silent for {timeout:g} s")
            if now >= ping_at:
                ping_at = now + interval
                self._put(Kind.PING, bytes(PING_BYTES))
                self._unanswered += 1

    def _put(self, kind: Kind, body: bytes) -> None:
        if self._down.is_set():
            return
        frame = encode_frame(kind, body)
        self._counters.frames_sent += 1
        # Nothing waits to be written, and the writer sleeps: no need to wake it.
        if self._is_idle and not self._outgoing and self._stream.write_now(frame):
            self._counters.bytes_sent += len(frame)
            return
        self._outgoing += frame
        self._frames_out += 1
        self._out_wake.set()

    def _break(self, reason: PeerUnreachable | MalformedMessage) -> None:
        self._broken = True
        self._flushed.set()
        self._peer_ended.set()
        self._stop(reason)

    def _stop(self, reason: PeerUnreachable | MalformedMessage) -> None:
        if self._down.is_set():
            return
        self._reason = reason
        if isinstance(reason, MalformedMessage):
            self._counters.malformed += 1
        self._down.set()
        self._out_wake.set()
        self._in_wake.set()
        self._drained.set()
        for senders in self._senders.values():
            senders.unpark_all()
