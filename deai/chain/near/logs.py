"""NEP-297 lines of a chain's logs as typed events.

What our accounts did not say is skipped, never guessed: the executor of the receipt decides
which contract spoke, and a line that its contract cannot have written raises.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from deai import events as ev
from deai.chain.ledger import CHANNELS_CONTRACT, REWARDS_CONTRACT
from deai.chain.near.refusals import name_of
from deai.channels import Channel
from deai.claims import Reason, Share
from deai.errors import MalformedMessage
from deai.hashing import ZERO
from deai.ids import (
    AccountId,
    ChannelId,
    NodeId,
    TaskId,
    parse_digest,
    parse_near_account,
    parse_near_node,
    parse_task,
)
from deai.money import Amount
from deai.signing import public_key
from deai.standing import Standing
from deai.tasks import Policy, Seat, Task

PREFIX: Final = "EVENT_JSON:"
NOBODY: Final = AccountId("system")
"""On one side of a mint or burn; nobody can own this name."""
_POLICIES: Final = frozenset(Policy)
_MAX_LINE: Final = 16 * 1024
_STANDARD: Final = "deai"
_TOKENS: Final = "nep141"


class Line(msgspec.Struct, frozen=True):
    """A NEP-297 event."""

    standard: str
    version: str
    event: str
    data: Any = None


class Decoder:
    """Lines of one deployment."""

    def __init__(self, contracts: Mapping[str, AccountId]) -> None:
        self.token: Final = contracts["ComputeToken"]
        self.compute: Final = contracts["NodeRegistry"]
        self.channels: Final = contracts.get(CHANNELS_CONTRACT)
        rewards = contracts.get(REWARDS_CONTRACT)
        self.accounts: Final = frozenset(
            {self.token, self.compute, self.channels, rewards} - {None}
        )
        self._readers: Final[Mapping[AccountId | None, Mapping[str, Any]]] = {
            self.channels: _OF_CHANNELS,
            rewards: _OF_REWARDS,
            self.compute: _READERS,
        }

    def decode(self, executor: str, line: str) -> tuple[ev.LedgerEvent, ...]:
        """The events behind a log line; none for a line that we do not follow.

        Raises `MalformedMessage` for a line that the contract cannot have written.
        """
        if executor not in self.accounts or not line.startswith(PREFIX):
            return ()
        if len(line) > _MAX_LINE:
            raise MalformedMessage("a log line is too long")
        try:
            found = msgspec.json.decode(line.removeprefix(PREFIX), type=Line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedMessage(f"not an event: {line[:80]!r}") from error
        try:
            if executor == self.token and found.standard == _TOKENS and found.event in _MOVES:
                return tuple(_MOVES[found.event](one) for one in found.data)
            readers = self._readers.get(AccountId(executor), {})
            if found.standard == _STANDARD and found.event in readers:
                event = readers[found.event](found.data)
                return () if event is None else (event,)
        except (ValueError, TypeError, KeyError, MalformedMessage) as error:
            raise MalformedMessage(f"not a {found.event}: {error}") from error
        return ()


def _sum(value: object) -> Amount:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 40:
        raise ValueError(f"not a sum: {str(value)[:40]!r}")
    return Amount(int(value))


def number(value: object) -> int:
    """A whole number of at most 53 bits; raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError(f"not a number: {str(value)[:40]!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {str(value)[:40]!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"neither true nor false: {str(value)[:40]!r}")
    return value


def account(value: object) -> AccountId:
    """An account's name; raises `TypeError`, `MalformedMessage`."""
    return parse_near_account(_text(value))


def _node(value: object) -> NodeId:
    return parse_near_node(_text(value))


def operator(value: object) -> AccountId:
    """A node's key in its one form; raises `TypeError`, `MalformedMessage`."""
    public_key(_text(value))
    return AccountId(_text(value))


def standing(value: object) -> Standing:
    """A standing from the contract's word; raises `TypeError`, `ValueError`."""
    value = _text(value)
    if value.upper() not in Standing.__members__:
        raise ValueError(f"not a standing: {value[:40]!r}")
    return Standing[value.upper()]


def _id(data: Mapping[str, Any]) -> TaskId:
    return parse_task(data["task_id"])


def _seat(data: Mapping[str, Any]) -> Seat:
    return Seat(
        node=_node(data["node"]),
        operator=operator(data["operator"]),
        lease_end=number(data["lease_end"]),
        attempt=number(data["attempt"]),
    )


def _committee(data: list[Mapping[str, Any]]) -> tuple[Seat, ...]:
    return tuple(_seat(one) for one in data)


def _addresses(value: list[object]) -> tuple[str, ...]:
    return tuple(_text(one) for one in value)


def read_task(data: Mapping[str, Any]) -> Task | None:
    """A task in the contract's form; None under a policy of a later version."""
    policy = number(data["policy"])
    if policy not in _POLICIES:
        return None
    return Task(
        client=account(data["client"]),
        lane=number(data["lane"]),
        nonce=number(data["nonce"]),
        fee=_sum(data["fee"]),
        tip=_sum(data["tip"]),
        seats=number(data["seats"]),
        policy=Policy(policy),
        lease=number(data["lease"]),
        commit_deadline=number(data["commit_deadline"]),
        window=number(data["window"]),
        spec_hash=parse_digest(data["spec_hash"]),
    )


def _posted(v: Mapping[str, Any]) -> ev.TaskPosted | None:
    task = read_task(v["task"])
    return None if task is None else ev.TaskPosted(_id(v), task)


def _settlement(data: Mapping[str, Any]) -> ev.SeatSettlement:
    return ev.SeatSettlement(
        _sum(data["payment"]),
        number(data["before"]),
        number(data["after"]),
        number(data["verdict"]),
    )


def _finalised(v: Mapping[str, Any]) -> ev.TaskFinalised:
    result = None if v["result"] is None else parse_digest(v["result"])
    return ev.TaskFinalised(
        _id(v),
        result if result != ZERO else None,
        _flag(v["fault"]),
        _sum(v["refunded"]),
        _sum(v["protocol_fee"]),
        account(v["finaliser"]),
        _sum(v["tip"]),
        tuple(_settlement(one) for one in v["seats"]),
    )


def _registered(v: Mapping[str, Any]) -> ev.NodeRegistered:
    return ev.NodeRegistered(
        _node(v["node"]), operator(v["operator"]), _sum(v["stake"]), _text(v["peer_id"]),
        _addresses(v["addresses"]),
    )  # fmt: skip


def _standing(v: Mapping[str, Any]) -> ev.StandingChanged:
    return ev.StandingChanged(_node(v["node"]), standing(v["standing"]))


def _channel(data: Mapping[str, Any]) -> ChannelId:
    parse_digest(data["channel_id"])
    return ChannelId(data["channel_id"])


def _opened(v: Mapping[str, Any]) -> ev.ChannelOpened:
    channel = Channel(account(v["client"]), _node(v["node"]), operator(v["session_key"]))
    return ev.ChannelOpened(_channel(v), channel, number(v["epoch"]), _sum(v["deposit"]))


def _funded(v: Mapping[str, Any]) -> ev.RewardsFunded:
    shares = tuple(Share(account(to), _sum(amount)) for to, amount in v["shares"])
    return ev.RewardsFunded(
        account(v["payer"]), Reason(number(v["reason"])), _sum(v["amount"]), shares
    )


def _moved(sender: object, receiver: object, amount: object) -> ev.TokensMoved:
    return ev.TokensMoved(account(sender), account(receiver), _sum(amount))


_MOVES: Final[Mapping[str, Any]] = {
    "ft_transfer": lambda v: _moved(v["old_owner_id"], v["new_owner_id"], v["amount"]),
    "ft_mint": lambda v: _moved(NOBODY, v["owner_id"], v["amount"]),
    "ft_burn": lambda v: _moved(v["owner_id"], NOBODY, v["amount"]),
}

_READERS: Final[Mapping[str, Any]] = {
    "node_registered": _registered,
    "node_announced": lambda v: ev.NodeAnnounced(
        _node(v["node"]), _text(v["peer_id"]), _addresses(v["addresses"])
    ),
    "operator_rotated": lambda v: ev.OperatorRotated(_node(v["node"]), operator(v["operator"])),
    "stake_added": lambda v: ev.StakeAdded(_node(v["node"]), _sum(v["added"]), _sum(v["bonded"])),
    "unbonding_started": lambda v: ev.UnbondingStarted(
        _node(v["node"]), _sum(v["amount"]), number(v["unbond_at"])
    ),
    "stake_withdrawn": lambda v: ev.StakeWithdrawn(
        _node(v["node"]), account(v["to"]), _sum(v["amount"])
    ),
    "heartbeat": lambda v: ev.NodeBeat(_node(v["node"]), number(v["epoch"])),
    "node_slashed": lambda v: ev.NodeSlashed(
        _node(v["node"]), account(v["submitter"]), _sum(v["amount"]), _sum(v["bounty"]),
        _sum(v["burned"]),
    ),
    "node_released": _standing,
    "node_status": _standing,
    "deposited": lambda v: ev.Deposited(
        account(v["account"]), account(v["payer"]), _sum(v["amount"])
    ),
    "withdrawn": lambda v: ev.VaultWithdrawn(
        account(v["account"]), account(v["to"]), _sum(v["amount"])
    ),
    "task_posted": _posted,
    "task_assigned": lambda v: ev.TaskAssigned(_id(v), _committee(v["committee"])),
    "seat_reassigned": lambda v: ev.SeatReassigned(
        _id(v), number(v["seat"]), _node(v["previous"]), _flag(v["released"]),
        _committee(v["committee"]),
    ),
    "seat_released": lambda v: ev.SeatReleased(_id(v), number(v["seat"])),
    "result_committed": lambda v: ev.ResultCommitted(
        _id(v), number(v["seat"]), number(v["attempt"]), parse_digest(v["value"])
    ),
    "result_delivered": lambda v: ev.ResultDelivered(
        _id(v), _node(v["node"]), parse_digest(v["output_digest"]),
        parse_digest(v["evidence_digest"]),
    ),
    "result_revealed": lambda v: ev.ResultRevealed(
        _id(v), number(v["seat"]), parse_digest(v["digest"]), parse_digest(v["salt"])
    ),
    "result_approved": lambda v: ev.OutputsApproved(
        _id(v), number(v["seat"]), number(v["mask"]), b64decode(v["signature"], validate=True)
    ),
    "task_finalised": _finalised,
    "task_expired": lambda v: ev.TaskExpired(_id(v), _sum(v["refunded"])),
    "task_cancelled": lambda v: ev.TaskCancelled(_id(v), _sum(v["refunded"])),
    "task_objected": lambda v: ev.TaskObjected(
        _id(v), _sum(v["protocol_fee"]), _sum(v["refunded"])
    ),
    "equivocation_proven": lambda v: ev.EquivocationProven(
        _id(v), number(v["seat"]), _node(v["node"]), account(v["submitter"])
    ),
    "fees_swept": lambda v: ev.FeesSwept(
        account(v["client"]), number(v["lane"]), _sum(v["amount"])
    ),
}  # fmt: skip

_OF_CHANNELS: Final[Mapping[str, Any]] = {
    "channel_opened": _opened,
    "channel_topped_up": lambda v: ev.ChannelToppedUp(
        _channel(v), _sum(v["amount"]), _sum(v["deposit"])
    ),
    "voucher_redeemed": lambda v: ev.VoucherRedeemed(
        _channel(v), _sum(v["paid"]), _sum(v["claimed"]), parse_digest(v["receipts_root"])
    ),
    "voucher_skipped": lambda v: ev.VoucherSkipped(_channel(v), name_of(_text(v["reason"]))),
    "channel_closing": lambda v: ev.ChannelClosing(_channel(v), number(v["closes_at"])),
    "channel_closed": lambda v: ev.ChannelClosed(
        _channel(v), number(v["epoch"]), _sum(v["claimed"]), _sum(v["refunded"])
    ),
}

_OF_REWARDS: Final[Mapping[str, Any]] = {
    "rewards_funded": _funded,
    "rewards_proposed": lambda v: ev.RewardsProposed(
        number(v["epoch"]), parse_digest(v["root"]), _sum(v["total"]),
        parse_digest(v["statement"]), number(v["active_at"]),
    ),
    "rewards_cancelled": lambda v: ev.RewardsCancelled(
        number(v["epoch"]), parse_digest(v["root"])
    ),
    "rewards_claimed": lambda v: ev.RewardsClaimed(
        account(v["account"]), _sum(v["amount"]), _sum(v["cumulative"])
    ),
}  # fmt: skip
