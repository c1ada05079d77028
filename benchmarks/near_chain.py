"""Contract calls per second through the embedded NEAR chain, over HTTP, into SQLite.

The chain runs as its own process with a block every second and the shipped token contract; signed
`ft_transfer` calls go to it one request each, and the clock stops when the last one is executed.
Signing is not counted. Beside it the same calls handed to the same chain in this process, without
HTTP and without a pace: what serving costs. Rounds take turns; the figure is the median.
"""

import base64
import http.client
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from py_near import transactions as near

from benchmarks.report import Report, parser
from devnet.near.borsh import signed_transaction
from devnet.near.chain import Chain, Grant, Options, open_chain
from devnet.near.keys import key_pair, unbase58
from devnet.near.rules import NEAR, TGAS

CODE: Final = Path(__file__).parent.parent / "deai/chain/artifacts/near/token.wasm"
BLOCK_TIME_S: Final = 1.0
SENDERS: Final = 8
CONNECTIONS: Final = 4
READS: Final = 200
DEADLINE_S: Final = 120.0
TOKEN: Final = "token.near"
FLOOR_CALLS_PER_S: Final = 300  # what the project promises

Json = dict[str, Any]


def main() -> None:
    """Measure and report."""
    options = parser(__doc__)
    options.add_argument("--calls", type=int, default=0, help="per round")
    flags = options.parse_args()
    calls = flags.calls or (600 if flags.quick else 3_000)
    rounds = 1 if flags.quick else 3
    report = Report(
        "near_chain",
        parameters={
            "calls": calls,
            "rounds": rounds,
            "senders": SENDERS,
            "connections": CONNECTIONS,
            "block_time_s": BLOCK_TIME_S,
            "contract_sha256": sha256(CODE.read_bytes()).hexdigest(),
            "floor_calls_per_s": FLOOR_CALLS_PER_S,
        },
    )
    served: list[dict[str, float]] = []
    inside: list[dict[str, float]] = []
    for _ in range(rounds):
        served.append(_served(calls))
        inside.append(_inside(calls))
    units = {"calls_per_s": "1/s", "accepted_per_s": "1/s", "start_s": "s", "view_ms": "ms"}
    for metric, unit in units.items():
        report.add(metric, _median(served, metric), unit)
    for metric in ("calls_per_s", "view_ms"):
        report.baseline(f"in_process_{metric}", _median(inside, metric), units[metric])
    report.emit(as_json=flags.json)


def _median(rounds: list[dict[str, float]], metric: str) -> float:
    return round(statistics.median(one[metric] for one in rounds), 3)


