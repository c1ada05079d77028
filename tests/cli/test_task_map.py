"""`deai task map` from the command line."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deai.cli.map_job import UnderWay
from deai.money import UNIT
from tests.cli.conftest import Shell
from tests.cli.lanes import PRICE, lanes, rows
from tests.client.lane.node import Cheat
from tests.support.polling import wait

pytestmark = pytest.mark.world


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
        wait(lambda: output.exists() and len(rows(output)) == 1)
        heard.append(len(rows(output)))
        os.write(pipe, b"c\n")
        wait(lambda: len(rows(output)) == 2)
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
        wait(lambda: ahead.exists() and ahead.read_bytes().count(b"\n") >= 60)
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
