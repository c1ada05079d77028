"""`deai task map`, `task submit --lane channel` and receipts of the lane, from the command line."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from deai import actions as act
from deai.actions import OpenChannel
from deai.cli.map_job import UnderWay
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.lane.book import Book
from deai.client.lane.diary import Diary, Noted
from deai.client.lane.places import session_key_file
from deai.client.opening import open_client
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.signing import LocalSigner
from p2p.memory import MemoryNetwork
from tests.cli.conftest import Shell
from tests.cli.network import Neighbourhood
from tests.client.lane.node import Account, Cheat, LaneNode
from tests.client.lane.world import QUICK
from tests.client.support.node import Script, ScriptedNode
from tests.client.support.world import World, peer_name, signer

pytestmark = pytest.mark.world

PRICE = UNIT // 100


class Lanes(Neighbourhood):
    """Nodes that serve the lane, whose accounts outlive the commands."""

    def __init__(self, home: Path, *cheats: Cheat, channels: int = 1, deposit: int = UNIT) -> None:
        super().__init__(home, *[Script(workloads=("echo",), base_fee=PRICE)] * len(cheats))
        self.cheats, self.channels, self.deposit = cheats, channels, deposit
        self.lanes: list[LaneNode] = []
        self.accounts: list[dict[Any, Account]] = [{} for _ in cheats]

    @asynccontextmanager
    async def connect(self, *_: object, **__: object) -> AsyncIterator[Client]:
        network = MemoryNetwork()
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            world = World(self.chain, network, nursery)
            if not self.nodes:
                bank = self.chain.ledger(signer("holder"))
                await bank.submit(act.TransferTokens(self.payer.account, Amount(100 * UNIT)))
                for script in self.scripts:
                    self.nodes.append(await world.add(script))
                for node in self.nodes[: self.channels]:
                    await self.open_channel(node)
            else:
                for at, old in enumerate(self.nodes):
                    net = await nursery.start(world._open, old.net.peer_id)
                    again = ScriptedNode(old.node, old.operator, old.ledger, net, old.script)
                    await nursery.start(again.run)
                    self.nodes[at] = again
            self.lanes = [LaneNode(*pair) for pair in zip(self.nodes, self.cheats, strict=True)]
            for lane, accounts in zip(self.lanes, self.accounts, strict=True):
                lane.accounts = accounts
                await nursery.start(lane.run)
            net = await stack.enter_async_context(network.open_net(peer_name("client")))
            peers = PeerList(PeerAddress(n.net.peer_id, n.net.addresses) for n in self.nodes)
            yield await stack.enter_async_context(
                open_client(
                    ledger=self.chain.ledger(self.payer),
                    net=net,
                    catalogue=world.catalogue,
                    home=self.home,
                    sources=(peers,),
                    patience=QUICK,
                )
            )
            nursery.cancel_scope.cancel()

    async def open_channel(self, node: ScriptedNode) -> None:
        """As `deai channel open` does."""
        secret = hashlib.sha256(node.node.encode()).digest()
        path = session_key_file(self.home, node.node)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secret.hex())
        path.chmod(0o600)
        action = OpenChannel(node.node, LocalSigner(secret).account, 1, Amount(self.deposit))
        await self.chain.ledger(self.payer).submit(action)

    @property
    def computed(self) -> list[bytes]:
        """What the nodes of the last command computed."""
        return [data for lane in self.lanes for data in lane.computed]


def lanes(shell: Shell, monkeypatch: pytest.MonkeyPatch, *cheats: Cheat, **more: Any) -> Lanes:
    made = Lanes(shell.home, *(cheats or (Cheat(),)), **more)
    made.install(monkeypatch)
    return made


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch, write: Callable[[int], None]) -> Iterator[None]:
    """Standard input is a pipe into which `write` writes, beside."""
    ours, theirs = os.pipe()

    def feed() -> None:
        try:
            write(theirs)
        except BrokenPipeError:
            pass
        finally:
            os.close(theirs)

    thread = threading.Thread(target=feed, daemon=True)
    with os.fdopen(ours) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        thread.start()
        yield
    thread.join(10)
    assert not thread.is_alive()


def until(true: Callable[[], bool]) -> None:
    """Poll for at most ten seconds."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_becomes_a_result_in_its_place(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch, Cheat(), Cheat(), channels=2, deposit=5 * UNIT)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"line {n}\n" for n in range(300)))
    done = shell.json(
        "task", "map", "echo", "--input", str(source), "--output", str(output), "--max-fee", "1CT"
    )
    assert done.status == 0, done.out + done.err
    assert [row["output"] for row in rows(output)] == [f"LINE {n}" for n in range(300)]
    document = done.document
    assert (document["tasks"], document["failed"], document["resumed"]) == (300, 0, 0)
    assert document["paid"] == str(300 * PRICE)
    assert sum(one["tasks"] for one in document["nodes"]) == 300
    assert len(document["nodes"]) == 2
    assert document["vouchers"] > 0
    assert document["output"] == str(output)
    assert sum(lane.account.cumulative for lane in network.lanes) == 300 * PRICE


