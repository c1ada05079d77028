"""Setting a node up: every step once, what lacks is said, and the same command goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from deai.actions import TransferTokens
from deai.chain.gas import GAS
from deai.chain.ledger import Ledger
from deai.chain.memory import MemoryChain
from deai.config import load_config
from deai.errors import ConfigError, UsageError
from deai.ids import NEAR, SEI, AccountId, ChainName
from deai.keys import create_key
from deai.money import UNIT, Amount
from deai.network import ChainEntry, Network, load_network, save_network
from deai.signing import Signer
from node.config import Price, node_config
from node.home import Home
from node.setup import Plan, prepare, register
from node.store.errors import AlreadyRunning
from rewards.rules import RULES
from tests.node.support.names import key

pytestmark = pytest.mark.world


class Setting:
    """A chain, its network file, and an empty home."""

    def __init__(self, folder: Path) -> None:
        self.chain = MemoryChain(RULES, holder=key("bank").account)
        self.home = Home(folder / "home")
        self.file = folder / "network.json"
        self.network = Network(
            name="test",
            chains={
                SEI: ChainEntry(
                    kind="embedded",
                    chain_id=1,
                    rpc_urls=("http://127.0.0.1:1",),
                    contracts=self.chain.info.contracts,
                )
            },
        )
        save_network(self.network, self.file)

    @asynccontextmanager
    async def open_ledger(
        self,
        _network: Network,
        _chain: ChainName,
        signer: Signer | None,
        _outbox: Path | None,
        _account: AccountId | None = None,
    ) -> AsyncIterator[Ledger]:
        yield self.chain.ledger(signer)

    def prepare(self, owner_key: Path | None = None) -> Plan:
        return prepare(
            self.home, SEI, network_file=self.file, owner_key=owner_key,
            owner_passphrase=None, listen=(), index=0,
        )  # fmt: skip

    async def init(self, stake: int | None = None, owner_key: Path | None = None) -> Plan:
        plan = self.prepare(owner_key)
        await register(plan, self.network, stake, self.open_ledger)
        return plan

    async def fund(self, account: AccountId, tokens: int) -> None:
        await self.chain.ledger(key("bank")).submit(
            TransferTokens(account, Amount(tokens)), key=f"fund {account} {tokens}"
        )


async def test_a_first_run_says_what_is_needed_and_the_second_registers(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    first = await setting.init()
    assert first.registration is not None
    owner = first.registration.owner
    assert first.needs is not None
    assert first.needs.document() == {
        "address": owner,
        "gas": "0",
        "tokens": str(setting.chain.parameters.min_stake),
    }
    assert any("owner key" in warning for warning in first.warnings)
    await setting.fund(owner, 200 * UNIT)
    second = await setting.init()
    assert second.needs is None
    states = {step.name: step.state for step in second.steps}
    assert states["keys"] == "done_before"
    assert states["register"] == "done"
    written = node_config(load_config(setting.home.config, {}))
    assert written.price("embedding") == Price()
    assert written.price("embedding").unit > 0
    third = await setting.init()
    assert {step.name: step.state for step in third.steps}["register"] == "done_before"
    record = await setting.chain.ledger().node(first.registration.node_id)
    assert record is not None
    assert record.stake == setting.chain.parameters.min_stake


async def test_an_owner_key_elsewhere_is_used_and_not_copied(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    owner_key = tmp_path / "cold" / "owner.json"
    owner = create_key(owner_key, tmp_path / "cold" / "passphrase")
    await setting.fund(owner, 500 * UNIT)
    plan = setting.prepare(owner_key)
    plan.owner_passphrase = tmp_path / "cold" / "passphrase"
    await register(plan, setting.network, 300 * UNIT, setting.open_ledger)
    assert plan.registration is not None
    assert plan.registration.owner == owner
    assert not setting.home.owner_key.exists()
    record = await setting.chain.ledger().node(plan.registration.node_id)
    assert record is not None
    assert record.stake == 300 * UNIT


async def test_an_owner_key_that_was_moved_away_is_neither_missed_nor_made_again(
    tmp_path: Path,
) -> None:
    setting = Setting(tmp_path)
    first = await setting.init()
    assert first.registration is not None
    await setting.fund(first.registration.owner, 200 * UNIT)
    await setting.init()
    setting.home.owner_key.unlink()
    again = await setting.init()
    assert again.needs is None
    assert again.registration == first.registration
    assert not setting.home.owner_key.exists()


async def test_a_stake_below_the_least_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with pytest.raises(UsageError, match="minimum"):
        await setting.init(stake=1)


async def test_keys_are_private_and_no_secret_is_printed(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    plan = await setting.init()
    secrets = [
        setting.home.passphrase.read_text().strip(),
        setting.home.peer_key.read_bytes().hex(),
    ]
    for path in (setting.home.path / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    shown = repr(plan) + str([step.document() for step in plan.steps])
    assert not any(secret in shown for secret in secrets)


def test_another_node_in_the_same_home_is_refused(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.prepare()
    other = tmp_path / "other.json"
    create_key(other, tmp_path / "passphrase")
    with pytest.raises(ConfigError, match="already holds"):
        setting.prepare(other)


def test_a_home_without_a_network_file_says_which_option_is_missing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(ConfigError) as caught:
        prepare(
            home, SEI, network_file=None, owner_key=None, owner_passphrase=None, listen=(), index=0
        )
    assert "--network" in caught.value.hint


def test_one_home_one_process(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.lock(), pytest.raises(AlreadyRunning), Home(tmp_path).lock():
        pytest.fail("a second process got in")
    with home.lock():
        pass


def test_needs_are_small_sums() -> None:
    for gas in GAS.values():
        assert 0 < gas.owner <= 10**gas.decimals // 10
        assert 0 < gas.operator <= 10**gas.decimals
        assert gas.little < gas.low < gas.operator


def both(setting: Setting) -> Network:
    """The setting's network with a second chain."""
    contracts = {
        "ComputeToken": AccountId("token.deai.test"),
        "NodeRegistry": AccountId("compute.deai.test"),
        "TaskEscrow": AccountId("compute.deai.test"),
    }
    near = ChainEntry(
        kind="embedded",
        chain_id="near:test",
        rpc_urls=("http://127.0.0.1:1",),
        contracts=contracts,
    )
    return msgspec.structs.replace(setting.network, chains={**setting.network.chains, NEAR: near})


