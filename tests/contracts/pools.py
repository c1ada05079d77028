"""The contract of pools beside the others of a `World`, with one pool that its manager opened."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from deai import pools as p, tasks
from deai.ids import AccountId, raw
from deai.money import UNIT
from deai.signing import Domain, LocalSigner
from devnet.evm.rules import Rules
from devnet.evm.vm import Outcome
from tests.contracts.evm import account
from tests.contracts.world import FOREVER, World

COMMISSION = 1_000
OWN = 1_000 * UNIT
NOBODY = "0x" + "00" * 20


class Pools:
    """The contract; its pool's node is one of its own operator's."""

    def __init__(self, world: World, orders: str = NOBODY) -> None:
        self.world = world
        self.contract = world.evm.deploy(
            world.admin, "Delegations", world.token.address, world.registry.address, orders, UNIT
        )
        self.row("deploy Delegations")
        self.domain = Domain(
            p.POOLS_NAME, Rules().chain_id, AccountId(self.contract.address.lower())
        )
        # A contract's balance that touches zero is bought again; who deploys leaves a unit there.
        world.token.do(world.admin, "transfer", self.contract.address, 1)
        self.manager = account("manager")
        self.operator = LocalSigner(bytes(account("pool's operator").key))
        manager = AccountId(self.manager.address.lower())
        self.owner = p.pool_owner(self.domain, manager, 0)
        self.node = p.pool_node(self.domain, manager, 0)

    def row(self, name: str) -> None:
        """The gas of the last transaction becomes a row, unless it has no name."""
        if name:
            self.world.rows[name] = self.world.evm.gas

    def do(self, row: str, sender: LocalAccount, function: str, *arguments: Any) -> Outcome:
        """A call of the contract about the pool."""
        outcome = self.contract.do(sender, function, raw(self.node), *arguments)
        self.row(row)
        return outcome

    def open(self, row: str) -> None:
        """By the manager, with its own part."""
        digest = tasks.operate_digest(
            self.world.registry_domain, self.node, self.operator.account, FOREVER
        )
        data = encode(
            [
                "uint8", "uint96", "uint16", "address", "uint40", "bytes", "bytes", "string",
            ],
            [
                1, 0, COMMISSION, self.operator.account, FOREVER, self.operator.sign(digest),
                b"\x12" * 34, "/ip4/1.2.3.4/tcp/1",
            ],
        )  # fmt: skip
        self._pay(self.manager, OWN, data)
        self.row(row)

    def delegate(self, who: LocalAccount, amount: int, row: str = "") -> None:
        """Of tokens that it has a few more of."""
        self._pay(who, amount, encode(["uint8", "bytes32"], [2, raw(self.node)]))
        self.row(row)

    def earn(self, amount: int) -> None:
        """Somebody credits the pool's owner in the escrow, as a finished task does."""
        world = self.world
        data = encode(["address"], [self.owner])
        world.token.do(
            world.admin, "transferAndCall(address,uint256,bytes)", world.escrow.address, amount,
            data,
        )  # fmt: skip

    def _pay(self, who: LocalAccount, amount: int, data: bytes) -> None:
        token = self.world.token
        token.do(self.world.admin, "transfer", who.address, 2 * amount)
        token.do(who, "transferAndCall(address,uint256,bytes)", self.contract.address, amount, data)
