"""One node on two chains: one process, pool and journal, and neither in the other's way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio.testing

from deai.errors import PeerUnreachable
from deai.ids import NEAR, SEI, TaskId
from deai.lifecycle import SeatState
from deai.messages import TASK_DIALECT, Accepted, AskOffer, DeclinedSeat, OfferReply
from deai.money import UNIT
from deai.offers import open_offer
from deai.tasks import Policy, Task
from node import documents
from node.admin.server import bind, serve_admin, url_of
from node.config import NodeConfig
from node.daemon import Mode
from node.store.calls import Inline
from node.store.errors import AlreadyRunning
from node.store.journal import Journal
from tests.node.hub import open_hub
from tests.node.support.bench import SmallBench
from tests.node.support.client import ScriptedClient
from tests.node.support.customer import customer
from tests.node.support.names import until
from tests.node.support.world import CONFIG, Provider, World, open_worlds

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock


def config(capacity: int, queue: int = 0) -> NodeConfig:
    return msgspec.structs.replace(CONFIG, capacity=capacity, queue=queue)


def bench(slots: int, seconds: float) -> SmallBench:
    made = SmallBench(seconds=seconds)
    made.slots.total_tokens = slots
    return made


async def engaged(
    world: World, provider: Provider, name: str
) -> tuple[ScriptedClient, Task, TaskId]:
    """A task of one seat on this world's chain, posted, assigned and fed."""
    client = await world.client(name)
    task, spec = client.make(b"hello", seats=1, policy=Policy.NONE)
    task_id = await client.engage([provider], task, spec)
    await client.assigned([provider], task_id)
    await client.send_input(provider, task_id, b"hello")
    return client, task, task_id


@pytest.mark.parametrize("busy", [SEI, NEAR])
async def test_a_task_of_one_chain_takes_the_slot_of_the_other(
    tmp_path: Path, autojump_clock: Clock, busy: str
) -> None:
    async with open_worlds(tmp_path) as worlds:
        sei, near = worlds
        provider = await sei.provider("node", other=near, config=config(1), bench=bench(1, 8))
        one, other = (sei, near) if busy == SEI else (near, sei)
        _, _, name = await engaged(one, provider, "first")
        await until(lambda: provider.whole.running)
        client = await other.client("second")
        task, spec = client.make(b"hello", seats=1, policy=Policy.NONE)
        refused = await client.propose(provider, task, spec)
        assert isinstance(refused, DeclinedSeat)
        assert refused.code == "capacity"
        await until(lambda: one.view(name).delivered)
        assert isinstance(await client.propose(provider, task, spec), Accepted)


