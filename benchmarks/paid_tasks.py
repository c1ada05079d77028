"""Paid tasks per second through the fast lane: client and node as two processes over libp2p.

A devnet of one node on the embedded chain (`deai devnet up`); the client is this process. Every
task is a no-op (`echo`, 100 bytes) that crosses into a locked worker and back; vouchers and
receipts are durable on both sides. After each case everything is verified: every output, every
window's root (recomputed from the tasks) and the node's signature over it; at the end the
vouchers are redeemed, and what the channels paid on chain must be what the tasks cost.

The cases: `map` with 256 in flight, 256 callers that `await`, one strict window, 10 ms more per
flush on both sides, 1,000 tasks/s offered one by one, 64 clients of one node.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import psutil
import trio

from benchmarks import transport
from benchmarks.report import Report, parser
from deai.actions import OpenChannel, TransferTokens
from deai.chain.ledger import Ledger
from deai.channels import Channel, channel_id
from deai.client import connect
from deai.client.access import open_account
from deai.client.lane.book import BookReader
from deai.client.lane.lane import Lane
from deai.hashing import keccak
from deai.ids import SEI, AccountId, ChannelId, NodeId, parse_peer
from deai.keys import create_key
from deai.lane.receipts import MAX_WINDOW, Terms, task_leaf, terms_hash, verify_window
from deai.merkle import merkle_root
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.signing import LocalSigner, Signer
from devnet.faucet import Faucet
from devnet.layout import Layout
from devnet.network import Devnet, opened
from p2p.identity import Identity
from p2p.net import open_net

SECONDS: Final = 30.0
QUICK_SECONDS: Final = 0.5
IN_FLIGHT: Final = 256
OFFERED_PER_S: Final = 1_000
CLIENTS: Final = 64
QUICK_CLIENTS: Final = 2
PRICE: Final = 10**12
"""Base units per task."""
DEPOSIT: Final = Amount(20 * UNIT)
SLOW_FLUSH_S: Final = 0.010
WARM_UP_S: Final = 3.0
"""Credit is earned: the first seconds of a channel are not measured."""
RAY: Final = Path(__file__).resolve().parent.parent / ".venv-ray" / "bin" / "python"
CREDIT_S: Final = 20.0
"""The same for many clients, whose books flush one by one to one disk while credit is small."""
SLOW_DISK: Final = "benchmarks.paid_tasks:slow_disk"
REDEEMED_WITHIN_S: Final = 120
SOAK_TASKS: Final = 3_000_000
PAYLOAD: Final = os.urandom(100)
DIGEST: Final = hashlib.sha256(PAYLOAD).digest()


def slow_disk(ports: Any) -> Any:  # noqa: ANN401 - a behaviour, as a node loads it
    """A node whose flushes take `SLOW_FLUSH_S` longer."""
    ports.book.writer.delay = SLOW_FLUSH_S
    return ports


def deai(*arguments: str) -> Any:  # noqa: ANN401 - a command's document
    """Run a command and read its document."""
    start = "from deai.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, *arguments, "--json"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    document = json.loads(done.stdout)
    if "error" in document:
        raise RuntimeError(f"deai {' '.join(arguments)}: {document['error']}")
    return document


@dataclass
class Payer:
    """One client: its home, its key, its channel with the node."""

    home: Path
    signer: Signer
    id: ChannelId = field(default=ChannelId(""))
    spent: int = 0
    """Base units, by what the tasks cost."""


@dataclass
class Network:
    """The devnet, and the node that everybody asks."""

    folder: Path
    devnet: Devnet
    node: NodeId
    home: str
    operator: AccountId
    terms: dict[ChannelId, Terms] = field(default_factory=dict)

    def restart(self, settings: str = "", windows: int = 0) -> None:
        """Start the node's daemon anew, with other settings in its file."""
        config = Path(self.home) / "config.toml"
        head, _, _ = config.read_text().partition("[node.prices.default]")
        head = head.partition("behaviour")[0]
        config.write_text(
            f'{head}{settings}\n[node.prices.default]\nbase_fee = "{PRICE}"\nunit_fee = "0"\n'
            f"[node.lane]\nunpaid_windows = {windows}\nclients = {2 * CLIENTS}\n"
            f"workers = {CLIENTS}\n"
        )
        deai("devnet", "kill", "node-0", "--dir", str(self.folder))
        deai("devnet", "start", "node-0", "--dir", str(self.folder))

    def processes(self) -> tuple[list[int], list[int]]:
        """The daemon, and its workers with their template."""
        document = deai("devnet", "status", "--dir", str(self.folder))
        daemon = next(one["pid"] for one in document["nodes"])
        children = psutil.Process(daemon).children(recursive=True)
        return [daemon], [one.pid for one in children]

    async def payer(self, name: str) -> Payer:
        """A client with money and an open channel."""
        payer = Payer(self.folder / name, LocalSigner(keccak(name.encode())))
        async with self.devnet.faucet() as faucet:
            await faucet.give(payer.signer.account, 2 * int(DEPOSIT))
        await self.open(payer)
        return payer

    async def payers(self, count: int) -> list[Payer]:
        """As many clients, opened at once."""
        found = [
            Payer(self.folder / f"client-{n}", LocalSigner(keccak(b"payer %d" % n)))
            for n in range(count)
        ]
        async with self.devnet.faucet() as faucet:
            assert isinstance(faucet, Faucet)
            await faucet.give_gas([one.signer.account for one in found])
        async with self.devnet.ledger("faucet") as bank, trio.open_nursery() as nursery:
            for one in found:
                nursery.start_soon(self._give, bank, one.signer.account)
        async with trio.open_nursery() as nursery:
            for one in found:
                nursery.start_soon(self.open, one)
        return found

    async def _give(self, bank: Ledger, account: AccountId) -> None:
        await bank.submit(TransferTokens(account, DEPOSIT), key=account)

    async def open(self, payer: Payer) -> None:
        """Lock the deposit of a channel, as `deai channel open` does it."""
        path = payer.home / "keys" / "channels" / f"{self.node}.json"
        session = create_key(path, payer.home / "keys" / "passphrase", chain=SEI)
        network, account = self.devnet.network, payer.signer.account
        async with open_account(network, SEI, payer.signer, payer.home, account) as ledger:
            await ledger.submit(OpenChannel(self.node, session, 1, DEPOSIT))
            payer.id = channel_id(Channel(account, self.node, session), ledger.info.channels)

    async def redeemed(self, payers: list[Payer]) -> None:
        """Have the node redeem, and wait until the chain has paid what the tasks cost."""
        deai("channel", "redeem", "--all", "--home", self.home)
        async with self.devnet.ledger() as ledger:
            with trio.fail_after(REDEEMED_WITHIN_S):
                for one in payers:
                    while (record := await ledger.channel(one.id)).claimed < one.spent:
                        await trio.sleep(0.2)
                    assert record.claimed == one.spent, (record, one)

    @asynccontextmanager
    async def lane(self, payer: Payer, *, delay: float = 0.0) -> AsyncIterator[Lane]:
        """A lane for no-ops; what was received is paid when it is left."""
        async with (
            connect(self.devnet.network, key=payer.signer, home=payer.home) as client,
            client.lane("echo", max_fee=PRICE, nodes=[self.node]) as lane,
        ):
            if delay:
                lane.book.writer.delay = delay
            first = await lane.result(PAYLOAD)
            self.terms[payer.id] = first.terms
            yield lane
            payer.spent += lane.tasks * PRICE

    async def verify(self, payer: Payer) -> int:
        """Check every window of a client's book against the tasks; how many tasks they hold."""
        terms = terms_hash(self.terms[payer.id])
        async with self.devnet.ledger() as ledger:
            domain = ledger.info.channels
        reader = BookReader(payer.home)
        try:
            standing, index = reader.standing(payer.id, 1), 0
            while (proof := reader.proof(payer.id, 1, index)) is not None:
                window = proof.window
                assert window.first == index, (window, index)
                places = range(index, index + window.tasks)
                leaves = [task_leaf(terms, place, DIGEST, DIGEST) for place in places]
                assert merkle_root(leaves) == window.root
                verify_window(domain, self.operator, window, proof.signature)
                index += window.tasks
        finally:
            reader.close()
        assert index == standing.promised.received, (index, standing)
        assert standing.promised.cumulative == index * PRICE == payer.spent
        return index


