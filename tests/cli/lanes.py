"""Commands that use the lane: nodes that serve it, around every command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from deai import actions as act
from deai.actions import OpenChannel
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.lane.places import session_key_file
from deai.client.opening import open_client
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.signing import LocalSigner
from p2p.memory import MemoryNetwork
from tests.cli.conftest import Shell
from tests.cli.network import Neighbourhood
from tests.client.lane.node import Account, Cheat, LaneNode
from tests.client.lane.world import QUICK
from tests.client.support.node import Script, ScriptedNode
from tests.client.support.world import World, peer_name, signer

PRICE = UNIT // 100


class Lanes(Neighbourhood):
    """Nodes that serve the lane, whose accounts outlive the commands."""

    def __init__(self, home: Path, *cheats: Cheat, channels: int = 1, deposit: int = UNIT) -> None:
        super().__init__(home, *[Script(workloads=("echo",), base_fee=PRICE)] * len(cheats))
        self.cheats, self.channels, self.deposit = cheats, channels, deposit
        self.lanes: list[LaneNode] = []
        self.accounts: list[dict[Any, Account]] = [{} for _ in cheats]

    @asynccontextmanager
    async def connect(self, *_: object, **__: object) -> AsyncIterator[Client]:
        network = MemoryNetwork()
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            world = World(self.chain, network, nursery)
            if not self.nodes:
                bank = self.chain.ledger(signer("holder"))
                await bank.submit(act.TransferTokens(self.payer.account, Amount(100 * UNIT)))
                for script in self.scripts:
                    self.nodes.append(await world.add(script))
                for node in self.nodes[: self.channels]:
                    await self.open_channel(node)
            else:
                for at, old in enumerate(self.nodes):
                    net = await nursery.start(world._open, old.net.peer_id)
                    again = ScriptedNode(old.node, old.operator, old.ledger, net, old.script)
                    await nursery.start(again.run)
                    self.nodes[at] = again
            self.lanes = [LaneNode(*pair) for pair in zip(self.nodes, self.cheats, strict=True)]
            for lane, accounts in zip(self.lanes, self.accounts, strict=True):
                lane.accounts = accounts
                await nursery.start(lane.run)
            net = await stack.enter_async_context(network.open_net(peer_name("client")))
            peers = PeerList(PeerAddress(n.net.peer_id, n.net.addresses) for n in self.nodes)
            yield await stack.enter_async_context(
                open_client(
                    ledger=self.chain.ledger(self.payer),
                    net=net,
                    catalogue=world.catalogue,
                    home=self.home,
                    sources=(peers,),
                    patience=QUICK,
                )
            )
            nursery.cancel_scope.cancel()

    async def open_channel(self, node: ScriptedNode) -> None:
        """As `deai channel open` does."""
        secret = hashlib.sha256(node.node.encode()).digest()
        path = session_key_file(self.home, node.node)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secret.hex())
        path.chmod(0o600)
        action = OpenChannel(node.node, LocalSigner(secret).account, 1, Amount(self.deposit))
        await self.chain.ledger(self.payer).submit(action)

    @property
    def computed(self) -> list[bytes]:
        """What the nodes of the last command computed."""
        return [data for lane in self.lanes for data in lane.computed]


def lanes(shell: Shell, monkeypatch: pytest.MonkeyPatch, *cheats: Cheat, **more: Any) -> Lanes:
    made = Lanes(shell.home, *(cheats or (Cheat(),)), **more)
    made.install(monkeypatch)
    return made


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
