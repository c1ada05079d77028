"""`deai rewards`: pay in, propose, check and claim; nobody's word is needed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from deai import actions as act
from deai.chain.memory import MemoryChain
from deai.claims import RewardsRecord, Statement
from deai.cli import rewards_follow
from deai.cli.base import Settings
from deai.client.rewards_following import Notice
from deai.codec import Codec
from deai.hashing import ZERO
from deai.ids import NEAR, AccountId, hexed
from deai.keys import create_key
from deai.money import UNIT, Amount
from deai.network import Network, save_network
from tests.cli.conftest import Done, Shell
from tests.cli.network import Neighbourhood
from tests.client.support.world import PARAMETERS, signer
from tests.deai.chain.chains import PARAMETERS as ON_CHAIN
from tests.deai.chain.near.harness import NearChain, secret_of, settings

pytestmark = pytest.mark.world

PAYER, RULER = signer("payer").account, signer("holder")
OTHER = AccountId("0x" + "77" * 20)
SECONDS = PARAMETERS.epoch_seconds


@pytest.fixture
def here(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    """A network; the home's account is the client's."""
    made = Neighbourhood(shell.home)
    made.install(monkeypatch)
    return made


@pytest.fixture
def ruler(shell: Shell, here: Neighbourhood, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A second home, of who holds the tokens and proposes."""
    home = shell.home.parent / "ruler"
    (home / "keys").mkdir(parents=True)
    create_key(
        home / "keys" / "client.json", home / "keys" / "passphrase", secret=RULER._key.secret
    )
    (home / "network.json").write_bytes((shell.home / "network.json").read_bytes())
    return Shell(home, monkeypatch, shell.capsys)


def epoch_over(chain: MemoryChain) -> int:
    epoch = chain.now // SECONDS
    chain.advance((epoch + 1) * SECONDS - chain.now)
    return epoch


def propose(chain: MemoryChain, action: act.ProposeRewards) -> None:
    async def send() -> None:
        await chain.ledger(RULER).submit(action)

    trio.run(send)


def test_money_goes_in_waits_and_comes_out(shell: Shell, here: Neighbourhood, ruler: Shell) -> None:
    chain = here.chain
    paid = ruler.json(
        "rewards", "fund", "10CT", "--for", f"{PAYER}=3CT", "--for", f"{OTHER}=2CT", "--as", "audit"
    )
    assert paid.status == 0
    assert (paid.document["reason"], paid.document["amount"]) == ("audit", str(10 * UNIT))
    assert [one["amount"] for one in paid.document["shares"]] == [str(3 * UNIT), str(2 * UNIT)]
    epoch = epoch_over(chain)

    before = shell.json("rewards", "status").document
    assert (before["account"], before["epoch"], before["waiting"]) == (PAYER, None, None)
    assert (before["owed"], before["claimable"], before["later"]) == ("0", "0", str(3 * UNIT))
    proposed = ruler.json("rewards", "propose")
    assert proposed.status == 0
    document = proposed.document
    assert (document["epoch"], document["state"], document["ok"]) == (epoch, "waiting", True)
    assert (document["received"], document["pot"]) == (str(10 * UNIT), str(5 * UNIT))
    assert document["transaction"]
    again = ruler.json("rewards", "propose", str(epoch)).document
    assert (again["state"], again["transaction"]) == ("waiting", None)

    waiting = shell.json("rewards", "claim").document
    assert (waiting["transaction"], waiting["waiting"]["epoch"]) == (None, epoch)
    chain.advance(PARAMETERS.reward_delay)
    ready = shell.json("rewards", "status").document
    assert (ready["epoch"], ready["claimable"], ready["later"]) == (epoch, str(3 * UNIT), "0")
    got = shell.json("rewards", "claim")
    assert got.status == 0
    assert (got.document["paid"], got.document["claimable"]) == (str(3 * UNIT), "0")
    assert got.document["paid_to_all"] == str(3 * UNIT)
    assert shell.json("account", "show").document["tokens"] == str(3 * UNIT)
    assert shell.json("rewards", "claim").document["transaction"] is None

    theirs = shell.json("rewards", "claim", "--account", OTHER).document
    assert (theirs["account"], theirs["paid"]) == (OTHER, str(2 * UNIT))
    assert chain.holdings()[OTHER] == 2 * UNIT
    assert shell.json("account", "show").document["tokens"] == str(3 * UNIT)


