"""`deai task map`: one task per line of a file, over the fast lane, with results in order.

What is written to the output is done: the same command again goes on behind its last complete
line, and asks for nothing that it had received. Each line names its input by a digest over
workload, parameters and input, so that the results of one file are never continued with those of
another.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli import lane_plan, task_diary, task_input
from deai.cli.base import INTERRUPTED, ExitWith, Settings, emit, run_trio, typed, typed_node
from deai.cli.map_lines import FORMATS, Lines, read_line
from deai.cli.map_results import Results
from deai.errors import DeaiError, LimitExceeded, UsageError, WorkloadFault

if TYPE_CHECKING:
    from rich.console import Console

    from deai.client.lane import Lane
    from deai.client.lane.tasks import Task
    from deai.ids import NodeId

DIARY_EVERY: Final = 5.0
"""Seconds between two notes of how far a run is."""
_BREATH: Final = 64
"""Lines after which others get their turn, where nothing has to be waited for."""


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
@click.option("--dry-run", is_flag=True, help="Show prices, sums and deposits; promise nothing.")
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
      deai task map echo --input lines.txt --dry-run
    """
    job = _job(settings, workload, options)
    try:
        _pass_over(job, options["source"])
        if options["dry_run"]:
            plan = run_trio(_plan, settings, job)
            emit(settings, plan, lambda console: lane_plan.render(console, plan))
            return
        document = run_trio(_run, settings, job)
        job.noted("completed", "every line has its result")
    except KeyboardInterrupt:
        job.noted("cancelled", "it was stopped; what was received is paid")
        raise _left(settings, job) from None
    except DeaiError as error:
        job.noted("failed", str(error))
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
    lines: Lines
    run: task_diary.Run
    form: str
    results: Results
    output: Path | None
    max_fee: int
    max_units: int
    top_up: int
    nodes: tuple[NodeId, ...]
    in_flight: int
    coordinator: str | None
    tasks: int = 0
    """Lines that have their result in the output."""
    failed: int = 0
    received_before: int = 0
    """Results that an earlier run received and did not write in their place."""
    first_failed: str = ""
    """Why, of those that this run computed."""
    lane: Lane | None = None
    """Once it was open."""

    def noted(self, state: str, detail: str) -> None:
        """Write into the diary how far this run came, if it began; blocks."""
        if self.lane is not None:
            paid = sum(share.paid for share in self.lane.shares)
            self.run.keep(
                tasks=self.tasks, failed=self.failed, paid=paid, state=state, detail=detail
            )

    def close(self) -> None:
        """Let the files go."""
        self.results.close()
        self.lines.close()

    def key(self, data: bytes) -> str:
        """Names a task: its workload, parameters and input."""
        return hashlib.sha256(self.prefix + data).hexdigest()[:32]


