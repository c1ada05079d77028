"""The node's commands as a program: documents, exit codes, what they load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from deai.cli.main import main
from node.cli import node

COMMANDS = (
    "init", "run", "status", "why", "doctor", "bench", "drain", "pause", "resume", "earnings",
    "tasks",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a command printed and how it left."""

    returncode: int
    stdout: str
    stderr: str


Deai: TypeAlias = Callable[..., Done]


@pytest.fixture
def deai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Deai:
    """Run the real entry point, as a person would, on an empty home."""
    for name in [name for name in os.environ if name.startswith("DEAI")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Done:
        command = ["deai", "node", *arguments, "--home", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        status = left.value.code
        return Done(status if isinstance(status, int) else 0, printed.out, printed.err)

    return run


def document(done: Done) -> dict[str, Any]:
    """The one JSON document on stdout."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example(name: str) -> None:
    command = node.commands[name]
    assert "Example" in (command.help or "")
    assert f"deai node {name}" in (command.help or "")


def test_status_before_anything_is_set_up(deai: Deai) -> None:
    done = deai("status", "--json")
    assert done.returncode == 3
    status = document(done)
    assert status["state"] == "not_set_up"
    assert status["node_id"] is None
    assert status["problems"][0]["hint"]
    assert deai("status").returncode == 3


def test_run_before_anything_is_set_up_says_what_to_do(deai: Deai) -> None:
    done = deai("run", "--json")
    assert done.returncode == 3
    assert "deai node init" in document(done)["error"]["hint"]


@pytest.mark.parametrize("name", ["why", "drain", "pause", "resume"])
def test_orders_to_a_daemon_that_does_not_run_are_temporary_errors(name: str, deai: Deai) -> None:
    done = deai(name, "--json")
    assert done.returncode == 75
    assert document(done)["error"]["code"] == "node_not_running"


def test_a_bad_duration_is_named(deai: Deai) -> None:
    done = deai("pause", "--for", "soon", "--json")
    assert (done.returncode, document(done)["error"]["code"]) == (2, "bad_duration")
    stake = deai("init", "--stake", "much", "--json")
    assert (stake.returncode, document(stake)["error"]["code"]) == (2, "bad_amount")


def test_earnings_and_tasks_of_an_empty_home(deai: Deai) -> None:
    assert document(deai("earnings", "--json")) == {
        "paid": "0", "pending": "0", "forfeited": "0", "slashed": "0",
        "tasks": {"paid": 0, "failed": 0}, "by_day": [], "by_workload": [],
    }  # fmt: skip
    assert document(deai("tasks", "--json")) == {"items": [], "next_cursor": None}


def test_init_without_a_network_names_the_option(deai: Deai) -> None:
    done = deai("init", "--non-interactive", "--json")
    assert done.returncode == 3
    assert "--network" in document(done)["error"]["hint"]


@pytest.mark.slow
def test_init_refuses_an_address_before_it_writes_it_anywhere(deai: Deai, tmp_path: Path) -> None:
    done = deai("init", "--non-interactive", "--json", "--listen", '/ip4/0.0.0.0/tcp/1"]\nx=["')
    assert done.returncode == 2
    error = document(done)["error"]
    assert error["message"].startswith("--listen: ")
    assert "/ip4/0.0.0.0/tcp/4001" in error["hint"]
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("text", ["[1]", '{"admin_url": 5}', "{", ""])
def test_what_a_daemon_left_behind_damaged_is_no_daemon(
    text: str, deai: Deai, tmp_path: Path
) -> None:
    (tmp_path / "node.json").write_text(text)
    (tmp_path / "admin.token").write_text("t" * 64)
    (tmp_path / "admin.token").chmod(0o600)
    done = deai("why", "--json")
    assert done.returncode == 75
    assert document(done)["error"]["code"] == "node_not_running"


@pytest.mark.slow
def test_doctor_of_an_empty_home_fails_check_by_check(deai: Deai) -> None:
    done = deai("doctor", "--json")
    assert done.returncode == 4
    checks = {check["name"]: check for check in document(done)["checks"]}
    assert not checks["keys"]["ok"]
    assert checks["keys"]["fix"]
    assert checks["disk"]["ok"]
    assert {"name", "ok", "detail", "fix"} == set(checks["chain"])


@pytest.mark.slow
def test_the_daemon_loads_no_torch_and_help_loads_next_to_nothing() -> None:
    code = (
        "import sys, node.program, node.opening, node.main, node.admin.server, node.metrics,"
        " p2p.net, deai.chain.sei.ledger, workloads.pool; print([m for m in"
        " ('torch', 'transformers', 'web3', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
    code = (
        "import sys, node.cli; print([m for m in ('torch', 'libp2p', 'hypercorn', 'starlette',"
        " 'httpx', 'psutil', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