def test_anybody_computes_an_epoch_to_the_same_bytes(
    shell: Shell, here: Neighbourhood, ruler: Shell, tmp_path: Path
) -> None:
    ruler.json("rewards", "fund", "5", "--for", f"{OTHER}=5", "--as", "delegation")
    epoch = epoch_over(here.chain)
    ruler.json("rewards", "propose")
    files = [tmp_path / "one", tmp_path / "two"]
    found = [
        by.json("rewards", "verify", str(epoch), "--output", str(file))
        for by, file in zip((shell, ruler), files, strict=True)
    ]
    assert [one.status for one in found] == [0, 0]
    assert found[0].document == found[1].document
    assert files[0].read_bytes() == files[1].read_bytes()
    statement = Codec[Statement](Statement, 1 << 20).decode(files[0].read_bytes())
    document = found[0].document
    assert (hexed(statement.root), hexed(statement.digest)) == (
        document["root"], document["statement"],
    )  # fmt: skip
    assert document["proposed"]["root"] == document["root"]
    assert document["lines"] == [{"account": OTHER, "reason": "delegation", "amount": "5"}]
    assert "is what the events say" in shell("rewards", "verify", str(epoch)).out


def test_a_lie_is_told_from_the_truth_and_cancelled(
    shell: Shell, here: Neighbourhood, ruler: Shell
) -> None:
    ruler.json("rewards", "fund", "50", "--for", f"{OTHER}=5")
    epoch = epoch_over(here.chain)
    propose(here.chain, act.ProposeRewards(epoch, b"\x13" * 32, Amount(50), ZERO))
    wrong = shell.json("rewards", "verify", str(epoch))
    assert (wrong.status, wrong.document["ok"], wrong.document["state"]) == (1, False, "waiting")
    assert "NOT what the events say" in shell("rewards", "verify", str(epoch)).out
    gone = ruler.json("rewards", "cancel", str(epoch))
    assert (gone.status, bool(gone.document["transaction"])) == (0, True)
    assert ruler.json("rewards", "cancel", str(epoch)).error["code"] == "nothing_waits"
    assert shell.json("rewards", "verify", str(epoch)).document["state"] == "cancelled"
    right = ruler.json("rewards", "propose", str(epoch)).document
    assert (right["state"], right["ok"]) == ("waiting", True)


def test_under_a_root_that_is_no_sum_of_events_nothing_is_claimed(
    shell: Shell, here: Neighbourhood, ruler: Shell
) -> None:
    ruler.json("rewards", "fund", "50", "--for", f"{PAYER}=5")
    epoch = epoch_over(here.chain)
    propose(here.chain, act.ProposeRewards(epoch, b"\x13" * 32, Amount(50), ZERO))
    waits = shell.json("rewards", "status")
    assert (waits.status, waits.document["waiting"]["ok"], waits.document["ok"]) == (0, False, None)
    assert "root that waits is NOT" in shell("rewards", "status").out
    here.chain.advance(PARAMETERS.reward_delay)
    error = shell.json("rewards", "claim").error
    assert (error["code"], bool(error["hint"])) == ("root_differs", True)
    found = shell.json("rewards", "status")
    document = found.document
    assert (found.status, document["ok"], document["waiting"]) == (0, False, None)
    assert (document["epoch"], document["root"]) == (epoch, hexed(b"\x13" * 32))
    assert (document["owed"], document["claimable"], document["later"]) == (None, "0", "5")
    assert "root in force is NOT" in shell("rewards", "status").out
    epoch_over(here.chain)
    small = ruler.json("rewards", "propose")
    assert (small.status, small.error["code"]) == (1, "total_falls")
    ruler.json("rewards", "fund", "45", "--for", f"{OTHER}=45")
    epoch_over(here.chain)
    assert ruler.json("rewards", "propose").document["state"] == "waiting"
    here.chain.advance(PARAMETERS.reward_delay)
    assert shell.json("rewards", "claim").document["paid"] == "5"