async def test_accepts_that_one_peer_holds_count_on_both_chains(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as (sei, near):
        provider = await sei.provider("node", other=near, config=config(2))
        client = await sei.client()
        # The same peer, with an account on each chain.
        there = ScriptedClient(
            near, near.chain.ledger(client.ledger.account), client.net, client.nursery
        )
        for lane in (0, 1):
            task, spec = client.make(b"hello", lane=lane, seats=1, policy=Policy.NONE)
            assert isinstance(await client.propose(provider, task, spec), Accepted)
        task, spec = there.make(b"hello", seats=1, policy=Policy.NONE)
        assert isinstance(await there.propose(provider, task, spec), DeclinedSeat)


async def test_tasks_of_both_chains_run_side_by_side_and_are_paid_on_their_own(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as (sei, near):
        slots = bench(2, 8)
        provider = await sei.provider("node", other=near, config=config(2), bench=slots)
        async with (
            customer(sei, tmp_path / "sei") as here,
            customer(near, tmp_path / "near", name="there", nodes=[provider]) as there,
        ):
            options: dict[str, Any] = {"policy": "none/1", "max_fee": UNIT}
            tasks = [await client.submit("shout", b"hello", **options) for client in (here, there)]
            await until(lambda: slots.slots.borrowed_tokens == 2)
            outcomes = [await task.wait() for task in tasks]
        assert [one.data for one in outcomes] == [b"HELLO"] * 2
        await until(lambda: not any(node.engagements for node in provider.whole.nodes))
        for world, outcome, node in zip((sei, near), outcomes, provider.whole.nodes, strict=True):
            (attempt,) = world.view(outcome.task_id).attempts
            assert attempt.state is SeatState.PAID
            assert attempt.seat.node == node.ports.node
            assert attempt.settlement is not None
            (day,) = await node.ports.journal.days()
            assert day.paid == attempt.settlement.payment
        earned = await documents.earnings(provider.whole)
        assert set(earned["by_chain"]) == {SEI, NEAR}
        assert int(earned["paid"]) == sum(int(one["paid"]) for one in earned["by_chain"].values())
        assert {one["tasks"]["paid"] for one in earned["by_chain"].values()} == {1}
        listed = await documents.tasks(provider.whole)
        assert {one["task_id"]: one["chain"] for one in listed["items"]} == {
            outcomes[0].task_id: SEI, outcomes[1].task_id: NEAR,
        }  # fmt: skip


async def test_a_kill_in_mid_task_on_both_chains_is_taken_up_on_both(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as worlds:
        sei, near = worlds
        provider = await sei.provider("node", other=near, config=config(2), bench=bench(2, 8))
        tasks = [await engaged(world, provider, world.chain.info.name) for world in worlds]
        await until(lambda: provider.whole.running == 2)
        await provider.kill()
        await provider.start()
        for node, (_, _, name) in zip(provider.whole.nodes, tasks, strict=True):
            assert set(node.engagements) == {name}
        names = [(world, name) for world, (_, _, name) in zip(worlds, tasks, strict=True)]
        await until(lambda: all(world.view(name).is_over for world, name in names))
        for world, name in names:
            assert world.view(name).attempt(0).state is SeatState.PAID


async def test_each_chain_has_links_of_its_own(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_worlds(tmp_path) as worlds:
        sei, near = worlds
        both = await sei.provider("node", other=near)
        alone = await sei.provider("sei only")
        for world in worlds:
            client = await world.client(world.chain.info.name)
            reply = await client.ask(both, AskOffer())
            assert isinstance(reply, OfferReply)
            offer = open_offer(reply.offer, world.chain.info.registry)
            assert offer.node == both.on(world.chain.info.name).ports.node
            if world is near:
                with pytest.raises(PeerUnreachable, match="does not speak"):
                    await client.link(alone)
                # A proposal for NEAR on a link about Sei names another contract.
                async with client.net.dial(both.address, TASK_DIALECT, timeout=5) as link:
                    client.links[both.peer_id] = link
                    task, spec = client.make(b"hello")
                    client.nursery.start_soon(note, client, link)
                    refused = await client.propose(both, task, spec)
                    assert isinstance(refused, DeclinedSeat)
                    assert refused.code == "bad_spec"


async def note(client: ScriptedClient, link: Any) -> None:
    """Listen on a link that was dialled by hand."""
    try:
        while True:
            client.replies.append(await link.receive())
    except PeerUnreachable:
        return


async def test_hubs_hear_beats_and_offers_of_both(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_worlds(tmp_path) as (sei, near), open_hub(sei, near) as hub:
        provider = await sei.provider("node", other=near, hubs=(hub.address,))
        await trio.sleep(10)
        assert 18 <= len(hub.beats) <= 26
        assert hub.heard == {(kind, chain) for kind in ("Beat", "Offer") for chain in (SEI, NEAR)}
        assert all(node.hubs for node in provider.whole.nodes)


@pytest.mark.parametrize("down", [SEI, NEAR])
async def test_a_chain_that_is_down_at_the_start_does_not_keep_the_other(
    tmp_path: Path, autojump_clock: Clock, down: str
) -> None:
    async with open_worlds(tmp_path) as (sei, near):
        provider = await sei.provider("node", other=near, start=False)
        dark, light = (sei, near) if down == SEI else (near, sei)
        dark.chain.set_reachable(False)
        await provider.start()
        whole = provider.whole
        assert whole.mode is Mode.RUNNING
        client = await light.client()
        task, spec = client.make(b"hello")
        assert isinstance(await client.propose(provider, task, spec), Accepted)
        status = await documents.status(whole)
        assert status["node_id"] == provider.node_id
        assert status["state"] == "running"
        assert status["chains"][down]["reachable"] is False
        assert status["chains"][down]["state"] == "joining"
        assert status["chains"][down]["balance"] == {"error": "ledger_unreachable"}
        assert ("ledger_unreachable", down) in {
            (one["code"], one.get("chain")) for one in status["problems"]
        }
        dark.chain.set_reachable(True)
        await until(lambda: all(branch.is_ready for branch in whole.branches), seconds=60)
        assert not [one for one in documents.problems(whole) if one["code"] == "ledger_unreachable"]


async def test_a_chain_that_falls_silent_stops_only_its_own_work(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as (sei, near):
        provider = await sei.provider("node", other=near)
        clients = [await world.client(world.chain.info.name) for world in (sei, near)]
        near.chain.set_reachable(False)
        await until(lambda: "chain_silent" in provider.on(NEAR).problems)
        replies = []
        for client in clients:
            task, spec = client.make(b"hello")
            replies.append(await client.propose(provider, task, spec))
        assert isinstance(replies[0], Accepted)
        assert isinstance(replies[1], DeclinedSeat)
        assert replies[1].code == "chain_silent"
        status = await documents.status(provider.whole)
        assert status["chains"][SEI]["reachable"] is True
        assert status["chains"][NEAR]["reachable"] is False
        assert {"code": "chain_silent", "chain": NEAR}.items() <= next(
            one for one in status["problems"] if one["code"] == "chain_silent"
        ).items()
        assert ("chain_silent", NEAR) in {
            (one["code"], one.get("chain")) for one in documents.why(provider.whole)["reasons"]
        }


async def test_orders_and_sums_are_for_both_chains(tmp_path: Path) -> None:
    async with admin(tmp_path) as (provider, http):
        first = (await http.get("/status")).json()
        assert list(first["chains"]) == [SEI, NEAR]
        for name, node in zip((SEI, NEAR), provider.whole.nodes, strict=True):
            part = first["chains"][name]
            assert part["node_id"] == node.ports.node
            assert part["state"] == "running"
            assert part["reachable"] is True
            assert {"standing", "stake", "reputation", "balance", "head"} <= set(part)
        assert first["stake"] == first["chains"][SEI]["stake"]
        await http.post("/pause", json={"for_s": 60})
        assert {node.mode for node in provider.whole.nodes} == {Mode.PAUSED}
        await http.post("/resume")
        assert {node.mode for node in provider.whole.nodes} == {Mode.RUNNING}
        metrics = (await http.get("/metrics")).text
        for name in (SEI, NEAR):
            assert f'deai_node_chain_head{{chain="{name}"}}' in metrics
        assert (await http.post("/drain")).json() == {"state": "draining"}
        with trio.fail_after(120):
            await provider.stopped.wait()


@asynccontextmanager
async def admin(tmp_path: Path) -> AsyncIterator[tuple[Provider, httpx.AsyncClient]]:
    async with open_worlds(tmp_path) as (sei, near), trio.open_nursery() as nursery:
        provider = await sei.provider("node", other=near)
        bound = bind("127.0.0.1:0")
        url = url_of(bound)
        await nursery.start(serve_admin, provider.whole, bound, "secret")
        headers = {"authorization": "Bearer secret"}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, trust_env=False, timeout=60
        ) as client:
            yield provider, client
        nursery.cancel_scope.cancel()


async def test_draining_finishes_what_runs_on_both_chains(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as worlds:
        sei, near = worlds
        provider = await sei.provider("node", other=near, config=config(2), bench=bench(2, 8))
        tasks = [await engaged(world, provider, world.chain.info.name) for world in worlds]
        await until(lambda: provider.whole.running == 2)
        near.chain.set_reachable(False)
        provider.whole.stop.set()
        await trio.sleep(20)
        near.chain.set_reachable(True)
        await provider.stopped.wait()
        assert sei.view(tasks[0][2]).delivered
        assert near.view(tasks[1][2]).delivered


async def test_a_daemon_whose_one_chain_never_answered_leaves_at_once_when_told(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as (sei, near):
        provider = await sei.provider("node", other=near, start=False)
        near.chain.set_reachable(False)
        await provider.start()
        began = trio.current_time()
        provider.whole.stop.set()
        await provider.stopped.wait()
        assert trio.current_time() - began < 5


async def test_a_twin_on_one_chain_stops_that_one_and_a_twin_on_both_the_whole(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as (sei, near), open_hub(sei, near) as hub:
        first = await near.provider("node", hubs=(hub.address,))
        node = await sei.register("node")
        copy = Provider(
            sei, "copy", tmp_path / "copy", SmallBench(), CONFIG, node, first.signer,
            hubs=(hub.address,), elsewhere={NEAR: (near, first.node_id)},
        )  # fmt: skip
        await copy.start()
        assert copy.on(SEI).mode is Mode.RUNNING
        status = await documents.status(copy.whole)
        assert ("another_instance", NEAR) in {
            (one["code"], one.get("chain")) for one in status["problems"]
        }
        await until(lambda: "another_instance" not in first.live.problems, seconds=10)
        # Once the other one has gone, its chain is served here too.
        await first.kill()
        await until(lambda: all(branch.is_ready for branch in copy.whole.branches), seconds=400)
        third = Provider(
            sei, "third", tmp_path / "third", SmallBench(), CONFIG, node, first.signer,
            hubs=(hub.address,), elsewhere={NEAR: (near, first.node_id)},
        )  # fmt: skip
        with pytest.raises(AlreadyRunning, match="key"):
            await third.start()


async def test_nothing_is_computed_again_while_a_twin_that_was_heard_may_still_be_there(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_worlds(tmp_path) as (sei, near), open_hub(sei, near) as hub:
        slow = SmallBench(seconds=5000)
        first = await near.provider("node", hubs=(hub.address,), bench=slow)
        client = await near.client()
        task, spec = client.make(
            b"hello", seats=1, policy=Policy.NONE, lease=2000,
            commit_deadline=near.chain.now + 2500,
        )  # fmt: skip
        name = await client.engage([first], task, spec)
        await client.send_input(first, name, b"hello")
        await until(lambda: first.whole.running)
        copy = Provider(
            sei, "copy", tmp_path / "copy", SmallBench(seconds=5000), CONFIG,
            await sei.register("node"), first.signer,
            hubs=(hub.address,), elsewhere={NEAR: (near, first.node_id)},
        )  # fmt: skip
        # A restored copy of the home: the same promises in another journal.
        (saved,) = await first.live.ports.journal.open_engagements()
        journal = Journal(copy.home / "node.db", caller=Inline()).on(NEAR)
        await journal.accept(saved)
        await journal.has_input(saved.key, saved.members, b"hello")
        journal.close()
        await copy.start()

        def tries() -> int:
            offers = [(one.node, one.peer_id) for one in hub.offers]
            return offers.count((first.node_id, copy.peer_id))

        before = copy.bench.runs
        assert (tries(), before) == (1, 1)
        await trio.sleep(700)
        assert (tries(), copy.bench.runs) == (3, before)
        await first.kill()
        await until(lambda: copy.bench.runs == before + 1, seconds=400)
