"""A node that lacks what a worker is made of says so, and goes on when it is there again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deai.errors import NodeFault
from tests.attacks.worker import hostile
from tests.attacks.worker.test_escapes import ask, computation, hostile_pool

pytestmark = pytest.mark.slow
FD_SETSIZE = 1024


@contextmanager
def no_more_files() -> Iterator[None]:
    """No number is left for a pipe or a socket, as when peers hold every descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("has_template", [True, False])
async def test_without_descriptors_a_task_fails_and_the_next_is_served(
    has_template: bool, tmp_path: Path
) -> None:
    async with hostile_pool(tmp_path) as pool:
        if not has_template:
            assert pool._server is not None
            await pool._server.stop()
        async with pool.executor("alice") as executor:
            with no_more_files(), pytest.raises(NodeFault) as caught:
                await ask(executor, computation())
            assert caught.value.reason_code == "template_failed"
            assert "open files" in caught.value.hint
            assert (await ask(executor, computation())).data == hostile.GOOD


async def test_a_worker_is_served_however_many_descriptors_peers_hold(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this machine allows no 2048 descriptors")
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        while not held or held[-1] <= FD_SETSIZE:
            held.append(os.open(os.devnull, os.O_RDONLY))
        async with hostile_pool(tmp_path) as pool:
            for client in ("alice", "alice", "bob"):
                async with pool.executor(client) as executor:
                    assert (await ask(executor, computation())).data == hostile.GOOD
                    assert (await ask(executor, computation())).data == hostile.GOOD
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


LIMITED = """
import os, sys
from workloads.sandbox.lock import LockPlan, _limit
if os.getuid() == 0:
    os.setuid(65534)  # the limit does not bind root
_limit(LockPlan(memory_bytes=1 << 28, threads=1, readable=()))
try:
    os.fork()
except BlockingIOError:
    print("denied")
"""


def test_limits_alone_stop_a_fork_bomb() -> None:
    # As on a processor for which there is no table of system calls.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "denied\n", done.stderr
