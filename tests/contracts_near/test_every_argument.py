"""Bad input at every door: each argument of each method, deposits, keys and gas.

What is changed comes from calls that succeed, so no argument can be forgotten; a test holds the
list against the README's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deai.signing import Ed25519Signer
from devnet.near.keys import public_key_bytes
from devnet.near.rules import NEAR
from tests.contracts_near.again import (
    LONG,
    MALLORY,
    NO_ROW,
    SHORT,
    WIDE,
    Known,
    at,
    changed,
    known_calls,
    places,
    table,
    with_less_gas,
    with_strange_values,
)
from tests.contracts_near.gas_plays import play
from tests.contracts_near.world import (
    COMPUTE,
    DEPOSIT,
    GUARDIAN,
    OWNERS,
    STRANGER,
    TOKEN,
    World,
    a_world,
    refusal,
)

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "contracts" / "near" / "README.md"
OWN = ("on_withdrawn", "on_stake_withdrawn", "on_burned", "migrate", "ft_resolve_transfer")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    """Each method once, with all its arguments."""
    return known_calls(play(tmp_path_factory.mktemp("calls")))


ROWS = {row.method: row for row in table(README)}


def test_every_argument_that_the_readme_names_is_among_those_changed(calls: list[Known]) -> None:
    assert len(ROWS) >= 33
    optional = {"account_id", "registration_only", "amount", "force"}
    by_name = {one.method: one for one in calls if one.contract == "compute"}
    for method, row in ROWS.items():
        held = by_name[method].arguments or {}
        missing = set(row.arguments) - set(held)
        assert not missing or missing <= optional, method


def is_free_text(call: Known, path: tuple[Any, ...], value: object) -> bool:
    """What a method takes although it is strange, each with its reason."""
    last = [step for step in path if not isinstance(step, int)][-1]
    if call.contract == "token":
        # NEP-141: a memo is for people, and a message for the receiver, who refuses it himself.
        if path[0] == "msg":
            return path != ("msg",) or isinstance(value, str | dict)
        if path == ("account_id",):
            return value is None  # the caller's own
        return last == "memo" and isinstance(value, str)
    if path == ("msg",):
        return value == ""  # a deposit
    if last == "peer_id":
        return value in SHORT[1:]
    if last == "addresses":  # joined by newlines, whatever they are
        return value == [] if path[-1] == "addresses" else value in SHORT
    allowed: dict[tuple[str, tuple[Any, ...]], object] = {
        ("propose_owner", ("account_id",)): None,  # withdraws the proposal
        ("submit_task", ("accepts",)): None,  # only posts
        ("sweep", ("lanes",)): [],
        ("sweep", ("lanes", 0)): 5,  # a lane that is not there
    }
    place = (call.method, path)
    return place in allowed and value == allowed[place]


@pytest.mark.slow
def test_a_strange_value_in_any_argument_is_refused_or_plain_text(calls: list[Known]) -> None:
    tried = 0
    for call, path, value, is_taken in with_strange_values(calls):
        tried += 1
        assert is_taken == is_free_text(call, path, value), (call.method, path, repr(value)[:20])
    assert tried > 4_000


def test_an_amount_that_is_a_number_is_refused_wherever_one_stands(calls: list[Known]) -> None:
    amounts = 0
    for call in calls:
        for path in places(call.arguments or {}):
            if path[-1] in ("amount", "fee", "tip") and call.method != "ft_transfer_call":
                number = int(at(call.arguments, path))
                done = call.run(changed(call.arguments, path, number))
                assert "deserialize" in str(done.failure), (call, path)
                amounts += 1
    assert amounts >= 25


@pytest.mark.parametrize("value", [LONG, WIDE, "☃", 5, -1, 1.5, [], {}], ids=lambda v: repr(v)[:9])
def test_optional_arguments_and_unknown_ones_are_no_way_in(
    calls: list[Known], value: object
) -> None:
    names = {
        "storage_deposit": ("account_id", "registration_only"),
        "storage_withdraw": ("amount",),
    }
    for call in calls:
        for name in names.get(call.method, ()):
            done = call.run({**(call.arguments or {}), name: value})
            assert done.failure is not None, (call, name)
        if "task" in (call.arguments or {}):
            task = {**call.arguments["task"], "extra": value}
            assert call.run({**call.arguments, "task": task}).failure is not None, call


def test_only_exactly_one_yocto_shows_a_full_access_key(calls: list[Known]) -> None:
    token = {"ft_transfer", "ft_transfer_call", "burn", "storage_withdraw", "storage_unregister"}
    seen = 0
    for call in calls:
        rule = ROWS.get(call.method, NO_ROW).deposit
        yocto = rule == "yocto" if call.contract == "compute" else call.method in token
        if not yocto or call.method in OWN:
            continue
        seen += 1
        assert call.run(deposit=1).failure is None, call
        for wrong in (0, 2, NEAR):
            said = str(call.run(deposit=wrong).failure)
            assert "E_ONE_YOCTO" in said or "exactly 1 yoctoNEAR" in said, (call, wrong, said)
    assert seen >= 20


def test_a_method_without_deposit_takes_none(calls: list[Known]) -> None:
    seen = 0
    for call in calls:
        # `upgrade` writes nothing itself, so near-sdk does not look; only the owner may call it.
        if call.contract != "compute" or call.method == "upgrade":
            continue
        if ROWS.get(call.method, NO_ROW).deposit == "none":
            seen += 1
            assert "doesn't accept deposit" in str(call.run(deposit=1).failure), call
    assert seen >= 13


def test_neither_a_strangers_account_nor_another_key_of_the_owner_will_do(
    calls: list[Known],
) -> None:
    wrong = public_key_bytes(Ed25519Signer(b"w" * 32).account)
    keyed = owned = 0
    for call in calls:
        if call.contract != "compute":
            continue
        who = ROWS.get(call.method, NO_ROW).caller
        if call.method == "ft_on_transfer" or call.method in OWN:
            who = "the contract"
        if who.startswith("anybody") or not who:
            continue
        owned += 1
        stranger = {"predecessor": MALLORY, "signer": MALLORY, "signer_key": wrong}
        done = call.run(**stranger)
        # NEP-145 answers false to who has no account.
        nothing = call.method == "storage_unregister" and done.returned == b"false"
        assert nothing or done.failure is not None, call
        if who in ("operator", "the seat's key"):
            keyed += 1
            assert "E_FORBIDDEN" in str(call.run(signer_key=wrong).failure), call
            # Nor through a contract in between, which could say anything in its name.
            assert "E_FORBIDDEN" in str(call.run(predecessor=MALLORY).failure), call
    assert owned >= 25
    assert keyed == 3


def test_a_pause_stops_deposits_registrations_posts_and_first_assigns_and_no_withdrawal(
    calls: list[Known],
) -> None:
    stopped: set[str] = set()
    going: set[str] = set()
    for call in calls:
        if call.contract != "compute" or call.method == "unpause":
            continue
        guardian = {"predecessor": GUARDIAN, "signer": GUARDIAN, "deposit": 0, "results": []}
        paused = call.after("pause", {}, **guardian)
        name = call.method
        if name == "ft_on_transfer":  # three methods behind one door
            name += f" {next(iter(call.arguments['msg'] or ['deposit']))}"
        said = paused.run().failure
        assert said is None or "E_PAUSED" in str(said), (name, said)
        (going if said is None else stopped).add(name)
        unpaused = paused.after("unpause", {}, **guardian)
        assert unpaused.run().failure is None, name
    assert stopped == {
        "ft_on_transfer deposit", "ft_on_transfer register", "submit_task", "assign",
    }  # fmt: skip
    assert going >= set(ROWS) - stopped - {"unpause"} | {"ft_on_transfer add_stake", *OWN[:3]}


def test_with_less_gas_than_a_call_needs_it_fails_and_burns_what_it_was_given(
    calls: list[Known],
) -> None:
    for call, given, done in with_less_gas(calls):
        assert "Exceeded the prepaid gas" in str(done.failure), (call, given)
        assert done.burnt <= given
    for call in calls:
        whole = call.run()
        if whole.used == whole.burnt:  # it promises nothing that must have gas of its own
            assert call.run(prepaid_gas=whole.burnt + 10**9).failure is None, call


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as made:
        yield made


def near_of(world: World, account: str) -> int:
    return world.chain.state.accounts[account].amount


@pytest.mark.parametrize("contract", [TOKEN, COMPUTE])
def test_a_storage_deposit_that_is_too_large_comes_back_to_the_yocto(
    world: World, contract: str
) -> None:
    bounds = world.view("storage_balance_bounds", contract)
    least = int(bounds["min"])
    if contract == COMPUTE:
        cost = world.view("storage_cost", contract, account_id=GUARDIAN)
        least = int(cost["account"])
    asked = {"account_id": GUARDIAN, "registration_only": True}
    for sent, kept in ((least - 1, None), (0, None), (least + 987_654_321, least), (NEAR, 0)):
        before = near_of(world, STRANGER)
        done = world.call(STRANGER, "storage_deposit", asked, deposit=sent, receiver=contract)
        assert ("Failure" in done.status) == (kept is None), (sent, done.status)
        spent = before - near_of(world, STRANGER) - done.gas * 10**8
        assert spent == (kept or 0), sent


def test_an_operation_whose_storage_is_not_paid_for_tells_what_it_lacks(world: World) -> None:
    owner = OWNERS[0]
    assert "Failure" not in world.owner_call(owner, "storage_withdraw").status
    before = world.tokens(owner)
    sent = {"receiver_id": owner, "amount": str(10**21)}
    world.call("dao.deai.near", "ft_transfer", sent, deposit=1, receiver=TOKEN)
    done = world.pay_in(owner, 10**21, {"register": world.registration(0, index=1)})
    cost = int(world.view("storage_cost", account_id=owner)["node"])
    name, lacking = refusal(done)
    needed = int(lacking["needed"])
    assert name == "E_STORAGE"
    assert 0 < needed <= cost  # `storage_cost` speaks of the longest index
    assert (done.value, world.tokens(owner)) == ("0", before + 10**21)
    assert world.view("get_node", node=f"{owner}#1") is None
    world.call(owner, "storage_deposit", {}, deposit=needed - 1)
    done = world.pay_in(owner, 10**21, {"register": world.registration(0, index=1)})
    assert refusal(done) == ("E_STORAGE", {"needed": "1"})
    world.call(owner, "storage_deposit", {}, deposit=1)
    done = world.pay_in(owner, 10**21, {"register": world.registration(0, index=1)})
    assert done.value == str(10**21)


def test_a_vault_account_that_was_never_opened_is_refused(world: World) -> None:
    sent = {"receiver_id": STRANGER, "amount": "5"}
    world.call("dao.deai.near", "ft_transfer", sent, deposit=1, receiver=TOKEN)
    assert refusal(world.pay_in(STRANGER, 5)) == ("E_NOT_REGISTERED", {"account": STRANGER})
    assert world.tokens(STRANGER) == 5
    world.call(STRANGER, "storage_deposit", {}, deposit=DEPOSIT)
    assert world.pay_in(STRANGER, 5).value == "5"
    assert (world.vault(STRANGER), world.tokens(STRANGER)) == (5, 0)
