"""A follower by itself, over blocks that a test makes up."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from trio.testing import MockClock

from deai.chain.follower import Follower
from deai.chain.ledger import Cursor, Head
from deai.errors import LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord

DOWN = LedgerUnreachable("no endpoint answers")
STRANGE = MalformedMessage("not a TaskPosted")


class Blocks:
    """A chain without events that fails as it is told, look by look."""

    most_blocks = 10

    def __init__(self, *troubles: Exception | None) -> None:
        self._troubles = list(troubles)
        self.height = 0

    async def look(self, number: int) -> tuple[Head, str | None]:
        trouble = self._troubles.pop(0) if self._troubles else None
        if trouble is not None:
            raise trouble
        self.height += 1
        return Head(self.height, f"b{self.height}", self.height), f"b{number}"

    async def standing(self, cursors: Sequence[Cursor]) -> list[bool]:
        return [True for _ in cursors]

    async def read(self, low: int, high: int) -> tuple[Cursor, tuple[LedgerRecord, ...]] | None:
        return Cursor(high, f"b{high}"), ()


async def test_why_a_chain_cannot_be_followed_is_said_once_for_each_reason(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    blocks = Blocks(DOWN, DOWN, STRANGE, STRANGE, STRANGE, None, STRANGE)
    batches = Follower(blocks, 1).batches(None)
    for _ in range(3):
        await anext(batches)
    await batches.aclose()
    told = [(record.getMessage(), record.__dict__["cause"]) for record in caplog.records]
    assert told == [
        ("cannot read the chain", "no endpoint answers"),
        ("cannot read the chain", "not a TaskPosted"),
        ("cannot read the chain", "not a TaskPosted"),
    ]
