"""The daemon around the tasks: draining, beats, offers, floods, a full disk, bad clocks."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing

from deai.chain.memory import GENESIS_TIME
from deai.ids import TaskId, node_id
from deai.lifecycle import SeatState
from deai.messages import (
    Accepted,
    Ask,
    AskOffer,
    DeclinedSeat,
    OfferReply,
    Opened,
    Progress,
    Refused,
    Resume,
)
from deai.money import Amount
from deai.offers import open_offer
from node.config import Price
from node.daemon import Mode
from node.documents import why
from node.services.tally import EVERY, STALE
from node.store.errors import StoreFull
from node.store.records import SeatKey
from tests.node.hub import open_hub
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, until
from tests.node.support.world import CONFIG, begin, open_world
from tests.node.test_store import KEY, SAVED

Clock = trio.testing.MockClock


async def test_beats_are_signed_steady_and_carry_the_offer(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node-0", hubs=(hub.address,))
        await trio.sleep(10)
        assert 9 <= len(hub.beats) <= 13
        sequences = [beat.sequence for beat in hub.beats]
        assert sequences == sorted(set(sequences))
        assert {beat.instance for beat in hub.beats} == {provider.live.instance}
        assert hub.offers[0].node == provider.node_id
        assert {one.workload for one in hub.offers[0].workloads} == {"shout", "drift"}
        assert provider.live.hubs


async def test_the_network_works_while_every_hub_is_down(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        async with open_hub(world) as hub:
            address = hub.address
        provider = await world.provider("node-0", hubs=(address,))
        assert "no_hub" in provider.live.problems
        client = await world.client()
        task, spec = client.make(b"hello")
        assert isinstance(await client.propose(provider, task, spec), Accepted)
        async with open_hub(world) as again:
            await until(lambda: again.beats)
            await until(lambda: "no_hub" not in provider.live.problems)


async def test_draining_finishes_what_runs_and_accepts_nothing_new(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(
            world, benches=[SmallBench(seconds=8) for _ in range(3)]
        )
        await until(lambda: nodes[0].live.running)
        nodes[0].live.daemon.stop.set()
        await until(lambda: nodes[0].live.mode is Mode.DRAINING)
        other, other_spec = client.make(b"later", lane=1)
        refused = await client.propose(nodes[0], other, other_spec)
        assert isinstance(refused, DeclinedSeat)
        assert refused.code == "draining"
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await client.finalise(task)
        assert world.view(name).attempt(0).state is SeatState.PAID
        await nodes[0].stopped.wait()


async def test_what_cannot_be_finished_in_time_is_given_back_at_shutdown(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        hurried = msgspec.structs.replace(
            CONFIG, patience=msgspec.structs.replace(CONFIG.patience, drain=3.0)
        )
        client, nodes, _, name = await begin(
            world,
            benches=[SmallBench(seconds=20) for _ in range(3)],
            config=hurried,
            introduce=False,
            feed=False,
        )
        await client.send_input(nodes[0], name, b"hello")
        await until(lambda: nodes[0].live.running)
        began = trio.current_time()
        nodes[0].live.daemon.stop.set()
        await nodes[0].stopped.wait()
        assert trio.current_time() - began < 20
        assert world.view(name).released & 1
        failed = client.heard[name, 0].failed
        assert failed is not None
        assert failed.code == "shutdown"


async def test_the_second_signal_leaves_at_once(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, _, name = await begin(
            world, benches=[SmallBench(seconds=20) for _ in range(3)], introduce=False, feed=False
        )
        await client.send_input(nodes[0], name, b"hello")
        await until(lambda: nodes[0].live.running)
        nodes[0].live.daemon.stop.set()
        await trio.sleep(0.5)
        began = trio.current_time()
        nodes[0].live.daemon.stop_now.set()
        await nodes[0].stopped.wait()
        assert trio.current_time() - began <= 3


async def test_a_full_journal_stops_new_work_and_says_so_until_there_is_room(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        roomy = msgspec.structs.replace(CONFIG, capacity=200, queue=200)
        provider = await world.provider("node-0", config=roomy, max_pages=40)
        client = await world.client()
        codes = []
        for lane in range(120):
            # Large parameters fill the pages quickly.
            task, spec = client.make(b"hello", lane=lane, params={"repeat": 1, "pad": "x" * 3000})
            reply = await client.propose(provider, task, spec)
            codes.append(reply.code if isinstance(reply, DeclinedSeat) else "accepted")
        assert codes[0] == "accepted"
        assert codes[-1] == "disk_full"
        assert "disk_full" in provider.whole.problems
        assert provider.live.mode is Mode.RUNNING
        # Accepts that nobody assigned run out, are forgotten, and there is room again.
        await until(lambda: not provider.live.engagements)
        assert await provider.live.ports.journal.history(200) == ()
        await until(lambda: "disk_full" not in provider.whole.problems)
        task, spec = client.make(b"hello", lane=500)
        assert isinstance(await client.propose(provider, task, spec), Accepted)


async def test_outputs_that_were_kept_make_room_for_work(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        ports = provider.live.ports
        keys = [SeatKey(KEY.task_id, 0, attempt) for attempt in range(8)]
        for at, key in enumerate(keys):
            await ports.journal.accept(msgspec.structs.replace(SAVED, key=key))
            await ports.journal.ended(
                key, at=provider.live.chain_time + at, day="d", outcome="paid", payment=1
            )
            ports.blobs.reserve(key.blob("output"), 1 << 27)  # together, the whole store
        with pytest.raises(StoreFull):
            ports.blobs.reserve("more", 1 << 27)
        await until(lambda: not ports.blobs.is_crowded)
        ports.blobs.reserve("more", 1 << 27)
        left = {saved.key for saved in await ports.journal.history(99)}
        assert left
        assert left == set(keys[-len(left) :]), "the newest stay"


async def test_a_disk_that_fails_under_a_proposal_stops_nobody(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        client = await world.client()
        task, spec = client.make(b"hello")
        other, other_spec = client.make(b"hello", lane=1)
        assert isinstance(await client.propose(provider, task, spec), Accepted)
        await trio.sleep(5)  # asked again, the node would promise the seat for longer
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
            again = await client.propose(provider, task, spec)
            anew = await client.propose(provider, other, other_spec)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        for reply in (again, anew):
            assert isinstance(reply, DeclinedSeat)
            assert reply.code == "disk_full"
        await until(lambda: "disk_full" not in provider.whole.problems)
        assert isinstance(await client.propose(provider, task, spec), Accepted)
        assert not provider.stopped.is_set()


async def test_a_client_that_floods_gets_no_more_than_its_share(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        flooder, honest = await world.client("flooder"), await world.client("honest")
        replies = []
        for lane in range(60):
            task, spec = flooder.make(b"flood", lane=lane)
            replies.append(await flooder.propose(provider, task, spec))
        accepted = [one for one in replies if isinstance(one, Accepted)]
        declined = {one.code for one in replies if isinstance(one, DeclinedSeat)}
        assert 1 <= len(accepted) <= CONFIG.capacity + CONFIG.queue
        assert declined == {"capacity"}
        assert len(provider.live.engagements) == len(accepted)
        # Its accepts run out soon, and others are served.
        await until(lambda: not provider.live.engagements, seconds=60)
        task, spec = honest.make(b"hello")
        assert isinstance(await honest.propose(provider, task, spec), Accepted)
        assert provider.live.reasons["capacity"].count >= 50


async def test_strangers_learn_nothing_about_a_task(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world)
        stranger = await world.client("stranger")
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await until(lambda: client.heard[name, 0].output)
        for question in (Resume(name), Ask(name, "output", 0), Ask(name, "opening", 0)):
            reply = await stranger.ask(nodes[0], question)
            assert isinstance(reply, Refused)
            assert reply.code == "unknown_peer"
        await client.finalise(task)
        await until(lambda: name not in nodes[0].live.engagements)
        reply = await stranger.ask(nodes[0], Resume(name))
        assert isinstance(reply, Refused)


async def test_a_peer_that_says_what_only_nodes_say_is_cut_off_and_others_are_not(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        rude, polite = await world.client("rude"), await world.client("polite")
        task, _spec = rude.make(b"hello")
        link = await rude.link(provider)
        await (await polite.link(provider)).send(AskOffer())
        await link.send(Progress(rude.name(task), 0, 0, 1))
        await until(lambda: provider.peer_id not in rude.links)
        assert isinstance(await polite.ask(provider, AskOffer()), OfferReply)


async def test_offers_are_renewed_before_they_expire(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        short = msgspec.structs.replace(CONFIG, offer_seconds=60)
        provider = await world.provider("node-0", config=short)
        seen = set()
        for _ in range(20):
            assert provider.live.offer is not None
            offer = open_offer(provider.live.offer, world.chain.info.registry)
            assert offer.expires_at > world.chain.now
            seen.add(offer.sequence)
            await trio.sleep(15)
        assert len(seen) >= 8


async def test_why_goes_on_counting_after_a_restart_and_a_kill(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        client = await world.client()
        cheap, spec = client.make(b"hello", fee=Amount(1))
        good, good_spec = client.make(b"hello", lane=1)

        async def refused() -> dict[str, Any]:
            assert isinstance(await client.propose(provider, cheap, spec), DeclinedSeat)
            document = why(provider.whole)
            (found,) = [one for one in document["reasons"] if one["code"] == "price"]
            return {**document, "count": found["count"], "since": found["since"]}

        assert isinstance(await client.propose(provider, good, good_spec), Accepted)
        first = await refused()
        assert (first["asked"], first["accepted"], first["count"]) == (2, 1, 1)
        provider.whole.stop.set()
        await provider.stopped.wait()
        await provider.start()
        second = await refused()
        assert (second["asked"], second["accepted"], second["count"]) == (3, 1, 2)
        assert second["since"] == first["since"]
        await trio.sleep(EVERY + 1)
        await provider.kill()
        await provider.start()
        third = await refused()
        assert (third["asked"], third["accepted"], third["count"]) == (4, 1, 3)
        # What Prometheus reads starts anew, as counters of a process do.
        assert provider.live.counters["proposals"] == 1


async def test_counts_that_cannot_be_read_keep_no_node_from_starting(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        await provider.live.ports.journal.remember("why", b"nonsense")
        await provider.kill()
        await provider.start()
        assert why(provider.whole)["asked"] == 0


async def test_a_reason_that_is_a_week_old_is_dropped_at_the_next_start(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        provider.live.reason("price", "too cheap")
        provider.live.reason("model", "not here")
        provider.live.reasons["model"].last -= STALE
        provider.whole.stop.set()
        await provider.stopped.wait()
        await provider.start()
        assert set(provider.live.reasons) == {"price"}


@pytest.mark.slow
async def test_the_epochs_beat_is_on_chain_soon_after_each_epoch_begins(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        epoch = world.chain.parameters.epoch_seconds
        for _ in range(3):
            await trio.sleep(epoch)
            record = await world.chain.ledger().node(provider.node_id)
            assert record is not None
            assert record.last_epoch >= world.chain.now // epoch - 1
        await trio.sleep(30)
        record = await world.chain.ledger().node(provider.node_id)
        assert record is not None
        assert record.last_epoch == world.chain.now // epoch


async def test_a_wrong_clock_is_a_problem_but_tasks_run_on_chain_time(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider(
            "node-0", wall=lambda: GENESIS_TIME + 3600 + trio.current_time()
        )
        await until(lambda: "clock" in provider.live.problems)
        client = await world.client()
        task, spec = client.make(b"hello")
        reply = await client.propose(provider, task, spec)
        assert isinstance(reply, Accepted)
        assert abs(reply.valid_until - world.chain.now) <= CONFIG.accept_seconds


async def test_a_silent_chain_stops_new_work_and_an_answering_one_resumes_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0")
        client = await world.client()
        task, spec = client.make(b"hello")
        world.chain.set_reachable(False)
        await until(lambda: "chain_silent" in provider.live.problems)
        reply = await client.propose(provider, task, spec)
        assert isinstance(reply, DeclinedSeat)
        assert reply.code == "chain_silent"
        world.chain.set_reachable(True)
        await until(lambda: "chain_silent" not in provider.live.problems)
        assert isinstance(await client.propose(provider, task, spec), Accepted)


async def test_an_unregistered_node_says_why_it_gets_no_work(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        provider = await world.provider("node-0", start=False)
        provider.node_id = node_id(key("nobody").account, 0)
        await provider.start()
        await until(lambda: "not_registered" in provider.live.problems)
        client = await world.client()
        task, spec = client.make(b"hello")
        reply = await client.propose(provider, task, spec)
        assert isinstance(reply, DeclinedSeat)
        assert reply.code == "not_registered"


async def test_a_task_that_pays_less_than_its_units_cost_is_given_back(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        dear = msgspec.structs.replace(CONFIG, prices={"default": Price(unit_fee="0.3CT")})
        client, nodes, _, name = await begin(world, config=dear, introduce=False, feed=False)
        await client.send_input(nodes[0], name, b"hello")
        await until(lambda: client.heard[name, 0].failed)
        failed = client.heard[name, 0].failed
        assert failed is not None
        assert failed.code == "price"
        assert nodes[0].bench.runs == 0


async def test_the_default_price_asks_for_the_work_and_not_only_for_the_task(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        base = Price(unit_fee="0").base
        config = msgspec.structs.replace(CONFIG, prices={})
        client, nodes, _, name = await begin(
            world, config=config, fee=base, introduce=False, feed=False
        )
        offer = nodes[0].live.offer
        assert offer is not None
        asked = open_offer(offer, world.chain.info.registry).workloads[0]
        assert (asked.base_fee, asked.unit_fee) == (base, base // 100)
        # Five bytes are five units of this workload, and nothing was paid for them.
        await client.send_input(nodes[0], name, b"hello")
        await until(lambda: client.heard[name, 0].failed)
        assert nodes[0].bench.runs == 0
        paid, spec = client.make(b"hello", lane=1, fee=Amount(base + 5 * (base // 100)))
        again = await client.engage(nodes, paid, spec)
        await client.send_input(nodes[0], again, b"hello")
        await until(lambda: nodes[0].bench.runs)


async def test_a_full_disk_while_others_speak_is_no_crash(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world)
        await client.relay_commits(task, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].opened for seat in range(3)))
        journal = nodes[0].live.ports.journal
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count={pages}")
        filler = 0
        while True:
            try:
                other = Opened(
                    TaskId(f"0x{filler:064x}"), 0, 0, bytes(32), bytes(32), bytes(32), bytes(64)
                )
                await journal.opened(other)
            except StoreFull:
                break
            filler += 1
        await client.relay_openings(nodes, name, [0, 1, 2])
        await until(lambda: "disk_full" in nodes[0].whole.problems)
        journal._db.execute("PRAGMA max_page_count=100000")
        await until(lambda: world.view(name).is_over)
        assert world.view(name).attempt(0).state is SeatState.PAID
        await until(lambda: "disk_full" not in nodes[0].live.problems)
