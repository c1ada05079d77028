"""A disk that takes nothing more, under the client's journal or outbox: typed, and paid once."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from deai.chain.outbox import Attempt, Outbox
from deai.client.journal import CRASH_POINTS, JournalError
from deai.errors import ConfigError
from tests.client.support.node import Script
from tests.client.support.tasks import check_money, run
from tests.client.support.world import open_world
from tests.client.test_crashes import posted
from tests.deai.chain.test_outbox import intent

pytestmark = pytest.mark.world

POINTS = [point for point in CRASH_POINTS if point != "seat_reassigned"]


class Disk:
    """Lets no file of this process grow beyond what one of them has now."""

    def __init__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, file: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, self._before[1]))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@pytest.fixture
def disk() -> Iterator[Disk]:
    found = Disk()
    yield found
    found.make_room()


@pytest.mark.parametrize("point", ["", *POINTS])
async def test_a_task_goes_on_when_there_is_room_again_and_is_paid_once(
    point: str, tmp_path: Path, disk: Disk, autojump_clock: MockClock
) -> None:
    """The disk fills before anything is sent, or at any moment at which a client may die."""
    log = tmp_path / "client.db-wal"
    reached = set[str]()

    def crash(at: str) -> None:
        reached.add(at)
        if at == point:
            disk.fill(log)

    async with open_world(*[Script()] * 3) as world:
        async with world.client(tmp_path, crash=crash) as client:
            if not point:
                disk.fill(log)
            error = None
            try:
                first = await run(client)
            except JournalError as caught:
                error = caught
            # After the ending was saved nothing is written any more.
            assert (error is None) == (point == "ending_saved")
            assert error is None or error.hint or error.advice
            disk.make_room()
        assert point in reached | {""}
        assert posted(world) == (point not in ("", *POINTS[:2]))
        async with world.client(tmp_path, seed="with room") as client:
            last = first if error is None else await run(client)
        assert last.state == "completed"
        check_money(world, last)
        assert posted(world) == 1


async def test_a_transaction_that_cannot_be_written_down_is_not_sent(
    tmp_path: Path, disk: Disk
) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", "me")
    payment = intent("payment", Attempt("0x01", 1, b"\xaa" * 400))
    disk.fill(tmp_path / "outbox.sqlite-wal")
    with pytest.raises(ConfigError) as caught:
        await outbox.run(outbox.add, payment)
    assert "disk full" in caught.value.hint
    disk.make_room()
    assert outbox.find("payment") is None
    await outbox.run(outbox.add, payment)
    outbox.close()
    again = Outbox(tmp_path / "outbox.sqlite", "me")
    assert [found.key for found in again.flying()] == ["payment"]
    again.close()
