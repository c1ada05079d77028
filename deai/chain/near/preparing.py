"""What a call needs to find is looked up and supplied before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from deai.chain.ledger import ChainInfo
from deai.chain.near.calls import storage, token_storage
from deai.chain.near.channel_rules import id_of
from deai.chain.near.queries import access_key, free_money, read_access_key, view_account
from deai.chain.near.records import read_channel, read_sum
from deai.chain.near.sender import Sender
from deai.chain.near.steps import YOCTO, Call, DeleteKey, NearCall, Needs, Send
from deai.chain.near.views import Views, checked
from deai.channels import Channel
from deai.errors import LedgerUnreachable
from deai.ids import AccountId

_OPENINGS: Final = 20
"""Accounts that one transaction opens at the token: gas for more would be too much."""


class Preparation:
    """For calls of the account `by`; what is sent first are intents beside the call's own."""

    def __init__(self, views: Views, info: ChainInfo, sender: Sender, by: AccountId) -> None:
        self._views = views
        self._info = info
        self._sender = sender
        self._by = by
        self._token = info.contracts["ComputeToken"]
        self._compute = info.contracts["NodeRegistry"]

    async def prepare(self, call: NearCall, name: str) -> NearCall:
        """Supply what a call needs to find; gives it back with what goes into the same one."""
        needs = call.needs
        if needs.replaced:
            (found,) = await self._views.read(access_key(self._by, needs.replaced))
            if checked(read_access_key, found).nonce is not None:
                call = msgspec.structs.replace(call, steps=(DeleteKey(needs.replaced), *call.steps))
        if openings := [token_storage(one) for one in await self._unknown(needs.receivers)]:
            if call.to == self._token:
                call = msgspec.structs.replace(call, steps=(*openings, *call.steps))
            for at in range(0, len(openings), _OPENINGS) if call.to != self._token else ():
                first = NearCall(self._token, tuple(openings[at : at + _OPENINGS]), by=call.by)
                await self._sender.send(first, kind="OpenAccount", key=f"{name}/token{at or ''}")
        if needs.purse is not None:
            await self._fill(*needs.purse, name)
        if needs.lane is not None:
            return await self._pay_for_lane(call, needs.lane, name)
        if needs.record_of is not None:
            return await self._pay_for_record(call, needs.record_of)
        await self._pay_storage(needs, name)
        return call

    async def _pay_storage(self, needs: Needs, name: str) -> None:
        """Put down what the sender's records will cost in the contract that keeps them."""
        by, contract, record = self._by, self._compute, "node" if needs.node else ""
        if needs.opens is not None:
            contract, record = self._info.channels.contract, "channel"
            id_ = id_of(Channel(by, *needs.opens), self._info.channels)
            (found,) = await self._views.view((contract, "get_channel", {"channel_id": id_}))
            if checked(read_channel, found).epoch:
                return  # opened before, and paid for
        elif not needs.at_vault:
            return
        if lacking := await self._lacking_storage(contract, by, record):
            paying = NearCall(contract, (storage(lacking),))
            key = f"{name}/vault" if contract == self._compute else f"{name}/storage"
            await self._sender.send(paying, kind="PayStorage", key=key)

    async def _fill(self, purse: AccountId, wanted: int, name: str) -> None:
        (found,) = await self._views.read(view_account(purse))
        lacking = wanted - (checked(free_money, found) or 0)
        if lacking > 0:
            sending = NearCall(purse, (Send(lacking),))
            await self._sender.send(sending, kind="SendGas", key=f"{name}/purse")

    async def _pay_for_lane(self, call: NearCall, lane: int, name: str) -> NearCall:
        """Attach what a new lane costs, exactly: sending more back would take another block."""
        by = self._by
        found, held, cost = await self._views.view(
            (self._compute, "get_lane", {"client": by, "lane": lane}),
            (self._compute, "storage_balance_of", {"account_id": by}),
            (self._compute, "storage_cost", {"account_id": by}),
        )
        try:
            needed = int(cost["lane"]) if not found["nonce"] else 0
            if held is None:
                opening = NearCall(self._compute, (storage(int(cost["account"])),))
                await self._sender.send(opening, kind="PayStorage", key=f"{name}/vault")
                free = 0
            else:
                free = int(held["available"])
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerUnreachable(f"the contract's prices make no sense: {error!r}") from error
        return _paying(call, max(YOCTO, needed - free))

    async def _pay_for_record(self, call: NearCall, account: AccountId) -> NearCall:
        """Attach what an account's first record at the receiver costs; what is too much returns."""
        asked = (call.to or self._by, "storage_cost", {"account_id": account})
        (cost,) = await self._views.view(asked)
        return _paying(call, checked(read_sum, cost))

    async def _unknown(self, accounts: Sequence[AccountId]) -> list[AccountId]:
        """Those that the token does not know."""
        asked = [(self._token, "storage_balance_of", {"account_id": one}) for one in accounts]
        found = await self._views.view(*asked) if asked else []
        return [one for one, held in zip(accounts, found, strict=True) if held is None]

    async def _lacking_storage(self, contract: AccountId, account: AccountId, record: str) -> int:
        """YoctoNEAR that an account has to put down for itself and one record more, if any."""
        asked = {"account_id": account}
        held, cost = await self._views.view(
            (contract, "storage_balance_of", asked), (contract, "storage_cost", asked)
        )
        try:
            needed = int(cost[record]) if record else 0
            if held is None:
                return int(cost["account"]) + needed
            return max(0, needed - int(held["available"]))
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerUnreachable(f"the contract's prices make no sense: {error!r}") from error


def _paying(call: NearCall, deposit: int) -> NearCall:
    """The same with a deposit in yoctoNEAR at its calls."""
    steps = [
        msgspec.structs.replace(one, deposit=deposit) if isinstance(one, Call) else one
        for one in call.steps
    ]
    return msgspec.structs.replace(call, steps=tuple(steps))
