"""The channel contract beside the others of a `World`, and channels as their parties see them."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from deai import channels as c
from deai.channels import Channel, Voucher
from deai.ids import AccountId, ChannelId, node_id, raw
from deai.money import UNIT, Amount
from deai.signing import Domain, LocalSigner, split
from devnet.evm.rules import Rules
from devnet.evm.vm import Outcome
from tests.contracts.evm import account
from tests.contracts.world import World

CLOSE_PERIOD = 6 * 3600
FUNDS = 10**4 * UNIT
ROOT = b"\x05" * 32


class Channels:
    """The contract, and the clients whose calls go to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.contract = world.evm.deploy(
            world.admin, "PaymentChannels", world.token.address, world.registry.address,
            CLOSE_PERIOD,
        )  # fmt: skip
        world.rows["deploy PaymentChannels"] = world.evm.gas
        self.domain = Domain(
            c.CHANNELS_NAME, Rules().chain_id, AccountId(self.contract.address.lower())
        )
        # A contract's balance that touches zero is bought again; who deploys leaves a unit there.
        self.token("transfer", world.admin, self.contract.address, 1)

    def token(self, function: str, sender: LocalAccount, *arguments: Any) -> Outcome:
        """A call of the token."""
        return self.world.token.do(sender, function, *arguments)

    def row(self, row: str) -> None:
        """Remember what the last transaction cost."""
        if row:
            self.world.rows[row] = self.world.evm.gas

    def do(self, row: str, sender: LocalAccount, function: str, *arguments: Any) -> Outcome:
        """A call of the contract."""
        outcome = self.contract.do(sender, function, *arguments)
        self.row(row)
        return outcome


class Paid:
    """One channel of client number `number` with node `at` of the world."""

    def __init__(self, channels: Channels, number: int, at: int = 0) -> None:
        self.channels = channels
        self.world = channels.world
        self.client = account(f"channel client {number}")
        self.session = LocalSigner(bytes(account(f"session {number}").key))
        self.owner = self.world.owners[at]
        self.channel = Channel(
            AccountId(self.client.address.lower()),
            node_id(AccountId(self.owner.address.lower()), 0),
            self.session.account,
        )
        self.id: ChannelId = c.channel_id(self.channel, channels.domain)
        if not self.world.token.read("balanceOf", self.client.address):
            channels.token("transfer", self.world.admin, self.client.address, FUNDS)

    @property
    def words(self) -> tuple[Any, ...]:
        """The channel as the contract takes it."""
        return (self.channel.client, raw(self.channel.node), self.channel.session_key)

    def _send(self, amount: int, data: bytes, row: str) -> None:
        self.channels.token(
            "transferAndCall(address,uint256,bytes)", self.client,
            self.channels.contract.address, amount, data,
        )  # fmt: skip
        self.channels.row(row)

    def open(self, deposit: int = 100 * UNIT, row: str = "") -> None:
        """Lock a deposit."""
        data = encode(["bytes32", "address"], [raw(self.channel.node), self.channel.session_key])
        self._send(deposit, data, row)

    def top_up(self, amount: int, row: str = "") -> None:
        """Add to the deposit."""
        self._send(amount, raw(self.id), row)

    def voucher(self, amount: int, epoch: int = 1, root: bytes = ROOT) -> Voucher:
        """The client's promise."""
        return c.sign_voucher(
            self.channels.domain, self.session, self.id, epoch, Amount(amount), root
        )

    def promise(self, amount: int, epoch: int = 1, root: bytes = ROOT) -> tuple[Any, ...]:
        """The same as the contract takes it."""
        signed = self.voucher(amount, epoch, root)
        return (signed.cumulative_amount, root, *split(signed.signature))

    def do(self, row: str, sender: LocalAccount, function: str, *arguments: Any) -> None:
        """A call that names the channel first."""
        self.channels.do(row, sender, function, self.words, *arguments)

    def record(self) -> tuple[int, ...]:
        """State, deposit, claimed, closes at, epoch."""
        state, record = self.channels.contract.read("channelOf", raw(self.id))
        return (state, *record)


NO_VOUCHER = (0, bytes(32), bytes(32), bytes(32))
