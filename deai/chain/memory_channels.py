"""Payment channels as their contract decides them: the table of `deai.channels`, and the money.

Each verb asks what the contract asks, in its order. What a record is afterwards, and what refuses
it, `deai.channels` says; here that becomes the contract's own error.
"""

from __future__ import annotations

import msgspec

from deai.actions import (
    CloseChannel,
    FinishClose,
    OpenChannel,
    RedeemMany,
    RedeemVoucher,
    RequestClose,
    TopUpChannel,
)
from deai.chain.memory_state import ZERO_ACCOUNT, Call, refuse
from deai.chain.refusals import as_contract
from deai.channels import (
    Channel,
    ChannelRecord,
    Voucher,
    channel_id,
    close_requested,
    closed,
    finished,
    opened,
    payable,
    redeemed,
    topped_up,
    verify_voucher,
)
from deai.errors import LedgerRejected
from deai.events import (
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    VoucherRedeemed,
    VoucherSkipped,
)
from deai.ids import AccountId, ChannelId
from deai.money import Amount


def open_channel(call: Call, action: OpenChannel) -> None:
    """Lock a deposit of the sender for a node."""
    channel = Channel(call.sender, action.node, action.session_key)
    id_ = channel_id(channel, call.info.channels)
    _receive(call, action.deposit)
    if not action.deposit or ZERO_ACCOUNT in (action.session_key, channel.owner):
        refuse("BadData")
    before = call.channel(id_)
    with as_contract(id_, before):
        record = opened(before, action.deposit)
    call.channels[id_] = record
    call.emit(ChannelOpened(id_, channel, record.epoch, action.deposit))


def top_up(call: Call, action: TopUpChannel) -> None:
    """Add tokens of the sender to an open channel."""
    _receive(call, action.amount)
    before = call.channel(action.channel_id)
    with as_contract(action.channel_id, before):
        record = topped_up(before, action.amount)
    call.channels[action.channel_id] = record
    call.emit(ChannelToppedUp(action.channel_id, action.amount, record.deposit))


def redeem(call: Call, action: RedeemVoucher) -> None:
    """Pay the node's owner what a voucher adds."""
    paid = _take(call, action.channel, action.voucher)
    _pay(call, action.channel.owner, paid)


def redeem_many(call: Call, action: RedeemMany) -> None:
    """Redeem what can be redeemed; neighbours of one owner are paid together."""
    dues: list[tuple[AccountId, int]] = []
    for channel, voucher in action.redemptions:
        try:
            paid = _take(call, channel, voucher)
        except LedgerRejected as error:
            call.emit(VoucherSkipped(channel_id(channel, call.info.channels), error.name))
            continue
        if dues and dues[-1][0] == channel.owner:
            paid = Amount(paid + dues.pop()[1])
        dues.append((channel.owner, paid))
    if not dues:
        refuse("NothingRedeemed")
    for owner, due in dues:
        _pay(call, owner, due)


def close(call: Call, action: CloseChannel) -> None:
    """The owner ends a channel, with its last voucher if that pays anything."""
    channel, voucher = action.channel, action.voucher
    if call.sender != channel.owner:
        refuse("Forbidden", caller=call.sender)
    id_ = channel_id(channel, call.info.channels)
    before = call.channel(id_)
    paid = payable(before, voucher.cumulative_amount) if voucher else Amount(0)
    if voucher and paid:
        _take(call, channel, voucher)
        before = call.channel(id_)
    with as_contract(id_, before):
        record, _, refunded = closed(before, None, call.now)
    _end(call, id_, before, record, refunded)
    _pay(call, channel.owner, paid)
    _pay(call, channel.client, refunded)


def request_close(call: Call, action: RequestClose) -> None:
    """The client asks for the rest."""
    if call.sender != action.channel.client:
        refuse("Forbidden", caller=call.sender)
    id_ = channel_id(action.channel, call.info.channels)
    before = call.channel(id_)
    with as_contract(id_, before):
        record = close_requested(before, call.now, call.parameters.close_period)
    call.channels[id_] = record
    call.emit(ChannelClosing(id_, record.closes_at))


def finish(call: Call, action: FinishClose) -> None:
    """Return the rest after the challenge period."""
    id_ = channel_id(action.channel, call.info.channels)
    before = call.channel(id_)
    with as_contract(id_, before):
        record, refunded = finished(before, call.now)
    _end(call, id_, before, record, refunded)
    _pay(call, action.channel.client, refunded)


def _take(call: Call, channel: Channel, voucher: Voucher) -> Amount:
    """Store what a voucher pays and report it; the money has not moved yet."""
    id_ = channel_id(channel, call.info.channels)
    before = call.channel(id_)
    # The contract hashes its own channel and epoch, whatever the voucher calls itself.
    asked = msgspec.structs.replace(voucher, channel=id_, epoch=before.epoch)
    with as_contract(id_, before):
        record, paid = redeemed(before, asked, call.now)
        verify_voucher(call.info.channels, channel.session_key, asked)
    call.channels[id_] = record
    call.emit(VoucherRedeemed(id_, paid, record.claimed, voucher.receipts_root))
    return paid


def _end(
    call: Call, id_: ChannelId, before: ChannelRecord, record: ChannelRecord, refunded: Amount
) -> None:
    call.channels[id_] = record
    call.emit(ChannelClosed(id_, record.epoch, before.claimed, refunded))


def _receive(call: Call, amount: int) -> None:
    call.move_tokens(call.sender, call.info.channels.contract, amount)
    if call.paused:
        refuse("IsPaused")


def _pay(call: Call, to: AccountId, amount: int) -> None:
    if amount:
        call.move_tokens(call.info.channels.contract, to, amount)
