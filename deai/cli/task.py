"""`deai task`: submit, follow, look, fetch, cancel, verify."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deai.cli import (
    task_diary,
    task_input,
    task_lane,
    task_map,
    task_order,
    task_output,
    task_receipt,
)
from deai.cli.base import (
    INTERRUPTED,
    ExitWith,
    Settings,
    emit,
    group,
    run_trio,
    typed,
    typed_node,
)

if TYPE_CHECKING:
    from deai.chain.ledger import Ledger
    from deai.client import Client, TaskOutcome, TaskRequest
    from deai.client.client import TaskLane
    from deai.client.journal import Entry, Journal
    from deai.ids import TaskId

T = TypeVar("T")

RECENT = 50


@group("task")
def task() -> None:
    r"""Submit tasks, follow them, fetch results, check receipts.

    \b
    Examples:
      deai task submit embedding --input texts.txt --output vectors.npy
      deai task show 0xf13cd5d4
    """


@task.command("submit")
@click.argument("workload")
@click.option("--input", "source", metavar="FILE|-", help="The input; - reads standard input.")
@click.option("--param", "params", multiple=True, metavar="K=V", help="A parameter; repeatable.")
@click.option("--params", "params_file", type=click.Path(path_type=Path), help="JSON file of them.")
@click.option("--policy", metavar="P", help="none/1, exact/1 or tol32/1 (default: the workload's).")
@click.option("--seats", type=click.IntRange(min=1), help="Nodes that compute it: 1, or 3, 5 … 15.")
@click.option("--max-fee", metavar="N|0.12CT", help="Most to pay per seat.")
@click.option("--deadline", metavar="120s", help="When results must be committed, from now.")
@click.option("--tip", default="0", metavar="N|0.01CT", help="For whoever settles the task.")
@click.option(
    "--lane",
    type=click.Choice(["escrow", "order", "channel"]),
    help="How the task is paid for (default: an open channel, for what needs no verification).",
)
@click.option("--node", "nodes", multiple=True, metavar="ID", help="Only these nodes; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), help="FILE, or x.npy, x.jsonl: convert.")
@click.option("--detach", is_flag=True, help="Return as soon as every node has the input.")
@click.option("--dry-run", is_flag=True, help="Show who would be asked; send nothing.")
@click.option("--idempotency-key", metavar="K", help="Same key: the same task, ever.")
@click.option("--coordinator", metavar="URL", help="Ask this coordinator for nodes.")
def submit(settings: Settings, workload: str, **options: Any) -> None:  # noqa: ANN401
    r"""Submit a task and follow it to its end; the exit code says how it ended.

    Over an open channel (--lane channel) one node computes it and is paid by voucher. That is the
    way of small tasks that need no verification, where this home has a channel; else the escrow.
    By a signed order (--lane order) the client sends no transaction: it signs for a committee, is
    charged from what `deai orders fund` set aside, and the nodes settle many orders at once.

    The same command again, before the task has ended, goes on with the same task: it is never
    paid for twice. Ctrl-C ends the watching, not the task.

    \b
    Examples:
      deai task submit embedding --input texts.txt --output vectors.npy
      deai task submit portfolio-risk --input book.json --param paths=1000000 --max-fee 0.12CT
      deai task submit portfolio-risk --input book.json --lane order
      cat texts.txt | deai task submit embedding --input - --json
    """
    task_output.check_output_path(options["output"])
    request = _request(settings, workload, options)
    if options["lane"] == "channel":
        task_lane.is_meant(settings, request, options)
    if options["dry_run"]:
        document, render = run_trio(_dry_run, settings, request, options)
        emit(settings, document, render)
        return
    seen: dict[str, str] = {}
    try:
        outcome = run_trio(_submit, settings, request, options, seen)
    except KeyboardInterrupt:
        # Nodes finish a task of the escrow by themselves; of an order they wait for its client.
        raise _left(settings, {} if options["lane"] == "order" else seen) from None
    _finish(settings, outcome, options["output"])


def _request(settings: Settings, workload: str, options: dict[str, Any]) -> TaskRequest:
    from deai.client.adapters import load_catalogue
    from deai.client.requests import TaskRequest
    from deai.errors import UsageError
    from deai.money import parse_amount

    for name in ("policy", "idempotency_key"):
        if options[name] == "":
            raise UsageError(f"--{name.replace('_', '-')} is empty", hint="leave it away instead")
    given, source, deadline = options["max_fee"], options["source"], options["deadline"]
    data, params = task_input.read_task(
        load_catalogue(), workload, source, options["params_file"], options["params"],
        options["output"],
    )  # fmt: skip
    return TaskRequest(
        workload=workload,
        data=data,
        params=params,
        policy=options["policy"] or "",
        seats=options["seats"] or 0,
        max_fee=(settings.max_fee if given is None else typed("--max-fee", parse_amount, given)),
        deadline=0.0 if deadline is None else task_input.parse_duration(deadline),
        nodes=tuple(typed_node(settings, "--node", node) for node in options["nodes"]),
        tip=typed("--tip", parse_amount, options["tip"]),
        idempotency_key=options["idempotency_key"] or "",
    )


async def _submit(
    settings: Settings, request: TaskRequest, options: dict[str, Any], seen: dict[str, str]
) -> TaskOutcome:
    import trio

    from deai.cli.task_progress import follow

    async with connect_client(settings, options["coordinator"]) as client:
        if task_lane.is_meant(settings, request, options):
            must = options["lane"] == "channel"
            done = await task_lane.submit(settings, client, request, must=must)
            if done is not None:
                return done
        paid_by: TaskLane = "order" if options["lane"] == "order" else "escrow"
        handle = await client.start(request, detach=options["detach"], lane=paid_by)

        async def note_id() -> None:
            seen["task_id"] = await handle.posted()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, settings, handle.follow())
            nursery.start_soon(note_id)
        return await handle.wait()


async def _dry_run(
    settings: Settings, request: TaskRequest, options: dict[str, Any]
) -> tuple[dict[str, Any], Callable[[Any], None]]:
    from deai.cli import lane_plan, render_task

    async with connect_client(settings, options["coordinator"]) as client:
        if task_lane.is_meant(settings, request, options):
            must = options["lane"] == "channel"
            planned = await task_lane.plan(client, request, must=must)
            if planned is not None:
                return planned, lambda console: lane_plan.render(console, planned)
        if options["lane"] == "order":
            client.orders.check(client.prepare(request))
        tried = await client.dry_run(request)
        balances = await client.tools.ledger.balances(client.tools.account)
        notes = list(client.tools.directory.notes)
    plan, prepared = tried.plan, tried.prepared
    chosen = {one.node for one in plan.chosen} if plan is not None else set()
    escrowed = plan.fee * prepared.seats + request.tip if plan is not None else None
    document = {
        "workload": prepared.info.id,
        "policy": prepared.policy.label,
        "seats": prepared.seats,
        "items": prepared.estimate.items,
        "units": prepared.estimate.units,
        "fee": str(int(plan.fee)) if plan is not None else None,
        "escrowed": str(escrowed) if escrowed is not None else None,
        "lease_s": plan.lease if plan is not None else None,
        "deadline_s": plan.deadline if plan is not None else None,
        "nodes": [
            {
                "node_id": one.node,
                "ask": str(one.ask),
                "seconds": round(one.seconds, 3),
                "chosen": one.node in chosen,
            }
            for one in tried.ranking.fit
        ],
        "rejected": [
            {"node_id": one.node, "code": one.code, "reason": one.reason}
            for one in tried.ranking.rejected
        ],
        "problem": str(tried.error) if tried.error is not None else None,
        "vault": str(balances.vault),
        "wallet": str(balances.tokens),
        "notes": notes,
    }
    return document, lambda console: render_task.dry_run(console, document)


def _left(settings: Settings, seen: dict[str, str]) -> ExitWith:
    """What Ctrl-C leaves behind, said."""
    import json
    import sys

    known = seen.get("task_id")
    if known:
        text = f"stopped watching; the task goes on: deai task result {known}"
    else:
        text = "stopped; if the task was posted already, the same command goes on with it"
    sys.stderr.write(text + "\n")
    if settings.json:
        body = {"code": "interrupted", "message": text, "hint": "the same command goes on"}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
    return ExitWith(INTERRUPTED)


def _finish(settings: Settings, outcome: TaskOutcome, output: Path | None) -> None:
    from deai.cli import render_task

    document = outcome.document
    if output is not None and outcome.data is not None:
        data = task_output.converted(document["workload"], outcome.data, output)
        task_output.write_output(output, data)
        document = {**document, "result": {**document["result"], "path": str(output)}}
    emit(settings, document, lambda console: render_task.outcome(console, document))
    if outcome.state in ("failed", "cancelled"):
        raise ExitWith(1)
    if outcome.state == "completed" and outcome.data is None:
        raise ExitWith(1)


@task.command("show")
@click.argument("task_id")
def show(settings: Settings, task_id: str) -> None:
    r"""Show one task: seats, money, transactions.

    Takes an id, or a unique prefix of a task of this home.

    \b
    Example:
      deai task show 0xf13cd5d4
    """
    from deai.cli import render_task
    from deai.client import looking

    of_lane = task_diary.show(settings, task_id)
    if of_lane is not None and "attempts" not in of_lane:
        emit(settings, of_lane, lambda console: task_diary.render(console, of_lane))
        return
    if of_lane is not None:
        document = of_lane
    elif task_order.found(settings, task_id):
        document = task_order.show(settings, task_id)
    else:
        document = run_trio(_looking, settings, task_id, looking.show)
    emit(settings, document, lambda console: render_task.show(console, document))


@task.command("events")
@click.argument("task_id")
def events(settings: Settings, task_id: str) -> None:
    r"""List everything the chain reported about a task.

    \b
    Example:
      deai task events 0xf13cd5d4
    """
    from deai.cli import render_task
    from deai.client import looking

    task_order.has_no(settings, task_id, "events")
    items = run_trio(_looking, settings, task_id, looking.events)
    emit(
        settings,
        {"items": items, "next_cursor": None},
        lambda console: render_task.events(console, items),
    )


@task.command("list")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=RECENT, help="How many, newest first."
)
def list_(settings: Settings, limit: int) -> None:
    r"""List the tasks that were submitted from this home.

    \b
    Example:
      deai task list --limit 10
    """
    from deai.cli import render_task

    items = run_trio(_list, settings, limit)
    emit(
        settings,
        {"items": items, "next_cursor": None},
        lambda console: render_task.listing(console, items),
    )


async def _list(settings: Settings, limit: int) -> list[dict[str, Any]]:
    from deai.client.journal import Journal

    journal = Journal(settings.home / "client.db")
    try:
        entries = await journal.recent(limit)
    finally:
        journal.close()
    orders = await task_order.recent(settings, limit)
    of_lane = task_diary.recent(settings, limit)
    tasks = [(entry.created, _listed(entry)) for entry in entries]
    every = sorted([*tasks, *orders, *of_lane], key=lambda one: -one[0])
    return [document for _, document in every[:limit]]


def _listed(entry: Entry) -> dict[str, Any]:
    from deai.client.documents import rfc3339

    return {
        "task_id": entry.task_id,
        "workload": entry.spec.workload,
        "policy": entry.policy,
        "chain": entry.chain,
        "state": entry.document["state"] if entry.document else _unfinished(entry.task_id),
        "submitted_at": rfc3339(int(entry.created)),
        "receipt": entry.document["receipt"] if entry.document else None,
    }


def _unfinished(task_id: str | None) -> str:
    return "assigned" if task_id else "pending"


@task.command("result")
@click.argument("task_id")
@click.option("--output", type=click.Path(path_type=Path), help="FILE, or x.npy, x.jsonl: convert.")
@click.option("--coordinator", metavar="URL", help="Ask this coordinator for nodes.")
def result(settings: Settings, task_id: str, output: Path | None, coordinator: str | None) -> None:
    r"""Fetch the output of a task; an unfinished one is followed to its end.

    \b
    Example:
      deai task result 0xf13cd5d4 --output vectors.npy
    """
    task_output.check_output_path(output)
    if (of_lane := task_diary.result(settings, task_id)) is not None:
        _finish(settings, of_lane, output)
        return
    if task_order.found(settings, task_id):
        _finish(settings, task_order.result(settings, task_id), output)
        return
    try:
        outcome = run_trio(_result, settings, task_id, coordinator)
    except KeyboardInterrupt:
        raise _left(settings, {"task_id": task_id}) from None
    _finish(settings, outcome, output)


async def _result(settings: Settings, task_id: str, coordinator: str | None) -> TaskOutcome:
    from deai.client.journal import Journal
    from deai.client.kept import kept_outcome

    journal = Journal(settings.home / "client.db")
    try:
        there, identity = await _located(settings, journal, task_id)
        kept = await kept_outcome(await journal.by_task(identity))
    finally:
        journal.close()
    if kept is not None and kept.is_whole:
        return kept
    async with connect_client(there, coordinator) as client:
        return await client.result(identity)


@task.command("cancel")
@click.argument("task_id")
def cancel(settings: Settings, task_id: str) -> None:
    r"""Take back a task that was posted and not assigned yet.

    \b
    Example:
      deai task cancel 0xf13cd5d4
    """
    from deai.cli.render import say, short
    from deai.client import looking

    async def take_back(journal: Journal, ledger: Ledger, identity: TaskId) -> dict[str, Any]:
        done = await looking.cancel(journal, ledger, identity)
        return {"task_id": identity, "state": "cancelled", "transaction": done.hash}

    task_order.has_no(settings, task_id, "cancellation")
    document = run_trio(partial(_looking, signing=True), settings, task_id, take_back)
    emit(
        settings,
        document,
        lambda console: say(console, f"– cancelled   tx {short(document['transaction'])}"),
    )


def connect_client(
    settings: Settings, coordinator: str | None
) -> AbstractAsyncContextManager[Client]:
    """The client of these settings; raises `ConfigError`."""
    from deai.client.access import connect, entry_of
    from deai.urls import parse_url

    entry_of(settings.network, settings.chain)  # no key helps where there is no such chain
    url = settings.config.coordinator_url
    if coordinator is not None:
        url = typed("--coordinator", parse_url, coordinator)
    return connect(
        settings.network,
        key=settings.client_key,
        passphrase_file=settings.client_passphrase,
        home=settings.home,
        chain=settings.chain,
        account=settings.client_account,
        coordinators=[url] if url else [],
        mdns=settings.config.client.mdns,
    )


async def _located(settings: Settings, journal: Journal, text: str) -> tuple[Settings, TaskId]:
    """A task by its id, or by the beginning of one of this home's, and settings for its chain.

    Raises `UsageError` for what is neither, and where `--chain` names another chain than its own.
    """
    from deai.errors import UsageError
    from deai.ids import parse_task

    entry = await journal.by_task(text)
    if entry is None or entry.task_id is None:
        hint = "`deai task list --json` shows this home's tasks; only theirs may be cut"
        return settings, typed("TASK_ID", parse_task, text, code="bad_task_id", hint=hint)
    if settings.only_chain not in (None, entry.chain):
        raise UsageError(
            f"--chain: task {entry.task_id} is on {entry.chain}",
            hint="leave --chain away",
            code="other_chain",
        )
    return settings.on(entry.chain), entry.task_id


async def _looking(
    settings: Settings,
    text: str,
    function: Callable[[Journal, Ledger, TaskId], Awaitable[T]],
    *,
    signing: bool = False,
) -> T:
    """What `function` finds of a task on its chain, which it may write to if `signing`."""
    from deai.client.access import open_account, open_reader
    from deai.client.journal import Journal
    from deai.keys import load_signer

    journal = Journal(settings.home / "client.db")
    try:
        there, identity = await _located(settings, journal, text)
        if signing:
            key, passphrase = there.client_key, there.client_passphrase
            signer = load_signer(key, passphrase, chain=there.chain)
            opened = open_account(
                there.network, there.chain, signer, there.home, there.client_account
            )
        else:
            opened = open_reader(there.network, there.chain)
        async with opened as ledger:
            return await function(journal, ledger, identity)
    finally:
        journal.close()


task.command("map")(task_map.map_)
task.command("verify-receipt")(task_receipt.verify)