def stop_after(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C for a command that follows, once it has said something."""
    really = rewards_follow._tell

    def tell(settings: Settings, notice: Notice) -> None:
        really(settings, notice)
        if notice.event == event:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(rewards_follow, "_tell", tell)


def record(chain: MemoryChain) -> RewardsRecord:
    return trio.run(chain.ledger().rewards)


def lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_proposer_follows_the_chain_until_ctrl_c(
    here: Neighbourhood, ruler: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruler.json("rewards", "fund", "50", "--for", f"{PAYER}=5")
    epoch = epoch_over(here.chain)
    stop_after("proposed", monkeypatch)
    done = ruler.json("rewards", "propose", "--follow")
    told = lines(done)
    assert done.status == 0
    assert [one["event"] for one in told] == ["ready", "proposed", "stopped"]
    assert (told[1]["epoch"], told[1]["chain"], told[1]["total"]) == (epoch, "sei", "5")
    assert told[1]["transaction"]
    assert (told[2]["proposed"], told[2]["needs"]) == (1, None)
    assert record(here.chain).waiting is not None
    stop_after("proposed_before", monkeypatch)
    again = ruler("rewards", "propose", "--follow")
    assert (again.status, f"proposed before   epoch {epoch}" in again.out) == (0, True)
    assert "stopped" in again.out


def test_a_check_ends_with_the_first_wrong_root_unless_it_can_take_it_back(
    shell: Shell, here: Neighbourhood, ruler: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruler.json("rewards", "fund", "50", "--for", f"{OTHER}=5")
    epoch = epoch_over(here.chain)
    propose(here.chain, act.ProposeRewards(epoch, b"\x13" * 32, Amount(50), ZERO))
    wrong = shell.json("rewards", "verify", "--follow")
    assert wrong.status == 1
    assert [one["event"] for one in lines(wrong)] == ["ready", "wrong", "stopped"]
    assert lines(wrong)[-1]["standing"] == 1
    assert "WRONG" in shell("rewards", "verify", "--follow").out
    stop_after("cancelled", monkeypatch)
    guarded = ruler.json("rewards", "verify", "--follow", "--cancel")
    assert guarded.status == 0
    assert [one["event"] for one in lines(guarded)] == ["ready", "wrong", "cancelled", "stopped"]
    assert record(here.chain).waiting is None
    assert lines(guarded)[-1]["cancelled"] == 1


def test_following_goes_with_nothing_else(shell: Shell, here: Neighbourhood, ruler: Shell) -> None:
    for wrong in (
        ("propose", "7", "--follow"), ("verify", "7", "--follow"), ("verify",),
        ("verify", "7", "--cancel"), ("verify", "--follow", "--output", "x"),
    ):  # fmt: skip
        assert ruler.json("rewards", *wrong).status == 2, wrong


def test_what_cannot_be_meant_is_refused_by_name(
    shell: Shell, here: Neighbourhood, ruler: Shell
) -> None:
    now = here.chain.now // SECONDS
    assert shell.json("rewards", "verify", str(now)).error["code"] == "epoch_not_over"
    assert shell.json("rewards", "verify", "1", "--account", "x").status == 2
    assert ruler.json("rewards", "propose").error["code"] == "nothing_owed"
    assert ruler.json("rewards", "fund", "5", "--for", OTHER).error["code"] == "bad_share"
    halves = ("--for", f"{OTHER}=3", "--for", f"{PAYER}=3")
    more = ruler.json("rewards", "fund", "5", *halves)
    assert (more.status, more.error["code"]) == (2, "bad_share")
    poor = shell.json("rewards", "fund", "5")
    assert (poor.status, poor.document["needs"]["tokens"]) == (5, "5")
    assert shell.json("rewards", "status", "--account", "0x1").status == 2


def test_a_network_without_rewards_says_so(shell: Shell, here: Neighbourhood) -> None:
    del here.chain.info.contracts["RewardDistributor"]
    for command in (
        ("status",), ("claim",), ("verify", "1"), ("fund", "1"), ("propose", "--follow"),
        ("verify", "--follow"),
    ):  # fmt: skip
        assert shell.json("rewards", *command).error["code"] == "no_rewards"


def test_screens_say_in_words_what_the_documents_say(
    shell: Shell, here: Neighbourhood, ruler: Shell
) -> None:
    assert "Transaction" in ruler("rewards", "fund", "5CT", "--for", f"{PAYER}=5CT", "--yes").out
    epoch = epoch_over(here.chain)
    out = ruler("rewards", "propose", "--yes").out
    assert f"{epoch}: " in out
    assert "audit" in out
    here.chain.advance(PARAMETERS.reward_delay)
    screen = shell("rewards", "status").out
    assert "Can be claimed" in screen
    assert "5.000000 CT" in screen
    assert "Transaction" in shell("rewards", "claim", "--yes").out


@pytest.mark.chain
@pytest.mark.network
@pytest.mark.slow
def test_the_same_commands_do_the_same_on_near(
    shell: Shell, near: NearChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder of the tokens pays in, proposes and guards; an account that the token does not
    know yet claims."""
    holder, one = near.holder, near.signer().account
    keys = shell.home / "keys"
    keys.mkdir(parents=True)
    create_key(
        keys / "client-near.json", keys / "passphrase", secret=secret_of(holder), chain=NEAR
    )  # fmt: skip
    save_network(Network(name="t", chains={NEAR: near.entry}), shell.home / "network.json")
    config = f'chain = "near"\n[client]\naccount = "{holder.account}"\n'
    (shell.home / "config.toml").write_text(config)
    seconds, delay = ON_CHAIN.epoch_seconds, ON_CHAIN.reward_delay

    paid = shell.json("rewards", "fund", "10CT", "--for", f"{one}=3CT", "--as", "delegation")
    assert (paid.status, bool(paid.document["transaction"])) == (0, True)
    assert shell.json("rewards", "status", "--account", one).document["later"] == "0"
    near.advance(seconds)
    stop_after("proposed", monkeypatch)
    told = lines(shell.json("rewards", "propose", "--follow"))
    assert [line["event"] for line in told if line["event"] != "reading"] == [
        "ready", "proposed", "stopped",
    ]  # fmt: skip
    proposed = next(line for line in told if line["event"] == "proposed")
    epoch = proposed["epoch"]
    again = shell.json("rewards", "propose", f"{epoch}").document
    assert (again["state"], again["ok"], again["transaction"]) == ("waiting", True, None)
    assert (again["received"], again["pot"]) == (str(10 * UNIT), str(7 * UNIT))
    near.advance(delay)

    ready = shell.json("rewards", "status", "--account", one).document
    assert (ready["epoch"], ready["ok"], ready["claimable"]) == (epoch, True, str(3 * UNIT))
    got = shell.json("rewards", "claim", "--account", one)
    assert (got.status, got.document["paid"]) == (0, str(3 * UNIT))
    assert shell.json("rewards", "claim", "--account", one).document["transaction"] is None
    after = shell.json("rewards", "status", "--account", one).document
    assert (after["paid"], after["paid_to_all"]) == (str(3 * UNIT), str(3 * UNIT))

    shell.json("rewards", "fund", "1CT", "--for", f"{one}=1CT")
    near.advance(seconds)
    lie = act.ProposeRewards(epoch + 1, b"\x13" * 32, Amount(4 * UNIT), ZERO)
    trio.run(propose_on, near, lie)
    wrong = shell.json("rewards", "verify", "--follow")
    assert (wrong.status, lines(wrong)[-1]["standing"]) == (1, 1)
    stop_after("cancelled", monkeypatch)
    guarded = shell.json("rewards", "verify", "--follow", "--cancel")
    assert (guarded.status, lines(guarded)[-1]["cancelled"]) == (0, 1)
    assert shell.json("rewards", "verify", f"{epoch + 1}").document["state"] == "cancelled"
    assert shell.json("rewards", "cancel", f"{epoch + 1}").error["code"] == "nothing_waits"


async def propose_on(near: NearChain, action: act.ProposeRewards) -> None:
    from deai.chain.near.keys import NearKey
    from deai.chain.near.ledger import open_near_ledger

    key = NearKey(near.holder.account, near.holder.key)
    async with open_near_ledger(near.entry, key, settings=settings()) as ledger:
        await ledger.submit(action)
