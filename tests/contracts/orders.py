"""The order contract beside the others of a `World`, and orders as their parties see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from deai import orders as o
from deai.chain.sei.calls import settle_words
from deai.ids import AccountId, raw
from deai.money import UNIT, Amount
from deai.orders import Member, Order, OrderBalance, Settlement
from deai.signing import Domain, LocalSigner
from deai.standing import Standing
from deai.tasks import Policy
from devnet.evm.rules import Rules
from devnet.evm.vm import Outcome
from tests.contracts.evm import account
from tests.contracts.world import World

THAW_PERIOD = 24 * 3600
FUNDS = 1000 * UNIT
OUTPUT = b"\x06" * 32
SPEC = b"\x05" * 32


class Orders:
    """The contract, and everybody whose calls go to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.contract = world.evm.deploy(
            world.admin, "OrderSettlement", world.token.address, world.registry.address,
            THAW_PERIOD,
        )  # fmt: skip
        world.rows["deploy OrderSettlement"] = world.evm.gas
        self.domain = Domain(
            o.ORDERS_NAME, Rules().chain_id, AccountId(self.contract.address.lower())
        )
        self.least_fee = world.escrow.read("parameters")[1]
        # A contract's balance that touches zero is bought again; who deploys leaves a unit there.
        world.token.do(world.admin, "transfer", self.contract.address, 1)

    def do(self, row: str, sender: LocalAccount, function: str, *arguments: Any) -> Outcome:
        """A call of the contract; its gas becomes a row unless `row` is empty."""
        outcome = self.contract.do(sender, function, *arguments)
        self._row(row)
        return outcome

    def fund(
        self, client: LocalAccount, amount: int = FUNDS, row: str = "", page: int | None = None
    ) -> None:
        """Set tokens aside for orders."""
        token, admin = self.world.token, self.world.admin
        token.do(admin, "transfer", client.address, 2 * amount)
        data = b"" if page is None else encode(["uint56"], [page])
        token.do(
            client, "transferAndCall(address,uint256,bytes)", self.contract.address, amount, data
        )
        self._row(row)

    def _row(self, row: str) -> None:
        if row:
            self.world.rows[row] = self.world.evm.gas

    def order(
        self, client: LocalAccount, nonce: int = 1, *, at: Sequence[int] = (0, 1, 2),
        fee: int = UNIT,
    ) -> Order:  # fmt: skip
        """An order for the world's nodes `at`."""
        nodes = tuple(self.world.nodes[i] for i in at)
        return Order(
            AccountId(client.address.lower()), Amount(fee),
            Policy.EXACT if len(at) > 1 else Policy.NONE, self.world.evm.now + 3600, nonce,
            SPEC, nodes,
        )  # fmt: skip

    def signed(
        self, client: LocalAccount, order: Order, *, silent: Sequence[int] = (),
        output: bytes = OUTPUT,
    ) -> Settlement:  # fmt: skip
        """What its parties sign, except the seats in `silent`."""
        id_ = o.order_id(order, self.domain)
        return Settlement(
            order,
            o.sign_order(self.domain, LocalSigner(bytes(client.key)), order),
            output,
            tuple(
                None
                if seat in silent
                else o.sign_result(
                    self.domain, self.world.signers[self.world.nodes.index(node)], id_, node, output
                )
                for seat, node in enumerate(order.nodes)
            ),
        )

    def settle(self, batch: Sequence[Settlement], row: str = "") -> Outcome:
        """By somebody whose business it is not."""
        return self.do(row, self.world.other, "settle", *settle_words(batch))

    def balance(self, client: LocalAccount) -> tuple[int, OrderBalance]:
        """State, and record."""
        state, (balance, thawing, thaws_at, is_open) = self.contract.read(
            "balanceOf", client.address
        )
        return state, OrderBalance(
            balance=Amount(balance), thawing=Amount(thawing), thaws_at=thaws_at, is_open=is_open
        )

    def page(self, client: LocalAccount, page: int = 0) -> int:
        """A word of a client."""
        return int(self.contract.read("pageOf", client.address, page))

    def earned(self, at: int) -> tuple[int, int]:
        """What the owner of node `at` has earned, and what accrued beside it."""
        earned, fees, _ = self.contract.read("payeeOf", self.world.owners[at].address)
        return earned, fees

    def member(self, at: int) -> Member:
        """Node `at` as the registry knows it."""
        _, operator, standing, reputation, *_ = self.world.registry.read(
            "nodeOf", raw(self.world.nodes[at])
        )
        return Member(AccountId(operator.lower()), Standing(standing), reputation)


def clients(count: int) -> list[LocalAccount]:
    """Keys that are the same in every run."""
    return [account(f"order client {number}") for number in range(count)]
