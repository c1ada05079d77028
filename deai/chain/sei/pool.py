"""Sei's endpoints as one pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from deai.chain.pool import Pool
from deai.chain.sei.rpc import Endpoint


@asynccontextmanager
async def open_pool(urls: Sequence[str], *, timeout: float) -> AsyncIterator[Pool]:
    """The endpoints behind `urls`, in the order of trust when they contradict each other."""
    endpoints = [Endpoint(number, url, timeout=timeout) for number, url in enumerate(urls, 1)]
    try:
        yield Pool(endpoints)
    finally:
        with trio.CancelScope(shield=True):
            for endpoint in endpoints:
                await endpoint.aclose()
