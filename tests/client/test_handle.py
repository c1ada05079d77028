"""What a submitter can wait for: the verified output, and the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from deai.actions import Action, FinaliseTask
from deai.chain.ledger import Transaction
from deai.errors import Declined, TaskDeclined
from deai.money import UNIT
from tests.client.support.node import Script
from tests.client.support.world import open_world


@pytest.mark.parametrize("policy", ["none/1", "exact/1"])
async def test_the_output_comes_before_the_settlement_and_is_what_the_end_names(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        submit, has_output = client.tools.ledger.submit, trio.Event()

        async def late(action: Action, *, key: str = "") -> Transaction:
            if isinstance(action, FinaliseTask):
                assert has_output.is_set(), "who waits for the output goes first"
            return await submit(action, key=key)

        monkeypatch.setattr(client.tools.ledger, "submit", late)
        handle = await client.submit("matmul-proof", max_fee=UNIT, policy=policy)
        with trio.fail_after(5):
            output = await handle.output()
            has_output.set()
            outcome = await handle.wait()
        assert outcome.data == output
        assert await handle.output() == output


def wrong(spec: Any, data: bytes) -> bytes:
    return b"never computed"


async def test_a_lie_is_never_handed_over_as_the_output(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(compute=wrong), Script(), Script()) as world:
        async with world.client(tmp_path) as client:
            handle = await client.submit("matmul-proof", max_fee=UNIT)
            with trio.fail_after(400):
                assert await handle.output() != b"never computed"
                assert (await handle.wait()).ok


async def test_waiting_for_the_output_of_a_task_without_one_raises(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def others(number: int) -> Any:
        return lambda spec, data: f"lie {number}".encode()

    scripts = [Script(compute=others(number)) for number in range(3)]
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        handle = await client.submit("matmul-proof", max_fee=UNIT)
        with trio.fail_after(400), pytest.raises(Declined) as caught:
            await handle.output()
        assert caught.value.reason_code == "no_output"
        refused = await client.submit("matmul-proof", max_fee=1)
        with trio.fail_after(400), pytest.raises(TaskDeclined):
            await refused.output()


@pytest.mark.parametrize("policy", ["none/1", "exact/1"])
async def test_an_output_that_was_lost_on_the_way_is_asked_for(
    tmp_path: Path, autojump_clock: MockClock, policy: str
) -> None:
    scripts = [Script(waits_to_be_asked=True) for _ in range(3)]
    async with open_world(*scripts) as world, world.client(tmp_path) as client:
        handle = await client.submit("matmul-proof", max_fee=UNIT, policy=policy)
        with trio.fail_after(20):
            assert (await handle.wait()).ok
