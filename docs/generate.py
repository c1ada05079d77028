"""Writes the pages that follow from the code: the life cycles, drawn from their tables.

`make docs` writes them, `make check` compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deai import channels, lifecycle, orders, standing

HERE: Final = Path(__file__).parent

INTRO: Final = """\
# Life cycles

Generated from `deai/lifecycle.py`, `deai/standing.py`, `deai/channels.py` and `deai/orders.py`
by `make docs`; do not edit. The contracts implement these tables, the memory ledger and the index
run them, and tests enumerate every state with every event. A step that is not drawn here is
refused.
"""


def diagram(initial: str, transitions: Mapping[str, Mapping[str, str]]) -> str:
    """A table as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {initial}"]
    for source, row in transitions.items():
        by_target: dict[str, list[str]] = {}
        for event, target in row.items():
            by_target.setdefault(target, []).append(event)
        lines += [
            f"    {source} --> {target}: {', '.join(events)}"
            for target, events in by_target.items()
        ]
        if not row:
            lines.append(f"    {source} --> [*]")
    return "\n".join([*lines, "```"])


def rows(transitions: Mapping[str, Mapping[str, str]]) -> str:
    """The same as a table, for readers without a renderer."""
    lines = ["| state | event | next state |", "|---|---|---|"]
    lines += [
        f"| {source} | {event} | {target} |"
        for source, row in transitions.items()
        for event, target in row.items()
    ]
    return "\n".join(lines)


def plain(table: Mapping[Any, Mapping[Any, Any]]) -> dict[str, dict[str, str]]:
    """State tables with the words of the documents."""

    def text(state: Any) -> str:  # noqa: ANN401 - two kinds of enumeration
        return str(getattr(state, "label", state))

    return {
        text(state): {str(event): text(after) for event, after in row.items()}
        for state, row in table.items()
    }


def page() -> str:
    """The whole page."""
    exits = "\n".join(
        f"* **{state}**: {', '.join(sorted(events))}"
        for state, events in lifecycle.ANYBODY_ENDS.items()
    )
    leaving = "\n".join(
        f"* **{state.label}**: " + ", ".join(f"{event} by {who}" for who, event in ways.items())
        for state, ways in channels.CHANNEL_EXITS.items()
    )
    parts = [INTRO]
    for title, initial, table, text in (
        (
            "A task",
            "pending",
            lifecycle.TRANSITIONS,
            "No state in which money waits depends on anybody's cooperation. Once its deadline "
            f"has passed, anybody may end it:\n\n{exits}",
        ),
        (
            "One attempt at one seat",
            "held",
            lifecycle.SEAT_TRANSITIONS,
            "In the words of the public interface a released or replaced attempt is a failed "
            "one, after which the task is pending and assigned again.",
        ),
        (
            "A node's standing",
            "none",
            standing.ON_CHAIN,
            "Joining, draining and suspended (missed heartbeats) are known to the index only: "
            "no money depends on them.",
        ),
        (
            "A payment channel",
            "none",
            channels.CHANNEL_TRANSITIONS,
            "Its vouchers pay for the tasks of the fast lane. While a channel holds "
            f"money, nobody needs the other side to get out:\n\n{leaving}",
        ),
        (
            "A client's balance for signed orders",
            "none",
            orders.BALANCE_TRANSITIONS,
            "What was asked for may leave once it has thawed, as far as settlements left it.",
        ),
    ):
        named = plain(table)
        parts += [f"\n## {title}\n", diagram(initial, named), f"\n{text}\n", rows(named)]
    return "\n".join(parts) + "\n"


PAGES: Final = {"lifecycle.md": page}


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [
        name
        for name, make in PAGES.items()
        if check and (not (HERE / name).exists() or (HERE / name).read_text() != make())
    ]
    for name in stale:
        sys.stderr.write(f"docs/{name} is stale: run `make docs`\n")
    if not check:
        for name, make in PAGES.items():
            (HERE / name).write_text(make())
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
