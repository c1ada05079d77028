"""Locks the calling process in for good, before it sees a byte from a stranger."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from workloads.sandbox import kernel, seccomp

MAX_OPEN_FILES: Final = 64


class LockPlan(msgspec.Struct, frozen=True):
    """What a worker may use: `memory_bytes` above what it maps when locked, files to read."""

    memory_bytes: int
    threads: int
    readable: tuple[str, ...]


class Lock(msgspec.Struct, frozen=True):
    """What holds: limits, the Landlock ABI (0: none), the filter; and what went wrong."""

    rlimits: bool
    landlock: int
    seccomp: bool
    problems: tuple[str, ...]


def lock(plan: LockPlan) -> Lock:
    """Apply every layer this kernel offers, in the order in which each still can be."""
    problems: list[str] = []

    def attempt(what: str, step: Callable[[], object]) -> bool:
        try:
            step()
        except (OSError, ValueError) as error:
            problems.append(f"{what}: {error}")
            return False
        return True

    files: list[int] = []
    attempt("oom score", lambda: Path("/proc/self/oom_score_adj").write_text("1000"))
    rlimits = attempt("rlimits", lambda: _limit(plan))
    attempt("dumpable", kernel.forbid_attachment)
    attempt("capabilities", _drop_if_root)
    attempt("no new privileges", kernel.forbid_new_privileges)
    readable = [Path(path) for path in plan.readable]
    attempt("landlock", lambda: files.append(kernel.restrict_files(readable)))
    if seccomp.supported():
        program = seccomp.assemble(pid=os.getpid(), threads=plan.threads > 1)
        filtered = attempt("seccomp", lambda: kernel.install_filter(program))
    else:
        filtered = False
        problems.append("seccomp: no table of system calls for this processor")
    return Lock(
        rlimits=rlimits,
        landlock=files[0] if files else 0,
        seccomp=filtered,
        problems=tuple(problems),
    )


def bind_to_parent(parent: int) -> None:
    """Become a process group of our own that the kernel kills when `parent` ends."""
    os.setpgid(0, 0)
    kernel.die_with_parent(parent, signal.SIGKILL)


def mapped_bytes() -> int:
    """Address space in use now. The CUDA build of torch maps 3.0 GiB before it does anything."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _limit(plan: LockPlan) -> None:
    space = mapped_bytes() + plan.memory_bytes
    # Threads count as processes. Where the filter has no table, nothing else stops a fork bomb.
    processes = ((resource.RLIMIT_NPROC, 0),) if plan.threads == 1 else ()
    for kind, limit in (
        *processes,
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def _drop_if_root() -> None:
    if os.geteuid() == 0 and seccomp.supported():
        kernel.drop_capabilities()