def cpu_seconds(pids: list[int]) -> float:
    """What these processes have used of processors, all threads."""
    used = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            used += times.user + times.system
    return used


class Meter:
    """How many tasks ended, between two moments."""

    def __init__(self) -> None:
        self.tasks = 0
        self.began = time.perf_counter()

    def rate(self) -> float:
        """Tasks per second since it was made."""
        return self.tasks / (time.perf_counter() - self.began)


async def by_map(
    lane: Lane, seconds: float, in_flight: int = IN_FLIGHT, *, tasks: int = 1 << 62
) -> float:
    """Tasks per second through `map`, for so long or so many."""
    end, left = time.perf_counter() + seconds, tasks

    def inputs() -> Iterator[bytes]:
        nonlocal left
        while time.perf_counter() < end and left:
            left -= 1
            yield PAYLOAD

    meter = Meter()
    async for output in lane.map(inputs(), in_flight=in_flight):
        assert output == PAYLOAD
        meter.tasks += 1
    return meter.rate()


async def by_await(lane: Lane, seconds: float) -> float:
    """Tasks per second of 256 callers that wait for each."""
    end, meter = time.perf_counter() + seconds, Meter()

    async def caller() -> None:
        while time.perf_counter() < end:
            assert await lane.call(PAYLOAD) == PAYLOAD
            meter.tasks += 1

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(caller)
    return meter.rate()


