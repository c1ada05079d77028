"""The lane as a caller sees it: `await lane.call(data)`, `async for output in lane.map(inputs)`.

No trio task and no message of its own per task: callbacks inside, an `await` where the caller
awaits. Tasks that are started at the same time travel together.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

import trio

from deai.channels import Channel
from deai.client.lane.book import Book
from deai.client.lane.hub import Hub
from deai.client.lane.places import find_places
from deai.client.lane.planning import Meant, Prices, meant
from deai.client.lane.stream import Ended, Outputs, Stream
from deai.client.lane.tasks import Kind, Task
from deai.client.tools import Tools
from deai.errors import UsageError
from deai.ids import AccountId, ChannelId, NodeId
from deai.lane.proof import LaneReceipt, make_lane_receipt
from deai.lane.receipts import Terms

IN_FLIGHT: Final = 1024
"""Tasks of one `map` that have been taken from its inputs and not yielded, unless told."""
_MAX_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class LaneResult:
    """One task's output, who computed it, and where its receipt stands."""

    output: bytes
    channel: Channel
    operator: AccountId
    """Who signs its window."""
    terms: Terms
    index: int
    """Of its receipt, in the channel's epoch."""
    data: bytes

    @property
    def node(self) -> NodeId:
        """Who computed it."""
        return self.channel.node

    @property
    def fee(self) -> int:
        """What it cost, in base units."""
        return int(self.terms.price)


@dataclass(frozen=True, slots=True)
class Share:
    """What one node did: results, base units promised for them, vouchers."""

    node: NodeId
    tasks: int
    paid: int
    vouchers: int


