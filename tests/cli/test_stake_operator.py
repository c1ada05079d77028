"""`deai stake release` and `rotate`: an owner looks after the operator of its node."""

from __future__ import annotations

from pathlib import Path

import pytest

from deai.ids import node_id
from deai.keys import account_of, create_key, create_peer_key
from deai.standing import Standing
from tests.cli.conftest import Shell
from tests.cli.lending import LEAST, Person, Place, memory_place

pytestmark = pytest.mark.world


@pytest.fixture
def place(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Place:
    return memory_place(tmp_path, shell, monkeypatch)


@pytest.fixture
def owner(place: Place) -> Person:
    """Somebody with a registered node, and as much again in the wallet."""
    made = place.person("owner", tokens=3 * LEAST)
    keys = made.shell.home / "keys"
    create_key(keys / "operator.json", keys / "passphrase")
    create_peer_key(keys / "peer.key")
    made("stake", "register", "--stake", str(2 * LEAST))
    return made


def test_a_jailed_node_is_released_once_and_only_then(place: Place, owner: Person) -> None:
    node = node_id(owner.account, 0)
    early = owner.refused("stake", "release")
    assert (early["code"], "probation" in early["message"]) == ("not_jailed", True)
    place.slash(node, owner.operator())
    assert place.standing(node) is Standing.JAILED
    document = owner("stake", "release")
    assert [(one["name"], one["state"]) for one in document["steps"]] == [("release", "done")]
    assert document["node_id"] == node
    assert place.standing(node) is Standing.PROBATION
    assert owner.refused("stake", "release")["code"] == "not_jailed"


def test_a_stake_that_a_slash_made_too_small_is_filled_up_before_the_release(
    place: Place, owner: Person
) -> None:
    node = node_id(owner.account, 0)
    owner("stake", "unbond", str(LEAST))
    place.slash(node, owner.operator())
    lacks = LEAST - int(owner("stake", "status")["stake"])
    assert lacks > 0
    refused = owner.refused("stake", "release")
    assert refused["code"] == "stake_too_low"
    command = refused["hint"].rpartition("deai ")[2].split()
    assert command[:2] == ["stake", "add"]
    owner(*command)
    owner("stake", "release")
    assert place.standing(node) is Standing.PROBATION


def test_another_operator_key_is_registered_and_gets_what_lets_it_send(
    place: Place, owner: Person
) -> None:
    node, keys = node_id(owner.account, 0), owner.shell.home / "keys"
    assert owner("stake", "rotate")["steps"][0]["state"] == "done_before"
    fresh = create_key(keys / "fresh.json", keys / "passphrase")
    document = owner("stake", "rotate", "--operator-key", str(keys / "fresh.json"))
    assert (document["operator"], document["node_id"]) == (fresh, node)
    assert document["steps"][0]["state"] == "done"
    assert owner("stake", "status")["operator"] == fresh != account_of(keys / "operator.json")
    again = owner("stake", "rotate", "--operator-key", str(keys / "fresh.json"))
    assert again["steps"][0]["state"] == "done_before"
    # And back: that the key was there before changes nothing.
    assert owner("stake", "rotate")["steps"][0]["state"] == "done"


def test_a_node_that_is_not_registered_is_neither_released_nor_rotated(place: Place) -> None:
    nobody = place.person("nobody")
    keys = nobody.shell.home / "keys"
    create_key(keys / "operator.json", keys / "passphrase")
    for command in ("release", "rotate"):
        assert nobody.refused("stake", command, status=3)["hint"] == "deai stake register"


def test_people_read_what_was_done(place: Place, owner: Person) -> None:
    place.slash(node_id(owner.account, 0), owner.operator())
    done = owner.shell("stake", "release", "--yes")
    assert done.status == 0, done.err
    assert "● done   release" in done.out
