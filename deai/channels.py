"""A payment channel: one deposit of a client for one node, and vouchers that only grow.

The client locks a deposit and pays with signed promises of everything owed since the channel
was opened, so that one voucher stands for thousands of tasks and the newest replaces the rest.
The node's owner is paid; the node takes part because two daemons of one owner, each counting
on the same voucher, would work for money that exists once.

As in `deai.lifecycle`, every transition is a row of `CHANNEL_TRANSITIONS` and nothing here
knows the time, a peer or a chain. `ChannelRecord` is the word that the contract stores, and the
functions named like events say what each does to it and which guard of the contract refuses;
`contracts/spec/vectors/channels.json` is written from them. No part of a channel pays a fee.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Annotated, Final, Never, TypeAlias

import msgspec

from deai.errors import IllegalTransition, LedgerRejected, LimitExceeded, MalformedMessage
from deai.hashing import ZERO
from deai.ids import AccountId, ChannelId, hexed, owner_of, raw
from deai.money import Amount
from deai.signing import Domain, Signer, struct_type, verify
from deai.tasks import Account, Digest, Node, Operator, Seconds, Signature

CHANNELS_NAME: Final = "deai channels"
MAX_EPOCH: Final = (1 << 24) - 1
CREDIT_PERCENT: Final = 5
NO_RECEIPTS: Final = ZERO
"""The receipts root of a channel before its first window."""

ChannelKey: TypeAlias = Annotated[ChannelId, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}\Z")]
Epoch: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_EPOCH)]

_CHANNEL: Final = struct_type("Channel(ACCOUNT client,NODE node,KEY sessionKey)")
_VOUCHER: Final = struct_type(
    "Voucher(bytes32 channelId,uint24 epoch,uint96 cumulativeAmount,bytes32 receiptsRoot)"
)
_RECEIPTS_TAG: Final = b"deai receipts/1\x00"


class ChannelState(IntEnum):
    """Where a channel is in its life; the number is the contract's."""

    NONE = 0  # never opened
    OPEN = 1  # a deposit is locked; vouchers pay
    CLOSING = 2  # the client asked for the rest; vouchers pay until the challenge period ends
    CLOSED = 3  # holds nothing; may be opened again, with the next epoch

    @property
    def label(self) -> str:
        """The word used in documents."""
        return self.name.lower()


class ChannelEvent(StrEnum):
    """What can happen to a channel."""

    OPENED = "opened"  # by the client, with a deposit
    TOPPED_UP = "topped_up"  # by anybody
    REDEEMED = "redeemed"  # by anybody who holds a newer voucher; the owner is paid
    CLOSE_REQUESTED = "close_requested"  # by the client: the challenge period begins
    CLOSED = "closed"  # by the owner of the node, at once
    FINISHED = "finished"  # by anybody, after the challenge period


CHANNEL_TRANSITIONS: Final[Mapping[ChannelState, Mapping[ChannelEvent, ChannelState]]] = {
    ChannelState.NONE: {ChannelEvent.OPENED: ChannelState.OPEN},
    ChannelState.OPEN: {
        ChannelEvent.TOPPED_UP: ChannelState.OPEN,
        ChannelEvent.REDEEMED: ChannelState.OPEN,
        ChannelEvent.CLOSE_REQUESTED: ChannelState.CLOSING,
        ChannelEvent.CLOSED: ChannelState.CLOSED,
    },
    ChannelState.CLOSING: {
        ChannelEvent.REDEEMED: ChannelState.CLOSING,
        ChannelEvent.CLOSED: ChannelState.CLOSED,
        ChannelEvent.FINISHED: ChannelState.CLOSED,
    },
    ChannelState.CLOSED: {ChannelEvent.OPENED: ChannelState.OPEN},
}


class Party(StrEnum):
    """Who may cause an event."""

    CLIENT = "client"
    OWNER = "owner"
    ANYBODY = "anybody"


