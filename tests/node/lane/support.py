"""A node in memory that serves the lane, and a client that says exactly what a test tells it to.

The client is written from the messages alone and keeps every rule unless told otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from deai.actions import OpenChannel, RequestClose, TopUpChannel
from deai.chain.ledger import Parameters
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.channels import (
    NO_RECEIPTS,
    Channel,
    ChannelRecord,
    channel_id,
    fold_receipts,
    sign_voucher,
)
from deai.codec import encode_value
from deai.hashing import ZERO
from deai.ids import ChannelId
from deai.lane.greeting import sign_greeting
from deai.lane.messages import (
    Agreed,
    Ask,
    Credit,
    Faults,
    Halt,
    Hello,
    LaneMessage,
    Pay,
    Receipts,
    Refused,
    Results,
    Welcome,
    Work,
    lane_dialect,
)
from deai.lane.receipts import Terms, WindowReceipt, task_leaves, terms_hash
from deai.merkle import merkle_root
from deai.money import UNIT, Amount
from deai.net import Link, Net
from deai.ports import Batch, BatchExecutor, Failure
from deai.signing import Domain, LocalSigner
from node.lane.lanes import Lanes
from node.lane.tables import Entry
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, peer
from tests.node.support.world import Provider, World, open_world
from tests.support.polling import eventually

PRICE = UNIT // 100
DEPOSIT = 100 * UNIT
LIFE = b"life-one"


class InlineExecutor:
    """Computes in this process, a moment later: what a worker does, without one."""

    def __init__(self, bench: LaneBench) -> None:
        self._bench = bench
        self._under_way = 0
        self.at_rest = trio.Event()
        self.at_rest.set()

    @property
    def free(self) -> int:
        return 2 - self._under_way

    @property
    def is_wanted(self) -> bool:
        return self._bench.places.statistics().tasks_waiting > 0

    def submit(
        self, batch: Batch, done: Callable[[Sequence[bytes | Failure]], None], *, timeout: float
    ) -> None:
        assert self.free > 0
        self._under_way += 1
        self.at_rest = trio.Event()
        trio.lowlevel.spawn_system_task(self._compute, batch, done)

    async def _compute(
        self, batch: Batch, done: Callable[[Sequence[bytes | Failure]], None]
    ) -> None:
        await trio.sleep(self._bench.batch_seconds)  # what the work takes, on a clock that jumps
        await self._bench.may_go.wait()
        self._bench.batches_done.append(len(batch.inputs))
        self._under_way -= 1
        if not self._under_way:
            self.at_rest.set()
        done([self._one(given) for given in batch.inputs])

    def _one(self, given: bytes) -> bytes | Failure:
        if given == b"bad":
            return Failure(1, "a bad input")
        if given == b"broken":
            return Failure(0, "the worker died")
        if given == b"deadly":
            return Failure(0, "worker_died: the worker ended")
        if given == b"huge":
            return bytes(64 * 1024 + 1)
        return given.upper()


class LaneBench(SmallBench):
    """A workbench with one place for batches."""

    def __init__(self, *, batch_seconds: float = 0.001, places: int = 1) -> None:
        super().__init__()
        self.batch_seconds = batch_seconds
        self.places = trio.CapacityLimiter(places)
        self.batches_done: deque[int] = deque(maxlen=10_000)
        self.served: list[str] = []
        self.may_go = trio.Event()
        self.may_go.set()

    @asynccontextmanager
    async def batches(self, client: str) -> AsyncIterator[BatchExecutor]:
        holder = object()
        await self.places.acquire_on_behalf_of(holder)
        try:
            self.served.append(client)
            executor = InlineExecutor(self)
            yield executor
            await executor.at_rest.wait()
        finally:
            self.places.release_on_behalf_of(holder)


@dataclass(eq=False)
class LaneClient:
    """One channel's client on one link; it remembers what an honest client has to."""

    world: World
    provider: Provider
    net: Net
    signer: LocalSigner
    session: LocalSigner
    life: bytes = LIFE
    epoch: int = 1
    number: int = 0
    received: int = 0
    cumulative: int = 0
    receipts: bytes = NO_RECEIPTS
    unpaid: list[bytes] = field(default_factory=list)
    prices: list[int] = field(default_factory=list)
    inputs: dict[int, bytes] = field(default_factory=dict)
    outputs: dict[int, bytes] = field(default_factory=dict)
    faults: dict[int, tuple[int, str]] = field(default_factory=dict)
    terms: dict[int, Terms] = field(default_factory=dict)
    halts: list[Halt] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    acknowledged: int = 0
    signatures: list[bytes] = field(default_factory=list)
    ahead: int = 0
    """Base units promised for what was not received."""
    credit: int = 0
    deposit: int = 0
    welcome: Welcome | None = None
    link: Link[LaneMessage] | None = None
    next_id: int = 0
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def domain(self) -> Domain:
        return self.world.chain.info.channels

    @property
    def channel(self) -> Channel:
        return Channel(self.signer.account, self.provider.node_id, self.session.account)

    @property
    def id(self) -> ChannelId:
        return channel_id(self.channel, self.domain)

    @property
    def peer(self) -> Link[LaneMessage]:
        assert self.link is not None
        return self.link

    @property
    def entry(self) -> Entry:
        """The only account that the node keeps."""
        assert self.provider.whole.book is not None
        (found,) = self.provider.whole.book.entries.values()
        return found

    async def record(self) -> ChannelRecord:
        return await self.world.chain.ledger().channel(self.id)

    async def open(self, deposit: int = DEPOSIT) -> None:
        """Lock a deposit."""
        await self.world.fund(self.signer.account, deposit)
        ledger = self.world.chain.ledger(self.signer)
        await ledger.submit(
            OpenChannel(self.provider.node_id, self.session.account, self.epoch, Amount(deposit))
        )

    async def top_up(self, amount: int) -> None:
        await self.world.fund(self.signer.account, amount)
        ledger = self.world.chain.ledger(self.signer)
        await ledger.submit(TopUpChannel(self.id, Amount(amount)))

    async def request_close(self) -> None:
        ledger = self.world.chain.ledger(self.signer)
        await ledger.submit(RequestClose(self.channel, self.epoch))

    async def until_claimed(self, amount: int) -> None:
        """Wait until the chain has paid so much."""

        async def is_claimed() -> bool:
            return (await self.record()).claimed == amount

        await eventually(is_claimed, 600)

    def hello(self, **changed: Any) -> Hello:
        signature = sign_greeting(
            self.domain, self.session, self.channel, self.epoch, self.net.peer_id
        )
        made = Hello(
            self.channel, self.epoch, self.life, self.received, self.number, self.acknowledged,
            signature,
        )  # fmt: skip
        return msgspec.structs.replace(made, **changed)

    async def connect(self, **changed: Any) -> LaneMessage:
        """Dial and greet; the first answer."""
        await self.hang_up()
        dialect = lane_dialect(self.world.chain.info.name)
        self.link = await self._stack.enter_async_context(
            self.net.dial(self.provider.address, dialect, timeout=5)
        )
        await self.peer.send(self.hello(**changed))
        answer = await self.hear()
        if isinstance(answer, Welcome):
            self.welcome = answer
            self.credit, self.deposit = int(answer.credit), int(answer.deposit)
        return answer

    async def hang_up(self) -> None:
        self.link = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    def make_terms(self, **changed: Any) -> Terms:
        made = Terms(
            channel=self.id, epoch=self.epoch, workload="shout", version=1, model="",
            parameters=encode_value({}), max_units=1, price=Amount(PRICE),
        )  # fmt: skip
        return msgspec.structs.replace(made, **changed)

    async def agree(self, number: int = 0, **changed: Any) -> LaneMessage:
        """Ask for terms; `Agreed` or `Refused`."""
        terms = self.make_terms(**changed)
        await self.peer.send(Ask(number, terms))
        answer = await self.hear_one(Agreed, Refused)
        if isinstance(answer, Agreed):
            self.terms[number] = terms
        return answer

    async def ask_for(self, *inputs: bytes, number: int = 0) -> list[int]:
        """Ask for tasks; their ids."""
        ids = list(range(self.next_id, self.next_id + len(inputs)))
        self.next_id += len(inputs)
        self.inputs.update(zip(ids, inputs, strict=True))
        for at in range(0, len(ids), 512):
            await self.peer.send(Work(number, ids[at : at + 512], list(inputs[at : at + 512])))
        return ids

    async def hear(self, timeout: float = 60) -> LaneMessage:
        """The next message, noted."""
        with trio.fail_after(timeout):
            message = await self.peer.receive()
        match message:
            case Results():
                assert message.first == self.received, (message.first, self.received)
                terms = self.terms[message.terms]
                given = [self.inputs[one] for one in message.ids]
                leaves = task_leaves(terms_hash(terms), message.first, given, message.outputs)
                self.unpaid += leaves
                self.prices += [int(terms.price)] * len(leaves)
                self.received += len(leaves)
                self.outputs.update(zip(message.ids, message.outputs, strict=True))
            case Faults():
                rows = zip(message.ids, message.faults, message.reasons, strict=True)
                self.faults.update({id_: (fault, why) for id_, fault, why in rows})
            case Receipts():
                assert message.number == self.acknowledged + len(message.signatures)
                self.acknowledged = message.number
                self.signatures += message.signatures
            case Credit():
                self.credit, self.deposit = int(message.credit), int(message.deposit)
            case Halt():
                self.halts.append(message)
            case Refused():
                self.refused.append(message)
            case _:
                pass
        return message

    async def hear_one(self, *kinds: type[LaneMessage], timeout: float = 60) -> LaneMessage:
        """The next message of these kinds."""
        with trio.fail_after(timeout):
            while True:
                message = await self.hear(timeout)
                if isinstance(message, kinds):
                    return message

    async def halted(self) -> str:
        """Why nothing is done, as the next `Halt` says."""
        halt = await self.hear_one(Halt)
        assert isinstance(halt, Halt)
        return halt.code

    async def hear_until(self, condition: Callable[[], object], timeout: float = 60) -> None:
        """Hear messages until something is true."""
        with trio.fail_after(timeout):
            while not condition():
                await self.hear(timeout)

    def voucher(self, tasks: int, *, more: int = 0, **changed: Any) -> Pay:
        """The next voucher, for the oldest unpaid results; noted as sent."""
        leaves = self.unpaid[:tasks]
        owed = sum(self.prices[:tasks])
        root = merkle_root(leaves)
        receipts = fold_receipts(self.receipts, root) if leaves else self.receipts
        used = min(self.ahead, owed)
        self.ahead += more - used
        self.cumulative += owed - used + more
        signed = sign_voucher(
            self.domain, self.session, self.id, self.epoch, Amount(self.cumulative), receipts
        )
        self.number += 1
        del self.unpaid[:tasks], self.prices[:tasks]
        self.receipts = receipts
        made = Pay(self.number, tasks, Amount(self.cumulative), root or ZERO, signed.signature)
        return msgspec.structs.replace(made, **changed)

    def window(self, pay: Pay, first: int) -> WindowReceipt:
        """What the node has to sign for a voucher."""
        return WindowReceipt(
            self.id, self.epoch, pay.number, first, pay.tasks, pay.cumulative_amount, pay.root
        )

    async def pay(self, tasks: int, *, more: int = 0) -> None:
        await self.peer.send(self.voucher(tasks, more=more))

    async def work_off(self, *inputs: bytes, number: int = 0, window: int = 64) -> list[int]:
        """As an honest client does: ask, hear, pay what is due whenever credit runs out."""
        ids = await self.ask_for(*inputs, number=number)
        price = int(self.terms[number].price)
        waiting = set(ids)
        with trio.fail_after(600):
            while True:
                waiting -= self.outputs.keys() | self.faults.keys()
                if not waiting:
                    break
                owed = sum(self.prices) - self.ahead
                if not self.unpaid and self.credit < price and self.ahead < price:
                    await self.pay(0, more=price - self.ahead)
                elif len(self.unpaid) >= window or (self.unpaid and owed + price > self.credit):
                    await self.pay(min(window, len(self.unpaid)))
                    continue
                await self.hear()
        while self.unpaid:
            await self.pay(min(window, len(self.unpaid)))
        await self.hear_until(lambda: self.acknowledged == self.number)
        return ids


