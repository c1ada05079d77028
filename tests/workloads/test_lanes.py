"""Batches of small tasks through real locked workers: in order, alone in failure, bounded."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from deai.codec import encode_value
from deai.errors import LimitExceeded, NodeFault
from deai.lane.receipts import MAX_TASK_BYTES
from deai.ports import Batch, BatchExecutor, Failure
from deai.tasks import FaultCode
from tests.support.polling import until
from tests.workloads import odd
from workloads import wire
from workloads.pool import PoolConfig, WorkerPool, open_worker_pool

pytestmark = pytest.mark.slow

PATIENCE = 120.0
"""Seconds for what ought to be done at once, on a machine that stalls."""
LANES = 2


@asynccontextmanager
async def odd_pool(tmp_path: Path, **settings: Any) -> AsyncIterator[WorkerPool]:
    config = PoolConfig(
        models=tmp_path,
        workloads=("odd", "echo", "together"),
        extra=("tests.workloads.odd:SPEC", "tests.workloads.odd:TOGETHER"),
        **{"memory_bytes": 256 << 20, "lane_workers": LANES, **settings},
    )
    async with open_worker_pool(config) as pool:
        yield pool


def batch(*inputs: bytes, workload: str = "odd", max_units: int = 1, **given: Any) -> Batch:
    return Batch(
        workload=workload,
        version=1,
        model="",
        parameters=encode_value(given),
        seed=bytes(32),
        max_units=max_units,
        inputs=inputs,
    )


class Asked:
    """What became of one batch."""

    def __init__(self, lane: BatchExecutor, wanted: Batch, timeout: float = PATIENCE) -> None:
        self.answers: Sequence[bytes | Failure] | None = None
        self._done = trio.Event()
        lane.submit(wanted, self._keep, timeout=timeout)

    def _keep(self, answers: Sequence[bytes | Failure]) -> None:
        assert self.answers is None, "answered twice"
        self.answers = answers
        self._done.set()

    async def wait(self) -> Sequence[bytes | Failure]:
        with trio.fail_after(PATIENCE):
            await self._done.wait()
        assert self.answers is not None
        return self.answers


async def ask(
    lane: BatchExecutor, *inputs: bytes, timeout: float = PATIENCE
) -> Sequence[bytes | Failure]:
    return await Asked(lane, batch(*inputs), timeout).wait()


async def pid_of(lane: BatchExecutor) -> int:
    (pid,) = await ask(lane, b"pid")
    assert isinstance(pid, bytes)
    return int(pid)


async def test_bad_tasks_fail_alone_and_the_others_in_order(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool, pool.batches("alice") as lane:
        pid = await pid_of(lane)
        answers = await ask(
            lane, b"one", b"bad", b"dear", b"raise", b"too large", b"largest",
            b"not canonical", b"no memory", b"", b"last",
        )  # fmt: skip
        assert answers[0] == b"ONE"
        assert answers[1] == Failure(int(FaultCode.MALFORMED_INPUT), "a bad task")
        assert answers[2] == Failure(0, "underpaid: 5 units, of which 1 are paid")
        assert answers[3] == Failure(0, "ZeroDivisionError: by zero")
        assert isinstance(answers[4], Failure)
        assert answers[4].reason.startswith("output_limit")
        assert answers[5] == bytes(MAX_TASK_BYTES)
        assert answers[6] == Failure(0, "ValueError: not canonical")
        assert answers[7] == Failure(0, "MemoryError")
        assert answers[8:] == [b"", b"LAST"]
        paid = await Asked(lane, batch(b"dear", max_units=5)).wait()
        assert paid == [b"DEAR"]
        # What every task of a batch is given; parameters are checked, and not mixed up.
        for mood in ("", "gay", "", "sad"):
            told = await Asked(lane, batch(b"tell", mood=mood)).wait()
            assert told == [bytes(32) + repr({"mood": mood}).encode()]
        assert await pid_of(lane) == pid, "no bad task costs the others their worker"
        counts = pool.stats()
        assert (counts["faults"], counts["failures"]) == (1, 5)


async def test_a_batch_of_bad_terms_fails_as_a_whole_and_the_next_is_computed(
    tmp_path: Path,
) -> None:
    async with odd_pool(tmp_path) as pool, pool.batches("alice") as lane:
        moody = await Asked(lane, batch(b"one", b"two", mood="bad")).wait()
        assert moody == [Failure(int(FaultCode.INVALID_PARAMETERS), "not in this mood")] * 2
        wanted = msgspec.structs.replace(batch(b"one", b"two"), version=9)
        unknown = await Asked(lane, wanted).wait()
        assert all(isinstance(one, Failure) and one.fault == 0 for one in unknown)
        with pytest.raises(NodeFault, match="not offered"):
            lane.submit(batch(b"one", workload="embedding"), print, timeout=PATIENCE)
        assert lane.free == 2
        assert await ask(lane, b"one") == [b"ONE"]


async def test_tasks_are_computed_together_unless_one_of_them_prevents_it(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool, pool.batches("alice") as lane:

        async def together(*inputs: bytes) -> list[bytes | int]:
            answers = await Asked(lane, batch(*inputs, workload="together")).wait()
            return [one.fault if isinstance(one, Failure) else one for one in answers]

        assert await together(b"one", b"bad", b"dear", b"two") == [b"ONE!", 1, 0, b"TWO!"]
        assert await together(b"one", b"largest", b"two") == [b"ONE!", 0, b"TWO!"]
        assert await together(b"one", b"raise", b"two") == [b"ONE", 0, b"TWO"]
        assert await together(b"one", b"few", b"bad") == [b"ONE", b"FEW", 1]
        assert await together(b"bad", b"dear") == [1, 0]
        assert await together(b"alone") == [b"ALONE"]


async def test_as_much_as_may_be_asked_at_once_comes_back(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool, pool.batches("alice") as lane:
        # Large both ways: neither side may wait for the other to read.
        large = [os.urandom(MAX_TASK_BYTES - 1) for _ in range(16)]
        many = [b"%d" % number for number in range(wire.MAX_BATCH_TASKS)]
        asked = [Asked(lane, batch(*large, workload="echo")), Asked(lane, batch(*many))]
        assert lane.free == 0
        with pytest.raises(LimitExceeded, match="under way"):
            lane.submit(batch(b"one"), lambda answers: None, timeout=PATIENCE)
        assert await asked[0].wait() == large
        assert await asked[1].wait() == many
        vast = await ask(lane, *[b"largest"] * wire.MAX_BATCH_TASKS)
        assert vast == [bytes(MAX_TASK_BYTES)] * wire.MAX_BATCH_TASKS
        for inputs in ([], [b""] * (wire.MAX_BATCH_TASKS + 1), [bytes(MAX_TASK_BYTES)] * 17):
            with pytest.raises(LimitExceeded, match="at most"):
                lane.submit(batch(*inputs), lambda answers: None, timeout=PATIENCE)
        assert lane.free == 2


@pytest.mark.parametrize(
    ("wanted", "timeout", "reason"),
    [(b"hang", 0.3, "timeout"), (b"hold memory", PATIENCE, "memory_limit"), (b"exit", 9.0, "died")],
)
async def test_a_batch_that_breaks_its_worker_fails_and_the_next_finds_a_new_one(
    wanted: bytes, timeout: float, reason: str, tmp_path: Path
) -> None:
    async with odd_pool(tmp_path) as pool, pool.batches("alice") as lane:
        pid = await pid_of(lane)
        if reason == "memory_limit":
            # The worker's own limit stands; only the look from outside finds it too large.
            object.__setattr__(pool._config, "memory_bytes", 64 << 20)
        first = Asked(lane, batch(b"one", wanted, b"two"), timeout)
        second = Asked(lane, batch(b"three"), PATIENCE)
        for asked, count in ((first, 3), (second, 1)):
            answers = await asked.wait()
            assert len(answers) == count
            for answer in answers:
                assert isinstance(answer, Failure)
                assert answer.fault == 0
                assert reason in answer.reason
        assert await pid_of(lane) != pid
        assert pool.stats()["failures"] == 4


async def test_a_killed_worker_gives_failures_whether_it_works_or_rests(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool, pool.batches("alice") as lane:
        pid = await pid_of(lane)
        hanging = [Asked(lane, batch(b"one", b"hang")), Asked(lane, batch(b"two"))]
        os.kill(pid, signal.SIGKILL)
        for asked in hanging:
            answers = await asked.wait()
            assert all(isinstance(one, Failure) and "died" in one.reason for one in answers)
        second = await pid_of(lane)
        os.kill(second, signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            while isinstance((answer := (await ask(lane, b"pid"))[0]), Failure):
                assert "died" in answer.reason
        assert int(answer) not in (pid, second)
        # So does one whose template ends, which takes every worker with it.
        assert pool._server is not None
        hanging = [Asked(lane, batch(b"hang"))]
        pool._server._process.kill()
        assert isinstance((await hanging[0].wait())[0], Failure)
        assert await ask(lane, b"one") == [b"ONE"]


async def test_nothing_that_a_worker_babbles_is_believed(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool:
        for said in odd.BABBLE:
            async with pool.batches("mallory") as lane:
                answers = await ask(lane, b"one", said, b"two")
                assert len(answers) == 3, said
                for answer in answers:
                    assert isinstance(answer, Failure), said
                    assert answer.fault == 0, said
                    assert "worker_babbled" in answer.reason, said
                assert await ask(lane, b"one") == [b"ONE"], said


async def test_a_worker_that_answers_once_too_often_is_replaced(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool:
        async with pool.batches("mallory") as lane:
            assert await ask(lane, b"answer twice") == [b"x"]
            (old,) = pool.stats()["worker_pids"]
            # Whether it is found before or after the next batch was submitted:
            (answer,) = await ask(lane, b"pid")
            if isinstance(answer, Failure):
                assert "worker_babbled" in answer.reason
                (answer,) = await ask(lane, b"pid")
            assert isinstance(answer, bytes)
            assert int(answer) != old


async def test_two_clients_never_share_a_process_life(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool:
        lives: dict[str, set[int]] = {name: set() for name in "abc"}
        for _ in range(2):
            for name in lives:
                async with pool.batches(name) as lane:
                    lives[name].add(await pid_of(lane))
        assert len(set.union(*lives.values())) == sum(map(len, lives.values()))
        # The last two are still there for their clients.
        for name in "bc":
            async with pool.batches(name) as lane:
                assert await pid_of(lane) in lives[name]
        assert pool.stats()["lanes_idle"] == LANES
        # Nor do a lane and a computation.
        async with pool.executor("c") as executor, pool.batches("c") as lane:
            computed = await executor.run(
                odd_computation(b"pid"), on_progress=lambda _: None, timeout=PATIENCE
            )
            assert int(computed.data) != await pid_of(lane)


def odd_computation(data: bytes) -> Any:
    from deai.ports import Computation

    return Computation(
        workload="odd", version=1, model="", parameters=encode_value({}), input=data, seed=bytes(32)
    )


async def test_a_client_waits_for_a_worker_and_its_holders_hear_of_it(tmp_path: Path) -> None:
    async with odd_pool(tmp_path, lane_workers=1) as pool:
        served: list[str] = []

        async def come(name: str) -> None:
            async with pool.batches(name) as lane:
                assert await ask(lane, b"one") == [b"ONE"]
                served.append(name)

        async with trio.open_nursery() as nursery:
            async with pool.batches("alice") as lane:
                assert not lane.is_wanted
                nursery.start_soon(come, "bob")
                await until(lambda: lane.is_wanted)
                nursery.start_soon(come, "carol")
                # Leaving waits for what is under way.
                last = Asked(lane, batch(b"two"))
                assert served == []
            assert last.answers == [b"TWO"]
            assert lane.free == 0
            with pytest.raises(LimitExceeded):
                lane.submit(batch(b"late"), lambda answers: None, timeout=PATIENCE)
        assert served == ["bob", "carol"]
        assert len(pool.stats()["worker_pids"]) == 1


async def test_as_many_holders_are_asked_for_their_place_as_others_wait(tmp_path: Path) -> None:
    async with odd_pool(tmp_path, lane_workers=3) as pool, trio.open_nursery() as nursery:

        async def come(name: str) -> None:
            async with pool.batches(name) as lane:
                assert await ask(lane, b"one") == [b"ONE"]

        async with pool.batches("a") as first, pool.batches("b") as second:
            lanes = [first, second]
            pids = [await pid_of(one) for one in lanes]
            busy = [Asked(one, batch(b"hang")) for one in lanes]
            async with pool.batches("c") as third:
                lanes.append(third)
                assert not any(one.is_wanted for one in lanes)
                nursery.start_soon(come, "d")
                await until(lambda: any(one.is_wanted for one in lanes))
                # The one at rest before those at work, although it came last.
                assert [one.is_wanted for one in lanes] == [False, False, True]
                nursery.start_soon(come, "e")
                await until(lambda: sum(one.is_wanted for one in lanes) == 2)
                assert [one.is_wanted for one in lanes] == [True, False, True]
            for pid, asked in zip(pids, busy, strict=True):
                os.kill(pid, signal.SIGKILL)
                assert isinstance((await asked.wait())[0], Failure)


async def test_a_cancelled_client_gives_its_worker_back_and_is_told(tmp_path: Path) -> None:
    async with odd_pool(tmp_path, lane_workers=1) as pool:
        lost: Asked | None = None
        with trio.CancelScope() as scope:
            async with pool.batches("alice") as lane:
                pid = await pid_of(lane)
                lost = Asked(lane, batch(b"hang", b"one"))
                scope.cancel()
                await trio.sleep_forever()
        assert lost is not None
        assert lost.answers is not None
        assert [type(one) for one in lost.answers] == [Failure, Failure]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        # What a body raises comes out as it is, and a worker at rest is kept.
        kept = 0

        async def stumble() -> None:
            nonlocal kept
            async with pool.batches("alice") as lane:
                kept = await pid_of(lane)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await stumble()
        async with pool.batches("alice") as lane:
            assert await pid_of(lane) == kept


async def test_ten_thousand_tasks_of_two_clients_pass_through_two_workers(tmp_path: Path) -> None:
    async with odd_pool(tmp_path) as pool:

        async def stream(client: str) -> None:
            waiting = [f"{client} {number}".encode() for number in range(5000)]
            expected = [one.upper() for one in waiting]
            got: list[bytes | Failure] = []
            came = trio.Event()

            def done(answers: Sequence[bytes | Failure]) -> None:
                got.extend(answers)
                refill()
                if len(got) == len(expected):
                    came.set()

            def refill() -> None:
                while waiting and lane.free:
                    lane.submit(batch(*waiting[:64]), done, timeout=PATIENCE)
                    del waiting[:64]

            async with pool.batches(client) as lane:
                refill()
                await came.wait()
            assert got == expected

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream, "alice")
                nursery.start_soon(stream, "bob")
        assert pool.stats()["tasks"] == 10_000
        assert pool.stats()["workers_started"] == 3  # one of them tried the lock


async def test_a_worker_that_is_too_old_is_replaced_between_two_batches(tmp_path: Path) -> None:
    async with odd_pool(tmp_path, worker_seconds=0.0) as pool, pool.batches("alice") as lane:
        assert await pid_of(lane) != await pid_of(lane)
