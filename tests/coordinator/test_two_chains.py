"""One coordinator over both chains: lists by chain, sums by chain, one node on both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from coordinator.api import live, models
from coordinator.store import schema
from coordinator.store.engine import open_engine
from coordinator.store.migrate import migrate, newest, upgrade_to
from coordinator.store.reader import Reader
from coordinator.store.store import Store, digest
from deai.binding import Side, SignedBinding, check, decode_draft
from deai.client.coordinator import hint_of
from deai.events import StandingChanged
from deai.ids import NEAR, SEI, AccountId, NodeId, owner_of
from deai.messages import BEAT_DIALECT, BindingSeen, PublishBinding
from deai.net import PeerAddress
from deai.standing import Standing
from tests.coordinator.support import INFO, NEAR_INFO, Running, ScriptedLedger, peer, running
from tests.coordinator.test_live import address, close_of, opened, read, run_task
from tests.coordinator.test_pages import Outline
from tests.coordinator.world import Chain
from tests.support.bindings import NEAR_OWNER, SEI_OWNER, binding, signed

pytestmark = pytest.mark.network

NEAR_ACCOUNT = AccountId("owner.testnet")


def worlds(events: int = 250) -> tuple[Chain, Chain]:
    """Two chains that number their blocks alike; the first node of each has a real owner."""
    sei = Chain(3, nodes=0)
    near = Chain(4, nodes=0, tag="near", name=NEAR)
    sei.register(SEI_OWNER.account)
    near.register(NEAR_ACCOUNT)
    for chain in (sei, near):
        for _ in range(4):
            chain.register()
        chain.run(events)
    return sei, near


def side(chain: Chain, node: NodeId) -> Side:
    info = NEAR_INFO if chain.name == NEAR else INFO
    return Side(
        chain=chain.name, chain_id=info.chain_id, registry=info.registry.contract, node=node,
        owner=owner_of(node), operator=chain.signers[node].account,
    )  # fmt: skip


def statement(sei: Chain, near: Chain) -> SignedBinding:
    """That the first nodes of two chains are one."""
    return signed(binding(sei=side(sei, sei.nodes[0]), near=side(near, near.nodes[0]), nonce=7))


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Running]:
    sei, near = worlds()
    ledger = ScriptedLedger(near, NEAR_INFO, full_keys={(NEAR_ACCOUNT, NEAR_OWNER.account)})
    async with running(tmp_path, sei, near=ledger) as started:
        await started.settle()
        yield started


def near_of(coordinator: Running) -> Chain:
    assert coordinator.near is not None
    return coordinator.near.chain


async def bind(coordinator: Running) -> tuple[NodeId, NodeId]:
    """Publish the binding of both first nodes, and wait until the index shows it."""
    near = near_of(coordinator)
    hub = PeerAddress(coordinator.document["peer_id"], tuple(coordinator.document["addresses"]))
    async with (
        coordinator.network.open_net(peer()) as net,
        net.dial(hub, BEAT_DIALECT, timeout=5) as link,
    ):
        await link.send(PublishBinding(statement(coordinator.chain, near)))
        assert await link.receive() == BindingSeen(7)
    pair = (coordinator.chain.nodes[0], near.nodes[0])
    for node in pair:
        await coordinator.until(status_of(node), lambda found: found["bound"] is not None)
    return pair


def status_of(node: str) -> str:
    return f"/api/v1/nodes/{node.replace('#', '%23')}/status"


async def test_a_node_and_its_twin_show_each_other_with_the_proof(coordinator: Running) -> None:
    sei, near = await bind(coordinator)

    for node, twin, chain in ((sei, near, NEAR), (near, sei, SEI)):
        shown = models.NodeStatus.model_validate(await coordinator.get(status_of(node)))
        assert shown.bound is not None
        assert (shown.bound.node_id, shown.bound.chain) == (twin, chain)
        other = await coordinator.get(status_of(twin))
        assert {name: getattr(shown.bound, name) for name in ("standing", "state", "slashed")} == {
            name: other[name] for name in ("standing", "state", "slashed")
        }
        draft = decode_draft(json.dumps(shown.bound.binding).encode())
        assert draft.signed is not None
        assert check(draft.signed).twin(node).node == twin
        (listed,) = (await coordinator.get("/api/v1/nodes", ids=node))["items"]
        assert listed["bound"] == shown.bound.model_dump()
    single = await coordinator.get(status_of(coordinator.chain.nodes[1]))
    assert single["bound"] is None


async def test_a_slash_on_one_chain_is_seen_at_the_twin(coordinator: Running) -> None:
    sei, near = await bind(coordinator)
    chain = coordinator.chain
    chain.mine()
    opened = chain.post(seats=1)
    chain.assign(opened, [sei])
    chain.slash(opened, 0)
    await coordinator.settle()

    slashed = await coordinator.get(status_of(sei))
    bound = (await coordinator.get(status_of(near)))["bound"]
    assert bound["slashed"] == slashed["slashed"] != "0"
    assert bound["standing"] == bound["state"] == "jailed"
    assert "<strong>Jailed.</strong>" in (await coordinator.http.get(f"/nodes/{sei}")).text
    page = (await coordinator.http.get(f"/nodes/{near.replace('#', '%23')}")).text
    assert "Slashed on sei" in page
    assert f'href="/nodes/{sei}"' in page


async def test_a_release_takes_no_slash_back_on_either_chain(tmp_path: Path) -> None:
    on_sei, on_near = worlds(0)
    ledger = ScriptedLedger(on_near, NEAR_INFO, full_keys={(NEAR_ACCOUNT, NEAR_OWNER.account)})
    async with running(tmp_path, on_sei, near=ledger) as coordinator:
        await coordinator.settle()
        sei, near = await bind(coordinator)
        on_sei.mine()
        opened = on_sei.post(seats=1)
        on_sei.assign(opened, [sei])
        on_sei.slash(opened, 0)
        on_sei.emit(StandingChanged(sei, Standing.PROBATION))
        await coordinator.settle()
        items = (await coordinator.get("/api/v1/nodes", limit=500))["items"]
        page = (await coordinator.http.get(f"/nodes/{sei}")).text

    hints = {hint.node: hint for item in items if (hint := hint_of(item)) is not None}
    assert hints[sei].slashed
    assert not hints[near].slashed
    released, twin = hints[sei].bound, hints[near].bound
    assert released is not None
    assert twin is not None
    assert (released.slashed > 0, twin.slashed > 0) == (False, True)
    assert {item["standing"] for item in items if item["node_id"] == sei} == {"probation"}
    assert "Jailed" not in page
    assert "<strong>Slashed.</strong>" in page


async def test_a_binding_outlives_a_restart_and_a_rebuild(tmp_path: Path) -> None:
    sei, near = worlds(60)
    ledger = ScriptedLedger(near, NEAR_INFO, full_keys={(NEAR_ACCOUNT, NEAR_OWNER.account)})
    async with running(tmp_path, sei, near=ledger) as first:
        await first.settle()
        pair = await bind(first)
        database = first.database
    store = Store(database)
    with store.engine.begin() as connection:
        before = digest(connection, SEI)
    store.rebuild(SEI)
    store.rebuild(NEAR)
    with store.engine.begin() as connection:
        assert digest(connection, SEI) == before
    store.close()
    async with running(tmp_path, sei, near=ledger) as second:
        await second.settle()
        shown = await second.get(status_of(pair[0]))
        assert shown["bound"]["node_id"] == pair[1]
    reader = Reader(database)
    assert sorted(reader.bindings()) == sorted([(*pair, 7), (*pair[::-1], 7)])
    reader.close()


async def test_lists_and_sums_can_be_had_of_one_chain(coordinator: Running) -> None:
    get = coordinator.get
    for path in ("/api/v1/nodes", "/api/v1/tasks"):
        both = (await get(path, limit=500))["items"]
        apart = {name: (await get(path, limit=500, chain=name))["items"] for name in (SEI, NEAR)}
        assert all(apart.values())
        for on, items in apart.items():
            assert items == [one for one in both if one["chain"] == on]
        assert len(both) == sum(map(len, apart.values()))
    whole = await get("/api/v1/nodes/stats")
    parts = [await get("/api/v1/nodes/stats", chain=name) for name in (SEI, NEAR)]
    for name in ("total", "completed", "failed", "earned", "total_staked", "slashed"):
        assert int(whole[name]) == sum(int(part[name]) for part in parts)
    stats = models.NetworkStats.model_validate(await get("/api/v1/network/stats"))
    assert set(stats.by_chain) == set(stats.chains) == {SEI, NEAR}
    for name in models.Sums.model_fields:
        parts = [getattr(one, name) for one in stats.by_chain.values()]
        if isinstance(parts[0], dict):
            keys = {key for part in parts for key in part}
            summed: Any = {key: sum(part.get(key, 0) for part in parts) for key in keys}
            assert getattr(stats, name) == summed
        elif name == "channels":
            for part in models.ChannelSums.model_fields:
                of_each = [int(getattr(one, part)) for one in parts]
                assert int(getattr(stats.channels, part)) == sum(of_each)
                assert all(of_each) or part not in ("open", "deposited", "redeemed")
        elif name == "min_stake":
            assert getattr(stats, name) == min(parts, key=int)
        elif name == "throughput":
            assert getattr(stats, name) == pytest.approx(sum(parts), abs=1e-3)
        else:
            assert int(getattr(stats, name)) == sum(int(part) for part in parts)


@pytest.mark.parametrize("path", ["/api/v1/nodes", "/api/v1/tasks", "/api/v1/channels"])
async def test_pages_over_two_chains_hold_everything_once(coordinator: Running, path: str) -> None:
    for chain in ("", "sei", "near"):
        whole = (await coordinator.get(path, limit=500, chain=chain))["items"]
        found, cursor = [], ""
        while True:
            page = await coordinator.get(path, limit=3, chain=chain, cursor=cursor)
            found += page["items"]
            cursor = page["next_cursor"] or ""
            if not cursor:
                break
        assert found == whole
    if "tasks" in path:
        times = [one["posted_at"] for one in whole]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("chain", ["bitcoin", "SEI", "sei,near", "sei'--", "%00"])
async def test_an_unknown_chain_is_a_problem_everywhere(coordinator: Running, chain: str) -> None:
    for path in ("/api/v1/nodes", "/api/v1/tasks", "/api/v1/nodes/stats", "/nodes", "/tasks"):
        answer = await coordinator.http.get(f"{path}?chain={chain}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_chain"), path
    async with opened(address(coordinator, f"?chain={chain}")) as client:
        code, reason = await close_of(client)
    assert (code, "chain" in reason) == (live.REFUSED, True)


async def test_a_subscriber_of_one_chain_hears_nothing_of_the_other(
    coordinator: Running,
) -> None:
    near = near_of(coordinator)
    async with opened(address(coordinator, "?chain=near")) as client:
        run_task(coordinator)
        near.mine()
        task = near.post()
        assert coordinator.near is not None
        coordinator.near.grow()
        told = [await read(client)]
        while told[-1]["data"].get("task_id") != task.task_id:
            told.append(await read(client))
    assert {one["data"]["chain"] for one in told if one["event"] != "network_stats"} == {NEAR}


async def test_pages_show_and_filter_by_chain(coordinator: Running) -> None:
    sei, near = await bind(coordinator)
    texts = {}
    for path in (
        "/", "/nodes", "/nodes?chain=near", "/tasks", "/tasks?chain=sei",
        "/tasks?chain=sei&state=completed", f"/nodes/{sei}", f"/nodes/{near.replace('#', '%23')}",
    ):  # fmt: skip
        answer = await coordinator.http.get(path)
        assert answer.status_code == 200, path
        outline = Outline()
        outline.feed(answer.text)
        assert outline.open == [], path
        assert len(outline.ids) == len(set(outline.ids)), path
        for link in {one for one in outline.links if "chain=" in one}:
            assert (await coordinator.http.get(link)).status_code == 200, link
        texts[path] = answer.text
    quoted = near.replace("#", "%23")
    for head in ("sei", "near"):
        assert f'<span class="st ok">{head}</span>' in texts["/"]
        assert f'href="/nodes?chain={head}"' in texts["/"]
    assert f'href="/nodes/{quoted}"' in texts["/nodes"]
    assert f'href="/nodes/{quoted}"' in texts[f"/nodes/{sei}"]
    assert f'href="/nodes/{sei}"' in texts[f"/nodes/{quoted}"]
    assert f'title="{coordinator.chain.nodes[1]}"' not in texts["/nodes?chain=near"]
    tasks = (await coordinator.get("/api/v1/tasks", limit=50, chain=SEI))["items"]
    shown = texts["/tasks?chain=sei"]
    assert all(one["task_id"] in shown for one in tasks)
    foreign = (await coordinator.get("/api/v1/tasks", limit=50, chain=NEAR))["items"]
    assert not any(one["task_id"] in shown for one in foreign)


async def test_a_chain_that_is_down_at_the_start_keeps_nobody_waiting(tmp_path: Path) -> None:
    sei, near = worlds()
    down = ScriptedLedger(sei, is_reachable=False)
    async with running(tmp_path, sei, ledger=down, near=ScriptedLedger(near, NEAR_INFO)) as started:

        def shows(*chains: str) -> Callable[[Any], bool]:
            return lambda page: {one["chain"] for one in page["items"]} == set(chains)

        await started.until("/api/v1/nodes", shows(NEAR))
        assert (await started.http.get("/ready")).status_code == 503

        down.is_reachable = True

        await started.until("/api/v1/nodes", shows(NEAR, SEI))


async def test_a_chain_that_is_not_followed_has_no_nodes_and_no_tasks(tmp_path: Path) -> None:
    async with running(tmp_path, Chain(5)) as alone:
        await alone.settle()
        for path in ("/api/v1/nodes", "/api/v1/tasks"):
            assert (await alone.get(path, chain=NEAR))["items"] == []
        assert (await alone.get("/api/v1/nodes/stats", chain=NEAR))["total"] == 0
        for path in ("/nodes?chain=near", "/tasks?chain=near"):
            answer: httpx.Response = await alone.http.get(path)
            assert answer.status_code == 200
            assert "All chains" not in answer.text


def test_a_database_of_the_first_schema_keeps_its_data(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = open_engine(path)
    upgrade_to(engine, "0001")
    row = {"at": 1.0, "event": "network_stats", "data": "{}"}
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO feed (at, event, data) VALUES (1.0, 'network_stats', '{}')"
        )
        connection.execute(insert(schema.chains), [{"chain": "sei", "identity": "x"}])
    assert migrate(engine) == ("0001", newest())
    engine.dispose()
    reader = Reader(Store(path).path)
    (found,) = reader.feed(0, 10)
    assert found == row | {"seq": 1, "chain": None}
    assert [one["identity"] for one in reader.chains()] == ["x"]
    assert reader.bindings() == []
