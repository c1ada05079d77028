"""What the coordinator's children do on bad days: a full disk, a half that has ended."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from coordinator.hub import Hub
from coordinator.metrics import Metrics
from coordinator.services import FollowedChain, Writer, follow, identity_of, tick
from coordinator.store.reader import Reader
from coordinator.store.store import Store
from deai.ids import SEI
from deai.messages import BEAT_DIALECT, PublishBeat, PublishOffer
from deai.net import PeerAddress
from p2p.memory import MemoryNetwork
from tests.coordinator.support import (
    INFO,
    REGISTRY,
    ScriptedLedger,
    make_beat,
    make_offer,
    peer,
    running,
)
from tests.coordinator.world import Chain
from tests.support.polling import until

pytestmark = pytest.mark.network


@contextmanager
def full_disk(store: Store) -> Iterator[None]:
    """While inside, the file takes no page more."""
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    yield
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={1 << 30}")


async def test_a_disk_that_is_full_for_a_while_costs_nothing_but_time(tmp_path: Path) -> None:
    chain = Chain(3)
    chain.run(20)
    ledger = ScriptedLedger(chain)
    store = Store(tmp_path / "c.db")
    reader, metrics = Reader(store.path), Metrics()
    writer = Writer(store, lambda: None)
    hub = Hub({SEI: REGISTRY}, lambda *_: None, clock=time.time, metrics=metrics)  # type: ignore[arg-type]
    network, node, me = MemoryNetwork(), next(iter(chain.signers)), peer()

    def cursor() -> int:
        (row,) = reader.chains()
        return row["cursor_number"] or 0

    def failed() -> float:
        return metrics.follower_failures.labels(SEI)._value.get()  # type: ignore[no-any-return]

    async with (
        network.open_net(peer()) as served,
        network.open_net(me) as dialling,
        trio.open_nursery() as nursery,
    ):
        store.attach(SEI, identity_of(INFO))
        await nursery.start(
            follow, FollowedChain(INFO, ledger.opened), writer, hub, metrics, time.time
        )
        await nursery.start(served.serve, BEAT_DIALECT, hub.serve)
        await until(lambda: cursor() == chain.block)
        with full_disk(store):
            nursery.start_soon(tick, writer, reader, hub, time.time)
            async with dialling.dial(
                PeerAddress(served.peer_id, served.addresses), BEAT_DIALECT, timeout=5
            ) as link:
                await link.send(PublishOffer(make_offer(chain, node, me)))
                await link.send(PublishBeat(make_beat(chain, node, me)))
                await link.receive()
            chain.run(400)
            ledger.grow()
            await until(lambda: failed() > 1)
            assert cursor() < chain.block
        await until(lambda: cursor() == chain.block)
        await until(lambda: [one for one, _ in reader.offer_sequences()] == [node])
        nursery.cancel_scope.cancel()
    reader.close()
    store.close()


async def test_it_ends_when_what_it_serves_is_no_longer_made(tmp_path: Path) -> None:
    chain = Chain(3)
    chain.run(20)

    async def serve() -> None:
        async with running(tmp_path, chain) as started:
            await started.settle()
            with sqlite3.connect(started.database, timeout=10) as database:
                database.execute("update nodes set addresses = '['")
            await trio.sleep(60)

    with pytest.raises(RuntimeError, match="no longer served"):
        await serve()
