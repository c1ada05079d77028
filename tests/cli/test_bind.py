"""`deai stake bind`: two owners, two machines, one file; nothing is signed that a chain denies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from deai.binding import Side, check, read_binding, write_binding
from deai.chain.ledger import Balances, ChainInfo, Ledger, NodeRecord
from deai.client import access
from deai.ids import NEAR, SEI, AccountId, ChainName, NodeId, near_node_id, node_id
from deai.keys import create_key
from deai.network import ChainEntry, Network, save_network
from deai.standing import Standing
from tests.cli.conftest import Done, Shell
from tests.client.test_directory import coordinator
from tests.coordinator.support import INFO, NEAR_INFO
from tests.support.bindings import NEAR_OWNER, SEI_OWNER, near_signer
from tests.support.samples import signer

pytestmark = pytest.mark.world

change = msgspec.structs.replace
SECRETS = {SEI: (71).to_bytes(32, "big"), NEAR: (72).to_bytes(32, "big")}
NAME = AccountId("owner.testnet")
ON_SEI, ON_NEAR = node_id(SEI_OWNER.account, 0), near_node_id(NAME, 0)


@dataclass
class Reading:
    """The reading half of a ledger: who is registered, whose keys there are."""

    info: ChainInfo
    nodes: dict[NodeId, AccountId]
    keys: set[tuple[str, str]] = field(default_factory=set)

    async def node(self, node: NodeId) -> NodeRecord | None:
        if node not in self.nodes:
            return None
        return NodeRecord(
            node=node, operator=self.nodes[node], standing=Standing.ACTIVE, stake=1, unbonding=0,
            unbond_at=0, reputation=1, checked_tasks=0, last_epoch=0,
        )  # fmt: skip

    async def balances(self, _account: AccountId) -> Balances:
        return Balances(0, 0, 0)

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        return account == key or (account, key) in self.keys


@dataclass
class Owners:
    """Two homes, each with one owner's key, over the same two chains."""

    shell: Shell
    chains: dict[ChainName, Reading]
    homes: dict[ChainName, Path]

    def bind(self, chain: ChainName, *arguments: str) -> Done:
        self.shell.home = self.homes[chain]
        named = ("--owner-account", NAME) if chain == NEAR else ()
        return self.shell.json("stake", "bind", "--chain", chain, *named, *arguments)

    def carry(self, source: ChainName, target: ChainName) -> None:
        data = (self.homes[source] / "binding.json").read_bytes()
        (self.homes[target] / "binding.json").write_bytes(data)

    def both(self) -> dict[str, object]:
        """Both sign; the last document."""
        assert self.bind(SEI, "--twin", ON_NEAR).status == 0
        self.carry(SEI, NEAR)
        done = self.bind(NEAR)
        assert done.status == 0, done.err
        found: dict[str, object] = done.document
        return found


