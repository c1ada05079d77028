"""Nodes on the local network, by what they announce there (multicast DNS)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from deai.client.adapters import open_mdns
from deai.client.directory import MAX_NODES, Hint
from deai.errors import DeaiError
from deai.net import PeerAddress

LISTEN_SECONDS: Final = 1.5
"""How long after it was opened the first answers may take; later ones are there at once."""


class LocalNetwork:
    """A source of hints. Made by `open_local`."""

    def __init__(self, heard: Callable[[], Sequence[PeerAddress]]) -> None:
        self.name = "mdns"
        self._heard = heard
        self._ready_at = trio.current_time() + LISTEN_SECONDS

    async def hints(self) -> Sequence[Hint]:
        """Everybody heard of late; raise `DeaiError` where nobody can be."""
        await trio.sleep_until(self._ready_at)
        return tuple(Hint(peer) for peer in self._heard()[:MAX_NODES])


@asynccontextmanager
async def open_local(network: str) -> AsyncIterator[LocalNetwork]:
    """Listen to the nodes of a network; where that cannot be done, the source says why."""
    async with AsyncExitStack() as stack:
        yield LocalNetwork(await _listen(stack, network))


async def _listen(stack: AsyncExitStack, network: str) -> Callable[[], Sequence[PeerAddress]]:
    try:
        return await stack.enter_async_context(open_mdns(network))
    except DeaiError as error:
        reason = error

    def nobody() -> Sequence[PeerAddress]:
        raise reason

    return nobody
