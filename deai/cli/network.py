"""`deai network`: what a coordinator says about the network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed

if TYPE_CHECKING:
    from rich.console import Console

URL = click.option("--coordinator", metavar="URL", help="Ask this coordinator.")
LIMIT = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, help="How many at most."
)
DEGRADED = 4
NODES_HINT = "`deai network nodes --json` lists their whole ids"
WIDE = 110
"""Columns from which a table of nodes also names their workloads."""
WORKLOADS = ("Workloads",)


@group("network")
def network() -> None:
    r"""Ask a coordinator about the network.

    A coordinator only reports; what it says about money can be checked on the chain.

    \b
    Examples:
      deai network stats
      deai network nodes --json
    """


@network.command("stats")
@URL
def stats(settings: Settings, coordinator: str | None) -> None:
    r"""Nodes, tasks, stake and rewards of the whole network.

    \b
    Example:
      deai network stats --coordinator http://127.0.0.1:8700
    """
    from deai.cli.render import pairs, say, tokens

    document = _get(
        settings, coordinator, "/network/stats", "active_nodes", "nodes_by_state",
        "pending_tasks", "tasks_by_state", "throughput", "total_staked",
        "total_rewards_distributed", "slashed", "min_stake", "chains",
    )  # fmt: skip

    nodes_now = f"{document['active_nodes']} active; {_counts(document['nodes_by_state'])}"
    tasks_now = f"{document['pending_tasks']} pending; {_counts(document['tasks_by_state'])}"

    def render(console: Console) -> None:
        say(console, f"Network as of {document.get('as_of')}")
        say(console)
        pairs(
            console,
            [
                ("Nodes", nodes_now),
                ("Tasks", tasks_now),
                ("Throughput", f"{document['throughput']} completed a second, last minute"),
                ("Staked", tokens(document["total_staked"])),
                ("Paid", f"{tokens(document['total_rewards_distributed'])} to providers"),
                ("Slashed", tokens(document["slashed"])),
                ("Min stake", tokens(document["min_stake"])),
            ],
        )
        for name, chain in document["chains"].items():
            pairs(console, [(name, f"block {chain['head']:,}, {chain['lag_s']} s behind")])

    emit(settings, document, render)


@network.command("health")
@URL
def health(settings: Settings, coordinator: str | None) -> None:
    r"""Whether the coordinator and the chains it follows are well. Exit 4 if not.

    \b
    Example:
      deai network health
    """
    from deai.cli.render import marked, say

    document = _get(settings, coordinator, "/network/health", "status")
    status = str(document.get("status", "unknown"))

    def render(console: Console) -> None:
        say(console, marked(status))
        for name, value in document.items():
            if name != "status":
                say(console, f"  {name}  {_shown(value)}")

    emit(settings, document, render)
    if status not in ("ok", "healthy"):
        raise ExitWith(DEGRADED)


@network.command("nodes")
@URL
@LIMIT
def nodes(settings: Settings, coordinator: str | None, limit: int) -> None:
    r"""List the nodes, of all chains or of one.

    \b
    Examples:
      deai network nodes --limit 20
      deai network nodes --chain near
    """
    from deai.cli.render import bare, marked, short, table

    items = _pages(
        settings, coordinator, "/nodes", limit, "node_id", "state", "status", "stake",
        "reputation", "completed", "workloads",
    )  # fmt: skip

    def render(console: Console) -> None:
        is_wide = console.width >= WIDE
        table(
            console,
            ("Node", "State", "Status", "Stake, CT", "Rep.", "Done", *WORKLOADS[:is_wide]),
            [
                (
                    short(one["node_id"]),
                    marked(one["state"]),
                    marked(one["status"]),
                    bare(one["stake"]),
                    f"{one['reputation']:.0f}",
                    str(one["completed"]),
                    *[", ".join(offer["workload"] for offer in one["workloads"])][:is_wide],
                )
                for one in items
            ],
            right=(3, 4, 5),
        )

    emit(settings, {"items": items, "next_cursor": None}, render)


@network.command("node")
@click.argument("node_id")
@URL
def node(settings: Settings, node_id: str, coordinator: str | None) -> None:
    r"""Show one node.

    \b
    Example:
      deai network node 0x5f1ab693…
    """
    from deai.cli.render import marked, pairs, say, tokens
    from deai.ids import any_node

    node = typed("NODE_ID", any_node, node_id, code="bad_node_id", hint=NODES_HINT)
    document = _get(
        settings, coordinator, f"/nodes/{quote(node)}/status", "node_id", "state", "status",
        "owner", "peer_id", "stake", "reputation", "completed", "failed", "earned", "slashed",
        "last_heartbeat", "workloads",
    )  # fmt: skip

    twin = document.get("bound")
    also = "" if not twin else f"{twin['node_id']} on {twin['chain']}, {twin['standing']}"

    def render(console: Console) -> None:
        say(console, f"Node {document['node_id']}")
        say(console, f"{marked(document['state'])}   {marked(document['status'])}")
        pairs(
            console,
            [
                ("Owner", document["owner"]),
                ("Also", also),
                ("Peer", document["peer_id"] or ""),
                ("Stake", tokens(document["stake"])),
                ("Reputation", f"{document['reputation']:.1f} of 1000"),
                ("Completed", str(document["completed"])),
                ("Failed", str(document["failed"])),
                ("Earned", tokens(document["earned"])),
                ("Slashed", tokens(document["slashed"])),
                ("Heartbeat", document["last_heartbeat"] or "never heard"),
                ("Workloads", ", ".join(one["workload"] for one in document["workloads"])),
            ],
        )

    emit(settings, document, render)


@network.command("tasks")
@URL
@LIMIT
def tasks(settings: Settings, coordinator: str | None, limit: int) -> None:
    r"""List the newest tasks, of all chains or of one.

    \b
    Examples:
      deai network tasks --limit 20
      deai network tasks --chain near
    """
    from deai.cli.render import bare, marked, short, table

    items = _pages(
        settings, coordinator, "/tasks", limit, "task_id", "state", "policy", "escrowed", "paid"
    )

    def render(console: Console) -> None:
        table(
            console,
            ("Task", "State", "Policy", "Escrowed, CT", "Paid, CT"),
            [
                (
                    short(one["task_id"]),
                    marked(one["state"]),
                    one["policy"],
                    bare(one["escrowed"]),
                    bare(one["paid"]),
                )
                for one in items
            ],
            right=(3, 4),
        )

    emit(settings, {"items": items, "next_cursor": None}, render)


def _urls(settings: Settings, given: str | None) -> list[str]:
    from deai.urls import parse_url

    if given is not None:
        return [typed("--coordinator", parse_url, given)]
    configured = settings.config.coordinator_url
    return [configured] if configured else list(settings.network.coordinators)


def _get(settings: Settings, url: str | None, path: str, *wanted: str) -> dict[str, Any]:
    from deai.client.coordinator import Coordinator

    document = run_trio(Coordinator(_urls(settings, url)).get, path)
    _check(document, path, wanted)
    return dict(document)


def _pages(
    settings: Settings, url: str | None, path: str, limit: int, *wanted: str
) -> list[dict[str, Any]]:
    from deai.client.coordinator import Coordinator

    filters = {"chain": settings.only_chain} if settings.only_chain else {}
    items = run_trio(partial(Coordinator(_urls(settings, url)).pages, path, limit, **filters))
    for item in items:
        _check(item, path, wanted)
    return items


def _check(document: object, path: str, wanted: tuple[str, ...]) -> None:
    """Anything may answer at a URL: say so instead of failing over what is not there."""
    from deai.errors import MalformedMessage

    lacking = [name for name in wanted if not isinstance(document, dict) or name not in document]
    if lacking or not isinstance(document, dict):
        raise MalformedMessage(
            f"what answers {path} is no coordinator: its answer lacks {', '.join(lacking)}",
            hint="name a coordinator with --coordinator URL",
        )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in counts.items())


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(_shown(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)
