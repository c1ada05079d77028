"""What every local chain does to serve: its directory, its port, its blocks beside its answers."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from deai.errors import ConfigError, DeaiError
from deai.files import replace_file

HOST: Final = "127.0.0.1"
READY_FILE: Final = "ready.json"
MAX_CONNECTIONS: Final = 512
SHUTDOWN_S: Final = 2
MAX_GENESIS_BYTES: Final = 16 << 20
DRAINED_BYTES: Final = 64 << 20  # read and thrown away of an oversized body, to be able to answer


class StorageFailed(DeaiError):
    """A block could not be stored: the disk is full or broken. The chain must stop answering."""

    code = "storage_failed"


OnFailure = Callable[[StorageFailed], None]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold ``directory`` (made if missing) for this process; ``ready.json`` is there only inside.

    The lock ends with the process, however that ends. Raises :class:`ConfigError` if another
    process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{directory} is in use by another chain process",
                hint="Stop it, or choose another directory.",
            ) from error
        ready = directory / READY_FILE
        ready.unlink(missing_ok=True)
        try:
            yield
        finally:
            ready.unlink(missing_ok=True)
    finally:
        os.close(handle)


def publish_ready(directory: Path, *, rpc_url: str, chain_id: int | str, ws_url: str = "") -> None:
    """Say in ``ready.json`` who serves and where; whoever sees the file sees all of it."""
    document = {"pid": os.getpid(), "rpc_url": rpc_url, "chain_id": chain_id}
    if ws_url:
        document["ws_url"] = ws_url
    replace_file(directory / READY_FILE, json.dumps(document).encode() + b"\n", flush=False)


def read_accounts(path: Path, form: str) -> dict[str, Any]:
    """Read the JSON object of accounts with which a chain begins; ``form`` says how it looks.

    Raises :class:`ConfigError` that names the file.
    """
    try:
        if path.stat().st_size > MAX_GENESIS_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_GENESIS_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: an object {form} expected")
    return document


def listen(port: int) -> socket.socket:
    """A listening socket; ``port`` 0 takes a free one. Raises :class:`ConfigError`."""
    try:
        listener = socket.create_server((HOST, port), backlog=256)
    except OSError as error:
        raise ConfigError(f"--port {port}: {error.strerror}") from error
    # asyncio sets this only on sockets made with an explicit protocol number, which this one is
    # not; without it every answer waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which ends the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    application: Callable[[OnFailure], Starlette],
    produce: Callable[[], Awaitable[None]],
    listener: socket.socket,
    ready: Callable[[], None],
    **settings: Any,  # noqa: ANN401 - uvicorn's own
) -> None:
    """Answer on ``listener`` and make blocks until SIGTERM or SIGINT.

    ``ready`` is called once the blocks are under way. Raises what ended ``produce``, and
    :class:`StorageFailed` when a block could not be stored: a chain that cannot store must not
    go on answering from memory.
    """
    failures: list[StorageFailed] = []

    def failed(error: StorageFailed) -> None:
        failures.append(error)
        server.should_exit = True

    server = _Server(
        uvicorn.Config(
            application(failed),
            log_level="warning",
            access_log=False,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_S,
            **settings,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    producing = asyncio.ensure_future(produce())
    # A chain that makes no blocks any more must not look alive, whatever the reason.
    producing.add_done_callback(lambda _: setattr(server, "should_exit", True))
    # The listener accepts already: whoever connects now is answered a moment later.
    ready()
    await server.serve(sockets=[listener])
    producing.cancel()
    with suppress(asyncio.CancelledError):
        await producing
    if failures:
        raise failures[0]


async def at_a_pace(block_time: float, make_block: Callable[[], object]) -> None:
    """Call ``make_block`` every ``block_time`` seconds until cancelled."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        # After a stall (a suspended machine) blocks are not made up for, time just goes on.
        due = max(due + block_time, loop.time() - block_time)
        await asyncio.sleep(max(0.0, due - loop.time()))
        make_block()


async def body_of(request: Request, limit: int) -> bytes | None:
    """Return the request's body, None if it is larger than ``limit`` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > DRAINED_BYTES:
            return None
    return b"".join(parts) if size <= limit else None
