"""Questions about one deployment's newest final state, and answers that make sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from deai.chain.near.queries import read_view, view
from deai.chain.pool import Pool, Request, sensible
from deai.errors import MalformedMessage
from deai.ids import AccountId

READ_TRIES: Final = 3
READ_PAUSE_S: Final = 0.1
_PASSING: Final = frozenset({"UNKNOWN_BLOCK", "GARBAGE_COLLECTED_BLOCK"})
"""What an endpoint may say of the newest block while the next one comes."""


class Views:
    """Asks the endpoints of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def view(self, *asked: tuple[AccountId, str, Mapping[str, object]]) -> list[Any]:
        """What contracts tell; raises `LedgerRejected`, `LedgerUnreachable`."""
        requests = [view(contract, method, **given) for contract, method, given in asked]
        return [checked(read_view, answer) for answer in await self.read(*requests)]

    async def read(self, *requests: Request) -> list[Any]:
        """Answers, asked for again while the endpoint is between two blocks."""
        for left in reversed(range(READ_TRIES)):
            answers = await self._pool.batch(requests)
            names = {getattr(one, "name", "") for one in answers}
            if not left or not names & _PASSING:
                break
            await trio.sleep(READ_PAUSE_S)
        return answers


def checked(read: Callable[[Any], Any], answer: object) -> Any:  # noqa: ANN401
    """What `read` makes of an answer; `LedgerUnreachable` for one that makes no sense."""
    with sensible():
        try:
            return read(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedMessage(repr(error)) from error
