"""Bad input at every door of the rewards contract: each argument of each method, deposits, gas.

What is changed comes from calls that succeed, so no argument can be forgotten; a test holds the
list against the README's table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts_near.again import (
    MALLORY,
    NO_ROW,
    Known,
    at,
    changed,
    known_calls,
    places,
    table,
    take_exactly_one_yocto,
    take_no_deposit,
    takes_only_what_was_sent,
    with_less_gas,
    with_strange_values,
)
from tests.contracts_near.reward_plays import play

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "contracts" / "near" / "rewards" / "README.md"
ROWS = {row.method: row for row in table(README)}
ALLOWED = (
    ("propose", ("epoch",), 5),  # an epoch long over
    ("ft_on_transfer", ("msg",), ""),  # the pot
    ("propose_owner", ("account_id",), None),  # takes the proposal back
)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    """Each method of the rewards contract once, with all its arguments."""
    found = known_calls(play(tmp_path_factory.mktemp("calls")))
    return [one for one in found if one.contract == "rewards"]


def test_every_argument_that_the_readme_names_is_among_those_changed(calls: list[Known]) -> None:
    by_name = {one.method: one for one in calls}
    assert set(ROWS) | {"ft_on_transfer", "on_sent"} == set(by_name)
    for method, row in ROWS.items():
        assert set(row.arguments) == set(by_name[method].arguments), method


def test_a_strange_value_in_any_argument_is_refused(calls: list[Known]) -> None:
    tried, taken = 0, set()
    for call, path, value, is_taken in with_strange_values(calls):
        tried += 1
        if is_taken:
            taken.add((call.method, path, value))
    assert taken == set(ALLOWED)
    assert tried > 250


def test_an_amount_that_is_a_number_is_refused_wherever_one_stands(calls: list[Known]) -> None:
    amounts = 0
    for call in calls:
        for path in places(call.arguments or {}):
            is_share = path[-1] == 0 and path[:2] == ("msg", "shares") and len(path) == 4
            if path[-1] in ("amount", "total", "cumulative", "sides") or is_share:
                spot = (*path[:-1], 1) if is_share else path
                number = int(at(call.arguments, spot))
                assert call.run(changed(call.arguments, spot, number)).failure is not None, path
                amounts += 1
    assert amounts == 6


@pytest.mark.parametrize("value", [5, "x", None, [], {}], ids=repr)
def test_a_field_that_nobody_knows_is_refused_in_a_message(
    calls: list[Known], value: object
) -> None:
    (funding,) = [one for one in calls if isinstance((one.arguments or {}).get("msg"), dict)]
    more = {**funding.arguments["msg"], "extra": value}
    assert "E_BAD_DATA" in str(
        funding.run(changed(funding.arguments, ("msg",), more)).failure
    )  # fmt: skip


def test_only_exactly_one_yocto_shows_a_full_access_key(calls: list[Known]) -> None:
    assert take_exactly_one_yocto(calls, ROWS) == 4


def test_a_method_without_deposit_takes_none(calls: list[Known]) -> None:
    assert take_no_deposit(calls, ROWS) == 4


def test_what_is_somebodys_is_nobody_elses(calls: list[Known]) -> None:
    owned = 0
    for call in calls:
        if ROWS.get(call.method, NO_ROW).caller == "anybody":
            continue
        owned += 1
        refused = call.run(predecessor=MALLORY, signer=MALLORY).failure
        wanted = "is private" if call.method == "on_sent" else "E_FORBIDDEN"
        assert wanted in str(refused), call
    assert owned == len(calls) - 1


def test_a_callback_is_given_what_the_contract_sent_and_nothing_else(calls: list[Known]) -> None:
    (callback,) = [call for call in calls if call.method == "on_sent"]
    takes_only_what_was_sent(callback)


def test_with_less_gas_than_a_call_needs_it_fails_and_burns_what_it_was_given(
    calls: list[Known],
) -> None:
    for call, given, done in with_less_gas(calls):
        assert done.failure is not None, (call, given)
        assert done.burnt == given, call


def test_the_longest_path_fits_a_call_and_a_longer_one_is_no_proof(calls: list[Known]) -> None:
    (claim,) = [call for call in calls if call.method == "claim"]
    sibling: Any = claim.arguments["path"][0]
    for levels in (64, 65, 1_000):
        arguments: dict[str, Any] = {**claim.arguments, "path": [sibling] * levels}
        done = claim.run(arguments)
        assert "E_BAD_PROOF" in str(done.failure)
        assert done.burnt < 10 * 10**12
