"""What the contract for rewards would say, from what can be read before anything is sent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from deai import actions as act
from deai.chain.near.logs import account, number
from deai.chain.near.records import read_sum
from deai.chain.refusals import refusal
from deai.claims import (
    Proposed,
    RewardsRecord,
    cancelled,
    check_shares,
    claimed,
    matured,
    proposed,
)
from deai.errors import LedgerRejected
from deai.ids import AccountId, parse_digest
from deai.money import Amount
from deai.signing import Domain


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what, and what the contract was given in all."""

    proposers: frozenset[AccountId]
    guardians: frozenset[AccountId]
    received: int


def read_rewards(found: Any) -> RewardsRecord:  # noqa: ANN401 - JSON
    """What `roots` tells; raises `ValueError`, `KeyError`, `TypeError`, `MalformedMessage`."""
    active, waiting = found["active"], found["waiting"]
    return RewardsRecord(
        epoch=number(active["epoch"]),
        root=parse_digest(active["root"]),
        total=Amount(read_sum(active["total"])),
        paid=Amount(read_sum(active["paid"])),
        waiting=None
        if waiting is None
        else Proposed(
            number(waiting["epoch"]),
            parse_digest(waiting["root"]),
            Amount(read_sum(waiting["total"])),
            number(waiting["active_at"]),
        ),
    )


def read_roles(found: Any) -> Roles:  # noqa: ANN401 - JSON
    """What `info` tells of them; raises as `read_rewards` does."""
    return Roles(
        proposers=_accounts(found["proposers"]),
        guardians=_accounts(found["guardians"]),
        received=read_sum(found["received"]),
    )


def _accounts(found: Collection[object]) -> frozenset[AccountId]:
    return frozenset(account(one) for one in found)


def judge(
    action: act.RewardAction, record: RewardsRecord, roles: Roles, before: int, domain: Domain, *,
    by: AccountId, now: int, delay: int, seconds: int,
) -> None:  # fmt: skip
    """Raise `LedgerRejected` if the contract would refuse an action of `by` at chain time `now`.

    `before` is what the account of a claim was paid so far.
    """
    try:
        match action:
            case act.FundRewards():
                check_shares(action.reason, action.amount, action.shares)
            case act.ProposeRewards():
                _only(by, roles.proposers)
                held = roles.received - int(matured(record, now).paid)
                proposed(
                    record, action.epoch, action.root, action.total,
                    held=held, now=now, delay=delay, seconds=seconds,
                )  # fmt: skip
            case act.CancelRewards():
                _only(by, roles.guardians)
                cancelled(record, action.epoch, now)
            case act.ClaimRewards():
                claimed(record, domain, action.claim, before, now)
    except LedgerRejected as error:
        raise refusal(error.name, error.arguments) from error


def _only(by: AccountId, those: Collection[AccountId]) -> None:
    if by not in those:
        raise refusal("Forbidden", {"caller": by})
