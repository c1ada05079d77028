"""`deai pool`: lend to the stake of a node, look after it, take it out again; manage a pool.

Each command may be run again: it looks at the chain first and does what is missing. What may be
meant twice takes `--key NAME`, with which a repetition sends nothing twice.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from deai.cli import pool_screens, pool_steps
from deai.cli.base import Settings, emit, group, run_trio, typed, typed_node
from deai.cli.pool_common import (
    ACCOUNT,
    KEY_FILE,
    MANAGER_KEY,
    NODE,
    PASSPHRASE,
    account_here,
    parse_commission,
    print_pool,
    run_on,
    typed_account,
)
from deai.cli.pool_list import list_pools
from deai.cli.pool_look import Lent
from deai.cli.sending import KEY, YES


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
    document = run_trio(pool_steps.show, settings, node, account_here(settings, account))
    print_pool(settings, document)


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
    items = run_trio(list_pools, settings, account_here(settings, account), mine)
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

    run_on(settings, node_id, options, lend)


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
    r"""Ask for what you lent; says from when on it can be claimed. It can be slashed until then.

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

    run_on(settings, node_id, options, ask)


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

    whose = None if account is None else typed_account(settings, account)
    run_on(settings, node_id, options, pay, whose)


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

    run_on(settings, node_id, options, go_on)


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

    run_on(settings, node_id, _as_manager(settings, options), say)


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

    run_on(settings, node_id, _as_manager(settings, options), end)


def _as_manager(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    from deai.keys import key_file

    own = key_file(settings.home, "owner", settings.chain)
    return {**options, "key_file": options["key_file"] or own}
