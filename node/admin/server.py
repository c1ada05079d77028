"""Serves the local HTTP interface on a loopback port, inside the node's own event loop."""

from __future__ import annotations

import re
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from deai.errors import ConfigError
from deai.files import create_file
from node.admin.app import make_app
from node.daemon import Daemon

_TOKEN: Final = re.compile("[!-~]{32,}")


def ensure_token(path: Path) -> str:
    """The token of this home, made at first; raise `ConfigError` if others can read it."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            create_file(path, secrets.token_hex(32).encode() + b"\n")
    return read_token(path)


def read_token(path: Path) -> str:
    """The token of a home; raise `ConfigError` when it is missing, damaged or open to others."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others", hint=f"run: chmod 600 {path}")
        token = path.read_text("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{path} holds no token", hint="delete it and start the node again")
    return token


def bind(address: str) -> socket.socket:
    """A listening socket on a loopback `host:port`; raise `ConfigError` when it is taken."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, int(port)))
        made.listen(64)
    except OSError as error:
        made.close()
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}",
            hint="choose another node.admin, or port 0 for a free one",
            code="port_taken",
        ) from error
    return made


def url_of(bound: socket.socket) -> str:
    """Where it listens."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_admin(
    daemon: Daemon,
    bound: socket.socket,
    token: str,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Takes `bound` over: the server closes it."""
    config = Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = 0.5
    config.shutdown_timeout = 0.5
    config.keep_alive_timeout = 5.0
    config.h11_max_incomplete_size = 16 * 1024
    config.backlog = 64
    # Hypercorn spells the same ASGI types in its own way.
    app = cast("Any", make_app(daemon, token))
    await serve(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)
