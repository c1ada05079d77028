"""The gas that users are told, measured again; and the ceilings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import wasmtime

from devnet.near.rules import TGAS, WRITE_TRIE_NODES
from tests.contracts_near.gas import APART, DRIFT, checksums, committed, drifted, play
from tests.contracts_near.gas_plays import Meter, Row
from tests.contracts_near.world import ARTIFACTS

pytestmark = pytest.mark.slow

VIEWS = frozenset((
    "parameters", "governance", "min_stake", "total_rewards_distributed", "burn_due",
    "storage_cost", "storage_balance_of", "storage_balance_bounds", "get_node", "get_nodes",
    "get_account", "get_lane", "get_lanes", "task_id", "contract_source_metadata",
    "ft_total_supply", "ft_balance_of", "ft_metadata",
    "channel_id", "get_channel", "get_channels",
    "roots", "claimed_by", "delay", "epoch_length", "leaf_of", "info",
))  # fmt: skip
ONCE = frozenset(("new",))  # at deployment


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Meter:
    return play(tmp_path_factory.mktemp("gas"))


@pytest.fixture(scope="module")
def rows(meter: Meter) -> Mapping[str, Row]:
    return {name: one.row for name, one in meter.rows.items()}


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    return committed()


def test_no_call_costs_two_per_cent_more_or_less_than_the_ledger_says(
    rows: Mapping[str, Row], said: dict[str, Any]
) -> None:
    assert list(rows) == list(said["embedded"])
    wrong = drifted(rows, said["embedded"], DRIFT)
    assert not wrong, "if meant: python -m tests.contracts_near.gas --vm --write"


def test_the_embedded_chain_and_nearcores_vm_agree_within_five_per_cent_on_every_call(
    rows: Mapping[str, Row], said: dict[str, Any]
) -> None:
    assert drifted(rows, said["nearcore"], APART) == []


def test_the_trie_is_all_that_the_embedded_chain_and_nearcores_vm_differ_by(
    said: dict[str, Any],
) -> None:
    """Writes of storage entries, whose trie nodes only a chain can count, and nothing else."""
    write = WRITE_TRIE_NODES * 2_280_000_000
    for name, row in said["embedded"].items():
        apart = row["call"] - said["nearcore"][name]["call"]
        writes = round(apart / write)
        assert 1 <= writes <= 40, name
        assert abs(apart - writes * write) <= 2_000_000, name  # an instruction or two


def test_both_tables_are_of_the_shipped_wasm(said: dict[str, Any]) -> None:
    assert said["wasm"] == checksums()
    assert list(said["nearcore"]) == list(said["embedded"])


@pytest.mark.parametrize("kind", ["call", "whole"])
def test_a_cell_that_drifts_is_noticed(said: dict[str, Any], kind: str) -> None:
    table = said["embedded"]
    changed = copy.deepcopy(table)
    changed["heartbeat"][kind] = round(changed["heartbeat"][kind] * (1 + DRIFT * 1.1))
    assert len(drifted(changed, table, DRIFT)) == 1
    del changed["heartbeat"]
    assert drifted(changed, table, DRIFT) == ["heartbeat: in one table only"]
    changed = copy.deepcopy(table)
    changed["heartbeat"]["storage"] += 1
    assert len(drifted(changed, table, DRIFT)) == 1


def test_every_method_that_changes_something_is_measured(meter: Meter) -> None:
    called = {
        (record["code"], record["method"]) for one in meter.rows.values() for record in one.records
    }
    hashes = checksums()
    assert len(hashes) == 4
    for name in hashes:
        module = wasmtime.Module(wasmtime.Engine(), (ARTIFACTS / name).read_bytes())
        functions = {one.name for one in module.exports if isinstance(one.type, wasmtime.FuncType)}
        changing = functions - VIEWS - ONCE
        measured = {method for code, method in called if code == hashes[name]}
        if name in ("channels.wasm", "compute.wasm"):
            measured.add("migrate")  # run by `upgrade`, in the new code
        assert changing <= measured


@pytest.mark.parametrize(
    ("call", "ceiling"),
    [
        ("register", 3), ("submit_task (new lane)", 3), ("submit_task (reused lane)", 3),
        ("submit_result", 6), ("finalise, 3 seats", 6), ("finalise, 3 seats, 3 approvals", 6),
        ("heartbeat", 2), ("ft_transfer", 3), ("channels redeem", 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("table", ["embedded", "nearcore"])
def test_the_contracts_own_receipt_stays_below_its_ceiling(
    said: dict[str, Any], table: str, call: str, ceiling: int
) -> None:
    """Action fees, loading the code and the call itself; not what other receipts cost."""
    assert said[table][call]["call"] <= ceiling * TGAS


@pytest.mark.parametrize(
    ("call", "ceiling"),
    [
        ("submit_task (reused lane)", 3), ("submit_result", 6), ("finalise, 3 seats", 6),
        ("finalise, 3 seats, 3 approvals", 6), ("ft_transfer", 3), ("channels redeem", 6),
        ("channels redeem (longest names)", 6),
    ],
)  # fmt: skip
def test_these_stay_below_their_ceiling_as_whole_transactions_too(
    said: dict[str, Any], call: str, ceiling: int
) -> None:
    """With the conversion of the transaction, refunds and callbacks."""
    assert said["embedded"][call]["whole"] <= ceiling * TGAS


def test_a_post_that_seats_three_costs_what_its_signatures_and_records_must(
    said: dict[str, Any],
) -> None:
    """Over the ceiling of a post alone: three signatures and three nodes come on top."""
    alone, seating = (
        said["nearcore"][name]
        for name in ("submit_task (reused lane)", "submit_task with 3 accepts")
    )
    assert seating["call"] <= 4 * TGAS
    more = {kind: seating["costs"][kind] - alone["costs"][kind] for kind in alone["costs"]}
    assert more["ed25519_verify"] > 0.6 * TGAS
    assert more["storage_read"] > 0.15 * TGAS


def test_the_largest_task_fits_one_call_several_times(rows: Mapping[str, Row]) -> None:
    largest = (
        "submit_task with 15 accepts",
        "commit 15 at once",
        "finalise, 15 seats, 15 approvals",
    )
    assert all(rows[name]["whole"] * 10 < 300 * TGAS for name in largest)


def test_a_node_takes_at_most_400_bytes_and_a_finished_task_none(rows: Mapping[str, Row]) -> None:
    """Bytes that the compute account is charged for, the 40 of every record included."""
    assert 0 < rows["register"]["storage"] <= 400
    assert 0 < rows["submit_task (new lane)"]["storage"] <= 300
    of_tasks = ("submit_task", "assign", "commit", "finalise", "reveal", "approve", "sweep")
    ends = ("cancel", "object", "expire", "release", "reassign", "submit_result", "prove")
    grown = {n: r["storage"] for n, r in rows.items() if n.startswith(of_tasks + ends)}
    del grown["cancel_upgrade"]
    assert len(grown) >= 24
    assert {n for n, more in grown.items() if more} == {"submit_task (new lane)"}


def test_a_channel_of_a_batch_costs_a_quarter_of_one_alone_and_stores_nothing(
    said: dict[str, Any],
) -> None:
    alone, ten = (
        said["embedded"][f"channels {name}"] for name in ("redeem", "redeem_many, 10 of one owner")
    )
    assert ten["whole"] < 10 * alone["whole"] / 4
    grown = {name: row["storage"] for name, row in said["embedded"].items() if "channels" in name}
    assert 0 < grown.pop("channels open (new)") <= 150
    channel = ("open", "top_up", "redeem", "request_close", "close", "finish", "pay_due")
    of_one = [more for name, more in grown.items() if name.split()[1].startswith(channel)]
    assert of_one == [0] * 13
