"""Bad input at every door of the channel contract: each argument of each method, deposits, gas.

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
from tests.contracts_near.channel_plays import play
from tests.contracts_near.world import GUARDIAN

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "contracts" / "near" / "channels" / "README.md"
OWN = ("on_sent", "migrate")
ROWS = {row.method: row for row in table(README)}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    """Each method of the channel contract once, with all its arguments."""
    found = known_calls(play(tmp_path_factory.mktemp("calls")))
    return [one for one in found if one.contract == "channels"]


def test_every_argument_that_the_readme_names_is_among_those_changed(calls: list[Known]) -> None:
    assert len(ROWS) >= 18
    optional = {"account_id", "registration_only", "amount", "force"}
    by_name = {one.method: one for one in calls}
    for method, row in ROWS.items():
        held = by_name[method].arguments or {}
        missing = set(row.arguments) - set(held)
        assert not missing or missing <= optional, method


def is_allowed(call: Known, path: tuple[Any, ...], value: object) -> bool:
    """What a method takes although it is strange: a close without a voucher, no new owner."""
    nothing = {("close", ("voucher",)), ("propose_owner", ("account_id",))}
    return value is None and (call.method, path) in nothing


@pytest.mark.slow
def test_a_strange_value_in_any_argument_is_refused(calls: list[Known]) -> None:
    tried = 0
    for call, path, value, is_taken in with_strange_values(calls):
        tried += 1
        assert is_taken == is_allowed(call, path, value), (call.method, path, repr(value)[:20])
    assert tried > 700


def test_an_amount_that_is_a_number_is_refused_wherever_one_stands(calls: list[Known]) -> None:
    amounts = 0
    for call in calls:
        for path in places(call.arguments or {}):
            if path[-1] in ("amount", "cumulative_amount"):
                number = int(at(call.arguments, path))
                done = call.run(changed(call.arguments, path, number))
                assert "deserialize" in str(done.failure), (call, path)
                amounts += 1
    assert amounts >= 5


@pytest.mark.parametrize("value", [5, "x", None, [], {}], ids=repr)
def test_a_field_that_nobody_knows_is_refused(calls: list[Known], value: object) -> None:
    tried = 0
    for call in calls:
        for path in places(call.arguments or {}):
            if isinstance(at(call.arguments, path), dict):
                more = {**at(call.arguments, path), "extra": value}
                assert call.run(changed(call.arguments, path, more)).failure is not None, call
                tried += 1
    assert tried >= 12


def test_only_exactly_one_yocto_shows_a_full_access_key(calls: list[Known]) -> None:
    assert take_exactly_one_yocto(calls, ROWS) == 9


def test_a_method_without_deposit_takes_none(calls: list[Known]) -> None:
    # `upgrade` writes nothing itself, so near-sdk does not look; only the owner may call it.
    others = [call for call in calls if call.method != "upgrade"]
    assert take_no_deposit(others, ROWS) == 9


def test_what_is_somebodys_is_nobody_elses(calls: list[Known]) -> None:
    owned = 0
    for call in calls:
        who = ROWS.get(call.method, NO_ROW).caller
        if call.method == "ft_on_transfer" or call.method in OWN:
            who = "the token, or the contract itself"
        if who.startswith("anybody") or not who:
            continue
        owned += 1
        done = call.run(predecessor=MALLORY, signer=MALLORY)
        # NEP-145 answers false to who has no account.
        nothing = call.method == "storage_unregister" and done.returned == b"false"
        assert nothing or done.failure is not None, call
    assert owned >= 17


def test_a_pause_stops_openings_and_top_ups_and_nothing_else(calls: list[Known]) -> None:
    stopped: set[str] = set()
    going: set[str] = set()
    for call in calls:
        if call.method == "unpause":
            continue
        guardian = {"predecessor": GUARDIAN, "signer": GUARDIAN, "deposit": 0, "results": []}
        paused = call.after("pause", {}, **guardian)
        said = paused.run().failure
        assert said is None or "E_PAUSED" in str(said), (call.method, said)
        name = f"{call.method} {list((call.arguments or {}).get('msg', ()))}"
        (going if said is None else stopped).add(name)
        unpaused = paused.after("unpause", {}, **guardian)
        assert unpaused.run().failure is None, name
    assert stopped == {"ft_on_transfer ['open']", "ft_on_transfer ['top_up']"}
    assert len(going) >= len(ROWS)


def test_a_callback_is_given_what_the_contract_sent_and_nothing_else(calls: list[Known]) -> None:
    (callback,) = [call for call in calls if call.method == "on_sent"]
    takes_only_what_was_sent(callback)


def test_with_less_gas_than_a_call_needs_it_fails_and_burns_what_it_was_given(
    calls: list[Known],
) -> None:
    for call, given, done in with_less_gas(calls):
        assert "Exceeded the prepaid gas" in str(done.failure), (call, given)
        assert done.burnt <= given
