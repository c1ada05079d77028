"""Tries, from inside a worker, what a hostile input would try; the start-up check of a node."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PTRACE_SEIZE: Final = 0x4206


def attempt_escapes() -> dict[str, bool]:
    """By attempt: whether it was denied. Harmless where it succeeds."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)

    def attach() -> None:
        if libc.ptrace(_PTRACE_SEIZE, parent, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def write() -> None:
        place = Path("/tmp") / f"deai-probe-{os.getpid()}"  # noqa: S108 - never meant to succeed
        place.write_bytes(b"x")
        place.unlink()

    attempts: dict[str, Callable[[], object]] = {
        "read_file": lambda: Path(sys.executable).read_bytes()[:1],
        "list_directory": lambda: os.listdir("/"),  # noqa: PTH208 - the bare call is the test
        "write_file": write,
        "open_tcp_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
        "open_udp_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "open_unix_socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "signal_parent": lambda: os.kill(parent, 0),
        "trace_parent": attach,
        "start_process": _start_process,
        "run_program": _run_program,
        "raise_limits": _raise_limits,
    }
    return {name: _denied(step) for name, step in attempts.items()}


def _denied(step: Callable[[], object]) -> bool:
    try:
        step()
    except OSError:
        return True
    return False


def _start_process() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _run_program() -> None:
    # Reports success only when a program really was replaced: a child stands in for us.
    if os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}) > 0:
        os.wait()


def _raise_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (soft, hard))
    os.kill(os.getpid(), signal.SIGCONT)