def test_the_same_command_again_goes_on_behind_the_last_whole_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"line {n}\n" for n in range(60)))
    command = ("task", "map", "echo", "--input", str(source), "--output", str(output))
    assert shell.json(*command, "--max-fee", "1CT").status == 0
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:40]) + lines[40][:17])  # killed in the midst of a line
    done = shell.json(*command, "--max-fee", "1CT")
    assert done.document["resumed"] == 40
    assert output.read_bytes() == whole
    assert network.computed == [b"line %d" % n for n in range(40, 60)]
    again = shell.json(*command, "--max-fee", "1CT")
    assert (again.document["resumed"], again.document["tasks"]) == (60, 60)
    assert again.document["paid"] == "0"
    assert network.computed == []


def test_a_pipe_may_be_silent_while_results_are_written(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch)
    output = tmp_path / "out.jsonl"
    heard: list[int] = []

    def write(pipe: int) -> None:
        os.write(pipe, b"a\nb")
        until(lambda: output.exists() and len(rows(output)) == 1)
        heard.append(len(rows(output)))
        os.write(pipe, b"c\n")
        until(lambda: len(rows(output)) == 2)
        heard.append(len(rows(output)))

    command = ("task", "map", "echo", "--input", "-", "--output", str(output), "--max-fee", "1CT")
    with piped(monkeypatch, write):
        done = shell.json(*command)
    assert done.status == 0, done.out + done.err
    assert heard == [1, 2]
    assert [row["output"] for row in rows(output)] == ["A", "BC"]


def test_of_an_endless_pipe_little_is_read_ahead(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch, deposit=20 * PRICE)
    output = tmp_path / "out.jsonl"
    taken = 0

    def write(pipe: int) -> None:
        nonlocal taken
        while True:
            taken += os.write(pipe, b"x" * 1023 + b"\n")

    command = ("task", "map", "echo", "--input", "-", "--output", str(output), "--max-fee", "1CT")
    with piped(monkeypatch, write):
        done = shell.json(*command, "--in-flight", "8")
    assert done.error["code"] == "deposit"
    assert len(rows(output)) == 20
    assert taken < 512 * 1024

    def endless_line(pipe: int) -> None:
        while True:
            os.write(pipe, b"x" * 65536)

    with piped(monkeypatch, endless_line):
        done = shell.json(*command[:-4], "--max-fee", "1CT", "--output", str(tmp_path / "new"))
    assert done.error["code"] == "input_too_large"


def test_what_a_killed_command_had_received_is_not_asked_for_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # One node never answers for its half of the lines, so results come before their turn.
    network = lanes(shell, monkeypatch, Cheat("silent"), Cheat(), channels=2, deposit=9 * UNIT)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"line {n}\n" for n in range(600)))
    ahead = tmp_path / "out.jsonl.ahead"
    left = tmp_path / "left"
    left.mkdir()
    received: list[dict[str, Any]] = []

    def kill() -> None:
        """What a kill at this moment would leave behind."""
        until(lambda: ahead.exists() and ahead.read_bytes().count(b"\n") >= 60)
        shutil.copy(output, left)
        shutil.copy(ahead, left)
        with (left / ahead.name).open("ab") as file:
            file.write(b'{"index":599,"key":"')  # in the midst of a line

    thread = threading.Thread(target=kill)
    thread.start()
    files = ("--input", str(source), "--output", str(output))
    command = ("task", "map", "echo", *files, "--max-fee", "1CT", "--in-flight", "400")
    shell.json(*command)
    thread.join()
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    received = rows(output) + [
        json.loads(one) for one in ahead.read_text().splitlines() if one.endswith("}")
    ]
    network.cheats = (Cheat(), Cheat())
    done = shell.json(*command)
    assert done.status == 0, done.out + done.err
    assert done.document["resumed"] == len(received) >= 60
    known = {row["output"].lower().encode() for row in received}
    assert not known & set(network.computed)
    assert len(network.computed) == 600 - len(received)
    assert [row["output"] for row in rows(output)] == [f"LINE {n}" for n in range(600)]
    assert not ahead.exists()


