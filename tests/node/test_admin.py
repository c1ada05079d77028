"""The local HTTP interface, over a real loopback socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from deai.errors import ConfigError
from node.admin.server import bind, ensure_token, read_token, serve_admin, url_of
from node.daemon import Mode
from node.state import Node
from tests.node.support.names import until
from tests.node.support.world import Provider, open_world

pytestmark = pytest.mark.network


@asynccontextmanager
async def admin(tmp_path: Path) -> AsyncIterator[tuple[Provider, Node, httpx.AsyncClient]]:
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        provider = await world.provider("node-0")
        bound = bind("127.0.0.1:0")
        url = url_of(bound)
        await nursery.start(serve_admin, provider.whole, bound, "secret")
        headers = {"authorization": "Bearer secret"}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, trust_env=False, timeout=60
        ) as client:
            yield provider, provider.live, client
        nursery.cancel_scope.cancel()


async def test_status_has_every_field_that_others_rely_on(tmp_path: Path) -> None:
    async with admin(tmp_path) as (provider, _node, http):
        document = (await http.get("/status")).json()
        assert document["node_id"] == provider.node_id
        assert document["state"] == "running"
        assert {
            "node_id", "state", "version", "chains", "peers", "stake", "reputation", "tasks",
            "balance", "workers", "sandbox", "last_heartbeat_seen", "problems",
        } <= set(document)  # fmt: skip
        assert {"running", "paid", "pending", "failed"} <= set(document["tasks"])
        assert isinstance(document["stake"], str)
        assert isinstance(document["balance"]["vault"], str)


async def test_a_status_part_that_fails_leaves_the_rest(tmp_path: Path) -> None:
    async with admin(tmp_path) as (provider, _node, http):
        provider.world.chain.set_reachable(False)
        document = (await http.get("/status")).json()
        assert document["balance"] == {"error": "ledger_unreachable"}
        assert document["state"] == "running"


async def test_why_tasks_and_earnings_answer(tmp_path: Path) -> None:
    async with admin(tmp_path) as (provider, node, http):
        client = await provider.world.client()
        task, spec = client.make(b"hello", fee=type(client.make(b"x")[0].fee)(1_000))
        await client.propose(provider, task, spec)
        reasons = (await http.get("/why")).json()["reasons"]
        assert [(one["code"], one["count"]) for one in reasons] == [("price", 1)]
        assert reasons[0]["hint"]
        assert (await http.get("/tasks")).json() == {"items": [], "next_cursor": None}
        earnings = (await http.get("/earnings")).json()
        assert earnings["paid"] == "0"
        assert node.counters["proposals"] == 1


async def test_every_metric_has_its_row_in_the_documentation(tmp_path: Path) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    async with admin(tmp_path) as (_provider, _node, http):
        text = (await http.get("/metrics")).text
        names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        assert len(names) > 15
        for name in names:
            assert f"`{name}`" in documented, f"{name} is not in docs/metrics.md"


async def test_orders_change_the_mode(tmp_path: Path) -> None:
    async with admin(tmp_path) as (_provider, node, http):
        assert (await http.post("/pause", json={"for_s": 3600})).json()["until"]
        assert mode_of(node) is Mode.PAUSED
        assert (await http.post("/resume")).json() == {"state": "running"}
        assert mode_of(node) is Mode.RUNNING
        assert (await http.post("/drain")).json() == {"state": "draining"}
        assert node.daemon.stop.is_set()


def mode_of(node: Node) -> Mode:
    """Read anew: a request changes it behind the type checker's back."""
    return node.mode


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"for_s": -1}', b'{"for_s": true}', b"x", b" " * 5000, b"[" * 4000]
)
async def test_a_pause_of_nonsense_is_refused(tmp_path: Path, body: bytes) -> None:
    async with admin(tmp_path) as (_provider, node, http):
        assert (await http.post("/pause", content=body)).status_code == 400
        assert node.mode is Mode.RUNNING


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "secret"}, 401),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:80"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
    ],
)
async def test_others_are_turned_away(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async with admin(tmp_path) as (_provider, node, http):
        for method, path in (("GET", "/status"), ("POST", "/drain"), ("GET", "/nothing")):
            answer = await http.request(method, path, headers=headers)
            assert answer.status_code == status
        assert not node.daemon.stop.is_set()


async def test_a_pause_ends_by_itself(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        provider.whole.pause(60)
        assert mode_of(provider.live) is Mode.PAUSED
        await until(lambda: provider.live.mode is Mode.RUNNING, seconds=70)


def test_a_port_that_is_taken_is_named() -> None:
    held = bind("127.0.0.1:0")
    port = held.getsockname()[1]
    with pytest.raises(ConfigError, match=str(port)) as caught:
        bind(f"127.0.0.1:{port}")
    assert caught.value.reason_code == "port_taken"
    held.close()


def test_the_token_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    token = ensure_token(path)
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_token(path) == token
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others"):
        read_token(path)
    path.chmod(0o600)
    for damaged in (b"", b"\n", b"short\n", b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="no token") as caught:
            ensure_token(path)
        assert "delete it" in caught.value.hint
