"""The API of a coordinator that was really started, over real sockets."""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pydantic
import pytest
import trio

from coordinator.api import models
from coordinator.api.app import OPENAPI_FILE, Web, openapi
from coordinator.api.server import bind
from coordinator.metrics import Metrics
from coordinator.store.reader import Reader
from coordinator.store.rows import Row
from coordinator.store.store import Store
from deai.ids import SEI, ChannelId
from deai.messages import BEAT_DIALECT, PublishBeat, PublishOffer
from deai.money import UNIT
from deai.net import PeerAddress
from deai.offers import Signed, open_offer
from tests.coordinator.support import REGISTRY, Running, make_beat, make_offer, peer, running
from tests.coordinator.world import Chain, account
from tests.support.polling import eventually

pytestmark = pytest.mark.network


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Running]:
    chain = Chain(3)
    chain.run(400)
    chain.pool(chain.nodes[1])
    async with running(tmp_path, chain) as started:
        await started.settle()
        yield started


async def test_every_answer_is_what_the_description_promises(coordinator: Running) -> None:
    get = coordinator.get
    models.NetworkStats.model_validate(await get("/api/v1/network/stats"))
    models.NetworkHealth.model_validate(await get("/api/v1/network/health"))
    models.NodesStats.model_validate(await get("/api/v1/nodes/stats"))
    models.Ready.model_validate(await get("/ready"))
    models.Alive.model_validate(await get("/health"))
    nodes = models.NodePage.model_validate(await get("/api/v1/nodes", limit=2))
    node = await get(f"/api/v1/nodes/{nodes.items[0].node_id}/status")
    models.NodeStatus.model_validate(node)
    assert sum(int(day["earned"]) for day in node["by_day"]) == int(node["earned"])
    for task in (await get("/api/v1/tasks", limit=100))["items"]:
        models.TaskSummary.model_validate(task)
        shown = models.Task.model_validate(await get(f"/api/v1/tasks/{task['task_id']}"))
        assert int(shown.escrowed) == sum(
            int(part) for part in (shown.held, shown.paid, shown.refunded, shown.protocol_fee)
        )
        assert sum(int(one.amount) for one in shown.payments) == int(shown.paid)
        assert shown.transactions


async def test_channels_and_their_sums_are_the_same_everywhere(coordinator: Running) -> None:
    page = models.ChannelPage.model_validate(await coordinator.get("/api/v1/channels", limit=500))
    made = {one.id: one for one in coordinator.chain.channels}
    assert {one.channel_id for one in page.items} == set(made)
    for one in page.items:
        known = made[ChannelId(one.channel_id)]
        assert (one.epoch, one.node_id) == (known.epoch, known.channel.node)
        assert int(one.remaining) == known.deposit - known.claimed
        assert int(one.deposit) == int(one.claimed) + int(one.refunded) + int(one.remaining)
    stats = models.NetworkStats.model_validate(await coordinator.get("/api/v1/network/stats"))
    nodes = models.NodePage.model_validate(await coordinator.get("/api/v1/nodes", limit=500))
    for name in ("open", "closing", "closed"):
        of_nodes = [getattr(node.channels, name) for node in nodes.items]
        assert getattr(stats.channels, name) == sum(of_nodes)
        assert getattr(stats.channels, name) == sum(one.state == name for one in page.items)
    for name in ("deposited", "redeemed", "returned", "held"):
        of_nodes = [int(getattr(node.channels, name)) for node in nodes.items]
        assert int(getattr(stats.channels, name)) == sum(of_nodes)
    assert int(stats.channels.redeemed) == sum(int(one.redeemed) for one in page.items) > 0
    assert int(stats.channels.held) == sum(int(one.remaining) for one in page.items)
    both = int(stats.paid) + int(stats.channels.redeemed)
    assert int(stats.total_rewards_distributed) == both


