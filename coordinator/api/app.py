"""The application: routes, pages, errors, and the two children that keep it fresh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

from coordinator.api import problems, routes
from coordinator.api.guard import Guard
from coordinator.api.hot import Hot
from coordinator.api.live import Feed
from coordinator.api.pages import Pages
from coordinator.metrics import Metrics
from coordinator.store.engine import READERS
from coordinator.store.reader import Reader
from deai import __version__

DESCRIPTION = (
    "One coordinator's reading of the chains and of the nodes' heartbeats. It holds no funds and "
    "decides nothing; everything here can be checked against the chain. Amounts are decimal text "
    "in base units (18 decimals), times RFC 3339 UTC, lists have cursors, errors follow RFC 9457. "
    "`/api/v1/ws?cursor=SEQ` is a WebSocket of `task_update`, `node_status` and `network_stats` "
    "events `{seq, event, data}`, resumable from any `seq` that is still kept; with `chain=` the "
    "first two come of that chain alone. Lists of nodes and tasks take `chain=`, too."
)


class Web:
    """The ASGI application and what of it others need to reach."""

    def __init__(
        self,
        reader: Reader,
        metrics: Metrics,
        clock: Callable[[], float],
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        self.hot = Hot(reader, clock)
        self.feed = Feed(reader, metrics)
        self.fastapi = FastAPI(
            title="deai coordinator",
            version=__version__,
            description=DESCRIPTION,
            openapi_url="/api/v1/openapi.json",
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
            redirect_slashes=False,
        )
        self.fastapi.include_router(routes.build(reader, self.hot, self.feed, clock))
        pages = Pages(reader, self.hot, clock)
        self.fastapi.include_router(pages.router())
        problems.install(self.fastapi, pages.problem)
        self.app: ASGIApp = Guard(self.fastapi, metrics, hosts)
        self._children: list[asyncio.Task[None]] = []

    @property
    def is_fresh(self) -> bool:
        """Whether figures and feed are still kept up to date; from any thread."""
        return not any(child.done() for child in self._children)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = READERS
        async with asyncio.TaskGroup() as group:
            self._children = [
                group.create_task(self.hot.run()),
                group.create_task(self.feed.run()),
            ]
            yield
            for child in self._children:
                child.cancel()


def openapi(web: Web) -> dict[str, Any]:
    """The API's description; errors are problem documents, never FastAPI's own."""
    document: dict[str, Any] = web.fastapi.openapi()
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


OPENAPI_FILE = Path(__file__).with_name("openapi.json")
