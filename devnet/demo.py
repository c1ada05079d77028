"""The main job, narrated: `deai demo`.

Everything goes through the commands a user would type, against separate processes; what the
report claims is read back from the chain and the coordinator. The status is 0 only if every
claim is true.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import trio

from deai.cli.base import Settings
from deai.errors import UsageError
from deai.ids import ChainName
from devnet import launcher, status
from devnet.accounts import Books
from devnet.chains import chains_of
from devnet.layout import Layout, Plan, make_plan
from devnet.play import length, play
from devnet.settling import books_of, settle
from devnet.stage import stages_of
from devnet.story import Story, make_report, show

MIN_NODES: Final = 6
LAZY: Final = 3
EQUIVOCATOR: Final = 4
PAGES: Final = "coordinator and pages, to look at meanwhile"


async def run_demo(
    settings: Settings, *, kind: str, nodes: int, report_file: Path | None, keep: bool,
    directory: Path | None, seed: str,
) -> int:  # fmt: skip
    """Tell the story; return the exit status.

    Raises `UsageError`, before anything starts, for options that cannot be followed.
    """
    if nodes < MIN_NODES:
        raise UsageError(
            f"--nodes: the demo needs {MIN_NODES} at least, not {nodes}", hint="leave out --nodes"
        )
    if report_file is not None:
        check_writable(report_file)
    if directory is not None and Layout(directory.resolve()).state.exists():
        raise UsageError(
            f"--dir: {directory} holds a devnet already",
            hint="the demo begins with an empty one; or `deai devnet down --wipe --dir …` first",
        )
    root = directory or Path(tempfile.mkdtemp(prefix="deai-demo-"))
    layout = Layout(root.resolve())
    plan = make_plan(kind, nodes, seed, {LAZY: "lazy", EQUIVOCATOR: "equivocator"})
    story = Story(settings, total=length(len(plan.chains)))
    kinds = [f"{chain.name} ({chain.kind})" for chain in chains_of(layout, plan).values()]
    chains = " and ".join(kinds)
    settings.err.print(f"deai demo   {chains}   {len(plan.nodes)} nodes   seed {seed}\n")
    try:
        with layout.locked():
            report = await _tell(story, layout, plan, tied=not keep)
        show(story, report)
        if report_file is not None:
            report_file.write_text(json.dumps(report, indent=1) + "\n")
        if settings.json:
            settings.out.print(json.dumps(report), soft_wrap=True)
    finally:
        if keep:
            settings.err.print(f"\nleft running: deai devnet status --dir {layout.root}")
        else:
            with trio.CancelScope(shield=True):
                if layout.state.exists():
                    await launcher.down(layout)
                if directory is None:
                    shutil.rmtree(layout.root, ignore_errors=True)
    return 0 if report["ok"] else 1


def check_writable(file: Path) -> None:
    """Raise `UsageError` unless a file can be written there; leaves nothing behind."""
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if file.exists():
            file.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=file.absolute().parent).close()
    except OSError as error:
        raise UsageError(
            f"--report: {file} cannot be written: {error.strerror}",
            hint="name a file in a directory that is there and yours",
            code="report_not_writable",
        ) from error


async def _tell(story: Story, layout: Layout, plan: Plan, *, tied: bool) -> dict[str, Any]:
    described: dict[str, Any] = {}
    async with story.step(
        "Chain, contracts, coordinator and nodes, each a process of its own"
    ) as lines:

        def hear(name: str, outcome: str) -> None:
            title = {"chain": "chain", "contracts": "contracts", "coordinator": PAGES}.get(name)
            if title is not None:
                lines.append(f"{title}: {outcome}")

        devnet = await launcher.up(
            layout, plan, story.settings.environment, tied=tied,
            tell=hear,
        )  # fmt: skip
        described = await status.describe(devnet)
        alive = [node["pid"] for node in described["nodes"] if node["pid"]]
        lines.append(f"{len(alive)} nodes, processes {', '.join(map(str, alive))}")
    if not story.ok:
        return make_report(story, plan, {}, {}, {})
    stages = stages_of(devnet, story, described["nodes"], tied=tied)
    before: dict[ChainName, Books] = {}
    after: dict[ChainName, Books] = {}
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(devnet.ledger("", stage.chain)) for stage in stages
        ]
        for stage, ledger in zip(stages, ledgers, strict=True):
            before[stage.chain] = await books_of(ledger, stage)
        await play(stages, ledgers)
        async with story.step("Every coin is accounted for") as lines:
            for stage, ledger in zip(stages, ledgers, strict=True):
                after[stage.chain], told = await settle(stage, ledger)
                mark = f"{stage.chain}: " if stages[1:] else ""
                lines.extend(mark + line for line in told)
    return make_report(story, plan, before, after, described)
