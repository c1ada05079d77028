"""Running one task to its end, and looking at what came of it."""

from __future__ import annotations

from typing import Any

import trio

from deai.client.client import Client
from deai.client.handle import TaskOutcome
from deai.money import UNIT
from tests.client.support.node import honest
from tests.client.support.world import World

FEE = UNIT // 100


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