def test_ctrl_c_pays_for_what_was_received_wherever_it_strikes(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch, deposit=9 * UNIT)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"line {n}\n" for n in range(600)))
    files = ("--input", str(source), "--output", str(output))
    heard, really = 0, UnderWay._ended

    def ended(self: UnderWay, line: Any, task: Any) -> None:
        nonlocal heard
        really(self, line, task)
        heard += 1
        if heard == 100:  # here the voucher is still to be written
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(UnderWay, "_ended", ended)
    done = shell.json("task", "map", "echo", *files, "--max-fee", "1CT")
    assert (done.status, done.error["code"]) == (130, "interrupted")
    run = shell.json("task", "list").document["items"][0]["task_id"]
    noted = shell.json("task", "show", run).document
    assert 100 <= len(rows(output)) < 600
    assert noted["state"] == "cancelled"
    assert (noted["tasks"], int(noted["paid"])) == (len(rows(output)), len(rows(output)) * PRICE)


def test_results_of_another_input_are_not_gone_on_with(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\n")
    command = ("task", "map", "echo", "--input", str(source), "--output", str(output))
    assert shell.json(*command, "--max-fee", "1CT").status == 0
    source.write_text("a\nc\nd\n")
    done = shell.json(*command, "--max-fee", "1CT")
    assert (done.status, done.error["code"]) == (2, "other_output")
    output.write_text("notes of mine\n")
    done = shell.json(*command, "--max-fee", "1CT")
    assert (done.status, done.error["code"]) == (2, "other_output")
    assert output.read_text() == "notes of mine\n"
    assert network.computed == [b"a", b"b"]


def test_a_bad_line_fails_alone(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("one\nfault\n\nfour\n")  # the node refuses the second, echo the third
    done = shell.json(
        "task", "map", "echo", "--input", str(source), "--output", str(output), "--max-fee", "1CT"
    )
    assert done.status == 1
    assert (done.document["tasks"], done.document["failed"]) == (4, 2)
    found = rows(output)
    assert [row.get("output") for row in found] == ["ONE", None, None, "FOUR"]
    assert {row["error"]["code"] for row in found[1:3]} == {"workload_fault"}


def test_lines_may_be_json_or_base64(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch)
    source, output = tmp_path / "lines.jsonl", tmp_path / "out.jsonl"
    source.write_text('"a\\nb"\n{"k": 1}\n')
    command = ("task", "map", "echo", "--max-fee", "1CT", "--output", str(output))
    assert shell.json(*command, "--input", str(source)).status == 0
    assert network.computed == [b"a\nb", b'{"k": 1}']
    output.unlink()
    source = tmp_path / "lines.b64"
    source.write_bytes(base64.b64encode(b"\xff\x00x") + b"\n")
    done = shell.json(*command, "--input", str(source), "--format", "base64")
    assert done.status == 0
    assert rows(output)[0]["base64"] == base64.b64encode(b"\xff\x00X").decode()
    done = shell.json(*command, "--input", str(source), "--format", "json")
    assert (done.status, done.error["code"]) == (2, "bad_line")


def test_a_deposit_that_runs_out_stops_it_and_more_lets_it_go_on(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch, deposit=20 * PRICE)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"line {n}\n" for n in range(50)))
    command = ("task", "map", "echo", "--input", str(source), "--output", str(output))
    done = shell.json(*command, "--max-fee", "1CT")
    assert done.error["code"] == "deposit"
    assert "deai channel top-up" in done.error["hint"]
    assert len(rows(output)) == 20
    assert "stopped after 20 lines; the same command goes on" in done.err
    done = shell.json(*command, "--max-fee", "1CT", "--top-up", "1CT")
    assert done.status == 0, done.out + done.err
    assert (done.document["resumed"], done.document["tasks"]) == (20, 50)


def test_without_a_channel_it_says_which_to_open(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch, channels=0)
    source = tmp_path / "lines.txt"
    source.write_text("a\n")
    output = tmp_path / "out.jsonl"
    command = ("task", "map", "echo", "--input", str(source), "--output", str(output))
    done = shell.json(*command, "--max-fee", "1CT")
    assert (done.status, done.error["code"]) == (3, "no_channel")
    assert f"deai channel open {network.nodes[0].node}" in done.error["hint"]
    done = shell.json("task", "map", "echo", "--input", str(source))
    assert done.status == 2