async def test_a_node_tells_what_whoever_might_lend_it_stake_asks(coordinator: Running) -> None:
    chain = coordinator.chain
    nodes = models.NodePage.model_validate(await coordinator.get("/api/v1/nodes", limit=500))
    pools = {one.node_id: one.pool for one in nodes.items if one.pool is not None}
    assert set(pools) == {chain.nodes[1]}
    pool = pools[chain.nodes[1]]
    status = await coordinator.get(f"/api/v1/nodes/{chain.nodes[1]}/status")
    assert models.NodeStatus.model_validate(status).pool == pool
    stake = 1000 * UNIT
    shares, assets = 3 * stake + stake // 12, 5 * stake - stake * 6 // 5
    own_shares = stake + stake // 12 - stake // 4
    own = own_shares * assets // shares
    assert (pool.manager, pool.number, pool.state) == (account(7001), "2", "open")
    assert (pool.commission_bps, pool.next_commission_bps) == (1_000, 500)
    starts = dt.datetime.fromisoformat(pool.next_commission_at or "").timestamp()
    assert starts == (chain.time // 60 + 2) * 60
    assert (pool.shares, pool.assets) == (str(shares), str(assets))
    assert (pool.own, pool.delegated) == (str(own), str(assets - own))
    room = (10 * own_shares - (shares - stake // 4)) * assets // shares
    assert (pool.room, pool.queued_shares) == (str(room), str(stake // 4))
    assert pool.worth_of_1000_shares == str(1_000 * UNIT * assets // shares)
    assert (pool.leaving, pool.income, pool.paid_out) == (str(stake * 6 // 5), str(stake), "0")
    assert pool.matures_at is not None


async def test_channels_can_be_narrowed(coordinator: Running) -> None:
    whole = (await coordinator.get("/api/v1/channels", limit=500))["items"]
    for name, field in (("node", "node_id"), ("client", "client"), ("state", "state")):
        wanted = whole[0][field]
        found = (await coordinator.get("/api/v1/channels", limit=500, **{name: wanted}))["items"]
        assert found == [one for one in whole if one[field] == wanted] != whole
    two = ",".join(one["channel_id"] for one in whole[:2])
    assert (await coordinator.get("/api/v1/channels", ids=two))["items"] == whole[:2]
    assert (await coordinator.get("/api/v1/channels", chain="near"))["items"] == []
    assert (await coordinator.get("/api/v1/channels", chain="sei", limit=500))["items"] == whole


async def test_everybody_shows_the_same_earnings(coordinator: Running) -> None:
    stats = await coordinator.get("/api/v1/network/stats")
    nodes = await coordinator.get("/api/v1/nodes", limit=500)
    single = [
        await coordinator.get(f"/api/v1/nodes/{node['node_id']}/status") for node in nodes["items"]
    ]
    earned = [int(node["earned"]) for node in nodes["items"]]
    assert earned == [int(node["earned"]) for node in single]
    assert str(sum(earned)) == stats["total_rewards_distributed"]
    assert (await coordinator.get("/api/v1/nodes/stats"))["earned"] == str(sum(earned))


def test_no_answer_waits_for_the_acknowledgement_of_its_first_segment() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        served, _ = listener.accept()
        with served:
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_model_refuses_what_it_does_not_describe() -> None:
    with pytest.raises(pydantic.ValidationError):
        models.Day.model_validate({"day": "2026-01-01", "earned": "1", "completed": 1, "more": 1})


def test_the_committed_description_is_current(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    web = Web(Reader(store.path), Metrics(), lambda: 0.0)
    described = json.dumps(openapi(web), indent=2, sort_keys=True) + "\n"
    assert OPENAPI_FILE.read_text() == described, (
        "write it anew: python -m coordinator.api.describe"
    )


@pytest.mark.parametrize("path", ["/api/v1/nodes", "/api/v1/tasks", "/api/v1/channels"])
async def test_pages_of_a_list_hold_everything_once(coordinator: Running, path: str) -> None:
    whole = (await coordinator.get(path, limit=500))["items"]
    assert len(whole) > 3
    found, cursor, pages = [], "", 0
    while True:
        query = {"cursor": cursor} if cursor else {}
        answer = await coordinator.http.get(path, params={"limit": 3, **query})
        page = answer.json()
        found += page["items"]
        pages += 1
        cursor = page["next_cursor"] or ""
        assert ("next" in answer.links) == bool(cursor)
        if not cursor:
            break
    assert found == whole
    assert pages == -(-len(whole) // 3)


async def test_lists_can_be_narrowed(coordinator: Running) -> None:
    tasks = (await coordinator.get("/api/v1/tasks", limit=500))["items"]
    failed = (await coordinator.get("/api/v1/tasks", limit=500, state="failed"))["items"]
    assert failed == [task for task in tasks if task["state"] == "failed"] != []
    client = tasks[0]["client"]
    own = await coordinator.get("/api/v1/tasks", limit=500, client=client.upper().replace("X", "x"))
    assert own["items"] == [task for task in tasks if task["client"] == client]
    node = coordinator.chain.nodes[0]
    held = (await coordinator.get("/api/v1/tasks", limit=500, node=node))["items"]
    assert 0 < len(held) < len(tasks)
    two = ",".join(task["task_id"] for task in tasks[:2])
    assert (await coordinator.get("/api/v1/tasks", ids=two))["items"] == tasks[:2]
    assert (await coordinator.get("/api/v1/nodes", ids=node))["items"][0]["node_id"] == node
    assert (await coordinator.get("/api/v1/nodes", status="online"))["items"] == []


class CountingReader(Reader):
    """Counts the questions about nodes."""

    asked = 0

    def nodes(self, **narrow: Any) -> list[Row]:
        self.asked += 1
        return super().nodes(**narrow)


async def test_a_status_that_nobody_has_is_not_asked_for_node_by_node(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.db")
    chain = Chain(nodes=40)
    store.attach(SEI, "chain")
    store.apply_batch(SEI, chain.batch(), 0.0)
    reader = CountingReader(store.path)
    transport = httpx.ASGITransport(Web(reader, Metrics(), lambda: 0.0).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for limit in (1, 3, 500):
            reader.asked = 0
            answer = await http.get("/api/v1/nodes", params={"status": "online", "limit": limit})
            assert answer.json() == {"items": [], "next_cursor": None}
            assert reader.asked == 1
            some = await http.get("/api/v1/nodes", params={"status": "offline", "limit": limit})
            assert len(some.json()["items"]) == min(limit, 40)
            assert (some.json()["next_cursor"] is None) is (limit == 500)
    reader.close()
    store.close()


async def test_an_answer_that_the_client_has_is_not_sent_again(coordinator: Running) -> None:
    path = f"/api/v1/tasks/{coordinator.chain.ended[0].task_id}"
    first = await coordinator.http.get(path)
    again = await coordinator.http.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await coordinator.http.get(path, headers={"if-none-match": '"other"'})
    assert other.content == first.content


BAD_REQUESTS = [
    ("/api/v1/tasks?cursor=garbage", "bad_cursor"),
    ("/api/v1/tasks?cursor=%00%ff", "bad_cursor"),
    ("/api/v1/nodes?cursor=WyJ0YXNrcyIsIDEsIDJd", "bad_cursor"),
    ("/api/v1/tasks?cursor=WyJ0YXNrcyIsIC0xLCAyXQ", "bad_cursor"),
    ("/api/v1/tasks?cursor=WyJ0YXNrcyIsIHRydWUsIDJd", "bad_cursor"),
    ("/api/v1/tasks?cursor=" + "A" * 300, "bad_request"),
    ("/api/v1/tasks?limit=0", "bad_request"),
    ("/api/v1/tasks?limit=501", "bad_request"),
    ("/api/v1/tasks?limit=many", "bad_request"),
    ("/api/v1/tasks?limit=99999999999999999999999999", "bad_request"),
    ("/api/v1/tasks?state=lost", "bad_state"),
    ("/api/v1/tasks?client=0x12", "bad_account"),
    ("/api/v1/tasks?node=me", "bad_node_id"),
    ("/api/v1/tasks?ids=" + ",".join("a" * 66 for _ in range(51)), "too_many_ids"),
    ("/api/v1/nodes?ids=1", "bad_node_id"),
    ("/api/v1/channels?state=none", "bad_state"),
    ("/api/v1/channels?client=0x12", "bad_account"),
    ("/api/v1/channels?node=me", "bad_node_id"),
    ("/api/v1/channels?ids=1", "bad_channel_id"),
    ("/api/v1/channels?chain=tron", "bad_chain"),
    ("/api/v1/channels?limit=501", "bad_request"),
    ("/api/v1/channels?cursor=WyJ0YXNrcyIsIDEsICJzZWkiLCAxLCAxXQ", "bad_cursor"),
    ("/api/v1/nodes?status=happy", "bad_request"),
    ("/api/v1/tasks/0x12", "bad_task_id"),
    ("/api/v1/tasks/" + "z" * 66, "bad_task_id"),
    ("/api/v1/tasks/..%2f..%2fetc%2fpasswd", "not_found"),
    ("/api/v1/tasks/'%20OR%201=1--", "bad_task_id"),
    ("/api/v1/tasks/0x" + "00" * 32, "unknown_task"),
    ("/api/v1/nodes/0x" + "00" * 32 + "/status", "unknown_node"),
    ("/api/v1/nodes/%F0%9F%92%A9/status", "bad_node_id"),
    ("/api/v1/nothing", "not_found"),
    ("/api/v1/tasks?" + "q=1&" * 2000, "query_too_long"),
    ("/" + "a" * 600, "path_too_long"),
    ("/static/..%2f..%2fcli.py", "not_found"),
]


async def test_bad_requests_get_a_problem_with_a_stable_code(coordinator: Running) -> None:
    for path, code in BAD_REQUESTS:
        answer = await coordinator.http.get(path)
        assert answer.headers["content-type"] == "application/problem+json", path
        problem = models.ProblemModel.model_validate(answer.json())
        assert (path, problem.code, problem.status) == (path, code, answer.status_code)
        assert 400 <= answer.status_code < 500


async def test_methods_that_change_things_are_refused(coordinator: Running) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await coordinator.http.request(method, "/api/v1/tasks")
        assert answer.status_code == 405
        assert answer.json()["code"] == "method_not_allowed"
    head = await coordinator.http.head("/api/v1/network/stats")
    assert (head.status_code, head.content) == (200, b"")


async def test_ten_thousand_ids_are_refused_and_the_next_request_served(
    coordinator: Running,
) -> None:
    ids = ",".join(f"0x{number:064x}" for number in range(10_000))
    where = urlsplit(coordinator.url)

    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        connection.request("GET", f"/api/v1/nodes?ids={ids}")
        answer = connection.getresponse()
        return answer.status, answer.read()

    status, body = await trio.to_thread.run_sync(ask)
    assert status == 431
    assert json.loads(body)["code"] == "too_large"
    await coordinator.get("/health")


async def test_a_request_without_end_is_cut_off(coordinator: Running) -> None:
    where = urlsplit(coordinator.url)

    def attack() -> bytes:
        with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            try:
                for _ in range(64):
                    connection.sendall(b"a" * 65536)
                return connection.recv(100)
            except OSError:
                return b"closed"

    assert (await trio.to_thread.run_sync(attack))[:12] in (b"HTTP/1.1 431", b"closed", b"")
    await coordinator.get("/health")


async def test_a_foreign_host_name_is_refused_on_loopback(coordinator: Running) -> None:
    answer = await coordinator.http.get("/health", headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_host")
    assert (await coordinator.http.get("/health", headers={"host": "localhost:1"})).is_success


async def test_every_answer_carries_the_security_headers(coordinator: Running) -> None:
    for path in ("/", "/api/v1/network/stats", "/nothing", "/static/style.css"):
        headers = (await coordinator.http.get(path)).headers
        rules = dict(rule.split() for rule in headers["content-security-policy"].split("; "))
        closed = {"default-src", "base-uri", "frame-ancestors"}
        assert {name for name, source in rules.items() if source == "'none'"} == closed
        assert set(rules) - closed <= {
            "style-src", "script-src", "img-src", "connect-src", "form-action",
        }  # fmt: skip
        assert {rules[name] for name in set(rules) - closed} == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


async def test_a_heard_node_is_online_with_the_very_offer_it_signed(
    coordinator: Running,
) -> None:
    chain, who = coordinator.chain, peer()
    node = chain.nodes[0]
    hub = PeerAddress(coordinator.document["peer_id"], tuple(coordinator.document["addresses"]))
    async with (
        coordinator.network.open_net(who) as net,
        net.dial(hub, BEAT_DIALECT, timeout=5) as link,
    ):
        offer = make_offer(chain, node, who)
        await link.send(PublishOffer(offer))
        await link.send(PublishBeat(make_beat(chain, node, who)))
        await link.receive()
        shown = await coordinator.until(
            f"/api/v1/nodes/{node}/status", lambda found: found["status"] == "online"
        )
    assert shown["state"] == "probation"
    assert shown["addresses"] == ["/ip4/192.0.2.7/tcp/4001"]
    assert [one["workload"] for one in shown["workloads"]] == ["embedding", "portfolio-risk"]
    raw = shown["offer"]
    signed = Signed(
        base64.b64decode(raw["body"]), raw["operator"], base64.b64decode(raw["signature"])
    )
    assert signed == offer
    assert open_offer(signed, REGISTRY).node == node
    stats = await coordinator.until("/api/v1/network/stats", lambda s: s["active_nodes"] == 1)
    assert stats["nodes_by_state"] == {"joining": len(chain.nodes) - 1, "probation": 1}
    online = await coordinator.get("/api/v1/nodes", status="online")
    assert [one["node_id"] for one in online["items"]] == [node]
    assert (await coordinator.get("/api/v1/network/health"))["status"] == "ok"


async def test_a_chain_that_is_down_is_told_and_followed_again(coordinator: Running) -> None:
    coordinator.ledger.is_reachable = False
    coordinator.ledger.grow()

    async def status() -> int:
        return (await coordinator.http.get("/ready")).status_code

    async def is_down() -> bool:
        return await status() == 503

    async def is_up() -> bool:
        return await status() == 200

    await eventually(is_down, 30)
    answer = await coordinator.http.get("/ready")
    assert answer.json()["chains"]["sei"]["following"] is False
    assert (await coordinator.get("/api/v1/network/stats"))["total_rewards_distributed"] != "0"
    coordinator.chain.mine()
    coordinator.chain.run(420)
    coordinator.ledger.is_reachable = True
    await eventually(is_up, 20)


async def test_figures_are_exported_with_a_row_each_in_the_docs(coordinator: Running) -> None:
    await coordinator.get("/api/v1/network/stats")
    async with httpx.AsyncClient(timeout=60) as client:
        text = (await client.get(coordinator.document["metrics_url"])).text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP deai_")}
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert names
    assert {name for name in names if f"`{name}`" not in documented} == set()
    assert 'route="/api/v1/network/stats",status="200"' in text


async def test_it_goes_on_from_its_cursor_after_a_restart(tmp_path: Path) -> None:
    chain = Chain(4)
    chain.run(200)
    async with running(tmp_path, chain) as first:
        await first.settle()
        before = await first.get("/api/v1/network/stats")
        cursor = before["chains"]["sei"]["cursor"]
        assert (tmp_path / "coordinator.json").exists()
    assert not (tmp_path / "coordinator.json").exists()
    chain.mine()
    chain.run(300)
    async with running(tmp_path, chain) as second:
        await second.settle()
        assert second.ledger.followed_from[0] is not None
        assert second.ledger.followed_from[0].number == cursor
        after = await second.get("/api/v1/network/stats")
        assert sum(after["tasks_by_state"].values()) == chain.posted