async def offered(lane: Lane, seconds: float) -> tuple[float, float]:
    """`(P50, P99)` seconds of one task where a thousand a second are offered, open loop."""
    taken, waits = int(seconds * OFFERED_PER_S), array.array("d")
    began = trio.current_time()

    async def call(at: float) -> None:
        assert await lane.call(PAYLOAD) == PAYLOAD
        waits.append(trio.current_time() - at)

    async with trio.open_nursery() as nursery:
        for number in range(taken):
            at = began + number / OFFERED_PER_S
            await trio.sleep_until(at)
            nursery.start_soon(call, at)
    cuts = quantiles(waits, n=100)
    return cuts[49], cuts[98]


async def many_clients(network: Network, payers: list[Payer], seconds: float) -> float:
    """Tasks per second of many clients of one node, all in this process."""
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(network.lane(one)) for one in payers]
        rates = [0.0] * len(lanes)

        async def one(number: int, lane: Lane, time_of: float) -> None:
            rates[number] = await by_map(lane, time_of, MAX_WINDOW)

        for time_of in (min(CREDIT_S, seconds), seconds):
            async with trio.open_nursery() as nursery:
                for number, lane in enumerate(lanes):
                    nursery.start_soon(one, number, lane, time_of)
    return sum(rates)


def resident_mib(pids: list[int]) -> float:
    """Memory that these processes hold."""
    return float(sum(psutil.Process(pid).memory_info().rss for pid in pids)) / (1 << 20)


