"""Channels as their parties see them, on any chain that has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deai import actions as act
from deai.chain.ledger import Transaction
from deai.channels import Channel, ChannelRecord, Voucher, channel_id, sign_voucher
from deai.ids import ChannelId
from deai.money import UNIT, Amount
from deai.signing import Domain, Signer
from tests.support.ledger_conformance import World, node_of

DEPOSIT = 100 * UNIT
ROOT = b"\x05" * 32


@dataclass
class Paying:
    """A client, an owner, and the channel between them."""

    world: World
    client: Signer
    owner: Signer
    session: Signer
    index: int = 0

    @property
    def channel(self) -> Channel:
        node = node_of(self.owner.account, self.index)
        return Channel(self.client.account, node, self.session.account)

    @property
    def id(self) -> ChannelId:
        return channel_id(self.channel, self.world.reader.info.channels)

    async def record(self) -> ChannelRecord:
        return await self.world.reader.channel(self.id)

    async def tokens(self) -> tuple[int, int]:
        """What the client and the owner hold."""
        reader = self.world.reader
        client, owner = self.client.account, self.owner.account
        return (await reader.balances(client)).tokens, (await reader.balances(owner)).tokens

    async def as_client(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.client)).submit(action, key=key)

    async def as_owner(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.owner)).submit(action, key=key)

    async def as_stranger(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.world.holder)).submit(action, key=key)

    def opening(self, deposit: int = DEPOSIT, epoch: int = 1, **changed: Any) -> act.OpenChannel:
        values: dict[str, Any] = {"node": self.channel.node, "session_key": self.session.account}
        return act.OpenChannel(epoch=epoch, deposit=Amount(deposit), **{**values, **changed})

    async def open(self, deposit: int = DEPOSIT, epoch: int = 1) -> Transaction:
        return await self.as_client(self.opening(deposit, epoch))

    async def top_up(self, amount: int, key: str) -> Transaction:
        return await self.as_client(act.TopUpChannel(self.id, Amount(amount)), key=key)

    def voucher(
        self, amount: int, epoch: int = 1, *, by: Signer | None = None, domain: Domain | None = None
    ) -> Voucher:
        """What the client promises; for tests also with another key or domain."""
        return sign_voucher(
            domain or self.world.reader.info.channels, by or self.session, self.id, epoch,
            Amount(amount), ROOT,
        )  # fmt: skip

    def redeeming(self, amount: int, epoch: int = 1) -> act.RedeemVoucher:
        return act.RedeemVoucher(self.channel, self.voucher(amount, epoch))

    async def redeem(self, amount: int, epoch: int = 1, *, key: str = "") -> Transaction:
        return await self.as_stranger(self.redeeming(amount, epoch), key=key)

    async def close(self, amount: int = 0, epoch: int = 1) -> Transaction:
        voucher = self.voucher(amount, epoch) if amount else None
        return await self.as_owner(act.CloseChannel(self.channel, epoch, voucher))

    async def request_close(self, epoch: int = 1) -> Transaction:
        return await self.as_client(act.RequestClose(self.channel, epoch))

    async def finish(self, epoch: int = 1) -> Transaction:
        return await self.as_stranger(act.FinishClose(self.channel, epoch))


async def paying(
    world: World, *, client: Signer | None = None, owner: Signer | None = None, index: int = 0,
    funds: int = 10 * DEPOSIT, deposit: int = 0,
) -> Paying:  # fmt: skip
    """A client with tokens and a channel that nobody opened yet, unless there is a deposit."""
    made = world.signer()
    session: Signer = getattr(made, "key", made)  # a key: on NEAR an account is none
    found = Paying(world, client or world.signer(), owner or world.signer(), session, index)
    if client is None:
        await world.fund(found.client.account, funds)
    if deposit:
        await found.open(deposit)
    return found
