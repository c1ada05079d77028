"""The routes of `/api/v1` and the probes. All answers are read-only and public."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, WebSocket
from starlette.responses import Response

from coordinator import documents
from coordinator.api import models
from coordinator.api.hot import Hot, etag_of
from coordinator.api.live import Feed
from coordinator.api.params import (
    MAX_LIMIT,
    ChainText,
    CursorText,
    Ids,
    Limit,
    cursor_of,
    decode_cursor,
    encode_cursor,
    one_account,
    one_chain,
    one_node,
    one_task,
    place_in,
    some_channels,
    some_nodes,
    some_tasks,
)
from coordinator.api.problems import MEDIA_TYPE, Problem
from coordinator.presence import status_of
from coordinator.store.reader import Reader
from coordinator.task_document import task_document
from deai import __version__
from deai.channels import ChannelState
from deai.lifecycle import TaskState

_JSON: Final = "application/json"
_STATES: Final = frozenset(state.value for state in TaskState)
_CHANNEL_STATES: Final = frozenset(state.label for state in ChannelState if state)
_PROBLEM: Final[dict[str, Any]] = {
    "model": models.ProblemModel,
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemModel"}}},
}
_BAD: Final[dict[int | str, dict[str, Any]]] = {
    400: {**_PROBLEM, "description": "The request is not understood."}
}
_MISSING: Final = {**_BAD, 404: {**_PROBLEM, "description": "There is no such thing here."}}


def json_response(request: Request, body: bytes, etag: str = "", *, max_age: int = 1) -> Response:
    """A body with its entity tag, or 304 if the client has it."""
    etag = etag or etag_of(body)
    headers = {"etag": etag, "cache-control": f"public, max-age={max_age}"}
    known = request.headers.get("if-none-match", "")
    if etag in known or known.strip() == "*":
        return Response(None, 304, headers)
    return Response(body, 200, headers, _JSON)


def build(reader: Reader, hot: Hot, feed: Feed, clock: Callable[[], float]) -> APIRouter:
    """Every route of the API over one store."""
    router = APIRouter()

    def from_hot(request: Request, name: str) -> Response:
        found = hot.bodies.get(name)
        if found is None:
            raise Problem(503, "unavailable", "the index is being read for the first time")
        return json_response(request, *found)

    @router.get("/health", response_model=models.Alive, tags=["probes"])
    async def health() -> Response:
        """Whether the process is alive."""
        return Response(
            msgspec.json.encode({"status": "ok", "version": __version__}), media_type=_JSON
        )

    @router.get("/ready", response_model=models.Ready, tags=["probes"],
                responses={503: {"model": models.Ready}})  # fmt: skip
    async def ready() -> Response:
        """Whether the index is at the head of every chain; 503 while it is not."""
        figures = hot.figures
        found = {} if figures is None else figures.stats["chains"]
        is_ready = figures is not None and figures.is_ready
        body = msgspec.json.encode({"ready": is_ready, "chains": found})
        return Response(body, 200 if is_ready else 503, media_type=_JSON)

    @router.get("/api/v1/network/stats", response_model=models.NetworkStats, tags=["network"])
    async def network_stats(request: Request) -> Response:
        """The network at a glance, refreshed once a second."""
        return from_hot(request, "stats")

    @router.get("/api/v1/network/health", response_model=models.NetworkHealth, tags=["network"])
    async def network_health(request: Request) -> Response:
        """What is well and what is not, each check on its own."""
        return from_hot(request, "health")

    @router.get("/api/v1/nodes/stats", response_model=models.NodesStats, responses=_BAD,
                tags=["nodes"])  # fmt: skip
    async def nodes_stats(request: Request, chain: ChainText = "") -> Response:
        """All nodes together, and what the online ones run at what price."""
        return from_hot(request, f"nodes {one_chain(chain)}".rstrip())

    @router.get("/api/v1/nodes", response_model=models.NodePage, responses=_BAD, tags=["nodes"])
    def nodes(
        request: Request,
        limit: Limit = 50,
        cursor: CursorText = "",
        ids: Ids = "",
        chain: ChainText = "",
        status: Annotated[str, Query(pattern="^(|online|offline|maintenance)$")] = "",
    ) -> Response:
        """Nodes by id, each with its current signed offer."""
        after = None
        if cursor:
            on, node = decode_cursor(cursor, "nodes", str, str)
            after = (str(on), str(node))
        now = clock()
        found: list[dict[str, Any]] = []
        wanted, of_chain = some_nodes(ids), one_chain(chain)
        # Few may have the status: one question for each of the others would be too many.
        size = MAX_LIMIT if status else limit
        while True:
            page = reader.nodes(after=after, chain=of_chain, ids=wanted, limit=size + 1)
            more = len(page) > size
            for row in page[:size]:
                after = (row["chain"], row["node_id"])
                if not status or status_of(row, now) == status:
                    found.append(documents.node_document(row, now))
                if len(found) == limit:
                    break
            if not more or len(found) == limit:
                break
        at_end = not more and (not page or after == (page[-1]["chain"], page[-1]["node_id"]))
        follows = None if at_end or after is None else encode_cursor("nodes", *after)
        return _page(request, found, follows)

    @router.get("/api/v1/nodes/{node_id}/status", response_model=models.NodeStatus,
                responses=_MISSING, tags=["nodes"])  # fmt: skip
    def node_status(request: Request, node_id: str) -> Response:
        """One node: standing, stake, reputation, earnings, presence, offers."""
        node = one_node(node_id)
        row = reader.node(node)
        if row is None:
            raise Problem(404, "unknown_node", f"no node {node} is registered")
        document = documents.node_status_document(row, reader.node_days(node), clock())
        return json_response(request, msgspec.json.encode(document))

    @router.get("/api/v1/tasks", response_model=models.TaskPage, responses=_BAD, tags=["tasks"])
    def tasks(
        request: Request,
        limit: Limit = 50,
        cursor: CursorText = "",
        ids: Ids = "",
        chain: ChainText = "",
        state: Annotated[str, Query(max_length=20)] = "",
        client: Annotated[str, Query(max_length=64)] = "",
        node: Annotated[str, Query(max_length=80)] = "",
    ) -> Response:
        """Tasks, newest first."""
        before = place_in("tasks", cursor)
        if state and state not in _STATES:
            raise Problem(400, "bad_state", f"a state is one of {', '.join(sorted(_STATES))}")
        page = reader.tasks(
            before=before,
            chain=one_chain(chain),
            state=state,
            client=one_account(client),
            node=one_node(node) if node else "",
            ids=some_tasks(ids),
            limit=limit + 1,
        )
        follows = None
        if len(page) > limit:
            follows = cursor_of("tasks", page[limit - 1])
        return _page(request, [documents.task_summary(row) for row in page[:limit]], follows)

    @router.get("/api/v1/tasks/{task_id}", response_model=models.Task, responses=_MISSING,
                tags=["tasks"])  # fmt: skip
    def task(request: Request, task_id: str) -> Response:
        """One task as far as the chain knows it: attempts, money, transactions, timeline."""
        found = reader.task(one_task(task_id))
        document = None if found is None else task_document(*found)
        if document is None:
            raise Problem(404, "unknown_task", f"no task {task_id} was posted")
        return json_response(request, msgspec.json.encode(document))

    @router.get("/api/v1/channels", response_model=models.ChannelPage, responses=_BAD,
                tags=["channels"])  # fmt: skip
    def channels(
        request: Request,
        limit: Limit = 50,
        cursor: CursorText = "",
        ids: Ids = "",
        chain: ChainText = "",
        state: Annotated[str, Query(max_length=20)] = "",
        client: Annotated[str, Query(max_length=64)] = "",
        node: Annotated[str, Query(max_length=80)] = "",
    ) -> Response:
        """Payment channels, the newest first opening first."""
        if state and state not in _CHANNEL_STATES:
            states = ", ".join(sorted(_CHANNEL_STATES))
            raise Problem(400, "bad_state", f"a state is one of {states}")
        page = reader.channels(
            before=place_in("channels", cursor),
            chain=one_chain(chain),
            state=state,
            client=one_account(client),
            node=one_node(node) if node else "",
            ids=some_channels(ids),
            limit=limit + 1,
        )
        follows = cursor_of("channels", page[limit - 1]) if len(page) > limit else None
        return _page(request, [documents.channel_document(row) for row in page[:limit]], follows)

    @router.websocket("/api/v1/ws")
    async def live(socket: WebSocket) -> None:
        await feed.serve(socket)

    return router


def _page(request: Request, items: list[dict[str, Any]], follows: str | None) -> Response:
    body = msgspec.json.encode({"items": items, "next_cursor": follows})
    answer = json_response(request, body)
    if follows is not None:
        url = request.url.include_query_params(cursor=follows)
        answer.headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
    return answer
