"""Fixtures of the conformance suite: a test that takes `world` and `clock` runs on both nets."""

from __future__ import annotations

import pytest
from trio.abc import Clock

from tests.p2p.worlds import LibP2PWorld, MemoryWorld, World


@pytest.fixture(
    params=[
        pytest.param(MemoryWorld, id="memory"),
        pytest.param(LibP2PWorld, id="libp2p", marks=pytest.mark.network),
    ]
)
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.param()
    return made


@pytest.fixture
def clock(world: World) -> Clock | None:
    """Mocked for the network in memory, real for sockets."""
    return world.clock()
