"""Latency of an escrowed task of three seats: from posting to completed.

The embedded chain of Sei (a block every 0.4 s) or of NEAR (every second), three real nodes over
libp2p, locked workers and the real client, each a process of its own (`deai devnet up`). The
baseline is the chain alone: the three transactions that such a task needs, one after the other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import trio

from benchmarks.report import Report, parser
from deai.actions import Deposit, TransferTokens
from deai.client import Client, connect
from deai.ids import NEAR, SEI, AccountId, ChainName
from deai.keys import key_file
from deai.money import UNIT, Amount
from deai.network import load_network

ROUNDS: Final = {SEI: 20, NEAR: 10}
QUICK_ROUNDS: Final = {SEI: 5, NEAR: 2}
FUNDS: Final = Amount(100 * UNIT)
"""In the vault beforehand, as `deai account deposit` does it, so that no task moves any."""
PARAMETERS: Final = {"size": 64, "rounds": 1}
NAMES: Final = {SEI: "escrow_latency", NEAR: "near_escrow_latency"}
BLOCKS: Final = {SEI: ("embedded", 0.4), NEAR: ("near", 1.0)}
"""What is started, and the seconds between its blocks."""


def deai(*arguments: str) -> Any:  # noqa: ANN401 - a command's document
    """Run a command and read its document."""
    start = "from deai.cli.main import main; main()"
    command = [sys.executable, "-c", start, *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return json.loads(done.stdout)


@asynccontextmanager
async def client_of(document: dict[str, Any], chain: ChainName) -> AsyncIterator[Client]:
    """The devnet's own client account."""
    home = Path(document["client"]["config"]).parent
    network = load_network(Path(document["network_file"]))
    key = key_file(home, "client", chain)
    async with connect(network, key=key, home=home, chain=chain) as client:
        yield client


async def one_task(client: Client, seed: int) -> tuple[float, float]:
    """`(from posted to completed, from submitting to completed)` in seconds."""
    began = time.perf_counter()
    handle = await client.submit(
        "matmul-proof", b"", params={**PARAMETERS, "seed": seed}, max_fee=UNIT
    )
    outcome = await handle.wait()
    whole = time.perf_counter() - began
    assert outcome.ok, outcome.document
    timings = outcome.document["timings"]
    return whole - timings["match_ms"] / 1000, whole


async def three_transactions(client: Client, payee: AccountId, number: int) -> float:
    """Seconds for three transactions, each final before the next is sent."""
    began = time.perf_counter()
    for step in range(3):
        action = TransferTokens(payee, Amount(1))
        await client.tools.ledger.submit(action, key=f"baseline {began} {number} {step}")
    return time.perf_counter() - began


async def measure(document: dict[str, Any], chain: ChainName, rounds: int) -> Report:
    """Tasks and bare transactions in turns."""
    parameters = {"rounds": rounds, "seats": 3, "chain": chain, **PARAMETERS}
    report = Report(NAMES[chain], parameters=parameters)
    payee = AccountId(document["nodes"][0]["owner"])
    escrowed, whole, bare = [], [], []
    async with client_of(document, chain) as client:
        await client.tools.ledger.submit(Deposit(FUNDS))
        await one_task(client, 10**6)  # warm: links, workers, lane
        for number in range(rounds):
            settled, total = await one_task(client, number)
            escrowed.append(settled)
            whole.append(total)
            bare.append(await three_transactions(client, payee, number))
    report.add("post_to_completed_p50_s", median(escrowed), "s")
    report.add("post_to_completed_p95_s", quantiles(escrowed, n=20)[-1], "s")
    report.add("submit_to_output_p50_s", median(whole), "s")
    report.baseline("three_transactions_p50_s", median(bare), "s")
    return report


def main(chain: ChainName = SEI) -> None:
    """Start a network, measure, stop it."""
    options = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = str(Path(name) / "net")
        kind, seconds = BLOCKS[chain]
        document = deai(
            "devnet", "up", "--detach", "--nodes", "3", "--dir", folder,
            "--chain", kind, "--block-time", str(seconds),
        )  # fmt: skip
        try:
            rounds = QUICK_ROUNDS[chain] if options.quick else ROUNDS[chain]
            report = trio.run(measure, document, chain, rounds)
        finally:
            deai("devnet", "down", "--dir", folder)
    report.emit(as_json=options.json)


if __name__ == "__main__":
    main()
