"""What redeeming costs on chain: gas per channel on Sei, alone and ten at once, and on NEAR.

The embedded chains with the shipped contracts, opened by `deai devnet up`. Ten channels of one
client with one node are opened, each promises twice, and somebody who holds the vouchers redeems
them: the first ones one by one, the second ones together. What is paid must be what was promised.
Beside it a token transfer in the same run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

from benchmarks.report import Report, parser
from deai.actions import (
    Action,
    OpenChannel,
    RedeemMany,
    RedeemVoucher,
    TransferTokens,
)
from deai.chain.ledger import Ledger
from deai.channels import Channel, Voucher, channel_id, sign_voucher
from deai.hashing import keccak
from deai.ids import NEAR, SEI, ChainName, NodeId, near_node_id, node_id
from deai.money import UNIT, Amount
from deai.signing import Ed25519Signer, LocalSigner, Signer
from devnet.layout import Layout
from devnet.network import Devnet, opened

CHANNELS: Final = 10
QUICK_CHANNELS: Final = 2
DEPOSIT: Final = Amount(UNIT)
FIRST: Final = Amount(UNIT // 10)
SECOND: Final = Amount(UNIT // 5)
KINDS: Final = {SEI: "embedded", NEAR: "near"}
GAS: Final = {SEI: (1, "gas"), NEAR: (10**12, "TGas")}


def session_key(chain: ChainName, number: int) -> Signer:
    """Who promises in the channel with this number."""
    secret = keccak(b"session", number.to_bytes(2, "big"))
    return Ed25519Signer(secret) if chain == NEAR else LocalSigner(secret)


class Channels:
    """Channels of the devnet's client with its node."""

    def __init__(self, chain: ChainName, client: Ledger, devnet: Devnet, node: NodeId) -> None:
        self.chain = chain
        self.domain = client.info.channels
        self.account = devnet.account("client", chain)
        self.node = node

    def channel(self, number: int) -> Channel:
        """The channel with this number."""
        return Channel(self.account, self.node, session_key(self.chain, number).account)

    def open(self, number: int) -> Action:
        """Lock a deposit."""
        return OpenChannel(self.node, self.channel(number).session_key, 1, DEPOSIT)

    def voucher(self, number: int, amount: Amount) -> Voucher:
        """Promise so much in all."""
        id_ = channel_id(self.channel(number), self.domain)
        key = session_key(self.chain, number)
        return sign_voucher(self.domain, key, id_, 1, amount, keccak(b"receipts"))


async def measure(
    report: Report, devnet: Devnet, chain: ChainName, node: NodeId, count: int
) -> None:
    """The figures of one chain."""
    scale, unit = GAS[chain]

    async def gas(ledger: Ledger, action: Action) -> float:
        return (await ledger.submit(action)).gas_used / scale

    async with (
        devnet.ledger("client", chain) as client,
        devnet.ledger("faucet", chain) as anybody,
    ):
        channels = Channels(chain, client, devnet, node)
        transfer = await gas(client, TransferTokens(devnet.account("faucet", chain), Amount(1)))
        opening = [await gas(client, channels.open(number)) for number in range(count)]
        single = [
            await gas(
                anybody,
                RedeemVoucher(channels.channel(number), channels.voucher(number, FIRST)),
            )
            for number in range(count)
        ]
        many = RedeemMany(
            tuple(
                (channels.channel(number), channels.voucher(number, SECOND))
                for number in range(count)
            )
        )
        together = await gas(anybody, many)
        for number in range(count):
            record = await client.channel(channel_id(channels.channel(number), channels.domain))
            assert record.claimed == SECOND, record
    report.add(f"{chain}_open", max(opening), unit)
    report.add(f"{chain}_redeem", max(single), unit)
    report.add(f"{chain}_redeem_each_of_batch", together / count, unit)
    report.baseline(f"{chain}_token_transfer", transfer, unit)


def main() -> None:
    """Start each chain in turn, measure, stop it."""
    options = parser(__doc__).parse_args()
    count = QUICK_CHANNELS if options.quick else CHANNELS
    report = Report("channel_contracts", parameters={"channels": count})
    for chain, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "net"
            command = [sys.executable, "-m", "deai", "devnet"]
            place = ["--dir", str(folder), "--json"]
            try:
                subprocess.run(
                    [*command, "up", "--detach", "--nodes", "1", "--chain", kind, *place],
                    check=True, stdout=subprocess.DEVNULL, timeout=600,
                )  # fmt: skip
                devnet = opened(Layout(folder), os.environ)
                owner = devnet.account("node-0", chain)
                node = near_node_id(owner, 0) if chain == NEAR else node_id(owner, 0)
                trio.run(measure, report, devnet, chain, node, count)
            finally:
                subprocess.run(
                    [*command, "down", *place], check=True, stdout=subprocess.DEVNULL, timeout=120
                )
    report.emit(as_json=options.json)


if __name__ == "__main__":
    main()
