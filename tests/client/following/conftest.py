"""What tests of proposers and checkers find."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from deai.chain.memory import GENESIS_TIME, MemoryChain
from deai.cli.render_rewards import NOTICES
from rewards.rules import RULES
from tests.client.following.world import HOLDER, Here
from tests.client.support.world import PARAMETERS
from tests.support.disk_clock import use_clock


@pytest.fixture(autouse=True)
def jumping(request: pytest.FixtureRequest) -> None:
    """No test here waits by the wall's clock."""
    use_clock(request, trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    start = trio.current_time()
    chain = MemoryChain(
        RULES, holder=HOLDER, parameters=PARAMETERS,
        clock=lambda: GENESIS_TIME + trio.current_time() - start,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        made = Here(chain, nursery)
        yield made
        nursery.cancel_scope.cancel()
    assert set(made.events()) <= set(NOTICES), "each has words on a screen"