CHANNEL_EXITS: Final[Mapping[ChannelState, Mapping[Party, ChannelEvent]]] = {
    ChannelState.OPEN: {
        Party.CLIENT: ChannelEvent.CLOSE_REQUESTED,
        Party.OWNER: ChannelEvent.CLOSED,
    },
    ChannelState.CLOSING: {
        Party.ANYBODY: ChannelEvent.FINISHED,
        Party.OWNER: ChannelEvent.CLOSED,
    },
}
"""For each state in which money waits: by what each party gets nearer to the end alone."""


def advance_channel(state: ChannelState, event: ChannelEvent) -> ChannelState:
    """Return the state that follows; raise `IllegalTransition` if there is none."""
    try:
        return CHANNEL_TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"a channel that is {state.label} cannot be {event}") from None


class ChannelRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the contract keeps of a channel, in one word; amounts of the present epoch only.

    `closes_at` is chain time: the last second in which a voucher pays; 0 while nobody asked.
    `epoch` counts the openings. `due` is of NEAR alone, and of no epoch: what was paid or refunded
    and the token refused to take to the owner or the client, until it is sent again.
    """

    deposit: Amount = Amount(0)
    claimed: Amount = Amount(0)
    closes_at: Seconds = 0
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)] = 0
    due: Amount = Amount(0)

    @property
    def state(self) -> ChannelState:
        """The state of the table."""
        if not self.deposit:
            return ChannelState.CLOSED if self.epoch else ChannelState.NONE
        return ChannelState.CLOSING if self.closes_at else ChannelState.OPEN

    @property
    def remaining(self) -> Amount:
        """What vouchers may still pay."""
        return Amount(self.deposit - self.claimed)


class Channel(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who pays, which node works, and whose signature promises; fixed for the channel's life.

    The session key signs for the client and for nothing but this channel. It cannot be changed
    or revoked: it dies with its channel, when the challenge period of a close has ended.
    """

    client: Account
    node: Node
    session_key: Operator

    @property
    def owner(self) -> AccountId:
        """Who is paid."""
        return owner_of(self.node)


