"""The store: whatever happened in between, the index is what its events say."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import event, insert, select

from coordinator.store import rows, schema, store as store_module
from coordinator.store.engine import open_engine, writer_lock
from coordinator.store.migrate import migrate, upgrade_to
from coordinator.store.reader import Reader
from coordinator.store.store import Store, digest, refill
from deai.chain.ledger import Cursor, EventBatch
from deai.errors import ConfigError
from deai.ids import TaskId
from tests.coordinator.index import memory_world
from tests.coordinator.support import SEI
from tests.coordinator.world import Chain
from tests.support.pool_walk import Walk

pytestmark = pytest.mark.slow

NO_FIXTURE_RESET = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_numbers = iter(range(1_000_000))


def fresh(folder: Path) -> Store:
    """An empty store that may be filled."""
    path = folder / f"{next(_numbers)}.db"
    template = folder / "template.db"
    if not template.exists():
        first = Store(template)
        first.attach(SEI, "test")
        first.close()
    shutil.copy(template, path)  # migrating anew for every example would take most of the time
    return Store(path)


def digest_of(store: Store) -> str:
    with store.engine.begin() as connection:
        return digest(connection, SEI)[0]


def filled(folder: Path, chain: Chain, cuts: list[int] | None = None) -> Store:
    """A store that followed the chain in batches that end at `cuts`."""
    store, at = fresh(folder), -1
    for cut in [*sorted(set(cuts or [])), chain.block]:
        store.apply_batch(SEI, chain.batch(above=at, upto=cut), 1.0)
        at = cut
    return store


@given(seed=st.integers(0, 2**32), data=st.data())
@NO_FIXTURE_RESET
@pytest.mark.slow
def test_how_events_were_batched_leaves_no_trace(
    seed: int, data: st.DataObject, tmp_path: Path
) -> None:
    chain = Chain(seed)
    chain.run(150)
    cuts = data.draw(st.lists(st.integers(0, chain.block), max_size=12))
    whole, pieces = filled(tmp_path, chain), filled(tmp_path, chain, cuts)
    assert digest_of(whole) == digest_of(pieces)


@given(seed=st.integers(0, 2**32), data=st.data())
@NO_FIXTURE_RESET
@pytest.mark.slow
def test_a_rewind_is_as_if_the_blocks_had_never_been(
    seed: int, data: st.DataObject, tmp_path: Path
) -> None:
    chain = Chain(seed)
    chain.run(80)
    kept = data.draw(st.integers(0, chain.block))
    cuts = data.draw(st.lists(st.integers(0, chain.block), max_size=5))
    shared = [record for record in chain.records if record.position.block <= kept]
    store = filled(tmp_path, chain, cuts)
    fork = Chain(seed)
    fork.run(80)
    fork.records = list(shared)
    fork.block = kept
    never = filled(tmp_path, fork)
    store.apply_batch(SEI, fork.batch(above=kept, rewind_to=kept), 1.0)
    assert digest_of(store) == digest_of(never)
    # And it goes on from there: other blocks take the place of those that went.
    other = Chain(seed + 1, tag="fork")
    other.run(60)
    for follower in (store, never):
        moved = [
            msgspec.structs.replace(
                record,
                position=msgspec.structs.replace(
                    record.position, block=record.position.block + kept + 1
                ),
            )
            for record in other.records
        ]
        fork.records = shared + moved
        fork.block = kept + other.block + 1
        follower.apply_batch(SEI, fork.batch(above=kept), 1.0)
    assert digest_of(store) == digest_of(never)
    store.rebuild(SEI)
    assert digest_of(store) == digest_of(never)


def test_a_rewind_below_the_undo_log_replays_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "UNDO_BLOCKS", 5)
    chain = Chain(11)
    chain.run(300)
    middle = chain.block // 2
    store = filled(tmp_path, chain, [middle - 3, middle + 3])
    short = Chain(11)
    short.run(300)
    short.records = [record for record in chain.records if record.position.block <= middle]
    short.block = middle
    store.apply_batch(SEI, short.batch(above=middle, rewind_to=middle), 1.0)
    assert digest_of(store) == digest_of(filled(tmp_path, short))


@given(seed=st.integers(0, 2**32))
@NO_FIXTURE_RESET
@pytest.mark.slow
def test_a_rebuild_gives_the_same_digest(seed: int, tmp_path: Path) -> None:
    chain = Chain(seed)
    chain.run(200)
    store = filled(tmp_path, chain, [chain.block // 3])
    before = digest_of(store)
    assert store.rebuild(SEI) == len(chain.records)
    assert digest_of(store) == before


def test_a_rebuild_in_small_chunks_never_looks_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(12)
    chain.run(400)
    store = filled(tmp_path, chain)
    before = digest_of(store)
    monkeypatch.setattr(store_module, "REPLAY_CHUNK", 7)
    monkeypatch.setattr("coordinator.store.session.KEPT_TASKS", 2)
    monkeypatch.setattr("coordinator.store.session.KEPT_CHANNELS", 1)
    store.rebuild(SEI)
    assert digest_of(store) == before


def test_the_digest_sees_a_change_of_one_base_unit(tmp_path: Path) -> None:
    chain = Chain(13)
    chain.run(100)
    store = filled(tmp_path, chain)
    before = digest_of(store)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE nodes SET earned = earned + 1 WHERE rowid = (SELECT min(rowid) FROM nodes)"
        )
    assert digest_of(store) != before
    store.rebuild(SEI)
    assert digest_of(store) == before


def test_events_that_come_twice_count_once(tmp_path: Path) -> None:
    chain = Chain(14)
    chain.run(200)
    store = filled(tmp_path, chain)
    before = digest_of(store)
    applied = store.apply_batch(SEI, chain.batch(), 2.0)
    assert applied.records == 0
    assert digest_of(store) == before


def test_a_batch_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(15)
    chain.run(100)
    half = chain.block // 2
    store = fresh(tmp_path)
    store.apply_batch(SEI, chain.batch(upto=half), 1.0)
    before = digest_of(store)

    def broken(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_feed", broken)
        with pytest.raises(OSError, match="disk"):
            store.apply_batch(SEI, chain.batch(above=half), 1.0)
    assert digest_of(store) == before
    store.apply_batch(SEI, chain.batch(above=half), 1.0)
    assert digest_of(store) == digest_of(filled(tmp_path, chain))


def test_live_events_tell_every_step_of_a_task_in_order(tmp_path: Path) -> None:
    chain = Chain(16)
    opened = chain.post()
    chain.assign(opened)
    for seat in range(3):
        chain.mine()
        chain.commit(opened, seat)
    chain.finalise(opened)
    store = filled(tmp_path, chain)
    reader = Reader(store.path)
    told = [msgspec.json.decode(row["data"]) for row in reader.feed(0, 100)]
    assert [one["status"] for one in told] == [
        "pending", "assigned", "in_progress", "in_progress", "in_progress", "completed",
    ]  # fmt: skip
    assert [one["progress"] for one in told] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert {one["task_id"] for one in told} == {opened.task_id}


def test_a_task_taken_back_by_a_rewind_is_told_again(tmp_path: Path) -> None:
    chain = Chain(17)
    opened = chain.post()
    chain.mine()
    chain.assign(opened)
    store = filled(tmp_path, chain)
    short = Chain(17)
    short.records = chain.records[:-1]
    short.block = chain.block - 1
    store.apply_batch(SEI, short.batch(above=short.block, rewind_to=short.block), 1.0)
    told = [msgspec.json.decode(row["data"]) for row in Reader(store.path).feed(0, 100)]
    assert [one["status"] for one in told] == ["pending", "assigned", "pending"]


def test_an_older_index_gets_what_it_lacks_from_the_stored_events(tmp_path: Path) -> None:
    chain = Chain(21)
    chain.run(300)
    chain.pool(chain.nodes[0])
    assert chain.channels
    new = filled(tmp_path, chain)
    path = tmp_path / "old.db"
    old = open_engine(path)
    upgrade_to(old, "0002")
    with old.begin() as connection:
        connection.execute(insert(schema.chains), [{"chain": SEI, "identity": "test"}])
        connection.execute(
            insert(schema.records), [rows.record_row(SEI, record) for record in chain.records]
        )
    assert migrate(old, refill) == ("0002", "0004")
    old.dispose()
    assert digest_of(Store(path)) == digest_of(new)
    (told,) = Reader(path).channels(ids=(chain.channels[0].id,), limit=5)
    assert told["node_id"] == chain.channels[0].channel.node
    node = Reader(path).node(chain.nodes[0])
    assert node is not None
    assert node["pool_state"] == "open"


async def test_a_rewind_takes_pools_back_to_what_they_were(tmp_path: Path) -> None:
    world, chain = memory_world()
    walk = Walk(world, 9)
    await walk.begin()
    for _ in range(60):
        await walk.step()
    records, newest = chain.records, chain.head()

    def follow(store: Store, above: int, until: int, rewind_to: int | None = None) -> None:
        found = tuple(r for r in records if above < r.position.block <= until)
        batch = EventBatch(
            records=found, cursor=Cursor(until, f"{until}"), head=newest, rewind_to=rewind_to
        )
        store.apply_batch(SEI, batch, 1.0)

    for kept in range(10, newest.number, newest.number // 4):
        store, never = fresh(tmp_path), fresh(tmp_path)
        follow(store, -1, newest.number)
        follow(store, kept, kept, rewind_to=kept)
        follow(never, -1, kept)
        assert digest_of(store) == digest_of(never)
        follow(store, kept, newest.number)
        follow(never, kept, newest.number)
        assert digest_of(store) == digest_of(never)
        store.rebuild(SEI)
        assert digest_of(store) == digest_of(never)


def test_another_network_is_refused(tmp_path: Path) -> None:
    store = fresh(tmp_path)
    with pytest.raises(ConfigError, match="another network"):
        store.attach(SEI, "someone else's")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with writer_lock(path):
        with pytest.raises(ConfigError, match="another coordinator"), writer_lock(path):
            pass
    with writer_lock(path):
        pass


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is not SQLite, it only looks like a file" * 100)
    with pytest.raises(ConfigError, match="cannot read the database"):
        Store(path)


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    store = fresh(tmp_path)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(ConfigError, match="does not know"):
        Store(store.path)


def test_migrating_gives_exactly_the_schema_of_the_program(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "x.db")
    assert migrate(engine) == (None, "0004")
    assert migrate(engine) == ("0004", "0004")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.METADATA) == []
        by_program = tmp_path / "y.db"
        other = open_engine(by_program)
        with other.begin() as second:
            schema.METADATA.create_all(second)
        assert _shape(tmp_path / "x.db") == _shape(by_program)


def _shape(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
            " AND name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite%'"
        ).fetchall()
    return {name: "".join(sql.split()) for name, sql in found}


def test_the_feed_and_the_undo_log_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FEED_KEPT", 50)
    monkeypatch.setattr(store_module, "STATS_KEPT", 5)
    monkeypatch.setattr(store_module, "UNDO_BLOCKS", 10)
    chain = Chain(18)
    chain.run(300)
    store = filled(tmp_path, chain, list(range(0, chain.block, 7)))
    for _ in range(40):
        store.publish([("network_stats", {"active_nodes": 1})], 1.0)
    store.prune(1.0)
    with store.engine.begin() as connection:
        feed = connection.execute(select(schema.feed.c.seq, schema.feed.c.event)).all()
        undone = connection.execute(select(schema.undo.c.block)).scalars().all()
    assert len(feed) <= 50
    assert sum(event == "network_stats" for _, event in feed) == 5
    assert min(undone) >= chain.block - 10
    newest = feed[-1].seq
    store.publish([("network_stats", {})], 1.0)
    assert Reader(store.path).feed_range()[1] == newest + 1


def test_reading_answers_while_a_batch_is_written(tmp_path: Path) -> None:
    chain = Chain(19)
    chain.run(100)
    store = filled(tmp_path, chain)
    reader = Reader(store.path)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM tasks")
        assert reader.tasks(limit=5)
    assert not reader.tasks(limit=5)
    assert reader.task(TaskId("0x" + "00" * 32)) is None


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 20, 60])
def test_killed_in_the_middle_of_indexing_it_goes_on_to_the_same_digest(
    tmp_path: Path, batches: int
) -> None:
    """SIGKILL while batches are being committed; then the rest, as the follower would bring it."""
    chain = Chain(20)
    chain.run(6000)
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from coordinator.store.store import Store
        from tests.coordinator.support import SEI
        from tests.coordinator.world import Chain
        chain = Chain(20)
        chain.run(6000)
        store = Store(Path(sys.argv[1]))
        store.attach(SEI, "test")
        print("go", flush=True)
        at = -1
        while at < chain.block:
            store.apply_batch(SEI, chain.batch(above=at, upto=at + 3), 1.0)
            at += 3
            # So long that few fit into the pipe: it cannot run far ahead of who reads them.
            print(str(at).ljust(8192), flush=True)
        """
    )
    path = tmp_path / "killed.db"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        for _ in range(batches):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    store = Store(path)
    cursor = store.attach(SEI, "test")
    at = -1 if cursor is None else cursor.number
    assert at < chain.block
    store.apply_batch(SEI, chain.batch(above=at), 1.0)
    assert digest_of(store) == digest_of(filled(tmp_path, chain))


