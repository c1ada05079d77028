"""What the demo tells while it happens, and the report that remains."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from deai.cli.base import Settings
from deai.errors import DeaiError
from deai.ids import AccountId, ChainName
from deai.money import SYMBOL, format_tokens
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
    async def step(self, name: str, *, alongside: bool = False) -> AsyncIterator[list[str]]:
        """One numbered step; lines appended are its evidence, an error makes it false.

        `alongside` others it is told when it has ended, all at once.
        """
        begun, problem = time.monotonic(), ""
        out = self.settings.err
        lines = _Lines() if alongside else _Lines(self._tell)
        if not alongside:
            out.print(f" {len(self.steps) + 1}/{self.total}  {name}")
        try:
            yield lines
        except* DeaiError as errors:
            problem = _first(errors)
        seconds = time.monotonic() - begun
        mark = "✕ failed" if problem else "● done"
        if alongside:
            out.print(f" {len(self.steps) + 1}/{self.total}  {name}")
        for line in [*(lines if alongside else []), *([problem] if problem else [])]:
            self._tell(line)
        out.print(f"      {mark}    {seconds:.1f} s")
        evidence = problem or "; ".join(lines)
        self.steps.append({"name": name, "ok": not problem, "evidence": evidence})

    def _tell(self, line: str) -> None:
        self.settings.err.print(f"      {line}", soft_wrap=True)


class _Lines(list[str]):
    """A step's evidence; told at once where somebody is to see it happen."""

    def __init__(self, tell: Callable[[str], None] = lambda _line: None) -> None:
        super().__init__()
        self._tell = tell

    def append(self, line: str) -> None:
        super().append(line)
        self._tell(line)

    def extend(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.append(line)

    def __iadd__(self, lines: Iterable[str]) -> Self:  # type: ignore[override,misc]
        self.extend(lines)
        return self


def _first(errors: BaseExceptionGroup[DeaiError]) -> str:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return str(found)


def make_report(
    story: Story,
    plan: Plan,
    before: dict[ChainName, Books],
    after: dict[ChainName, Books],
    endpoints: dict[str, Any],
) -> dict[str, Any]:
    """The document of `deai demo --report FILE`."""
    sums = {name: _moved(before[name], after[name]) for name in after}
    # A coin too many on one chain does not make up for one that is missing on another.
    differences = [int(found["difference"]) for found in sums.values()]
    difference = differences[0] if len(differences) == 1 else sum(map(abs, differences))
    nodes = endpoints.get("nodes", [])
    several = len(plan.chains) > 1
    return {
        "ok": story.ok and sums.keys() == set(plan.chains) and not difference,
        "started_at": story.began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "wall_s": round(time.monotonic() - story.started, 1),
        "chain": plan.chain if several else plan.chains[0],
        "kind": plan.chain if plan.chain == "anvil" else "embedded",
        "steps": story.steps,
        "tasks": story.tasks,
        "behaviours": {
            found["node_id"]: node["behaviour"]
            for node in nodes
            for found in node["chains"].values()
        },
        "caught": story.caught,
        "replaced": story.replaced,
        "ledger": {
            "before": _amounts(books.balances for books in before.values()),
            "after": _amounts(books.balances for books in after.values()),
            "vault": _amounts(books.vault for books in after.values()),
            "minted": str(sum(int(found["minted"]) for found in sums.values())),
            "burned": str(sum(int(found["burned"]) for found in sums.values())),
            "difference": str(difference),
            "names": {
                account: f"{name} on {chain}" if several else name
                for chain, books in after.items()
                for account, name in books.names.items()
            },
            "chains": sums,
        },
        "endpoints": endpoints,
    }


def _moved(before: Books, after: Books) -> dict[str, str]:
    """What one chain minted and burned meanwhile, and what its accounts hold beyond that."""
    minted, burned = after.minted - before.minted, after.burned - before.burned
    held = sum(after.balances.values()) - sum(before.balances.values())
    return {
        "minted": str(minted), "burned": str(burned), "difference": str(held - minted + burned),
    }  # fmt: skip


def _amounts(books: Iterable[dict[AccountId, int]]) -> dict[AccountId, str]:
    return {account: str(amount) for one in books for account, amount in one.items()}


def show(story: Story, report: dict[str, Any]) -> None:
    """The accounts before and after, and the last line."""
    from rich import box
    from rich.table import Table

    out = story.settings.err
    ledger, names = report["ledger"], _names(report)
    table = Table(
        box=box.SIMPLE, show_edge=False, pad_edge=False, header_style="", footer_style="",
        show_footer=True, padding=(0, 0, 0, 1),
    )  # fmt: skip
    sums = {part: sum(map(int, ledger[part].values())) for part in ("before", "after", "vault")}
    table.add_column("account, CT", "all, CT")
    for heading, total in sums.items():
        table.add_column(
            "in the vault" if heading == "vault" else heading, _bare(total),
            justify="right", no_wrap=True,
        )  # fmt: skip
    for account, amount in sorted(
        ledger["after"].items(), key=lambda item: names.get(item[0], "~")
    ):
        old = int(ledger["before"].get(account, 0))
        table.add_row(
            names.get(account, f"{account[:8]}…{account[-4:]}"),
            _bare(old), _bare(int(amount)), _bare(int(ledger["vault"].get(account, 0))),
        )  # fmt: skip
    out.print()
    out.print(table)
    done = sum(task["state"] == "completed" for task in report["tasks"])
    mark = "● everything claimed is true" if report["ok"] else "✕ something above is not true"
    out.print(
        f"{mark}: {done} of {len(report['tasks'])} tasks completed, "
        f"{len(report['caught'])} caught, {len(report['replaced'])} replaced, "
        f"difference {ledger['difference']}, {report['wall_s']} s",
        soft_wrap=True,
    )


def _bare(units: int) -> str:
    return format_tokens(units).removesuffix(f" {SYMBOL}")


def _names(report: dict[str, Any]) -> dict[str, str]:
    if not report["endpoints"]:
        return {}
    names = dict(report["ledger"]["names"])
    for node in report["endpoints"]["nodes"]:
        for found in node["chains"].values():
            if node["behaviour"] != "honest":
                names[found["owner"]] += f" ({node['behaviour']})"
    return names
