"""`deai network`: what a coordinator says about the network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from deai.cli.base import NODES_HINT, ExitWith, Settings, emit, group, run_trio, typed
from deai.cli.network_documents import (
    Channel,
    ChannelSums,
    Health,
    LentStake,
    Node,
    NodeStatus,
    Stats,
    Task,
)

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

URL = click.option("--coordinator", metavar="URL", help="Ask this coordinator.")
LIMIT = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, help="How many at most."
)
DEGRADED = 4
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

    document, seen = _get(settings, coordinator, "/network/stats", Stats)
    nodes_now = f"{seen.active_nodes} active; {_counts(seen.nodes_by_state)}"
    tasks_now = f"{seen.pending_tasks} pending; {_counts(seen.tasks_by_state)}"

    def render(console: Console) -> None:
        say(console, f"Network as of {seen.as_of}")
        say(console)
        pairs(
            console,
            [
                ("Nodes", nodes_now),
                ("Tasks", tasks_now),
                ("Throughput", f"{seen.throughput} completed a second, last minute"),
                ("Staked", tokens(seen.total_staked)),
                ("Paid", f"{tokens(seen.total_rewards_distributed)} to providers"),
                ("Channels", _locked(seen.channels)),
                ("Slashed", tokens(seen.slashed)),
                ("Min stake", tokens(seen.min_stake)),
            ],
        )
        for name, chain in seen.chains.items():
            known = chain.head is not None and chain.lag_s is not None
            where = f"block {chain.head:,}, {chain.lag_s} s behind" if known else "not followed yet"
            pairs(console, [(name, where)])

    emit(settings, document, render)


@network.command("health")
@URL
def health(settings: Settings, coordinator: str | None) -> None:
    r"""Whether the coordinator and the chains it follows are well. Exit 4 if not.

    \b
    Example:
      deai network health
    """
    from deai.cli.render import marked, pairs, say

    document, seen = _get(settings, coordinator, "/network/health", Health)

    def render(console: Console) -> None:
        say(console, f"{marked(seen.status)}   {seen.as_of}")
        pairs(
            console,
            [
                (f"{marked('ok' if one.ok else 'fail')}  {one.name}", one.detail)
                for one in seen.checks
            ],
        )

    emit(settings, document, render)
    if seen.status != "ok":
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

    items, seen = _pages(settings, coordinator, "/nodes", limit, Node)

    def render(console: Console) -> None:
        is_wide = console.width >= WIDE
        table(
            console,
            ("Node", "State", "Status", "Stake, CT", "Rep.", "Done", *WORKLOADS[:is_wide]),
            [
                (
                    short(one.node_id),
                    marked(one.state),
                    marked(one.status),
                    bare(one.stake),
                    f"{one.reputation:.0f}",
                    str(one.completed),
                    *[", ".join(offer.workload for offer in one.workloads)][:is_wide],
                )
                for one in seen
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
    document, seen = _get(settings, coordinator, f"/nodes/{quote(node)}/status", NodeStatus)
    twin = seen.bound
    also = "" if twin is None else f"{twin.node_id} on {twin.chain}, {twin.standing}"

    def render(console: Console) -> None:
        say(console, f"Node {seen.node_id}")
        say(console, f"{marked(seen.state)}   {marked(seen.status)}")
        pairs(
            console,
            [
                ("Owner", seen.owner),
                ("Also", also),
                ("Peer", seen.peer_id or ""),
                ("Stake", tokens(seen.stake)),
                ("Reputation", f"{seen.reputation:.1f} of 1000"),
                ("Completed", str(seen.completed)),
                ("Failed", str(seen.failed)),
                ("Earned", tokens(seen.earned)),
                ("Channels", _locked(seen.channels)),
                ("Slashed", tokens(seen.slashed)),
                ("Pool", _lent(seen.pool)),
                ("Heartbeat", seen.last_heartbeat or "never heard"),
                ("Workloads", ", ".join(one.workload for one in seen.workloads)),
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

    items, seen = _pages(settings, coordinator, "/tasks", limit, Task)

    def render(console: Console) -> None:
        table(
            console,
            ("Task", "State", "Policy", "Escrowed, CT", "Paid, CT"),
            [
                (
                    short(one.task_id),
                    marked(one.state),
                    one.policy,
                    bare(one.escrowed),
                    bare(one.paid),
                )
                for one in seen
            ],
            right=(3, 4),
        )

    emit(settings, {"items": items, "next_cursor": None}, render)


@network.command("channels")
@URL
@LIMIT
@click.option("--node", "node_id", metavar="ID", help="Only those for this node.")
@click.option("--client", "account", metavar="ACCOUNT", help="Only those of this client.")
def channels(
    settings: Settings,
    coordinator: str | None,
    limit: int,
    node_id: str | None,
    account: str | None,
) -> None:
    r"""List payment channels, of all chains or of one, the newest first.

    \b
    Examples:
      deai network channels --limit 20
      deai network channels --node 0x5f1ab693…
    """
    from deai.cli.render import bare, marked, short, table
    from deai.ids import any_account, any_node

    narrow: dict[str, str] = {}
    if node_id is not None:
        narrow["node"] = typed("--node", any_node, node_id, code="bad_node_id", hint=NODES_HINT)
    if account is not None:
        narrow["client"] = typed("--client", any_account, account)
    items, seen = _pages(settings, coordinator, "/channels", limit, Channel, **narrow)

    def render(console: Console) -> None:
        table(
            console,
            ("Node", "Client", "State", "Deposit, CT", "Claimed, CT", "Left, CT"),
            [
                (
                    short(one.node_id),
                    short(one.client),
                    marked(one.state),
                    bare(one.deposit),
                    bare(one.claimed),
                    bare(one.remaining),
                )
                for one in seen
            ],
            right=(3, 4, 5),
        )

    emit(settings, {"items": items, "next_cursor": None}, render)


def _urls(settings: Settings, given: str | None) -> list[str]:
    from deai.urls import parse_url

    if given is not None:
        return [typed("--coordinator", parse_url, given)]
    configured = settings.config.coordinator_url
    return [configured] if configured else list(settings.network.coordinators)


def _get(settings: Settings, url: str | None, path: str, kind: type[T]) -> tuple[Any, T]:
    """A document as it came, and what of it a screen shows."""
    from deai.client.coordinator import Coordinator

    document = run_trio(Coordinator(_urls(settings, url)).get, path)
    return document, _read(document, path, kind)


def _pages(
    settings: Settings, url: str | None, path: str, limit: int, kind: type[T], **narrow: str
) -> tuple[list[Any], list[T]]:
    """The items of a list as they came, and what of them a screen shows."""
    from deai.client.coordinator import Coordinator

    filters = {"chain": settings.only_chain, **narrow} if settings.only_chain else narrow
    items = run_trio(partial(Coordinator(_urls(settings, url)).pages, path, limit, **filters))
    return items, [_read(item, path, kind) for item in items]


def _read(document: object, path: str, kind: type[T]) -> T:
    """Anything may answer at a URL: say so instead of failing over what is not there."""
    from deai.errors import MalformedMessage

    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise MalformedMessage(
            f"what answers {path} is no coordinator: {error}",
            hint="name a coordinator with --coordinator URL",
        ) from error


def _locked(sums: ChannelSums | None) -> str:
    from deai.cli.render import tokens

    if sums is None:
        return ""
    return (
        f"{sums.open} open, {sums.closing} closing, holding {tokens(sums.held)}; "
        f"{tokens(sums.redeemed)} redeemed"
    )


def _lent(pool: LentStake | None) -> str:
    from deai.cli.pool_screens import percent
    from deai.cli.render import tokens

    if pool is None:
        return ""
    own, others = tokens(pool.own), tokens(pool.delegated)
    rate = f"{pool.state}, commission {percent(pool.commission_bps)}"
    return f"{rate}, {own} by the manager, {others} by others, room for {tokens(pool.room)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in counts.items())
