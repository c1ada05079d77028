"""A network for commands: one chain in memory, fresh scripted nodes around every command.

The commands run their own event loop and end, so nodes live as long as the command; the chain,
the nodes' keys and the client's home outlive it. Peers and chain are the verified fakes that the
conformance suites hold to the real ones; everything between them is the real client.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Ledger
from deai.chain.memory import MemoryChain
from deai.client import access
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.opening import open_client
from deai.ids import ChainName
from deai.keys import create_key
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.network import ChainEntry, Network, save_network
from p2p.memory import MemoryNetwork
from rewards.rules import Rules
from tests.client.support import node as scripted
from tests.client.support.node import Script, ScriptedNode
from tests.client.support.world import PARAMETERS, World, peer_name, signer


@functools.cache
def key_files() -> dict[str, bytes]:
    """The payer's key and its passphrase: sealed once, for sealing takes a tenth of a second."""
    with tempfile.TemporaryDirectory() as folder:
        key, passphrase = Path(folder) / "client.json", Path(folder) / "passphrase"
        create_key(key, passphrase, secret=signer("payer")._key.secret)
        return {file.name: file.read_bytes() for file in (key, passphrase)}


class Neighbourhood:
    """What the commands find when they connect."""

    def __init__(self, home: Path, *scripts: Script) -> None:
        self.home = home
        self.scripts = scripts
        self.chain = MemoryChain(
            Rules(), holder=signer("holder").account, parameters=PARAMETERS, clock=time.time
        )
        self.payer = signer("payer")
        info = self.chain.info
        (home / "keys").mkdir(parents=True, exist_ok=True)
        for name, content in key_files().items():
            (home / "keys" / name).write_bytes(content)
            (home / "keys" / name).chmod(0o600)
        save_network(
            Network(
                name="test",
                chains={
                    ChainName("sei"): ChainEntry(
                        kind="memory",
                        chain_id=info.chain_id,
                        rpc_urls=("http://127.0.0.1:9",),
                        contracts=info.contracts,
                    )
                },
            ),
            home / "network.json",
        )
        self.nodes: list[ScriptedNode] = []
        self.is_registered = False
        self.asked: list[object] = []
        """Names of the chains that commands looked at."""

    def give(self, amount: int) -> None:
        """Tokens for the payer's wallet."""

        async def fund() -> None:
            bank = self.chain.ledger(signer("holder"))
            action = act.TransferTokens(self.payer.account, Amount(amount))
            await bank.submit(action, key=f"{amount}")

        trio.run(fund)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let commands connect here."""
        monkeypatch.setattr(access, "connect", self.connect)
        monkeypatch.setattr(access, "open_reader", self.open_reader)
        monkeypatch.setattr(access, "open_account", self.open_account)

    @asynccontextmanager
    async def open_reader(self, _network: object, chain: object) -> AsyncIterator[Ledger]:
        self.asked.append(chain)
        yield self.chain.ledger()

    @asynccontextmanager
    async def open_account(
        self, network: object, chain: object, key: Any, home: object, account: object = None
    ) -> AsyncIterator[Ledger]:
        yield self.chain.ledger(key)

    @asynccontextmanager
    async def connect(self, *_: object, **__: object) -> AsyncIterator[Client]:
        network = MemoryNetwork()
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            world = World(self.chain, network, nursery)
            scripted.MODELS = (
                world.catalogue.model("embedding", world.catalogue.parameters("embedding", {})),
            )
            if not self.is_registered:
                bank = self.chain.ledger(signer("holder"))
                await bank.submit(act.TransferTokens(self.payer.account, Amount(100 * UNIT)))
                for script in self.scripts:
                    self.nodes.append(await world.add(script))
                await self.begin()
                self.is_registered = True
            else:
                for at, old in enumerate(self.nodes):
                    net = await nursery.start(world._open, old.net.peer_id)
                    again = ScriptedNode(old.node, old.operator, old.ledger, net, old.script)
                    again.works = old.works
                    await nursery.start(again.run)
                    self.nodes[at] = again
            await self.serve(nursery)
            net = await stack.enter_async_context(network.open_net(peer_name("client")))
            peers = PeerList(PeerAddress(n.net.peer_id, n.net.addresses) for n in self.nodes)
            client = await stack.enter_async_context(
                open_client(
                    ledger=self.chain.ledger(self.payer),
                    net=net,
                    catalogue=world.catalogue,
                    home=self.home,
                    sources=(peers,),
                    **self.options,
                )
            )
            yield client
            nursery.cancel_scope.cancel()

    @property
    def options(self) -> dict[str, Any]:
        """More that the client is opened with."""
        return {"signer": self.payer}

    async def begin(self) -> None:
        """Whatever is to be on the chain before the first command."""

    async def serve(self, nursery: trio.Nursery) -> None:
        """Whatever the nodes of one command run besides."""