def set_up(setting: Setting, chain: ChainName, file: Path | None) -> Plan:
    return prepare(
        setting.home, chain, network_file=file, owner_key=None, owner_passphrase=None,
        listen=(), index=0,
    )  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [(SEI, NEAR), (NEAR, SEI)])
def test_a_home_is_set_up_on_one_chain_after_the_other(
    tmp_path: Path, first: ChainName, second: ChainName
) -> None:
    setting = Setting(tmp_path)
    save_network(both(setting), setting.file)
    plans = [set_up(setting, chain, setting.file) for chain in (first, second)]
    known = setting.home.registrations()
    assert [one.chain for one in known] == [first, second]
    assert [plan.registration for plan in plans] == list(known)
    assert known[0].peer_id == known[1].peer_id
    assert known[0].operator != known[1].operator
    for one in known:
        assert setting.home.on(one.chain).load_registration() == one
    # What a home of one chain looked like still does.
    old = json.loads((setting.home.path / "registration.json").read_text())
    assert (old["chain"], old["node_id"]) == (first, known[0].node_id)
    again = [set_up(setting, chain, None) for chain in (second, first)]
    assert {step.state for plan in again for step in plan.steps} == {"done_before"}
    assert setting.home.registrations() == known


def test_a_network_file_without_a_chain_of_this_home_is_refused(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    save_network(both(setting), setting.file)
    set_up(setting, NEAR, setting.file)
    save_network(setting.network, setting.file)
    with pytest.raises(ConfigError, match="near") as caught:
        set_up(setting, SEI, setting.file)
    assert caught.value.reason_code == "chain_missing"
    assert NEAR in load_network(setting.home.network).chains


def test_a_damaged_registration_is_named(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.prepare()
    file = setting.home.path / "registration.json"
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"registration\.json"):
        setting.home.registrations()


def test_an_address_that_comes_too_late_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    setting = Setting(tmp_path)

    def warned(*listen: str) -> list[str]:
        plan = prepare(
            setting.home, SEI, network_file=setting.file, owner_key=None,
            owner_passphrase=None, listen=listen, index=0,
        )  # fmt: skip
        return [one for one in plan.warnings if "listen" in one]

    assert warned("/ip4/127.0.0.1/tcp/4005") == []
    assert warned() == []
    (told,) = warned("/ip4/127.0.0.1/tcp/4006")
    assert str(setting.home.config) in told
    assert "4005" in setting.home.config.read_text()
