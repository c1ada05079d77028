"""Transfers per second through the embedded EVM chain, with anvil beside it.

Each chain runs as its own process with blocks every 0.4 s; signed transfers go to it over HTTP in
batches of 100, and the clock stops when the last one has a receipt. Signing is not counted. Both
chains are measured in the same run, one after the other, round by round; the figure is the median.
"""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from benchmarks.report import Report, parser
from deai.errors import NotSetUp
from devnet.evm.anvil import find_anvil
from devnet.evm.rules import GWEI, SEI_LOCAL_CHAIN_ID

BATCH: Final = 100
SENDERS: Final = 4
DEADLINE_S: Final = 120.0
BLOCK_TIME_S: Final = 0.4
RECEIVER: Final = "0x000000000000000000000000000000000000dEaD"
READS: Final = 200
FLOOR_TRANSFERS_PER_S: Final = 300  # what the project promises


def main() -> None:
    """Measure and report."""
    options = parser(__doc__)
    options.add_argument("--transfers", type=int, default=0, help="per round")
    flags = options.parse_args()
    transfers = flags.transfers or (1_000 if flags.quick else 4_000)
    rounds = 1 if flags.quick else 3
    report = Report(
        "embedded_chain",
        parameters={
            "transfers": transfers,
            "rounds": rounds,
            "batch": BATCH,
            "senders": SENDERS,
            "block_time_s": BLOCK_TIME_S,
            "floor_transfers_per_s": FLOOR_TRANSFERS_PER_S,
        },
    )
    try:
        anvil = find_anvil()
    except NotSetUp as missing:
        anvil = None
        report.parameters["anvil"] = f"{missing}. {missing.hint}"
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(rounds):
        ours.append(_round("devnet.evm", transfers))
        if anvil is not None:
            theirs.append(_round("devnet.evm.anvil", transfers))
    units = {"transfers_per_s": "1/s", "accepted_per_s": "1/s", "start_s": "s", "read_ms": "ms"}
    for metric, unit in units.items():
        report.add(metric, _median(ours, metric), unit)
        if theirs:
            report.baseline(f"anvil_{metric}", _median(theirs, metric), unit)
    report.emit(as_json=flags.json)


def _median(rounds: list[dict[str, float]], metric: str) -> float:
    return round(statistics.median(one[metric] for one in rounds), 3)


def _round(module: str, transfers: int) -> dict[str, float]:
    senders: list[LocalAccount] = [
        Account.from_key((number + 1).to_bytes(32, "big")) for number in range(SENDERS)
    ]
    signed = [_transfer(senders[at % SENDERS], at // SENDERS) for at in range(transfers)]
    with tempfile.TemporaryDirectory() as directory:
        genesis = Path(directory) / "genesis.json"
        genesis.write_text(json.dumps({sender.address: str(10**22) for sender in senders}))
        began = time.perf_counter()
        with _running(module, Path(directory), genesis) as url:
            start = time.perf_counter() - began
            with httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
                read_ms = _read_ms(client)
                began = time.perf_counter()
                last = _send_all(client, signed)
                accepted = time.perf_counter() - began
                _wait_for(client, last)
                mined = time.perf_counter() - began
    return {
        "transfers_per_s": transfers / mined,
        "accepted_per_s": transfers / accepted,
        "start_s": start,
        "read_ms": read_ms,
    }


@contextmanager
def _running(module: str, directory: Path, genesis: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", module, "--dir", str(directory), "--genesis", str(genesis)),
            *("--block-time", str(BLOCK_TIME_S)),
        ]
    )
    try:
        until = time.monotonic() + DEADLINE_S
        ready = directory / "ready.json"
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{module} did not start")
            time.sleep(0.01)
        yield json.loads(ready.read_text())["rpc_url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=DEADLINE_S)


def _transfer(sender: LocalAccount, nonce: int) -> str:
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": SEI_LOCAL_CHAIN_ID,
        "nonce": nonce,
        "to": RECEIVER,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 500 * GWEI,
        "maxPriorityFeePerGas": 0,
    }
    return "0x" + bytes(sender.sign_transaction(transaction).raw_transaction).hex()


def _request(method: str, *params: object, identity: int = 0) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}


def _read_ms(client: httpx.Client) -> float:
    times: list[float] = []
    for _ in range(READS):
        began = time.perf_counter()
        client.post("/", json=_request("eth_blockNumber"))
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _send_all(client: httpx.Client, signed: list[str]) -> list[str]:
    """Send everything; returns the hash of every sender's last transfer."""
    hashes: list[str] = []
    for first in range(0, len(signed), BATCH):
        batch = [
            _request("eth_sendRawTransaction", raw, identity=at)
            for at, raw in enumerate(signed[first : first + BATCH])
        ]
        answers = sorted(client.post("/", json=batch).json(), key=lambda answer: answer["id"])
        refused = [answer for answer in answers if "error" in answer]
        if refused:
            raise SystemExit(f"a transfer was refused: {refused[0]['error']}")
        hashes += [answer["result"] for answer in answers]
    return hashes[-SENDERS:]


def _wait_for(client: httpx.Client, hashes: list[str]) -> None:
    until = time.monotonic() + DEADLINE_S
    batch = [
        _request("eth_getTransactionReceipt", one, identity=at) for at, one in enumerate(hashes)
    ]
    while True:
        answers = client.post("/", json=batch).json()
        if all(answer.get("result") for answer in answers):
            if any(answer["result"]["status"] != "0x1" for answer in answers):
                raise SystemExit("a transfer failed")
            return
        if time.monotonic() > until:
            raise SystemExit("the transfers were not mined in time")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
