"""The disk's thread needs a moment of real time, in which the test's clock must not jump."""

from __future__ import annotations

import pytest
from trio.testing import MockClock


@pytest.fixture(autouse=True)
def patient_clock(autojump_clock: MockClock) -> MockClock:
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock
