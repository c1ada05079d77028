"""`deai stake`: register a node, add and withdraw stake. Each command may be run again.

A command looks at the chain first and does only what is missing; a transaction that was sent
before an interruption is found again by its name in the outbox, never sent twice.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deai.cli.base import NODES_HINT, Settings, emit, group, run_trio, typed
from deai.cli.bind import bind
from deai.cli.pool_screens import pool_rows
from deai.cli.sending import KEY, YES
from deai.cli.stake_common import (
    ACCOUNT,
    INDEX,
    OWNER,
    PASSPHRASE,
    account,
    finish,
)
from deai.cli.stake_operator import release_node, rotate_operator
from deai.cli.stake_steps import (
    add_stake,
    register_node,
    stake_status,
    unbond_stake,
    withdraw_stake,
)

if TYPE_CHECKING:
    from rich.console import Console


@group("stake")
def stake() -> None:
    r"""Register nodes, add and withdraw stake.

    These commands sign with the owner key, which belongs on another machine than the node. Of a
    node that takes delegations they mean the manager's own part of its pool.

    \b
    Examples:
      deai stake register --stake 1000CT --operator-key operator.json --peer-key peer.key
      deai stake status
    """


@stake.command("register")
@click.option("--stake", "amount", metavar="N|1000CT", help="Default: the least that is allowed.")
@click.option(
    "--operator-key", type=click.Path(path_type=Path), help="Default: HOME/keys/operator.json."
)
@click.option("--peer-key", type=click.Path(path_type=Path), help="Default: HOME/keys/peer.key.")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="MULTIADDR",
    help="Where peers reach it; repeatable.",
)
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def register(settings: Settings, **options: Any) -> None:  # noqa: ANN401
    r"""Stake and register a node: shows the plan, simulates it, sends it, waits.

    The operator gets its first money for gas from the owner, so that only the owner is funded.

    \b
    Example:
      deai stake register --stake 1000CT
    """
    from deai.money import parse_amount

    given = options.pop("amount")
    amount = None if given is None else typed("--stake", parse_amount, given)
    document = run_trio(register_node, settings, options, amount)
    finish(settings, document)


@stake.command("add")
@click.argument("amount")
@KEY
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def add(settings: Settings, amount: str, intent: str, **options: Any) -> None:  # noqa: ANN401
    r"""Add to the stake of a node.

    \b
    Example:
      deai stake add 250CT
    """
    from deai.money import parse_amount

    units = typed("AMOUNT", parse_amount, amount)
    finish(settings, run_trio(add_stake, settings, options, units, intent))


@stake.command("unbond")
@click.argument("amount", default="")
@click.option("--all", "everything", is_flag=True, help="Leave: the node gets no more tasks.")
@KEY
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def unbond(
    settings: Settings,
    amount: str,
    everything: bool,
    intent: str,
    **options: Any,  # noqa: ANN401
) -> None:
    r"""Start taking stake back; it stays slashable until the waiting time is over.

    \b
    Examples:
      deai stake unbond 100CT
      deai stake unbond --all
    """
    from deai.money import parse_amount

    if bool(amount) == everything:
        raise click.UsageError("give an amount, or --all")
    units = None if everything else typed("AMOUNT", parse_amount, amount)
    finish(settings, run_trio(unbond_stake, settings, options, units, intent))


@stake.command("withdraw")
@click.option("--to", metavar="ACCOUNT", help="Default: the owner.")
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def withdraw(settings: Settings, to: str | None, **options: Any) -> None:  # noqa: ANN401
    r"""Take out what has finished unbonding.

    \b
    Example:
      deai stake withdraw
    """
    target = None if to is None else account(settings, "--to", to)
    finish(settings, run_trio(withdraw_stake, settings, options, target))


@stake.command("release")
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def release(settings: Settings, **options: Any) -> None:  # noqa: ANN401
    r"""Let a node out that was jailed for a slash; it begins again on probation.

    Clients that saw the slash pass it over all the same.

    \b
    Example:
      deai stake release
    """
    finish(settings, run_trio(release_node, settings, options))


@stake.command("rotate")
@click.option(
    "--operator-key",
    type=click.Path(path_type=Path),
    help="The new one. Default: HOME/keys/operator.json.",
)
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def rotate(settings: Settings, **options: Any) -> None:  # noqa: ANN401
    r"""Give a node another operator key, which then gets its first money for gas.

    Stop the node first, and run `deai node init` in its home afterwards: it takes the new key up.

    \b
    Example:
      deai stake rotate --operator-key new-operator.json
    """
    finish(settings, run_trio(rotate_operator, settings, options))


stake.add_command(bind)


@stake.command("status")
@click.option("--node", "node_id", metavar="ID", help="Any node, by its id.")
@INDEX
@OWNER
@ACCOUNT
def status(settings: Settings, node_id: str | None, **options: Any) -> None:  # noqa: ANN401
    r"""Show stake, standing, reputation and what is unbonding.

    \b
    Example:
      deai stake status
    """
    from deai.cli.render import marked, pairs, say, tokens
    from deai.ids import node_on

    node = (
        None
        if node_id is None
        else typed(
            "--node", partial(node_on, settings.chain), node_id, code="bad_node_id", hint=NODES_HINT
        )
    )
    document = run_trio(stake_status, settings, node, options)

    def render(console: Console) -> None:
        say(console, f"Node {document['node_id']}")
        say(console, marked(document["state"]))
        rows = [("Owner", document["owner"])]
        if document["registered"]:
            rows += [
                ("Operator", document["operator"]),
                ("Stake", tokens(document["stake"])),
                ("Unbonding", f"{tokens(document['unbonding'])}, until {document['unbond_at']}"
                 if document["unbond_at"] else "nothing"),
                ("Reputation", f"{document['reputation']:.1f} of 1000"),
            ]  # fmt: skip
        if document["binding"] is not None:
            rows += _bound_rows(document)
        if document["pool"] is None:
            rows += [("Wallet", tokens(document["wallet"])), ("Vault", tokens(document["vault"]))]
        else:
            rows += pool_rows(document["pool"])
        pairs(console, rows)

    emit(settings, document, render)


def _bound_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    binding = document["binding"]
    twin = next(node for chain, node in binding["node_ids"].items() if chain != document["chain"])
    left = " and ".join(name for name, done in binding["signed"].items() if not done)
    state = f"the owner on {left} has yet to sign" if left else "both owners signed"
    return [("Same as", f"{twin}, {state}")]
