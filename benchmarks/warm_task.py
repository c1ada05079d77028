"""Added latency of one small task on a warm stream, over calling the worker directly.

One client and one node in one process: the in-memory wire and ledger, the real journals on
disk, a real locked worker. `none/1`, one seat, `matmul-proof` of the smallest size.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import structlog
import trio

from benchmarks.report import Report, parser
from deai.actions import Deposit, RegisterNode, TransferTokens
from deai.chain.memory import MemoryChain
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.opening import open_client
from deai.hashing import keccak
from deai.ids import PeerId, node_id
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.ports import Executor, Job, Workbench
from deai.signing import LocalSigner
from deai.tasks import operate_digest
from node.config import NodeConfig
from node.main import run as run_node
from node.ports import Ports
from node.store.blobs import BlobStore
from node.store.journal import Journal
from p2p.memory import MemoryNetwork
from rewards.rules import RULES
from workloads.inputs import InstalledWorkloads
from workloads.pool import open_workbench

ROUNDS: Final = 300
QUICK_ROUNDS: Final = 60
WARM_UP: Final = 10
PARAMETERS: Final = {"size": 16, "rounds": 1}


def key(name: str) -> LocalSigner:
    """A key for this run."""
    return LocalSigner(keccak(b"warm task", name.encode()))


def peer(name: str) -> PeerId:
    """A peer id for this run."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = keccak(b"peer", name.encode()) * 2
    return PeerId("12D3KooW" + "".join(alphabet[byte % 58] for byte in digest[:44]))


@asynccontextmanager
async def network(folder: Path, bench: Workbench) -> AsyncIterator[Client]:
    """A chain, a node over `bench`, and a client that knows it."""
    bank, owner, operator, payer = (key(n) for n in ("bank", "owner", "operator", "payer"))
    chain = MemoryChain(RULES, holder=bank.account, clock=time.time)
    for account in (owner.account, payer.account):
        await chain.ledger(bank).submit(TransferTokens(account, Amount(10_000 * UNIT)), key=account)
    await chain.ledger(payer).submit(Deposit(Amount(9_000 * UNIT)))
    node = node_id(owner.account, 0)
    until = chain.now + 3600
    consent = operator.sign(operate_digest(chain.info.registry, node, operator.account, until))
    await chain.ledger(owner).submit(
        RegisterNode(0, operator.account, until, consent, Amount(1000 * UNIT), peer("node"), ())
    )
    wire = MemoryNetwork()
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        node_net = await stack.enter_async_context(wire.open_net(peer("node")))
        client_net = await stack.enter_async_context(wire.open_net(peer("client")))
        ports = Ports(
            node=node,
            journal=Journal(folder / "node.db"),
            blobs=BlobStore(folder / "blobs", max_bytes=1 << 30),
            ledger=chain.ledger(operator),
            net=node_net,
            workbench=bench,
            signer=operator,
        )
        await nursery.start(run_node, NodeConfig(capacity=1), ports)
        address = PeerAddress(node_net.peer_id, node_net.addresses)
        yield await stack.enter_async_context(
            open_client(
                ledger=chain.ledger(payer),
                net=client_net,
                catalogue=InstalledWorkloads.load(only=("matmul-proof",)),
                home=folder / "client",
                sources=(PeerList((address,)),),
            )
        )
        nursery.cancel_scope.cancel()


async def through_network(client: Client, seed: int) -> tuple[float, float]:
    """Seconds from submitting to the verified output, and to the settled task."""
    began = time.perf_counter()
    handle = await client.submit(
        "matmul-proof", b"", params={**PARAMETERS, "seed": seed}, policy="none/1", max_fee=UNIT
    )
    await handle.output()
    verified = time.perf_counter() - began
    outcome = await handle.wait()
    assert outcome.ok, outcome.document
    return verified, time.perf_counter() - began


async def directly(executor: Executor, seed: int) -> float:
    """Seconds of the same computation in the same worker."""
    catalogue = InstalledWorkloads.load(only=("matmul-proof",))
    job = Job(
        workload="matmul-proof",
        version=1,
        model="",
        parameters=catalogue.parameters("matmul-proof", {**PARAMETERS, "seed": seed}),
        input=b"",
        seed=bytes(32),
    )
    began = time.perf_counter()
    await executor.run(job, on_progress=lambda _: None, timeout=60)
    return time.perf_counter() - began


async def measure(rounds: int) -> Report:
    """Both, one after the other, over the same kind of worker."""
    report = Report("warm_task", parameters={"rounds": rounds, "policy": "none/1", **PARAMETERS})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        models.mkdir()
        async with open_workbench(models, workloads=("matmul-proof",)) as bench:
            async with bench.executor("direct") as executor:
                direct = [await directly(executor, seed) for seed in range(WARM_UP + rounds)]
            async with network(folder, bench) as client:
                whole = [await through_network(client, seed) for seed in range(WARM_UP + rounds)]
    direct = direct[WARM_UP:]
    verified, settled = zip(*whole[WARM_UP:], strict=True)
    report.add("added_p50_ms", 1000 * (median(verified) - median(direct)), "ms")
    report.add("task_p50_ms", 1000 * median(verified), "ms")
    report.add("task_p95_ms", 1000 * quantiles(verified, n=20)[-1], "ms")
    report.add("settled_p50_ms", 1000 * median(settled), "ms")
    report.baseline("worker_p50_ms", 1000 * median(direct), "ms")
    return report


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    trio.run(measure, rounds).emit(as_json=options.json)


if __name__ == "__main__":
    main()
