"""The children of the trio thread: followers of chains, and the tick of every second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import NoReturn, TypeVar

import trio
from sqlalchemy.exc import SQLAlchemyError

from coordinator.figures import gather
from coordinator.hub import Hub
from coordinator.metrics import Metrics
from coordinator.news import News
from coordinator.store.reader import Reader
from coordinator.store.store import Applied, Store
from deai.chain.ledger import ChainInfo, EventBatch, Ledger, Parameters
from deai.errors import ConfigError, DeaiError, LedgerUnreachable
from deai.ids import AccountId, ChainName

logger = logging.getLogger(__name__)

T = TypeVar("T")

TICK_SECONDS = 1.0
PRUNE_TICKS = 60
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)


class NotWritten(DeaiError):
    """The database did not take a transaction (disk full, damaged); nothing of it is there."""

    code = "index_not_written"


class Writer:
    """The one thread that writes; whoever awaits it knows that the rows are committed."""

    def __init__(self, store: Store, on_commit: Callable[[], None]) -> None:
        self._store = store
        self._on_commit = on_commit
        self._limiter = trio.CapacityLimiter(1)

    @property
    def store(self) -> Store:
        """What is written to; its methods belong into `do`."""
        return self._store

    async def do(self, function: Callable[[], T]) -> T:
        """Run one transaction to its end, also when cancelled meanwhile; raise `NotWritten`."""
        try:
            result = await trio.to_thread.run_sync(function, limiter=self._limiter)
        except SQLAlchemyError as error:
            raise NotWritten(
                f"the index cannot be written: {str(error).splitlines()[0]}"
            ) from error
        self._on_commit()
        return result


class FollowedChain:
    """A chain to follow. It may be down when we start: no reason to keep the others waiting."""

    def __init__(
        self, info: ChainInfo, opening: Callable[[], AbstractAsyncContextManager[Ledger]]
    ) -> None:
        """`opening` may raise `LedgerUnreachable`, and is then tried again."""
        self.info = info
        self._opening = opening
        self._ledger: Ledger | None = None

    async def open(self, stack: AsyncExitStack) -> Ledger:
        """The ledger, opened once and closed by `stack`."""
        if self._ledger is None:
            self._ledger = await stack.enter_async_context(self._opening())
        return self._ledger

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        """Whether a key speaks for an account; raise `LedgerUnreachable`."""
        if self._ledger is None:
            raise LedgerUnreachable(f"{self.info.name} has not answered yet")
        return await self._ledger.speaks_for(account, key)


async def follow(
    chain: FollowedChain,
    writer: Writer,
    hub: Hub,
    metrics: Metrics,
    clock: Callable[[], float],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Apply a chain's events from the stored cursor on, for ever.

    A chain that does not answer, or a disk that is full, is tried again; only a database that
    belongs to another network (`ConfigError`) ends it.
    """
    store, name = writer.store, chain.info.name
    identity = identity_of(chain.info)
    cursor = await writer.do(lambda: store.attach(name, identity))
    hub.learn(name, await writer.do(lambda: store.operators(name)))
    task_status.started()
    failures = 0
    async with AsyncExitStack() as stack:
        while True:
            try:
                ledger = await chain.open(stack)
                await _store_parameters(name, await ledger.parameters(), writer)
                async with ledger.follow(cursor) as batches:
                    async for batch in batches:
                        applied = await _apply(name, batch, writer, metrics, clock)
                        hub.learn(name, applied.operators)
                        cursor, failures = batch.cursor, 0
            except* ConfigError:
                raise
            except* DeaiError as group:
                metrics.follower_failures.labels(name).inc()
                logger.warning(
                    "cannot follow the chain",
                    extra={"action": "follow", "chain": name, "cause": _causes(group)},
                )
            await trio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
    raise AssertionError("followed for ever")


async def _store_parameters(chain: ChainName, parameters: Parameters, writer: Writer) -> None:
    document = parameters_document(parameters)
    await writer.do(lambda: writer.store.set_parameters(chain, document))


async def _apply(
    chain: ChainName,
    batch: EventBatch,
    writer: Writer,
    metrics: Metrics,
    clock: Callable[[], float],
) -> Applied:
    started = time.perf_counter()
    applied = await writer.do(lambda: writer.store.apply_batch(chain, batch, clock()))
    metrics.apply_seconds.observe(time.perf_counter() - started)
    metrics.events.labels(chain).inc(applied.records)
    metrics.head.labels(chain).set(batch.head.number)
    metrics.cursor.labels(chain).set(batch.cursor.number)
    if applied.rewound:
        metrics.rewinds.labels(chain).inc()
    return applied


async def tick(writer: Writer, reader: Reader, hub: Hub, clock: Callable[[], float]) -> NoReturn:
    """Every second: store what the hub heard, tell subscribers what changed, tidy up."""
    news, count = News(), 0
    store = writer.store
    while True:
        gossip = hub.take()

        def work(count: int = count) -> None:
            store.save_gossip(*gossip)  # noqa: B023 - runs before the next round
            now = clock()
            store.publish(news.of(gather(reader, now)), now)
            if count % PRUNE_TICKS == 0:
                store.prune(now)

        try:
            await writer.do(work)
        except NotWritten as error:
            hub.give_back(gossip)
            logger.warning("cannot write", extra={"action": "tick", "cause": str(error)})
        count += 1
        await trio.sleep(TICK_SECONDS)


def identity_of(info: ChainInfo) -> str:
    """What an index is an index of: the chain and every contract."""
    contracts = ",".join(f"{name}={info.contracts[name]}" for name in sorted(info.contracts))
    return f"{info.chain_id}:{contracts}"


def parameters_document(parameters: Parameters) -> dict[str, str | int]:
    """The contracts' constants as documents show them."""
    return {
        "min_stake": str(int(parameters.min_stake)),
        "min_fee": str(int(parameters.min_fee)),
        "epoch_seconds": parameters.epoch_seconds,
        "unbonding_seconds": parameters.unbonding_seconds,
    }


def _causes(group: BaseExceptionGroup[DeaiError]) -> str:
    return "; ".join(
        _causes(error) if isinstance(error, BaseExceptionGroup) else str(error)
        for error in group.exceptions
    )
