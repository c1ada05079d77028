"""`deai devnet …` and `deai demo`: a whole network on this machine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from deai.cli.base import Settings, command, emit, group, run_trio, typed
from deai.errors import ConfigError, NotSetUp, UsageError
from deai.ids import NEAR, SEI, any_account
from deai.money import format_tokens, parse_amount
from devnet.behaviours import BEHAVIOURS
from devnet.layout import Layout, make_plan

CHAINS = click.Choice(["embedded", "anvil", "near", "both"])
DEMO_CHAINS = click.Choice(["embedded", "anvil", "near"])
_KEPT_LINES = 40


def _directory(settings: Settings, given: Path | None) -> Layout:
    return Layout((given or settings.home / "devnet").expanduser().resolve())


def parse_behaviours(given: tuple[str, ...]) -> dict[int, str]:
    """Read `IDX=NAME|module:callable`; raise `ConfigError` for anything else."""
    found: dict[int, str] = {}
    for text in given:
        index, _, name = text.partition("=")
        if not index.isdigit() or not name:
            raise ConfigError(
                f"--behaviour {text!r}", hint="write it as 1=lazy or 1=module:callable"
            )
        if name not in BEHAVIOURS:
            _check_callable(name)
        found[int(index)] = name
    return found


def _check_callable(name: str) -> None:
    module, _, attribute = name.partition(":")
    try:
        if attribute and callable(getattr(importlib.import_module(module), attribute, None)):
            return
    except ImportError:
        pass
    raise ConfigError(
        f"unknown behaviour: {name!r}",
        hint="one of " + ", ".join(sorted(BEHAVIOURS)) + ", or module:callable",
    )


@group("devnet")
def devnet() -> None:
    """A whole network on this machine."""


@devnet.command("up")
@click.option("--detach", is_flag=True, help="Return when everything is ready; leave it running.")
@click.option("--nodes", default=3, show_default=True, help="How many nodes.")
@click.option(
    "--chain",
    "kind",
    type=CHAINS,
    default="embedded",
    show_default=True,
    help="embedded and anvil are Sei; both: Sei and NEAR, each node on one of them in turn.",
)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where it is kept.")
@click.option("--behaviour", multiple=True, metavar="IDX=NAME", help="A node that misbehaves.")
@click.option("--seed", default="1", show_default=True, help="Keys follow from it.")
def up(
    settings: Settings, detach: bool, nodes: int, kind: str, directory: Path | None,
    behaviour: tuple[str, ...], seed: str,
) -> None:  # fmt: skip
    """Start a chain, a coordinator and nodes; resume if they exist already.

    A node serves one chain. With --chain both, node 0 is on Sei, node 1 on NEAR, and so on.

    Example: deai devnet up --detach --nodes 4 --behaviour 3=lazy
    """
    from devnet import launcher, status

    layout = _directory(settings, directory)
    misbehaving = parse_behaviours(behaviour)
    fresh = not layout.state.exists()
    plan = make_plan(kind, nodes, seed, misbehaving) if fresh else layout.load().plan
    if not fresh and (misbehaving or len(plan.nodes) != nodes != 3):
        settings.err.print("resuming: nodes and behaviours are those of the first start")
    tell = _teller(settings)

    async def work() -> None:
        try:
            with layout.locked():
                network = await launcher.up(
                    layout, plan, settings.environment, tied=not detach, tell=tell
                )
            document = await status.describe(network)
            emit(settings, document, partial(status.render, document))
            if not detach:
                settings.err.print("running; Ctrl-C stops everything")
                await trio.sleep_forever()
        finally:
            if not detach:
                with trio.CancelScope(shield=True):
                    await launcher.down(layout)

    run_trio(work)


@devnet.command("status")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def show(settings: Settings, directory: Path | None) -> None:
    """Addresses, processes and states. Example: deai devnet status --json"""
    from devnet import launcher, status

    network = launcher.opened(_directory(settings, directory), settings.environment)
    document = run_trio(status.describe, network)
    emit(settings, document, partial(status.render, document))


@devnet.command("logs")
@click.argument("process", required=False)
@click.option("--dir", "directory", type=click.Path(path_type=Path))
@click.option("--lines", default=_KEPT_LINES, show_default=True, help="How many of the last.")
def logs(settings: Settings, process: str | None, directory: Path | None, lines: int) -> None:
    """Show the end of a process's log, or list the logs. Example: deai devnet logs node-0"""
    layout = _directory(settings, directory)
    layout.load()
    names = sorted(path.stem for path in (layout.root / "logs").glob("*.log"))
    if process is None:
        emit(settings, {"logs": names}, lambda out: out.print("\n".join(names)))
        return
    if process not in names:
        raise NotSetUp(f"no log of {process!r}", hint="one of " + ", ".join(names))
    with layout.log(process).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 400 * max(1, lines)))
        text = file.read().decode(errors="replace").splitlines()[-max(1, lines) :]
    document = {"process": process, "path": str(layout.log(process)), "lines": text}
    emit(settings, document, lambda out: out.print("\n".join(text), soft_wrap=True))


