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
from click.core import ParameterSource

from deai.cli.base import Settings, command, emit, group, run_trio, typed
from deai.errors import NotSetUp, UsageError
from deai.ids import NEAR, SEI, any_account
from deai.money import format_exactly, parse_amount
from devnet.behaviours import BEHAVIOURS
from devnet.layout import Layout, make_plan

CHAINS = click.Choice(["embedded", "anvil", "near", "both"])
_KEPT_LINES = 40
ADDRESS_HINT = "0x and 40 hex digits on Sei; a name or 64 hex digits on NEAR"
DIRECTORY = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Default: HOME/devnet."
)


_BEHAVIOUR = (
    "A node that misbehaves; repeatable. NAME is one of "
    + ", ".join(sorted(BEHAVIOURS))
    + ", or module:callable."
)


def _directory(settings: Settings, given: Path | None) -> Layout:
    return Layout((given or settings.home / "devnet").expanduser().resolve())


def parse_behaviours(given: tuple[str, ...]) -> dict[int, str]:
    """Read `IDX=NAME|module:callable`; raise `UsageError` for anything else."""
    found: dict[int, str] = {}
    for text in given:
        index, _, name = text.partition("=")
        if not (index.isascii() and index.isdigit() and len(index) < 4) or not name:
            raise UsageError(
                f"--behaviour: not IDX=NAME: {text[:80]!r}",
                hint="write it as 1=lazy or 1=module:callable",
                code="bad_behaviour",
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
    except (ImportError, TypeError, ValueError):  # also an empty or a relative module's name
        pass
    raise UsageError(
        f"--behaviour: no behaviour is called {name[:80]!r}",
        hint="one of " + ", ".join(sorted(BEHAVIOURS)) + ", or module:callable",
        code="unknown_behaviour",
    )


@group("devnet")
def devnet() -> None:
    r"""A whole network on this machine.

    Chains, a coordinator and nodes are processes of their own, kept in one directory. Tokens are
    worthless and keys follow from a seed: nothing here is for a real network.

    \b
    Examples:
      deai devnet up --detach --nodes 4
      deai devnet status
      deai devnet down --wipe
    """


@devnet.command("up")
@click.option("--detach", is_flag=True, help="Return when everything is ready; leave it running.")
@click.option("--nodes", default=3, show_default=True, help="How many nodes.")
@click.option(
    "--chain",
    "kind",
    type=CHAINS,
    default="embedded",
    show_default=True,
    help="embedded and anvil are Sei; both: Sei and NEAR, each node on both of them.",
)
@DIRECTORY
@click.option("--behaviour", multiple=True, metavar="IDX=NAME", help=_BEHAVIOUR)
@click.option("--seed", default="1", show_default=True, help="Keys follow from it.")
@click.option(
    "--block-time",
    type=click.FloatRange(0.05, 60),
    metavar="SECONDS",
    help="Between blocks; default 0.4 on Sei, 0.6 on NEAR.",
)
@click.option(
    "--window",
    type=click.IntRange(10, 3600),
    metavar="SECONDS",
    help="For openings and proofs on chain; default 10 on Sei, 24 on NEAR.",
)
def up(
    settings: Settings, detach: bool, nodes: int, kind: str, directory: Path | None,
    behaviour: tuple[str, ...], seed: str, block_time: float | None,
    window: int | None,
) -> None:  # fmt: skip
    r"""Start a chain, a coordinator and nodes; resume if they exist already.

    With --chain both every node serves Sei and NEAR, and its owners bind the two registrations.

    \b
    Examples:
      deai devnet up --detach --nodes 4 --behaviour 3=lazy
      deai devnet up --chain both --dir two-chains
    """
    from devnet import launcher, status

    layout = _directory(settings, directory)
    misbehaving = parse_behaviours(behaviour)
    fresh = not layout.state.exists()
    plan = (
        make_plan(
            kind,
            nodes,
            seed,
            misbehaving,
            block_seconds=block_time or 0,
            window_seconds=window or 0,
        )
        if fresh
        else layout.load().plan
    )
    named = click.get_current_context().get_parameter_source("kind")
    if named is ParameterSource.COMMANDLINE and plan.chain != kind:
        raise UsageError(
            f"--chain: {layout.root} holds a devnet that began with --chain {plan.chain}",
            hint="name another --dir, or remove that one: deai devnet down --wipe",
            code="other_devnet",
        )
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
@DIRECTORY
def show(settings: Settings, directory: Path | None) -> None:
    r"""Show addresses, processes and states.

    \b
    Examples:
      deai devnet status
      deai devnet status --json --dir two-chains
    """
    from devnet import status
    from devnet.network import opened

    network = opened(_directory(settings, directory), settings.environment)
    document = run_trio(status.describe, network)
    emit(settings, document, partial(status.render, document))


@devnet.command("logs")
@click.argument("process", required=False)
@DIRECTORY
@click.option("--lines", default=_KEPT_LINES, show_default=True, help="How many of the last.")
def logs(settings: Settings, process: str | None, directory: Path | None, lines: int) -> None:
    r"""Show the end of a process's log, or list the logs.

    PROCESS is sei, near, coordinator, node-0, node-0-init and so on.

    \b
    Examples:
      deai devnet logs
      deai devnet logs node-0 --lines 100
    """
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
@DIRECTORY
def faucet(settings: Settings, address: str, amount: str, directory: Path | None) -> None:
    r"""Send tokens, and money for gas, to ADDRESS.

    AMOUNT is a whole number of base units, or tokens: 0.5CT. The chain follows from the address.

    \b
    Example:
      deai devnet faucet 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 100CT
    """
    from devnet.network import opened

    account = typed("ADDRESS", any_account, address, hint=ADDRESS_HINT)
    tokens = typed("AMOUNT", parse_amount, amount)
    network = opened(_directory(settings, directory), settings.environment)
    # What looks like a Sei address is none on NEAR: nobody could ever sign for it there.
    chain = SEI if account.startswith("0x") else NEAR
    if chain not in network.network.chains:
        raise UsageError(
            f"ADDRESS: {address[:80]!r} is an account on {chain}, which this devnet has not",
            hint="its chains: " + ", ".join(network.network.chains),
            code="wrong_chain",
        )

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
        lambda out: out.print(
            f"sent {format_exactly(tokens)} and money for gas to {account}", soft_wrap=True
        ),
    )  # fmt: skip


