"""A chain's logs as typed events. What our contracts did not say is skipped, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from deai import events as ev
from deai.chain.ledger import CHANNELS_CONTRACT, ORDERS_CONTRACT
from deai.chain.sei.abi import error_name, interface, read_event
from deai.chain.sei.calls import split_addresses
from deai.chain.sei.quantities import quantity
from deai.channels import Channel
from deai.claims import Reason, Share
from deai.errors import MalformedMessage
from deai.hashing import ZERO
from deai.ids import AccountId, ChannelId, NodeId, OrderId, TaskId, hexed, raw
from deai.money import Amount, Count
from deai.orders import Order
from deai.standing import Standing
from deai.tasks import Policy, Seat, Task, seat_from_words

_AMOUNT_BITS: Final = 96
_AMOUNT_MASK: Final = (1 << _AMOUNT_BITS) - 1
_POLICIES: Final = frozenset(Policy)
_REPUTATION_MASK: Final = (1 << 24) - 1

Log: TypeAlias = Mapping[str, Any]
"""One log as JSON-RPC gives it; `read_log` has checked nothing before."""


class RawLog(msgspec.Struct, frozen=True, kw_only=True):
    """A log whose fields have the right types."""

    contract: AccountId
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: str
    index: int
    transaction: str


def read_log(log: object) -> RawLog:
    """Check the form of a log; raises `MalformedMessage`."""
    try:
        fields: Any = log
        return RawLog(
            contract=AccountId(str(fields["address"]).lower()),
            topics=tuple(_bytes(topic) for topic in fields["topics"]),
            data=_bytes(fields["data"]),
            block=quantity(fields["blockNumber"]),
            block_hash=hexed(_bytes(fields["blockHash"])),
            index=quantity(fields["logIndex"]),
            transaction=hexed(_bytes(fields["transactionHash"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedMessage(f"not a log: {error!r}") from error


class Decoder:
    """Logs of one deployment."""

    def __init__(self, contracts: Mapping[str, AccountId]) -> None:
        self._names: Final = {address: name for name, address in contracts.items()}
        self.addresses: Final = sorted(contracts.values())
        self.escrow: Final = contracts["TaskEscrow"]

    def topics(self) -> list[str]:
        """First topics of all events that `decode` reads."""
        return sorted(
            hexed(topic)
            for name in self._names.values()
            for topic, shape in interface(name).events.items()
            if shape.name in _READERS
        )

    @staticmethod
    def opening_topics(client: AccountId | None, node: NodeId | None) -> list[str | None]:
        """The topics of the openings of a client's channels, for a node."""
        events = interface(CHANNELS_CONTRACT).events.items()
        first = next(topic for topic, shape in events if shape.name == "ChannelOpened")
        by = None if client is None else hexed(raw(client).rjust(32, b"\0"))
        return [hexed(first), None, by, node]

    def decode(self, log: RawLog) -> ev.LedgerEvent | None:
        """The event behind a log, None for one that we do not follow.

        Raises `MalformedMessage` for a log that the contract cannot have written.
        """
        name = self._names.get(log.contract)
        if name is None:
            return None
        found = read_event(name, log.topics, log.data)
        if found is None or found[0] not in _READERS:
            return None
        try:
            event: ev.LedgerEvent | None = _READERS[found[0]](found[1])
        except (ValueError, TypeError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"not a {found[0]}: {error}") from error
        return event


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise MalformedMessage(f"not hex: {str(text)[:40]!r}")
    return bytes.fromhex(text[2:])


def _account(value: str) -> AccountId:
    return AccountId(value.lower())


def _node(value: bytes) -> NodeId:
    return NodeId(hexed(value))


def _id(values: Mapping[str, Any]) -> TaskId:
    return TaskId(hexed(values["id"]))


def _text(value: bytes) -> str:
    # Whatever an owner registered: printable or not, it must not stop an index.
    return value.decode("utf-8", "replace")


def _seats(words: list[tuple[bytes, int]]) -> tuple[Seat, ...]:
    return tuple(seat_from_words(node, info) for node, info in words)


def _posted(v: Mapping[str, Any]) -> ev.TaskPosted | None:
    client, lane, nonce, fee, tip, seats, policy, lease, deadline, window, spec = v["task"]
    if policy not in _POLICIES:
        return None  # a policy of a later version: such tasks are not followed
    task = Task(
        _account(client), lane, nonce, Amount(fee), Amount(tip), seats, Policy(policy), lease,
        deadline, window, spec,
    )  # fmt: skip
    return ev.TaskPosted(_id(v), task)


def _settlement(packed: int) -> ev.SeatSettlement:
    return ev.SeatSettlement(
        Amount(packed & _AMOUNT_MASK),
        packed >> 96 & _REPUTATION_MASK,
        packed >> 120 & _REPUTATION_MASK,
        packed >> 144 & 0xFF,
    )


