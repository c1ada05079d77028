"""What an honest client sees of the lane: results, receipts, credit, and why nothing is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from deai.lane.messages import Agreed, Credit, Faults, Halt, Refused, Results, Welcome
from deai.lane.receipts import WindowReceipt, verify_window
from deai.merkle import merkle_root
from deai.money import Amount
from node.lane.deaths import BORNE, FORGOTTEN_AFTER
from tests.node.lane.support import (
    DEPOSIT,
    PRICE,
    LaneBench,
    at_work,
    channel_open,
    lane_client,
    lane_provider,
    lanes_of,
)
from tests.node.support.names import until
from tests.node.support.world import CONFIG, open_world

pytestmark = pytest.mark.world


async def test_tasks_are_computed_paid_and_acknowledged(tmp_path: Path) -> None:
    async with channel_open(tmp_path) as client:
        welcome = await client.connect()
        assert isinstance(welcome, Welcome)
        assert (welcome.credit, welcome.deposit, welcome.voucher) == (0, DEPOSIT, None)
        assert isinstance(await client.agree(), Agreed)
        ids = await client.work_off(*[b"task %d" % i for i in range(300)])
        assert [client.outputs[i] for i in ids] == [b"TASK %d" % i for i in range(300)]
        assert client.cumulative == 300 * PRICE
        assert client.halts == []
        account = client.entry
        assert account.promised == 300 * PRICE
        assert account.work == {"shout": 300 * PRICE}


async def test_a_lone_task_waits_for_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.lane.session.GAP", 30.0)
    async with at_work(tmp_path) as client:
        began = trio.current_time()
        for number in range(10):
            await client.work_off(b"lone %d" % number)
        assert trio.current_time() - began < 20


async def test_a_client_whose_tasks_end_workers_is_refused_for_a_while(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with lane_client(world, node) as client, lane_client(world, node, "other") as other:
            for one in (client, other):
                await one.connect()
                await one.agree()
            await client.work_off(b"a", b"broken", b"broken", b"broken", b"broken", b"broken")
            for _ in range(BORNE):
                await client.work_off(b"deadly")
            (refused,) = await client.ask_for(b"good")
            halt = await client.hear_one(Halt)
            assert isinstance(halt, Halt)
            assert halt.code == "worker_deaths"
            assert "come again in 600 s" in halt.reason
            assert "lane_worker_deaths" in node.live.reasons
            await other.work_off(b"nobody else is concerned")
            await client.connect()
            await client.agree()
            await client.ask_for(b"a new link does not help")
            await client.hear_one(Halt)
            assert refused not in client.outputs
            assert node.live.counters["lane.worker_deaths"] == BORNE
            await trio.sleep(FORGOTTEN_AFTER)
            await client.connect()
            await client.agree()
            await client.work_off(b"welcome again", b"deadly")


async def test_a_window_is_signed_by_the_operator(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        node = client.provider
        await client.pay(0, more=PRICE)
        await client.ask_for(b"a")
        await client.hear_until(lambda: client.unpaid)
        leaves = list(client.unpaid)
        await client.pay(1)
        await client.hear_until(lambda: client.acknowledged == 2)
        window = WindowReceipt(
            client.id, 1, 2, 0, 1, Amount(client.cumulative), merkle_root(leaves)
        )
        assert client.signatures[0] == b""
        verify_window(client.domain, node.signer.account, window, client.signatures[1])


async def test_credit_is_the_dearest_paid_task_and_then_a_twentieth(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        await client.work_off(b"one")
        with trio.move_on_after(1):
            await client.hear_one(Credit)
        assert client.credit == PRICE
        await client.work_off(*[b"x"] * 199)
        await client.hear_until(lambda: client.credit == 10 * PRICE)


async def test_nothing_is_computed_before_the_first_voucher(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        await client.ask_for(b"free", b"work")
        assert await client.halted() == "unpaid"
        assert client.outputs == {}
        await client.pay(0, more=PRICE)
        await client.hear_until(lambda: client.outputs == {0: b"FREE"})


async def test_a_client_that_stops_paying_gets_no_more_than_its_credit(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=200) as client:
        node = client.provider
        await client.hear_until(lambda: client.credit == 10 * PRICE)
        await client.ask_for(*[b"more"] * 50)
        assert await client.halted() == "unpaid"
        assert len(client.unpaid) == 10
        # Its trust begins anew: what it owes now is above what it may owe.
        await client.hear_until(lambda: client.credit == PRICE)
        await client.pay(9)
        await client.hear_until(lambda: client.acknowledged == client.number)
        with trio.move_on_after(5):
            await client.hear()
        assert len(client.outputs) == 210
        await client.pay(1)
        await client.hear_until(lambda: len(client.outputs) == 211)
        assert "lane_unpaid" in node.live.reasons


async def test_late_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=200) as client:
        node = client.provider
        await client.ask_for(*[b"more"] * 50)
        await client.hear_one(Halt)
        await node.kill()
        await node.start()
        assert isinstance(await client.connect(), Welcome)
        assert client.credit == PRICE


async def test_the_deposit_bounds_the_work_and_a_top_up_goes_on(tmp_path: Path) -> None:
    async with at_work(tmp_path, deposit=3 * PRICE) as client:
        await client.work_off(b"a", b"b", b"c")
        await client.ask_for(b"d")
        assert await client.halted() == "deposit"
        await client.top_up(PRICE)
        # The node sees the event by itself.
        await client.hear_until(lambda: client.outputs.get(3) == b"D")
        assert client.deposit == 4 * PRICE


async def test_bad_tasks_cost_nothing_and_have_no_receipt(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        ids = await client.work_off(b"a", b"bad", b"b", b"broken", b"huge", b"c")
        assert [client.outputs.get(i) for i in ids] == [b"A", None, b"B", None, None, b"C"]
        assert client.faults[1] == (1, "a bad input")
        assert client.faults[3] == (0, "the worker died")
        assert client.faults[4][0] == 0
        assert client.cumulative == 3 * PRICE


async def test_a_client_whose_tasks_are_mostly_bad_is_not_served(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        await client.pay(0, more=PRICE)
        await client.ask_for(*[b"bad"] * 1000)
        assert await client.halted() == "too_many_faults"
        assert 64 < len(client.faults) < 64 + 3 * 512
        # A new link changes nothing about it.
        await client.connect()
        await client.agree()
        await client.ask_for(b"good")
        again = await client.hear_one(Halt, Results)
        assert isinstance(again, Halt)
        assert again.code == "too_many_faults"


REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "too cheap": ("price", {"price": Amount(PRICE - 1)}),
    "unknown workload": ("workload", {"workload": "nothing"}),
    "another version": ("workload", {"version": 2}),
    "another channel": ("bad_terms", {"channel": "0x" + "ab" * 32}),
    "another epoch": ("bad_terms", {"epoch": 2}),
    "a model that is not here": ("model", {"model": "gpt"}),
    "parameters that are no table": ("parameters", {"parameters": b"\x01"}),
    "parameters that are no value": ("parameters", {"parameters": b"\xc1"}),
}


@pytest.mark.parametrize(("code", "changed"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_terms_are_refused_with_a_reason(
    tmp_path: Path, code: str, changed: dict[str, Any]
) -> None:
    async with channel_open(tmp_path) as client:
        node = client.provider
        await client.connect()
        answer = await client.agree(**changed)
        assert isinstance(answer, Refused)
        assert answer.code == code
        assert node.live.reasons[code].count == 1
        # The link goes on.
        assert isinstance(await client.agree(1), Agreed)


async def test_paused_work_waits_and_goes_on(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        node = client.provider
        await client.work_off(b"a")
        node.whole.pause()
        await client.ask_for(b"b")
        assert await client.halted() == "paused"
        node.whole.resume()
        await client.hear_until(lambda: client.outputs.get(1) == b"B")


async def test_a_draining_node_starts_nothing_takes_vouchers_and_redeems(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=40) as client:
        node = client.provider
        await client.ask_for(b"y", b"z")
        await client.hear_until(lambda: len(client.unpaid) == 2)
        node.whole.stop.set()
        await client.ask_for(b"late")
        assert await client.halted() == "draining"
        await client.pay(2)
        await client.hear_until(lambda: client.acknowledged == client.number)
        await client.hang_up()
        await until(lambda: node.stopped.is_set())
        assert (await client.record()).claimed == 42 * PRICE


async def test_batches_grow_with_load(tmp_path: Path) -> None:
    bench = LaneBench(batch_seconds=0.01)
    async with at_work(tmp_path, bench=bench) as client:
        await client.pay(0, more=1000 * PRICE)
        await client.ask_for(*[b"x"] * 1000)
        await client.hear_until(lambda: len(client.outputs) == 128 or client.unpaid)
        while len(client.outputs) < 1000:
            if client.unpaid:
                await client.pay(min(64, len(client.unpaid)))
            else:
                await client.hear()
        assert len(bench.batches_done) < 60


async def test_a_client_that_reads_nothing_is_cut_off_and_nobody_else_waits(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with (
            lane_client(world, node, "slow") as slow,
            lane_client(world, node, "quick") as quick,
        ):
            await slow.connect()
            await slow.agree()
            await slow.work_off(*[b"x"] * 100)
            await slow.pay(0, more=100 * PRICE)
            for _ in range(40):
                await slow.ask_for(bytes(60_000))
            world.network.freeze(slow.net.peer_id)
            await quick.connect()
            await quick.agree()
            await quick.work_off(*[b"y"] * 100)
            lanes = lanes_of(node)
            patient_clock.autojump_threshold = 0
            await until(lambda: lanes.accounts[slow.id].session is None)


async def test_many_clients_share_the_worker(tmp_path: Path) -> None:
    bench = LaneBench(batch_seconds=0.05)
    async with open_world(tmp_path) as world:
        node = await lane_provider(world, bench=bench)

        async def one(name: str) -> None:
            async with lane_client(world, node, name) as client:
                await client.connect()
                await client.agree()
                await client.pay(0, more=200 * PRICE)
                ids = await client.work_off(*[name.encode()] * 150)
                assert {client.outputs[i] for i in ids} == {name.upper().encode()}

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, f"client-{number}")
        # No client's turn lasted until its work was done while others waited.
        assert len(set(bench.served)) == 8


async def test_faults_and_results_of_one_batch_come_in_order(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        await client.pay(0, more=10 * PRICE)
        await client.ask_for(b"bad", b"a", b"bad")
        await client.hear_one(Faults)
        await client.hear_until(lambda: client.outputs == {1: b"A"})


async def test_a_network_without_channels_has_no_lane(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        del world.chain.info.contracts["PaymentChannels"]
        node = await lane_provider(world)
        assert node.live.lanes is None
        assert node.whole.book is not None


async def test_the_operator_can_turn_the_lane_off(tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        CONFIG, lane=msgspec.structs.replace(CONFIG.lane, enabled=False)
    )
    async with open_world(tmp_path) as world:
        node = await lane_provider(world, config=config)
        assert node.live.lanes is None
