"""Rewards as their contract pays them: the record of `deai.claims`, and the money.

Each verb asks what the contract asks, in its order; who deployed is proposer and guardian.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deai.actions import CancelRewards, ClaimRewards, FundRewards, ProposeRewards
from deai.chain.ledger import REWARDS_CONTRACT
from deai.chain.memory_state import NO_REWARDS, ZERO_ACCOUNT, Call, refuse
from deai.chain.refusals import no_rewards, refusal
from deai.claims import RewardsRecord, cancelled, check_shares, claimed, proposed
from deai.errors import LedgerRejected
from deai.events import RewardsCancelled, RewardsClaimed, RewardsFunded, RewardsProposed
from deai.ids import AccountId


def record_of(call: Call) -> RewardsRecord:
    """What the contract stores; raises `NotSetUp` where there is none."""
    if REWARDS_CONTRACT not in call.info.contracts:
        raise no_rewards()
    return call.rewards.get(call.info.contracts[REWARDS_CONTRACT], NO_REWARDS)


def fund(call: Call, action: FundRewards) -> None:
    """Tokens of the sender, for the accounts named or for nobody."""
    contract = call.info.rewards.contract
    call.move_tokens(call.sender, contract, action.amount)
    with _as_contract():
        check_shares(action.reason, action.amount, action.shares)
    if any(one.account == ZERO_ACCOUNT for one in action.shares):
        refuse("BadData")
    call.emit(RewardsFunded(call.sender, action.reason, action.amount, action.shares))


def propose(call: Call, action: ProposeRewards) -> None:
    """A root begins to wait."""
    record = record_of(call)
    _only(call, call.ruler)
    contract, parameters = call.info.rewards.contract, call.parameters
    with _as_contract():
        record = proposed(
            record, action.epoch, action.root, action.total, held=call.tokens.get(contract, 0),
            now=call.now, delay=parameters.reward_delay, seconds=parameters.epoch_seconds,
        )  # fmt: skip
    call.rewards[contract] = record
    active_at = call.now + parameters.reward_delay
    call.emit(RewardsProposed(action.epoch, action.root, action.total, action.statement, active_at))


def cancel(call: Call, action: CancelRewards) -> None:
    """The waiting root is gone."""
    record = record_of(call)
    _only(call, call.ruler)
    with _as_contract():
        record, gone = cancelled(record, action.epoch, call.now)
    call.rewards[call.info.rewards.contract] = record
    call.emit(RewardsCancelled(gone.epoch, gone.root))


def claim(call: Call, action: ClaimRewards) -> None:
    """An account is paid what it has not had."""
    record, one = record_of(call), action.claim
    domain = call.info.rewards
    before = call.rewarded.get(one.account, 0)
    with _as_contract():
        record, paid = claimed(record, domain, one, before, call.now)
    call.rewards[domain.contract] = record
    call.rewarded[one.account] = int(one.cumulative_amount)
    call.emit(RewardsClaimed(one.account, paid, one.cumulative_amount))
    call.move_tokens(domain.contract, one.account, paid)


def _only(call: Call, account: AccountId) -> None:
    if call.sender != account:
        refuse("Forbidden", caller=call.sender)


@contextmanager
def _as_contract() -> Iterator[None]:
    """What the record refuses, with the contract's hints."""
    try:
        yield
    except LedgerRejected as error:
        raise refusal(error.name, error.arguments) from error