def _finalised(v: Mapping[str, Any]) -> ev.TaskFinalised:
    return ev.TaskFinalised(
        _id(v),
        v["result"] if v["result"] != ZERO else None,
        v["fault"],
        Amount(v["refunded"]),
        Amount(v["protocolFee"]),
        _account(v["finaliser"]),
        Amount(v["tip"]),
        tuple(_settlement(packed) for packed in v["seats"]),
    )


def _slashed(v: Mapping[str, Any]) -> ev.NodeSlashed:
    return ev.NodeSlashed(
        _node(v["node"]), _account(v["submitter"]), Amount(v["amount"]), Amount(v["bounty"]),
        Amount(v["burned"]),
    )  # fmt: skip


def _registered(v: Mapping[str, Any]) -> ev.NodeRegistered:
    return ev.NodeRegistered(
        _node(v["node"]), _account(v["operator"]), Amount(v["stake"]), _text(v["peerId"]),
        split_addresses(_text(v["addresses"])),
    )  # fmt: skip


def _standing(v: Mapping[str, Any]) -> ev.StandingChanged:
    return ev.StandingChanged(_node(v["node"]), Standing(v["standing"]))


def _channel(values: Mapping[str, Any]) -> ChannelId:
    return ChannelId(hexed(values["id"]))


def _opened(v: Mapping[str, Any]) -> ev.ChannelOpened:
    channel = Channel(_account(v["client"]), _node(v["node"]), _account(v["sessionKey"]))
    return ev.ChannelOpened(_channel(v), channel, v["epoch"], Amount(v["deposit"]))


def _funded(v: Mapping[str, Any]) -> ev.RewardsFunded:
    shares = tuple(
        Share(AccountId(f"0x{packed >> _AMOUNT_BITS:040x}"), Amount(packed & _AMOUNT_MASK))
        for packed in v["shares"]
    )
    return ev.RewardsFunded(_account(v["payer"]), Reason(v["reason"]), Amount(v["amount"]), shares)


def _settled(v: Mapping[str, Any]) -> ev.OrderSettled | None:
    terms, words = v["terms"], v["seats"]
    policy, seats = terms >> 96 & 0xFF, len(words) // 2
    if policy not in _POLICIES:
        return None  # a policy of a later version, as with tasks
    order = Order(
        _account(v["client"]), Amount(terms & ((1 << _AMOUNT_BITS) - 1)), Policy(policy),
        terms >> 104 & ((1 << 40) - 1), terms >> 144, v["specHash"],
        tuple(NodeId(f"0x{word:064x}") for word in words[:seats]),
    )  # fmt: skip
    payments = tuple(Amount(paid) for paid in words[seats:])
    return ev.OrderSettled(_order(v), order, v["outputDigest"], payments)


def _order(values: Mapping[str, Any]) -> OrderId:
    return OrderId(hexed(values["id"]))


