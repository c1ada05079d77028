"""`deai task map`: one task per line of a file, over the fast lane, with results in order.

What is written to the output is done: the same command again goes on behind its last complete
line. Each line names its input by a digest over workload, parameters and input, so that the
results of one file are never continued with those of another.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from deai.cli import task_input
from deai.cli.base import INTERRUPTED, ExitWith, Settings, emit, run_trio, typed, typed_node
from deai.errors import DeaiError, LimitExceeded, UsageError, WorkloadFault

if TYPE_CHECKING:
    from rich.console import Console

    from deai.client.lane import Lane
    from deai.client.lane.tasks import Task
    from deai.ids import NodeId

FORMATS: Final = ("text", "json", "base64")
MAX_LINE: Final = 512 * 1024
"""Bytes of a line of the input or the output; an input has at most 64 KiB."""
SYNC_EVERY: Final = 1.0
"""Seconds after which results are on disk at the latest."""


@click.argument("workload")
@click.option("--input", "source", required=True, metavar="FILE|-", help="One task per line.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON lines (default: stdout).")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="What a line is (json for *.jsonl)."
)
@click.option("--param", "params", multiple=True, metavar="K=V", help="A parameter; repeatable.")
@click.option("--params", "params_file", type=click.Path(path_type=Path), help="JSON file of them.")
@click.option("--max-fee", metavar="N|0.12CT", help="Most to pay per task.")
@click.option("--max-units", type=click.IntRange(min=0), default=0, help="Paid for per task.")
@click.option("--top-up", metavar="N|5CT", help="Most to add to deposits that run out.")
@click.option("--node", "nodes", multiple=True, metavar="ID", help="Only these nodes; repeatable.")
@click.option(
    "--in-flight", type=click.IntRange(1, 1 << 16), default=1024, help="Tasks under way at once."
)
@click.option("--coordinator", metavar="URL", help="Ask this coordinator for nodes.")
def map_(settings: Settings, workload: str, **options: Any) -> None:  # noqa: ANN401
    r"""Compute one task per line, over all nodes with an open channel; results in order.

    A line is the input (text), a JSON string or value (json: a string stands for its text, any
    other value for the line as it is), or base64. A line of the output is
    {"index", "key", "output" | "base64", "error"}; the same command again goes on behind the last
    one. Ctrl-C stops; what was received is paid, and what is written is done.

    \b
    Examples:
      deai task map echo --input lines.txt --output results.jsonl
      deai task map embedding --input texts.jsonl --output vectors.jsonl --max-fee 0.01CT
    """
    job = _job(settings, workload, options)
    try:
        _pass_over(job, options["source"])
        document = run_trio(_run, settings, job)
    except KeyboardInterrupt:
        raise _left(settings, job) from None
    except DeaiError:
        if job.tasks:
            sys.stderr.write(_far(job))
        raise
    finally:
        job.close()
    if job.output is None:
        sys.stdout.flush()
        if not settings.json:
            render(settings.err, document)
    else:
        emit(settings, document, lambda console: render(console, document))
    if document["failed"]:
        raise ExitWith(1)


@dataclass
class _Job:
    """What is to be done, checked; `done` lines of it stand in the output already."""

    workload: str
    params: dict[str, Any]
    prefix: bytes
    source: IO[bytes]
    lines: Iterator[bytes]
    form: str
    results: _Results
    output: Path | None
    max_fee: int
    max_units: int
    top_up: int
    nodes: tuple[NodeId, ...]
    in_flight: int
    coordinator: str | None
    total: int | None
    tasks: int = 0
    failed: int = 0
    first_failed: str = ""
    """Why, of those that this run computed."""

    def close(self) -> None:
        """Let the files go."""
        self.results.close()
        if self.source is not sys.stdin.buffer:
            self.source.close()

    def key(self, data: bytes) -> str:
        """Names a task: its workload, parameters and input."""
        return hashlib.sha256(self.prefix + data).hexdigest()[:32]


def _job(settings: Settings, workload: str, options: dict[str, Any]) -> _Job:
    from deai.client.adapters import load_catalogue
    from deai.money import parse_amount

    if settings.json and options["output"] is None:
        raise UsageError(
            "--json prints one document: the results need a file", hint="name it with --output"
        )
    catalogue = load_catalogue()
    info = task_input.known_workload(catalogue, workload)
    params = task_input.read_params(options["params_file"], options["params"])
    try:
        parameters = catalogue.parameters(info.id, dict(params))
    except WorkloadFault as error:
        raise UsageError(str(error), hint=error.hint, code="bad_parameter") from error
    source, given = options["source"], options["max_fee"]
    form = options["form"] or ("json" if source.endswith(".jsonl") else "text")
    nodes = tuple(typed_node(settings, "--node", one) for one in options["nodes"])
    named = f"{info.id}\0{info.version}\0".encode() + hashlib.sha256(parameters).digest()
    max_fee = settings.max_fee if given is None else typed("--max-fee", parse_amount, given)
    top_up = typed("--top-up", parse_amount, options["top_up"]) if options["top_up"] else 0
    results = _Results(options["output"], as_base64=form == "base64")
    opened, total = _opened(source)
    return _Job(
        workload=info.id,
        params=params,
        prefix=named,
        source=opened,
        lines=_lines(opened, source),
        form=form,
        results=results,
        output=options["output"],
        max_fee=max_fee,
        max_units=options["max_units"],
        top_up=top_up,
        nodes=nodes,
        in_flight=options["in_flight"],
        coordinator=options["coordinator"],
        total=total,
    )


def _pass_over(job: _Job, source: str) -> None:
    """Read on behind what stands in the output; raise `UsageError` where it is of another input."""
    for index, (key, is_failed) in enumerate(job.results.kept()):
        line = next(job.lines, None)
        if line is None or job.key(read_line(line, job.form, index)) != key:
            raise UsageError(
                f"{job.output}: line {index + 1} is not the result of line {index + 1} of {source}",
                hint="name another --output, or the input, workload and parameters of that one",
                code="other_output",
            )
        job.tasks += 1
        job.failed += is_failed


async def _run(settings: Settings, job: _Job) -> dict[str, Any]:
    import trio

    from deai.cli.task import connect_client

    began, kept = time.monotonic(), job.tasks
    async with connect_client(settings, job.coordinator) as client:
        lane: Lane
        async with (
            client.lane(
                job.workload, params=job.params, max_fee=job.max_fee, nodes=job.nodes,
                max_units=job.max_units, auto_top_up=job.top_up,
            ) as lane,
            trio.open_nursery() as nursery,
        ):  # fmt: skip
            nursery.start_soon(_progress, settings, job)
            try:
                async for task in lane.results(_inputs(job), in_flight=job.in_flight):
                    _write(job, task)
            finally:
                job.results.sync()
            nursery.cancel_scope.cancel()
        shares = lane.shares
    seconds = time.monotonic() - began
    done = job.tasks - kept
    return {
        "tasks": job.tasks,
        "failed": job.failed,
        "first_failed": job.first_failed or None,
        "resumed": kept,
        "paid": str(sum(share.paid for share in shares)),
        "nodes": [
            {"node_id": one.node, "tasks": one.tasks, "paid": str(one.paid)} for one in shares
        ],
        "seconds": round(seconds, 3),
        "rate": round(done / seconds, 1) if seconds else 0.0,
        "vouchers": sum(one.vouchers for one in shares),
        "output": str(job.output) if job.output is not None else None,
    }


def _inputs(job: _Job) -> Iterator[bytes]:
    for at, line in enumerate(job.lines, job.tasks):
        yield read_line(line, job.form, at)


def _write(job: _Job, task: Task) -> None:
    error = task.error
    if error is not None and not isinstance(error, WorkloadFault | LimitExceeded):
        raise error  # no fault of this line's: the same command goes on with it
    job.results.add(job.tasks, job.key(task.data), task.output, error)
    job.tasks += 1
    job.failed += error is not None
    if error is not None and not job.first_failed:
        job.first_failed = f"line {job.tasks}: {error}"


async def _progress(settings: Settings, job: _Job) -> None:
    import trio

    from deai.cli.render import bar, say

    console, began, start = settings.err, time.monotonic(), job.tasks
    while True:
        is_live = console.is_terminal and not settings.json
        await trio.sleep(0.2 if is_live else 5.0)
        rate = (job.tasks - start) / (time.monotonic() - began)
        share = f"{bar(job.tasks / job.total, 30)} " if job.total else ""
        of = f" of {job.total}" if job.total else ""
        text = f"◉ {share}{job.tasks}{of} tasks  {rate:,.0f}/s  {job.failed} failed"
        if is_live:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
        else:
            say(console, text)


def _far(job: _Job) -> str:
    then = "the same command goes on behind them" if job.output else "they were printed"
    return f"stopped after {job.tasks:,} lines; {then}\n"


def _left(settings: Settings, job: _Job) -> ExitWith:
    text = f"stopped after {job.tasks} tasks; what was received is paid"
    hint = "the same command goes on behind them" if job.output else "name an --output to go on"
    sys.stderr.write(f"\n{text}; {hint}\n")
    if settings.json:
        body = {"code": "interrupted", "message": text, "hint": hint}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
    return ExitWith(INTERRUPTED)


def render(console: Console, document: dict[str, Any]) -> None:
    """The summary for people."""
    from deai.cli.render import pairs, tokens

    pairs(
        console,
        [
            ("Tasks", f"{document['tasks']} ({document['failed']} failed)"),
            ("First failed", document["first_failed"] or ""),
            ("Before", f"{document['resumed']} of them" if document["resumed"] else ""),
            ("Paid", f"{tokens(document['paid'])} in {document['vouchers']:,} vouchers"),
            ("Nodes", str(len(document["nodes"]))),
            ("Time", f"{document['seconds']} s, {document['rate']:,} tasks/s"),
            ("Output", document["output"] or ""),
        ],
    )


# --- lines in, lines out -----------------------------------------------------------------------


def read_line(line: bytes, form: str, index: int) -> bytes:
    """The input that a line stands for; raise `UsageError` naming the line."""
    if form == "text":
        return line
    try:
        if form == "base64":
            return base64.b64decode(line, validate=True)
        value = json.loads(line)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise UsageError(
            f"line {index + 1} of the input is no {form}: {error}",
            hint="--format says what a line is: " + ", ".join(FORMATS),
            code="bad_line",
        ) from error
    return value.encode() if isinstance(value, str) else line


def _opened(source: str) -> tuple[IO[bytes], int | None]:
    if source == "-":
        return sys.stdin.buffer, None
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - read to its end by the job
        total = sum(chunk.count(b"\n") for chunk in iter(partial(file.read, 1 << 20), b""))
        file.seek(0)
    except OSError as error:
        raise UsageError(
            f"cannot read the input {source!r}: {error.strerror}", code="unreadable_input"
        ) from error
    return file, total


def _lines(file: IO[bytes], source: str) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise LimitExceeded(
                f"a line of {source} is longer than {MAX_LINE} bytes", code="input_too_large"
            )
        yield line.rstrip(b"\r\n")


class _Results:
    """The output: lines that are whole, and one at most that is not."""

    def __init__(self, path: Path | None, *, as_base64: bool) -> None:
        """Take the file for this process alone; raise `UsageError`."""
        self._as_base64 = as_base64
        self._path = path
        self._synced_at = 0.0
        if path is None:
            self._file: IO[bytes] = sys.stdout.buffer
            return
        try:
            self._file = path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another process writes to {path}", hint="wait for it", code="output_in_use"
            ) from error
        except OSError as error:
            raise UsageError(
                f"cannot write {path}: {error.strerror}", code="unwritable_output"
            ) from error

    def kept(self) -> Iterator[tuple[str, bool]]:
        """Key of every whole line, and whether its task failed; cuts off one that is not."""
        if self._path is None:
            return
        self._file.seek(0)
        end = 0
        for number, line in enumerate(iter(partial(self._file.readline, 2 * MAX_LINE), b"")):
            if not line.endswith(b"\n"):
                break
            try:
                found = json.loads(line)
                place, key = found["index"], str(found["key"])
                is_failed = found.get("error") is not None
            except (ValueError, KeyError, TypeError, AttributeError):
                place, key, is_failed = -1, "", False
            if place != number:
                raise UsageError(
                    f"{self._path}: line {number + 1} is no result of this command",
                    hint="name another --output",
                    code="other_output",
                )
            end += len(line)
            yield key, is_failed
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def add(self, index: int, key: str, output: bytes | None, error: DeaiError | None) -> None:
        """Write a line; raise `UsageError` where there is no room."""
        row: dict[str, Any] = {"index": index, "key": key}
        if error is not None:
            row["error"] = {"code": error.reason_code, "message": str(error)}
        else:
            row |= self._shown(output or b"")
        try:
            self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        except OSError as problem:
            raise self._unwritable(problem) from problem
        if (now := time.monotonic()) - self._synced_at > SYNC_EVERY:
            self._synced_at = now
            self.sync()

    def sync(self) -> None:
        """What was added outlives the process, and a file a power cut; raise `UsageError`."""
        try:
            self._file.flush()
            if self._path is not None:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Let the file go."""
        if self._path is not None:
            with suppress(OSError):
                self._file.close()

    def _shown(self, output: bytes) -> dict[str, str]:
        if not self._as_base64:
            with suppress(UnicodeDecodeError):
                return {"output": output.decode()}
        return {"base64": base64.b64encode(output).decode()}

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot write {self._path or 'the results'}: {error.strerror}",
            hint="make room; the same command goes on behind the last whole line",
            code="unwritable_output",
        )
