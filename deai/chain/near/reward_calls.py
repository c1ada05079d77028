"""Verbs of rewards as NEAR transactions.

The methods and their forms are those of `contracts/near/rewards/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from deai import actions as act
from deai.chain.ledger import REWARDS_CONTRACT
from deai.chain.near.steps import YOCTO, NearCall, Needs, call
from deai.chain.refusals import no_rewards, refusal
from deai.claims import Reason
from deai.ids import AccountId, hexed

MAX_MESSAGE: Final = 16_000
"""Bytes with a payment: the contract logs them, and a receipt logs 16 KiB at most."""


def encode_reward(action: act.RewardAction, contracts: Mapping[str, AccountId]) -> NearCall:
    """The transaction for an action on rewards; raises `NotSetUp` where there are none.

    Raises `LedgerRejected` (`BadData`) for more shares than a message holds.
    """
    if REWARDS_CONTRACT not in contracts:
        raise no_rewards()
    to = contracts[REWARDS_CONTRACT]
    match action:
        case act.FundRewards():
            amount, text = str(int(action.amount)), _message(action)
            gas = 60 + len(action.shares) // 5
            step = call(
                "ft_transfer_call", gas, YOCTO, receiver_id=to, amount=amount, msg=text
            )  # fmt: skip
            needs = Needs(tokens=int(action.amount))
            return NearCall(contracts["ComputeToken"], (step,), needs)
        case act.ProposeRewards():
            step = call(
                "propose", 10, epoch=action.epoch, root=hexed(action.root),
                total=str(int(action.total)), statement=hexed(action.statement),
            )  # fmt: skip
            return NearCall(to, (step,))
        case act.CancelRewards():
            return NearCall(to, (call("cancel", 10, epoch=action.epoch),))
        case act.ClaimRewards():
            one = action.claim
            step = call(
                "claim", 30, account=one.account, cumulative=str(int(one.cumulative_amount)),
                sides=str(one.sides), path=[hexed(other) for other in one.path],
            )  # fmt: skip
            return NearCall(to, (step,), Needs(receivers=(one.account,), record_of=one.account))
        case _:
            assert_never(action)


def _message(action: act.FundRewards) -> str:
    if action.reason is Reason.POT and not action.shares:
        return ""
    shares = [[one.account, str(int(one.amount))] for one in action.shares]
    text = msgspec.json.encode({"reason": int(action.reason), "shares": shares})
    if len(text) > MAX_MESSAGE:
        raise refusal("BadData", {"message": f"{len(text)} bytes", "most": MAX_MESSAGE})
    return text.decode()
