"""The demo's report: what it adds up, what it does not let pass, and how it is told."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console

from deai.cli.base import Options, Settings, load_settings
from deai.errors import NodeFault
from deai.ids import NEAR, SEI, AccountId, ChainName
from deai.money import UNIT
from devnet.accounts import Books
from devnet.layout import make_plan
from devnet.play import length
from devnet.scenes import told
from devnet.story import Story, make_report, show

OWNERS: dict[ChainName, AccountId] = {
    SEI: AccountId("0x" + "11" * 20), NEAR: AccountId("22" * 32)
}  # fmt: skip


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def story(tmp_path: Path, screen: io.StringIO) -> Story:
    settings: Settings = load_settings(Options(home=tmp_path))
    settings.__dict__["err"] = Console(file=screen, width=200)
    return Story(settings, total=length(2))


def books(held: int, *, minted: int = 100, burned: int = 0) -> Books:
    return Books({AccountId("a"): held}, {}, minted, burned)


def endpoints() -> dict[str, Any]:
    chains = {name: {"node_id": f"{owner}#0", "owner": owner} for name, owner in OWNERS.items()}
    return {"nodes": [{"name": "node-0", "behaviour": "lazy", "chains": chains}]}


def report_of(story: Story, sei: Books, near: Books) -> dict[str, Any]:
    before = {SEI: books(100), NEAR: books(100)}
    plan = make_plan("both", 1, "1", {})
    return make_report(story, plan, before, {SEI: sei, NEAR: near}, endpoints())


def test_books_that_balance_on_both_chains_are_right(story: Story) -> None:
    report = report_of(story, books(90, burned=10), books(105, minted=105))
    assert report["ok"]
    ledger = report["ledger"]
    assert (ledger["minted"], ledger["burned"], ledger["difference"]) == ("5", "10", "0")
    assert {name: sums["difference"] for name, sums in ledger["chains"].items()} == {
        SEI: "0", NEAR: "0",
    }  # fmt: skip
    assert (report["chain"], report["kind"]) == ("both", "embedded")
    assert set(report["behaviours"].values()) == {"lazy"}
    assert len(report["behaviours"]) == 2


def test_a_coin_too_many_on_one_chain_does_not_make_up_for_one_on_the_other(story: Story) -> None:
    report = report_of(story, books(101), books(99))
    assert not report["ok"]
    assert report["ledger"]["difference"] == "2"


def test_books_that_were_never_closed_on_one_chain_are_not_right(story: Story) -> None:
    plan = make_plan("both", 1, "1", {})
    before = {SEI: books(100), NEAR: books(100)}
    report = make_report(story, plan, before, {SEI: books(100)}, endpoints())
    assert not report["ok"]
    assert not make_report(story, plan, {}, {}, {})["ok"]


async def test_what_goes_wrong_in_one_of_several_tasks_makes_the_step_false(story: Story) -> None:
    async def fail() -> None:
        raise NodeFault("a coin is missing")

    async with story.step("a claim") as lines:
        lines.append("seen")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
    assert story.steps == [{"name": "a claim", "ok": False, "evidence": "a coin is missing"}]
    assert not story.ok


async def test_steps_side_by_side_are_told_whole_and_in_the_order_of_their_ends(
    story: Story, screen: io.StringIO
) -> None:
    ended = trio.Event()

    async def slow() -> None:
        async with story.step("slow", alongside=True) as lines:
            await ended.wait()
            lines.append("of the slow one")

    async def quick() -> None:
        async with story.step("quick", alongside=True) as lines:
            lines.append("of the quick one")
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        nursery.start_soon(quick)
    said = [line.strip() for line in screen.getvalue().splitlines() if "done" not in line]
    assert said == [
        f"1/{story.total}  quick", "of the quick one", f"2/{story.total}  slow", "of the slow one",
    ]  # fmt: skip


def test_the_screen_names_accounts_by_node_and_chain(story: Story, screen: io.StringIO) -> None:
    after = {
        name: Books({owner: 100}, {}, 100, 0, names={owner: "node-0"})
        for name, owner in OWNERS.items()
    }
    plan = make_plan("both", 1, "1", {})
    show(story, make_report(story, plan, after, after, endpoints()))
    assert "node-0 on sei (lazy)" in screen.getvalue()
    assert "node-0 on near (lazy)" in screen.getvalue()


def test_the_sums_of_a_task_add_up_as_they_are_read() -> None:
    done = {
        "escrowed": "30000000000000000", "paid": "25802288000000000", "refunded": "0",
        "protocol_fee": "4197712000000000", "timings": {"total_ms": 1000},
        "result": {"agreed": 3, "seats": 3, "digest": "0x" + "ab" * 32, "bytes": 8},
    }  # fmt: skip
    _, money = told(done)
    escrowed, *parts = map(Decimal, re.findall(r"([0-9.]+) CT", money))
    assert (escrowed, len(parts)) == (sum(parts), 3)


async def test_what_a_step_found_is_told_before_the_step_has_ended(
    story: Story, screen: io.StringIO
) -> None:
    async with story.step("slow") as lines:
        lines.append("the first")
        assert "the first" in screen.getvalue()
        lines += ["the second"]
        assert "the second" in screen.getvalue()
    assert screen.getvalue().count("the first") == 1
    assert story.steps[0]["evidence"] == "the first; the second"


def test_the_accounts_have_a_sum_and_fit_eighty_columns(story: Story, screen: io.StringIO) -> None:
    story.settings.__dict__["err"] = Console(file=screen, width=80)
    owner = OWNERS[SEI]
    after = {SEI: Books({owner: 3 * UNIT, AccountId("b"): 10**9 * UNIT}, {owner: UNIT}, 0, 0)}
    names = {owner: "node-14", AccountId("b"): "faucet"}
    after[SEI] = replace(after[SEI], names=names)
    report = make_report(story, make_plan("embedded", 1, "1", {}), after, after, {
        "nodes": [{"name": "node-14", "behaviour": "equivocator", "chains": {
            SEI: {"node_id": "n", "owner": owner}}}],
    })  # fmt: skip
    show(story, report)
    lines = screen.getvalue().splitlines()
    row = next(line for line in lines if "node-14" in line)
    assert row.split() == ["node-14", "(equivocator)", "3.000000", "3.000000", "1.000000"]
    assert any(
        line.split() == ["all,", "CT", "1,000,000,003.000000", "1,000,000,003.000000", "1.000000"]
        for line in lines
    )