def lanes_of(provider: Provider) -> Lanes:
    """What serves the lane in it now."""
    lanes = provider.live.lanes
    assert lanes is not None
    return lanes


async def lane_provider(world: World, name: str = "node-0", **settings: Any) -> Provider:
    """A node that serves the lane, with a workbench of its own."""
    settings.setdefault("bench", LaneBench())
    return await world.provider(name, lane=True, **settings)


@asynccontextmanager
async def lane_client(
    world: World, provider: Provider, name: str = "client", *, deposit: int = DEPOSIT
) -> AsyncIterator[LaneClient]:
    """A client with an open channel; not connected."""
    async with world.network.open_net(peer(name)) as net:
        client = LaneClient(world, provider, net, key(name), key(f"{name} session"))
        if deposit:
            await client.open(deposit)
        try:
            yield client
        finally:
            await client.hang_up()


@asynccontextmanager
async def channel_open(
    folder: Path, *, deposit: int = DEPOSIT, parameters: Parameters = DEFAULT_PARAMETERS,
    **settings: Any,
) -> AsyncIterator[LaneClient]:  # fmt: skip
    """A network with one node, and a client with an open channel there; not connected."""
    async with open_world(folder, parameters) as world:
        provider = await lane_provider(world, **settings)
        async with lane_client(world, provider, deposit=deposit) as client:
            yield client


@asynccontextmanager
async def at_work(folder: Path, *, paid: int = 0, **settings: Any) -> AsyncIterator[LaneClient]:
    """The same once both have agreed on terms and the client has had and paid so many tasks."""
    async with channel_open(folder, **settings) as client:
        assert isinstance(await client.connect(), Welcome)
        assert isinstance(await client.agree(), Agreed)
        if paid:
            await client.work_off(*[b"x"] * paid)
        yield client