async def soak(network: Network, payer: Payer, report: Report) -> None:
    """Memory of both sides after a tenth of three million tasks, and after all of them."""
    async with network.lane(payer) as lane:
        daemon, _ = network.processes()
        parts = {"client": [os.getpid()], "node": daemon}
        await by_map(lane, 1e9, tasks=SOAK_TASKS // 10)
        before = {name: resident_mib(pids) for name, pids in parts.items()}
        report.add("soak_per_s", await by_map(lane, 1e9, tasks=SOAK_TASKS * 9 // 10), "1/s")
        for name, pids in parts.items():
            report.add(f"soak_{name}_mib", resident_mib(pids), "MiB")
            report.add(f"soak_{name}_mib_grown", resident_mib(pids) - before[name], "MiB")


async def measure(
    network: Network, seconds: float, clients: int, cases: set[str], *, quick: bool
) -> Report:
    """Every case; raises where anything does not add up.

    A quick run starts the node anew only once, with all that the cases want of it.
    """
    report = Report(
        "paid_tasks",
        parameters={
            "seconds": seconds, "in_flight": IN_FLIGHT, "payload_bytes": len(PAYLOAD),
            "offered_per_s": OFFERED_PER_S, "clients": clients,
        },
    )  # fmt: skip
    payers = [payer := await network.payer("payer")]
    warm = min(WARM_UP_S, seconds)
    if "main" in cases:
        async with network.lane(payer) as lane:
            await by_map(lane, warm)
            before, daemon, workers = lane.tasks, *network.processes()
            parts = {"client": [os.getpid()], "node": daemon, "worker": workers}
            used = {name: cpu_seconds(pids) for name, pids in parts.items()}
            report.add("map_per_s", await by_map(lane, seconds), "1/s")
            for name, pids in parts.items():
                micros = 1e6 * (cpu_seconds(pids) - used[name]) / (lane.tasks - before)
                report.add(f"map_cpu_us_{name}", micros, "us")
            report.add("await_per_s", await by_await(lane, seconds), "1/s")
    if "offered" in cases:
        async with network.lane(payer) as lane:
            await by_map(lane, warm)
            p50, p99 = await offered(lane, seconds)
            report.add("offered_p50_ms", 1000 * p50, "ms")
            report.add("offered_p99_ms", 1000 * p99, "ms")
    slow = f'behaviour = "{SLOW_DISK}"'
    if quick and cases & {"strict", "slow", "clients"}:
        network.restart(slow, windows=1)
    if "strict" in cases:
        if not quick:
            network.restart(windows=1)
        async with network.lane(payer) as lane:
            await by_map(lane, warm)
            report.add("one_window_per_s", await by_map(lane, seconds), "1/s")
    if "slow" in cases:
        if not quick:
            network.restart(slow)
        async with network.lane(payer, delay=SLOW_FLUSH_S) as lane:
            await by_map(lane, warm)
            report.add("slow_disk_per_s", await by_map(lane, seconds, 4 * IN_FLIGHT), "1/s")
    if "soak" in cases:
        network.restart()
        await soak(network, payer, report)
    if "clients" in cases:
        if not quick:
            network.restart()
        payers += (many := await network.payers(clients))
        report.add("many_clients_per_s", await many_clients(network, many, seconds), "1/s")
    payers = [one for one in payers if one.id in network.terms]  # those of the cases that ran
    verified = sum([await network.verify(one) for one in payers])
    await network.redeemed(payers)
    report.add("verified_and_redeemed", verified, "tasks")
    return report


@asynccontextmanager
async def running() -> AsyncIterator[Network]:
    """A devnet of one node, stopped at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "net"
        document = deai(
            "devnet", "up", "--detach", "--nodes", "1", "--dir", str(folder),
        )  # fmt: skip
        try:
            node = document["nodes"][0]
            devnet = opened(Layout(folder), os.environ)
            async with devnet.ledger() as ledger:
                known = await ledger.node(node["node_id"])
            assert known is not None
            operator = known.operator
            network = Network(folder, devnet, NodeId(node["node_id"]), node["home"], operator)
            network.restart()
            yield network
        finally:
            deai("devnet", "down", "--dir", str(folder))


async def transport_alone(seconds: float) -> float:
    """Payloads per second there and back in frames of 64, nothing else: what the wire allows."""
    with transport.serving() as (peer_id, address, _):
        there = PeerAddress(parse_peer(peer_id), (address,))
        async with (
            open_net(Identity.generate()) as net,
            net.dial(there, transport.BYTES, timeout=60) as link,
        ):
            calls, took = 500, 0.0
            while took < seconds:
                calls *= 2
                took = await transport.measure_link(
                    link, IN_FLIGHT // MAX_WINDOW, calls, MAX_WINDOW * len(PAYLOAD)
                )
    return MAX_WINDOW * calls / took


def ray_calls(report: Report, seconds: float) -> None:
    """Ray's figures, where it is installed (`make bench` does it, from `benchmarks/ray.lock`)."""
    if not RAY.exists():
        print(f"Ray is left out: {RAY.parent.parent} is missing, see `make bench`", file=sys.stderr)
        return
    script = Path(__file__).with_name("ray_calls.py")
    done = subprocess.run(
        [str(RAY), str(script), str(seconds)], stdout=subprocess.PIPE, text=True, check=True,
        timeout=600 + 10 * seconds,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    report.parameters["ray"] = found.pop("version")
    for metric, value in found.items():
        report.baseline(f"ray_{metric}", value, "1/s")
    if ours := report.figures.get("map_per_s"):
        report.add("times_ray_actor_calls", ours / found["actor_calls_per_s"], "1")


CASES: Final = ("main", "offered", "strict", "slow", "clients")
LONG_CASES: Final = ("soak",)
"""Only when they are named."""


def main() -> None:
    """Start a network, measure, stop it."""
    flags = parser(__doc__)
    flags.add_argument("--seconds", type=float, help="of each case")
    flags.add_argument(
        "--case", action="append", choices=CASES + LONG_CASES, help="only these; repeatable"
    )
    options = flags.parse_args()
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    clients = QUICK_CLIENTS if options.quick else CLIENTS

    async def run() -> Report:
        async with running() as network:
            cases = set(options.case or CASES)
            return await measure(network, seconds, clients, cases, quick=options.quick)

    report = trio.run(run)
    report.baseline("transport_alone_per_s", trio.run(transport_alone, seconds / 10), "1/s")
    if not options.quick:
        ray_calls(report, seconds / 2)
    report.emit(as_json=options.json)


if __name__ == "__main__":
    main()
