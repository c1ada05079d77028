"""`deai stake` against the embedded chain: every command may be run again, and says what lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from deai import actions as act
from deai.chain.sei.ledger import open_sei_ledger
from deai.ids import AccountId, ChainName
from deai.keys import create_key, create_peer_key
from deai.money import UNIT, Amount
from deai.network import Network, save_network
from deai.signing import LocalSigner
from tests.cli.conftest import Shell
from tests.deai.chain.chains import (
    PARAMETERS,
    SETTINGS,
    ChainProcess,
    chain_process,
)

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]

LEAST = int(PARAMETERS.min_stake)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("chain"), accounts=200) as made:
        yield made


class Staker:
    """A home with keys, and the accounts in it."""

    def __init__(self, shell: Shell, chain: ChainProcess, *, rich: bool) -> None:
        self.shell, self.chain = shell, chain
        keys = shell.home / "keys"
        keys.mkdir(mode=0o700, parents=True)
        network = Network(name="test", chains={ChainName("sei"): chain.entry})
        save_network(network, shell.home / "network.json")
        passphrase = keys / "passphrase"
        # The chain's genesis gave the first accounts money for gas, and nobody else.
        secret = chain.secret() if rich else None
        self.owner = create_key(keys / "owner.json", passphrase, secret=secret)
        self.operator = create_key(keys / "operator.json", passphrase)
        create_peer_key(keys / "peer.key")

    def send(self, action: act.Action) -> None:
        """As the holder of all tokens."""

        async def there() -> None:
            entry, holder = self.chain.entry, self.chain.holder
            async with open_sei_ledger(entry, holder, settings=SETTINGS) as ledger:
                await ledger.submit(action, key=str(next(self.chain.numbers)))

        trio.run(there)

    def fund(self, tokens: int) -> None:
        self.send(act.TransferTokens(self.owner, Amount(tokens)))

    def gas_of(self, account: AccountId) -> int:
        return int(str(self.chain.ask("eth_getBalance", account, "latest")), 16)

    def run(self, *arguments: str, status: int = 0) -> Any:
        done = self.shell.json("stake", *arguments)
        assert done.status == status, (done.out, done.err)
        return done.document

    def states(self, *arguments: str, status: int = 0) -> dict[str, str]:
        document = self.run(*arguments, status=status)
        return {step["name"]: step["state"] for step in document["steps"]}


@pytest.fixture
def staker(shell: Shell, chain: ChainProcess) -> Staker:
    return Staker(shell, chain, rich=True)


@pytest.fixture
def registered(staker: Staker) -> Staker:
    staker.fund(3 * LEAST)
    staker.run("register")
    return staker


def test_registering_says_what_lacks_then_goes_on_and_then_has_nothing_to_do(
    shell: Shell, chain: ChainProcess
) -> None:
    staker = Staker(shell, chain, rich=False)

    waiting = staker.run("register", status=5)
    assert waiting["needs"]["address"] == staker.owner
    assert int(waiting["needs"]["tokens"]) == LEAST
    assert int(waiting["needs"]["gas"]) > 0
    assert {step["state"] for step in waiting["steps"]} == {"waiting"}
    assert staker.run("register", status=5) == waiting

    staker.send(act.TransferGas(staker.owner, Amount(int(waiting["needs"]["gas"]))))
    halfway = staker.run("register", status=5)
    assert halfway["needs"] == {**waiting["needs"], "gas": "0"}
    staker.fund(LEAST)

    done = staker.run("register")
    assert done["needs"] is None
    assert [(step["name"], step["state"]) for step in done["steps"]] == [
        ("register", "done"), ("operator_gas", "done"),
    ]  # fmt: skip
    assert all(len(step["transaction"]) == 66 for step in done["steps"])
    assert staker.gas_of(staker.operator) > 0
    assert staker.states("register") == {"register": "done_before", "operator_gas": "done_before"}
    # The owner's money is spent, and still nothing is missing.
    assert staker.run("status")["wallet"] == "0"


def test_a_registered_node_keeps_its_operator(registered: Staker) -> None:
    keys = registered.shell.home / "keys"
    (keys / "operator.json").unlink()
    create_key(keys / "operator.json", keys / "passphrase")
    refused = registered.run("register", status=3)
    assert "another operator" in refused["error"]["message"]
    assert refused["error"]["hint"]


def test_a_stake_below_the_minimum_is_refused_before_anything_is_sent(staker: Staker) -> None:
    refused = staker.run("register", "--stake", str(LEAST - 1), status=2)["error"]
    assert refused["code"] == "stake_too_low"
    assert str(LEAST) in refused["hint"]
    assert staker.run("status")["registered"] is False


@pytest.mark.parametrize("amount", ["1.5", "-1", "10 CT", "ten", "1000CTS"])
def test_an_amount_that_could_mean_two_things_is_refused(staker: Staker, amount: str) -> None:
    refused = staker.run("register", f"--stake={amount}", status=2)["error"]
    assert (refused["code"], bool(refused["hint"])) == ("bad_amount", True)
    assert staker.run("status")["registered"] is False


def test_stake_is_added_in_tokens_or_base_units(registered: Staker) -> None:
    before = int(registered.run("status")["stake"])
    assert registered.states("add", "2CT") == {"add": "done"}
    assert registered.states("add", "5") == {"add": "done"}
    assert int(registered.run("status")["stake"]) == before + 2 * UNIT + 5


def test_a_named_addition_is_made_once_an_unnamed_one_each_time(registered: Staker) -> None:
    before = int(registered.run("status")["stake"])
    first = registered.run("add", "1CT", "--key", "march")
    again = registered.run("add", "1CT", "--key", "march")
    assert again["steps"][0]["transaction"] == first["steps"][0]["transaction"]
    registered.run("add", "1CT")
    registered.chain.advance(1)
    registered.run("add", "1CT")
    assert int(registered.run("status")["stake"]) == before + 3 * UNIT


def test_adding_more_than_there_is_says_how_much_lacks(registered: Staker) -> None:
    wallet = int(registered.run("status")["wallet"])
    document = registered.run("add", str(wallet + 7), status=5)
    assert document["needs"] == {"address": registered.owner, "gas": "0", "tokens": "7"}
    assert int(registered.run("status")["wallet"]) == wallet


def test_what_would_leave_less_than_the_minimum_is_not_unbonded(registered: Staker) -> None:
    for amount in ("1", str(LEAST - 1), str(LEAST + 1)):
        refused = registered.run("unbond", amount, status=2)["error"]
        assert refused["code"] == "stake_too_low"
        assert "--all" in refused["hint"]
    assert registered.run("status")["unbonding"] == "0"


def test_leaving_takes_the_waiting_time_and_brings_everything_back(registered: Staker) -> None:
    assert registered.states("withdraw") == {"withdraw": "not_needed"}
    registered.run("add", "1CT")
    assert registered.states("unbond", "1CT", "--key", "one") == {"unbond": "done"}
    assert registered.states("unbond", "--all") == {"unbond": "done"}
    assert registered.states("unbond", "--all") == {"unbond": "done_before"}
    status = registered.run("status")
    assert (status["state"], status["stake"]) == ("unbonding", "0")
    assert int(status["unbonding"]) == LEAST + UNIT
    assert status["unbond_at"].endswith("Z")

    early = registered.run("withdraw", status=1)["error"]
    assert (early["code"], bool(early["hint"])) == ("still_unbonding", True)

    registered.chain.advance(PARAMETERS.unbonding_seconds + 1)
    other = LocalSigner(b"\x07" * 32).account
    assert registered.states("withdraw", "--to", other) == {"withdraw": "done"}
    left = registered.run("status")
    assert (left["unbonding"], left["unbond_at"], left["state"]) == ("0", None, "exited")
    assert registered.states("withdraw") == {"withdraw": "not_needed"}


@pytest.mark.parametrize(
    "arguments", [("add", "1CT"), ("unbond", "1CT"), ("unbond", "--all"), ("withdraw",)]
)
def test_a_node_that_is_not_registered_has_no_stake_to_change(
    staker: Staker, arguments: tuple[str, ...]
) -> None:
    refused = staker.run(*arguments, status=3)["error"]
    assert (refused["code"], refused["hint"]) == ("not_set_up", "deai stake register")


def test_people_get_screens_with_the_same_words(registered: Staker) -> None:
    shell = registered.shell
    for arguments in (("status",), ("register",), ("add", "1CT", "--yes"), ("withdraw",)):
        done = shell("stake", *arguments)
        assert done.status == 0, done.err
        assert f"Node {registered.run('status')['node_id']}" in done.out
    wanting = shell("stake", "add", "99999999CT")
    assert wanting.status == 5
    assert "Then run the same command again" in wanting.out


def test_a_node_is_looked_at_by_its_id_without_any_key(
    registered: Staker, tmp_path: Path, shell: Shell
) -> None:
    node = registered.run("status")["node_id"]
    elsewhere = Shell(tmp_path / "elsewhere", shell.monkeypatch, shell.capsys)
    elsewhere.home.mkdir()
    save_network(
        Network(name="test", chains={ChainName("sei"): registered.chain.entry}),
        elsewhere.home / "network.json",
    )
    done = elsewhere.json("stake", "status", "--node", node)
    assert done.document["owner"] == registered.owner
    assert elsewhere.json("stake", "status", "--node", "0x12").status == 2
