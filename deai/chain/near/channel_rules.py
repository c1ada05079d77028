"""What the channel contract would say, from what can be read before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from deai import actions as act
from deai.chain.refusals import as_contract, refusal
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
from deai.errors import LedgerRejected, MalformedMessage
from deai.ids import AccountId, ChannelId
from deai.signing import Domain

_CLOSING: Final[Mapping[str, str]] = {"time": "closesAt", "deadline": "closesAt"}


def id_of(channel: Channel, domain: Domain) -> ChannelId:
    """A channel's id; `LedgerRejected` (`BadData`) for accounts or keys that NEAR has not."""
    try:
        return channel_id(channel, domain)
    except MalformedMessage as error:
        raise refusal("BadData", {"message": str(error)}) from error


def named_alike(error: LedgerRejected) -> LedgerRejected:
    """A refusal of the channel contract with the arguments that it has on the other chain."""
    told = {_CLOSING.get(name, name): value for name, value in error.arguments.items()}
    return refusal(error.name, told)


class Rehearsal:
    """An action judged on records as they are now, at chain time `now`, for the account `by`."""

    def __init__(
        self, domain: Domain, records: Mapping[ChannelId, ChannelRecord], by: AccountId,
        now: int, period: int,
    ) -> None:  # fmt: skip
        self._domain = domain
        self._records = dict(records)
        self._by = by
        self._now = now
        self._period = period

    def judge(self, action: act.ChannelAction) -> None:
        """Raise `LedgerRejected` if the contract would refuse."""
        match action:
            case act.OpenChannel():
                id_ = id_of(Channel(self._by, action.node, action.session_key), self._domain)
                with as_contract(id_, record := self._records[id_]):
                    opened(record, action.deposit)
            case act.TopUpChannel():
                record = self._records[action.channel_id]
                with as_contract(action.channel_id, record):
                    topped_up(record, action.amount)
            case act.RedeemVoucher():
                self._redeem(action.channel, action.voucher)
            case act.RedeemMany():
                self._redeem_many(action)
            case act.CloseChannel():
                self._close(action)
            case act.RequestClose():
                self._check_caller(action.channel.client)
                id_ = id_of(action.channel, self._domain)
                with as_contract(id_, record := self._records[id_]):
                    close_requested(record, self._now, self._period)
            case act.FinishClose():
                id_ = id_of(action.channel, self._domain)
                record = self._records[id_]
                if record.deposit or not record.due:
                    with as_contract(id_, record):
                        finished(record, self._now)

    def _redeem(self, channel: Channel, voucher: Voucher) -> None:
        id_ = id_of(channel, self._domain)
        record = self._records[id_]
        # The contract hashes its own channel and epoch, whatever the voucher calls itself.
        asked = msgspec.structs.replace(voucher, channel=id_, epoch=record.epoch)
        with as_contract(id_, record):
            after, _ = redeemed(record, asked, self._now)
            verify_voucher(self._domain, channel.session_key, asked)
        self._records[id_] = after

    def _redeem_many(self, action: act.RedeemMany) -> None:
        for channel, voucher in action.redemptions:
            try:
                self._redeem(channel, voucher)
            except LedgerRejected:
                continue
            return
        raise refusal("NothingRedeemed")

    def _close(self, action: act.CloseChannel) -> None:
        self._check_caller(action.channel.owner)
        id_ = id_of(action.channel, self._domain)
        record, voucher = self._records[id_], action.voucher
        if voucher is not None and payable(record, voucher.cumulative_amount):
            self._redeem(action.channel, voucher)
        with as_contract(id_, record):
            closed(record, None, self._now)

    def _check_caller(self, account: AccountId) -> None:
        if self._by != account:
            raise refusal("Forbidden", {"caller": self._by})


def ids_in(action: act.ChannelAction, by: AccountId, domain: Domain) -> list[ChannelId]:
    """The channels that an action of `by` is about; raises `LedgerRejected` (`BadData`)."""
    match action:
        case act.OpenChannel():
            return [id_of(Channel(by, action.node, action.session_key), domain)]
        case act.TopUpChannel():
            return [action.channel_id]
        case act.RedeemMany():
            return list(dict.fromkeys(id_of(one, domain) for one, _ in action.redemptions))
        case _:
            return [id_of(action.channel, domain)]
