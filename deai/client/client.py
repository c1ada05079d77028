"""The client: one object that submits tasks and follows them, on trio."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from deai.actions import CancelTask
from deai.chain.ledger import Ledger, Transaction
from deai.chain.tasks_view import fold
from deai.client.directory import Directory, RegistryEvents, Source
from deai.client.documents import make_receipt, seconds_to_ms, task_document
from deai.client.following import Following, accepts_of
from deai.client.journal import Entry, Journal, Offload, Proposal, in_a_thread
from deai.client.requests import Prepared, TaskRequest, prepare
from deai.client.sessions import Sessions
from deai.client.submission import Plan, match, submit
from deai.client.tools import Tools, no_crash
from deai.client.updates import Feed, Reader
from deai.errors import DeaiError, Declined
from deai.ids import NodeId, TaskId
from deai.lifecycle import TaskState
from deai.net import Net
from deai.ports import Catalogue
from deai.receipts import write_receipt
from deai.tasks import TaskSpec


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How a task ended: its document, and the output if one won."""

    document: dict[str, Any]
    data: bytes | None = field(repr=False)

    @property
    def task_id(self) -> TaskId:
        """The task."""
        return TaskId(self.document["task_id"])

    @property
    def state(self) -> str:
        """`completed`, `failed` or `cancelled`; anything else means it still goes on."""
        return str(self.document["state"])

    @property
    def ok(self) -> bool:
        """Whether it completed and the output is here."""
        return self.state == TaskState.COMPLETED and self.data is not None


class TaskHandle:
    """A submitted task: follow it, wait for it, or leave it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._done = trio.Event()
        self._known = trio.Event()
        self._outcome: TaskOutcome | None = None
        self._error: Exception | None = None
        self.scope = trio.CancelScope()
        self.task_id: TaskId | None = None
        """Set once the task is on chain (`await posted()`)."""

    def follow(self) -> Reader:
        """Updates to iterate over: everything from the beginning, until it has ended."""
        return self._feed.read()

    async def posted(self) -> TaskId:
        """Wait until the task is on chain; raise what stopped it."""
        await self._known.wait()
        if self.task_id is None:
            assert self._error is not None
            raise self._error
        return self.task_id

    async def wait(self) -> TaskOutcome:
        """Wait for the end; raise what stopped the submission (`DeaiError`)."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def leave(self) -> None:
        """Stop following. A task that was posted goes on without its client."""
        self.scope.cancel()

    def is_posted(self, task: TaskId) -> None:
        """For the client: the task is on chain."""
        self.task_id = task
        self._known.set()

    def ended(self, outcome: TaskOutcome | None, error: Exception | None) -> None:
        """For the client: nothing more will happen."""
        self._outcome, self._error = outcome, error
        self._feed.close()
        self._known.set()
        self._done.set()


