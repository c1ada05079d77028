"""What the demo tells while it happens, and the report that remains."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from deai.cli.base import Settings
from deai.errors import DeaiError
from deai.money import format_tokens
from devnet.accounts import Books
from devnet.layout import Plan


@dataclass
class Story:
    """What is told while it happens, and the report that remains."""

    settings: Settings
    total: int
    started: float = field(default_factory=time.monotonic)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    steps: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    caught: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every step so far was true."""
        return all(step["ok"] for step in self.steps)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[list[str]]:
        """One numbered step; lines appended are its evidence, an error makes it false."""
        number, begun, lines = len(self.steps) + 1, time.monotonic(), list[str]()
        out = self.settings.err
        out.print(f" {number}/{self.total}  {name}")
        problem = ""
        try:
            yield lines
        except DeaiError as error:
            problem = str(error)
        seconds = time.monotonic() - begun
        mark = "✕ failed" if problem else "● done"
        for line in [*lines, *([problem] if problem else [])]:
            out.print(f"      {line}", soft_wrap=True)
        out.print(f"      {mark}    {seconds:.1f} s")
        evidence = problem or "; ".join(lines)
        self.steps.append({"name": name, "ok": not problem, "evidence": evidence})


def make_report(
    story: Story, plan: Plan, behaviours: dict[str, str], before: Books | None,
    after: Books | None, endpoints: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The document of `deai demo --report FILE`."""
    minted = (after.minted - before.minted) if before and after else 0
    burned = (after.burned - before.burned) if before and after else 0
    held = sum(after.balances.values()) - sum(before.balances.values()) if before and after else 0
    return {
        "ok": story.ok and after is not None and held == minted - burned,
        "started_at": story.began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "wall_s": round(time.monotonic() - story.started, 1),
        "chain": plan.chains[0],
        "kind": "embedded" if plan.chain == "near" else plan.chain,
        "steps": story.steps,
        "tasks": story.tasks,
        "behaviours": behaviours,
        "caught": story.caught,
        "replaced": story.replaced,
        "ledger": {
            "before": {key: str(value) for key, value in before.balances.items()} if before else {},
            "after": {key: str(value) for key, value in after.balances.items()} if after else {},
            "vault": {key: str(value) for key, value in after.vault.items()} if after else {},
            "minted": str(minted),
            "burned": str(burned),
            "difference": str(held - minted + burned),
            "names": dict(after.names) if after else {},
        },
        "endpoints": endpoints,
    }


def show(story: Story, report: dict[str, Any]) -> None:
    """The accounts before and after, and the last line."""
    from rich import box
    from rich.table import Table

    out = story.settings.err
    ledger, names = report["ledger"], _names(report)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, header_style="")
    table.add_column("account")
    for heading in ("before", "after", "earned in vault"):
        table.add_column(heading, justify="right", no_wrap=True)
    for account, amount in sorted(
        ledger["after"].items(), key=lambda item: names.get(item[0], "~")
    ):
        old = int(ledger["before"].get(account, 0))
        table.add_row(
            names.get(account, f"{account[:8]}…{account[-4:]}"),
            format_tokens(old), format_tokens(int(amount)),
            format_tokens(int(ledger["vault"].get(account, 0))),
        )  # fmt: skip
    out.print()
    out.print(table)
    done = sum(task["state"] == "completed" for task in report["tasks"])
    mark = "● everything claimed is true" if report["ok"] else "✕ something above is not true"
    out.print(
        f"{mark}: {done} of {len(report['tasks'])} tasks completed, "
        f"{len(report['caught'])} caught, {len(report['replaced'])} replaced, "
        f"difference {ledger['difference']}, {report['wall_s']} s"
    )


def _names(report: dict[str, Any]) -> dict[str, str]:
    endpoints = report["endpoints"]
    if not endpoints:
        return {}
    names = dict(report["ledger"]["names"])
    names |= {node["owner"]: f"{node['name']} ({node['behaviour']})" for node in endpoints["nodes"]}
    names[endpoints["client"]["address"]] = "client"
    contracts = endpoints["chains"][report["chain"]]["contracts"]
    return names | {address: name for name, address in contracts.items()}
