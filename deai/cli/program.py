"""The `deai` command: finds groups lazily, reports errors, sets exit codes."""

from __future__ import annotations

import importlib
import json
import os
import sys
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from deai import __version__
from deai.cli.base import INTERRUPTED, Group, report_error
from deai.errors import ConfigError, DeaiError, NotSetUp

OWN: Final = {
    "task": ("deai.cli.task:task", "Submit tasks, follow them, fetch results, check receipts."),
    "account": ("deai.cli.account:account", "The account that pays for tasks."),
    "channel": (
        "deai.cli.channel:channel",
        "Deposits for one node each; they pay small tasks.",
    ),
    "orders": ("deai.cli.orders:orders", "Money set aside for signed orders."),
    "rewards": ("deai.cli.rewards:rewards", "What accounts are owed each epoch; claim it."),
    "network": ("deai.cli.network:network", "Ask a coordinator about the network."),
    "stake": ("deai.cli.stake:stake", "Register nodes, add and withdraw stake."),
    "pool": ("deai.cli.pool:pool", "Lend to the stake of nodes; manage a node that takes it."),
    "keys": ("deai.cli.keys:keys", "Create, list and move keys."),
    "workload": ("deai.cli.workload:workload", "What can be computed; run it here."),
    "config": ("deai.cli.config:config", "Show and check the configuration."),
}
PROGRAMS: Final = {
    "demo": ("devnet", "The main job, narrated, on this machine."),
    "devnet": ("devnet", "A whole network on this machine."),
    "node": ("node", "Run a node and see how it is doing."),
    "coordinator": ("coordinator", "Run the indexer, API and pages."),
}
"""Commands that other packages bring (entry-point group `deai.commands`) and the extra's name."""
ORDER: Final = (
    "demo", "devnet", "task", "account", "channel", "orders", "node", "stake", "pool", "rewards",
    "network", "workload", "keys", "config", "coordinator",
)  # fmt: skip

_MISSING_HINT: Final = "install it: pip install 'deai[{extra}]'"


class Root(Group):
    """The top level: names are known, modules are loaded when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ORDER)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in OWN:
            return _load(OWN[cmd_name][0], cmd_name, "client")
        if cmd_name in PROGRAMS:
            extra, _help = PROGRAMS[cmd_name]
            for found in entry_points(group="deai.commands", name=cmd_name):
                return _load(found.value, cmd_name, extra)
            raise NotSetUp(
                f"`deai {cmd_name}` is not installed", hint=_MISSING_HINT.format(extra=extra)
            )
        near = get_close_matches(cmd_name, ORDER, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"No such command {cmd_name!r}.{meant}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, (OWN.get(name) or PROGRAMS[name])[1]) for name in ORDER])


def _load(target: str, name: str, extra: str) -> click.Command:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise NotSetUp(
            f"`deai {name}` needs the package {error.name}",
            hint=_MISSING_HINT.format(extra=extra),
        ) from error
    if not isinstance(found, click.Command):
        raise TypeError(f"{target} is no command")
    return found


@click.command("deai", cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="deai")
def deai() -> None:
    """A decentralised network for AI compute.

    \b
    Examples:
      deai demo                              the whole thing on this machine
      deai task submit embedding --input texts.txt --output vectors.npy
      deai node init --network network.json && deai node run
    """  # noqa: D301 - click reads the control character


def run() -> None:
    """Run the command line and exit with its status."""
    as_json = "--json" in sys.argv[1:]
    _complete_streams()
    try:
        status = deai.main(standalone_mode=False)
    except DeaiError as error:
        status = report_error(error, as_json=as_json)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except click.ClickException as error:
        status = 2
        if as_json:
            body = {
                "code": "usage",
                "message": error.format_message(),
                "hint": "add --help to the command",
            }
            sys.stdout.write(json.dumps({"error": body}) + "\n")
        else:
            error.show()
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    except BrokenPipeError:
        _silence()
        status = 1
    except OSError as error:
        status = _report_system_error(error, as_json=as_json)
    sys.exit(status if isinstance(status, int) else 0)


def _complete_streams() -> None:
    """Where a standard stream is closed, let nothing: else a file takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull).open(mode)  # noqa: SIM115 - as long as the process
            setattr(sys, name, nothing)


def _report_system_error(error: OSError, *, as_json: bool) -> int:
    """A disk that is full, a folder that is a file: for people, not a traceback."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        said: DeaiError = ConfigError(
            f"cannot use {error.filename}: {reason}",
            hint="it must exist and be yours to read and write; --home names another folder",
            code="unusable_file",
        )
    else:
        said = DeaiError(reason, hint="mend that, then the same command", code="system_error")
    try:
        return report_error(said, as_json=as_json)
    except OSError:
        # Standard output itself is what cannot be written.
        _silence()
        return report_error(said, as_json=False)


def _silence() -> None:
    """Nobody takes our output: make the interpreter's own flush quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