class Client:
    """A paying account's view of the network. Made by `open_client`; safe for many tasks."""

    def __init__(self, tools: Tools, nursery: trio.Nursery) -> None:
        self.tools = tools
        self._nursery = nursery

    async def submit(
        self,
        workload: str,
        data: bytes = b"",
        *,
        params: Mapping[str, Any] | None = None,
        policy: str = "",
        seats: int = 0,
        max_fee: int,
        deadline: float = 0.0,
        nodes: Iterable[NodeId] = (),
        tip: int = 0,
        min_sandbox: str = "none",
        idempotency_key: str = "",
        detach: bool = False,
    ) -> TaskHandle:
        """Start a task and return at once; the handle tells how it goes.

        `max_fee` is the most to pay per seat, in base units; `deadline` seconds from now (0:
        chosen from measured speeds). The same request again, before its task has ended, gives
        the same task; with an `idempotency_key` also afterwards. `detach` stops following once
        every node has the input.

        Raises `WorkloadFault`, `ConfigError`, `LimitExceeded` or `MalformedMessage` before
        anything is sent; what goes wrong later is raised by `handle.wait()`.
        """
        request = TaskRequest(
            workload=workload,
            data=data,
            params=params or {},
            policy=policy,
            seats=seats,
            max_fee=max_fee,
            deadline=deadline,
            nodes=tuple(nodes),
            tip=tip,
            min_sandbox=min_sandbox,
            idempotency_key=idempotency_key,
        )
        prepared = self.prepare(request)
        feed = Feed()
        handle = TaskHandle(feed)
        self._nursery.start_soon(self._carry, prepared, handle, feed, detach)
        return handle

    def prepare(self, request: TaskRequest) -> Prepared:
        """Check a request without sending anything; raise as `submit` does."""
        tools = self.tools
        return prepare(request, tools.catalogue, tools.ledger.info, tools.account)

    async def dry_run(self, request: TaskRequest) -> Plan:
        """Who would be asked, at what price, and why not the others; sends no proposal."""
        return await match(self.tools, self.prepare(request), seed=self.tools.random(32))

    async def result(self, task: str) -> TaskOutcome:
        """The outcome of a task of this client, by id or unique prefix.

        An unfinished one is followed to its end; an output that is not here is fetched from the
        nodes. Raises `Declined` for a task that this client and the chain do not know.
        """
        entry = await self.tools.journal.by_task(task)
        if entry is not None and not entry.is_open:
            kept = await self._kept(entry)
            if kept is not None and (kept.data is not None or kept.document["result"] is None):
                return kept
        handle = TaskHandle(Feed())
        return await self._attach(entry, TaskId(entry.task_id or task if entry else task), handle)

    async def show(self, task: str) -> dict[str, Any]:
        """A task's document as the chain and the journal tell it now, without following it."""
        entry = await self.tools.journal.by_task(task)
        if entry is not None and not entry.is_open and entry.document is not None:
            return entry.document
        identity = TaskId(entry.task_id if entry is not None and entry.task_id else task)
        records = await self.tools.ledger.task_events(identity, since=self._since(entry))
        view = fold(records)
        if view is None:
            raise Declined(f"no task {task} is known here or on this chain", code="not_found")
        return task_document(
            view, self.tools.ledger.info, workload=entry.spec.workload if entry else ""
        )

    async def cancel(self, task: str) -> Transaction:
        """Take back a task that was posted and not assigned; raise `Declined` otherwise."""
        entry = await self.tools.journal.by_task(task)
        identity = TaskId(entry.task_id if entry is not None and entry.task_id else task)
        view = fold(await self.tools.ledger.task_events(identity, since=self._since(entry)))
        if view is None:
            raise Declined(f"no task {task} is known here or on this chain", code="not_found")
        if view.state is not TaskState.PENDING:
            raise Declined(
                f"the task is {view.state}: it can be cancelled only before nodes are assigned",
                hint="an assigned task ends by itself; what is not earned comes back",
                code="not_cancellable",
            )
        return await self.tools.ledger.submit(CancelTask(view.task))

    def _since(self, entry: Entry | None) -> int:
        return entry.since if entry is not None else self.tools.ledger.info.deployed_at

    async def _carry(
        self, prepared: Prepared, handle: TaskHandle, feed: Feed, detach: bool
    ) -> None:
        outcome: TaskOutcome | None = None
        error: Exception | None = None
        with handle.scope:
            try:
                outcome = await self._complete(prepared, handle, feed, detach)
            except DeaiError as problem:
                error = problem
        if outcome is None and error is None:
            error = Declined("following was stopped; a posted task goes on", code="left")
        handle.ended(outcome, error)

    async def _complete(
        self, prepared: Prepared, handle: TaskHandle, feed: Feed, detach: bool
    ) -> TaskOutcome:
        tools = self.tools
        started = trio.current_time()
        entry = await tools.journal.find(
            tools.ledger.info.name,
            tools.account,
            prepared.digest,
            prepared.request.idempotency_key,
        )
        if entry is not None and not entry.is_open:
            kept = await self._kept(entry)
            assert kept is not None
            handle.is_posted(kept.task_id)
            if kept.data is not None or kept.document["result"] is None:
                return kept
            return await self._attach(entry, kept.task_id, handle)
        posted = await submit(tools, prepared, entry, tools.wall_clock())
        handle.is_posted(posted.proposal.task_id)
        following = Following(
            tools,
            feed,
            posted.proposal.task_id,
            since=posted.entry.since,
            started=started,
            prepared=prepared,
            entry=posted.entry,
            proposal=posted.proposal,
        )
        following.marks["posted"] = trio.current_time()
        if posted.transaction is not None:
            following.transactions.append(posted.transaction)
        if posted.plan is not None:
            following.tell(
                "matched",
                None,
                f"{len(posted.plan.ranking.fit)} offers fit, {prepared.seats} accepted",
            )
        following.tell(
            "posted",
            None,
            posted.proposal.task_id,
            transaction=posted.transaction.hash if posted.transaction is not None else "",
            amount=posted.proposal.task.escrowed,
        )
        await following.run(until_input=detach)
        return await self._finish(following)

    async def _attach(self, entry: Entry | None, task: TaskId, handle: TaskHandle) -> TaskOutcome:
        """Follow a task whose input is not at hand."""
        proposal: Proposal | None = None
        if entry is not None:
            known = await self.tools.journal.proposals(entry)
            proposal = next((one for one in known if one.task_id == task), None)
        following = Following(
            self.tools,
            handle._feed,  # noqa: SLF001 - the handle is this module's own
            task,
            since=self._since(entry),
            started=trio.current_time(),
            entry=entry,
            proposal=proposal,
        )
        await following.run()
        return await self._finish(following)

    async def _finish(self, following: Following) -> TaskOutcome:
        tools, view, entry = self.tools, following.view, following.entry
        data = following.output()
        path = ""
        if data is not None:
            path = str(await tools.offload(_save, tools.results / view.task_id, data))
            tools.crash("output_saved")
        spec = entry.spec if entry is not None else None
        receipt = await self._save_receipt(following, spec) if view.is_over and spec else ""
        document = task_document(
            view,
            tools.ledger.info,
            workload=spec.workload if spec is not None else "",
            sent=following.transactions,
            digests={m.index: m.opened.digest for m in following.members if m.opened is not None},
            path=path,
            size=len(data) if data is not None else None,
            receipt=receipt,
            timings=_timings(following),
        )
        if view.is_over and entry is not None:
            await tools.journal.end(entry, document, path)
            tools.crash("ending_saved")
        return TaskOutcome(document, data)

    async def _save_receipt(self, following: Following, spec: TaskSpec) -> str:
        accepts = {
            member.index: accept
            for member in following.members
            if (accept := accepts_of(following.proposal, member.index, member.seat.attempt))
        }
        receipt = make_receipt(
            following.view, self.tools.ledger.info, spec, following.members, accepts
        )
        if receipt is None:
            return ""
        target = self.tools.receipts / f"{following.task}.json"
        path = await self.tools.offload(_save, target, write_receipt(receipt))
        self.tools.crash("receipt_saved")
        return str(path)

    async def _kept(self, entry: Entry) -> TaskOutcome | None:
        """What the journal and the results folder hold of a finished task."""
        if entry.document is None:
            return None
        data = None
        if entry.output:
            try:
                data = await self.tools.offload(Path(entry.output).read_bytes)
            except OSError:
                data = None
        return TaskOutcome(entry.document, data)


