"""What is told of a home while no daemon runs: of one chain as ever, of two a part for each."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from deai.chain.ledger import Ledger
from deai.errors import LedgerUnreachable
from deai.ids import NEAR, SEI, ChainName, TaskId
from deai.network import Network, save_network
from node import offline, screens
from node.store.journal import Journal
from node.store.records import SeatKey
from tests.node.test_setup import Setting, both, set_up
from tests.node.test_store import KEY, OWN, SAVED

pytestmark = pytest.mark.world


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """A network of two chains, of which only Sei answers."""
    made = Setting(tmp_path)
    save_network(both(made), made.file)

    @asynccontextmanager
    async def open_ledger(_network: Network, chain: ChainName, *_: Any) -> AsyncIterator[Ledger]:
        if chain != SEI:
            raise LedgerUnreachable("no endpoint answers")
        yield made.chain.ledger()

    monkeypatch.setattr(offline, "open_ledger", open_ledger)
    return made


async def work(setting: Setting, *chains: ChainName) -> None:
    """A paid seat on each chain, 40 base units on the first, 41 on the next, and an open one."""
    journal = Journal(setting.home.journal, chains[0])
    for number, chain in enumerate(chains):
        own = journal.on(chain)
        for kind in ("open", "ended"):
            key = SeatKey(TaskId(f"0x{len(kind):062x}{number:02x}"), 0, 0)
            await own.accept(msgspec.structs.replace(SAVED, key=key, accepted_at=number))
            await own.result(key, OWN)
        await own.ended(key, at=number, day="2027-01-15", outcome="paid", payment=40 + number)
    journal.close()


def shown(screen: Any, document: dict[str, Any]) -> str:
    out = io.StringIO()
    screen(Console(file=out, width=80, highlight=False, markup=False), document)
    return out.getvalue()


async def test_a_home_of_one_chain_tells_no_more_than_it_did(setting: Setting) -> None:
    plan = set_up(setting, SEI, setting.file)
    await work(setting, SEI)
    status = await offline.status(setting.home)
    assert plan.registration is not None
    assert (status["node_id"], status["state"]) == (plan.registration.node_id, "stopped")
    assert set(status["chains"][SEI]) == {"head", "lag_s", "reachable"}
    assert status["tasks"] == {"running": 0, "paid": 1, "pending": 1, "failed": 0}
    assert [set(one) for one in status["problems"]] == [{"code", "message", "hint", "since"}]
    earned = await offline.earnings(setting.home)
    assert (earned["paid"], "by_chain" in earned) == ("40", False)
    assert all("chain" not in one for one in (await offline.tasks(setting.home))["items"])
    screen = shown(screens.status, status)
    assert "Money\n" in screen
    assert "On sei" not in screen


async def test_a_home_of_two_chains_tells_of_each_though_one_is_silent(setting: Setting) -> None:
    for chain in (SEI, NEAR):
        set_up(setting, chain, setting.file)
    await work(setting, SEI, NEAR)
    status = await offline.status(setting.home)
    known = setting.home.registrations()
    assert {name: part["node_id"] for name, part in status["chains"].items()} == {
        one.chain: one.node_id for one in known
    }
    assert status["node_id"] == known[0].node_id
    assert [part["reachable"] for part in status["chains"].values()] == [True, False]
    assert status["balance"] == status["chains"][SEI]["balance"]
    assert status["chains"][NEAR]["balance"] is None
    assert status["tasks"] == {"running": 0, "paid": 2, "pending": 2, "failed": 0}
    assert [(one["code"], one.get("chain")) for one in status["problems"]] == [
        ("node_not_running", None), ("ledger_unreachable", NEAR),
    ]  # fmt: skip
    screen = shown(screens.status, status)
    for one in known:
        assert f"On {one.chain}: stopped" in screen
        assert one.node_id in screen.replace("\n", "")
    assert "near: no endpoint answers" in screen


async def test_what_both_chains_paid_is_summed_and_told_apart(setting: Setting) -> None:
    for chain in (NEAR, SEI):
        set_up(setting, chain, setting.file)
    await work(setting, NEAR, SEI)
    earned = await offline.earnings(setting.home)
    fee = int(SAVED.task.fee)
    assert (earned["paid"], earned["pending"]) == ("81", str(2 * fee))
    assert {name: one["paid"] for name, one in earned["by_chain"].items()} == {
        NEAR: "40", SEI: "41",
    }  # fmt: skip
    assert earned["by_day"] == [{"day": "2027-01-15", "paid": "81"}]
    listed = (await offline.tasks(setting.home))["items"]
    # Open ones first, each part by the newest, as if there were one list.
    assert [(one["state"], one["chain"]) for one in listed] == [
        ("committed", SEI), ("committed", NEAR), ("paid", SEI), ("paid", NEAR),
    ]  # fmt: skip
    assert "on near" in shown(screens.earnings, earned)
    assert "near  " in shown(screens.tasks, {"items": listed})
    assert KEY.task_id not in {one["task_id"] for one in listed}


async def test_a_home_of_two_chains_that_never_ran_has_earned_nothing_on_either(
    setting: Setting,
) -> None:
    for chain in (SEI, NEAR):
        set_up(setting, chain, setting.file)
    earned = await offline.earnings(setting.home)
    assert {name: one["paid"] for name, one in earned["by_chain"].items()} == {SEI: "0", NEAR: "0"}
    assert (await offline.tasks(setting.home))["items"] == []
