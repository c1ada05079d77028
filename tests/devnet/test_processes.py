"""Processes are known again, killed and stopped, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coordinator.config import load
from deai.config import load_config
from deai.errors import ConfigError, NotSetUp, UsageError
from devnet import processes
from devnet.cli import parse_behaviours
from devnet.launcher import coordinator_config
from devnet.layout import Layout, State, make_plan
from devnet.processes import ProcessRecord
from tests.support.polling import until

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); time.sleep(600)",
]


async def said(log: Path) -> str:
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    return log.read_text()


def has_ended(pid: int) -> bool:
    try:
        # Whoever adopted it may reap it later.
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def gone(pid: int) -> None:
    await until(lambda: has_ended(pid))


async def test_a_process_is_known_by_pid_and_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record = processes.start("x", SLEEPER, log=log, environment=os.environ, tied=True)
    await said(log)

    assert processes.is_alive(record)
    assert not processes.is_alive(ProcessRecord("x", record.pid, record.started - 100))

    processes.kill(record)
    await gone(record.pid)
    assert not processes.is_alive(record)


async def test_stopping_takes_the_whole_session_along(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record = processes.start("x", PARENT, log=log, environment=os.environ, tied=True)
    grandchild = int(await said(log))

    await processes.stop(record, patience=5)

    await gone(grandchild)
    assert not processes.is_alive(record)


async def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stubborn = [
        sys.executable, "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(600)",
    ]  # fmt: skip
    record = processes.start("x", stubborn, log=log, environment=os.environ, tied=True)
    await said(log)

    await processes.stop(record, patience=0.3)

    assert not processes.is_alive(record)


async def test_tied_processes_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys, time; from pathlib import Path; from devnet import processes;"
        f"record = processes.start('x', {SLEEPER!r}, log=Path({str(log)!r}),"
        " environment=os.environ, tied=True);"
        "print(record.pid, flush=True); time.sleep(600)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    with launcher.stdout:
        pid = int(launcher.stdout.readline())
    await said(log)

    launcher.send_signal(signal.SIGKILL)
    launcher.wait(timeout=60)

    await gone(pid)


def test_children_do_not_inherit_settings_of_another_network() -> None:
    environment = processes.child_environment({"DEAI_HOME": "/x", "PATH": "/bin"})

    assert environment == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}


def test_a_devnet_remembers_its_plan(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "net")
    with pytest.raises(NotSetUp):
        layout.load()
    plan = make_plan("embedded", 3, "s", {1: "lazy"})
    layout.save(State(plan=plan, processes=(ProcessRecord("sei", 1, 2.0),)))

    assert layout.load().plan == plan
    assert layout.load().process("sei") == ProcessRecord("sei", 1, 2.0)
    assert (
        layout.secret("s", "client") == layout.secret("s", "client") != layout.secret("t", "client")
    )


def test_every_port_of_the_coordinator_stays_over_restarts(tmp_path: Path) -> None:
    plan = make_plan("embedded", 2, "s", {})
    ports = [
        plan.chain_port, plan.coordinator_port, plan.coordinator_p2p_port,
        plan.coordinator_metrics_port, *(node.port for node in plan.nodes),
    ]  # fmt: skip
    assert len(set(ports)) == len(ports) == 6
    assert 0 not in ports

    layout = Layout(tmp_path / "net")
    layout.save(State(plan=plan))
    config = tmp_path / "config.toml"
    config.write_text(coordinator_config(layout, layout.load().plan))
    written = load(load_config(config, {}))
    assert written.listen == f"127.0.0.1:{plan.coordinator_port}"
    assert written.metrics == f"127.0.0.1:{plan.coordinator_metrics_port}"
    assert written.p2p == (f"/ip4/127.0.0.1/tcp/{plan.coordinator_p2p_port}",)


def test_a_directory_from_before_a_port_was_kept_is_still_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.save(State(plan=make_plan("embedded", 1, "s", {})))
    old = json.loads(layout.state.read_bytes())
    del old["plan"]["coordinator_metrics_port"]
    layout.state.write_text(json.dumps(old))
    assert layout.load().plan.coordinator_metrics_port == 0


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.state.write_text("{")

    with pytest.raises(ConfigError, match=r"devnet\.json"):
        layout.load()


def test_two_launchers_do_not_work_on_one_directory(tmp_path: Path) -> None:
    with Layout(tmp_path).locked():
        with pytest.raises(ConfigError, match="another command"), Layout(tmp_path).locked():
            pass


@pytest.mark.parametrize(
    "text",
    ["lazy", "x=lazy", "1=", "1=nobody", "1=os:nothing", "1=nope:x", "1=.x:y", "1=:y", "²=lazy"],
)
def test_a_behaviour_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--behaviour"):
        parse_behaviours((text,))


def test_behaviours_are_ours_or_anybodys() -> None:
    assert parse_behaviours(("1=lazy", "2=os:getcwd")) == {1: "lazy", 2: "os:getcwd"}


@pytest.mark.parametrize(("nodes", "behaviours"), [(0, {}), (65, {}), (2, {2: "lazy"})])
def test_a_plan_has_bounds(nodes: int, behaviours: dict[int, str]) -> None:
    with pytest.raises(UsageError):
        make_plan("embedded", nodes, "s", behaviours)
