"""The client: one object that submits tasks and follows them, on trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import trio

from deai.chain.ledger import Transaction
from deai.client import looking
from deai.client.documents import make_receipt, seconds_to_ms, task_document
from deai.client.following import Following, accepts_of
from deai.client.handle import TaskHandle, TaskOutcome
from deai.client.journal import Entry, JournalError, Proposal
from deai.client.kept import kept_outcome
from deai.client.lane.hub import Hub
from deai.client.lane.lane import Lane, open_lane
from deai.client.lane.patience import Patience
from deai.client.offering import DryRun, look_around, plan_for
from deai.client.orders.desk import OrderDesk
from deai.client.requests import Prepared, TaskRequest, prepare
from deai.client.submission import Submission
from deai.client.tools import Tools
from deai.client.updates import Feed
from deai.errors import ConfigError, DeaiError, Declined, TaskDeclined, UsageError
from deai.files import replace_file
from deai.ids import NodeId, TaskId
from deai.receipts import write_receipt
from deai.tasks import TaskSpec

TaskLane: TypeAlias = Literal["escrow", "order"]
"""How one task is paid for: by a transaction of its own, or by a signed order."""


class Client:
    """A paying account's view of the network. Made by `open_client`; safe for many tasks."""

    def __init__(self, tools: Tools, nursery: trio.Nursery, patience: Patience) -> None:
        self.tools = tools
        self._nursery = nursery
        self._hub = Hub(tools, nursery, patience)
        self.orders = OrderDesk(tools)

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
        lane: TaskLane = "escrow",
    ) -> TaskHandle:
        """Start a task and return at once; the handle tells how it goes.

        `max_fee` is the most to pay per seat, in base units; `deadline` seconds from now (0:
        chosen from measured speeds). The same request again, before its task has ended, gives
        the same task; with an `idempotency_key` also afterwards. `detach` stops following once
        every node has the input. With `lane="order"` the account signs an order instead of sending
        a transaction: it pays from what it set aside (`deai orders fund`), under `exact/1` or
        `none/1`, and follows to the end, because it carries the nodes' signatures.

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
        return await self.start(request, detach=detach, lane=lane)

    def lane(
        self,
        workload: str,
        *,
        params: Mapping[str, Any] | None = None,
        max_fee: int,
        nodes: Iterable[NodeId] | None = None,
        max_units: int = 0,
        auto_top_up: int = 0,
    ) -> AbstractAsyncContextManager[Lane]:
        """Many small tasks of one workload, each paid by a voucher of an open channel.

        They go to every node with an open channel of this account (of `nodes`, if any are named)
        that asks at most `max_fee` base units a task. `max_units` fixes how many cost units are
        paid for (0: as many as each input has). Of deposits that run out, `auto_top_up` base
        units in all are added. Leaving it pays for everything received.

        Entering raises `WorkloadFault`, `ConfigError`, `NotSetUp` (`no_channel`), `TaskDeclined`,
        or why no node could be reached.
        """
        return open_lane(
            self._hub,
            self.tools,
            workload,
            params=params,
            max_fee=max_fee,
            nodes=nodes,
            max_units=max_units,
            auto_top_up=auto_top_up,
        )

    async def start(
        self, request: TaskRequest, *, detach: bool = False, lane: TaskLane = "escrow"
    ) -> TaskHandle:
        """As `submit`, for a request made elsewhere."""
        prepared = self.prepare(request)
        feed = Feed()
        handle = TaskHandle(feed)
        if lane == "order":
            if detach:
                raise UsageError(
                    "an order is followed to its end: its client carries the signatures",
                    hint="leave --detach away, or take --lane escrow",
                )
            self.orders.check(prepared)
            self._nursery.start_soon(self._hold, handle, self.orders.carry, prepared, feed)
            return handle
        complete = partial(self._complete, detach=detach)
        self._nursery.start_soon(self._hold, handle, complete, prepared, feed)
        return handle

    def prepare(self, request: TaskRequest) -> Prepared:
        """Check a request without sending anything; raise as `submit` does."""
        tools = self.tools
        return prepare(request, tools.catalogue, tools.ledger.info, tools.account)

    async def dry_run(self, request: TaskRequest) -> DryRun:
        """Who would be asked, at what price, and why not the others; sends no proposal."""
        prepared = self.prepare(request)
        scene = await look_around(self.tools, prepared, self.tools.random(32))
        try:
            plan = plan_for(prepared, scene)
        except (TaskDeclined, ConfigError) as error:
            return DryRun(prepared, scene.ranking, None, error)
        return DryRun(prepared, scene.ranking, plan, None)

    async def result(self, task: str) -> TaskOutcome:
        """The outcome of a task of this client, by id or unique prefix.

        An unfinished one is followed to its end; an output that is not here is fetched from the
        nodes. Raises `Declined` for a task that this client and the chain do not know.
        """
        order = await self.orders.find(task)
        if order is not None:
            return await self.orders.result(order)
        entry = await self.tools.journal.by_task(task)
        if entry is not None and not entry.is_open:
            kept = await kept_outcome(entry, self.tools.offload)
            if kept is not None and kept.is_whole:
                return kept
        handle = TaskHandle(Feed())
        return await self._attach(entry, TaskId(entry.task_id or task if entry else task), handle)

    async def show(self, task: str) -> dict[str, Any]:
        """A task's document as the chain and the journal tell it now, without following it."""
        order = await self.orders.find(task)
        if order is not None:
            return await self.orders.show(order)
        return await looking.show(self.tools.journal, self.tools.ledger, task)

    async def cancel(self, task: str) -> Transaction:
        """Take back a task that was posted and not assigned; raise `Declined` otherwise."""
        return await looking.cancel(self.tools.journal, self.tools.ledger, task)

    def _since(self, entry: Entry | None) -> int:
        return entry.since if entry is not None else self.tools.ledger.info.deployed_at

    async def _hold(
        self,
        handle: TaskHandle,
        carry: Callable[[Prepared, TaskHandle, Feed], Awaitable[TaskOutcome]],
        prepared: Prepared,
        feed: Feed,
    ) -> None:
        """Carry a request, and let its handle tell how that ended."""
        outcome: TaskOutcome | None = None
        error: Exception | None = None
        with handle.scope:
            try:
                outcome = await carry(prepared, handle, feed)
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
        await self.orders.check_key(prepared)
        entry = await tools.journal.find(
            tools.ledger.info.name,
            tools.account,
            prepared.digest,
            prepared.request.idempotency_key,
        )
        if entry is not None and not entry.is_open:
            kept = await kept_outcome(entry, tools.offload)
            assert kept is not None
            handle.is_posted(kept.task_id)
            if kept.is_whole:
                return kept
            return await self._attach(entry, kept.task_id, handle)
        posted = await Submission(tools, prepared, tools.wall_clock()).run(entry)
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
            resumed=posted.transaction is None,
            early=posted.early,
            on_output=handle.has_output,
        )
        following.marks["posted"] = trio.current_time()
        if posted.matched_at is not None:
            following.marks["matched"] = posted.matched_at
        if posted.transaction is not None:
            following.transactions.append(posted.transaction)
        if posted.plan is not None:
            following.teller.tell(
                "matched",
                None,
                f"{len(posted.plan.ranking.fit)} offers fit, {prepared.seats} accepted",
            )
        following.teller.tell(
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
            resumed=True,
            on_output=handle.has_output,
        )
        await following.run()
        return await self._finish(following)

    async def _finish(self, following: Following) -> TaskOutcome:
        """Keep output, receipt and document; in this order, so that an end has everything."""
        tools, view, entry = self.tools, following.view, following.entry
        data = following.output()
        output = tools.results / view.task_id
        spec = entry.spec if entry is not None else None
        receipt = self._receipt(following, spec) if view.is_over and spec is not None else None
        target = tools.receipts / f"{view.task_id}.json"
        save = partial(_save_all, tools, output, data, target, receipt)
        path = str(output) if data is not None else ""
        document = task_document(
            following.records,
            tools.ledger.info,
            workload=spec.workload if spec is not None else "",
            sent=following.transactions,
            digests={m.index: m.opened.digest for m in following.members if m.opened is not None},
            path=path,
            size=len(data) if data is not None else None,
            receipt=str(target) if receipt is not None else "",
            timings=_timings(following),
        )
        if view.is_over and entry is not None:
            await tools.journal.end(entry, document, path, save)
            tools.crash("ending_saved")
        else:
            await tools.offload(save)
        return TaskOutcome(document, data)

    def _receipt(self, following: Following, spec: TaskSpec) -> bytes | None:
        accepts = {
            member.index: accept
            for member in following.members
            if (accept := accepts_of(following.proposal, member.index, member.seat.attempt))
        }
        receipt = make_receipt(
            following.records, self.tools.ledger.info, spec, following.members, accepts
        )
        return write_receipt(receipt) if receipt is not None else None


def _timings(following: Following) -> dict[str, int]:
    marks, started = following.marks, following.teller.started
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


def _save_all(
    tools: Tools, output: Path, data: bytes | None, target: Path, receipt: bytes | None
) -> None:
    """Both files in one go. An output that is lost can be fetched again; a receipt cannot."""
    if data is not None:
        _save(output, data, flush=False)
        tools.crash("output_saved")
    if receipt is not None:
        _save(target, receipt, flush=True)
        tools.crash("receipt_saved")


def _save(path: Path, data: bytes, *, flush: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(path, data, flush=flush)
    except OSError as error:
        raise JournalError(f"cannot write {path}: {error.strerror}") from error
