"""Memory and descriptors of a node daemon: idle, after many tasks, after many reconnects.

The daemon is `deai node run` in a devnet of its own, with its real chain, coordinator, libp2p and
locked workers; what is counted is the daemon's process alone. Small tasks flow through it, then
strangers and one returning peer connect, ask for its offer and leave. A daemon that leaks shows
more of something at the end than it did after the first tenth of the tasks.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import trio

from benchmarks.report import Report, parser
from deai.actions import Deposit
from deai.client.access import connect
from deai.client.client import Client
from deai.ids import parse_peer
from deai.messages import TASK_DIALECT, AskOffer, OfferReply
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from devnet import launcher
from devnet.layout import Layout, make_plan
from node import logs
from node.admin.client import call
from node.home import Home
from p2p.identity import Identity
from p2p.net import open_net

TASKS: Final = 1_000
QUICK_TASKS: Final = 20
RECONNECTS: Final = 200
QUICK_RECONNECTS: Final = 6
IN_FLIGHT: Final = 4
"""Tasks at once: no more than a devnet's node accepts."""
TASK_S: Final = 120.0
VAULT: Final = Amount(5_000 * UNIT)
SETTLE_S: Final = 10.0
QUICK_SETTLE_S: Final = 3.0
PATIENCE_S: Final = 120.0
CEILING_MIB: Final = 200  # what the project promises


class Sample(msgspec.Struct, frozen=True):
    """One look at the daemon's process."""

    rss_mib: float
    descriptors: int
    threads: int
    children: int


async def measure(root: Path, tasks: int, reconnects: int, settle: float) -> dict[str, Any]:
    """The daemon's samples by moment, and seconds taken."""
    layout = Layout(root)
    samples: dict[str, Any] = {}
    numbers = iter(range(tasks))
    with layout.locked():
        try:
            plan = make_plan("embedded", 1, "footprint", {})
            net = await launcher.up(layout, plan, os.environ, tied=True, tell=_say_nothing)
            home = Home(layout.node("node-0"))
            ready = home.load_ready()
            assert ready is not None
            node = PeerAddress(parse_peer(ready["peer_id"]), tuple(ready["addresses"]))
            key = net.signer("client")
            async with connect(net.network, key=key, home=root / "benchmark") as client:
                await client.tools.ledger.submit(Deposit(VAULT))
                await compute(client, numbers, 1)  # the first connection and worker
                samples["idle"] = await sample(home, ready["pid"], settle)
                await compute(client, numbers, tasks // 10 - 1)
                samples["early"] = await sample(home, ready["pid"], settle)
                began = time.perf_counter()
                await compute(client, numbers, tasks - tasks // 10)
                samples["seconds"] = time.perf_counter() - began
                samples["late"] = await sample(home, ready["pid"], settle)
                await reconnect(node, reconnects)
                samples["reconnected"] = await sample(home, ready["pid"], settle)
        finally:
            with trio.CancelScope(shield=True):
                await launcher.down(layout)
    return samples


async def compute(client: Client, numbers: Iterator[int], count: int) -> None:
    """Carry `count` small tasks to their settlement, some at a time."""
    taken = iter(range(count))

    async def one_by_one() -> None:
        for _ in taken:
            with trio.fail_after(TASK_S):
                handle = await client.submit(
                    "matmul-proof",
                    params={"size": 16, "rounds": 1, "seed": next(numbers)},
                    policy="none/1",
                    max_fee=UNIT,
                )
                outcome = await handle.wait()
            if not outcome.ok:
                raise SystemExit(f"a task ended {outcome.state}: {outcome.document['detail']}")

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(one_by_one)


async def reconnect(node: PeerAddress, count: int) -> None:
    """Connect, ask, leave; in turns a peer that was never there and one that always returns."""
    regular = Identity.generate()
    for number in range(count):
        async with (
            open_net(regular if number % 2 else Identity.generate()) as net,
            net.dial(node, TASK_DIALECT, timeout=60) as link,
        ):
            await link.send(AskOffer())
            with trio.fail_after(60):
                while not isinstance(await link.receive(), OfferReply):
                    pass


async def sample(home: Home, pid: int, seconds: float) -> Sample:
    """Wait until the daemon has no task left, then take the least that it holds for a while."""
    with trio.fail_after(PATIENCE_S):
        while (await trio.to_thread.run_sync(call, home, "GET", "/status"))["tasks"]["accepted"]:
            await trio.sleep(0.2)
    process = psutil.Process(pid)
    looks = []
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        await trio.sleep(0.25)
        looks.append(
            Sample(
                process.memory_info().rss / 2**20,
                process.num_fds(),
                process.num_threads(),
                len(process.children(recursive=True)),
            )
        )
    metrics = zip(*map(msgspec.structs.astuple, looks), strict=True)
    return Sample(*(min(values) for values in metrics))


def main() -> None:
    """Measure and report."""
    options = parser(__doc__).parse_args()
    tasks = QUICK_TASKS if options.quick else TASKS
    reconnects = QUICK_RECONNECTS if options.quick else RECONNECTS
    settle = QUICK_SETTLE_S if options.quick else SETTLE_S
    logs.set_up("warning")  # stdout belongs to the report
    with tempfile.TemporaryDirectory() as place:
        samples = trio.run(measure, Path(place) / "net", tasks, reconnects, settle)
    report = Report(
        "node_footprint",
        parameters={
            "tasks": tasks,
            "tasks_early": tasks // 10,
            "reconnects": reconnects,
            "in_flight": IN_FLIGHT,
            "ceiling_rss_mib": CEILING_MIB,
        },
    )
    units = {"rss_mib": "MiB", "descriptors": "1", "threads": "1", "children": "1"}
    for metric, unit in units.items():
        for moment in ("idle", "late", "reconnected"):
            report.add(f"{metric}_{moment}", getattr(samples[moment], metric), unit)
        report.baseline(f"{metric}_early", getattr(samples["early"], metric), unit)
        grown = getattr(samples["reconnected"], metric) - getattr(samples["early"], metric)
        report.add(f"{metric}_grown", grown, unit)
    report.add("tasks_per_s", (tasks - tasks // 10) / samples["seconds"], "1/s")
    report.emit(as_json=options.json)


def _say_nothing(_step: str, _outcome: str) -> None:
    pass


if __name__ == "__main__":
    main()
