"""`deai channel` in the home of a node: the other end of the same channels.

What a node knows of them its own program tells (`deai node channels`, `deai node redeem`); this
finds it where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from deai.cli.base import Group, Settings
from deai.errors import MalformedMessage, NotSetUp, UsageError


def show_here(settings: Settings, node_id: str) -> bool:
    """Show what clients owe the node of this home; whether it is that node's home."""
    if node_id not in _nodes(settings.home).values():
        return False
    _of_node("channels")(settings, "")
    return True


def add_to(group: Group) -> None:
    """Make `redeem` a command of the group."""
    group.command("redeem")(redeem)


@click.argument("node_id", metavar="[NODE]", required=False)
@click.option("--all", "every", is_flag=True, help="On every chain that this home serves.")
def redeem(settings: Settings, node_id: str | None, every: bool) -> None:
    r"""Redeem what clients have promised the node of this home.

    A running node does it in the background; while none runs it is done here.

    \b
    Example:
      deai channel redeem --all
    """
    nodes = _nodes(settings.home)
    if not nodes:
        raise NotSetUp(
            f"no node is set up in {settings.home}",
            hint="vouchers are redeemed where the node that was paid runs: --home names its home",
        )
    if node_id is not None and every:
        raise UsageError("NODE or --all, not both", code="usage")
    chain = None if every else settings.chain
    if node_id is not None:
        chain = next((name for name, own in nodes.items() if own == node_id), None)
        if chain is None:
            raise UsageError(
                f"the node of this home is {', '.join(nodes.values())}", code="another_node"
            )
    _of_node("redeem")(replace(settings, only_chain=chain))


def _nodes(home: Path) -> dict[str, str]:
    """Chain → node, as `deai node init` wrote it; of a damaged file nothing."""
    from deai.codec import decode_json

    found: dict[str, str] = {}
    for path in sorted(home.glob("registration*.json")):
        try:
            known: Any = decode_json(path.read_bytes(), dict)
            found[str(known["chain"])] = str(known["node_id"])
        except (OSError, MalformedMessage, KeyError):
            continue
    return found


def _of_node(name: str) -> Callable[..., Any]:
    """What a command of `deai node` does; raises `NotSetUp` where that is not installed."""
    for entry in entry_points(group="deai.commands", name="node"):
        command = entry.load().commands[name]
        if command.callback is not None:
            found: Callable[..., Any] = command.callback
            return found
    raise NotSetUp("`deai node` is not installed", hint="install it: pip install 'deai[node]'")
