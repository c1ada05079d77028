"""`deai pool`: lend to the stake of a node, look after it, take it out again; manage a pool.

Each command may be run again: it looks at the chain first and does what is missing. What may be
meant twice takes `--key NAME`, with which a repetition sends nothing twice.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli import pool_screens, pool_steps
from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed, typed_node
from deai.cli.pool_list import list_pools
from deai.cli.pool_look import Lent
from deai.cli.sending import KEY, NEEDS_FUNDS, YES, show_needs

if TYPE_CHECKING:
    from rich.console import Console

    from deai.ids import AccountId

_PERCENT: Final = re.compile(r"(\d{1,2})(?:\.(\d{1,2}))?%")

NODE = click.argument("node_id", metavar="NODE")
KEY_FILE = click.option(
    "--key-file", type=click.Path(path_type=Path), help="Who lends. Default: who pays for tasks."
)
MANAGER_KEY = click.option(
    "--key-file", type=click.Path(path_type=Path), help="Default: HOME/keys/owner.json."
)
PASSPHRASE = click.option("--passphrase-file", type=click.Path(path_type=Path), help="Of that key.")
ACCOUNT = click.option("--account", metavar="ACCOUNT", help="Default: the one of this home.")


@group("pool")
def pool() -> None:
    r"""Nodes whose stake many lend: delegate, look, take it out; manage a pool.

    Whoever lends has a part of all that the node earns, less the manager's commission, and of all
    that is slashed. Taking it out takes the network's time of unbonding.

    \b
    Examples:
      deai pool list
      deai pool delegate 0xNODE 100CT
      deai pool show 0xNODE
    """


@pool.command("show")
@NODE
@ACCOUNT
def show(settings: Settings, node_id: str, account: str | None) -> None:
    r"""A pool and your part of it: worth, what leaves and until when, what a slash would take.

    \b
    Example:
      deai pool show 0xNODE --json
    """
    node = typed_node(settings, "NODE", node_id)
    document = run_trio(pool_steps.show, settings, node, _who(settings, account))
    _print(settings, document)


@pool.command("list")
@click.option("--mine", is_flag=True, help="Only where the account has something.")
@ACCOUNT
def list_(settings: Settings, mine: bool, account: str | None) -> None:
    r"""Every node that takes delegations, as the chain tells; slow on an old chain.

    \b
    Examples:
      deai pool list
      deai pool list --mine --json
    """
    items = run_trio(list_pools, settings, _who(settings, account), mine)
    emit(settings, {"items": items}, partial(pool_screens.listing, items))


@pool.command("delegate")
@NODE
@click.argument("amount")
@KEY_FILE
@PASSPHRASE
@KEY
@YES
def delegate(
    settings: Settings,
    node_id: str,
    amount: str,
    intent: str,
    **options: Any,  # noqa: ANN401 - click's own
) -> None:
    r"""Lend to the stake of a node, out of the wallet.

    \b
    Example:
      deai pool delegate 0xNODE 100CT
    """
    from deai.money import parse_amount

    units = int(typed("AMOUNT", parse_amount, amount))

    async def lend(lent: Lent) -> dict[str, Any]:
        return await pool_steps.delegate(lent, units, intent, yes=options["yes"])

    _run(settings, node_id, options, lend)


@pool.command("undelegate")
@NODE
@click.argument("amount", default="")
@click.option("--all", "everything", is_flag=True, help="Whatever you lent and did not ask for.")
@KEY_FILE
@PASSPHRASE
@KEY
@YES
def undelegate(
    settings: Settings,
    node_id: str,
    amount: str,
    everything: bool,
    intent: str,
    **options: Any,  # noqa: ANN401 - click's own
) -> None:
    r"""Ask for what you lent; says from when on it can be claimed. Slashes take part until then.

    \b
    Examples:
      deai pool undelegate 0xNODE 40CT
      deai pool undelegate 0xNODE --all
    """
    from deai.money import parse_amount

    if bool(amount) == everything:
        raise click.UsageError("give an amount, or --all")
    units = None if everything else int(typed("AMOUNT", parse_amount, amount))

    async def ask(lent: Lent) -> dict[str, Any]:
        return await pool_steps.undelegate(lent, units, intent, yes=options["yes"])

    _run(settings, node_id, options, ask)


@pool.command("claim")
@NODE
@ACCOUNT
@KEY_FILE
@PASSPHRASE
@YES
def claim(settings: Settings, node_id: str, account: str | None, **options: Any) -> None:  # noqa: ANN401
    r"""Let an account be paid what has finished unbonding; anybody may pay the gas for it.

    \b
    Examples:
      deai pool claim 0xNODE
      deai pool claim 0xNODE --account 0xACCOUNT
    """

    async def pay(lent: Lent) -> dict[str, Any]:
        return await pool_steps.claim(lent, yes=options["yes"])

    whose = None if account is None else _account(settings, account)
    _run(settings, node_id, options, pay, whose)


@pool.command("advance")
@NODE
@KEY_FILE
@PASSPHRASE
@YES
def advance(settings: Settings, node_id: str, **options: Any) -> None:  # noqa: ANN401 - click's own
    r"""Share out income, pay what has unbonded and start what waits; the node does it by itself.

    \b
    Example:
      deai pool advance 0xNODE
    """

    async def go_on(lent: Lent) -> dict[str, Any]:
        return await pool_steps.advance(lent, yes=options["yes"])

    _run(settings, node_id, options, go_on)


@pool.command("commission")
@NODE
@click.argument("percent")
@MANAGER_KEY
@PASSPHRASE
@YES
def commission(settings: Settings, node_id: str, percent: str, **options: Any) -> None:  # noqa: ANN401
    r"""Manager: announce another commission, in force after a whole epoch; at most 20%.

    \b
    Example:
      deai pool commission 0xNODE 12.5%
    """
    bps = typed("PERCENT", parse_commission, percent)

    async def say(lent: Lent) -> dict[str, Any]:
        return await pool_steps.announce(lent, bps, yes=options["yes"])

    _run(settings, node_id, _as_manager(settings, options), say)


@pool.command("close")
@NODE
@MANAGER_KEY
@PASSPHRASE
@YES
def close(settings: Settings, node_id: str, **options: Any) -> None:  # noqa: ANN401 - click's own
    r"""Manager: end the pool for good; everybody's part unbonds, the node gets no more tasks.

    \b
    Example:
      deai pool close 0xNODE
    """

    async def end(lent: Lent) -> dict[str, Any]:
        return await pool_steps.close(lent, yes=options["yes"])

    _run(settings, node_id, _as_manager(settings, options), end)


def parse_commission(text: str) -> int:
    """Read `12.5%` as hundredths of a percent; raise `UsageError` for anything else."""
    from deai.errors import UsageError
    from deai.pools import MAX_COMMISSION

    found = _PERCENT.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"not a commission: {text[:40]!r}",
            hint="write 10% or 12.5%, with two decimals at most",
            code="bad_commission",
        )
    bps = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
    if bps > MAX_COMMISSION:
        raise UsageError(
            f"a commission is {pool_screens.percent(MAX_COMMISSION)} of income at most",
            code="commission_too_high",
        )
    return bps


def _as_manager(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    from deai.keys import key_file

    own = key_file(settings.home, "owner", settings.chain)
    return {**options, "key_file": options["key_file"] or own}


def _run(
    settings: Settings,
    node_id: str,
    options: dict[str, Any],
    work: Callable[[Lent], Awaitable[dict[str, Any]]],
    account: AccountId | None = None,
) -> None:
    """Open the pool as the key's account, do the work for `account` or for it, print."""
    node, key = typed_node(settings, "NODE", node_id), options["key_file"]
    # The client's passphrase file opens the client's key; another key has its own beside it.
    opens = options["passphrase_file"] or (settings.client_passphrase if key is None else None)

    async def there() -> dict[str, Any]:
        async with pool_steps.open_lent(
            settings, node, key or settings.client_key, opens, account
        ) as lent:
            return await work(lent)

    _print(settings, run_trio(there))


def _who(settings: Settings, account: str | None) -> AccountId | None:
    """The account named, or that of this home: who pays for tasks, or who owns its node."""
    from deai.keys import account_of, holder_of, key_file

    if account is not None:
        return _account(settings, account)
    for path in (settings.client_key, key_file(settings.home, "owner", settings.chain)):
        if path.exists():
            return holder_of(account_of(path, chain=settings.chain))
    return None


def _account(settings: Settings, text: str) -> AccountId:
    from deai.ids import account_on

    return typed("--account", partial(account_on, settings.chain), text, code="bad_account")


def _print(settings: Settings, document: dict[str, Any]) -> None:
    def render(console: Console) -> None:
        pool_screens.show(document, console)
        show_needs(settings, console, document["needs"])

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
