"""Everything a hostile runner tries fails, and the pool serves the next task."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from deai.codec import encode_value
from deai.errors import LimitExceeded, NodeFault, WorkloadFault
from deai.ports import Computation, Executor, Output
from tests.attacks.worker import hostile
from workloads.pool import PoolConfig, WorkerPool, open_worker_pool

pytestmark = pytest.mark.slow


PATIENCE = 120.0
"""Seconds for what ought to be done at once, on a machine that stalls."""


def computation(attack: str = "none", argument: str = "", data: bytes = b"") -> Computation:
    return Computation(
        workload="hostile",
        version=1,
        model="",
        parameters=encode_value({"attack": attack, "argument": argument}),
        input=data,
        seed=bytes(32),
    )


async def ask(executor: Executor, wanted: Computation, timeout: float = PATIENCE) -> Output:
    return await executor.run(wanted, on_progress=lambda fraction: None, timeout=timeout)


@asynccontextmanager
async def hostile_pool(tmp_path: Path, **settings: object) -> AsyncIterator[WorkerPool]:
    models = tmp_path / "models"
    models.mkdir(exist_ok=True)
    config = PoolConfig(
        models=models,
        workloads=("hostile",),
        extra=("tests.attacks.worker.hostile:SPEC",),
        **{"memory_bytes": 256 << 20, **settings},  # type: ignore[arg-type]
    )
    async with open_worker_pool(config) as pool:
        yield pool


async def test_no_attack_gets_out_and_the_same_worker_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAI_SECRET", "x")
    key = tmp_path / "operator.key"
    key.write_text("secret")
    inside = tmp_path / "models" / "weights.safetensors"
    inside.parent.mkdir()
    inside.write_text("weights")
    listener = socket.create_server(("127.0.0.1", 0))
    arguments = {
        "connect": str(listener.getsockname()[1]),
        "write_outside": str(tmp_path / "note"),
        "write_models": str(inside),
        "kill_daemon": str(os.getpid()),
    }
    escaped, denials = {}, {}
    async with hostile_pool(tmp_path) as pool, pool.executor("mallory") as executor:
        for name in hostile.ESCAPES:
            try:
                escaped[name] = await ask(
                    executor, computation(name, arguments.get(name, str(key)))
                )
            except NodeFault as error:
                denials[name] = str(error)
        assert (await ask(executor, computation())).data == hostile.GOOD
        assert pool.stats()["workers_started"] == 2  # the probe's and Mallory's
    listener.close()
    assert escaped == {}
    # Denied by the kernel: an attack with a mistake in it would prove nothing.
    assert {name for name, why in denials.items() if "Error" not in why} == set()
    assert not any(why.startswith(("NameError", "TypeError")) for why in denials.values())
    assert key.read_text() == "secret"
    assert inside.read_text() == "weights"
    assert sorted(os.listdir(tmp_path)) == ["models", "operator.key"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        ("eat_memory", "memory"),
        ("reserve_memory", "memory"),
        ("recurse", "memory"),
        ("hang", "timeout"),
        ("sleep", "timeout"),
        ("exit", "worker_died"),
        ("exit_now", "worker_died"),
        ("crash", "worker_died"),
        ("raise", "runner"),
        ("raise_odd", "worker_died"),
        ("close_pipe", "worker_died"),
        ("babble", "worker_babbled"),
        ("claim_huge_frame", "worker_babbled"),
        ("claim_huge_output", "output_limit"),
        ("claim_unknown_fault", "worker_babbled"),
        ("answer_out_of_turn", "worker_babbled"),
        ("flood", "timeout"),
    ],
)
async def test_a_worker_that_breaks_is_this_nodes_fault_and_the_next_task_is_served(
    tmp_path: Path, attack: str, code: str
) -> None:
    async with hostile_pool(tmp_path) as pool, pool.executor("mallory") as executor:
        with pytest.raises(NodeFault) as caught:
            await ask(executor, computation(attack), timeout=1.5 if code == "timeout" else PATIENCE)
        assert caught.value.reason_code == code
        assert (await ask(executor, computation())).data == hostile.GOOD


async def test_printing_corrupts_no_answer(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool, pool.executor("mallory") as executor:
        assert (await ask(executor, computation("shout"))).data == hostile.GOOD


async def test_resident_memory_beyond_the_quota_ends_the_worker(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool, pool.executor("mallory") as executor:
        # The address space would allow it: it is the parent that sees the memory and kills.
        object.__setattr__(pool._config, "memory_bytes", 24 << 20)
        with pytest.raises(NodeFault) as caught:
            await ask(executor, computation("hold_memory"))
        assert caught.value.reason_code == "memory_limit"


async def test_an_output_that_is_not_canonical_is_never_returned(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool, pool.executor("mallory") as executor:
        with pytest.raises(NodeFault, match="not canonical"):
            await ask(executor, computation(data=b"not canonical"))


async def test_an_output_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    small = hostile_pool(tmp_path, max_output_bytes=1000)
    async with small as pool, pool.executor("mallory") as executor:
        assert len((await ask(executor, computation(data=bytes(1000)))).data) == 1000
        with pytest.raises(NodeFault) as caught:
            await ask(executor, computation(data=bytes(1001)))
        assert caught.value.reason_code == "output_limit"


async def test_a_bad_task_is_told_from_a_bad_node(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool, pool.executor("mallory") as executor:
        with pytest.raises(WorkloadFault) as caught:
            await ask(executor, computation(data=b"bad"))
        assert caught.value.fault == 1
        assert (await ask(executor, computation())).data == hostile.GOOD


async def test_a_worker_never_serves_a_second_client(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path, workers=2) as pool:
        clients_of: dict[str, set[str]] = {}
        for client in ("alice", "alice", "bob", "carol", "alice", "bob"):
            async with pool.executor(client) as executor:
                pid = (await ask(executor, computation("pid"))).data.decode()
                clients_of.setdefault(pid, set()).add(client)
        assert all(len(clients) == 1 for clients in clients_of.values())
        assert 3 <= len(clients_of) < 6


async def test_a_worker_is_replaced_after_its_share_of_tasks(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path, worker_tasks=2) as pool:
        async with pool.executor("alice") as executor:
            for _ in range(5):
                await ask(executor, computation())
        assert pool.stats()["workers_started"] == 1 + 3


async def test_progress_arrives_while_the_work_goes_on(tmp_path: Path) -> None:
    seen: list[float] = []
    async with hostile_pool(tmp_path) as pool, pool.executor("alice") as executor:
        await executor.run(computation("report"), on_progress=seen.append, timeout=PATIENCE)
    assert seen == [0.0, 0.5, 1.0]


async def test_one_more_waiter_than_the_queue_holds_is_refused(tmp_path: Path) -> None:
    # The worker is given back before the nursery waits for those in line.
    async with hostile_pool(tmp_path, queue=1) as pool, trio.open_nursery() as nursery:
        async with pool.executor("alice") as executor:
            await ask(executor, computation())

            async def wait_in_line() -> None:
                async with pool.executor("bob") as mine:
                    await ask(mine, computation())

            nursery.start_soon(wait_in_line)
            with trio.fail_after(PATIENCE):
                while pool.stats()["waiting"] == 0:
                    await trio.lowlevel.checkpoint()
            with pytest.raises(LimitExceeded):
                async with pool.executor("carol"):
                    pass


async def test_a_cancelled_job_leaves_no_worker_behind(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool:
        with trio.move_on_after(0.3):
            async with pool.executor("alice") as executor:
                await ask(executor, computation("hang"), timeout=60)
        assert pool.stats()["worker_pids"] == []
        assert pool.stats()["busy"] == 0
        async with pool.executor("alice") as executor:
            assert (await ask(executor, computation())).data == hostile.GOOD


async def test_a_worker_killed_while_idle_is_noticed(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool:
        async with pool.executor("alice") as executor:
            await ask(executor, computation())
        (pid,) = pool.stats()["worker_pids"]
        handle = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        await trio.lowlevel.wait_readable(handle)
        os.close(handle)
        async with pool.executor("alice") as executor:
            assert (await ask(executor, computation())).data == hostile.GOOD


@pytest.mark.parametrize("victim", ["worker", "template"])
async def test_a_kill_while_a_task_is_computed_is_this_nodes_fault_and_the_next_is_served(
    tmp_path: Path, victim: str
) -> None:
    async with hostile_pool(tmp_path) as pool, pool.executor("alice") as executor:
        assert (await ask(executor, computation())).data == hostile.GOOD
        assert pool._server is not None
        (worker,) = pool.stats()["worker_pids"]
        pid = worker if victim == "worker" else pool._server._process.pid

        def strike(_fraction: float) -> None:
            os.kill(pid, signal.SIGKILL)

        began = trio.current_time()
        with pytest.raises(NodeFault) as caught:
            await executor.run(computation("begin"), on_progress=strike, timeout=PATIENCE)
        assert caught.value.reason_code == "worker_died"
        assert trio.current_time() - began < PATIENCE, "noticed, not waited for"
        assert (await ask(executor, computation())).data == hostile.GOOD


async def test_a_template_that_dies_is_started_again(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool:
        async with pool.executor("alice") as executor:
            await ask(executor, computation())
            assert pool._server is not None
            pool._server._process.kill()
            pool._server._process.wait()
            with pytest.raises(NodeFault):
                await ask(executor, computation("sleep"), timeout=3.0)
            assert (await ask(executor, computation())).data == hostile.GOOD
        assert pool.stats()["template_starts"] == 2


async def test_descriptors_do_not_grow_with_tasks_or_workers(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool:

        async def once(client: str) -> int:
            async with pool.executor(client) as executor:
                await ask(executor, computation())
            return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        first = await once("0")
        assert max([await once(str(number)) for number in range(1, 20)]) <= first + 2


async def test_the_probe_reports_every_layer(tmp_path: Path) -> None:
    async with hostile_pool(tmp_path) as pool:
        report = pool.sandbox
    held = {name for name, denied in report.details.items() if denied}
    if report.level == "full":
        assert held == set(report.details)
    else:
        assert report.notes
        assert held < set(report.details)


DAEMON = """
import sys, trio
sys.path[:0] = {path!r}
from pathlib import Path
from tests.attacks.worker.test_escapes import ask, hostile_pool, computation

async def main():
    async with hostile_pool(Path({home!r})) as pool, pool.executor("alice") as executor:
        await ask(executor, computation())
        print(pool._server._process.pid, *pool.stats()["worker_pids"], flush=True)
        await ask(executor, computation("hang"), timeout=600)

trio.run(main)
"""


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_daemon_that_is_killed(tmp_path: Path, deadly: signal.Signals) -> None:
    root = str(Path(__file__).parents[3])
    code = DAEMON.format(path=[root], home=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as daemon:
        assert daemon.stdout is not None
        pids = [int(word) for word in daemon.stdout.readline().split()]
        assert len(pids) == 2
        handles = [os.pidfd_open(pid) for pid in pids]
        daemon.send_signal(deadly)
        daemon.wait(timeout=PATIENCE)

    async def all_ended() -> None:
        with trio.fail_after(PATIENCE):
            for handle in handles:
                await trio.lowlevel.wait_readable(handle)

    trio.run(all_ended)
    for handle in handles:
        os.close(handle)
