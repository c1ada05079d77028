"""One devnet for all end-to-end tests: separate processes, real chain, real sockets, real torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from tests.support.polling import wait

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 400
"""For anything that must end by itself: of no interest, but not for ever."""
WINDOW = ["--window", "60"]
"""For openings: longer than a loaded machine takes to start a chain again that was killed."""
PASSING = {"no_committee", "no_offer"}
"""Nobody took a task: nodes were slow to answer, or to beat on chain. Nothing was posted."""
BEHAVIOURS = {3: "copycat", 4: "silent", 5: "crasher", 6: "wrong-weights"}
NODES = 7
HONEST = (0, 1, 2)
_BOOKS = """
import json, sys, trio
from pathlib import Path
from devnet.accounts import escrow_difference, read_books
from devnet.layout import Layout
from devnet.network import opened

net, chain = opened(Layout(Path(sys.argv[1])), {}), sys.argv[2]

async def main():
    async with net.ledger("", chain) as ledger:
        books = await read_books(ledger)
        lanes = [(net.account("client", chain), lane) for lane in range(16)]
        owed = await escrow_difference(ledger, books, lanes)
        print(json.dumps([books.difference, owed]))

trio.run(main)
"""


@dataclass
class Network:
    """A running devnet and the commands on it."""

    directory: Path
    environment: dict[str, str]
    document: dict[str, Any]

    def deai(self, *arguments: str, status: int | None = 0, timeout: float = PATIENCE_S) -> Any:
        """Run a command as the client; its JSON document."""
        config = self.document["client"]["config"]
        return self.plain("--config", config, *arguments, status=status, timeout=timeout)

    def plain(self, *arguments: str, status: int | None = 0, timeout: float = PATIENCE_S) -> Any:
        """Run a command as nobody in particular; its JSON document."""
        done = subprocess.run(
            [sys.executable, "-m", "deai", "--json", *arguments],
            capture_output=True, text=True, check=False, timeout=timeout, env=self.environment,
        )  # fmt: skip
        if status is not None:
            assert done.returncode == status, (arguments, done.stdout[-2000:], done.stderr[-3000:])
        return json.loads(done.stdout) if done.stdout.strip() else None

    def devnet(self, *arguments: str, timeout: float = PATIENCE_S) -> Any:
        """A `deai devnet` command on this directory."""
        return self.deai("devnet", *arguments, "--dir", str(self.directory), timeout=timeout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as the client and return its process."""
        return self.spawn("--config", self.document["client"]["config"], *arguments)

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as nobody in particular and return its process."""
        return subprocess.Popen(
            [sys.executable, "-m", "deai", "--json", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip

    def dies(self, call: str, kind: str, *arguments: str) -> None:
        """Run a command that is killed after such a call of its outbox (see `dying`)."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.dying", call, kind, "--json", *arguments],
            capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=ROOT,
            env=self.environment,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, (done.stdout[-2000:], done.stderr[-3000:])

    def node(self, index: int) -> dict[str, Any]:
        """The status of a node of the devnet."""
        found: dict[str, Any] = self.devnet("status")["nodes"][index]
        return found

    def indexed(self, task: str) -> Any:
        """The task as the coordinator has it, once it is completed there; it may be away."""
        items = (self.deai("network", "tasks", status=None) or {}).get("items", [])
        return next(
            (one for one in items if one["task_id"] == task and one["state"] == "completed"), None
        )

    def is_online(self, node: str) -> bool:
        """Whether the coordinator hears a node."""
        found = self.deai("network", "node", node, status=None) or {}
        return bool(found.get("status") == "online")

    def among(self, *indexes: int) -> list[str]:
        """Options that name these nodes as candidates."""
        return [f"--node={self.document['nodes'][index]['node_id']}" for index in indexes]

    def start_until(self, word: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as the client and return its process once it has told of `word`.

        It may be further than that by now, or have ended.
        """
        heard: list[str] = []

        def told() -> subprocess.Popen[str] | None:
            client = self.start(*arguments)
            assert client.stderr is not None
            for line in client.stderr:
                heard.append(line)
                if word in line:
                    return client
            out, _ = client.communicate(timeout=PATIENCE_S)
            assert is_passing(out), f"it never told of {word!r}: {out}{''.join(heard)[-3000:]}"
            return None

        return eventually(told)

    def task(self, *command: str) -> Any:
        """Run a command that submits a task, again while nobody takes it; its document."""

        def taken() -> Any:
            found = self.deai(*command, status=None)
            return None if is_passing(json.dumps(found)) else found

        return eventually(taken)

    def finished(self, client: subprocess.Popen[str]) -> Any:
        """The JSON document of a task's client, which has completed it."""
        out, err = client.communicate(timeout=PATIENCE_S)
        done = json.loads(out) if out.strip() else {}
        assert done.get("state") == "completed", (out, err[-3000:])
        return done

    def books(self, chain: str) -> list[int]:
        """Coins too many on a chain, and those in its escrow that are owed to nobody."""
        out = subprocess.run(
            [sys.executable, "-c", _BOOKS, str(self.directory), chain],
            capture_output=True, text=True, check=True, timeout=PATIENCE_S, env=self.environment,
        ).stdout  # fmt: skip
        found: list[int] = json.loads(out)
        return found

    def submit(self, workload: str, source: Path, *options: str) -> Any:
        """Submit a task and follow it to its end."""
        return self.task("task", "submit", workload, "--input", str(source), *options)


def is_passing(document: str) -> bool:
    """Whether a command says that nobody takes its task now."""
    found = json.loads(document) if document.strip() else {}
    return bool((found.get("error") or {}).get("code") in PASSING)


def eventually(what: Callable[[], T | None]) -> T:
    """Poll another process until `what` is true; its last answer."""
    found = wait(what, PATIENCE_S)
    assert found is not None
    return found


def paid_in_full(document: dict[str, Any]) -> None:
    """The task's money adds up."""
    parts = ("held", "paid", "refunded", "protocol_fee")
    assert int(document["escrowed"]) == sum(int(document[part]) for part in parts)
    assert sum(int(one["amount"]) for one in document["payments"]) == int(document["paid"])


@contextmanager
def devnet(directory: Path, *options: str) -> Iterator[Network]:
    """A devnet that is up; it is down afterwards, also one that never came up."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DEAI_")}
    command, at = [sys.executable, "-m", "deai", "--json", "devnet"], ["--dir", str(directory)]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments, *at],
            capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S, env=environment,
        )  # fmt: skip

    try:
        up = run("up", "--detach", *WINDOW, *options)
        assert up.returncode == 0, up.stdout[-2000:] + up.stderr[-3000:]
        yield Network(directory, environment, json.loads(up.stdout))
    finally:
        down = run("down")
        assert down.returncode == 0, down.stdout[-2000:] + down.stderr[-3000:]


@contextmanager
def daemon(network: Network, home: Path) -> Iterator[dict[str, Any]]:
    """The home's node while it runs; what it wrote once it took work."""
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deai", "node", "run", "--home", str(home)],
            env=network.environment, stdout=log, stderr=log,
        )  # fmt: skip

        def ready() -> Any:
            assert process.poll() is None, (home / "log").read_text()[-3000:]
            with suppress(FileNotFoundError):
                found = json.loads((home / "node.json").read_text())
                return found if found["pid"] == process.pid else None

        try:
            yield eventually(ready)
            process.terminate()
            assert process.wait(timeout=PATIENCE_S) == 0
        finally:
            # The next test has this home for itself, whatever became of this one.
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Seven nodes: three honest ones and four that misbehave each in its way."""
    behaviours = [f"--behaviour={index}={name}" for index, name in BEHAVIOURS.items()]
    pids: list[int] = []
    with devnet(tmp_path_factory.mktemp("devnet"), "--nodes", str(NODES), *behaviours) as running:
        eventually(lambda: running.deai("network", "stats")["active_nodes"] == NODES)
        yield running
        pids += [process["pid"] for process in running.devnet("status")["processes"]]
    assert not [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        # Whoever adopted a process may reap it later: a zombie has ended.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A few lines."""
    path = tmp_path / "texts.txt"
    path.write_text("a cat sat on the mat\na dog barked\nthe stock market fell\n")
    return path


@pytest.fixture
def portfolio(tmp_path: Path) -> Path:
    """Two assets."""
    path = tmp_path / "portfolio.json"
    path.write_text(
        json.dumps(
            {
                "positions": [{"asset": "a", "value": 1000}, {"asset": "b", "value": -400}],
                "assets": [
                    {"name": "a", "drift": 0.05, "volatility": 0.2},
                    {"name": "b", "drift": 0.02, "volatility": 0.3},
                ],
                "correlation": [[1, 0.4], [0.4, 1]],
            }
        )
    )
    return path
