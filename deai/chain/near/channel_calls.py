"""Verbs of channels as NEAR transactions.

The methods and their forms are those of `contracts/near/channels/README.md`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, assert_never

import msgspec

from deai import actions as act
from deai.chain.ledger import CHANNELS_CONTRACT
from deai.chain.near.steps import YOCTO, NearCall, Needs, call
from deai.chain.refusals import no_channels, refusal
from deai.channels import Channel, Voucher
from deai.ids import AccountId, hexed

MAX_REDEMPTIONS: Final = 40
"""Of one call: what it and its callback may log is bounded."""


def encode_channel(action: act.ChannelAction, contracts: Mapping[str, AccountId]) -> NearCall:
    """The transaction for an action on a channel; raises `NotSetUp` where there are none.

    Raises `LedgerRejected` for a batch that the contract would not even read.
    """
    if CHANNELS_CONTRACT not in contracts:
        raise no_channels()
    token, to = contracts["ComputeToken"], contracts[CHANNELS_CONTRACT]

    def paid(amount: int, message: object, needs: Needs) -> NearCall:
        text = msgspec.json.encode(message).decode()
        step = call(
            "ft_transfer_call", 50, YOCTO, receiver_id=to, amount=str(int(amount)), msg=text
        )
        return NearCall(token, (step,), needs)

    def pays(method: str, gas: int, deposit: int, *parties: AccountId, **given: object) -> NearCall:
        receivers = tuple(dict.fromkeys(parties))
        gas += 5 * max(0, len(receivers) - 1)
        step = call(method, gas, deposit, **given)
        return NearCall(to, (step,), Needs(receivers=receivers), mends=True)

    match action:
        case act.OpenChannel():
            form = {"node": action.node, "session_key": action.session_key}
            needs = Needs(
                opens=(action.node, action.session_key), tokens=int(action.deposit)
            )  # fmt: skip
            return paid(action.deposit, {"open": form}, needs)
        case act.TopUpChannel():
            message = {"top_up": {"channel_id": action.channel_id}}
            return paid(action.amount, message, Needs(tokens=int(action.amount)))
        case act.RedeemVoucher():
            given = _redemption(action.channel, action.voucher)
            return pays("redeem", 20, 0, action.channel.owner, **given)
        case act.RedeemMany():
            batch = [_redemption(*one) for one in action.redemptions]
            if len(batch) > MAX_REDEMPTIONS:
                raise refusal("BadData", {"redemptions": len(batch), "most": MAX_REDEMPTIONS})
            owners = [channel.owner for channel, _ in action.redemptions]
            return pays("redeem_many", 20 + 2 * len(batch), 0, *owners, batch=batch)
        case act.CloseChannel():
            of, last = action.channel, action.voucher
            voucher = None if last is None else _voucher(last)
            return pays(
                "close", 20, YOCTO, of.owner, of.client, channel=channel_json(of), voucher=voucher
            )
        case act.RequestClose():
            step = call("request_close", 10, YOCTO, channel=channel_json(action.channel))
            return NearCall(to, (step,))
        case act.FinishClose():
            of = action.channel
            return pays("finish", 20, 0, of.client, channel=channel_json(of))
        case _:
            assert_never(action)


def pay_due(channel: Channel, contract: AccountId) -> NearCall:
    """Sends once more what the token refused, to both parties."""
    step = call("pay_due", 25, channel=channel_json(channel))
    needs = Needs(receivers=(channel.owner, channel.client))
    return NearCall(contract, (step,), needs, mends=True)


def paid_channels(action: act.Action) -> tuple[Channel, ...]:
    """The channels out of which an action pays."""
    match action:
        case act.RedeemVoucher() | act.CloseChannel() | act.FinishClose():
            return (action.channel,)
        case act.RedeemMany():
            return tuple(dict.fromkeys(channel for channel, _ in action.redemptions))
        case _:
            return ()


def channel_json(channel: Channel) -> dict[str, Any]:
    """A channel in the contract's form."""
    return {
        "client": channel.client, "node": channel.node, "session_key": channel.session_key,
    }  # fmt: skip


def _voucher(voucher: Voucher) -> dict[str, Any]:
    return {
        "cumulative_amount": str(int(voucher.cumulative_amount)),
        "receipts_root": hexed(voucher.receipts_root),
        "signature": b64encode(voucher.signature).decode(),
    }


def _redemption(channel: Channel, voucher: Voucher) -> dict[str, Any]:
    return {"channel": channel_json(channel), "voucher": _voucher(voucher)}
