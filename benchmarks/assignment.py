"""Time from submitting a task until every seat is held by a signed accept, among many nodes.

Real nodes with real journals share this process and its event loop with the client: 500 over the
wire in memory, and 50 over libp2p on loopback. The client is told of all of them at once, with
their signed offers, as a coordinator would; it checks each offer, reads the registry (a ledger in
memory), draws a committee, reserves a lane and asks.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import trio

from benchmarks.one_node import FUNDS, OPERATE_SECONDS, STAKE, STORE_BYTES, signer
from benchmarks.report import Report, parser
from deai.actions import Deposit, RegisterNode, TransferTokens
from deai.chain.memory import MemoryChain
from deai.client.client import Client
from deai.client.directory import Hint
from deai.client.opening import open_client
from deai.ids import NodeId, node_id
from deai.money import UNIT, Amount
from deai.net import Net, PeerAddress
from deai.ports import Workbench
from deai.tasks import operate_digest
from node import logs
from node.config import NodeConfig
from node.daemon import Daemon
from node.main import run
from node.ports import Ports
from node.state import Node
from node.store.blobs import BlobStore
from node.store.journal import Journal
from p2p.identity import Identity
from p2p.memory import MemoryNetwork
from p2p.net import open_net
from rewards.rules import RULES
from workloads.inputs import InstalledWorkloads
from workloads.pool import open_workbench

NODES: Final = 500
LOOPBACK_NODES: Final = 50
ROUNDS: Final = 300
QUICK_NODES: Final = 20
QUICK_LOOPBACK_NODES: Final = 5
QUICK_ROUNDS: Final = 5
SEATS: Final = 3
POLICY: Final = "exact/1"
WORKLOAD: Final = "matmul-proof"
PARAMETERS: Final = {"size": 16, "rounds": 1}
DESCRIPTORS: Final = 16_384
CALM_S: Final = 1.5

OpenNet = Callable[[], AbstractAsyncContextManager[Net]]


class Told:
    """What a coordinator would tell: where each node is, and its newest signed offer."""

    name = "told"

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    async def hints(self) -> Sequence[Hint]:
        """All of them."""
        await trio.lowlevel.checkpoint()
        return [
            Hint(
                PeerAddress(one.ports.net.peer_id, one.ports.net.addresses),
                one.ports.node,
                one.offer,
            )
            for one in self._nodes
        ]


async def _registered(chain: MemoryChain, index: int, net: Net) -> NodeId:
    owner, operator = signer(f"owner {index}"), signer(f"operator {index}")
    bank = chain.ledger(signer("bank"))
    await bank.submit(TransferTokens(owner.account, FUNDS), key=f"owner {index}")
    node, until = node_id(owner.account, 0), chain.now + OPERATE_SECONDS
    proof = operator.sign(operate_digest(chain.info.registry, node, operator.account, until))
    await chain.ledger(owner).submit(
        RegisterNode(0, operator.account, until, proof, STAKE, net.peer_id, net.addresses)
    )
    return node


@asynccontextmanager
async def open_nodes(
    count: int, folder: Path, workbench: Workbench, new_net: OpenNet
) -> AsyncIterator[tuple[MemoryChain, list[Node]]]:
    """`count` registered nodes that take work, each with a peer, a journal and an owner."""
    logs.set_up("warning")  # stdout belongs to the report
    chain = MemoryChain(RULES, holder=signer("bank").account, clock=time.time)
    async with AsyncExitStack() as stack:
        ports = []
        for index in range(count):
            net = await stack.enter_async_context(new_net())
            home = folder / f"node-{index}"
            journal = Journal(home / "node.db")
            stack.callback(journal.close)
            operator = signer(f"operator {index}")
            ports.append(
                Ports(
                    node=await _registered(chain, index, net),
                    journal=journal,
                    blobs=BlobStore(home / "blobs", max_bytes=STORE_BYTES),
                    ledger=chain.ledger(operator),
                    net=net,
                    workbench=workbench,
                    signer=operator,
                )
            )
        nursery = await stack.enter_async_context(trio.open_nursery())
        nodes: list[Node] = []

        async def start(own: Ports) -> None:
            async def daemon(*, task_status: trio.TaskStatus[Daemon]) -> None:
                await run(NodeConfig(), own, task_status=task_status)

            live: Daemon = await nursery.start(daemon)
            (node,) = (one.node for one in live.branches)
            assert node is not None
            nodes.append(node)

        async with trio.open_nursery() as starting:
            for own in ports:
                starting.start_soon(start, own)
        yield chain, nodes
        nursery.cancel_scope.cancel()


async def _calm(chain: MemoryChain) -> None:
    """Wait until the nodes have said on chain what they say when they start."""
    seen = -1
    while seen < len(chain.records):
        seen = len(chain.records)
        await trio.sleep(CALM_S)


async def assign(client: Client, mark: list[float], seed: int) -> float:
    """Seconds until all seats are accepted. The task is then followed to its end."""
    began = time.perf_counter()
    handle = await client.submit(
        WORKLOAD, b"", params={**PARAMETERS, "seed": seed},
        policy=POLICY, seats=SEATS, max_fee=UNIT,
    )  # fmt: skip
    outcome = await handle.wait()
    assert outcome.ok, outcome.document
    return mark.pop() - began


async def sample(
    count: int, rounds: int, folder: Path, workbench: Workbench, new_net: OpenNet
) -> list[float]:
    """Seconds of each of `rounds` assignments by one client among `count` nodes."""
    async with (
        open_nodes(count, folder, workbench, new_net) as (chain, nodes),
        new_net() as net,
    ):
        payer, bank = chain.ledger(signer("client")), chain.ledger(signer("bank"))
        await bank.submit(TransferTokens(signer("client").account, FUNDS), key="client")
        await payer.submit(Deposit(Amount(FUNDS // 2)))
        mark: list[float] = []

        def passed(point: str) -> None:
            if point == "accepts_collected":
                mark.append(time.perf_counter())

        await _calm(chain)
        async with open_client(
            ledger=payer,
            net=net,
            catalogue=InstalledWorkloads.load(),
            home=folder / "client",
            sources=(Told(nodes),),
            crash=passed,
        ) as client:
            return [await assign(client, mark, seed) for seed in range(rounds)]


async def measure(nodes: int, loopback: int, rounds: int) -> Report:
    """Both wires, one after the other; before them, as many nodes as seats."""
    report = Report(
        "assignment",
        parameters={
            "nodes": nodes, "loopback_nodes": loopback, "rounds": rounds,
            "policy": POLICY, "seats": SEATS,
        },
    )  # fmt: skip
    wire = MemoryNetwork()

    def in_memory() -> AbstractAsyncContextManager[Net]:
        return wire.open_net(Identity.generate().peer_id)

    def libp2p() -> AbstractAsyncContextManager[Net]:
        return open_net(Identity.generate(), listen=["/ip4/127.0.0.1/tcp/0"])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        models.mkdir()
        ways = (
            ("alone_", SEATS, in_memory),
            ("", nodes, in_memory),
            ("loopback_", loopback, libp2p),
        )
        for prefix, count, new_net in ways:
            async with open_workbench(models, workloads=(WORKLOAD,)) as workbench:
                found = await sample(count, rounds, folder / f"{prefix}x", workbench, new_net)
            if prefix == "alone_":
                report.baseline("alone_p50_ms", 1000 * median(found), "ms")
                continue
            p99 = quantiles(found, n=100, method="inclusive")[-1]
            report.add(f"{prefix}p50_ms", 1000 * median(found), "ms")
            report.add(f"{prefix}p99_ms", 1000 * p99, "ms")
            report.add(f"{prefix}first_ms", 1000 * found[0], "ms")
    return report


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    sizes = (
        (QUICK_NODES, QUICK_LOOPBACK_NODES, QUICK_ROUNDS)
        if options.quick
        else (NODES, LOOPBACK_NODES, ROUNDS)
    )
    trio.run(measure, *sizes).emit(as_json=options.json)


if __name__ == "__main__":
    main()
