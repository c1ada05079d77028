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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli import lane_plan, task_diary, task_input
from deai.cli.base import (
    INTERRUPTED,
    ExitWith,
    Settings,
    emit,
    run_trio,
    typed,
    typed_node,
    until_told,
)
from deai.cli.map_job import Job, UnderWay
from deai.cli.map_lines import FORMATS, Lines, read_line
from deai.cli.map_results import Results
from deai.errors import DeaiError, UsageError, WorkloadFault

if TYPE_CHECKING:
    from rich.console import Console

    from deai.client.lane import Lane

DIARY_EVERY: Final = 5.0
"""Seconds between two notes of how far a run is."""


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
        document = run_trio(_until_told, settings, job)
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


def _job(settings: Settings, workload: str, options: dict[str, Any]) -> Job:
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
    return Job(
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


def _pass_over(job: Job, source: str) -> None:
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


async def _plan(settings: Settings, job: Job) -> dict[str, Any]:
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


async def _until_told(settings: Settings, job: Job) -> dict[str, Any]:
    """As `_run`; raise `KeyboardInterrupt` once what was received is paid.

    Left to Python, Ctrl-C would strike in whatever runs, also between a result and its voucher.
    """
    import trio

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            await nursery.start(until_told, scope)
            document = await _run(settings, job)
        nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise KeyboardInterrupt
    return document


async def _run(settings: Settings, job: Job) -> dict[str, Any]:
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
                job.lane, under_way = lane, UnderWay(job, lane)
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


async def _keep_diary(job: Job) -> None:
    import trio

    while True:
        await trio.to_thread.run_sync(job.noted, "in_progress", "it goes on")
        await trio.sleep(DIARY_EVERY)


async def _progress(settings: Settings, job: Job) -> None:
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


def _far(job: Job) -> str:
    then = "the same command goes on behind them" if job.output else "they were printed"
    return f"stopped after {job.tasks:,} lines; {then}\n"


def _left(settings: Settings, job: Job) -> ExitWith:
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