def test_a_dry_run_shows_prices_sums_and_what_channels_hold_and_promises_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch, Cheat(), Cheat(), channels=1, deposit=5 * PRICE)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\n\nd\n")
    command = ("task", "map", "echo", "--input", str(source), "--max-fee", "1CT")
    first = shell.json(*command, "--dry-run")
    assert first.status == 0, first.out + first.err
    found = first.document
    assert (found["tasks"], found["failed"], found["done"]) == (4, 1, 0)
    assert found["sum"] == {"least": str(3 * PRICE), "most": str(3 * PRICE)}
    assert (found["left"], found["enough"], found["problem"]) == (str(5 * PRICE), True, None)
    rich, poor = found["nodes"]
    assert (rich["channel"], rich["left"]) == ("open", str(5 * PRICE))
    assert rich["price"] == {"least": str(PRICE), "most": str(PRICE)}
    assert (poor["channel"], poor["left"]) == ("none", "0")
    assert network.computed == []
    assert shell.json(*command, "--output", str(output)).document["failed"] == 1
    source.write_text("a\nb\n\nd\n" + "more\n" * 3)
    before = output.read_bytes()
    found = shell.json(*command, "--output", str(output), "--dry-run").document
    assert output.read_bytes() == before
    assert (found["done"], found["tasks"]) == (4, 3)
    assert (found["nodes"][0]["promised"], found["left"]) == (str(3 * PRICE), str(2 * PRICE))
    assert not found["enough"]
    done = shell(*command, "--output", str(tmp_path / "none.jsonl"), "--dry-run")
    assert "the deposits may not reach" in done.out
    assert not (tmp_path / "none.jsonl").exists()


def test_tasks_and_runs_of_the_lane_are_among_the_others(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch, deposit=20 * PRICE)
    source, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    source.write_text("a\n\nc\n")
    files = ("--input", str(source), "--output", str(output))
    assert shell.json("task", "map", "echo", *files, "--max-fee", "1CT").status == 1
    one = shell.json("task", "submit", "echo", "--input", str(source), "--max-fee", "1CT").document
    source_of_one = source.read_bytes()
    source.write_text("".join(f"{n}\n" for n in range(30)))
    files = ("--input", str(source), "--output", str(tmp_path / "more.jsonl"))
    assert shell.json("task", "map", "echo", *files, "--max-fee", "1CT").status != 0
    listed = shell.json("task", "list").document["items"]
    assert [row["state"] for row in listed] == ["failed", "completed", "completed"]
    assert [row["task_id"][:4] for row in listed] == ["map-", "lane", "map-"]
    assert {(row["workload"], row["policy"], row["chain"]) for row in listed} == {
        ("echo", "none/1", "sei")
    }
    assert listed[1]["task_id"] == one["task_id"]
    assert listed[1]["receipt"] == one["receipt"]
    run = shell.json("task", "show", listed[2]["task_id"][:9]).document
    assert (run["tasks"], run["failed"], run["paid"]) == (3, 1, str(2 * PRICE))
    assert (run["output"], run["input"]) == (str(output), str(source))
    assert run["ended_at"]
    failed = shell.json("task", "show", listed[0]["task_id"]).document
    assert (failed["tasks"], failed["state"]) == (17, "failed")
    assert "covers no other task" in failed["detail"]
    assert shell.json("task", "show", one["task_id"]).document == one
    assert "Paid" in shell("task", "show", listed[0]["task_id"]).out
    assert shell("task", "show", one["task_id"]).status == 0
    again = tmp_path / "again.txt"
    found = shell.json("task", "result", one["task_id"], "--output", str(again))
    assert (found.status, again.read_bytes()) == (0, source_of_one.upper())
    run_has_many = shell.json("task", "result", listed[2]["task_id"])
    assert (run_has_many.status, str(output) in run_has_many.error["message"]) == (2, True)
    # A task of a run has no row; the book knows that it was paid, and what proves it.
    name = one["task_id"].rpartition("-")[0]
    traced = shell.json("task", "show", f"{name}-1").document
    assert traced["receipt_kept"]
    assert traced["channel_id"] == next(iter(network.lanes[0].accounts))
    unknown = shell.json("task", "show", f"{name}-99999")
    assert (unknown.status, unknown.error["code"]) == (2, "bad_task_id")


