"""The daemon as a process: the embedded chain, libp2p, locked workers, signals, two copies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import wait

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1200)]

START = "from deai.cli.main import main; main()"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEAI")}
    fast = {"DEAI_NODE__BEAT_SECONDS": "1", "DEAI_NODE__MIN_LEASE": "5"}
    return {**clean, **fast, "DEAI_NODE__LISTEN_FOR_TWIN": "3", **more}


def deai(*arguments: str, **more: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        command(*arguments, "--json"),
        capture_output=True,
        text=True,
        timeout=400,
        env=environment(**more),
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)


def ready(home: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the daemon wrote once it took work."""

    def written() -> bool:
        assert process.poll() is None, "the daemon ended"
        try:
            return bool(json.loads((home / "node.json").read_text())["pid"] == process.pid)
        except (OSError, ValueError):
            return False

    wait(written)
    found: dict[str, Any] = json.loads((home / "node.json").read_text())
    return found


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A chain, a coordinator and one node."""
    folder = tmp_path_factory.mktemp("devnet")
    try:
        status, document = deai("devnet", "up", "--detach", "--nodes", "1", "--dir", str(folder))
        assert status == 0, document
        yield document
    finally:
        subprocess.run(
            command("devnet", "down", "--wipe", "--dir", str(folder)),
            capture_output=True,
            timeout=300,
            check=False,
        )


@pytest.fixture
def stopped(devnet: dict[str, Any]) -> Iterator[Path]:
    """The home of the devnet's node, its daemon stopped; it is started again afterwards."""
    deai("devnet", "kill", "node-0", "--dir", devnet["dir"])
    yield Path(devnet["nodes"][0]["home"])
    deai("devnet", "start", "node-0", "--dir", devnet["dir"])


def test_the_daemon_is_small_and_its_status_complete(devnet: dict[str, Any]) -> None:
    home = devnet["nodes"][0]["home"]
    status, document = deai("node", "status", "--home", home)
    assert (status, document["problems"]) == (0, [])
    assert document["sandbox"] in ("partial", "full")
    pid = json.loads((Path(home) / "node.json").read_text())["pid"]
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert int(fields["VmRSS"].split()[0]) <= 200 * 1024


def test_a_second_daemon_in_the_same_home_refuses(devnet: dict[str, Any]) -> None:
    status, document = deai("node", "run", "--home", devnet["nodes"][0]["home"])
    assert status == 1
    assert document["error"]["code"] == "already_running"


def test_a_copy_of_the_keys_elsewhere_refuses(devnet: dict[str, Any], tmp_path: Path) -> None:
    home = Path(devnet["nodes"][0]["home"])
    copy = tmp_path / "copy"
    (copy / "keys").mkdir(parents=True, mode=0o700)
    for name in ("registration.json", "network.json"):
        shutil.copy2(home / name, copy / name)
    for key in (home / "keys").iterdir():
        shutil.copy2(key, copy / "keys" / key.name)
    (copy / "keys" / "peer.key").unlink()
    (copy / "keys" / "peer.key").write_bytes(os.urandom(32))
    (copy / "keys" / "peer.key").chmod(0o600)
    status, document = deai(
        "node", "run", "--home", str(copy),
        DEAI_NODE__LISTEN='["/ip4/127.0.0.1/tcp/0"]', DEAI_NODE__LISTEN_FOR_TWIN="15",
    )  # fmt: skip
    assert status == 1
    assert document["error"]["code"] == "another_instance"


def test_a_taken_admin_port_is_named(stopped: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, document = deai(
            "node", "run", "--home", str(stopped), DEAI_NODE__ADMIN=f'"127.0.0.1:{port}"'
        )
    assert status == 3
    assert document["error"]["code"] == "port_taken"
    assert str(port) in document["error"]["message"]


def test_a_taken_peer_port_is_named(devnet: dict[str, Any], stopped: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, document = deai(
            "node", "run", "--home", str(stopped),
            DEAI_NODE__LISTEN=f'["/ip4/127.0.0.1/tcp/{port}"]',
        )  # fmt: skip
    assert status == 3
    assert str(port) in document["error"]["message"]


def test_a_node_is_found_on_the_local_network_when_nothing_else_knows_it(
    devnet: dict[str, Any], stopped: Path, tmp_path: Path
) -> None:
    home = Path(devnet["client"]["config"]).parent
    shutil.copytree(home / "keys", tmp_path / "keys")
    network = json.loads((stopped / "network.json").read_text())
    # No coordinator, no bootstrap peer, and the registry's events begin after the last block.
    network |= {"coordinators": [], "bootstrap": []}
    network["chains"]["sei"]["deployed_at"] = 10**9
    (tmp_path / "network.json").write_text(json.dumps(network))

    def found(**settings: str) -> list[str]:
        status, document = deai(
            "task", "submit", "matmul-proof", "--dry-run", "--home", str(tmp_path), **settings
        )
        assert status in (0, 1), document
        return [one["node_id"] for one in document.get("nodes", [])]

    log = (tmp_path / "log").open("wb")
    daemon = subprocess.Popen(
        command("node", "run", "--home", str(stopped)),
        stderr=log,
        env=environment(DEAI_NODE__MDNS="true"),
    )
    try:
        node = ready(stopped, daemon)["node_id"]
        wait(lambda: b"announced on the local network" in (tmp_path / "log").read_bytes())
        assert found() == []
        wait(lambda: found(DEAI_CLIENT__MDNS="true") == [node], 400)
        daemon.terminate()
        assert daemon.wait(timeout=180) == 0
    finally:
        daemon.kill()
        daemon.wait()
        log.close()


def submitted(book: Path, devnet: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A client with a task of some seconds."""
    return subprocess.Popen(
        command(
            "task", "submit", "portfolio-risk", "--input", str(book), "--policy", "none/1",
            "--param", "paths=4000000", "--max-fee", "1CT", "--json",
            "--config", devnet["client"]["config"],
        ),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip


def test_sigterm_while_working_finishes_the_task_first(
    devnet: dict[str, Any], stopped: Path, tmp_path: Path
) -> None:
    book = tmp_path / "book.json"
    book.write_text(
        json.dumps(
            {
                "positions": [{"asset": "A", "value": 1000}],
                "assets": [{"name": "A", "drift": 0.05, "volatility": 0.2}],
                "correlation": [[1]],
            }
        )
    )
    log = (tmp_path / "log").open("wb")
    daemon = subprocess.Popen(
        command("node", "run", "--home", str(stopped)), stderr=log, env=environment()
    )
    try:
        ready(stopped, daemon)
        client = submitted(book, devnet)

        def working() -> bool:
            nonlocal client
            if client.poll() is not None:
                # Nobody may have heard of the node's new life yet.
                client.communicate()
                client = submitted(book, devnet)
            _, document = deai("node", "status", "--home", str(stopped))
            return bool(document["tasks"]["running"])

        wait(working, 300)
        daemon.send_signal(signal.SIGTERM)
        printed, _ = client.communicate(timeout=400)
        assert json.loads(printed)["state"] == "completed"
        assert daemon.wait(timeout=300) == 0
        assert not (stopped / "node.json").exists()
    finally:
        daemon.kill()
        daemon.wait()
        log.close()
