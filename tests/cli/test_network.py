"""`deai network` asks for what was meant: all chains, or the one that the command names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.network


NODE = "0x" + "5f" * 32
STATS = {
    "active_nodes": 0, "nodes_by_state": {"joining": 1}, "pending_tasks": 0,
    "tasks_by_state": {"pending": 0}, "throughput": 0.0, "total_staked": "1000000000000000000",
    "total_rewards_distributed": "0", "slashed": "0", "min_stake": "0", "as_of": "now",
    "chains": {"sei": {"head": None, "lag_s": None}},
}  # fmt: skip
STATUS = {
    "node_id": NODE, "state": "active", "status": "online", "owner": "0x5f", "peer_id": "12D3",
    "stake": "5", "reputation": 100.0, "completed": 1, "failed": 0, "earned": "7", "slashed": "0",
    "last_heartbeat": None, "workloads": [{"workload": "embedding"}],
    "bound": {"node_id": "alice.near#0", "chain": "near", "standing": "active"},
}  # fmt: skip
DOCUMENTS: dict[tuple[str, ...], dict[str, Any]] = {
    ("stats",): STATS,
    ("health",): {"status": "ok", "checks": [{"name": "n", "ok": True, "detail": ""}], "as_of": ""},
    ("node", NODE): STATUS,
    ("nodes",): {"items": [STATUS], "next_cursor": None},
    ("tasks",): {
        "items": [
            {"task_id": "0x5", "state": "failed", "policy": "exact/1", "escrowed": "1", "paid": "0"}
        ],
        "next_cursor": None,
    },
    ("channels",): {
        "items": [
            {
                "channel_id": "0x5",
                "node_id": NODE,
                "client": "0x5f",
                "state": "open",
                "deposit": "9",
                "claimed": "4",
                "remaining": "5",
            }
        ],
        "next_cursor": None,
    },
}


class Scribe(BaseHTTPRequestHandler):
    """A coordinator that notes what it was asked and says what it was told to."""

    asked: list[tuple[str, dict[str, list[str]]]]
    answer: Any
    status = 200

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.asked.append((url.path, parse_qs(url.query)))
        body = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def coordinator() -> Iterator[str]:
    Scribe.asked, Scribe.answer = [], {"items": [], "next_cursor": None}
    with HTTPServer(("127.0.0.1", 0), Scribe) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_channels_are_asked_for_of_one_node_and_one_client(shell: Shell, coordinator: str) -> None:
    client = "0x" + "AB" * 20
    narrowed = ("--node", NODE, "--client", client, "--chain", "sei")
    assert shell("network", "channels", "--coordinator", coordinator, *narrowed).status == 0
    (asked,) = Scribe.asked
    path, query = asked
    assert path == "/api/v1/channels"
    assert {name: query[name] for name in ("node", "client", "chain")} == {
        "node": [NODE], "client": [client.lower()], "chain": ["sei"],
    }  # fmt: skip


@pytest.mark.parametrize("what", ["nodes", "tasks", "channels"])
def test_a_list_is_of_all_chains_unless_one_is_named(
    shell: Shell, coordinator: str, what: str
) -> None:
    for chosen in ([], ["--chain", "near"], ["--chain", "sei"]):
        done = shell.json("network", what, "--coordinator", coordinator, *chosen)
        assert done.document == {"items": [], "next_cursor": None}

    (first, near, sei) = Scribe.asked
    assert first[0].endswith(f"/{what}")
    assert "chain" not in first[1]
    assert (near[1]["chain"], sei[1]["chain"]) == (["near"], ["sei"])


@pytest.mark.parametrize(
    ("what", "name", "odd"),
    [
        (("stats",), "chains", ["sei"]),
        (("stats",), "nodes_by_state", []),
        (("stats",), "total_staked", "a lot"),
        (("stats",), "min_stake", "-1"),
        (("node", NODE), "workloads", [None]),
        (("node", NODE), "reputation", "good"),
        (("node", NODE), "bound", []),
        (("health",), "checks", "fine"),
        (("nodes",), "items", [{**STATUS, "stake": 5}]),
        (("tasks",), "items", [[]]),
        (("channels",), "items", [{"channel_id": "0x5"}]),
        (("stats",), "channels", {"open": 1}),
    ],
)
def test_a_coordinators_word_of_another_kind_is_no_traceback(
    shell: Shell, coordinator: str, what: tuple[str, ...], name: str, odd: object
) -> None:
    Scribe.answer = {**DOCUMENTS[what], name: odd}
    done = shell("network", *what, "--coordinator", coordinator)
    assert done.status == 1
    assert "is no coordinator" in done.err


def test_a_chain_that_was_never_heard_is_said_to_be_that(shell: Shell, coordinator: str) -> None:
    Scribe.answer = STATS
    done = shell("network", "stats", "--coordinator", coordinator)
    assert "sei  not followed yet" in done.out


def test_a_node_to_which_others_lend_says_what_they_do(shell: Shell, coordinator: str) -> None:
    unit = 10**18
    pool = {
        "manager": "0x5f", "state": "open", "commission_bps": 1250, "own": str(2 * unit),
        "delegated": str(3 * unit), "room": str(15 * unit), "shares": "1",
    }  # fmt: skip
    for answer in (STATUS, {**STATUS, "pool": None}):
        Scribe.answer = answer
        assert "Pool" not in shell("network", "node", NODE, "--coordinator", coordinator).out
    Scribe.answer = {**STATUS, "pool": pool}
    done = shell("network", "node", NODE, "--coordinator", coordinator)
    assert "commission 12.5 %, 2.000000 CT by the manager, 3.000000 CT by others" in done.out


def test_nothing_that_a_coordinator_says_moves_what_is_on_the_screen(
    shell: Shell, coordinator: str
) -> None:
    evil = "\x1b]52;c;eA==\x07\x1b[2J\u202e\n● completed\r"
    for what, field in (("stats",), "as_of"), (("health",), "as_of"), (("node", NODE), "state"):
        Scribe.answer = {**DOCUMENTS[what], field: evil}
        done = shell("network", *what, "--coordinator", coordinator)
        assert done.status == 0
        assert not set(done.out) & set("\x1b\x07\r\u202e")
    Scribe.answer = {"items": [{**STATUS, "status": evil}], "next_cursor": None}
    assert not set(shell("network", "nodes", "--coordinator", coordinator).out) & set("\x1b\r")
    Scribe.answer = {**STATUS, "owner": evil}
    done = shell("network", "node", NODE, "--coordinator", coordinator)
    assert not any(line.startswith("● completed") for line in done.out.splitlines())
    Scribe.answer = {"detail": evil}
    with Refusing():
        done = shell("network", "stats", "--coordinator", coordinator)
    assert len(done.err.splitlines()) == 2
    assert "\x1b" not in done.err


class Refusing:
    """While inside, the coordinator answers with a refusal."""

    def __enter__(self) -> None:
        Scribe.status = 400

    def __exit__(self, *_: object) -> None:
        Scribe.status = 200
