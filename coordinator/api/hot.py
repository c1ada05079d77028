"""Answers that everybody asks for, encoded once a second and never per request."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from coordinator.figures import Figures, gather
from coordinator.store.reader import Reader
from deai.ids import NEAR, SEI

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 1.0


class Hot:
    """The newest figures, and the bodies made of them."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._clock = clock
        self.figures: Figures | None = None
        self.bodies: dict[str, tuple[bytes, str]] = {}
        """Route → body and its ETag."""

    def refresh(self) -> None:
        """Read and encode; called from a thread."""
        figures = gather(self._reader, self._clock())
        self.bodies = {
            "stats": _encoded(figures.stats),
            "health": _encoded(figures.health),
            "nodes": _encoded(figures.nodes_stats()),
            **{f"nodes {chain}": _encoded(figures.nodes_stats(chain)) for chain in (SEI, NEAR)},
        }
        self.figures = figures

    async def run(self) -> None:
        """Refresh once a second until cancelled; a store that fails is asked again."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except SQLAlchemyError:
                logger.exception("cannot read the figures")
            await asyncio.sleep(REFRESH_SECONDS)


def etag_of(body: bytes) -> str:
    """A strong entity tag."""
    return '"' + hashlib.sha256(body).hexdigest()[:24] + '"'


def _encoded(document: dict[str, Any]) -> tuple[bytes, str]:
    body = msgspec.json.encode(document)
    return body, etag_of(body)
