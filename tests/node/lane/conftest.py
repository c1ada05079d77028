"""Every test here runs by a clock that jumps, except while the lane's writer is at the disk."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.support.disk_clock import disk_clock, use_clock


@pytest.fixture(autouse=True)
def patient_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MockClock:
    clock = disk_clock(monkeypatch)
    use_clock(request, clock)
    return clock