class Lane:
    """Tasks of one workload with the same parameters. Made by `Client.lane`."""

    def __init__(self, hub: Hub, prices: Prices, what: Meant) -> None:
        self._hub = hub
        self._prices = prices
        self._what = what
        self._kinds: dict[int, Kind] = {}
        self._by_units: dict[int, Kind] = {}
        self._streams: WeakSet[Stream] = WeakSet()
        self.tasks = 0
        """Tasks that ended with an output."""
        self.failed = 0

    def begin(self, stream: Stream) -> None:
        """A stream of this lane; it ends with the lane."""
        self._streams.add(stream)

    def spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run something beside the caller, until the client ends."""
        self._hub.spawn(function)

    @property
    def book(self) -> Book:
        """Where this client's promises are written down; while the lane is open."""
        return self._hub.book

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Those that take tasks of this lane now."""
        sessions = self._hub.sessions
        return tuple(
            node for node in self._prices.offers if node in sessions and sessions[node].may_serve
        )

    async def call(self, data: bytes) -> bytes:
        """Compute one task; its output.

        Raises `WorkloadFault` where the input or a parameter is at fault, `LimitExceeded` for an
        input above 64 KiB, and what the last of three tries raised: `NodeFault`, `TaskDeclined`
        (`reason_code` says why: `deposit`, `draining`, …) or `PeerUnreachable`.
        """
        return (await self._wait(data)).output or b""

    async def result(self, data: bytes) -> LaneResult:
        """As `call`, with what is needed to prove it."""
        task = await self._wait(data)
        assert task.agreement is not None
        assert task.output is not None
        made = task.agreement
        return LaneResult(task.output, made.channel, made.operator, made.terms, task.index, data)

    def map(
        self,
        inputs: Iterable[bytes] | AsyncIterable[bytes],
        *,
        ordered: bool = True,
        in_flight: int = IN_FLIGHT,
    ) -> Outputs:
        """The output of every input, in their order (as they come with `ordered=False`).

        Inputs are taken as places get free: at most `in_flight` of them have been taken and not
        yielded. The first task that fails ends it by raising as `call` does; use `results` to go
        on. Leaving it early drops what was not asked for yet.
        """
        return Outputs(self, inputs, in_flight, ordered=ordered)

    def results(
        self,
        inputs: Iterable[bytes] | AsyncIterable[bytes],
        *,
        ordered: bool = True,
        in_flight: int = IN_FLIGHT,
    ) -> Ended:
        """As `map`; every ended task with `output` or `error`."""
        return Ended(self, inputs, in_flight, ordered=ordered)

    async def receipt(self, result: LaneResult) -> LaneReceipt | None:
        """What proves a task offline; None where its node signs nothing within a few seconds.

        Pays the window that the task is in. Raises `JournalError`.
        """
        hub, terms = self._hub, result.terms
        with trio.move_on_after(hub.patience.last):
            while True:
                session = hub.sessions.get(result.node)
                talk = session.talk if session is not None else None
                # Of before the flush: receipts may come during it.
                news = talk.news if talk is not None else trio.Event()
                if talk is not None:
                    talk.pay(flush=True)
                await hub.flushed()
                proof = hub.book.proof(ChannelId(terms.channel), terms.epoch, result.index)
                if proof is not None:
                    return make_lane_receipt(
                        chain=hub.chain,
                        domain=hub.domain,
                        channel=result.channel,
                        operator=result.operator,
                        terms=terms,
                        index=result.index,
                        given=result.data,
                        output=result.output,
                        window=proof.window,
                        path=proof.path,
                        signature=proof.signature,
                    )
                payer = talk.payer if talk is not None else None
                if payer is None or (payer.id, payer.epoch) != (terms.channel, terms.epoch):
                    return None  # of an epoch that is over: nothing more comes
                await news.wait()
        return None

    @property
    def shares(self) -> list[Share]:
        """What each node did and was promised in this life of the client; by node."""
        return [
            Share(
                node=session.node,
                tasks=session.talk.results,
                paid=session.talk.paid,
                vouchers=session.talk.vouchers,
            )
            for session in self._hub.sessions.values()
            if session.talk.results or session.talk.vouchers
        ]

    def start(self, data: bytes, done: Callable[[Task], None]) -> Task:
        """Begin a task; `done(task)` is called on the event loop when it has ended.

        Raises `WorkloadFault`, `LimitExceeded` or `TaskDeclined` for an input that no node takes.
        """
        kind = self._kind(data)
        task = Task(data, kind, done)
        self._hub.put(task, kind)
        return task

    def ended(self, task: Task) -> None:
        """Count a task."""
        if task.error is None:
            self.tasks += 1
        else:
            self.failed += 1

    async def leave(self, auto_top_up: int) -> None:
        """Drop what waits, and pay for what was received."""
        for stream in list(self._streams):
            stream.drop()
        kinds = list(self._by_units.values())
        for kind in kinds:
            for task in kind.drain():
                task.done = None
        await self._hub.leave(kinds, auto_top_up)

    async def _wait(self, data: bytes) -> Task:
        kind = self._kind(data)
        task = Task(data, kind, _wake)
        self._hub.put(task, kind)

        def abandon(_: object) -> trio.lowlevel.Abort:
            task.done = None
            return trio.lowlevel.Abort.SUCCEEDED

        if task.done is None:
            await trio.lowlevel.checkpoint()
        else:
            task.waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abandon)
        self.ended(task)
        if task.error is not None:
            raise task.error
        return task

    def _kind(self, data: bytes) -> Kind:
        """Check an input as every node will, and find those that cost the same."""
        units = self._prices.units(data)
        return self._kinds.get(units) or self._find_kind(units)

    def _find_kind(self, units: int) -> Kind:
        covered, what = self._prices.covered(units), self._what
        kind = self._by_units.get(covered)
        if kind is None:
            kind = self._by_units[covered] = Kind(
                workload=what.info.id,
                version=what.info.version,
                model=what.wish.model,
                parameters=what.parameters,
                units=covered,
                max_fee=what.wish.max_fee,
                offers=self._prices.offers,
            )
            self._hub.open_kind(kind)
        if len(self._kinds) < _MAX_REMEMBERED:
            self._kinds[units] = kind
        return kind


def _wake(task: Task) -> None:
    if task.waiter is not None:
        trio.lowlevel.reschedule(task.waiter)


@asynccontextmanager
async def open_lane(
    hub: Hub,
    tools: Tools,
    workload: str,
    *,
    params: Mapping[str, Any] | None = None,
    max_fee: int,
    nodes: Iterable[NodeId] | None = None,
    max_units: int = 0,
    auto_top_up: int = 0,
) -> AsyncIterator[Lane]:
    """See `Client.lane`."""
    if auto_top_up < 0:
        raise UsageError("auto_top_up is none or positive", hint="as 5CT", code="bad_amount")
    what = await meant(
        tools, workload, params=params, max_fee=max_fee, nodes=nodes, max_units=max_units
    )
    places = await find_places(tools, what.wish)
    offers = {place.node: place.offer for place in places}
    lane = Lane(hub, Prices(tools.catalogue, what, offers), what)
    await hub.enter(places, auto_top_up)
    try:
        await hub.ready(place.node for place in places)
        yield lane
    finally:
        await lane.leave(auto_top_up)
