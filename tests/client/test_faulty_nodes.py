"""Whole tasks in memory with nodes that lie, die, withhold or give up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from deai.actions import Unjail
from deai.client.directory import FRESH_SECONDS
from deai.client.requests import TaskRequest
from deai.errors import TaskDeclined
from deai.messages import FailedSeat
from deai.money import UNIT
from deai.receipts import read_receipt, verify_receipt
from deai.standing import Standing
from tests.client.support.node import Script, honest
from tests.client.support.tasks import check_money, expected, run, seat_states
from tests.client.support.world import World, open_world, signer
from tests.support.polling import until

pytestmark = pytest.mark.world


def lie(spec: Any, data: bytes) -> bytes:
    return b"something that was never computed"


def other_lie(spec: Any, data: bytes) -> bytes:
    return b"something else that was never computed"


async def seed_that_chooses(world: World, home: Path, node: str) -> str:
    """A client seed with which `node` is drawn for a committee of three."""
    for number in range(200):
        seed = f"chance {number}"
        async with world.client(home / "search", name=f"search {number}", seed=seed) as client:
            plan = await client.dry_run(
                TaskRequest(workload="matmul-proof", data=b"", max_fee=UNIT)
            )
            if plan.plan and node in {one.node for one in plan.plan.chosen}:
                return seed
    raise AssertionError("no seed draws this node")


async def test_under_tolerance_a_lazy_node_is_approved_by_nobody_and_not_paid(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = Script(), Script(compute=lie, mask=0b111), Script()
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client, workload="embedding", data=b"one\ntwo")
        assert outcome.ok
        assert outcome.data == honest(next(iter(world.nodes[0].works.values())).spec, b"one\ntwo")
        liar = world.nodes[1].node
        states = {one["node_id"]: one["state"] for one in outcome.document["attempts"]}
        assert states.pop(liar) == "forfeited"
        assert set(states.values()) == {"paid"}
        check_money(world, outcome)


async def test_a_member_that_approves_nobody_holds_nothing_up_beyond_the_window(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = Script(), Script(), Script(mask=0)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client, workload="embedding", data=b"one\ntwo")
        assert outcome.ok
        silent = world.nodes[2].node
        states = {one["node_id"]: one["state"] for one in outcome.document["attempts"]}
        assert states.pop(silent) == "forfeited"
        assert set(states.values()) == {"paid"}
        check_money(world, outcome)


async def test_a_liar_is_outvoted_and_its_fee_is_forfeited(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(compute=lie), Script()
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.ok
        assert outcome.data == expected(world)
        liar = next(
            one for one in outcome.document["attempts"] if one["node_id"] == world.nodes[1].node
        )
        assert liar["state"] == "forfeited"
        assert liar["reason"] == "opened another digest than the winning one"
        assert outcome.document["result"]["agreed"] == 2
        check_money(world, outcome)


async def test_when_no_two_agree_the_task_fails_and_nobody_is_paid(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(compute=lie), Script(compute=other_lie)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.state == "failed"
        assert outcome.data is None
        assert outcome.document["paid"] == "0"
        assert outcome.document["result"] is None
        check_money(world, outcome)


async def test_two_liars_together_win_a_digest_that_only_they_can_deliver(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(compute=lie), Script(compute=lie)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.data == lie(None, b"")
        assert seat_states(outcome).count("paid") == 2


@pytest.mark.parametrize("moment", ["assigned"])
async def test_a_node_that_dies_is_replaced_and_the_task_completes(
    tmp_path: Path, autojump_clock: MockClock, moment: str
) -> None:
    async with open_world(Script(dies_on=moment), Script(), Script(), Script()) as world:
        victim = world.nodes[0]
        seed = await seed_that_chooses(world, tmp_path, victim.node)
        async with world.client(tmp_path, seed=seed) as client:
            outcome = await run(client)
            assert outcome.ok
            assert outcome.data == honest(next(iter(world.nodes[1].works.values())).spec, b"")
            states = {one["node_id"]: one["state"] for one in outcome.document["attempts"]}
            assert states.pop(victim.node) == "replaced"
            assert list(states.values()) == ["paid"] * 3
            assert [one["attempt"] for one in outcome.document["attempts"]] == [0, 0, 0, 1]
            check_money(world, outcome)
            receipt = read_receipt(Path(outcome.document["receipt"]).read_bytes())
            assert verify_receipt(receipt, outcome.data).ok


async def test_a_seat_that_is_given_back_goes_to_another_node_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(releases=True), Script(), Script(), Script()) as world:
        seed = await seed_that_chooses(world, tmp_path, world.nodes[0].node)
        async with world.client(tmp_path, seed=seed) as client:
            began = trio.current_time()
            outcome = await run(client)
            assert outcome.ok
            assert trio.current_time() - began < 10
            check_money(world, outcome)


async def test_a_seat_that_nobody_else_takes_stays_empty_and_the_client_says_why(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(releases=True), Script(), Script()) as world:
        async with world.client(tmp_path) as client:
            handle = await client.submit("matmul-proof", max_fee=UNIT, deadline=60)
            notes = [one.message async for one in handle.follow() if one.kind == "note"]
            outcome = await handle.wait()
        assert outcome.ok
        assert sorted(seat_states(outcome)) == ["lapsed", "paid", "paid"]
        assert any("to another node only" in note for note in notes)


async def test_a_seat_may_return_to_a_node_that_gave_it_back_after_another_held_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    first, second = Script(releases=True), Script(releases=True)
    async with open_world(first, second, Script(), Script()) as world:
        seed = await seed_that_chooses(world, tmp_path, world.nodes[0].node)
        async with world.client(tmp_path, seed=seed) as client:
            handle = await client.submit("matmul-proof", max_fee=UNIT, deadline=200)
            async for update in handle.follow():
                if update.kind == "released":
                    first.releases = False
            outcome = await handle.wait()
        assert outcome.ok
        held = [one["node_id"] for one in outcome.document["attempts"]]
        assert len(held) > 3
        assert outcome.document["attempts"][-1]["state"] == "paid"
        assert held.count(world.nodes[0].node) == 2


async def test_a_node_that_gives_up_again_and_again_is_heard_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script(seconds=20)] * 3) as world, world.client(tmp_path) as client:
        handle = await client.submit("matmul-proof", max_fee=UNIT)
        task = await handle.posted()
        node = world.nodes[0]
        await until(lambda: task in node.works and node.works[task].input)
        work = node.works[task]
        for _ in range(50):
            await work.link.send(FailedSeat(task, work.seat, work.attempt, "node_fault", "why"))
        notes = [one async for one in handle.follow() if one.kind == "note"]
        assert (await handle.wait()).ok
        assert sum("gives up" in one.message for one in notes) == 1


async def test_without_a_substitute_the_others_are_paid_when_the_deadline_has_passed(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = Script(), Script(), Script(dies_on="assigned")
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client, deadline=60)
        assert outcome.ok
        assert sorted(seat_states(outcome)) == ["lapsed", "paid", "paid"]
        check_money(world, outcome)


async def test_a_task_to_which_nobody_commits_expires_and_everything_comes_back(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = [Script(dies_on="assigned")] * 3
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client, deadline=60, tip=1000)
        assert outcome.state == "failed"
        assert outcome.document["refunded"] == outcome.document["escrowed"]
        assert "expired" in outcome.document["detail"]
        check_money(world, outcome)


@pytest.mark.parametrize("spoiled", ["tree", "chunk"])
async def test_an_output_that_is_not_what_was_committed_to_is_taken_from_another_node(
    tmp_path: Path, autojump_clock: MockClock, spoiled: str
) -> None:
    scripts = Script(), Script(spoils_output=spoiled), Script(spoils_output=spoiled)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.ok
        assert outcome.data == expected(world)


async def test_an_output_that_everybody_withholds_is_missing_and_said_to_be(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = [Script(withholds_output=True)] * 3
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.state == "completed"
        assert not outcome.ok
        assert outcome.document["result"]["path"] is None


async def test_a_node_that_never_opens_is_not_waited_for_beyond_the_window(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(), Script(withholds_opening=True)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.ok
        assert sorted(seat_states(outcome)) == ["paid", "paid", "silent"]
        check_money(world, outcome)


async def test_a_node_that_signs_two_results_is_slashed_and_holds_nothing_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(signs_twice=True), Script()
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        began = trio.current_time()
        outcome = await run(client)
        assert outcome.ok
        assert trio.current_time() - began < 10
        record = await client.tools.ledger.node(world.nodes[1].node)
        assert record is not None
        assert record.standing is Standing.JAILED
        assert record.stake == 400 * UNIT
        caught = [o for o in outcome.document["attempts"] if o["reason"]]
        assert [one["reason"] for one in caught] == ["signed two different results"]
        kinds = {one["kind"] for one in outcome.document["transactions"]}
        assert "prove_equivocation" in kinds


async def test_a_node_that_was_slashed_gets_no_seat_after_its_owner_released_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(signs_twice=True), Script()
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        liar = world.nodes[1].node
        assert (await run(client)).ok
        owner = world.chain.ledger(signer("owner of node-1"))
        await owner.submit(Unjail(liar))
        record = await owner.node(liar)
        assert record is not None
        assert record.standing.is_assignable
        await world.add(Script())
        await trio.sleep(FRESH_SECONDS + 1)

        outcome = await run(client)
        assert outcome.ok
        assert liar not in {one["node_id"] for one in outcome.document["attempts"]}
        with pytest.raises(TaskDeclined, match="was slashed for equivocation"):
            await run(client, policy="none/1", nodes=[liar])


async def test_a_lost_link_is_dialled_again_and_nothing_is_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = [Script(seconds=6.0)] * 3
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        handle = await client.submit("matmul-proof", b"", max_fee=UNIT)
        async for update in handle.follow():
            if update.kind == "progress":
                break
        for node in world.nodes:
            world.network.drop(client.tools.sessions._net.peer_id, node.net.peer_id)
        outcome = await handle.wait()
        assert outcome.ok
        assert outcome.data == expected(world)
