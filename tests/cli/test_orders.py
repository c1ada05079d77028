"""`deai orders`, and orders among the tasks of a home."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from deai.chain.ledger import Ledger
from deai.chain.memory import MemoryChain
from deai.client import access
from deai.money import UNIT
from tests.cli.conftest import Shell
from tests.cli.network import Neighbourhood
from tests.client.support.world import signer
from tests.node.orders.support import config, fund, nodes, payer, settlements, submit
from tests.node.support.names import until
from tests.node.support.world import open_world

PAYER = signer("payer").account


def test_money_is_set_aside_thaws_and_comes_back(shell: Shell, rich: Neighbourhood) -> None:
    empty = shell.json("orders", "status").document
    assert (empty["state"], empty["nonces"], empty["free"]) == ("none", 0, "0")
    put = shell.json("orders", "fund", "10CT").document
    assert (put["state"], put["nonces"], put["balance"]) == ("funded", 255, str(10 * UNIT))
    assert put["tokens"] == str(90 * UNIT)
    asked = shell.json("orders", "thaw", "4CT").document
    assert (asked["state"], asked["thawing"], asked["free"]) == (
        "thawing", str(4 * UNIT), str(6 * UNIT),
    )  # fmt: skip
    assert asked["thaws_at"]
    early = shell.json("orders", "withdraw")
    assert early.status == 1
    assert "StillThawing" in early.error["message"] or early.error["code"]
    rich.chain.advance(24 * 3600 + 1)
    back = shell.json("orders", "withdraw").document
    assert (back["state"], back["balance"], back["tokens"]) == (
        "funded", str(6 * UNIT), str(94 * UNIT),
    )  # fmt: skip
    shell.json("orders", "thaw", "--all")
    kept = shell.json("orders", "thaw", "--cancel").document
    assert (kept["state"], kept["thaws_at"]) == ("funded", None)
    screen = shell("orders", "status").out
    for expected in ("Set aside", "6.000000 CT", "Orders left"):
        assert expected in screen


def test_a_thaw_needs_exactly_one_wish(shell: Shell, rich: Neighbourhood) -> None:
    assert shell("orders", "thaw").status == 2
    assert shell("orders", "thaw", "1CT", "--all").status == 2


def test_what_cannot_thaw_or_leave_is_said_in_words(shell: Shell, rich: Neighbourhood) -> None:
    assert shell.json("orders", "fund", "0").error["code"] == "bad_amount"
    assert shell.json("orders", "withdraw").error["code"] == "nothing_thaws"
    shell.json("orders", "fund", "10CT")
    more = shell.json("orders", "thaw", "11CT")
    assert (more.status, more.error["code"]) == (2, "too_much")
    assert "10.000000 CT" in more.error["message"]


def test_more_than_the_wallet_holds_is_asked_for(shell: Shell, rich: Neighbourhood) -> None:
    done = shell.json("orders", "fund", "101CT")
    assert done.status == 5
    assert done.document["needs"]["tokens"] == str(UNIT)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--policy", "tol32/1"], "unsupported_policy"),
        (["--detach"], "usage"),
        (["--tip", "1"], "usage"),
        (["--policy", "tol32/1", "--dry-run"], "unsupported_policy"),
    ],
)
def test_what_an_order_cannot_do_is_refused(
    shell: Shell, rich: Neighbourhood, tmp_path: Path, more: list[str], code: str
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\n")
    command = ["task", "submit", "embedding", "--input", str(texts), "--lane", "order"]
    policy = [] if "--policy" in more else ["--policy", "none/1"]
    done = shell.json(*command, *policy, *more)
    assert done.status == 2
    assert done.error["code"] == code
    assert done.error["hint"]


@pytest.mark.world
def test_an_order_is_listed_shown_fetched_and_proven(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Neighbourhood(shell.home)  # its network file and keys

    async def live() -> tuple[MemoryChain, dict[str, Any]]:
        async with open_world(tmp_path) as world:
            await nodes(world, config=config(settle_count=1))
            await fund(world)
            async with payer(world, shell.home) as client:
                outcome = await (await submit(client)).wait()
            await until(lambda: settlements(world))
            return world.chain, outcome.document

    chain, document = trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))

    @asynccontextmanager
    async def reader(*_: object) -> AsyncIterator[Ledger]:
        yield chain.ledger()

    monkeypatch.setattr(access, "open_reader", reader)
    identity = document["task_id"]
    (listed,) = shell.json("task", "list").document["items"]
    assert (listed["task_id"], listed["state"]) == (identity, "completed")
    shown = shell.json("task", "show", identity[:12]).document
    assert shown["order"]["settlement"] == "settled"
    parts = ("held", "paid", "refunded", "protocol_fee")
    assert int(shown["escrowed"]) == sum(int(shown[part]) for part in parts)
    assert len(shown["payments"]) == 3
    assert shell("task", "show", identity).status == 0
    for verb in ("events", "cancel"):
        assert shell.json("task", verb, identity).error["code"] == "is_an_order"
    target = tmp_path / "again"
    assert shell.json("task", "result", identity, "--output", str(target)).status == 0
    assert target.read_bytes() == b"HELLO"
    given = tmp_path / "given"
    given.write_bytes(b"hello")
    proof = ["task", "verify-receipt", document["receipt"]]
    checked = shell.json(*proof, "--output", str(target), "--input", str(given))
    assert (checked.status, checked.document["ok"]) == (0, True)
    names = {one["name"] for one in checked.document["checks"]}
    assert names >= {"order", "spec", "client", "seat 0", "quorum", "input", "output"}
    given.write_bytes(b"other")
    assert shell.json(*proof, "--input", str(given)).status == 1
    changed = json.loads(Path(document["receipt"]).read_bytes())
    for name, value in (("fee", "1"), ("nonce", 200), ("policy", "none/1"), ("client", PAYER)):
        target.write_text(json.dumps({**changed, name: value}))
        assert shell.json("task", "verify-receipt", str(target)).status == 1
    for seats in (changed["seats"][:1], [{**one, "signature": ""} for one in changed["seats"]]):
        target.write_text(json.dumps({**changed, "seats": seats}))
        assert shell.json("task", "verify-receipt", str(target)).status == 1