class Voucher(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The client's promise to pay this much in all since the channel was opened.

    `receipts_root` stands for every window of receipts paid so far (`fold_receipts`).
    """

    channel: ChannelKey
    epoch: Epoch
    cumulative_amount: Amount
    receipts_root: Digest
    signature: Signature


def channel_id(channel: Channel, domain: Domain) -> ChannelId:
    """The chain's name of a channel: the EIP-712 digest of its fields.

    Raises `MalformedMessage` for accounts, nodes or keys that are not of the domain's chain.
    """
    if isinstance(domain.chain_id, str) == channel.session_key.startswith("0x"):
        raise MalformedMessage(f"no session key of this chain: {channel.session_key}")
    fields = (channel.client, channel.node, channel.session_key)
    return ChannelId(hexed(domain.digest(_CHANNEL, fields)))


def voucher_digest(
    domain: Domain, channel: ChannelId, epoch: int, cumulative_amount: int, receipts_root: bytes
) -> bytes:
    """What a session key signs; bound to the chain and the contract twice, by the id as well."""
    return domain.digest(_VOUCHER, (raw(channel), epoch, cumulative_amount, receipts_root))


def sign_voucher(
    domain: Domain, key: Signer, channel: ChannelId, epoch: int, cumulative_amount: Amount,
    receipts_root: bytes,
) -> Voucher:  # fmt: skip
    """Promise `cumulative_amount` base units in all."""
    digest = voucher_digest(domain, channel, epoch, cumulative_amount, receipts_root)
    return Voucher(channel, epoch, cumulative_amount, receipts_root, key.sign(digest))


def verify_voucher(domain: Domain, session_key: AccountId, voucher: Voucher) -> None:
    """Raise `BadSignature` unless the session key signed this voucher for this domain."""
    digest = voucher_digest(
        domain, voucher.channel, voucher.epoch, voucher.cumulative_amount, voucher.receipts_root
    )
    verify(digest, voucher.signature, session_key)


def fold_receipts(previous: bytes, window_root: bytes) -> bytes:
    """The receipts root after one more window: SHA-256 of a tag and both, 32 bytes."""
    return hashlib.sha256(_RECEIPTS_TAG + previous + window_root).digest()


def credit(paid_task: int, paid_since_late: int) -> Amount:
    """What a node lets a client owe, in base units: so much can a client cheat it of.

    The price of a task that was paid already (0 at first: the first voucher travels with the
    first task), or 5 % of what vouchers within the deposit paid since the last late one.
    """
    return Amount(max(paid_task, paid_since_late * CREDIT_PERCENT // 100))


# --- what each event does to the record, and what refuses it -----------------------------------


def opened(record: ChannelRecord, deposit: Amount) -> ChannelRecord:
    """A new epoch with a deposit; raise `LimitExceeded` after the last epoch."""
    _something(deposit)
    advance_channel(record.state, ChannelEvent.OPENED)
    if record.epoch == MAX_EPOCH:
        raise LimitExceeded("this channel has been opened too often: take another session key")
    return ChannelRecord(deposit=deposit, epoch=record.epoch + 1)


def topped_up(record: ChannelRecord, amount: Amount) -> ChannelRecord:
    """A larger deposit."""
    _something(amount)
    advance_channel(record.state, ChannelEvent.TOPPED_UP)
    return msgspec.structs.replace(record, deposit=Amount(record.deposit + amount))


def payable(record: ChannelRecord, cumulative_amount: int) -> Amount:
    """What a voucher adds to what was claimed: never more than the deposit holds."""
    return Amount(max(0, min(cumulative_amount, record.deposit) - record.claimed))


def redeemed(record: ChannelRecord, voucher: Voucher, now: int) -> tuple[ChannelRecord, Amount]:
    """The record after a voucher whose signature was verified, and what the owner is paid."""
    advance_channel(record.state, ChannelEvent.REDEEMED)
    paid = payable(record, voucher.cumulative_amount)
    if not paid:
        _refuse("NothingNew", claimed=int(record.claimed))
    return _paid(record, voucher, paid, now), paid


def close_requested(record: ChannelRecord, now: int, period: int) -> ChannelRecord:
    """The challenge period of `period` seconds begins."""
    advance_channel(record.state, ChannelEvent.CLOSE_REQUESTED)
    return msgspec.structs.replace(record, closes_at=now + period)


def closed(
    record: ChannelRecord, voucher: Voucher | None, now: int
) -> tuple[ChannelRecord, Amount, Amount]:
    """The owner ends it: the record, what it is paid for its last voucher, what is refunded.

    A voucher that adds nothing is passed over.
    """
    advance_channel(record.state, ChannelEvent.CLOSED)
    paid = payable(record, voucher.cumulative_amount) if voucher else Amount(0)
    if voucher and paid:
        record = _paid(record, voucher, paid, now)
    return ChannelRecord(epoch=record.epoch), paid, record.remaining


def finished(record: ChannelRecord, now: int) -> tuple[ChannelRecord, Amount]:
    """The challenge period is over: the record, and what is refunded."""
    advance_channel(record.state, ChannelEvent.FINISHED)
    if now <= record.closes_at:
        _refuse("TooEarly", closesAt=record.closes_at)
    return ChannelRecord(epoch=record.epoch), record.remaining


def _paid(record: ChannelRecord, voucher: Voucher, paid: Amount, now: int) -> ChannelRecord:
    if record.closes_at and now > record.closes_at:
        _refuse("TooLate", closesAt=record.closes_at)
    if voucher.epoch != record.epoch:
        # The contract hashes its own epoch, so another one is just not what was signed.
        _refuse("BadSignature")
    return msgspec.structs.replace(record, claimed=Amount(record.claimed + paid))


def _something(amount: int) -> None:
    if not amount:
        _refuse("BadData")


def _refuse(name: str, **arguments: object) -> Never:
    raise LedgerRejected(name, arguments)
