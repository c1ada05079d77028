"""`deai pool`: lend to a node, see what it is worth, take it out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from deai.chain.ledger import Ledger
from deai.chain.memory import MemoryChain
from deai.client import access
from deai.ids import SEI, AccountId
from deai.money import UNIT
from deai.network import load_network, save_network
from deai.standing import Standing
from rewards.rules import RULES
from tests.cli.conftest import Shell
from tests.cli.lending import LEAST, OWN, UNBONDING, Managed, Person, Place, chain_place
from tests.deai.chain.chains import PARAMETERS, ChainProcess, chain_process
from tests.deai.chain.conftest import memory_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


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
