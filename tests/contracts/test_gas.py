"""The gas that users are told, measured again."""

from __future__ import annotations

import json

import pytest

from tests.contracts.gas import LEDGER, PRICES, measure

pytestmark = pytest.mark.slow

TOLERANCE = 0.02


@pytest.fixture(scope="module", params=sorted(PRICES))
def rows(request: pytest.FixtureRequest) -> tuple[dict[str, int], dict[str, int]]:
    """Gas as measured now, and as the ledger says, on one chain."""
    ledger = json.loads(LEDGER.read_text())
    said = {row: gas[request.param] for row, gas in ledger.items()}
    return measure(PRICES[request.param]), said


def test_the_ledger_has_exactly_the_rows_that_are_measured(
    rows: tuple[dict[str, int], dict[str, int]],
) -> None:
    measured, said = rows
    assert list(measured) == list(said)


def test_no_call_costs_two_per_cent_more_or_less_than_the_ledger_says(
    rows: tuple[dict[str, int], dict[str, int]],
) -> None:
    measured, said = rows
    wrong = {
        row: (gas, said[row])
        for row, gas in measured.items()
        if abs(gas - said[row]) > said[row] * TOLERANCE
    }
    assert not wrong, "if meant: python -m tests.contracts.gas --write"


def test_a_checked_task_of_three_seats_stays_below_its_targets(
    rows: tuple[dict[str, int], dict[str, int]],
) -> None:
    measured, _ = rows
    assert measured["exact/1, 3 seats, one commit (reused lane)"] <= 300_000
    assert measured["exact/1, 3 seats, three commits (reused lane)"] <= 335_000


def test_the_largest_task_fits_a_block_several_times(
    rows: tuple[dict[str, int], dict[str, int]],
) -> None:
    measured, _ = rows
    assert measured["finalise, 15 seats, 15 approvals"] * 10 < 12_500_000


def test_ten_channels_are_redeemed_at_once_below_their_target(
    rows: tuple[dict[str, int], dict[str, int]],
) -> None:
    measured, _ = rows
    assert measured["redeemMany, 10 channels"] <= 10 * 25_000


def test_a_channel_buys_its_slot_once() -> None:
    ledger = json.loads(LEDGER.read_text())
    first = ledger["open channel, first"]
    kept = ("redeem", "redeemMany, 10 channels", "open channel, again", "finish", "topUp channel")
    assert first["sei"] - first["ethereum"] == 72_000 - 20_000
    assert all(ledger[row]["ethereum"] == ledger[row]["sei"] for row in kept)


def test_a_reused_lane_buys_no_slot() -> None:
    ledger = json.loads(LEDGER.read_text())
    reused = {row: gas for row, gas in ledger.items() if "(reused lane)" in row}
    assert reused
    assert all(gas["ethereum"] == gas["sei"] for gas in reused.values())


def test_an_account_of_a_hundred_thousand_buys_its_slot_once() -> None:
    ledger = json.loads(LEDGER.read_text())
    kept = ("propose rewards", "cancel rewards", "claim rewards, 100,000 accounts, again")
    assert all(ledger[row]["ethereum"] == ledger[row]["sei"] for row in kept)
    assert ledger["claim rewards, 100,000 accounts, again"]["sei"] <= 80_000
    assert ledger["fund rewards, 100 shares"]["sei"] <= 100 * 2_000


def test_fifty_orders_are_settled_at_once_below_their_target(
    rows: tuple[dict[str, int], dict[str, int]],
) -> None:
    measured, _ = rows
    for who in ("50 clients, 15 nodes", "1 client, 3 nodes"):
        assert measured[f"settle 50 orders, {who}, 3 seats"] <= 50 * 52_000
    assert measured["settle 50 orders, 49 of them badly signed"] <= 50 * 52_000


def test_no_settlement_buys_a_slot_but_an_owners_first() -> None:
    ledger = json.loads(LEDGER.read_text())
    settled = {row: gas for row, gas in ledger.items() if row.startswith("settle ")}
    first = settled.pop("settle 1 order, 3 seats, first earnings")
    assert first["sei"] - first["ethereum"] == 3 * (72_000 - 20_000)
    assert settled
    assert all(gas["ethereum"] == gas["sei"] for gas in settled.values())


def test_who_lends_again_or_leaves_a_pool_buys_no_slot() -> None:
    ledger = json.loads(LEDGER.read_text())
    kept = (
        "delegate", "delegate, with income", "advance pool, nothing new", "advance pool, income",
        "undelegate, batch starts", "undelegate, waits", "claim delegation",
    )  # fmt: skip
    assert all(ledger[row]["ethereum"] == ledger[row]["sei"] for row in kept)
    assert ledger["delegate, first"]["sei"] - ledger["delegate, first"]["ethereum"] == 52_000
    assert max(ledger[row]["sei"] for row in kept) <= 165_000
