"""`deai account`: the account that pays for tasks, its money in the vault and outside.

A task is paid from the vault; what is short is moved there first, by a transaction of its own.
Whoever runs many tasks moves more at once, and takes back what is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed
from deai.cli.sending import KEY, NEEDS_FUNDS, YES, lacking, named, send, show_needs

if TYPE_CHECKING:
    from rich.console import Console

    from deai.actions import Deposit, WithdrawVault
    from deai.chain.ledger import Ledger
    from deai.ids import AccountId
    from deai.money import Amount


@group("account")
def account() -> None:
    r"""The account that pays for tasks: what it has, to the vault and back.

    Tasks are paid from the vault, where refunds go too. A task that needs more than is there
    moves it first, which takes a transaction more.

    \b
    Examples:
      deai account show
      deai account deposit 10CT
    """


@account.command("show")
def show(settings: Settings) -> None:
    r"""Tokens in the wallet and in the vault, and money for gas.

    \b
    Example:
      deai account show --json
    """
    _print(settings, run_trio(_show, settings))


@account.command("deposit")
@click.argument("amount")
@KEY
@YES
def deposit(settings: Settings, amount: str, intent: str, **options: bool) -> None:
    r"""Move tokens into the vault, so that the next tasks need no transaction for it.

    \b
    Example:
      deai account deposit 10CT
    """
    from deai.money import parse_amount

    units = typed("AMOUNT", parse_amount, amount)
    _print(settings, run_trio(_deposit, settings, units, intent, options["yes"]))


@account.command("withdraw")
@click.argument("amount", default="")
@click.option("--all", "everything", is_flag=True, help="Whatever no task holds.")
@click.option("--to", metavar="ACCOUNT", help="Default: the account itself.")
@KEY
@YES
def withdraw(
    settings: Settings,
    amount: str,
    everything: bool,
    to: str | None,
    intent: str,
    **options: bool,
) -> None:
    r"""Take tokens out of the vault; what open tasks hold in escrow is not in it.

    \b
    Examples:
      deai account withdraw 2.5CT
      deai account withdraw --all
    """
    from deai.ids import account_on
    from deai.money import parse_amount

    if bool(amount) == everything:
        raise click.UsageError("give an amount, or --all")
    units = None if everything else typed("AMOUNT", parse_amount, amount)
    payee = None if to is None else typed("--to", partial(account_on, settings.chain), to)
    _print(settings, run_trio(_withdraw, settings, units, payee, intent, options["yes"]))


async def _show(settings: Settings) -> dict[str, Any]:
    async with _open(settings) as (ledger, own):
        return await _document(ledger, own)


async def _deposit(settings: Settings, units: Amount, intent: str, yes: bool) -> dict[str, Any]:
    from deai.actions import Deposit
    from deai.chain.gas import GAS

    async with _open(settings) as (ledger, own):
        needs = await lacking(ledger, own, units, GAS[settings.chain].owner)
        if needs is not None:
            return {**await _document(ledger, own), "needs": needs}
        return await _send(settings, ledger, own, Deposit(units), intent, yes)


async def _withdraw(
    settings: Settings, units: Amount | None, payee: AccountId | None, intent: str, yes: bool
) -> dict[str, Any]:
    from deai.actions import WithdrawVault
    from deai.errors import InsufficientFunds
    from deai.money import Amount, format_tokens

    async with _open(settings) as (ledger, own):
        there = (await ledger.balances(own)).vault
        moved = Amount(there) if units is None else units
        if moved > there:
            needed, has = format_tokens(moved), format_tokens(there)
            raise InsufficientFunds(
                "Insufficient",
                {"account": own, "needed": needed, "has": has},
                hint="`deai account show` tells what the vault holds; --all takes all of it",
            )
        if not moved:
            return await _document(ledger, own)
        action = WithdrawVault(payee or own, moved)
        return await _send(settings, ledger, own, action, intent, yes)


async def _send(
    settings: Settings,
    ledger: Ledger,
    own: AccountId,
    action: Deposit | WithdrawVault,
    intent: str,
    yes: bool,
) -> dict[str, Any]:
    """Send; what the account has then."""
    key = await named(ledger, type(action).__name__, own, intent)
    done = await send(settings, ledger, action, key, action.amount, yes=yes)
    return {**await _document(ledger, own), "transaction": done}


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[tuple[Ledger, AccountId]]:
    """The chain as the payer sees it, and its account."""
    from deai.client import access
    from deai.keys import holder_of, load_signer

    signer = load_signer(settings.client_key, settings.client_passphrase, chain=settings.chain)
    own = holder_of(signer.account, settings.client_account)
    async with access.open_account(
        settings.network, settings.chain, signer, settings.home, own
    ) as ledger:
        yield ledger, own


async def _document(ledger: Ledger, own: AccountId) -> dict[str, Any]:
    has = await ledger.balances(own)
    return {
        "account": own,
        "chain": ledger.info.name,
        "tokens": str(has.tokens),
        "vault": str(has.vault),
        "gas": str(has.gas),
        "needs": None,
        "transaction": None,
    }


def _print(settings: Settings, document: dict[str, Any]) -> None:
    from deai.chain.gas import GAS
    from deai.cli.render import pairs, tokens

    coins = GAS[settings.chain].coins

    def render(console: Console) -> None:
        pairs(
            console,
            [
                ("Account", f"{document['account']} on {document['chain']}"),
                ("Wallet", tokens(document["tokens"])),
                ("Vault", tokens(document["vault"])),
                ("For gas", coins(int(document["gas"]))),
                ("Transaction", document["transaction"] or ""),
            ],
        )
        show_needs(settings, console, document["needs"])

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
