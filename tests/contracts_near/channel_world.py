"""The channel contract and the token on the embedded chain.

Ids and signatures come from the core (`deai.channels`): what succeeds here also shows that Python
and Rust mean the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from py_near import transactions as near

from deai import channels
from deai.channels import Channel
from deai.ids import AccountId, ChannelId, hexed, near_node_id
from deai.money import UNIT, Amount
from deai.signing import Domain, Ed25519Signer
from devnet.near.chain import Chain, Options
from devnet.near.rules import NEAR, TGAS
from tests.contracts_near.world import (
    ARTIFACTS,
    CHAIN,
    CLIENT,
    GUARDIAN,
    OWNER,
    OWNERS,
    STRANGER,
    TOKEN,
    Ground,
    a_chain,
    b64,
    events,
    seed,
)
from tests.devnet.near.tools import FakeClock, Result

CHANNELS: Final = "channels.deai.near"
OTHER_CHANNELS: Final = "channels-2.deai.near"
OTHER_TOKEN: Final = "token-2.deai.near"
POOR: Final = "poor.near"  # has no place in the token contract
LONGEST: Final = tuple(name.ljust(64, "0") for name in ("client-", "provider-", "stranger-"))
DEPOSIT: Final = 100 * UNIT
PERIOD: Final = 6 * 3600
ROOT: Final = b"\x06" * 32
PARAMETERS: Final = {
    "close_period": PERIOD, "owner_delay": 2 * 24 * 3600, "upgrade_delay": 7 * 24 * 3600,
}  # fmt: skip


class ChannelWorld(Ground):
    """Contracts deployed; a client with tokens that has paid for storage."""

    contract = CHANNELS

    def __init__(self, chain: Chain, clock: FakeClock) -> None:
        super().__init__(chain, clock)
        self.domain = Domain(channels.CHANNELS_NAME, CHAIN, AccountId(CHANNELS))
        self.deploy_token((CLIENT, STRANGER, CHANNELS, OTHER_CHANNELS, *OWNERS[:2]))
        self.deploy(CHANNELS)
        self.give(CLIENT, 10**4 * UNIT)
        self.call(CLIENT, "storage_deposit", {}, deposit=NEAR)

    def deploy(self, contract: str, token: str = TOKEN, chain_id: str = CHAIN) -> None:
        code = (ARTIFACTS / "channels.wasm").read_bytes()
        self.set_up(
            contract, code, token=token, chain_id=chain_id, owner=OWNER, guardian=GUARDIAN,
            parameters=PARAMETERS,
        )  # fmt: skip

    # --- forms ------------------------------------------------------------------------------

    def session(self, number: int) -> Ed25519Signer:
        return Ed25519Signer(seed(f"session {number}"))

    def channel(self, number: int = 0, *, client: str = CLIENT, owner: str = OWNERS[0]) -> Channel:
        """With the key of that number."""
        node = near_node_id(AccountId(owner), 0)
        return Channel(AccountId(client), node, self.session(number).account)

    def id(self, channel: Channel) -> ChannelId:
        return channels.channel_id(channel, self.domain)

    def voucher(
        self, channel: Channel, amount: int, *, number: int = 0, epoch: int | None = None,
        domain: Domain | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Of the present epoch, unless said otherwise."""
        if epoch is None:
            epoch = max(1, int(self.of(channel)["epoch"]))
        domain = domain or self.domain
        name = channels.channel_id(channel, domain)
        made = channels.sign_voucher(
            domain, self.session(number), name, epoch, Amount(amount), ROOT
        )
        return {
            "cumulative_amount": str(amount), "receipts_root": hexed(ROOT),
            "signature": b64(made.signature),
        }  # fmt: skip

    # --- calls ------------------------------------------------------------------------------

    def open(self, channel: Channel, amount: int = DEPOSIT) -> Result:
        message = {"open": {"node": channel.node, "session_key": channel.session_key}}
        return self.pay_in(channel.client, amount, message)

    def top_up(self, channel: Channel, amount: int, *, by: str = CLIENT) -> Result:
        return self.pay_in(by, amount, {"top_up": {"channel_id": self.id(channel)}})

    def redeem(
        self, channel: Channel, voucher: dict[str, Any], *, contract: str = "", gas: int = 30,
        by: str = STRANGER,
    ) -> Result:  # fmt: skip
        """By somebody whose business it is not."""
        arguments = {"channel": document(channel), "voucher": voucher}
        return self.call(by, "redeem", arguments, receiver=contract, gas=gas)

    def redeem_many(
        self, batch: Sequence[tuple[Channel, dict[str, Any]]], *, gas: int = 200
    ) -> Result:
        items = [{"channel": document(one), "voucher": voucher} for one, voucher in batch]
        return self.call(STRANGER, "redeem_many", {"batch": items}, gas=gas)

    def close(self, channel: Channel, voucher: dict[str, Any] | None = None) -> Result:
        arguments = {"channel": document(channel), "voucher": voucher}
        return self.owner_call(channel.owner, "close", **arguments)

    def request_close(self, channel: Channel) -> Result:
        return self.owner_call(channel.client, "request_close", channel=document(channel))

    def finish(self, channel: Channel) -> Result:
        return self.call(STRANGER, "finish", {"channel": document(channel)})

    def pay_due(self, channel: Channel) -> Result:
        return self.call(STRANGER, "pay_due", {"channel": document(channel)})

    def submit_call(
        self, signer: str, method: str, arguments: dict[str, Any], deposit: int = 0
    ) -> str:
        """A call that waits for its block; others may come into the same one."""
        body = json.dumps(arguments).encode()
        action = near.create_function_call_action(method, body, 60 * TGAS, deposit)
        return self.submit(signer, self.contract, action)

    # --- what is where ----------------------------------------------------------------------

    def of(self, channel: Channel) -> dict[str, Any]:
        found: dict[str, Any] = self.view("get_channel", channel_id=self.id(channel))
        return found

    def owed(self, *opened: Channel) -> int:
        """What the contract holds for the parties of these channels."""
        views = [self.of(channel) for channel in opened]
        return sum(
            int(one["deposit"]) - int(one["claimed"]) + int(one["due_owner"])
            + int(one["due_client"]) for one in views
        )  # fmt: skip


def document(channel: Channel) -> dict[str, Any]:
    return {
        "client": channel.client, "node": channel.node, "session_key": channel.session_key,
    }  # fmt: skip


def names(done: Result) -> list[str]:
    return [event["event"] for event in events(done)]


def register(world: ChannelWorld, account: str) -> None:
    """With the token, which sends to nobody else."""
    storage = {"account_id": account}
    world.call(OWNER, "storage_deposit", storage, deposit=NEAR // 100, receiver=TOKEN)


@contextmanager
def a_channel_world(directory: Path, options: Options | None = None) -> Iterator[ChannelWorld]:
    """A chain with everything on it."""
    accounts = (
        TOKEN, CHANNELS, OTHER_CHANNELS, OTHER_TOKEN, OWNER, GUARDIAN, CLIENT, STRANGER, POOR,
        *OWNERS[:2], *LONGEST,
    )  # fmt: skip
    with a_chain(directory, accounts, options) as (chain, clock):
        yield ChannelWorld(chain, clock)
