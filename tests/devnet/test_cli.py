"""What `deai devnet` and `deai demo` refuse before anything starts, and what their help says."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deai.errors import DeaiError, UsageError
from devnet import cli
from devnet.demo import check_writable
from devnet.layout import Layout, State, make_plan

COMMANDS: dict[str, click.Command] = {
    **{f"devnet {name}": found for name, found in cli.devnet.commands.items()},
    "devnet": cli.devnet,
    "demo": cli.demo,
}


def refused(*arguments: str, command: click.Command = cli.devnet) -> DeaiError:
    error = CliRunner().invoke(command, list(arguments)).exception
    assert isinstance(error, DeaiError), error
    return error


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_an_example_and_every_option_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    help_text = CliRunner().invoke(command, ["--help"]).output
    assert f"\n    deai {name}" in help_text.split("Example")[1]
    assert not [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]


@pytest.mark.parametrize(
    ("address", "amount", "names"),
    [
        ("0x12", "5CT", "ADDRESS"),
        ("0x" + "zz" * 20, "5CT", "ADDRESS"),
        ("not an account", "5CT", "ADDRESS"),
        ("0x" + "11" * 20, "5x", "AMOUNT"),
        ("0x" + "11" * 20, "-5", "AMOUNT"),
    ],
)
def test_the_faucet_reads_what_was_typed_before_it_looks_for_a_network(
    tmp_path: Path, address: str, amount: str, names: str
) -> None:
    error = refused("faucet", "--dir", str(tmp_path), "--", address, amount)
    assert isinstance(error, UsageError)
    assert str(error).startswith(f"{names}: ")


def test_nothing_is_made_where_no_devnet_is(tmp_path: Path) -> None:
    for command in (["down"], ["start", "node-0"], ["kill", "node-0"], ["status"], ["logs"]):
        assert refused(*command, "--dir", str(tmp_path)).reason_code == "not_set_up"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [".", "missing/report.json", "file/report.json"])
def test_a_report_that_cannot_be_written_is_refused_at_once(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "net"
    error = refused("--report", str(tmp_path / where), "--dir", str(home), command=cli.demo)
    assert (error.reason_code, error.exit_status) == ("report_not_writable", 2)
    assert not home.exists()


def test_looking_whether_a_report_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "report.json")
    assert not list(tmp_path.iterdir())
    kept = tmp_path / "old.json"
    kept.write_text("{}")
    check_writable(kept)
    assert kept.read_text() == "{}"


def test_the_demo_does_not_begin_in_a_devnet_that_is_there(tmp_path: Path) -> None:
    Layout(tmp_path).save(State(plan=make_plan("embedded", 1, "s", {})))
    error = refused("--dir", str(tmp_path), command=cli.demo)
    assert isinstance(error, UsageError)
    assert "holds a devnet" in str(error)
    assert isinstance(refused("--nodes", "3", command=cli.demo), UsageError)


def test_a_devnet_is_not_resumed_on_another_chain_than_the_one_asked_for(tmp_path: Path) -> None:
    Layout(tmp_path).save(State(plan=make_plan("embedded", 1, "s", {})))
    error = refused("up", "--chain", "near", "--dir", str(tmp_path))
    assert (error.reason_code, error.exit_status) == ("other_devnet", 2)
    assert "embedded" in str(error)
