"""A node that takes delegations: setting it up, its stake, and what its manager reads."""

from __future__ import annotations

from typing import Any

import pytest

from deai.keys import create_key
from deai.money import UNIT
from node.doctor import Check
from node.home import Home
from tests.cli.lending import LEAST, OWN, UNBONDING, Managed, Person, Place
from tests.support.ledger_conformance import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_same_key_is_a_manager_and_nobody_else_is(place: Place, managed: Managed) -> None:
    person, node = managed.person, managed.node
    shown = managed.show()
    assert (shown["manager"], shown["owner"]) == (person.account, managed.owner)
    assert node == f"{managed.owner}{0:024x}"
    known = Home(person.shell.home).load_registration()
    assert (known.node_id, known.owner, known.signer) == (node, managed.owner, person.account)
    ann = place.person("ann", tokens=LEAST)
    for words in (("commission", node, "5%"), ("close", node)):
        refused = ann.refused("pool", *words)
        assert (refused["code"], person.account in refused["message"]) == ("not_manager", True)


def test_setting_up_goes_on_where_it_was_and_keeps_what_it_began(
    place: Place, managed: Managed
) -> None:
    again = managed.init()
    states = {step["name"]: step["state"] for step in again["steps"]}
    assert (states["register"], states["keys"]) == ("done_before", "done_before")
    assert again["pool"] == {"manager": managed.person.account, "index": 0}
    managed.commission = "5%"
    assert any("10 %" in one for one in managed.init()["warnings"])
    # A home that was begun with --pool stays one, also where it is not said again.
    home = managed.person.shell.home
    plain = managed.person("node", "init", "--network", str(home / "network.json"))
    assert plain["node_id"] == managed.node
    managed.person.shell.home.joinpath("keys", "owner.json").unlink()
    assert managed.init()["node_id"] == managed.node


def test_a_home_of_an_ordinary_node_does_not_become_a_pools(place: Place) -> None:
    somebody = place.person("somebody", tokens=OWN)
    file = str(somebody.shell.home / "network.json")
    somebody("node", "init", "--network", file)
    refused = somebody.refused("node", "init", "--network", file, "--pool", status=3)
    assert "already holds" in refused["message"]
    assert somebody("stake", "status")["pool"] is None


def test_one_key_manages_several_pools(place: Place, managed: Managed) -> None:
    place.run(World.fund, managed.person.account, 2 * LEAST)
    second = place.person("second")
    keys = second.shell.home / "keys"
    for name in ("owner.json", "passphrase"):
        (keys / name).write_bytes((managed.person.shell.home / "keys" / name).read_bytes())
    words = ("node", "init", "--network", str(second.shell.home / "network.json"), "--pool")
    other = second(*words, "--index", "7")
    assert (other["pool"]["index"], other["node_id"] != managed.node) == (7, True)
    assert second("stake", "status", "--index", "7")["node_id"] == other["node_id"]
    assert len(second("pool", "list")["items"]) == 2
    assert second.refused(*words, "--index", str(1 << 63), status=2)["code"] == "usage"


def test_an_opening_that_lacks_money_says_who_needs_it(place: Place) -> None:
    poor = place.person("poor", tokens=LEAST - 1)
    file = str(poor.shell.home / "network.json")
    waiting = poor("node", "init", "--network", file, "--pool", status=5)
    assert waiting["needs"] == {"address": poor.account, "gas": "0", "tokens": "1"}
    assert waiting["owner"] != poor.account
    # Nobody registers another node in its place.
    refused = poor.refused("stake", "register", status=2)
    assert (refused["code"], "--pool" in refused["hint"]) == ("takes_delegations", True)


@pytest.mark.parametrize(
    ("commission", "code"),
    [("20.01%", "commission_too_high"), ("100%", "bad_commission"), ("0.1", "bad_commission"),
     ("-1%", "bad_commission"), ("1.234%", "bad_commission")],
)  # fmt: skip
def test_a_commission_that_cannot_be_is_refused_before_anything_is_made(
    place: Place, commission: str, code: str
) -> None:
    somebody = place.person("somebody")
    home = somebody.shell.home
    refused = somebody.refused(
        "node", "init", "--network", str(home / "network.json"), "--pool",
        f"--commission={commission}", status=2,
    )  # fmt: skip
    assert refused["code"] == code
    assert not (home / "keys" / "operator.json").exists()
    alone = somebody.refused("node", "init", "--commission", "10%", status=2)
    assert "--pool" in alone["hint"]


