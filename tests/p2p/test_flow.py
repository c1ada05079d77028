from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from deai.errors import MalformedMessage
from p2p.flow import ReceiveWindow, SendWindow, TokenBucket


@given(
    st.lists(st.tuples(st.booleans(), st.integers(256, 5_000)), max_size=300),
    st.integers(1, 10_000),
)
def test_an_honest_sender_never_overruns_and_never_gets_stuck(
    steps: list[tuple[bool, int]], hand_back_at: int
) -> None:
    """Whatever the interleaving of sending and consuming, with credit that is always on time."""
    window = 20_000
    sender = SendWindow(window)
    receiver = ReceiveWindow(window, hand_back_at=min(hand_back_at, window // 2))
    queue: list[int] = []

    def consume() -> None:
        if credit := receiver.consume(queue.pop(0)):
            sender.hand_back(credit)

    for sends, cost in steps:
        if sends and sender.is_open:
            sender.spend(cost)
            receiver.arrive(cost)
            queue.append(cost)
        elif queue:
            consume()
        assert receiver.outstanding <= sender.outstanding < window + 5_000
    while queue:
        consume()
    assert sender.is_open


def test_more_than_the_window_is_malformed() -> None:
    receiver = ReceiveWindow(1000, hand_back_at=1)
    receiver.arrive(999)
    receiver.arrive(500)
    with pytest.raises(MalformedMessage):
        receiver.arrive(1)


def test_credit_that_is_not_owed_is_malformed() -> None:
    sender = SendWindow(1000)
    sender.spend(300)
    with pytest.raises(MalformedMessage):
        sender.hand_back(301)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), min_size=1, max_size=60))
def test_a_bucket_lets_through_its_burst_and_its_rate_and_no_more(
    takes: list[tuple[float, int]],
) -> None:
    bucket, now, passed = TokenBucket.full(2.0, 10.0, 0.0), 0.0, 0
    for pause, count in takes:
        now += pause
        if bucket.take(count, now) == 0:
            passed += count
    assert passed <= 10 + 2 * now + 1e-6


def test_a_bucket_says_how_long_to_wait() -> None:
    bucket = TokenBucket.full(2.0, 10.0, 0.0)
    assert bucket.take(10, 0.0) == 0
    assert bucket.take(4, 0.0) == 2.0
    assert bucket.take(1, 2.5) == 0
