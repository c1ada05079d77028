"""The gas that users are told, measured again; and the ceilings."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from devnet.near.rules import TGAS
from tests.contracts_near.gas import LEDGER, Row, measure

TOLERANCE = 0.02  # gas is asserted in ranges on NEAR


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Row]:
    return measure(tmp_path_factory.mktemp("gas"))


@pytest.fixture(scope="module")
def said() -> Mapping[str, Row]:
    ledger: Mapping[str, Row] = json.loads(LEDGER.read_text())
    return ledger


def test_no_call_costs_two_per_cent_more_or_less_than_the_ledger_says(
    rows: Mapping[str, Row], said: Mapping[str, Row]
) -> None:
    assert list(rows) == list(said)
    wrong = {
        name: (row, said[name])
        for name, row in rows.items()
        for kind in ("call", "whole")
        if abs(row[kind] - said[name][kind]) > said[name][kind] * TOLERANCE
    }
    assert not wrong, "if meant: python -m tests.contracts_near.gas --write"


def test_storage_is_what_the_ledger_says(rows: Mapping[str, Row], said: Mapping[str, Row]) -> None:
    assert {n: row["storage"] for n, row in rows.items()} == {
        n: row["storage"] for n, row in said.items()
    }


@pytest.mark.parametrize(
    ("call", "ceiling"),
    [
        ("register", 3), ("submit_task (new lane)", 3), ("submit_task (reused lane)", 3),
        ("submit_result", 6), ("finalise, 3 seats", 6), ("finalise, 3 seats, 3 approvals", 6),
        ("heartbeat", 2), ("ft_transfer", 3),
    ],
)  # fmt: skip
def test_a_call_stays_below_its_ceiling(rows: Mapping[str, Row], call: str, ceiling: int) -> None:
    assert rows[call]["call"] <= ceiling * TGAS


def test_the_largest_task_fits_one_call_several_times(rows: Mapping[str, Row]) -> None:
    largest = (
        "submit_task with 15 accepts",
        "commit 15 at once",
        "finalise, 15 seats, 15 approvals",
    )
    assert all(rows[name]["whole"] * 10 < 300 * TGAS for name in largest)


def test_a_node_takes_at_most_400_bytes_and_a_finished_task_none(rows: Mapping[str, Row]) -> None:
    assert 0 < rows["register"]["storage"] <= 400
    assert 0 < rows["submit_task (new lane)"]["storage"] <= 300
    buying = ("register", "submit_task (new lane)", "storage_deposit")
    assert all(row["storage"] == 0 for name, row in rows.items() if name not in buying)
