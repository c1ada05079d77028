"""Whole tasks in memory: the real client, messages and rules against nodes with scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from deai.actions import RequestUnstake
from deai.client.handle import TaskOutcome
from deai.client.requests import TaskRequest
from deai.errors import InsufficientFunds, TaskDeclined, UsageError, WorkloadFault
from deai.messages import EARLY_INPUT_BYTES, BlobHeader, Propose
from deai.money import UNIT, Amount
from deai.receipts import read_receipt, verify_receipt
from deai.tasks import FaultCode
from tests.client.support.node import Script
from tests.client.support.tasks import FEE, check_money, expected, run, seat_states
from tests.client.support.world import open_world, signer


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
async def test_whoever_takes_seats_gets_the_next_small_input_with_the_proposal(
    tmp_path: Path, autojump_clock: MockClock, policy: str
) -> None:
    scripts = [Script() for _ in range(1 if policy == "none/1" else 3)]
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        for _ in range(3):
            assert (await run(client, policy=policy)).ok
        for node in world.nodes:
            proposed = [one.input for one in node.seen if isinstance(one, Propose)]
            sent = [one for one in node.seen if isinstance(one, BlobHeader) and one.kind == "input"]
            assert proposed == [None, b"", b""]
            assert len(sent) == 1


async def test_a_large_input_and_one_for_a_node_that_declined_wait_for_the_assignment(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    script = Script()
    async with open_world(script) as world, world.client(tmp_path) as client:
        large = b"text\n" * (EARLY_INPUT_BYTES // 5 + 1)
        options = {"workload": "embedding", "policy": "none/1"}
        for data in (b"small", large, b"small"):
            assert (await run(client, data=data, **options)).ok
        script.declines = "price"
        with pytest.raises(TaskDeclined):
            await run(client, data=b"small", **options)
        script.declines = ""
        assert (await run(client, data=b"small", **options)).ok
        proposed = [one.input for one in world.nodes[0].seen if isinstance(one, Propose)]
        assert proposed == [None, None, b"small", b"small", None]


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
        assert "--max-fee to 0.04CT" in caught.value.hint


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
        ({"policy": "zk/1"}, UsageError),
        ({"policy": "tol32/1"}, UsageError),
        ({"seats": 2}, UsageError),
        ({"seats": 17}, UsageError),
        ({"policy": "none/1", "seats": 3}, UsageError),
        ({"deadline": -5}, UsageError),
        ({"max_fee": 0}, UsageError),
        ({"deadline": float("nan")}, UsageError),
        ({"min_sandbox": "bubble"}, UsageError),
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