def _timings(following: Following) -> dict[str, int]:
    marks, started = following.marks, following.started
    posted, sent = marks.get("posted"), marks.get("input")
    committed, ended = marks.get("committed"), marks.get("ended")
    matched = marks.get("matched", posted)
    return {
        "match_ms": seconds_to_ms(started, matched),
        "assign_ms": seconds_to_ms(matched, posted),
        "input_ms": seconds_to_ms(posted, sent),
        "execute_ms": seconds_to_ms(sent or posted, committed),
        "settle_ms": seconds_to_ms(committed, ended),
        "total_ms": seconds_to_ms(started, ended or trio.current_time()),
    }


def _save(path: Path, data: bytes) -> Path:
    """Write a file in one step, durably."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


@asynccontextmanager
async def open_client(
    *,
    ledger: Ledger,
    net: Net,
    catalogue: Catalogue,
    home: Path,
    sources: Sequence[Source] = (),
    fallback: Sequence[Source] | None = None,
    journal: Journal | None = None,
    offload: Offload = in_a_thread,
    random: Callable[[int], bytes] = secrets.token_bytes,
    crash: Callable[[str], None] = no_crash,
) -> AsyncIterator[Client]:
    """A client over the given ports, until the context ends; posted tasks go on without it.

    `sources` say which nodes there are, `fallback` is asked when they do not know enough
    (default: the registry's events). Files go to `home`: `client.db`, `results/`, `receipts/`.
    """
    own = journal or Journal(home / "client.db", offload)
    try:
        async with trio.open_nursery() as nursery:
            sessions = Sessions(net, nursery)
            directory = Directory(
                ledger,
                sessions,
                sources,
                (RegistryEvents(ledger),) if fallback is None else fallback,
            )
            tools = Tools(
                ledger=ledger,
                sessions=sessions,
                directory=directory,
                journal=own,
                catalogue=catalogue,
                results=home / "results",
                receipts=home / "receipts",
                random=random,
                wall_clock=time.time,
                offload=offload,
                crash=crash,
            )
            try:
                yield Client(tools, nursery)
            finally:
                nursery.cancel_scope.cancel()
    finally:
        if journal is None:
            own.close()