def test_the_stake_commands_mean_the_managers_part(place: Place, managed: Managed) -> None:
    manager, node = managed.person, managed.node
    added = manager("stake", "add", "10CT")
    assert (added["node_id"], added["pool"]["own"]) == (node, str(OWN + 10 * UNIT))
    assert added["steps"][0]["state"] == "done"
    status = manager("stake", "status")
    assert (status["node_id"], status["pool"]["manager"]) == (node, manager.account)
    low = manager.refused("stake", "unbond", str(LEAST + 11 * UNIT), status=2)
    assert (low["code"], f"deai pool close {node}" in low["hint"]) == ("stake_too_low", True)
    assert manager("stake", "unbond", "10CT")["steps"][0]["state"] == "done"
    all_ = manager.refused("stake", "unbond", "--all", status=2)
    assert (all_["code"], all_["hint"]) == ("takes_delegations", f"deai pool close {node}")
    bound = manager.refused("stake", "bind", "--twin", "alice.near#0", status=2)
    assert (bound["code"], node in bound["message"]) == ("takes_delegations", True)
    elsewhere = manager.refused("stake", "withdraw", "--to", managed.owner, status=2)
    assert elsewhere["code"] == "takes_delegations"
    assert manager.refused("stake", "withdraw")["code"] == "still_unbonding"
    place.advance(UNBONDING + 1)
    before = place.tokens(manager.account)
    assert manager("stake", "withdraw")["steps"][0]["state"] == "done"
    assert place.tokens(manager.account) - before == 10 * UNIT
    assert manager("stake", "withdraw")["steps"][0]["state"] == "not_needed"


def test_a_key_with_both_kinds_of_node_means_the_one_of_its_home(
    place: Place, managed: Managed
) -> None:
    manager = managed.person
    keys = manager.shell.home / "keys"
    place.run(World.fund, manager.account, 2 * LEAST)
    elsewhere = place.person("elsewhere")
    for name in ("owner.json", "passphrase", "peer.key"):
        (elsewhere.shell.home / "keys" / name).write_bytes((keys / name).read_bytes())
    create_key(elsewhere.shell.home / "keys" / "operator.json", keys / "passphrase")
    # As long as there is no other node, it is the pool's wherever the key lies.
    assert elsewhere("stake", "status")["node_id"] == managed.node
    plain = elsewhere("stake", "register")["node_id"]
    assert plain != managed.node
    assert elsewhere("stake", "status")["node_id"] == plain
    assert elsewhere("stake", "add", "1CT")["node_id"] == plain
    assert manager("stake", "status")["node_id"] == managed.node
    assert manager("stake", "add", "1CT")["pool"]["own"] == str(OWN + UNIT)


def test_the_manager_gives_its_node_another_operator_key(managed: Managed) -> None:
    manager, keys = managed.person, managed.person.shell.home / "keys"
    fresh = create_key(keys / "fresh.json", keys / "passphrase")
    done = manager("stake", "rotate", "--operator-key", str(keys / "fresh.json"))
    assert (done["operator"], done["steps"][0]["state"]) == (fresh, "done")
    (keys / "fresh.json").replace(keys / "operator.json")
    assert managed.init()["operator"] == fresh


def test_a_slash_that_leaves_the_manager_too_little_is_made_up_for_first(
    place: Place, managed: Managed, ann: Person
) -> None:
    manager, node = managed.person, managed.node
    ann("pool", "delegate", node, "50CT")
    manager("stake", "unbond", str(OWN - LEAST))
    place.advance(UNBONDING + 1)
    manager("stake", "withdraw")
    whole, feared = int(managed.show()["assets"]), managed.show(ann)["slash"]["of_yours"]
    managed.slash()
    # Everybody sees what is left before the contract took notice.
    assert 4 * whole // 5 - int(managed.show()["assets"]) in (0, 1)
    lost = 50 * UNIT - int(managed.show(ann)["delegation"]["worth"])
    assert abs(lost - int(feared)) <= 1
    assert managed.person("pool", "advance", node)["transaction"]
    assert abs(50 * UNIT - int(managed.show(ann)["delegation"]["worth"]) - lost) <= 1
    refused = manager.refused("stake", "release")
    assert refused["code"] == "stake_too_low"
    barred = ann.refused("pool", "delegate", node, "5CT")
    assert barred["code"] == "node_jailed"
    manager(*refused["hint"].rpartition("deai ")[2].split())
    assert manager("stake", "release")["steps"][0]["state"] == "done"
    ann("pool", "delegate", node, "5CT")


def test_a_stopped_node_says_whose_its_money_is(place: Place, managed: Managed) -> None:
    manager = managed.person
    income = managed.earn()
    status = manager("node", "status", status=4)
    found = status["pool"]
    assert (found["manager"], found["income"]) == (manager.account, str(income))
    assert (found["own"], found["delegated"]) == (str(OWN), "0")
    assert manager("node", "earnings")["manager"] == manager.account
    assert "not shared out yet" in manager.shell("node", "status").out
    assert manager.account in manager.shell("node", "earnings").out


def test_the_doctor_looks_at_the_managers_part(
    place: Place, managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def skip(_self: object) -> Check:
        return Check("worker", ok=True, detail="not looked at here")

    monkeypatch.setattr("node.doctor.Doctor._worker", skip)
    manager = managed.person

    def stake() -> dict[str, Any]:
        done = manager.shell.json("node", "doctor")
        checks = {check["name"]: check for check in done.document["checks"]}
        assert "close the pool" in checks["owner_key"]["detail"]
        found: dict[str, Any] = checks["stake"]
        return found

    assert stake()["ok"]
    managed.slash()
    manager("pool", "advance", managed.node)
    assert (stake()["ok"], stake()["fix"]) == (False, "deai stake status")
    assert "jailed, pool open" in stake()["detail"]