_READERS: Final[Mapping[str, Any]] = {
    "Transfer": lambda v: ev.TokensMoved(
        _account(v["from"]), _account(v["to"]), Amount(v["value"])
    ),
    "NodeRegistered": _registered,
    "NodeAnnounced": lambda v: ev.NodeAnnounced(
        _node(v["node"]), _text(v["peerId"]), split_addresses(_text(v["addresses"]))
    ),
    "OperatorRotated": lambda v: ev.OperatorRotated(_node(v["node"]), _account(v["operator"])),
    "StakeAdded": lambda v: ev.StakeAdded(
        _node(v["node"]), Amount(v["added"]), Amount(v["bonded"])
    ),
    "UnbondingStarted": lambda v: ev.UnbondingStarted(
        _node(v["node"]), Amount(v["amount"]), v["unbondAt"]
    ),
    "StakeWithdrawn": lambda v: ev.StakeWithdrawn(
        _node(v["node"]), _account(v["to"]), Amount(v["amount"])
    ),
    "Heartbeat": lambda v: ev.NodeBeat(_node(v["node"]), v["epoch"]),
    "NodeSlashed": _slashed,
    "NodeReleased": _standing,
    "NodeStatus": _standing,
    "Deposited": lambda v: ev.Deposited(
        _account(v["account"]), _account(v["payer"]), Amount(v["amount"])
    ),
    "Withdrawn": lambda v: ev.VaultWithdrawn(
        _account(v["account"]), _account(v["to"]), Amount(v["amount"])
    ),
    "TaskPosted": _posted,
    "TaskAssigned": lambda v: ev.TaskAssigned(_id(v), _seats(v["committee"])),
    "SeatReassigned": lambda v: ev.SeatReassigned(
        _id(v), v["seat"], _node(v["from"]), v["released"], _seats(v["committee"])
    ),
    "SeatReleased": lambda v: ev.SeatReleased(_id(v), v["seat"]),
    "ResultCommitted": lambda v: ev.ResultCommitted(
        _id(v), v["seat"], v["attempt"], v["commitment"]
    ),
    "ResultDelivered": lambda v: ev.ResultDelivered(
        _id(v), _node(v["node"]), v["outputDigest"], v["evidenceDigest"]
    ),
    "ResultRevealed": lambda v: ev.ResultRevealed(_id(v), v["seat"], v["digest"], v["salt"]),
    "ResultApproved": lambda v: ev.OutputsApproved(_id(v), v["seat"], v["mask"], v["r"] + v["vs"]),
    "TaskFinalised": _finalised,
    "TaskExpired": lambda v: ev.TaskExpired(_id(v), Amount(v["refunded"])),
    "TaskCancelled": lambda v: ev.TaskCancelled(_id(v), Amount(v["refunded"])),
    "TaskObjected": lambda v: ev.TaskObjected(
        _id(v), Amount(v["protocolFee"]), Amount(v["refunded"])
    ),
    "EquivocationProven": lambda v: ev.EquivocationProven(
        _id(v), v["seat"], _node(v["node"]), _account(v["submitter"])
    ),
    "FeesSwept": lambda v: ev.FeesSwept(_account(v["client"]), v["lane"], Amount(v["amount"])),
    "ChannelOpened": _opened,
    "ChannelToppedUp": lambda v: ev.ChannelToppedUp(
        _channel(v), Amount(v["amount"]), Amount(v["deposit"])
    ),
    "VoucherRedeemed": lambda v: ev.VoucherRedeemed(
        _channel(v), Amount(v["paid"]), Amount(v["claimed"]), v["receiptsRoot"]
    ),
    "VoucherSkipped": lambda v: ev.VoucherSkipped(
        _channel(v), error_name(CHANNELS_CONTRACT, v["reason"])
    ),
    "ChannelClosing": lambda v: ev.ChannelClosing(_channel(v), v["closesAt"]),
    "ChannelClosed": lambda v: ev.ChannelClosed(
        _channel(v), v["epoch"], Amount(v["claimed"]), Amount(v["refunded"])
    ),
    "RewardsFunded": _funded,
    "RewardsProposed": lambda v: ev.RewardsProposed(
        v["epoch"], v["root"], Amount(v["total"]), v["statement"], v["activeAt"]
    ),
    "RewardsCancelled": lambda v: ev.RewardsCancelled(v["epoch"], v["root"]),
    "RewardsClaimed": lambda v: ev.RewardsClaimed(
        _account(v["account"]), Amount(v["amount"]), Amount(v["cumulative"])
    ),
    "OrdersFunded": lambda v: ev.OrdersFunded(
        _account(v["client"]), Amount(v["amount"]), Amount(v["balance"])
    ),
    "PageOpened": lambda v: ev.PageOpened(_account(v["client"]), v["page"]),
    "OrderSettled": _settled,
    "OrderSkipped": lambda v: ev.OrderSkipped(_order(v), error_name(ORDERS_CONTRACT, v["reason"])),
    "ThawRequested": lambda v: ev.ThawRequested(
        _account(v["client"]), Amount(v["amount"]), v["thawsAt"]
    ),
    "ThawWithdrawn": lambda v: ev.ThawWithdrawn(
        _account(v["client"]), _account(v["to"]), Amount(v["amount"])
    ),
    "EarningsCollected": lambda v: ev.EarningsCollected(_account(v["owner"]), Amount(v["amount"])),
    "OrderFeesSwept": lambda v: ev.OrderFeesSwept(_account(v["owner"]), Amount(v["amount"])),
    "PoolOpened": lambda v: ev.PoolOpened(
        _node(v["node"]),
        _account(v["manager"]),
        Count(v["index"]),
        v["commission"],
        Amount(v["stake"]),
    ),
    "Delegated": lambda v: ev.Delegated(
        _node(v["node"]), _account(v["account"]), Amount(v["amount"]), Count(v["shares"])
    ),
    "UndelegationRequested": lambda v: ev.UndelegationRequested(
        _node(v["node"]), _account(v["account"]), Count(v["shares"]), v["batch"]
    ),
    "BatchStarted": lambda v: ev.BatchStarted(
        _node(v["node"]), v["batch"], Count(v["shares"]), Amount(v["amount"]), v["maturesAt"]
    ),
    "BatchMatured": lambda v: ev.BatchMatured(_node(v["node"]), v["batch"], Amount(v["amount"])),
    "UndelegationPaid": lambda v: ev.UndelegationPaid(
        _node(v["node"]), _account(v["account"]), v["batch"], Amount(v["amount"])
    ),
    "IncomeShared": lambda v: ev.IncomeShared(
        _node(v["node"]), Amount(v["income"]), Amount(v["commission"]), Count(v["commissionShares"])
    ),
    "PoolSlashed": lambda v: ev.PoolSlashed(
        _node(v["node"]), Amount(v["amount"]), Amount(v["bounty"]), Count(v["bountyShares"])
    ),
    "CommissionAnnounced": lambda v: ev.CommissionAnnounced(
        _node(v["node"]), v["commission"], v["epoch"]
    ),
    "PoolClosed": lambda v: ev.PoolClosed(_node(v["node"])),
}
