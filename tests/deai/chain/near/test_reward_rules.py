"""What is told of rewards on NEAR before anything is sent is what the contract would say."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import pytest
from hypothesis import event, given, strategies as st

from deai import actions as act
from deai.chain.memory import MemoryChain
from deai.chain.memory_rewards import record_of
from deai.chain.near.reward_rules import Roles, judge, read_rewards, read_roles
from deai.claims import ClaimTree, Proposed, Reason, RewardsRecord, Share, matured
from deai.errors import DeaiError, LedgerRejected
from deai.hashing import ZERO
from deai.ids import AccountId, hexed
from deai.money import Amount
from tests.deai.chain.conftest import memory_world
from tests.support.examples import examples

Said: TypeAlias = tuple[str, dict[str, object]] | None
Leaves: TypeAlias = tuple[Share, ...]
ROOT = b"\x07" * 32
TOLD = {
    "active": {"epoch": 5, "root": hexed(ROOT), "total": "9", "paid": "4"},
    "waiting": {"epoch": 6, "root": hexed(b"\x08" * 32), "total": "10", "active_at": 99},
}


def test_a_record_is_read_with_the_root_that_waits() -> None:
    found = read_rewards(TOLD)
    waiting = Proposed(6, b"\x08" * 32, Amount(10), 99)
    assert found == RewardsRecord(
        epoch=5, root=ROOT, total=Amount(9), paid=Amount(4), waiting=waiting
    )
    assert read_rewards(TOLD | {"waiting": None}).waiting is None


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("active", "epoch", "5"), ("active", "root", "0x07"), ("active", "total", 9),
        ("active", "paid", "-1"), ("waiting", "active_at", None), ("waiting", "total", None),
        ("waiting", "root", hexed(ROOT)[2:]),
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_none(part: str, field: str, value: object) -> None:
    told = {name: dict(fields) for name, fields in TOLD.items()}
    told[part][field] = value
    with pytest.raises((ValueError, TypeError, DeaiError)):
        read_rewards(told)


def test_roles_are_read_as_accounts() -> None:
    told = {"proposers": ["a.near", "b.near"], "guardians": [], "received": "12"}
    assert read_roles(told) == Roles(
        proposers=frozenset({AccountId("a.near"), AccountId("b.near")}), guardians=frozenset(),
        received=12,
    )  # fmt: skip
    for wrong in ({"received": 12}, {"guardians": [7]}, {"proposers": ["A b"]}):
        with pytest.raises((ValueError, TypeError, DeaiError)):
            read_roles(told | wrong)


Steps = st.lists(
    st.tuples(
        st.sampled_from(["fund", "propose", "propose", "cancel", "claim", "wait"]),
        st.integers(0, 3),  # which epoch, account, sum …
        st.booleans(),  # by the holder or by a stranger
    ),
    min_size=5, max_size=30,
)  # fmt: skip


def rehearsed(chain: MemoryChain, by: AccountId, action: act.RewardAction) -> Said:
    """What is told of an action before it is sent."""
    contract = chain.info.rewards.contract
    record = record_of(chain.read())
    holder = frozenset({chain.read().ruler})
    held = chain.holdings().get(contract, 0)
    roles = Roles(proposers=holder, guardians=holder, received=held + int(record.paid))
    parameters, before = chain.parameters, 0
    if isinstance(action, act.ClaimRewards):
        before = chain.read().rewarded.get(action.claim.account, 0)
    try:
        judge(
            action, matured(record, chain.now), roles, before, chain.info.rewards, by=by,
            now=chain.now, delay=parameters.reward_delay, seconds=parameters.epoch_seconds,
        )  # fmt: skip
    except LedgerRejected as error:
        return error.name, error.arguments
    return None


def an_action(chain: MemoryChain, verb: str, which: int, leaves: Leaves) -> act.RewardAction:
    epoch = chain.now // chain.parameters.epoch_seconds - which
    tree = ClaimTree(chain.info.rewards, leaves)
    match verb:
        case "fund":
            reason = Reason.AUDIT if which else Reason.POT
            return act.FundRewards(Amount(40 * which), reason, leaves[: which // 2])
        case "propose":
            root = tree.root if which < 3 else ZERO
            return act.ProposeRewards(epoch, root, Amount(20 + which), ZERO)
        case "cancel":
            return act.CancelRewards(epoch, ZERO)
        case _:
            claim = tree.claim(leaves[which % 3].account)
            assert claim is not None
            more = Amount(claim.cumulative_amount + which // 3)
            return act.ClaimRewards(msgspec.structs.replace(claim, cumulative_amount=more))


@examples(100)
@given(Steps)
def test_a_rehearsal_refuses_what_the_contract_refuses_and_nothing_else(
    steps: list[tuple[str, int, bool]],
) -> None:
    world, chain = memory_world()
    stranger = world.signer().account
    leaves = tuple(Share(world.signer().account, Amount(5 + n)) for n in range(3))
    for number, (verb, which, is_holder) in enumerate(steps):
        if verb == "wait":
            seconds = chain.parameters.epoch_seconds, chain.parameters.reward_delay
            chain.advance(seconds[which % 2])
            continue
        # A stranger has no tokens to pay in, which is not judged here.
        by = world.holder.account if is_holder or verb == "fund" else stranger
        action = an_action(chain, verb, which, leaves)
        before = rehearsed(chain, by, action)
        try:
            chain.execute(by, action, f"{number}")
            said = None
        except LedgerRejected as error:
            said = error.name, error.arguments
        assert before == said, action
        event(f"{verb}: {said and said[0]}")
