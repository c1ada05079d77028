"""Commands that need no network: keys, configuration, workloads, help."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest

from deai.cli.base import Group
from deai.cli.main import main
from deai.cli.program import OWN, deai
from deai.client.adapters import load_catalogue
from tests.cli.conftest import Shell

HEAVY = ("torch", "libp2p", "web3", "httpx", "numpy", "trio", "rich", "transformers", "sqlalchemy")


def modules_after(*arguments: str) -> list[str]:
    """Which heavy packages `deai …` imports, in a fresh process."""
    code = (
        "import sys, json\n"
        f"sys.argv = ['deai', *{list(arguments)!r}]\n"
        "from deai.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    found: list[str] = json.loads(done.stderr)
    return found


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("task", "submit", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert modules_after(*arguments) == []


def commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(deai)
    for name in OWN:
        group = deai.get_command(context, name)
        assert isinstance(group, Group)
        found.append((name, group))
        found += [(f"{name} {sub}", group.commands[sub]) for sub in group.commands]
    return found


@pytest.mark.parametrize(
    ("name", "command"), commands(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_help_has_an_example(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name))
    assert "Example" in text
    assert f"deai {name.split()[0]}" in text
    assert "\\b" not in text, "click's mark is no text"
    assert re.search(r"^ +deai ", text, re.MULTILINE), "an example has a line of its own"


def test_a_list_of_commands_cuts_no_sentence() -> None:
    for name, group in commands():
        if isinstance(group, Group):
            text = group.get_help(click.Context(group, info_name=name, terminal_width=80))
            assert "..." not in text.replace("[ARGS]...", "")


@pytest.mark.parametrize("named", ["option", "variable"])
def test_a_home_may_be_named_relative_to_where_one_stands(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.chdir(tmp_path)
    if named == "variable":
        monkeypatch.setenv("DEAI_HOME", "house")
        monkeypatch.setattr(sys, "argv", ["deai", "keys", "new", "--kind", "client"])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
    else:
        inside = Shell(Path("house"), monkeypatch, shell.capsys)
        assert inside("keys", "new", "--kind", "client").status == 0
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json"))
    assert made == ["house/keys/client.json"]


def test_a_key_is_made_once_shown_without_its_secret_and_readable_by_its_owner_only(
    shell: Shell,
) -> None:
    made = shell.json("keys", "new", "--kind", "client").document
    path = Path(made["path"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert shell.json("keys", "show", "--kind", "client").document == made
    again = shell.json("keys", "new", "--kind", "client")
    assert (again.status, again.error["code"]) == (3, "config_error")
    assert [one["kind"] for one in shell.json("keys", "list").document["items"]] == ["client"]
    assert shell("keys", "list").status == 0


def test_a_peer_key_has_the_id_that_libp2p_gives_it(shell: Shell) -> None:
    from p2p.identity import load_identity

    made = shell.json("keys", "new", "--kind", "peer").document
    assert made["peer_id"] == load_identity(Path(made["path"])).peer_id


def test_a_key_can_be_exported_and_imported_elsewhere(shell: Shell, tmp_path: Path) -> None:
    made = shell.json("keys", "new", "--kind", "owner").document
    copy, passphrase = tmp_path / "copy.json", tmp_path / "copy.pass"
    exported = shell.json(
        "keys", "export", "--kind", "owner", "--to", str(copy), "--passphrase-file", str(passphrase)
    )
    assert exported.document["account"] == made["account"]
    elsewhere = Shell(tmp_path / "elsewhere", shell.monkeypatch, shell.capsys)
    imported = elsewhere.json(
        "keys", "import", "--kind", "owner", "--from", str(copy),
        "--passphrase-file", str(passphrase),
    )  # fmt: skip
    assert imported.document["account"] == made["account"]


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 32])
def test_standard_input_that_holds_no_key_is_refused(
    shell: Shell, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    done = shell.json("keys", "import", "--kind", "client", "--from", "-")
    assert done.status in (1, 3)
    assert text not in done.err or not text
    assert not (shell.home / "keys" / "client.json").exists()


def test_a_missing_key_names_the_command_that_makes_one(shell: Shell) -> None:
    done = shell.json("keys", "show", "--kind", "operator")
    assert (done.status, done.error["code"]) == (3, "not_set_up")
    assert "deai keys new --kind operator" in done.error["hint"]


def test_settings_are_shown_with_where_they_come_from(shell: Shell) -> None:
    shell.home.mkdir()
    (shell.home / "config.toml").write_text('[client]\nmax_fee = "2CT"\n')
    shell.monkeypatch.setenv("DEAI_COORDINATOR_URL", "http://127.0.0.1:1")
    document = shell.json("config", "show", "--origin").document
    assert document["settings"]["client.max_fee"] == "2CT"
    assert document["origins"]["client.max_fee"] == "file"
    assert document["origins"]["coordinator_url"] == "environment"
    assert document["origins"]["chain"] == "default"
    assert shell("config", "show").status == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 3\n", "colour"),
        ("[client]\nmax_fee = 3\n", "client.max_fee"),
        ("[node]\nno_such_setting = 1\n", "no_such_setting"),
        ("chain = [\n", "config.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_file_and_line(shell: Shell, text: str, named: str) -> None:
    shell.home.mkdir()
    (shell.home / "config.toml").write_text(text)
    done = shell.json("config", "check")
    assert done.status == 3
    assert named in done.out
    assert "config.toml" in done.out


def test_workloads_are_listed_and_shown(shell: Shell) -> None:
    items = shell.json("workload", "list").document["items"]
    assert {"embedding", "portfolio-risk", "matmul-proof"} <= {one["id"] for one in items}
    shown = shell.json("workload", "show", "embedding").document
    assert shown["default_policy"] == "tol32/1"
    unknown = shell.json("workload", "show", "nothing")
    assert (unknown.status, unknown.error["code"]) == (2, "unknown_workload")
    assert shell("workload", "list").status == 0
    assert shell("workload", "show", "portfolio-risk").status == 0


@pytest.mark.slow
def test_a_workload_runs_here_in_a_locked_worker(shell: Shell, tmp_path: Path) -> None:
    target = tmp_path / "proof.json"
    done = shell.json(
        "workload", "run", "matmul-proof", "--param", "size=64", "--param", "rounds=1",
        "--output", str(target),
    )  # fmt: skip
    assert done.status == 0, done.err
    assert len(json.loads(target.read_bytes())["digest"]) == 64
    assert done.document["sandbox"] in ("full", "partial")


def test_a_home_that_cannot_be_one_is_named(shell: Shell) -> None:
    shell.home.touch()
    done = shell.json("keys", "new", "--kind", "client")
    assert (done.status, done.error["code"]) == (3, "unusable_file")
    assert str(shell.home) in done.error["message"]


def deai_program(*arguments: str, home: Path, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own."""
    code = "from deai.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments, "--home", str(home)],
        timeout=240, check=False, **streams,
    )  # fmt: skip


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_disk_that_is_full_is_said_without_a_traceback(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = deai_program(
            "keys", "list", *flags, home=tmp_path, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: No space left on device\nhint: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_stream_takes_nothing_down(tmp_path: Path, closed: int) -> None:
    streams = {1: "stdout", 2: "stderr"}
    kept = {name: subprocess.PIPE for number, name in streams.items() if number != closed}
    done = deai_program(
        "keys", "list", home=tmp_path, **kept,
        preexec_fn=functools.partial(os.close, closed),
    )  # fmt: skip
    assert done.returncode == 0
    assert b"Traceback" not in (done.stderr or b"")


def test_a_file_that_is_no_receipt_is_named(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("notes")
    done = shell.json("task", "verify-receipt", str(file))
    assert (done.status, done.error["code"]) == (1, "malformed_message")
    assert "notes.txt is no receipt" in done.error["message"]
    for place in (tmp_path, tmp_path / "none"):
        done = shell.json("task", "verify-receipt", str(place))
        assert (done.status, done.error["code"]) == (2, "unreadable_input")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["import", "--kind", "client", "--from", "/no/such/file"], 2, "unreadable_input"),
        (["import", "--kind", "client", "--from", "/"], 2, "unreadable_input"),
        (["import", "--kind", "peer", "--from", "-"], 2, "usage"),
        (["export", "--kind", "client", "--to", "/", "--passphrase-file", "p"], 2,
         "unwritable_output"),
        (["export", "--kind", "peer", "--to", "x", "--passphrase-file", "p"], 2, "usage"),
        (["show", "--kind", "x"], 2, "usage"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_moved_so_is_a_usage_error(
    shell: Shell, arguments: list[str], status: int, code: str
) -> None:
    done = shell.json("keys", *arguments)
    assert (done.status, done.error["code"]) == (status, code)
    assert done.error["hint"]


def test_a_peer_key_that_is_missing_is_no_traceback(shell: Shell, tmp_path: Path) -> None:
    shell.json("keys", "new", "--kind", "owner")
    shell.json("keys", "new", "--kind", "operator")
    done = shell.json("stake", "register", "--peer-key", str(tmp_path / "none"))
    assert (done.status, done.error["code"]) == (3, "not_set_up")
    assert "--kind peer" in done.error["hint"]
    assert shell.json("stake", "register", "--peer-key", str(tmp_path)).status == 3


class Stranger(http.server.BaseHTTPRequestHandler):
    """Something that speaks JSON and is no coordinator."""

    def do_GET(self) -> None:
        body = b'{"items": [{"hello": 1}], "hello": "world"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.network
def test_what_answers_and_is_no_coordinator_is_said_to_be_none(shell: Shell) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            for command in (("stats",), ("health",), ("nodes",), ("tasks",),
                            ("node", "0x" + "11" * 32)):  # fmt: skip
                done = shell.json("network", *command, "--coordinator", url)
                assert (done.status, done.error["code"]) == (1, "malformed_message"), command
                assert "is no coordinator" in done.error["message"]
        finally:
            server.shutdown()
            thread.join()


def test_an_unknown_command_is_a_usage_error(shell: Shell) -> None:
    done = shell.json("task", "explode")
    assert (done.status, done.error["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("typed", "meant"), [("tsak", "task"), ("nodes", "node"), ("dmeo", "demo"), ("stak", "stake")]
)
def test_a_command_typed_wrongly_is_answered_with_the_one_that_was_meant(
    shell: Shell, typed: str, meant: str
) -> None:
    done = shell.json(typed)
    assert (done.status, done.error["code"]) == (2, "usage")
    assert f"Did you mean {meant!r}?" in done.error["message"]
    assert "mean" not in shell.json("xyzzy").error["message"]


def test_who_forgot_the_devnets_settings_is_told_where_they_are(shell: Shell) -> None:
    assert "deai devnet up" in shell.json("network", "stats").error["hint"]
    config = shell.home / "devnet" / "client" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("")
    done = shell.json("network", "stats")
    assert (done.status, done.error["code"]) == (3, "not_set_up")
    assert f"--config {config}" in done.error["hint"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[client]\nmax_feee = "1CT"\n', "did you mean max_fee?"),
        ("[client]\ncolour = 3\n", "max_fee"),
        ("[client]\nmax_fee = 3\n", "deai config show"),
    ],
)
def test_a_wrong_setting_is_answered_with_those_that_there_are(
    shell: Shell, text: str, hint: str
) -> None:
    shell.home.mkdir()
    (shell.home / "config.toml").write_text(text)
    done = shell.json("config", "check")
    assert hint in done.error["hint"]


def test_an_input_is_shown_with_every_workload_that_takes_one(shell: Shell) -> None:
    catalogue = load_catalogue()
    for name in ("embedding", "portfolio-risk"):
        shown = shell.json("workload", "show", name).document
        assert shown["input"]
        example = shown["example"].encode()
        assert catalogue.check(name, catalogue.parameters(name, {}), example).items
        assert shown["example"].splitlines()[0] in shell("workload", "show", name).out


def test_ctrl_c_while_the_command_loads_leaves_no_traceback(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests run under\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"sys.argv = ['deai', 'keys', 'list', '--home', {str(tmp_path)!r}]\n"
        "from deai.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
