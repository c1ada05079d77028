"""Signed orders as their parties see them, on any chain that settles them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from deai import actions as act
from deai.chain.ledger import Transaction
from deai.ids import NodeId, OrderId
from deai.money import UNIT, Amount
from deai.orders import Order, OrderBalance, Settlement, order_id, sign_order, sign_result
from deai.signing import Domain, Signer
from deai.tasks import Policy
from tests.support.ledger_conformance import Provider, World, many_providers

FUNDS = 1000 * UNIT
FEE = 2 * UNIT
OUTPUT = b"\x06" * 32
_COUNTER = itertools.count()


@dataclass
class Ordering:
    """A client and the providers that it orders from."""

    world: World
    client: Signer
    providers: list[Provider]
    valid_until: int
    nonces: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def domain(self) -> Domain:
        return self.world.reader.info.orders

    async def balance(self) -> OrderBalance:
        return await self.world.reader.order_balance(self.client.account)

    async def earned(self, at: int) -> tuple[int, int]:
        """What the owner of a provider earned, and the fees beside."""
        due = await self.world.reader.order_earnings(self.providers[at].owner.account)
        return due.earned, due.fees

    async def as_client(self, action: act.Action, *, key: str = "") -> Transaction:
        """Every time another intent, unless a key is given."""
        ledger = await self.world.ledger(self.client)
        return await ledger.submit(action, key=key or f"{next(_COUNTER)}:{act.intent_key(action)}")

    async def as_stranger(self, action: act.Action, *, key: str = "") -> Transaction:
        """The same by somebody whose business it is not."""
        ledger = await self.world.ledger(self.world.holder)
        return await ledger.submit(action, key=key or f"{next(_COUNTER)}:{act.intent_key(action)}")

    def order(self, nonce: int = 0, **changed: Any) -> Order:
        """For all providers, or as `changed` says; with the next nonce if none is given."""
        order = Order(
            self.client.account, Amount(FEE),
            Policy.EXACT if len(self.providers) > 1 else Policy.NONE, self.valid_until,
            nonce or next(self.nonces), b"\x05" * 32, tuple(one.node for one in self.providers),
        )  # fmt: skip
        return msgspec.structs.replace(order, **changed)

    def id(self, order: Order) -> OrderId:
        return order_id(order, self.domain)

    def signed(
        self, order: Order, *, silent: Sequence[int] = (), by: Signer | None = None,
        domain: Domain | None = None,
    ) -> Settlement:  # fmt: skip
        """What its parties sign, except the seats in `silent`."""
        where = domain or self.domain
        name = order_id(order, where)
        operators: dict[NodeId, Signer] = {one.node: one.operator for one in self.providers}
        return Settlement(
            order,
            sign_order(where, by or self.client, order),
            OUTPUT,
            tuple(
                None if seat in silent else sign_result(where, operators[node], name, node, OUTPUT)
                for seat, node in enumerate(order.nodes)
            ),
        )

    async def fund(self, amount: int = FUNDS, page: int = 0) -> Transaction:
        return await self.as_client(act.FundOrders(Amount(amount), page))

    async def settle(self, *settlements: Settlement) -> Transaction:
        return await self.as_stranger(act.SettleOrders(settlements))

    async def thaw(self, amount: int) -> Transaction:
        return await self.as_client(act.RequestThaw(Amount(amount)))

    async def withdraw(self) -> Transaction:
        return await self.as_client(act.WithdrawThawed(self.client.account))


async def ordering(world: World, *, seats: int = 3, funds: int = FUNDS) -> Ordering:
    """A client with tokens, of which it set `funds` aside, and new nodes."""
    providers = await many_providers(world, seats)
    client = world.signer()
    await world.fund(client.account, 3 * FUNDS)
    found = Ordering(world, client, providers, await world.now() + 10_000)
    if funds:
        await found.fund(funds)
    return found
