"""Single tasks over the lane, their receipts, and what `deai task` tells of what went over it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from deai.client.lane.book import Book
from deai.client.lane.diary import Diary, Noted
from tests.cli.conftest import Shell
from tests.cli.lanes import PRICE, lanes

pytestmark = pytest.mark.world


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