@pytest.fixture
def owners(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owners:
    sei = Reading(INFO, {ON_SEI: signer(73).account})
    near = Reading(NEAR_INFO, {ON_NEAR: near_signer(74).account}, {(NAME, NEAR_OWNER.account)})
    chains = {SEI: sei, NEAR: near}
    homes = {chain: tmp_path / chain for chain in chains}
    for chain, home in homes.items():
        keys = home / "keys"
        keys.mkdir(parents=True)
        file = "owner.json" if chain == SEI else "owner-near.json"
        create_key(keys / file, keys / "passphrase", secret=SECRETS[chain], chain=chain)
        save(home)

    @asynccontextmanager
    async def open_reader(_network: Network, chain: str, *_: object) -> AsyncIterator[Ledger]:
        yield chains[ChainName(chain)]  # type: ignore[misc]

    monkeypatch.setattr(access, "open_reader", open_reader)
    return Owners(shell, chains, homes)


def save(home: Path, coordinators: tuple[str, ...] = ()) -> None:
    entries = {
        info.name: ChainEntry(
            kind="memory", chain_id=info.chain_id, rpc_urls=("http://127.0.0.1:9",),
            contracts=info.contracts,
        )
        for info in (INFO, NEAR_INFO)
    }  # fmt: skip
    save_network(
        Network(name="t", chains=entries, coordinators=coordinators), home / "network.json"
    )


def test_two_owners_on_two_machines_make_one_file(owners: Owners) -> None:
    first = owners.bind(SEI, "--twin", ON_NEAR).document
    assert first["signed"] == {"sei": True, "near": False}
    assert first["complete"] is False
    assert not (owners.homes[NEAR] / "binding.json").exists()
    owners.carry(SEI, NEAR)

    second = owners.bind(NEAR).document

    path = owners.homes[NEAR] / "binding.json"
    assert second == {
        "node_ids": {"sei": ON_SEI, "near": ON_NEAR},
        "owners": {"sei": SEI_OWNER.account, "near": NAME},
        "nonce": first["nonce"],
        "signed": {"sei": True, "near": True},
        "complete": True,
        "file": str(path),
    }
    signed = read_binding(path).signed
    assert signed is not None
    assert check(signed).near == Side(
        chain=NEAR, chain_id="near:localnet", registry=NEAR_INFO.registry.contract, node=ON_NEAR,
        owner=NAME, operator=near_signer(74).account,
    )  # fmt: skip


def test_said_again_it_changes_nothing(owners: Owners) -> None:
    whole = owners.both()
    path = owners.homes[NEAR] / "binding.json"
    before = path.read_bytes()

    assert owners.bind(NEAR).document == whole
    assert path.read_bytes() == before


def test_either_owner_may_begin(owners: Owners) -> None:
    assert owners.bind(NEAR, "--twin", ON_SEI).status == 0
    owners.carry(NEAR, SEI)

    assert owners.bind(SEI).document["complete"] is True


def test_with_both_keys_in_one_home_no_twin_need_be_named(owners: Owners) -> None:
    keys = owners.homes[NEAR] / "keys"
    create_key(keys / "owner.json", keys / "passphrase", secret=SECRETS[SEI])
    owners.bind(NEAR)
    owners.homes[SEI] = owners.homes[NEAR]

    assert owners.bind(SEI).document["complete"] is True


def test_without_any_word_of_the_twin_it_asks_for_one(owners: Owners) -> None:
    done = owners.bind(SEI)

    assert (done.status, done.error["code"]) == (2, "no_twin")
    assert "--twin" in done.error["hint"]


@pytest.mark.parametrize("missing", [SEI, NEAR])
def test_a_node_that_is_not_registered_is_not_bound(owners: Owners, missing: ChainName) -> None:
    owners.chains[missing].nodes.clear()

    done = owners.bind(SEI, "--twin", ON_NEAR)

    assert (done.status, done.error["code"]) == (3, "unregistered_node")
    assert f"--chain {missing}" in done.error["hint"]
    assert not (owners.homes[SEI] / "binding.json").exists()


def test_a_function_call_key_cannot_sign_for_its_account(owners: Owners) -> None:
    owners.chains[NEAR].keys.clear()

    done = owners.bind(NEAR, "--twin", ON_SEI)

    assert (done.status, done.error["code"]) == (3, "wrong_key")
    assert not (owners.homes[NEAR] / "binding.json").exists()


def test_a_key_of_another_owner_does_not_sign_a_file(owners: Owners) -> None:
    owners.bind(NEAR, "--twin", ON_SEI)
    owners.carry(NEAR, SEI)
    keys = owners.homes[SEI] / "keys"
    (keys / "owner.json").unlink()
    create_key(keys / "owner.json", keys / "passphrase", secret=(99).to_bytes(32, "big"))

    done = owners.bind(SEI, "--twin", ON_NEAR)

    assert (done.status, done.error["code"]) == (2, "other_binding")
    assert read_binding(owners.homes[SEI] / "binding.json").sei is None


def test_a_key_of_the_other_chain_is_named(owners: Owners) -> None:
    wrong = str(owners.homes[NEAR] / "keys" / "owner-near.json")

    done = owners.bind(SEI, "--owner-key", wrong, "--twin", ON_NEAR)

    assert (done.status, done.error["code"]) == (3, "wrong_key_kind")


def test_a_file_about_other_nodes_is_left_alone(owners: Owners) -> None:
    owners.both()
    owners.chains[NEAR].nodes[near_node_id(NAME, 1)] = near_signer(74).account
    before = (owners.homes[NEAR] / "binding.json").read_bytes()

    done = owners.bind(NEAR, "--index", "1", "--twin", ON_SEI)

    assert (done.status, done.error["code"]) == (2, "other_binding")
    assert (owners.homes[NEAR] / "binding.json").read_bytes() == before


def test_a_file_that_a_chain_contradicts_is_begun_anew_only_when_told(owners: Owners) -> None:
    old = owners.both()
    owners.chains[SEI].nodes[ON_SEI] = signer(97).account

    done = owners.bind(NEAR)
    assert (done.status, done.error["code"]) == (3, "binding_outdated")
    assert "operator on sei" in done.error["message"]

    renewed = owners.bind(NEAR, "--renew").document
    assert renewed["signed"] == {"sei": False, "near": True}
    assert int(renewed["nonce"]) > int(str(old["nonce"]))


def test_a_file_with_a_forged_half_is_refused(owners: Owners) -> None:
    owners.both()
    path = owners.homes[NEAR] / "binding.json"
    draft = read_binding(path)
    assert draft.sei is not None
    write_binding(path, change(draft, sei=change(draft.sei, signature=bytes(64))))

    done = owners.bind(NEAR)

    assert (done.status, done.error["code"]) == (3, "bad_binding")


@pytest.mark.parametrize(
    ("bound", "code"),
    [({"node_id": "another.testnet#0"}, "bound_elsewhere"), (None, ""), ("nonsense", "")],
)
def test_a_twin_that_a_coordinator_knows_already_is_told(
    owners: Owners, bound: object, code: str
) -> None:
    with coordinator(200, json.dumps({"bound": bound}).encode()) as url:
        save(owners.homes[SEI], (url,))
        done = owners.bind(SEI, "--twin", ON_NEAR)

    assert done.status == (1 if code else 0), done.err
    assert not code or done.error["code"] == code


def test_a_coordinator_that_is_down_stops_nobody(owners: Owners) -> None:
    save(owners.homes[SEI], ("http://127.0.0.1:9",))

    assert owners.bind(SEI, "--twin", ON_NEAR).status == 0


def test_people_see_what_they_sign_and_what_comes_next(owners: Owners) -> None:
    shell = owners.shell
    shell.home = owners.homes[SEI]
    done = shell("stake", "bind", "--chain", "sei", "--twin", ON_NEAR, "--yes")

    assert done.status == 0
    shown = done.err.replace("\n", "")
    assert all(text in shown for text in (ON_SEI, ON_NEAR, "signs now"))
    assert "deai stake bind --chain near" in done.out
    secret = SECRETS[SEI].hex()
    assert secret not in done.out + done.err


def test_a_twin_of_the_wrong_form_leaves_with_2(owners: Owners) -> None:
    done = owners.bind(SEI, "--twin", ON_SEI)

    assert (done.status, done.error["code"]) == (2, "bad_node_id")


def test_the_status_of_a_node_shows_its_binding(owners: Owners) -> None:
    owners.shell.home = owners.homes[SEI]
    status = ("stake", "status", "--chain", "sei")
    assert owners.shell.json(*status).document["binding"] is None
    bound = owners.bind(SEI, "--twin", ON_NEAR).document

    assert owners.shell.json(*status).document["binding"] == bound
    shown = owners.shell(*status).out.replace("\n", "")
    assert ON_NEAR in shown
    assert "near has yet to sign" in shown

    (owners.homes[SEI] / "binding.json").write_text("{}")
    done = owners.shell.json(*status)
    assert (done.status, done.document["binding"]) == (0, None)
    assert "binding.json" in done.err