def test_a_run_that_was_killed_does_not_go_on_for_ever(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes(shell, monkeypatch)
    document = {"task_id": "map-01", "workload": "echo", "chain": "sei", "state": "in_progress",
                "detail": "it goes on", "tasks": 7, "failed": 0, "paid": "1"}  # fmt: skip
    Diary(shell.home).write(Noted("map-01", 1.0, document))
    shown = shell.json("task", "show", "map-01").document
    assert (shown["state"], shown["tasks"]) == ("cancelled", 7)
    book = Book(shell.home)
    try:
        assert shell.json("task", "show", "map-01").document == document
        assert shell.json("task", "list").document["items"][0]["state"] == "in_progress"
    finally:
        book.close()


def test_a_dry_run_of_one_task_goes_the_way_that_the_task_would(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = lanes(shell, monkeypatch, channels=0)
    source = tmp_path / "in.txt"
    source.write_text("hello")
    command = ("task", "submit", "echo", "--input", str(source), "--max-fee", "1CT", "--dry-run")
    assert "escrowed" in shell.json(*command).document
    found = shell.json(*command, "--lane", "channel").document
    assert found["sum"]["most"] == str(PRICE)
    assert "no channel is open" in found["problem"]
    assert "deai channel open" in found["hint"]
    assert not found["enough"]
    trio.run(network.open_channel, network.nodes[0])
    assert shell.json(*command).document["lane"] == "channel"
    assert network.computed == []


def test_one_task_over_the_lane_leaves_a_receipt_that_is_checked_offline(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch)
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("hello")
    command = ("task", "submit", "echo", "--input", str(source), "--output", str(output))
    first = shell.json(*command, "--max-fee", "1CT", "--lane", "channel")
    assert first.status == 0, first.out + first.err
    done = shell.json(*command, "--max-fee", "1CT")  # a channel is open: the lane by itself
    document = done.document
    assert document["lane"] == first.document["lane"] == "channel"
    assert (document["state"], document["policy"]) == ("completed", "none/1")
    assert document["escrowed"] == document["paid"] == str(PRICE)
    assert output.read_text() == "HELLO"
    assert document["task_id"].endswith("-1-1")
    receipt = document["receipt"]
    checked = shell.json(
        "task", "verify-receipt", receipt, "--input", str(source), "--output", str(output)
    )
    assert checked.status == 0
    assert checked.document["ok"]
    assert {one["name"] for one in checked.document["checks"]} >= {"channel", "window", "signature"}
    text = Path(receipt).read_text()
    for old, new in (
        ('"index": 1', '"index": 0'),
        ('"max_units": 1', '"max_units": 2'),
        (f'"price": "{PRICE}"', f'"price": "{PRICE - 1}"'),
        ('"chain": "sei"', '"chain": "near"'),
    ):
        assert old in text
        Path(receipt).write_text(text.replace(old, new))
        assert shell.json("task", "verify-receipt", receipt).status == 1, old
    Path(receipt).write_text(text)
    source.write_text("other")
    wrong = shell.json("task", "verify-receipt", receipt, "--input", str(source))
    assert [one["name"] for one in wrong.document["checks"] if not one["ok"]] == ["input"]


def test_what_the_lane_cannot_do_is_said_before_anything_is_sent(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch)
    source = tmp_path / "in.txt"
    source.write_text("hello")
    for option in (("--policy", "exact/1"), ("--seats", "3"), ("--detach",), ("--tip", "1CT")):
        done = shell.json(
            "task", "submit", "echo", "--input", str(source), "--lane", "channel", *option
        )
        assert (done.status, done.error["code"]) == (2, "usage"), option


def test_the_summary_is_readable(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lanes(shell, monkeypatch)
    source = tmp_path / "lines.txt"
    source.write_text("a\nb\n")
    done = shell("task", "map", "echo", "--input", str(source), "--max-fee", "1CT")
    assert done.status == 0
    assert [json.loads(line)["output"] for line in done.out.splitlines()] == ["A", "B"]
    assert list(tmp_path.glob("*.ahead")) == []
    assert "Paid" in done.err
    assert "First failed" not in done.err
    source.write_bytes(b"a\n" + b"x" * 70_000 + b"\n")
    done = shell("task", "map", "echo", "--input", str(source), "--max-fee", "1CT")
    assert done.status == 1
    assert "line 2: the input has 70000 bytes" in done.err
    source.write_text("a")
    done = shell("task", "submit", "echo", "--input", str(source), "--max-fee", "1CT")
    assert done.status == 0
    assert "one node, paid by voucher" in done.out
    assert "Escrowed" not in done.out
