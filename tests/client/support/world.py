"""A whole network in memory: a chain, nodes with scripts, and room for a client."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from deai import actions as act
from deai.chain.ledger import Parameters
from deai.chain.memory import DEFAULT_PARAMETERS, GENESIS_TIME, MemoryChain
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.journal import Journal
from deai.client.opening import open_client
from deai.ids import NodeId, PeerId, node_id
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.signing import LocalSigner
from deai.tasks import operate_digest
from p2p.memory import MemoryNetwork
from rewards.rules import Rules
from tests.client.support import node as scripted
from tests.client.support.node import Script, ScriptedNode
from workloads.inputs import InstalledWorkloads

PARAMETERS: Parameters = msgspec.structs.replace(DEFAULT_PARAMETERS, min_window=60, min_lease=5)
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def signer(name: str) -> LocalSigner:
    """A key that only tests know."""
    return LocalSigner(hashlib.sha256(name.encode()).digest())


def peer_name(name: str) -> PeerId:
    """A peer id that looks like one."""
    digest = hashlib.sha256(name.encode()).digest()
    return PeerId("12D3Koo" + "".join(_ALPHABET[byte % 58] for byte in digest))


async def inline(function: Callable[..., Any], *args: object) -> Any:
    """Run a blocking call here: a mock clock must not jump while a thread works."""
    await trio.lowlevel.checkpoint()
    return function(*args)


@dataclass
class World:
    """Everything outside the client."""

    chain: MemoryChain
    network: MemoryNetwork
    nursery: trio.Nursery
    nodes: list[ScriptedNode] = field(default_factory=list)
    payer: LocalSigner = field(default_factory=lambda: signer("payer"))
    catalogue: InstalledWorkloads = field(default_factory=InstalledWorkloads.load)

    async def add(
        self, script: Script, *, owner: str = "", stake: int = 500 * UNIT
    ) -> ScriptedNode:
        """Register and start a node."""
        name = f"node-{len(self.nodes)}"
        owner_key, operator = signer(owner or f"owner of {name}"), signer(f"operator of {name}")
        index = sum(1 for one in self.nodes if one.node.startswith(owner_key.account))
        bank = self.chain.ledger(signer("holder"))
        await bank.submit(
            act.TransferTokens(owner_key.account, Amount(2 * stake)), key=f"fund {name}"
        )
        identity = node_id(owner_key.account, index)
        net = await self.nursery.start(self._open, peer_name(name))
        until = self.chain.now + 3600
        digest = operate_digest(self.chain.info.registry, identity, operator.account, until)
        await self.chain.ledger(owner_key).submit(
            act.RegisterNode(
                index, operator.account, until, operator.sign(digest), Amount(stake),
                net.peer_id, net.addresses,
            )
        )  # fmt: skip
        made = ScriptedNode(identity, operator, self.chain.ledger(operator), net, script)
        self.nodes.append(made)
        await self.nursery.start(made.run)
        return made

    async def _open(self, peer: PeerId, *, task_status: trio.TaskStatus[Any]) -> None:
        async with self.network.open_net(peer) as net:
            task_status.started(net)
            await trio.sleep_forever()

    def by_id(self, node: NodeId) -> ScriptedNode:
        """The node with this id."""
        return next(one for one in self.nodes if one.node == node)

    @asynccontextmanager
    async def client(
        self,
        home: Path,
        *,
        name: str = "client",
        crash: Callable[[str], None] = lambda point: None,
        seed: str = "chance",
        peers: Sequence[ScriptedNode] | None = None,
    ) -> AsyncIterator[Client]:
        """A client with the payer's key, as one process life."""
        counter = 0

        def random(count: int) -> bytes:
            nonlocal counter
            counter += 1
            return hashlib.shake_256(f"{seed} {counter}".encode()).digest(count)

        known = self.nodes if peers is None else peers
        source = PeerList(PeerAddress(one.net.peer_id, one.net.addresses) for one in known)
        journal = Journal(home / "client.db", inline)
        try:
            async with (
                self.network.open_net(peer_name(name)) as net,
                open_client(
                    ledger=self.chain.ledger(self.payer),
                    net=net,
                    catalogue=self.catalogue,
                    home=home,
                    sources=(source,),
                    journal=journal,
                    offload=inline,
                    random=random,
                    crash=crash,
                ) as client,
            ):
                yield client
        finally:
            journal.close()


@asynccontextmanager
async def open_world(*scripts: Script, deposit: int = 0) -> AsyncIterator[World]:
    """A chain whose clock is trio's, the payer with 1,000 CT, and a node per script."""
    start = trio.current_time()
    chain = MemoryChain(
        Rules(),
        holder=signer("holder").account,
        parameters=PARAMETERS,
        clock=lambda: GENESIS_TIME + trio.current_time() - start,
    )
    async with trio.open_nursery() as nursery:
        world = World(chain, MemoryNetwork(), nursery)
        scripted.MODELS = tuple(
            str(world.catalogue.model("embedding", world.catalogue.parameters("embedding", {})))
            for _ in (0,)
        )
        bank = chain.ledger(signer("holder"))
        await bank.submit(act.TransferTokens(world.payer.account, Amount(1000 * UNIT)))
        if deposit:
            await chain.ledger(world.payer).submit(act.Deposit(Amount(deposit)))
        for script in scripts:
            await world.add(script)
        yield world
        nursery.cancel_scope.cancel()
