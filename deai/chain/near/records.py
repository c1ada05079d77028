"""What the contracts' views tell, as records of the port.

The readers raise `ValueError`, `KeyError`, `TypeError` or `MalformedMessage` for anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deai.chain.ledger import LaneRecord, NodeRecord, Parameters
from deai.chain.near.logs import account, number, operator, standing
from deai.channels import MAX_EPOCH, ChannelRecord
from deai.ids import ChannelId, NodeId, parse_digest
from deai.money import Amount


def read_sum(text: object) -> int:
    """A sum as the contracts write it."""
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 40:
        raise ValueError(f"not a sum: {str(text)[:40]!r}")
    return int(text)


def read_records(told: Any, asked: Sequence[ChannelId]) -> list[ChannelRecord]:  # noqa: ANN401
    """The channels that were asked for, in that order."""
    if [one["channel_id"] for one in told] != list(asked):
        raise ValueError("other channels than those that were asked for")
    return [read_channel(one) for one in told]


def read_parameters(answers: Any) -> Parameters:  # noqa: ANN401 - JSON
    """Of compute and, where there are channels and rewards (else None), of their contracts."""
    found, channels, delay = answers
    return Parameters(
        min_stake=Amount(read_sum(found["min_stake"])),
        min_fee=Amount(read_sum(found["min_fee"])),
        min_lease=number(found["min_lease"]),
        min_window=number(found["min_window"]),
        epoch_seconds=number(found["epoch_seconds"]),
        unbonding_seconds=number(found["unbonding_seconds"]),
        weight_fee=Amount(read_sum(found["weight_fee"])),
        bounty=Amount(read_sum(found["bounty"])),
        treasury=account(found["treasury"]),
        max_span=number(found["max_span"]),
        close_period=0 if channels is None else number(channels["close_period"]),
        reward_delay=0 if delay is None else number(delay),
    )


def read_node(found: Any) -> NodeRecord:  # noqa: ANN401 - JSON
    """A registered node."""
    return NodeRecord(
        node=NodeId(found["node"]),
        operator=operator(found["operator"]),
        standing=standing(found["standing"]),
        stake=read_sum(found["bonded"]),
        unbonding=read_sum(found["unbonding"]),
        unbond_at=number(found["unbond_at"]),
        reputation=number(found["reputation"]),
        checked_tasks=number(found["checked_tasks"]),
        last_epoch=number(found["epoch"]),
    )


def read_lane(found: Any) -> LaneRecord:  # noqa: ANN401 - JSON
    """A lane."""
    committed = number(found["committed"])
    return LaneRecord(
        nonce=number(found["nonce"]),
        closed=number(found["closed"]),
        committed=committed,
        revealed=number(found["revealed"]),
        released=number(found["released"]) & ~committed,
        # Before the first commit the word still holds that of an earlier task.
        acc=int.from_bytes(parse_digest(found["acc"]), "big") if committed else 0,
        accrued=read_sum(found["accrued"]),
    )


def read_channel(found: Any) -> ChannelRecord:  # noqa: ANN401 - JSON
    """A channel as the contract tells it."""
    if (epoch := number(found["epoch"])) > MAX_EPOCH:
        raise ValueError(f"no channel was opened {epoch} times")
    return ChannelRecord(
        deposit=Amount(read_sum(found["deposit"])),
        claimed=Amount(read_sum(found["claimed"])),
        closes_at=number(found["closes_at"]),
        epoch=epoch,
        due=Amount(read_sum(found["due_owner"]) + read_sum(found["due_client"])),
    )
