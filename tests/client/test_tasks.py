"""Whole tasks in memory: the real client, messages and rules against nodes with scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from deai.actions import RequestUnstake
from deai.client.client import Client
from deai.client.handle import TaskOutcome
from deai.client.requests import TaskRequest
from deai.errors import ConfigError, InsufficientFunds, TaskDeclined, WorkloadFault
from deai.money import UNIT, Amount
from deai.receipts import read_receipt, verify_receipt
from deai.standing import Standing
from deai.tasks import FaultCode
from tests.client.support.node import Script, honest
from tests.client.support.world import World, open_world, signer

FEE = UNIT // 100


def lie(spec: Any, data: bytes) -> bytes:
    return b"something that was never computed"


def other_lie(spec: Any, data: bytes) -> bytes:
    return b"something else that was never computed"


async def run(client: Client, **options: Any) -> TaskOutcome:
    options.setdefault("max_fee", UNIT)
    handle = await client.submit(options.pop("workload", "matmul-proof"), **options)
    with trio.fail_after(400):
        return await handle.wait()


def check_money(world: World, outcome: TaskOutcome) -> None:
    """Every coin of the escrow is somewhere, and none was made."""
    document = outcome.document
    total = sum(int(document[name]) for name in ("held", "paid", "refunded", "protocol_fee"))
    assert total == int(document["escrowed"])
    assert document["held"] == "0"
    assert sum(int(one["amount"]) for one in document["payments"]) == int(document["paid"])
    assert world.chain.total_tokens() == 10**9 * UNIT


def seat_states(outcome: TaskOutcome) -> list[str]:
    return [one["state"] for one in outcome.document["attempts"]]


def expected(world: World) -> bytes:
    work = next(iter(world.nodes[0].works.values()))
    return honest(work.spec, b"")


async def test_an_exact_task_is_computed_by_three_paid_and_its_output_returned(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.ok
        assert outcome.data == expected(world)
        assert outcome.document["result"]["agreed"] == 3
        assert outcome.document["escrowed"] == str(3 * FEE)
        assert seat_states(outcome) == ["paid"] * 3
        assert Path(outcome.document["result"]["path"]).read_bytes() == outcome.data
        check_money(world, outcome)


async def test_commitments_of_nodes_that_finish_together_travel_in_one_transaction(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        kinds = [one["kind"] for one in (await run(client)).document["transactions"]]
        assert kinds == ["post_and_assign", "commit", "finalise"]


async def test_the_receipt_of_a_task_verifies_offline_together_with_its_output(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        receipt = read_receipt(Path(outcome.document["receipt"]).read_bytes())
        report = verify_receipt(receipt, outcome.data)
        assert report.ok, [check for check in report.checks if not check.ok]
        assert all(seat.accept_signature and seat.result_signature for seat in receipt.seats)
        assert not verify_receipt(receipt, b"another output").ok


@pytest.mark.parametrize("policy", ["exact/1", "none/1"])
async def test_every_receipt_verifies(
    tmp_path: Path, autojump_clock: MockClock, policy: str
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        outcome = await run(client, policy=policy)
        receipt = read_receipt(Path(outcome.document["receipt"]).read_bytes())
        report = verify_receipt(receipt, outcome.data)
        assert report.ok, [check for check in report.checks if not check.ok]


async def test_an_unchecked_task_has_one_seat_and_goes_to_the_cheapest(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(base_fee=3 * FEE), Script(base_fee=FEE), Script(base_fee=2 * FEE)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client, policy="none/1")
        assert outcome.ok
        (attempt,) = outcome.document["attempts"]
        assert attempt["node_id"] == world.nodes[1].node
        check_money(world, outcome)


async def test_under_tolerance_members_see_each_others_outputs_and_approve(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        outcome = await run(client, workload="embedding", data=b"one\ntwo")
        assert outcome.document["policy"] == "tol32/1"
        assert outcome.ok
        assert seat_states(outcome) == ["paid"] * 3
        check_money(world, outcome)
        receipt = read_receipt(Path(outcome.document["receipt"]).read_bytes())
        report = verify_receipt(receipt, outcome.data)
        assert report.ok, [check for check in report.checks if not check.ok]


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


async def test_when_all_nodes_find_the_input_bad_the_task_fails_and_most_comes_back(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = [Script(fault=FaultCode.NOT_FINITE)] * 3
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.state == "failed"
        assert outcome.document["detail"] == "the task itself is bad: not_finite"
        assert outcome.document["paid"] == str(3 * (FEE // 10))
        check_money(world, outcome)


async def test_a_node_that_declines_is_passed_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(), Script(declines="capacity"), Script(), Script()
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        outcome = await run(client)
        assert outcome.ok
        held = {one["node_id"] for one in outcome.document["attempts"]}
        assert world.nodes[1].node not in held


async def test_when_too_few_accept_nothing_is_paid_and_every_reason_is_named(
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    scripts = Script(), Script(declines="capacity"), Script()
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        with pytest.raises(TaskDeclined, match="capacity: as the script says"):
            await run(client)
        assert await client.tools.journal.recent(10) == ()
        assert (await client.tools.ledger.balances(world.payer.account)).vault == 0


async def test_a_price_below_every_offer_names_the_cheapest(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = Script(base_fee=5 * FEE), Script(base_fee=4 * FEE), Script(base_fee=6 * FEE)
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        with pytest.raises(TaskDeclined) as caught:
            await run(client, max_fee=FEE)
        assert caught.value.reason_code == "price_below_every_offer"
        assert "0.040000 CT" in str(caught.value)
        assert str(4 * FEE) in caught.value.hint


async def test_without_tokens_the_error_says_how_many_are_missing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(base_fee=500 * UNIT), Script(), Script()) as world:
        async with world.client(tmp_path) as client:
            with pytest.raises(InsufficientFunds) as caught:
                await run(client, max_fee=600 * UNIT)
            assert caught.value.exit_status == 5
            assert str(500 * UNIT) in caught.value.hint
            assert await client.tools.journal.recent(10) == ()


async def test_only_what_is_missing_is_deposited(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(Script(), Script(), Script(), deposit=FEE) as world:
        async with world.client(tmp_path) as client:
            await run(client)
            deposits = [
                record.event
                for record in world.chain.records
                if type(record.event).__name__ == "Deposited"
            ]
            assert [int(one.amount) for one in deposits] == [FEE, 2 * FEE]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workload": "no-such-workload"}, WorkloadFault),
        ({"params": {"size": -1}}, WorkloadFault),
        ({"data": b"not wanted"}, WorkloadFault),
        ({"policy": "tol32/1"}, ConfigError),
        ({"seats": 2}, ConfigError),
        ({"seats": 17}, ConfigError),
        ({"policy": "none/1", "seats": 3}, ConfigError),
        ({"deadline": -5}, ConfigError),
        ({"max_fee": 0}, ConfigError),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    tmp_path: Path, autojump_clock: MockClock, options: dict[str, Any], error: type[Exception]
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        with pytest.raises(error):
            await run(client, **options)
        assert not any(node.seen for node in world.nodes)


async def test_many_tasks_at_once_use_different_lanes_and_all_complete(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(), Script(), Script(), Script()) as world:
        async with world.client(tmp_path) as client:
            outcomes: list[TaskOutcome] = []

            async def one(number: int) -> None:
                outcomes.append(await run(client, params={"seed": number}))

            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(one, number)
            assert all(outcome.ok for outcome in outcomes)
            assert len({outcome.task_id for outcome in outcomes}) == 6
            again = await run(client, params={"seed": 99})
            entry = await client.tools.journal.by_task(again.task_id)
            assert entry is not None
            assert (entry.lane, entry.nonce) == (0, 2)


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


async def test_the_updates_tell_the_whole_story_in_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        handle = await client.submit("matmul-proof", b"", max_fee=UNIT)
        updates = [update async for update in handle.follow()]
        kinds = [update.kind for update in updates]
        assert kinds[:3] == ["matched", "posted", "input"]
        assert kinds[-1] == "settled"
        assert kinds.count("committed") == 3
        assert [u.done for u in updates if u.kind == "progress" and u.seat == 0] == [0.5, 1.0]


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


async def test_busy_nodes_are_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    scripts = [Script(declines="capacity") for _ in range(3)]
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        handle = await client.submit("matmul-proof", b"", max_fee=UNIT)
        await trio.sleep(5)
        for script in scripts:
            script.declines = ""
        assert (await handle.wait()).ok


async def test_a_committee_that_the_contract_refuses_is_replaced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 4) as world, world.client(tmp_path) as client:
        # Everybody's offers and records are known; then one node leaves.
        await client.dry_run(TaskRequest(workload="matmul-proof", data=b"", max_fee=UNIT))
        owner = signer("owner of node-0")
        stake = (await client.tools.ledger.node(world.nodes[0].node)).stake  # type: ignore[union-attr]
        await world.chain.ledger(owner).submit(RequestUnstake(world.nodes[0].node, Amount(stake)))
        for number in range(4):
            outcome = await run(client, params={"seed": number})
            assert outcome.ok
            held = {one["node_id"] for one in outcome.document["attempts"]}
            assert world.nodes[0].node not in held


async def test_two_tasks_at_once_do_not_count_on_the_same_coin(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 4, deposit=4 * FEE) as world:
        async with world.client(tmp_path) as client:
            outcomes: list[TaskOutcome] = []

            async def one(number: int) -> None:
                outcomes.append(await run(client, params={"seed": number}))

            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(one, number)
            assert all(outcome.ok for outcome in outcomes)