@devnet.command("kill")
@click.argument("process")
@DIRECTORY
def kill(settings: Settings, process: str, directory: Path | None) -> None:
    r"""Kill one process, as a crash would (SIGKILL).

    PROCESS is sei, near, coordinator, node-0, node-1 and so on.

    \b
    Example:
      deai devnet kill node-2
    """
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
@DIRECTORY
def start(settings: Settings, process: str, directory: Path | None) -> None:
    r"""Start one process again.

    PROCESS is sei, near, coordinator, node-0, node-1 and so on.

    \b
    Example:
      deai devnet start node-2
    """
    from devnet import launcher

    layout = _directory(settings, directory)
    layout.load()

    async def work() -> None:
        with layout.locked():
            await launcher.restart(layout, process, settings.environment, _teller(settings))

    run_trio(work)
    record = layout.load().process(process)
    document = {"process": process, "pid": record.pid if record else None}
    emit(settings, document, lambda out: out.print(f"{process} is running"))


@devnet.command("down")
@click.option("--wipe", is_flag=True, help="Delete the directory too.")
@DIRECTORY
def down(settings: Settings, wipe: bool, directory: Path | None) -> None:
    r"""Stop everything: nodes first, chains last.

    \b
    Examples:
      deai devnet down
      deai devnet down --wipe
    """
    import shutil

    from devnet import launcher

    layout = _directory(settings, directory)
    layout.load()  # an empty directory is not made one of ours
    with layout.locked():
        stopped = run_trio(launcher.down, layout)
        if wipe:
            shutil.rmtree(layout.root)
    document = {"stopped": stopped, "wiped": wipe}
    emit(settings, document, lambda out: out.print(f"stopped {len(stopped)} processes"))


@command("demo")
@click.option(
    "--chain", "kind", type=CHAINS, default="embedded", show_default=True,
    help="embedded and anvil are Sei; both: Sei and NEAR, one client paying on each.",
)  # fmt: skip
@click.option("--nodes", default=6, show_default=True, help="At least 6.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the report here (JSON).")
@click.option("--keep", is_flag=True, help="Leave the network running.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Default: a temporary one."
)
@click.option("--seed", default="7", show_default=True, help="Keys follow from it.")
def demo(
    settings: Settings, kind: str, nodes: int, report: Path | None, keep: bool,
    directory: Path | None, seed: str,
) -> None:  # fmt: skip
    r"""The main job, narrated: real chain, real nodes, real tasks, a liar, a crash, the accounts.

    The exit status is 0 only if every claim was true.

    \b
    Examples:
      deai demo
      deai demo --chain near --report report.json --keep
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
        settings.err.print(f"● {step:<14} {outcome}", soft_wrap=True)

    return tell
