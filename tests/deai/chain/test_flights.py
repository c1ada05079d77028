"""What is in flight, and who waits for its end: on both chains alike."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import trio
from trio.testing import MockClock

from deai.chain.flights import Flights
from deai.chain.outbox import FINAL, FLYING, REVERTED, Attempt, Intent, Outbox
from deai.chain.refusals import refusal
from deai.errors import LedgerRejected, LedgerUnreachable

PATIENCE = 60.0


def intent(key: str, nonce: int = 1) -> Intent:
    return Intent(
        key=key, kind="Test", to=None, data=b"", gas=1, nonce=nonce, state=FLYING,
        attempts=(Attempt(f"0x{key}", nonce, b"raw"),),
    )  # fmt: skip


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    found = Outbox(None, "me")
    yield found
    found.close()


async def test_a_caller_gets_the_transaction_when_it_is_final(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    flights, sent = Flights(outbox, PATIENCE), intent("a")
    outbox.add(sent)
    flights.take_off(sent)

    async def arrive() -> None:
        await trio.sleep(5)
        outbox.finish(msgspec.structs.replace(sent, state=FINAL, hash="0xa", block=7))
        flights.arrived("a")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrive)
        assert (await flights.land("a")).block == 7
    assert not flights.flying


async def test_a_caller_hears_the_refusal_and_the_end_of_its_patience(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    flights, sent = Flights(outbox, PATIENCE), intent("a")
    outbox.add(sent)
    flights.take_off(sent)
    with pytest.raises(LedgerUnreachable, match="not final yet"):
        await flights.land("a")
    assert trio.current_time() >= PATIENCE
    outbox.finish(msgspec.structs.replace(sent, state=REVERTED, refusal=("TooLate", {})))
    flights.arrived("a")
    with pytest.raises(LedgerRejected, match="TooLate"):
        await flights.land("a")


async def test_a_trouble_is_told_at_once_and_waited_for_once_it_is_tried_again(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    flights, sent = Flights(outbox, PATIENCE), intent("a")
    outbox.add(sent)
    flights.take_off(sent)
    flights.trouble("a", refusal("GasMoney"))
    with pytest.raises(LedgerRejected, match="GasMoney"):
        await flights.land("a")
    assert trio.current_time() < PATIENCE
    assert "a" in flights.flying
    flights.solved("a")
    with pytest.raises(LedgerUnreachable):
        await flights.land("a")


async def test_a_full_window_is_waited_for_and_not_for_ever(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    flights = Flights(outbox, PATIENCE)
    for key in ("a", "b"):
        flights.take_off(intent(key))
    with pytest.raises(LedgerUnreachable, match="2 earlier transactions"):
        await flights.room(2)

    async def arrive() -> None:
        await trio.sleep(1)
        flights.arrived("a")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrive)
        await flights.room(2)


async def test_new_bytes_are_on_disk_and_in_the_table(outbox: Outbox) -> None:
    flights, sent = Flights(outbox, PATIENCE), intent("a")
    outbox.add(sent)
    flights.take_off(sent)
    second = Attempt("0xb", 9, b"other")
    await flights.replace(sent, second)
    found = outbox.find("a")
    assert found == flights.flying["a"]
    assert found is not None
    assert (found.nonce, found.attempts[-1].hash) == (9, "0xb")