@devnet.command("faucet")
@click.argument("address")
@click.argument("amount")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def faucet(settings: Settings, address: str, amount: str, directory: Path | None) -> None:
    """Send tokens, and money for gas. Example: deai devnet faucet 0x12…ef 100CT"""
    from devnet import launcher

    network = launcher.opened(_directory(settings, directory), settings.environment)
    account, tokens = typed("ADDRESS", any_account, address), parse_amount(amount)
    # A Sei address could be the name of a NEAR account too, but hardly is where both are.
    is_sei = account.startswith("0x") and len(account) == 42
    chain = SEI if is_sei and SEI in network.network.chains else NEAR
    if chain not in network.network.chains:
        raise UsageError(f"ADDRESS: not an account on this devnet's chain: {address[:80]!r}")

    async def work() -> dict[str, Any]:
        async with network.faucet(chain) as source, network.ledger("", chain) as reader:
            sent = await source.give(account, tokens)
            balances = await reader.balances(account)
        return {
            "address": account,
            "chain": chain,
            "sent": str(int(tokens)),
            "transactions": [{"kind": found.kind, "hash": found.hash} for found in sent],
            "balance": {"gas": str(balances.gas), "tokens": str(balances.tokens)},
        }

    document = run_trio(work)
    emit(
        settings, document,
        lambda out: out.print(f"sent {format_tokens(tokens)} and money for gas to {account}"),
    )  # fmt: skip


@devnet.command("kill")
@click.argument("process")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def kill(settings: Settings, process: str, directory: Path | None) -> None:
    """SIGKILL one process, as a crash would. Example: deai devnet kill node-2"""
    from devnet import processes

    layout = _directory(settings, directory)
    record = layout.load().process(process)
    if record is None or not processes.is_alive(record):
        raise NotSetUp(f"{process} is not running", hint="`deai devnet status` lists what is")
    processes.kill(record)
    document = {"process": process, "pid": record.pid, "signal": "SIGKILL"}
    emit(settings, document, lambda out: out.print(f"killed {process} (process {record.pid})"))


@devnet.command("start")
@click.argument("process")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def start(settings: Settings, process: str, directory: Path | None) -> None:
    """Start one process again. Example: deai devnet start node-2"""
    from devnet import launcher

    layout = _directory(settings, directory)

    async def work() -> None:
        with layout.locked():
            await launcher.restart(layout, process, settings.environment, _teller(settings))

    run_trio(work)
    record = layout.load().process(process)
    document = {"process": process, "pid": record.pid if record else None}
    emit(settings, document, lambda out: out.print(f"{process} is running"))


@devnet.command("down")
@click.option("--wipe", is_flag=True, help="Delete the directory too.")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def down(settings: Settings, wipe: bool, directory: Path | None) -> None:
    """Stop everything. Example: deai devnet down --wipe"""
    import shutil

    from devnet import launcher

    layout = _directory(settings, directory)
    with layout.locked():
        stopped = run_trio(launcher.down, layout)
        if wipe:
            shutil.rmtree(layout.root)
    document = {"stopped": stopped, "wiped": wipe}
    emit(settings, document, lambda out: out.print(f"stopped {len(stopped)} processes"))


@command("demo")
@click.option("--chain", "kind", type=DEMO_CHAINS, default="embedded", show_default=True)
@click.option("--nodes", default=6, show_default=True, help="At least 6.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the report here (JSON).")
@click.option("--keep", is_flag=True, help="Leave the network running.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Default: a temporary one."
)
@click.option("--seed", default="7", show_default=True)
def demo(
    settings: Settings, kind: str, nodes: int, report: Path | None, keep: bool,
    directory: Path | None, seed: str,
) -> None:  # fmt: skip
    """The main job, narrated: real chain, real nodes, real tasks, a liar, a crash, the accounts.

    Example: deai demo --report report.json --keep
    """
    from devnet.demo import run_demo

    status = run_trio(
        partial(
            run_demo, settings, kind=kind, nodes=nodes, report_file=report, keep=keep,
            directory=directory, seed=seed,
        )
    )  # fmt: skip
    sys.exit(status)


def _teller(settings: Settings) -> Callable[[str, str], None]:
    def tell(step: str, outcome: str) -> None:
        settings.err.print(f"● {step:<14} {outcome}")

    return tell
