"""`deai pool`: lend to a node, see what it is worth, take it out; manage a node that takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deai.chain.ledger import Ledger
from deai.chain.memory import MemoryChain
from deai.client import access
from deai.ids import SEI, AccountId, NodeId
from deai.keys import create_key
from deai.money import UNIT
from deai.network import load_network, save_network
from deai.standing import Standing
from node.doctor import Check
from node.home import Home
from rewards.rules import RULES
from tests.cli.conftest import Shell
from tests.cli.lending import LEAST, Person, Place, chain_place, memory_place
from tests.deai.chain.chains import PARAMETERS, ChainProcess, chain_process
from tests.deai.chain.conftest import memory_world
from tests.support.ledger_conformance import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OWN = 2 * LEAST
UNBONDING = PARAMETERS.unbonding_seconds


@pytest.fixture
def place(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Place:
    return memory_place(tmp_path, shell, monkeypatch)


class Managed:
    """A person whose home has a node that takes delegations."""

    def __init__(self, place: Place, *, commission: str = "10%") -> None:
        self.place, self.commission = place, commission
        self.person = place.person("manager", tokens=2 * OWN)
        self.made = self.init()
        self.node = NodeId(self.made["node_id"])
        self.owner = AccountId(self.made["owner"])

    def init(self, *more: str, status: int = 0) -> Any:
        home = self.person.shell.home
        return self.person(
            "node", "init", "--network", str(home / "network.json"), "--pool",
            "--commission", self.commission, "--stake", str(OWN), *more, status=status,
        )  # fmt: skip

    def show(self, who: Person | None = None) -> Any:
        return (who or self.person)("pool", "show", self.node)

    def earn(self) -> int:
        return self.place.earn(self.node, self.person.operator())

    def slash(self) -> None:
        self.place.slash(self.node, self.person.operator())


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting a node up would bring its models, of which nothing here depends."""
    monkeypatch.setattr("node.setup.import_models", lambda *_: None)


@pytest.fixture
def managed(place: Place) -> Managed:
    return Managed(place)


@pytest.fixture
def ann(place: Place) -> Person:
    return place.person("ann", tokens=2 * LEAST)