def _job(settings: Settings, workload: str, options: dict[str, Any]) -> _Job:
    from deai.client.adapters import load_catalogue
    from deai.money import parse_amount

    is_dry = options["dry_run"]
    if settings.json and options["output"] is None and not is_dry:
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
    output = options["output"]
    form = options["form"] or ("json" if source.endswith(".jsonl") else "text")
    nodes = tuple(typed_node(settings, "--node", one) for one in options["nodes"])
    named = f"{info.id}\0{info.version}\0".encode() + hashlib.sha256(parameters).digest()
    max_fee = settings.max_fee if given is None else typed("--max-fee", parse_amount, given)
    top_up = typed("--top-up", parse_amount, options["top_up"]) if options["top_up"] else 0
    lines = Lines(source)
    results = Results(options["output"], as_base64=form == "base64", is_dry=is_dry)
    return _Job(
        workload=info.id,
        params=params,
        prefix=named,
        lines=lines,
        run=task_diary.Run(settings, info.id, source, output and str(output)),
        form=form,
        results=results,
        output=options["output"],
        max_fee=max_fee,
        max_units=options["max_units"],
        top_up=top_up,
        nodes=nodes,
        in_flight=options["in_flight"],
        coordinator=options["coordinator"],
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


async def _plan(settings: Settings, job: _Job) -> dict[str, Any]:
    import trio

    from deai.cli.task import connect_client
    from deai.client.lane.planning import plan_lane

    async with connect_client(settings, job.coordinator) as client:
        plan = await plan_lane(
            client.tools, job.workload, params=job.params, max_fee=job.max_fee, nodes=job.nodes,
            max_units=job.max_units,
        )  # fmt: skip
        inputs = (
            read_line(line, job.form, index) for index, line in enumerate(job.lines, job.tasks)
        )
        return await trio.to_thread.run_sync(
            partial(lane_plan.document, plan, job.workload, inputs, done=job.tasks),
            abandon_on_cancel=True,
        )


async def _run(settings: Settings, job: _Job) -> dict[str, Any]:
    import trio

    from deai.cli.task import connect_client

    began, kept = time.monotonic(), job.tasks
    async with connect_client(settings, job.coordinator) as client:
        try:
            lane: Lane
            async with (
                client.lane(
                    job.workload, params=job.params, max_fee=job.max_fee, nodes=job.nodes,
                    max_units=job.max_units, auto_top_up=job.top_up,
                ) as lane,
                trio.open_nursery() as nursery,
            ):  # fmt: skip
                job.lane, under_way = lane, _UnderWay(job, lane)
                nursery.start_soon(_keep_diary, job)
                nursery.start_soon(_progress, settings, job)
                nursery.start_soon(job.results.keep_synced)
                nursery.start_soon(under_way.print_on)
                await under_way.run()
                nursery.cancel_scope.cancel()
        finally:
            job.results.sync()  # with what came while the lane was left
        shares = lane.shares
    seconds = time.monotonic() - began
    done = job.tasks - kept - job.received_before
    return {
        "tasks": job.tasks,
        "failed": job.failed,
        "first_failed": job.first_failed or None,
        "resumed": kept + job.received_before,
        "paid": str(sum(share.paid for share in shares)),
        "nodes": [
            {"node_id": one.node, "tasks": one.tasks, "paid": str(one.paid)} for one in shares
        ],
        "seconds": round(seconds, 3),
        "rate": round(done / seconds, 1) if seconds else 0.0,
        "vouchers": sum(one.vouchers for one in shares),
        "output": str(job.output) if job.output is not None else None,
    }


@dataclass(eq=False, slots=True)
class _Line:
    """A line that was read and whose result is not in its place yet."""

    index: int
    key: str
    row: bytes | None = None
    error: DeaiError | None = None
    """None of the line's own: it ends the command."""
    is_failed: bool = False


class _UnderWay:
    """Lines on their way to being results, at most `in_flight` of them.

    A result is written where it is heard of, which is before it is paid.
    """

    def __init__(self, job: _Job, lane: Lane) -> None:
        import trio

        self._job = job
        self._lane = lane
        self._lines: deque[_Line] = deque()
        self._news = trio.Event()
        self._to_print = trio.Event()
        self._problem: DeaiError | None = None

    async def run(self) -> None:
        """Until every line has its result; raises what ended it before."""
        import trio

        job, index = self._job, self._job.tasks
        async for line in job.lines:
            self._start(index, read_line(line, job.form, index))
            index += 1
            if not index % _BREATH:
                await trio.lowlevel.checkpoint()
            while len(self._lines) >= job.in_flight or job.results.is_full:
                await self._wait()
            self._raise()
        while self._lines or not job.results.is_printed:
            await self._wait()

    async def print_on(self) -> None:
        """Give standard output what it should have; raises `UsageError`."""
        import trio

        while True:
            self._to_print = trio.Event()
            if self._job.results.is_printed:
                await self._to_print.wait()
            await self._job.results.print_on()
            self._news.set()

    def _start(self, index: int, data: bytes) -> None:
        job = self._job
        line = _Line(index, job.key(data))
        self._lines.append(line)
        if (early := job.results.early(index, line.key)) is not None:
            line.row, line.is_failed = early
            job.received_before += 1
            self._go_on()
            return
        try:
            self._lane.start(data, partial(self._ended, line))
        except DeaiError as error:
            self._fail(line, error)
            self._go_on()

    def _ended(self, line: _Line, task: Task) -> None:
        """Called by the lane before it pays; nothing may be raised here."""
        self._lane.ended(task)
        if task.error is not None:
            self._fail(line, task.error)
        else:
            line.row = self._job.results.row(line.index, line.key, task.output, None)
        try:
            if line.row is not None and (self._lines[0] is not line or self._problem is not None):
                self._job.results.put_by(line.index, line.row)
        except UsageError as error:
            self._problem = self._problem or error
        self._go_on()

    def _fail(self, line: _Line, error: DeaiError) -> None:
        if not isinstance(error, WorkloadFault | LimitExceeded):
            line.error = error  # no fault of this line's: the same command goes on with it
            return
        line.row, line.is_failed = (
            self._job.results.row(line.index, line.key, None, error), True,
        )  # fmt: skip
        if not self._job.first_failed:
            self._job.first_failed = f"line {line.index + 1}: {error}"

    def _go_on(self) -> None:
        """Write the results whose turn it is."""
        job, lines = self._job, self._lines
        first, rows = job.tasks, list[bytes]()
        while lines and lines[0].row is not None and self._problem is None:
            line = lines.popleft()
            assert line.row is not None
            rows.append(line.row)
            job.tasks += 1
            job.failed += line.is_failed
        if rows:
            try:
                job.results.add(first, rows)
            except UsageError as error:
                self._problem = error
            self._to_print.set()
        if lines and lines[0].error is not None:
            self._problem = self._problem or lines[0].error
        self._news.set()

    async def _wait(self) -> None:
        import trio

        self._raise()
        self._news = trio.Event()
        await self._news.wait()
        self._raise()

    def _raise(self) -> None:
        if self._problem is not None:
            raise self._problem


async def _keep_diary(job: _Job) -> None:
    import trio

    while True:
        await trio.to_thread.run_sync(job.noted, "in_progress", "it goes on")
        await trio.sleep(DIARY_EVERY)


async def _progress(settings: Settings, job: _Job) -> None:
    import trio

    from deai.cli.render import bar, say

    console, began, start = settings.err, time.monotonic(), job.tasks
    while True:
        is_live = console.is_terminal and not settings.json
        await trio.sleep(0.2 if is_live else 5.0)
        rate = (job.tasks - start) / (time.monotonic() - began)
        share = f"{bar(job.tasks / job.lines.total, 30)} " if job.lines.total else ""
        of = f" of {job.lines.total}" if job.lines.total else ""
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
