"""Answers of endpoints with a piece of them replaced by something that makes no sense."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import trio

from deai import actions as act
from deai.chain.ledger import Ledger
from deai.errors import LedgerRejected, LedgerUnreachable, NotSetUp
from deai.ids import AccountId, ChannelId, NodeId, TaskId
from deai.money import Amount
from tests.deai.chain.proxy import Tamper

ODD: Final[tuple[Any, ...]] = (
    None, True, -1, 1 << 70, "", "x", "0x", "0xzz", [], [None], {}, {"x": None},
)  # fmt: skip


def garbling(seed: int, share: float) -> Tamper:
    """Replaces one piece of so many answers; the same ones for the same seed."""
    chance = random.Random(seed)

    def tamper(_: dict[str, Any], result: Any) -> Any:
        if chance.random() >= share:
            return result
        whole = {"all": copy.deepcopy(result)}
        inner, key = chance.choice(list(_places(whole)))
        inner[key] = chance.choice(ODD)
        return whole["all"]

    return tamper


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


async def ask_everything(ledger: Ledger, account: AccountId, node: NodeId) -> None:
    """Every question a ledger takes; raises what it must not raise."""
    action = act.TransferTokens(account, Amount(1))
    growing = act.TopUpChannel(ChannelId("0x" + "6" * 64), Amount(1))
    nobodys, channel = TaskId("0x" + "5" * 64), ChannelId("0x" + "6" * 64)
    for question in (
        ledger.parameters, ledger.head, lambda: ledger.balances(account),
        lambda: ledger.node(node), lambda: ledger.speaks_for(account, account),
        lambda: ledger.lane(account, 0), lambda: ledger.simulate(action),
        lambda: ledger.task_events(nobodys, since=ledger.info.deployed_at),
        lambda: ledger.simulate(growing), lambda: ledger.channel(channel),
        lambda: ledger.channels(client=account), lambda: ledger.pool(node),
        lambda: ledger.delegation(node, account),
    ):  # fmt: skip
        with suppress(LedgerUnreachable, LedgerRejected, NotSetUp):
            await question()


async def follow_for(ledger: Ledger, seconds: float) -> None:
    """Follow from the beginning for a while."""
    with trio.move_on_after(seconds):
        async with ledger.follow(None) as batches:
            async for _ in batches:
                pass
