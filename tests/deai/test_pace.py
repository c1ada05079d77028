"""When a short blocking call may stay on the event loop."""

from __future__ import annotations

import pytest

from deai.pace import PENALTY, PROBATION, Pace


class Clock:
    """A performance counter that advances by what a call took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr("deai.pace.time.perf_counter", own)
    return own


def call(own: Pace, clock: Clock, seconds: float) -> None:
    with own.measured():
        clock.now += seconds


def test_the_first_calls_go_to_threads_until_they_prove_quick(clock: Clock) -> None:
    own = Pace()
    for _ in range(PROBATION):
        assert not own.is_quick
        call(own, clock, 0.0005)
    assert own.is_quick


def test_a_slow_call_sends_the_next_ones_to_threads(clock: Clock) -> None:
    own = Pace()
    for _ in range(PROBATION):
        call(own, clock, 0.0005)
    call(own, clock, 0.02)
    for _ in range(PENALTY):
        assert not own.is_quick
        call(own, clock, 0.0005)
    assert own.is_quick


def test_a_disk_that_stays_slow_never_gets_onto_the_loop(clock: Clock) -> None:
    own = Pace()
    for _ in range(1000):
        assert not own.is_quick
        call(own, clock, 0.005)


def test_a_call_that_fails_counts_like_any_other(clock: Clock) -> None:
    own = Pace()
    for _ in range(PROBATION):
        with pytest.raises(ValueError, match="broken"), own.measured():
            raise ValueError("broken")
    assert own.is_quick
