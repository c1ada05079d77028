"""Routes of the pages: documents from the same functions as the API, put into templates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from coordinator import documents
from coordinator.api.hot import Hot, etag_of
from coordinator.api.params import (
    cursor_of,
    decode_cursor,
    encode_cursor,
    one_account,
    one_chain,
    one_node,
    one_task,
    place_in,
)
from coordinator.api.problems import Problem
from coordinator.figures import Figures
from coordinator.pages import render
from coordinator.store.reader import Reader
from coordinator.store.rows import rfc3339
from coordinator.task_document import task_document
from deai.errors import MalformedMessage
from deai.ids import any_account, any_node, parse_task
from deai.lifecycle import TaskState

T = TypeVar("T")

PAGE: Final = 50
MINUTES: Final = 60
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_DEFINITIONS: Final = (
    ("Active nodes", "in probation or active on chain, heard within 15 s, and taking work",
     "active_nodes, nodes_by_state"),
    ("Throughput", "tasks that completed in the last 60 s of chain time, divided by 60",
     "throughput"),
    ("Completion", "chain time from posted to settled, over the newest 500 completed tasks",
     "completion_ms"),
    ("Staked", "stake of every registered node, unbonding included", "total_staked, min_stake"),
    ("Rewards distributed", "paid to owners of nodes for seats, protocol fee already taken, and "
     "by vouchers of channels", "total_rewards_distributed"),
    ("Held", "escrowed and neither paid, refunded nor kept as a fee yet", "held"),
    ("Held in channels", "deposited in payment channels, not redeemed and not returned yet",
     "channels.held"),
    ("Slashed", "stake taken on chain since the start", "slashed"),
)  # fmt: skip


class Pages:
    """Renders pages over one store."""

    def __init__(self, reader: Reader, hot: Hot, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._hot = hot
        self._clock = clock
        self._templates = render.environment()
        self._static = {
            path.name: (path.read_bytes(), _TYPES[path.suffix])
            for path in sorted(render.STATIC.iterdir())
        }

    def router(self) -> APIRouter:
        """The routes; none of them is part of the API's description."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self.network)
        router.add_api_route("/nodes", self.nodes)
        router.add_api_route("/nodes/{node_id}", self.node)
        router.add_api_route("/tasks", self.tasks)
        router.add_api_route("/tasks/{task_id}", self.task)
        router.add_api_route("/find", self.find)
        router.add_api_route("/static/{name}", self.static)
        return router

    def static(self, request: Request, name: str) -> Response:
        """Style, script, icon; from memory."""
        found = self._static.get(name)
        if found is None:
            raise Problem(404, "not_found", "no such file")
        body, kind = found
        etag = etag_of(body)
        headers = {"etag": etag, "cache-control": "public, max-age=300"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        return Response(body, 200, headers, kind)

    def network(self, request: Request) -> Response:
        """The network at a glance."""
        figures = self._figures()
        tasks = [_task_row(row) for row in self._reader.tasks(limit=12)]
        return self._page(
            request, "network.html", "Network",
            nodes=figures.nodes_stats(), definitions=_DEFINITIONS, tasks=tasks,
            minutes=self._minutes(),
        )  # fmt: skip

    def nodes(self, request: Request, cursor: str = "", chain: str = "") -> Response:
        """Nodes by id."""
        after, chain = None, one_chain(chain)
        if cursor:
            on, node = decode_cursor(cursor[:200], "nodes", str, str)
            after = (str(on), str(node))
        found = self._reader.nodes(after=after, chain=chain, limit=PAGE + 1)
        now = self._clock()
        kept, follows = _kept(chain=chain), ""
        if len(found) > PAGE:
            last = found[PAGE - 1]
            place = encode_cursor("nodes", last["chain"], last["node_id"])
            follows = "/nodes?" + urlencode({**kept, "cursor": place})
        return self._page(
            request, "nodes.html", "Nodes",
            nodes=[self._node(row, now) for row in found[:PAGE]], chain=chain,
            summary=self._figures().nodes_stats(chain), next_page=follows, cursor=cursor,
            query=_query(kept),
        )  # fmt: skip

    def node(self, request: Request, node_id: str) -> Response:
        """One node: standing, earnings, offers, newest seats."""
        node = one_node(node_id)
        row = self._reader.node(node)
        if row is None:
            return self.problem(404, "No such node", f"No node {node} is registered.")
        days = self._reader.node_days(node)
        most = max((int(day["earned"]) for day in days), default=0) or 1
        seats = [
            seat | {"started_at": rfc3339(seat["started_at"])}
            for seat in self._reader.node_attempts(node, 25)
        ]
        channels = self._reader.channels(node=node, chain=row["chain"], limit=25)
        return self._page(
            request, "node.html", "Nodes",
            node=self._node(row, self._clock()), seats=seats,
            channels=[documents.channel_document(one) for one in channels],
            days=[day | {"share": round(int(day["earned"]) * 100 / most, 1)} for day in days],
        )  # fmt: skip

    def tasks(
        self, request: Request, cursor: str = "", state: str = "", client: str = "",
        node: str = "", chain: str = "",
    ) -> Response:  # fmt: skip
        """Tasks, newest first."""
        if state and state not in {one.value for one in TaskState}:
            raise Problem(400, "bad_state", "no such state")
        account = one_account(client)
        found = self._reader.tasks(
            before=place_in("tasks", cursor[:200]), chain=one_chain(chain), state=state,
            client=account, node=one_node(node) if node else "", limit=PAGE + 1,
        )  # fmt: skip
        kept = _kept(chain=chain, state=state, client=client, node=node)
        follows = ""
        if len(found) > PAGE:
            follows = "/tasks?" + urlencode({**kept, "cursor": cursor_of("tasks", found[PAGE - 1])})
        return self._page(
            request, "tasks.html", "Tasks",
            tasks=[_task_row(row) for row in found[:PAGE]], state=state, client=account,
            node=node, chain=chain, cursor=cursor, next_page=follows,
            sums=self._figures().sums(chain), query=_query(kept),
        )  # fmt: skip

    def task(self, request: Request, task_id: str) -> Response:
        """One task: path, seats, money, transactions."""
        found = self._reader.task(one_task(task_id))
        task = None if found is None else task_document(*found)
        if task is None:
            return self.problem(404, "No such task", f"No task {task_id} was posted.")
        posted = dt.datetime.fromisoformat(task["timeline"][0]["at"])
        transactions = [
            one | {"after": int((dt.datetime.fromisoformat(one["at"]) - posted).total_seconds())}
            for one in task["transactions"]
        ]
        parts = [task[name] for name in ("paid", "refunded", "protocol_fee", "held")]
        return self._page(
            request, "task.html", "Tasks",
            task=task, path=render.path_of(task), lanes=render.lanes(task),
            transactions=transactions,
            replaced=sum(one["state"] == "replaced" for one in task["attempts"]),
            difference=int(task["escrowed"]) - int(render.total(parts)),
        )  # fmt: skip

    def find(self, request: Request, q: str = "") -> Response:
        """Where a task, node, account or transaction is shown."""
        text = q.strip()[:80]
        target = self._target(text)
        if target is not None:
            return RedirectResponse(target, 303)
        what = f"Nothing here is called {text}." if text else "Enter an id to look for."
        return self.problem(404, "Not found", what)

    def _target(self, text: str) -> str | None:
        if (node := _read(any_node, text)) and self._reader.node(node) is not None:
            return f"/nodes/{quote(node)}"
        if (account := _read(any_account, text)) and self._reader.client_exists(account):
            return f"/tasks?client={account}"
        if (task := _read(parse_task, text)) and self._reader.task(task) is not None:
            return f"/tasks/{task}"
        # Hashes are hex on Sei, in any case, and base58 on NEAR.
        find = self._reader.task_of_transaction
        found = find(text.lower()) or find(text)
        return None if found is None else f"/tasks/{found}"

    def problem(self, status: int, title: str, detail: str) -> Response:
        """A page that says what is wrong, also while there is nothing to show."""
        figures = self._hot.figures
        text = self._templates.get_template("problem.html").render(
            section="", title=title, detail=detail, live=False,
            chains={} if figures is None else figures.stats["chains"],
        )  # fmt: skip
        return HTMLResponse(text, status, {"cache-control": "no-store"})

    def _page(self, request: Request, name: str, section: str, **values: object) -> Response:
        stats = self._figures().stats
        live = request.query_params.get("live") != "0" and "cursor" not in request.query_params
        text = self._templates.get_template(name).render(
            section=section, stats=stats, chains=stats["chains"], live=live, **values
        )
        return HTMLResponse(text, 200, {"cache-control": "no-cache"})

    def _figures(self) -> Figures:
        figures = self._hot.figures
        if figures is None:
            raise Problem(503, "unavailable", "the index is being read for the first time")
        return figures

    def _node(self, row: dict[str, Any], now: float) -> dict[str, Any]:
        heard = row["received_at"]
        return documents.node_document(row, now) | {
            "heard": None if heard is None else max(0.0, now - heard)
        }

    def _minutes(self) -> dict[str, Any]:
        """Completed tasks by minute over the last hour of chain time."""
        newest = max((row["head_time"] or 0 for row in self._figures().chains), default=0)
        last = newest // 60
        found = dict(self._reader.completed_by_minute((last - MINUTES + 1) * 60))
        values = [
            (dt.datetime.fromtimestamp(minute * 60, dt.UTC).strftime("%H:%M"), found.get(minute, 0))
            for minute in range(last - MINUTES + 1, last + 1)
        ]
        total = sum(number for _, number in values)
        most = max(number for _, number in values)
        sentence = (
            f"{total:,} in the last hour, at most {most:,} in a minute."
            if total
            else "None in the last hour."
        )
        return {"bars": render.bars(values, 120), "top": most or 1, "sentence": sentence}


def _kept(**asked: str) -> dict[str, str]:
    """What a list was narrowed to: its next page is narrowed alike."""
    return {name: value for name, value in asked.items() if value}


def _query(kept: dict[str, str]) -> str:
    return "?" + urlencode(kept) if kept else ""


def _read(parse: Callable[[str], T], text: str) -> T | None:
    try:
        return parse(text)
    except MalformedMessage:
        return None


def _task_row(row: dict[str, Any]) -> dict[str, Any]:
    ended = row["ended_at"]
    return documents.task_summary(row) | {
        "took": None if ended is None else ended - row["posted_at"]
    }
