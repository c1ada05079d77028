"""`--dry-run` of the lane: prices, sums, and what the channels still hold; nothing is promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from deai.client.lane.planning import Plan

_AT_MOST = 4096
"""Different sizes of tasks that are told apart; more are reckoned as the next larger of them."""


def document(plan: Plan, workload: str, inputs: Iterable[bytes], *, done: int) -> dict[str, Any]:
    """What so many tasks would cost; reads the inputs to their end.

    `sum` lies between all of them going to the cheapest node and all to the dearest that is paid.
    """
    from deai.client.matching import ask_of
    from deai.errors import LimitExceeded, TaskDeclined, WorkloadFault

    sizes: Counter[int] = Counter()
    tasks = failed = 0
    problem = plan.problem
    first_failed = None
    for data in inputs:
        tasks += 1
        if plan.prices is None:
            continue
        try:
            covered = plan.prices.covered(plan.prices.units(data))
        except (WorkloadFault, LimitExceeded) as error:
            failed += 1
            first_failed = first_failed or f"line {done + tasks}: {error}"
        except TaskDeclined as error:
            problem = problem or error
        else:
            if covered not in sizes and len(sizes) >= _AT_MOST:
                covered = min((one for one in sizes if one > covered), default=max(sizes))
            sizes[covered] += 1
    offers = plan.prices.offers if plan.prices is not None else {}
    limit = plan.prices.max_fee if plan.prices is not None else 0
    least = most = 0
    prices: dict[str, list[int]] = {}
    lowest: list[int] = []
    highest: list[int] = []
    for units, count in sizes.items():
        asks = {node: ask_of(offer, units) for node, offer in offers.items()}
        paid = [ask for ask in asks.values() if ask <= limit]
        least, most = least + count * min(paid), most + count * max(paid)
        lowest.append(min(paid))
        highest.append(max(paid))
        for node, ask in asks.items():
            prices.setdefault(node, []).append(ask)
    left = sum(one.left for one in plan.nodes)
    return {
        "lane": "channel",
        "workload": workload,
        "tasks": tasks,
        "done": done,
        "failed": failed,
        "first_failed": first_failed,
        "price": _range(min(lowest), max(highest)) if lowest else None,
        "sum": _range(least, most),
        "left": str(left),
        "enough": left >= most and problem is None,
        "nodes": [
            {
                "node_id": one.node,
                "channel": one.state,
                "price": _range(min(found), max(found))
                if (found := prices.get(one.node))
                else None,
                "deposit": str(one.deposit),
                "promised": str(one.promised),
                "left": str(one.left),
            }
            for one in plan.nodes
        ],
        "rejected": [
            {"node_id": one.node, "code": one.code, "reason": one.reason} for one in plan.rejected
        ],
        "problem": str(problem) if problem is not None else None,
        "hint": problem.hint or None if problem is not None else None,
    }


def render(console: Console, found: dict[str, Any]) -> None:
    """The same for people."""
    from deai.cli.render import bare, marked, pairs, say, short, table, tokens

    def between(value: dict[str, str] | None) -> str:
        if value is None:
            return ""
        least, most = bare(value["least"]), bare(value["most"])
        return least if least == most else f"{least} to {most}"

    rows = [
        (
            short(one["node_id"]), marked(one["channel"]), between(one["price"]),
            bare(one["deposit"]), bare(one["promised"]), bare(one["left"]),
        )
        for one in found["nodes"]
    ]  # fmt: skip
    headings = ("Node", "Channel", "A task, CT", "Deposit CT", "Promised CT", "Left CT")
    table(console, headings, rows, right=(2, 3, 4, 5))
    for one in found["rejected"]:
        say(console, f"  ✕ {short(one['node_id'])}  {one['reason']}")
    say(console)
    problem = found["problem"]
    if not problem and not found["enough"]:
        problem = "the deposits may not reach"
    pairs(
        console,
        [
            ("Tasks", f"{found['tasks']:,}" + (f" after {found['done']:,}" * bool(found["done"]))),
            ("Bad lines", f"{found['failed']:,}: {found['first_failed']}" * bool(found["failed"])),
            ("Sum", f"{between(found['sum'])} CT"),
            ("Channels hold", tokens(found["left"])),
            ("Problem", problem or ""),
            ("Hint", found["hint"] or ""),
            ("Moved", "nothing was sent"),
        ],
    )


def _range(least: int, most: int) -> dict[str, str]:
    return {"least": str(least), "most": str(most)}