class Senders:
    """Accounts with a key each, and what they sign."""

    def __init__(self) -> None:
        self.names = [f"sender-{number}.near" for number in range(SENDERS)]
        self.keys = {name: key_pair(sha256(name.encode()).digest()) for name in self.names}
        self.keys[TOKEN] = key_pair(sha256(TOKEN.encode()).digest())
        self._nonces = {name: count(1) for name in self.keys}

    def genesis(self) -> dict[str, Grant]:
        return {name: Grant(10_000 * NEAR, (key[1],)) for name, key in self.keys.items()}

    def sign(self, signer: str, actions: list[Any], block_hash: bytes) -> str:
        signed = near.sign_and_serialize_transaction(
            signer, self.keys[signer][0], TOKEN, next(self._nonces[signer]), actions, block_hash
        )
        return str(signed)

    def preparation(self, block_hash: bytes) -> list[str]:
        """Deploys the contract and gives every sender tokens."""
        owner = {"holder": self.names[0], "supply": str(10**27)}
        first = [near.create_deploy_contract_action(CODE.read_bytes()), _call("new", owner)]
        paid = [
            _call("storage_deposit", {"account_id": name}, deposit=NEAR // 100)
            for name in self.names
        ]
        given = [
            _call("ft_transfer", {"receiver_id": name, "amount": str(10**20)}, deposit=1)
            for name in self.names[1:]
        ]
        return [
            self.sign(TOKEN, first, block_hash),
            self.sign(self.names[0], paid[1:], block_hash),
            self.sign(self.names[0], given, block_hash),
        ]

    def transfers(self, calls: int, block_hash: bytes) -> list[str]:
        signed: list[str] = []
        for number in range(calls):
            signer = self.names[number % SENDERS]
            receiver = self.names[(number + 1) % SENDERS]
            moved = {"receiver_id": receiver, "amount": "1"}
            action = _call("ft_transfer", moved, deposit=1)
            signed.append(self.sign(signer, [action], block_hash))
        return signed


def _call(method: str, arguments: Json, *, deposit: int = 0) -> Any:  # noqa: ANN401 - Rust's class
    body = json.dumps(arguments).encode()
    return near.create_function_call_action(method, body, 10 * TGAS, deposit)


def _served(calls: int) -> dict[str, float]:
    senders = Senders()
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        with _running(Path(directory), senders) as url:
            start = time.perf_counter() - began
            client = Client(url)
            block_hash = client.block_hash()
            for raw in senders.preparation(block_hash):
                _succeeded(client.ask("broadcast_tx_commit", [raw]))
            view_ms = _view_ms(lambda: client.view(senders.names[0]))
            signed = senders.transfers(calls, block_hash)
            last = signed[-SENDERS:]
            began = time.perf_counter()
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                # Each sender's transactions stay with one connection, so that they arrive in order.
                shares = [
                    [raw for at, raw in enumerate(signed) if at % SENDERS % CONNECTIONS == share]
                    for share in range(CONNECTIONS)
                ]
                list(pool.map(lambda share: Client(url).send_all(share), shares))
            accepted = time.perf_counter() - began
            for raw in last:
                Client(url).wait_for(raw)
            executed = time.perf_counter() - began
    return {
        "calls_per_s": calls / executed,
        "accepted_per_s": calls / accepted,
        "start_s": start,
        "view_ms": view_ms,
    }


def _inside(calls: int) -> dict[str, float]:
    senders = Senders()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chain.sqlite"
        chain = open_chain(path, Options(), senders.genesis())
        try:
            for raw in senders.preparation(chain.head.hash):
                _submit(chain, raw)
                chain.settle()
            view_ms = _view_ms(lambda: _viewed(chain, senders.names[0]))
            signed = senders.transfers(calls, chain.head.hash)
            began = time.perf_counter()
            for raw in signed:
                _submit(chain, raw)
            chain.settle()
            executed = time.perf_counter() - began
        finally:
            chain.store.close()
    return {"calls_per_s": calls / executed, "view_ms": view_ms}


def _submit(chain: Chain, raw: str) -> None:
    chain.submit(signed_transaction(base64.b64decode(raw)))


def _viewed(chain: Chain, name: str) -> None:
    body = json.dumps({"account_id": name}).encode()
    outcome = chain.view(chain.state, chain.head, TOKEN, "ft_balance_of", body)
    if outcome is None or outcome.failure is not None:
        raise SystemExit(f"a view failed: {outcome}")


class Refused(SystemExit):
    """The chain answered with an error: the measurement is worth nothing."""


class Client:
    """The least that talks to the chain: one connection, one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=DEADLINE_S
        )

    def ask(self, method: str, params: object) -> Any:  # noqa: ANN401 - JSON
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._connection.request("POST", "/", body)
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            raise Refused(f"{method}: {answer['error']}")
        return answer["result"]

    def wait_for(self, raw: str) -> None:
        """Wait until a transaction is executed; the chain lets nobody wait longer than 10 s."""
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                asked = {"signed_tx_base64": raw, "wait_until": "EXECUTED"}
                return _succeeded(self.ask("tx", asked))
            except Refused as refused:
                if "TIMEOUT_ERROR" not in str(refused) or time.monotonic() > until:
                    raise

    def block_hash(self) -> bytes:
        return unbase58(self.ask("block", {"finality": "final"})["header"]["hash"], 32)

    def send_all(self, signed: list[str]) -> None:
        for raw in signed:
            self.ask("broadcast_tx_async", [raw])

    def view(self, name: str) -> None:
        body = base64.b64encode(json.dumps({"account_id": name}).encode()).decode()
        query = {"request_type": "call_function", "account_id": TOKEN, "finality": "final"}
        found = self.ask("query", {**query, "method_name": "ft_balance_of", "args_base64": body})
        if "error" in found:
            raise SystemExit(f"a view failed: {found}")


def _view_ms(view: Callable[[], None]) -> float:
    times: list[float] = []
    for _ in range(READS):
        began = time.perf_counter()
        view()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _succeeded(result: Json) -> None:
    if "SuccessValue" not in result["status"]:
        raise SystemExit(f"a call failed: {result['status']}")


@contextmanager
def _running(directory: Path, senders: Senders) -> Iterator[str]:
    genesis = directory / "genesis.json"
    genesis.write_text(
        json.dumps(
            {
                name: {"amount": str(grant.amount), "public_keys": grant.public_keys}
                for name, grant in senders.genesis().items()
            }
        )
    )
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "devnet.near", "--dir", str(directory), "--genesis", str(genesis)),
            *("--block-time", str(BLOCK_TIME_S)),
        ]
    )
    try:
        until = time.monotonic() + DEADLINE_S
        ready = directory / "ready.json"
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the chain did not start")
            time.sleep(0.01)
        yield json.loads(ready.read_text())["rpc_url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=DEADLINE_S)


if __name__ == "__main__":
    main()
