"""Rewards as accounts get them: the shipped wasm on the embedded chain, trees by the core."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from py_near import transactions as near

from deai import claims
from deai.claims import MAX_SHARES
from deai.hashing import ZERO
from deai.ids import AccountId, hexed
from deai.money import UNIT
from deai.signing import Domain
from devnet.near.rules import NEAR, TGAS
from tests.contracts_near.reward_world import (
    DELAY,
    OTHER_REWARDS,
    POOR,
    PROPOSER,
    RECORD,
    REWARDS,
    STATEMENT,
    RewardWorld,
    a_reward_world,
    document,
)
from tests.contracts_near.world import (
    CHAIN,
    CLIENT,
    EPOCH,
    GUARDIAN,
    OWNER,
    OWNERS,
    STRANGER,
    TOKEN,
    events,
    refusal,
)

pytestmark = pytest.mark.slow

PAYEE, OTHER = OWNERS[:2]
SHARES = [[PAYEE, "60"], [OTHER, "30"]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RewardWorld]:
    with a_reward_world(tmp_path) as made:
        yield made
        made.check_books()


def test_an_epoch_from_the_money_to_the_accounts(world: RewardWorld) -> None:
    (funded,) = events(world.fund(100, [(PAYEE, 60), (OTHER, 30)]))
    assert funded == {
        "standard": "deai", "version": "1.0.0", "event": "rewards_funded",
        "data": {"payer": CLIENT, "reason": 2, "amount": "100", "shares": SHARES},
    }  # fmt: skip
    tree = world.tree({PAYEE: 60, OTHER: 30})
    epoch, active_at = world.over, world.now + DELAY
    (proposed,) = events(world.propose(tree, 90))
    assert proposed["data"] == {
        "epoch": epoch, "root": hexed(tree.root), "total": "90", "statement": STATEMENT,
        "active_at": proposed["data"]["active_at"],
    }  # fmt: skip
    assert active_at <= proposed["data"]["active_at"] <= active_at + 2
    waiting = {name: proposed["data"][name] for name in ("epoch", "root", "total", "active_at")}
    nothing = {"epoch": 0, "root": hexed(ZERO), "total": "0", "paid": "0"}
    assert world.roots() == {"active": nothing, "waiting": waiting}
    assert refusal(world.claim(tree, PAYEE)) == ("E_BAD_PROOF", {})
    world.advance(DELAY)
    for account, sum_ in ((PAYEE, 60), (OTHER, 30)):
        found = tree.claim(AccountId(account))
        assert found is not None
        leaf = world.view("leaf_of", account=account, cumulative=str(sum_))
        assert leaf == hexed(claims.claim_leaf(world.domain, AccountId(account), sum_))
        done = world.claim(tree, account)
        assert done.value is True
        (claimed,) = events(done)
        assert claimed["event"] == "rewards_claimed"
        assert claimed["data"] == {
            "account": account, "amount": str(sum_), "cumulative": str(sum_),
        }  # fmt: skip
        assert world.tokens(account) == world.claimed_by(account) == sum_
        assert refusal(world.claim(tree, account)) == ("E_NOTHING_NEW", {"claimed": str(sum_)})
    active = {"epoch": epoch, "root": hexed(tree.root), "total": "90", "paid": "90"}
    assert world.roots() == {"active": active, "waiting": None}


def test_who_missed_epochs_claims_once_and_the_pot_is_money_too(world: RewardWorld) -> None:
    assert world.fund(1_000).value == "1000"
    for sum_ in (10, 35):
        tree = world.activate({PAYEE: sum_, OTHER: sum_, STRANGER: 5})
    world.claim(tree, PAYEE)
    assert world.tokens(PAYEE) == 35
    world.advance(20 * EPOCH)
    tree = world.activate({PAYEE: 36, OTHER: 35, STRANGER: 5})
    assert world.claim(tree, PAYEE, deposit=0).value is True
    assert world.tokens(PAYEE) == 36


def test_a_guardian_takes_a_root_back_and_is_late_once_it_is_in_force(world: RewardWorld) -> None:
    world.fund(100)
    tree, epoch = world.tree({PAYEE: 60}), world.over
    world.propose(tree, 60, epoch=epoch)
    (cancelled,) = events(world.call(GUARDIAN, "cancel", {"epoch": epoch}))
    assert cancelled["data"] == {"epoch": epoch, "root": hexed(tree.root)}
    world.propose(tree, 60, epoch=epoch)
    world.advance(DELAY)
    assert refusal(world.call(GUARDIAN, "cancel", {"epoch": epoch})) == ("E_NOTHING_WAITS", {})
    assert world.claim(tree, PAYEE).value is True


def test_what_may_be_proposed_is_bounded_by_time_and_by_money(world: RewardWorld) -> None:
    world.fund(100)
    tree, over = world.tree({PAYEE: 60}), world.over
    for by in (STRANGER, OWNER, GUARDIAN):
        assert refusal(world.propose(tree, 60, by=by)) == ("E_FORBIDDEN", {"caller": by})
    ends = (over + 2) * EPOCH
    assert refusal(world.propose(tree, 60, epoch=over + 1)) == ("E_TOO_EARLY", {"time": ends})
    unfunded = {"total": "101", "available": "100"}
    assert refusal(world.propose(tree, 101)) == ("E_UNFUNDED", unfunded)
    world.propose(tree, 60)
    name, said = refusal(world.propose(tree, 60, epoch=over))
    assert (name, list(said)) == ("E_STILL_WAITING", ["active_at"])
    world.advance(DELAY)
    assert refusal(world.propose(tree, 60, epoch=over)) == ("E_BAD_EPOCH", {"epoch": over})
    world.advance(EPOCH)
    assert refusal(world.propose(tree, 59)) == ("E_BAD_DATA", {})


def test_leaves_that_promise_more_than_the_total_are_paid_until_it_is_spent(
    world: RewardWorld,
) -> None:
    world.fund(100)
    tree = world.activate({PAYEE: 80, OTHER: 40}, total=100)
    world.claim(tree, PAYEE)
    assert refusal(world.claim(tree, OTHER)) == ("E_EXHAUSTED", {"left": "20"})


def test_a_claim_of_another_root_contract_or_chain_is_none_here(world: RewardWorld) -> None:
    world.fund(100)
    owed = {PAYEE: 60, OTHER: 30}
    tree = world.activate(owed)
    strange = [
        world.tree({PAYEE: 61, OTHER: 30}),
        *(
            world.tree(owed, Domain(name, chain, AccountId(contract)))
            for name, chain, contract in (
                (claims.REWARDS_NAME, "near:mainnet", REWARDS),
                (claims.REWARDS_NAME, CHAIN, OTHER_REWARDS),
                ("deai escrow", CHAIN, REWARDS),
            )
        ),
    ]
    for other in strange:
        assert refusal(world.claim(other, PAYEE)) == ("E_BAD_PROOF", {})
    found = tree.claim(AccountId(PAYEE))
    assert found is not None
    good = document(found)
    changes: list[dict[str, object]] = [
        {"account": STRANGER}, {"cumulative": "61"}, {"sides": str(1 - found.sides)}, {"path": []},
    ]  # fmt: skip
    for changed in changes:
        assert refusal(world.bring({**good, **changed})) == ("E_BAD_PROOF", {})
    world.deploy(OTHER_REWARDS)
    assert refusal(world.claim(tree, PAYEE, contract=OTHER_REWARDS)) == ("E_BAD_PROOF", {})
    assert world.claim(tree, PAYEE).value is True


def test_one_claim_sent_twice_in_one_block_pays_once(world: RewardWorld) -> None:
    world.fund(100)
    tree = world.activate({PAYEE: 60})
    found = tree.claim(AccountId(PAYEE))
    assert found is not None
    body = json.dumps(document(found)).encode()
    action = near.create_function_call_action("claim", body, 30 * TGAS, RECORD)
    sent = [world.submit(signer, REWARDS, action) for signer in (STRANGER, CLIENT)]
    world.chain.settle()
    results = [world.result(one) for one in sent]
    failed = [one for one in results if "Failure" in one.status]
    assert [refusal(one) for one in failed] == [("E_NOTHING_NEW", {"claimed": "60"})]
    assert world.tokens(PAYEE) == 60


def test_what_the_token_refuses_is_claimed_again_once_the_account_can_be_paid(
    world: RewardWorld,
) -> None:
    world.fund(100)
    tree = world.activate({POOR: 60})
    for deposit in (RECORD, 0):
        done = world.claim(tree, POOR, deposit=deposit)
        assert done.value is False
        (failed,) = events(done)
        assert failed["event"] == "transfer_failed"
        assert failed["data"] == {"account": POOR, "to": POOR, "amount": "60"}
        assert (world.claimed_by(POOR), world.roots()["active"]["paid"]) == (0, "0")
        world.check_books()
    storage = {"account_id": POOR}
    world.call(OWNER, "storage_deposit", storage, deposit=NEAR // 100, receiver=TOKEN)
    assert world.claim(tree, POOR, deposit=0).value is True
    assert world.tokens(POOR) == 60
    assert refusal(world.claim(tree, POOR)) == ("E_NOTHING_NEW", {"claimed": "60"})


def test_the_contract_pays_for_nobodys_record(world: RewardWorld) -> None:
    world.fund(100)
    longest = "z".rjust(64, "y")
    tree = world.activate({PAYEE: 60, OTHER: 1, longest: 1})
    world.claim(tree, OTHER)  # the first under a root forgets that it waited
    for account in (PAYEE, longest):
        cost = int(world.view("storage_cost", account_id=account))
        assert cost <= RECORD
        needed = ("E_STORAGE", {"needed": str(cost)})
        assert refusal(world.claim(tree, account, deposit=cost - 1)) == needed
        before, spent = world.usage(), world.chain.state.accounts[STRANGER].amount
        done = world.claim(tree, account, deposit=NEAR)
        assert (world.usage() - before) * 10**19 == cost
        spent -= world.chain.state.accounts[STRANGER].amount
        assert cost < spent < cost + NEAR // 500, "all but the record and the gas came back"
        assert world.view("storage_cost", account_id=account) == "0"
        assert done.value is (account == PAYEE)


def test_money_that_makes_no_sense_is_returned_by_the_token(world: RewardWorld) -> None:
    had = world.tokens(CLIENT)
    share = [["a.near", "1"]]
    bad: list[object] = [
        "pot", {"reason": 0, "shares": share}, {"reason": 5, "shares": share},
        {"reason": 1, "shares": []}, {"reason": 1, "shares": [["a.near", "0"]]},
        {"reason": 1, "shares": [["a.near", "101"]]}, {"reason": 1}, {"shares": share},
        {"reason": 1, "shares": [[f"a{i}", "1"] for i in range(MAX_SHARES + 1)]},
    ]  # fmt: skip
    for message in bad:
        done = world.pay_in(CLIENT, 1_000 if isinstance(message, str) else 100, message, gas=100)
        assert (done.value, refusal(done)) == ("0", ("E_BAD_DATA", {})), message
    assert world.tokens(CLIENT) == had
    # Another token than the one of the deployment.
    alone = {"sender_id": STRANGER, "amount": "5", "msg": ""}
    done = world.call(STRANGER, "ft_on_transfer", alone)
    assert refusal(done) == ("E_FORBIDDEN", {"caller": STRANGER})


@pytest.mark.parametrize(("name", "part", "fits"), [(40, UNIT, True), (64, 10 * UNIT, False)])
def test_as_many_shares_as_a_receipt_can_tell_of(
    world: RewardWorld, name: int, part: int, fits: bool
) -> None:
    """What does not fit is refused by the contract, before the chain would have to."""
    shares = [(f"a{i}-".ljust(name, "0"), part) for i in range(MAX_SHARES)]
    done = world.fund(part * MAX_SHARES, shares, gas=100)
    if fits:
        (funded,) = events(done)
        assert funded["data"]["shares"] == [[account, str(sum_)] for account, sum_ in shares]
    else:
        assert (done.value, refusal(done)) == ("0", ("E_BAD_DATA", {}))
        assert world.fund(part * 160, shares[:160], gas=100).value == str(part * 160)


def test_another_proposer_and_another_owner(world: RewardWorld) -> None:
    world.fund(100)
    tree = world.tree({PAYEE: 60})
    done = world.owner_call(OWNER, "grant", role="proposer", account_id=STRANGER)
    (granted,) = events(done)
    assert granted["data"] == {"role": "proposer", "account_id": STRANGER, "on": True}
    world.owner_call(OWNER, "revoke", role="proposer", account_id=PROPOSER)
    assert refusal(world.propose(tree, 60)) == ("E_FORBIDDEN", {"caller": PROPOSER})
    world.propose(tree, 60, by=STRANGER)
    world.owner_call(OWNER, "propose_owner", account_id=CLIENT)
    assert refusal(world.owner_call(CLIENT, "accept_owner"))[0] == "E_TOO_EARLY"
    info = world.view("info")
    assert (info["owner"], info["proposed_owner"], info["proposers"]) == (OWNER, CLIENT, [STRANGER])
    world.advance(info["owner_delay"])
    world.owner_call(CLIENT, "accept_owner")
    name, _ = refusal(world.owner_call(OWNER, "grant", role="guardian", account_id=OWNER))
    assert name == "E_FORBIDDEN"
