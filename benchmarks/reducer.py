"""Rebuilding the coordinator's index: events per second through reducer and store.

A made-up but lawful history is indexed as a follower would bring it, then rebuilt from the stored
events. The baselines write the same rows with nothing between: what SQLite alone would allow.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report, parser
from coordinator.indexer.reducer import apply
from coordinator.store import rows
from coordinator.store.reader import Reader
from coordinator.store.store import Store, digest
from tests.coordinator.index import Index
from tests.coordinator.support import SEI
from tests.coordinator.world import Chain

BLOCKS_PER_BATCH = 2_000
QUICK_EVENTS = 10_000
EVENTS = 60_000


def main() -> None:
    """Measure and report."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=0, help="events of the history")
    given = options.parse_args()
    events = given.events or (QUICK_EVENTS if given.quick else EVENTS)
    chain = Chain(1, nodes=50)
    chain.run(events)
    report = Report(
        "reducer",
        parameters={"events": len(chain.records), "blocks": chain.block, "tasks": chain.posted},
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "index.db")
        store.attach(SEI, "benchmark")
        report.add("index_events_per_s", follow(store, chain), "1/s")
        with store.engine.begin() as connection:
            before = digest(connection, SEI)
        started = time.perf_counter()
        count = store.rebuild(SEI)
        report.add("rebuild_events_per_s", count / (time.perf_counter() - started), "1/s")
        with store.engine.begin() as connection:
            if digest(connection, SEI) != before:
                raise SystemExit("the rebuild differs: nothing here can be believed")
        report.add("reducer_alone_events_per_s", reduce(chain), "1/s")
        written, seconds = copy(store.path, Path(folder) / "copy.db")
        report.baseline("sqlite_insert_same_rows_per_s", written / seconds, "1/s")
        report.baseline("sqlite_insert_as_events_per_s", len(chain.records) / seconds, "1/s")
        report.baseline("decode_stored_events_per_s", decode(store, chain), "1/s")
    report.emit(as_json=given.json)


def follow(store: Store, chain: Chain) -> float:
    """Events per second when they come in batches, with feed and undo log."""
    started = time.perf_counter()
    for block in range(0, chain.block + 1, BLOCKS_PER_BATCH):
        upto = min(block + BLOCKS_PER_BATCH - 1, chain.block)
        store.apply_batch(SEI, chain.batch(above=block - 1, upto=upto), time.time())
    return len(chain.records) / (time.perf_counter() - started)


def reduce(chain: Chain) -> float:
    """Events per second through the pure function, state in dictionaries."""
    index = Index()
    started = time.perf_counter()
    for record in chain.records:
        index.put(apply(index, record))
    return len(chain.records) / (time.perf_counter() - started)


def copy(source: Path, target: Path) -> tuple[int, float]:
    """Write the rows of an index again with the driver alone: how many, and seconds."""
    with sqlite3.connect(source) as old:
        schema = [
            sql
            for (sql,) in old.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
            )
        ]
        tables = [table.name for table in rows.COLUMNS.values()]
        content = {name: old.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    new = sqlite3.connect(target)
    new.execute("PRAGMA journal_mode=WAL")
    new.execute("PRAGMA synchronous=NORMAL")
    for sql in schema:
        new.execute(sql)
    started = time.perf_counter()
    for name, found in content.items():
        if found:
            marks = ",".join("?" * len(found[0]))
            new.executemany(f"INSERT INTO {name} VALUES ({marks})", found)
    new.commit()
    seconds = time.perf_counter() - started
    new.close()
    return sum(len(found) for found in content.values()), seconds


def decode(store: Store, chain: Chain) -> float:
    """Stored events read and decoded per second, nothing done with them."""
    reader = Reader(store.path)
    started = time.perf_counter()
    with reader.snapshot() as connection:
        for (body,) in connection.exec_driver_sql("SELECT body FROM records"):
            rows.RECORDS.decode(body)
    reader.close()
    return len(chain.records) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