def walk(place: Place) -> None:
    """Everything that happens to a pool, in one life; at the end every unit is somewhere."""
    managed = Managed(place)
    node, manager = managed.node, managed.person
    ann, bob = (place.person(name, tokens=2 * LEAST) for name in ("ann", "bob"))
    ann("pool", "delegate", node, str(LEAST))
    bob("pool", "delegate", node, str(LEAST // 2))
    lent = OWN + LEAST + LEAST // 2
    shown = managed.show()
    assert (int(shown["assets"]), int(shown["own"])) == (lent, OWN)

    income = managed.earn()
    assert int(managed.show()["income"]) == income > 0
    manager("pool", "advance", node)
    shown = managed.show()
    kept = int(shown["own"]) - OWN
    # A tenth is the manager's before it has its part of the rest; a unit may be left over.
    assert 0 <= int(shown["assets"]) - lent - income + 1 <= 1
    assert abs(kept - (income // 10 + (income - income // 10) * OWN // lent)) <= 2
    worth = int(managed.show(ann)["delegation"]["worth"])
    assert 0 <= LEAST + (income - income // 10) * LEAST // lent - worth <= 2

    said = manager("pool", "commission", node, "12.5%")
    assert (said["commission_bps"], said["announced"]["bps"]) == (1000, 1250)
    assert manager("pool", "commission", node, "12.5%")["transaction"] is None
    place.advance(2 * PARAMETERS.epoch_seconds)
    later = managed.show()
    assert (later["commission_bps"], later["announced"]) == (1250, None)

    # A slash takes a fifth of everything, of what unbonds too.
    asked = ann("pool", "undelegate", node, "--all")
    assert (asked["delegation"]["worth"], asked["delegation"]["is_sure"]) == ("0", True)
    free_at = asked["delegation"]["free_at"]
    leaves = int(asked["delegation"]["leaving"])
    assert (asked["leaving"]["matures_at"], abs(leaves - worth) <= 2) == (free_at, True)
    waits = bob("pool", "undelegate", node, "--all")["delegation"]
    assert (waits["is_sure"], waits["free_at"] > free_at) == (False, True)
    refused = ann.refused("pool", "claim", node)
    assert (refused["code"], free_at in refused["message"]) == ("still_unbonding", True)
    feared = int(managed.show(ann)["slash"]["of_yours"])
    taken = int(managed.show()["slash"]["takes"])
    managed.slash()
    assert managed.show()["standing"] == "jailed"
    place.advance(UNBONDING + 1)
    before = place.tokens(ann.account)
    ann("pool", "claim", node)
    got = place.tokens(ann.account) - before
    assert abs(leaves - got - feared) <= 2
    assert 0.195 < (leaves - got) / leaves <= 0.2
    assert ann("pool", "claim", node)["transaction"] is None

    # The claim started bob's batch; the manager ends the pool behind it.
    assert managed.show(bob)["delegation"]["is_sure"]
    assert manager("stake", "release")["steps"][0]["state"] == "done"
    assert place.standing(node) is Standing.PROBATION
    assert manager("pool", "close", node)["state"] == "closing"
    assert bob.refused("pool", "delegate", node, "1CT")["code"] == "pool_closed"
    place.advance(UNBONDING + 1)
    bob("pool", "claim", node)
    place.advance(UNBONDING + 1)
    before = place.tokens(manager.account)
    manager("stake", "withdraw")
    assert place.tokens(manager.account) > before
    end = managed.show()
    assert (end["state"], end["standing"], end["shares"], end["assets"]) == (
        "closed", "exited", "0", "0",
    )  # fmt: skip
    assert end["leaving"] is None
    # What was brought and earned is what they have now, what the slash took, and a last unit.
    brought = 2 * OWN + 2 * 2 * LEAST
    has = sum(place.tokens(one.account) for one in (manager, ann, bob))
    assert has == brought + income - taken - place.tokens(managed.owner)
    assert place.tokens(managed.owner) == 1


def test_a_pool_is_opened_lent_to_slashed_left_and_closed(place: Place) -> None:
    walk(place)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("chain"), accounts=60) as made:
        yield made


@pytest.mark.chain
@pytest.mark.network
def test_the_same_happens_on_a_chain_with_the_contract(
    tmp_path: Path, shell: Shell, chain: ChainProcess
) -> None:
    walk(chain_place(tmp_path, shell, chain))


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


def test_delegations_have_a_least_and_a_most(managed: Managed, ann: Person) -> None:
    node, least = managed.node, int(managed.show()["least"])
    assert least > 0
    small = ann.refused("pool", "delegate", node, str(least - 1), status=2)
    assert small["code"] == "delegation_too_small"
    room = int(managed.show()["room"])
    assert room == 9 * OWN
    full = ann.refused("pool", "delegate", node, str(room + 1), status=2)
    assert full["code"] == "pool_full"
    poor = ann("pool", "delegate", node, str(2 * LEAST + 5), status=5)
    assert poor["needs"] == {"address": ann.account, "gas": "0", "tokens": "5"}
    assert managed.show()["delegated"] == "0"


def test_a_named_delegation_is_made_once(managed: Managed, ann: Person) -> None:
    first = ann("pool", "delegate", managed.node, "2CT", "--key", "march")
    again = ann("pool", "delegate", managed.node, "2CT", "--key", "march")
    assert again["transaction"] == first["transaction"]
    assert again["delegation"]["worth"] == str(2 * UNIT)
    asked = ann("pool", "undelegate", managed.node, "1CT", "--key", "april")
    twice = ann.refused("pool", "undelegate", managed.node, "1CT", "--key", "april")
    # What unbonds comes first; nothing more was asked for.
    assert (twice["code"], asked["delegation"]["leaving"]) == ("still_unbonding", str(UNIT))
    assert managed.show(ann)["delegation"]["worth"] == str(UNIT)


def test_no_more_is_asked_for_than_there_is(managed: Managed, ann: Person) -> None:
    node = managed.node
    nothing = ann.refused("pool", "undelegate", node, "--all", status=2)
    assert nothing["code"] == "nothing_lent"
    ann("pool", "delegate", node, "5CT")
    assert ann.refused("pool", "undelegate", node, "6CT", status=2)["code"] == "too_much"
    assert ann.refused("pool", "undelegate", node, status=2)["code"] == "usage"
    assert ann("pool", "claim", node)["transaction"] is None
    mine = ann("pool", "undelegate", node, "5CT")["delegation"]
    assert (mine["worth"], mine["leaving"], mine["claimable"]) == ("0", str(5 * UNIT), "0")


def test_anybody_sends_a_claim_and_the_account_is_paid(
    place: Place, managed: Managed, ann: Person
) -> None:
    ann("pool", "delegate", managed.node, "5CT")
    ann("pool", "undelegate", managed.node, "--all")
    place.advance(UNBONDING + 1)
    before = place.tokens(ann.account)
    assert managed.show(ann)["delegation"]["claimable"] == str(5 * UNIT)
    paid = managed.person("pool", "claim", managed.node, "--account", ann.account)
    assert (paid["account"], paid["delegation"]["claimable"]) == (ann.account, "0")
    assert place.tokens(ann.account) - before == 5 * UNIT


def test_what_a_closing_pool_owes_comes_behind_the_batch_that_unbonds(
    place: Place, managed: Managed, ann: Person
) -> None:
    node, manager = managed.node, managed.person
    bob = place.person("bob", tokens=LEAST)
    for one in (ann, bob):
        one("pool", "delegate", node, "10CT")
    ann("pool", "undelegate", node, "4CT")
    bob("pool", "undelegate", node, "5CT")
    asked = managed.show(ann)["delegation"]
    closed = manager("pool", "close", node)
    assert (closed["state"], closed["queued"]) == ("closing", "0")
    # Ann's batch is paid when it was to be, all else begins to unbond then.
    assert managed.show(ann)["delegation"]["free_at"] == asked["free_at"]
    waits = managed.show(bob)["delegation"]
    assert (waits["worth"], waits["leaving"], waits["is_sure"]) == (str(10 * UNIT), "0", False)
    assert ann.refused("pool", "undelegate", node, "1CT")["code"] == "pool_closed"
    place.advance(UNBONDING + 1)
    assert managed.show(ann)["delegation"]["claimable"] == str(4 * UNIT)
    manager("pool", "advance", node)
    mine, theirs = (managed.show(one)["delegation"] for one in (ann, bob))
    assert (mine["claimable"], mine["leaving"], mine["worth"]) == (
        str(4 * UNIT),
        "0",
        str(6 * UNIT),
    )
    assert (theirs["claimable"], theirs["is_sure"]) == ("0", True)
    assert bob.refused("pool", "claim", node)["code"] == "still_unbonding"
    place.advance(UNBONDING + 1)
    assert managed.show(bob)["delegation"]["claimable"] == str(10 * UNIT)
    before = place.tokens(ann.account)
    ann("pool", "claim", node)
    assert place.tokens(ann.account) - before == 10 * UNIT
    bob("pool", "claim", node)
    end = managed.show(bob)
    assert (end["state"], end["assets"], end["delegation"]["claimable"]) == (
        "closed", str(OWN), "0",
    )  # fmt: skip
    assert bob("pool", "claim", node)["transaction"] is None
    assert manager("pool", "close", node)["transaction"] is None
    assert manager.refused("stake", "release")["code"] == "not_jailed"


def test_what_was_paid_waits_while_the_next_batch_unbonds(
    place: Place, managed: Managed, ann: Person
) -> None:
    node = managed.node
    bob = place.person("bob", tokens=LEAST)
    for one in (ann, bob):
        one("pool", "delegate", node, "10CT")
        one("pool", "undelegate", node, "10CT")
    place.advance(UNBONDING + 1)
    managed.person("pool", "advance", node)
    mine = managed.show(ann)
    assert mine["leaving"] is not None
    assert (mine["delegation"]["claimable"], mine["delegation"]["leaving"]) == (str(10 * UNIT), "0")
    assert mine["delegation"]["free_at"] is None
    assert mine["slash"]["of_yours"] == "0"
    # Asking again pays on the way.
    ann("pool", "delegate", node, "3CT")
    before = place.tokens(ann.account)
    asked = ann("pool", "undelegate", node, "--all")
    assert place.tokens(ann.account) - before == 10 * UNIT
    assert (asked["delegation"]["leaving"], asked["delegation"]["is_sure"]) == (
        str(3 * UNIT), False,
    )  # fmt: skip


def test_pools_are_listed_and_looked_at_without_a_key(place: Place, managed: Managed) -> None:
    ann = place.person("ann", tokens=LEAST)
    ann("pool", "delegate", managed.node, "5CT")
    (item,) = ann("pool", "list")["items"]
    assert item == managed.show(ann)
    assert [one["node_id"] for one in ann("pool", "list", "--mine")["items"]] == [managed.node]
    nobody = place.person("nobody")
    for key in (nobody.shell.home / "keys").glob("*.json"):
        key.unlink()
    assert nobody("pool", "list", "--mine")["items"] == []
    seen = nobody("pool", "show", managed.node)
    assert (seen["delegation"], seen["slash"]["of_yours"]) == (None, None)
    assert nobody("pool", "show", managed.node, "--account", ann.account)["delegation"]
    assert nobody.refused("pool", "delegate", managed.node, "5CT", status=3)["code"]


def test_a_network_without_pools_says_so_before_anything_is_made(
    place: Place, managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = memory_world()[1].info
    rest = {name: at for name, at in real.contracts.items() if name != "Delegations"}
    bare = MemoryChain(
        RULES,
        holder=AccountId("0x" + "11" * 20),
        info=msgspec.structs.replace(real, contracts=rest),
    )

    @asynccontextmanager
    async def reader(*_: object) -> AsyncIterator[Ledger]:
        yield bare.ledger()

    monkeypatch.setattr(access, "open_reader", reader)
    somebody = place.person("somebody")
    for words in (("list",), ("show", managed.node)):
        assert somebody.refused("pool", *words, status=3)["code"] == "no_pools"
    file = somebody.shell.home / "network.json"
    network = load_network(file)
    entry = msgspec.structs.replace(network.chains[SEI], contracts=rest)
    save_network(msgspec.structs.replace(network, chains={SEI: entry}), file)
    refused = somebody.refused("node", "init", "--network", str(file), "--pool", status=3)
    assert refused["code"] == "no_pools"
    assert not (somebody.shell.home / "keys" / "operator.json").exists()


def test_a_list_fits_a_screen(managed: Managed, ann: Person) -> None:
    ann("pool", "delegate", managed.node, "5CT")
    out = ann.shell("pool", "list").out
    assert "…" not in out.replace(f"{managed.node[:6]}…{managed.node[-4:]}", "")
    assert all(word in out for word in ("5.000000", "10 %", "probation"))


def test_a_node_that_takes_nothing_says_so(place: Place, ann: Person) -> None:
    owner = place.person("owner", tokens=OWN)
    owner("node", "init", "--network", str(owner.shell.home / "network.json"))
    node = owner("stake", "status")["node_id"]
    for words in (("show", node), ("delegate", node, "5CT"), ("claim", node)):
        refused = ann.refused("pool", *words, status=3)
        assert (refused["code"], "deai pool list" in refused["hint"]) == ("no_pool", True)
    assert ann.refused("pool", "show", "0x12", status=2)["code"] == "bad_node_id"


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


def test_people_read_what_they_have_and_when_it_comes(managed: Managed, ann: Person) -> None:
    node, shell = managed.node, ann.shell
    done = shell("pool", "delegate", node, "5CT", "--yes")
    assert done.status == 0, done.err
    assert "5.000000 CT now" in done.out
    done = shell("pool", "undelegate", node, "5CT", "--yes")
    assert "Can be claimed     from 2" in done.out or "Can be claimed  from 2" in done.out
    for words in (("show", node), ("list",), ("advance", node)):
        done = shell("pool", *words)
        assert (done.status, done.err) == (0, "")
        assert "10 %" in done.out
    status = managed.person.shell("stake", "status")
    assert "managed by" in status.out
    assert "Wallet" not in status.out