def test_no_question_about_lists_reads_a_whole_chain_or_sorts_it(tmp_path: Path) -> None:
    reader = Reader(fresh(tmp_path).path)
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, given: Any, *_: Any) -> None:
        asked.append((text, given))

    event.listen(reader._engine, "before_cursor_execute", note)
    place = (1, "sei", 1, 1)
    for chain in ("", "sei"):
        reader.tasks(chain=chain, limit=5)
        reader.tasks(chain=chain, before=place, limit=5)
        reader.tasks(chain=chain, state="completed", limit=5)
        reader.tasks(chain=chain, client="0x", before=place, limit=5)
    reader.completed_since("sei", 1)
    reader.completed_by_minute(1)
    for chain in ("", "sei"):
        reader.channels(chain=chain, before=place, limit=5)
        reader.channels(chain=chain, state="open", limit=5)
        reader.channels(chain=chain, state="open", client="0x", before=place, limit=5)
        reader.channels(chain=chain, state="open", node="0x", limit=5)
    with sqlite3.connect(reader._engine.url.database or "", uri=True) as connection:
        plans = [
            [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", given)]
            for text, given in asked
            if text.startswith("SELECT")
        ]
    used = [plan[0].split("INDEX ")[1].split(" ")[0] for plan in plans]
    assert used == [
        "tasks_posted", "tasks_posted", "tasks_state", "tasks_client",
        "tasks_chain", "tasks_chain", "tasks_state", "tasks_client",
        "tasks_ended", "tasks_ended",
        "channels_opened", "channels_state", "channels_client", "channels_node",
        "channels_chain", "channels_state", "channels_client", "channels_node",
    ]  # fmt: skip
    assert not any("TEMP B-TREE FOR ORDER" in step for plan in plans for step in plan)
