"""Calls per second on one link, beside plain trio TCP with the same frames, in the same run.

The server is a process of its own and echoes; a call is a message of 200 bytes there and back.
Callers share one link, as tasks of one client do. Also: bulk one way, and the cost of a dial.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import trio

from benchmarks.report import Report, parser
from deai.ids import parse_peer
from deai.net import Dialect, Link, PeerAddress
from p2p.framing import FrameDecoder, Kind, encode_frame
from p2p.identity import Identity
from p2p.net import LibP2PNet, open_net

CALLERS = (1, 16, 256)
PAYLOAD = 200
CHUNK = 64 * 1024
BYTES: Dialect[bytes] = Dialect(
    "/deai/benchmark/1", encode=bytes, decode=bytes, is_bulk=lambda body: len(body) >= CHUNK
)


async def echo(link: Link[bytes]) -> None:
    """Send small messages back; answer bulk with nothing but a final mark."""
    while True:
        message = await link.receive()
        if len(message) < CHUNK:
            await link.send(message)


async def serve() -> None:
    """The server process: libp2p and plain TCP side by side."""
    async with (
        open_net(Identity.generate(), listen=["/ip4/127.0.0.1/tcp/0"]) as net,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(net.serve, BYTES, echo)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo_frames, [listener])
        print(net.peer_id, *net.addresses, listener.socket.getsockname()[1], flush=True)
        await trio.sleep_forever()


async def echo_frames(stream: trio.SocketStream) -> None:
    """The same frames on a bare socket, all that one read brings answered by one write."""
    decoder = FrameDecoder(CHUNK)
    try:
        while data := await stream.receive_some(CHUNK):
            await stream.send_all(b"".join(encode_frame(*frame) for frame in decoder.feed(data)))
    except trio.BrokenResourceError:
        pass


async def measure_link(
    link: Link[bytes], callers: int, calls: int, payload: int = PAYLOAD
) -> float:
    """Seconds that `calls` calls of `payload` bytes by so many callers take on a link."""
    waiting: deque[trio.Event] = deque()  # one link keeps order, so answers need no number
    numbers = iter(range(calls))
    message = bytes(payload)

    async def call() -> None:
        for _ in numbers:
            answered = trio.Event()
            waiting.append(answered)
            await link.send(message)
            await answered.wait()

    async def answers() -> None:
        for _ in range(calls):
            await link.receive()
            waiting.popleft().set()

    return await timed(callers, call, answers)


async def measure_tcp(stream: trio.SocketStream, callers: int, calls: int) -> float:
    """The same over a bare socket, with writes coalesced by one task as a link does."""
    waiting: deque[trio.Event] = deque()
    numbers = iter(range(calls))
    frame = encode_frame(Kind.MESSAGE, bytes(PAYLOAD))
    outgoing, wake = bytearray(), trio.Event()

    async def call() -> None:
        for _ in numbers:
            answered = trio.Event()
            waiting.append(answered)
            outgoing.extend(frame)
            wake.set()
            await answered.wait()

    async def write() -> None:
        nonlocal wake
        while True:
            if outgoing:
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                data = bytes(outgoing)
                outgoing.clear()
                await stream.send_all(data)
            else:
                wake = trio.Event()
                await wake.wait()

    async def answers() -> None:
        decoder, count = FrameDecoder(CHUNK), 0
        while count < calls:
            for _ in decoder.feed(await stream.receive_some(CHUNK)):
                waiting.popleft().set()
                count += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        seconds = await timed(callers, call, answers)
        nursery.cancel_scope.cancel()
    return seconds


async def timed(
    callers: int, call: Callable[[], Awaitable[None]], answers: Callable[[], Awaitable[None]]
) -> float:
    """Run both and take the time."""
    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answers)
        for _ in range(callers):
            nursery.start_soon(call)
    return time.perf_counter() - begin


async def measure_bulk(link: Link[bytes], chunks: int) -> float:
    """Seconds until so many chunks were consumed on the other side (one call follows them)."""
    begin = time.perf_counter()
    for _ in range(chunks):
        await link.send(bytes(CHUNK))
    await link.send(b"done")
    await link.receive()
    return time.perf_counter() - begin


async def measure(report: Report, server: list[str], rounds: int) -> None:
    """Every figure, the two sides in turn."""
    peer_id, address, port = server
    there = PeerAddress(parse_peer(peer_id), (address,))

    def dial(net: LibP2PNet) -> AbstractAsyncContextManager[Link[bytes]]:
        return net.dial(there, BYTES, timeout=60)

    dials: list[float] = []
    for _ in range(10):
        async with open_net(Identity.generate()) as net:
            begin = time.perf_counter()
            async with dial(net):
                dials.append(time.perf_counter() - begin)
    report.add("dial_p50_ms", round(1000 * sorted(dials)[len(dials) // 2], 2), "ms")

    async with (
        open_net(Identity.generate()) as net,
        dial(net) as link,
        await trio.open_tcp_stream("127.0.0.1", int(port)) as stream,
    ):
        for callers in CALLERS:
            calls = rounds * min(callers, 16)
            await measure_link(link, callers, calls // 10 + 1)
            seconds = await measure_link(link, callers, calls)
            report.add(f"calls_per_s_{callers}_callers", round(calls / seconds), "1/s")
            await measure_tcp(stream, callers, calls // 10 + 1)
            seconds = await measure_tcp(stream, callers, calls)
            report.baseline(f"tcp_calls_per_s_{callers}_callers", round(calls / seconds), "1/s")
        chunks = rounds // 4
        seconds = await measure_bulk(link, chunks)
        report.add("bulk_mb_per_s", round(chunks * CHUNK / seconds / 1e6, 1), "MB/s")


@contextmanager
def serving() -> Iterator[list[str]]:
    """A server process: its peer id, its address and its bare port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.transport", "serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main() -> None:
    """Measure and report."""
    options = parser(__doc__).parse_args()
    rounds = 1_000 if options.quick else 5_000
    parameters: dict[str, Any] = {"payload_bytes": PAYLOAD, "chunk_bytes": CHUNK, "rounds": rounds}
    report = Report("transport", parameters=parameters)
    with serving() as server:
        trio.run(measure, report, server, rounds)
    report.emit(as_json=options.json)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        main()
