"""Reading what the command line gives a task: files, parameters, durations."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from deai.errors import ConfigError, LimitExceeded
from deai.hashing import MAX_BLOB_BYTES

MAX_PARAMS_BYTES: Final = 64 * 1024
CONVERTED: Final = (".npy", ".jsonl", ".json")
_DURATION: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*(s|m|h|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def read_input(source: str | None) -> bytes:
    """A file's bytes, standard input for `-`, nothing for None; at most 64 MiB."""
    if source is None:
        return b""
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_BLOB_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_BLOB_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the input {source}: {error.strerror}",
            hint="name a file, or - for standard input",
            code="unreadable_input",
        ) from error
    if len(data) > MAX_BLOB_BYTES:
        raise LimitExceeded(
            f"the input is larger than {MAX_BLOB_BYTES} bytes",
            hint="cut it into several tasks",
            code="input_too_large",
        )
    return data


def read_params(file: Path | None, given: Iterable[str]) -> dict[str, Any]:
    """Parameters from a JSON file and from `K=V` (JSON where it is JSON, else text)."""
    params: dict[str, Any] = {}
    if file is not None:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_PARAMS_BYTES + 1)
            loaded = msgspec.json.decode(data) if len(data) <= MAX_PARAMS_BYTES else None
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise ConfigError(f"{file}: {error}", hint="parameters are a JSON object") from error
        if not isinstance(loaded, dict):
            raise ConfigError(f"{file}: parameters are a JSON object of at most 64 KiB")
        params.update(loaded)
    named: set[str] = set()
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--param takes K=V, not {one[:60]!r}")
        if key in named:
            raise click.UsageError(f"--param {key[:60]} is given twice")
        named.add(key)
        try:
            params[key] = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            params[key] = value
    return params


def parse_duration(text: str) -> float:
    """Seconds from `120s`, `2m`, `1h` or a bare number of seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"not a duration: {text[:40]!r}", hint="write 90s, 2m or 1h", code="bad_duration"
        )
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds <= 0:
        raise ConfigError(
            "the deadline lies in the past",
            hint="a deadline is a time from now, as 120s",
            code="deadline_in_the_past",
        )
    return seconds


def check_output_path(path: Path | None) -> None:
    """Refuse a place that cannot be written before anything is paid for."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(
            f"cannot write {path}: its folder does not exist, or it is a folder",
            code="unwritable_output",
        )


def converted(workload: str, data: bytes, output: Path) -> bytes:
    """An output in the format that the file's name asks for; raise `WorkloadFault`."""
    if output.suffix not in CONVERTED:
        return data
    from deai.client.adapters import load_catalogue

    return load_catalogue().convert(workload, data, output.suffix)


def write_output(path: Path, data: bytes) -> None:
    """Write a file in one step."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", code="unwritable_output"
        ) from error
