"""What has no sockets runs by a clock that jumps, except while a tower's writer is at the disk."""

from __future__ import annotations

import pytest

from tests.support.disk_clock import disk_clock, use_clock


@pytest.fixture(autouse=True)
def patient_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("network") is None:
        use_clock(request, disk_clock(monkeypatch))
