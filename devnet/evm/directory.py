"""The directory of one local chain: its lock, its genesis, the file that says it serves."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deai.errors import ConfigError
from deai.files import replace_file

READY_FILE: Final = "ready.json"
MAX_GENESIS_BYTES: Final = 16 << 20
MAX_WEI: Final = 2**128


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


def read_genesis(path: Path) -> dict[bytes, int]:
    """Read ``{"0xaddress": wei}``; an amount is a number, or text for readers that lose digits.

    Raises :class:`ConfigError` that names the file and the entry.
    """
    try:
        if path.stat().st_size > MAX_GENESIS_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_GENESIS_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path}: an object {{"0xaddress": wei}} expected')
    balances: dict[bytes, int] = {}
    for text, amount in document.items():
        balances[_address(path, text)] = _wei(path, text, amount)
    return balances


def _address(path: Path, text: str) -> bytes:
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise ConfigError(f"{path}: {text!r} is not an address") from error
    if len(address) != 20:
        raise ConfigError(f"{path}: {text!r} is not an address")
    return address


def _wei(path: Path, text: str, amount: object) -> int:
    if isinstance(amount, str) and amount.isascii() and amount.isdigit() and len(amount) < 40:
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < MAX_WEI:
        raise ConfigError(f"{path}: the balance of {text} is not a number of wei")
    return amount
