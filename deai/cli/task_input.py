"""Reading what the command line gives a task: files, parameters, durations.

What was typed wrong is a `UsageError`, said before anything is looked for on the network.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from deai.cli.task_output import check_output_form
from deai.codec import check_json_depth
from deai.errors import LimitExceeded, MalformedMessage, UsageError, WorkloadFault
from deai.hashing import MAX_BLOB_BYTES

if TYPE_CHECKING:
    from deai.ports import Catalogue, WorkloadInfo

MAX_PARAMS_BYTES: Final = 64 * 1024
EXAMPLES: Final = {"embedding": "texts.txt", "portfolio-risk": "book.json"}
"""What an input of our own workloads may be called."""
_DURATION: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*(s|m|h|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def read_input(source: str | None) -> bytes:
    """A file's bytes, standard input for `-`, nothing for None; at most 64 MiB."""
    if source is None:
        return b""
    try:
        if source == "-":
            if sys.stdin.isatty():
                sys.stderr.write("reading the input from the keyboard; Ctrl-D ends it\n")
            data = sys.stdin.buffer.read(MAX_BLOB_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_BLOB_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the input {source!r}: {error.strerror}",
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
    """Parameters from a JSON file and from `K=V` (JSON where it is JSON, else text).

    One that is given in both ways is the one of `K=V`; twice in the same way is an error.
    """
    params: dict[str, Any] = {}
    if file is not None:
        params.update(_params_file(file))
    named: set[str] = set()
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UsageError(f"--param takes K=V, not {one[:60]!r}")
        if key in named:
            raise UsageError(f"--param {key[:60]} is given twice", hint="give it once")
        named.add(key)
        try:
            params[key] = _strict_json(value)
        except _Twice as error:
            raise UsageError(f"--param {key[:60]}: {error}", hint="give each key once") from error
        except (ValueError, MalformedMessage):
            params[key] = value
    return params


def _params_file(file: Path) -> dict[str, Any]:
    hint = 'parameters are a JSON object of at most 64 KiB, as {"paths": 100000}'
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_PARAMS_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {str(file)!r}: {error.strerror}", hint=hint, code="unreadable_input"
        ) from error
    if len(data) > MAX_PARAMS_BYTES:
        raise UsageError(f"{file}: larger than {MAX_PARAMS_BYTES} bytes", hint=hint)
    try:
        loaded = _strict_json(data.decode("utf-8-sig"))
    except (ValueError, MalformedMessage) as error:
        raise UsageError(f"{file}: {error}", hint=hint) from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{file}: holds no JSON object", hint=hint)
    return loaded


class _Twice(ValueError):
    """An object that has a key twice: two readers may disagree on which one counts."""


def _strict_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """JSON without NaN, infinity or a key that stands twice.

    Raises `ValueError`, or `MalformedMessage` where it is nested too deeply.
    """
    check_json_depth(text)
    return json.loads(
        text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(f"the key {key[:60]!r} stands there twice")
        found[key] = value
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits)


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def known_workload(catalogue: Catalogue, workload: str) -> WorkloadInfo:
    """What is known of a workload; raise `UsageError` if none is called so."""
    try:
        return catalogue.info(workload)
    except WorkloadFault as error:
        raise UsageError(str(error), hint=error.hint, code="unknown_workload") from error


def read_task(
    catalogue: Catalogue,
    workload: str,
    source: str | None,
    params_file: Path | None,
    given: Iterable[str],
    output: Path | None,
) -> tuple[bytes, dict[str, Any]]:
    """Input and parameters of a task as the options give them.

    Raises `UsageError` for a workload, parameter or form of output that does not exist and for
    an input that is not there; one that is there and wrong is the task's fault, found later.
    """
    known_workload(catalogue, workload)
    check_output_form(catalogue, workload, output)
    params = read_params(params_file, given)
    if workload == "embedding" and source and source.endswith(".jsonl"):
        params.setdefault("format", "jsonl")
    try:
        parameters = catalogue.parameters(workload, dict(params))
    except WorkloadFault as error:
        raise UsageError(
            str(error),
            hint=error.hint or f"`deai workload show {workload}` tells what it takes",
            code="bad_parameter",
        ) from error
    data = read_input(source)
    if not data:
        _check_empty(catalogue, workload, parameters, source)
    return data, params


def _check_empty(
    catalogue: Catalogue, workload: str, parameters: bytes, source: str | None
) -> None:
    try:
        catalogue.check(workload, parameters, b"")
    except WorkloadFault as error:
        place = {None: "", "-": ": standard input was empty"}.get(source, f": {source} is empty")
        name = EXAMPLES.get(workload, "FILE")
        raise UsageError(
            f"{workload} needs an input{place}",
            hint=f"for example: --input {name}, or --input - for standard input",
            code="no_input",
        ) from error


def parse_duration(text: str) -> float:
    """Seconds from `120s`, `2m`, `1h` or a bare number of seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"not a duration: {text[:40]!r}", hint="write 90s, 2m or 1h", code="bad_duration"
        )
    seconds = float(found[1]) * _SECONDS[found[2]]
    if not seconds > 0:
        raise UsageError(
            "the deadline lies in the past",
            hint="a deadline is a time from now, as 120s",
            code="deadline_in_the_past",
        )
    return seconds
