"""Start, watch, kill and stop the processes of a devnet; know them again after a restart.

A process is known by its pid *and* the moment it started, so that a reused pid is never
mistaken for one of ours. Every process leads a session of its own: what it started goes with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil
import trio

_PR_SET_PDEATHSIG: Final = 1
_POLL_S: Final = 0.05
_KEPT_LOG_BYTES: Final = 8 * 1024 * 1024


class ProcessRecord(msgspec.Struct, frozen=True):
    """One process: its name in this devnet, pid, and when it started (seconds since boot)."""

    name: str
    pid: int
    started: float


def start(
    name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str], tied: bool
) -> ProcessRecord:
    """Start a program with its output in `log`.

    `tied`: it dies with this process, however that ends (a launcher in the foreground).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _KEPT_LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        if tied:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=dict(environment), start_new_session=True, preexec_fn=before_exec,
        )  # fmt: skip
    # Reaped by `is_alive` while we live, by init after us; a warning about it helps nobody.
    child.returncode = 0
    return ProcessRecord(name, child.pid, psutil.Process(child.pid).create_time())


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours without settings of another network."""
    kept = {key: value for key, value in environment.items() if not key.startswith("DEAI_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def deai(*arguments: str) -> list[str]:
    """The `deai` command with the interpreter that runs us."""
    return [sys.executable, "-m", "deai", *arguments]


def is_alive(record: ProcessRecord) -> bool:
    """Whether exactly this process still runs; reaps it if it was our child and ended."""
    try:
        process = psutil.Process(record.pid)
        if abs(process.create_time() - record.started) > 1:
            return False
        if process.status() == psutil.STATUS_ZOMBIE:
            _reap(record.pid)
            return False
    except psutil.NoSuchProcess:
        return False
    return True


def kill(record: ProcessRecord) -> None:
    """SIGKILL, now, to this process alone (its own children must notice by themselves)."""
    if is_alive(record):
        os.kill(record.pid, signal.SIGKILL)


async def stop(record: ProcessRecord, *, patience: float) -> None:
    """SIGTERM, `patience` seconds, then SIGKILL to the whole session; returns when it is gone."""
    if is_alive(record):
        os.kill(record.pid, signal.SIGTERM)
    with trio.move_on_after(patience):
        while is_alive(record):
            await trio.sleep(_POLL_S)
    kill_session(record)
    with trio.move_on_after(5):
        while is_alive(record):
            await trio.sleep(_POLL_S)


def kill_session(record: ProcessRecord) -> None:
    """SIGKILL to everything that still belongs to the process's session."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == record.pid and process.create_time() >= record.started - 1:
                process.kill()
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
