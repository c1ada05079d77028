"""`deai stake bind` over two real chains: registered by commands, bound, taken by a coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.bindings import Bindings
from coordinator.operators import Operators
from deai import actions as act
from deai.binding import read_binding
from deai.chain.ledger import Ledger
from deai.chain.near.ledger import open_near_ledger
from deai.chain.sei.ledger import open_sei_ledger
from deai.ids import NEAR, SEI, AccountId, ChainName
from deai.keys import create_key, create_peer_key
from deai.money import Amount
from deai.network import Network, save_network
from tests.cli.conftest import Shell
from tests.deai.chain.chains import PARAMETERS, SETTINGS, ChainProcess, chain_process
from tests.deai.chain.near.harness import NearChain, near_chain, secret_of, settings

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]

LEAST = int(PARAMETERS.min_stake)


@pytest.fixture(scope="module")
def sei(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("sei"), accounts=20) as made:
        yield made


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NearChain]:
    with near_chain(tmp_path_factory.mktemp("near"), accounts=20) as made:
        yield made


def test_a_node_registered_on_both_chains_is_bound_and_its_binding_is_taken(
    shell: Shell, sei: ChainProcess, near: NearChain
) -> None:
    near.embedded("a command signs with the key of an account, which only ours tells")
    keys = shell.home / "keys"
    keys.mkdir(mode=0o700, parents=True)
    save_network(
        Network(name="t", chains={SEI: sei.entry, NEAR: near.entry}), shell.home / "network.json"
    )
    named = near.signer()
    owner = create_key(keys / "owner.json", keys / "passphrase", secret=sei.secret())
    create_key(keys / "owner-near.json", keys / "passphrase", secret=secret_of(named), chain=NEAR)
    create_key(keys / "operator.json", keys / "passphrase")
    create_key(keys / "operator-near.json", keys / "passphrase", chain=NEAR)
    create_peer_key(keys / "peer.key")
    trio.run(fund, sei, near, owner, named.account)

    def run(*arguments: str, status: int = 0) -> Any:
        done = shell.json("stake", *arguments)
        assert done.status == status, (done.out, done.err)
        return done.document

    on_near = ("--chain", "near", "--owner-account", named.account)
    assert run("bind", *on_near, status=3)["error"]["code"] == "unregistered_node"
    run("register")
    assert run("bind", *on_near, status=3)["error"]["code"] == "unregistered_node"
    run("register", *on_near)
    hot = ("--owner-key", str(keys / "operator-near.json"))
    assert run("bind", *on_near, *hot, status=3)["error"]["code"] == "wrong_key"

    assert run("bind", *on_near)["complete"] is False
    whole = run("bind")
    assert whole["complete"] is True
    assert whole["owners"] == {"sei": owner, "near": named.account}
    assert run("status")["binding"] == run("status", *on_near)["binding"] == whole
    nonce, rows = trio.run(taken, sei, near, shell.home / "binding.json")
    assert nonce == whole["nonce"]
    assert {row["node_id"] for row in rows} == set(whole["node_ids"].values())


async def fund(sei: ChainProcess, near: NearChain, owner: AccountId, named: AccountId) -> None:
    from deai.chain.near.keys import NearKey

    holder = NearKey(near.holder.account, near.holder.key)
    async with (
        open_sei_ledger(sei.entry, sei.holder, settings=SETTINGS) as on_sei,
        open_near_ledger(near.entry, holder, settings=settings()) as on_near,
    ):
        await on_sei.submit(act.TransferTokens(owner, Amount(LEAST)))
        await on_near.submit(act.TransferTokens(named, Amount(LEAST)))


async def taken(sei: ChainProcess, near: NearChain, path: Path) -> tuple[int, list[dict[str, Any]]]:
    """What a hub that follows both chains makes of the file."""
    signed = read_binding(path).signed
    assert signed is not None
    async with open_sei_ledger(sei.entry) as on_sei, open_near_ledger(near.entry) as on_near:
        ledgers: dict[ChainName, Ledger] = {SEI: on_sei, NEAR: on_near}

        async def speaks_for(chain: ChainName, account: AccountId, key: AccountId) -> bool:
            return await ledgers[chain].speaks_for(account, key)

        operators = Operators(ledgers)
        for chain in ledgers:
            side = signed.binding.side(chain)
            operators.learn(chain, {side.node: side.operator})
        domains = {chain: ledger.info.registry for chain, ledger in ledgers.items()}
        bindings = Bindings(domains, operators, speaks_for, lambda: 0.0)
        return await bindings.take_in(signed), bindings.take()
