"""`deai node …`: set a node up, run it, see how it is doing."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed
from deai.cli.stake_common import MAX_INDEX
from deai.errors import ConfigError, UsageError
from deai.ids import AccountId, ChainName, account_on
from deai.money import parse_amount
from deai.network import load_network
from node import cli_channel
from node.config import NodeConfig, node_config, parse_listen
from node.home import Home

NEEDS_FUNDS: Final = 5
DEGRADED: Final = 4
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@group("node")
def node() -> None:
    r"""Run a node and see how it is doing.

    \b
    Examples:
      deai node init --network network.json
      deai node run
      deai node status
    """


cli_channel.add_to(node)


def _home(settings: Settings) -> Home:
    return Home(settings.home, ChainName(settings.chain))


def _config(settings: Settings) -> NodeConfig:
    return node_config(settings.config)


@node.command("init")
@click.option("--network", "network_file", type=click.Path(path_type=Path), help="Network file.")
@click.option("--non-interactive", is_flag=True, help="Never ask; fail with what is missing.")
@click.option("--owner-key", type=click.Path(path_type=Path), help="Key file that stakes.")
@click.option("--owner-account", metavar="NAME", help="NEAR: default the key's implicit account.")
@click.option("--owner-passphrase", type=click.Path(path_type=Path), help="File that opens it.")
@click.option("--stake", metavar="N|1000CT", help="Default: the least that is allowed.")
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Where to listen; repeatable.")
@click.option(
    "--index", type=click.IntRange(0, MAX_INDEX), default=0, show_default=True,
    help="Which of the owner's nodes.",
)  # fmt: skip
@click.option("--pool", "takes_delegations", is_flag=True, help="Others may lend to its stake.")
@click.option("--commission", metavar="10%", help="What the manager of the pool keeps of income.")
def init(
    settings: Settings,
    network_file: Path | None,
    non_interactive: bool,
    owner_key: Path | None,
    owner_passphrase: Path | None,
    owner_account: str | None,
    stake: str | None,
    listen: tuple[str, ...],
    index: int,
    takes_delegations: bool,
    commission: str | None,
) -> None:
    r"""Make keys, import models, stake and register. Run again to go on.

    With --pool the node takes delegations: a contract owns it, to which all its earnings go, and
    the owner key manages it (`deai pool`). Say so the first time; it cannot be changed.

    \b
    Examples:
      deai node init --network network.json --stake 1000CT
      deai node init --network network.json --pool --commission 10%
    """
    from deai.cli.pool_common import parse_commission
    from node import screens, setup
    from node.opening import open_ledger

    home = _home(settings)
    amount = int(typed("--stake", parse_amount, stake)) if stake is not None else None
    for address in listen:
        typed("--listen", parse_listen, address, code="bad_address")
    bps = None if commission is None else typed("--commission", parse_commission, commission)
    if bps is not None and not takes_delegations:
        raise UsageError("--commission is of a pool", hint="say --pool, too", code="usage")
    config = _config(settings)
    plan = setup.prepare(
        home,
        ChainName(settings.chain),
        network_file=network_file,
        owner_key=owner_key,
        owner_passphrase=owner_passphrase,
        listen=listen,
        index=index,
        owner_account=_owner_account(settings, owner_account),
        takes_delegations=takes_delegations,
        commission_bps=bps,
    )
    ask = not (non_interactive or settings.json)
    if ask and amount is None:
        click.confirm("Stake the least that the network asks for?", abort=True, err=True)

    def progress(name: str, done: int, total: int) -> None:
        if done == total:
            settings.err.print(f"model {name}: {total >> 20} MiB here")

    setup.import_models(plan, config.workloads, progress)
    network = load_network(home.network)
    run_trio(partial(setup.register, plan, network, amount, open_ledger))
    registration = plan.registration
    assert registration is not None
    document = {
        "node_id": registration.node_id,
        "owner": registration.owner,
        "operator": registration.operator,
        "peer_id": registration.peer_id,
        "chain": registration.chain,
        "needs": plan.needs.document() if plan.needs is not None else None,
        "steps": [step.document() for step in plan.steps],
        "warnings": plan.warnings,
        "pool": None
        if registration.pool is None
        else {"manager": registration.pool.manager, "index": registration.pool.index},
    }
    emit(settings, document, lambda console: screens.init(console, document))
    if plan.needs is not None:
        raise ExitWith(NEEDS_FUNDS)


def _owner_account(settings: Settings, name: str | None) -> AccountId | None:
    if name is None:
        return None
    parse = partial(account_on, settings.chain)
    return typed("--owner-account", parse, name, code="bad_account", hint="such as alice.near")


@node.command("run")
def run(settings: Settings) -> None:
    r"""Run the node in the foreground, on every chain on which this home was set up.

    The first Ctrl-C drains, the second leaves now.

    \b
    Example:
      deai node run --home ~/.deai
    """
    from node.logs import set_up
    from node.program import serve

    config = _config(settings)
    set_up(config.log_level)
    home = _home(settings)
    home.registrations()
    network = settings.network if settings.config.network else load_network(home.network)
    run_trio(partial(serve, home, config, network))


@node.command("status")
def status(settings: Settings) -> None:
    r"""Show the node, its money and what is wrong, also while it is not running.

    \b
    Example:
      deai node status --json
    """
    from node import offline, screens
    from node.admin.client import DaemonDown, call

    home = _home(settings)
    try:
        document = call(home, "GET", "/status")
    except (DaemonDown, ConfigError):
        document = run_trio(offline.status, home)
    emit(settings, document, lambda console: screens.status(console, document))
    if document["state"] == "not_set_up":
        raise ExitWith(3)
    if document["problems"]:
        raise ExitWith(DEGRADED)


@node.command("why")
def why(settings: Settings) -> None:
    r"""Say why work did not come: every reason, counted, with what would change it.

    \b
    Example:
      deai node why
    """
    from node import screens
    from node.admin.client import call

    document = call(_home(settings), "GET", "/why")
    emit(settings, document, lambda console: screens.why(console, document))


@node.command("tasks")
def tasks(settings: Settings) -> None:
    r"""List the newest tasks of this node.

    \b
    Example:
      deai node tasks --json
    """
    from node import offline, screens
    from node.admin.client import DaemonDown, call

    home = _home(settings)
    try:
        document = call(home, "GET", "/tasks")
    except DaemonDown:
        document = run_trio(offline.tasks, home)
    emit(settings, document, lambda console: screens.tasks(console, document))


@node.command("earnings")
def earnings(settings: Settings) -> None:
    r"""What this node earned, by day and workload.

    \b
    Example:
      deai node earnings --json
    """
    from node import offline, screens
    from node.admin.client import DaemonDown, call

    home = _home(settings)
    try:
        document = call(home, "GET", "/earnings")
    except DaemonDown:
        document = run_trio(offline.earnings, home)
    emit(settings, document, lambda console: screens.earnings(console, document))


@node.command("doctor")
def doctor(settings: Settings) -> None:
    r"""Try everything a node needs; exit 4 if something fails.

    \b
    Example:
      deai node doctor
    """
    from node import screens
    from node.doctor import Doctor

    examiner = Doctor(_home(settings), _config(settings))
    checks = run_trio(examiner.examine)
    document = {"checks": [check.document() for check in checks]}
    emit(settings, document, lambda console: screens.doctor(console, checks))
    if not all(check.ok for check in checks):
        raise ExitWith(DEGRADED)


@node.command("bench")
def bench(settings: Settings) -> None:
    r"""Measure the workloads on this machine, in at most a minute.

    \b
    Example:
      deai node bench
    """
    from node import screens

    home = _home(settings)
    results = run_trio(_measure, settings, home)
    speeds = {
        one["workload"]: max(1, int(one["units_per_second"] * 1000))
        for one in results
        if "error" not in one
    }
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.save(home.speeds, speeds)
    document = {"results": results}
    emit(settings, document, lambda console: screens.bench(console, document))


async def _measure(settings: Settings, home: Home) -> list[dict[str, Any]]:
    from node.bench import measure
    from node.opening import models_here, open_workbench

    async with open_workbench(home, _config(settings)) as workbench:
        return await measure(workbench, models_here(home), settings.err.print)


@node.command("drain")
def drain(settings: Settings) -> None:
    r"""Finish what runs, accept nothing new, then leave.

    \b
    Example:
      deai node drain
    """
    _order(settings, "/drain", None)


@node.command("pause")
@click.option("--for", "duration", help="How long: 30s, 10m, 2h, 1d; default until resume.")
def pause(settings: Settings, duration: str | None) -> None:
    r"""Accept nothing new for a while; what runs goes on.

    \b
    Example:
      deai node pause --for 2h
    """
    _order(settings, "/pause", None if duration is None else {"for_s": _seconds(duration)})


@node.command("resume")
def resume(settings: Settings) -> None:
    r"""Accept work again.

    \b
    Example:
      deai node resume
    """
    _order(settings, "/resume", None)


def _order(settings: Settings, path: str, body: dict[str, Any] | None) -> None:
    from node.admin.client import call

    document = call(_home(settings), "POST", path, body)
    emit(settings, document, lambda console: console.print(f"● {document['state']}"))


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise UsageError(
            f"--for: not a duration: {text[:40]!r}",
            hint="write 30s, 10m, 2h or 1d",
            code="bad_duration",
        )
    return float(found[1]) * _UNITS[found[2]]
