"""`deai orders`: what an account set aside for signed orders, and the way back."""

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

    from deai.chain.ledger import Ledger
    from deai.client.orders.book import OrderBook
    from deai.ids import AccountId
    from deai.money import Amount


@group("orders")
def orders() -> None:
    r"""Money set aside for signed orders: fund, look, thaw, withdraw.

    A task with --lane order is paid from it without a transaction of yours. Money leaves only
    after a thaw, in which nodes still settle what you signed before.

    \b
    Examples:
      deai orders fund 10CT
      deai orders status
    """


@orders.command("status")
def status(settings: Settings) -> None:
    r"""What is set aside, what of it is spoken for, and how many orders may still be signed.

    \b
    Example:
      deai orders status --json
    """
    _print(settings, run_trio(_status, settings))


@orders.command("fund")
@click.argument("amount")
@KEY
@YES
def fund(settings: Settings, amount: str, intent: str, **options: bool) -> None:
    r"""Set tokens aside; buys the next 255 nonces along where few are left.

    \b
    Example:
      deai orders fund 10CT
    """
    from deai.money import parse_positive

    units = typed("AMOUNT", parse_positive, amount)
    _print(settings, run_trio(_fund, settings, units, intent, options["yes"]))


@orders.command("thaw")
@click.argument("amount", default="")
@click.option("--all", "everything", is_flag=True, help="Everything that is set aside.")
@click.option("--cancel", is_flag=True, help="Ask for nothing: what thaws is there for orders.")
@KEY
@YES
def thaw(
    settings: Settings, amount: str, everything: bool, cancel: bool, intent: str, **options: bool
) -> None:
    r"""Ask for so much in all, whatever was asked for before; the clock starts anew.

    \b
    Examples:
      deai orders thaw --all
      deai orders thaw --cancel
    """
    from deai.money import Amount, parse_amount

    if [bool(amount), everything, cancel].count(True) != 1:
        raise click.UsageError("give an amount, --all, or --cancel")
    units = typed("AMOUNT", parse_amount, amount) if amount else Amount(0)
    asked = None if everything else units
    _print(settings, run_trio(_thaw, settings, asked, intent, options["yes"]))


@orders.command("withdraw")
@click.option("--to", metavar="ACCOUNT", help="Default: the account itself.")
@KEY
@YES
def withdraw(settings: Settings, to: str | None, intent: str, **options: bool) -> None:
    r"""Take what has thawed: as much as was asked for and was not settled meanwhile.

    \b
    Example:
      deai orders withdraw
    """
    from deai.ids import account_on

    payee = None if to is None else typed("--to", partial(account_on, settings.chain), to)
    _print(settings, run_trio(_withdraw, settings, payee, intent, options["yes"]))


async def _status(settings: Settings) -> dict[str, Any]:
    async with _open(settings) as (ledger, own, book):
        return await _document(ledger, own, book)


async def _fund(settings: Settings, units: Amount, intent: str, yes: bool) -> dict[str, Any]:
    from deai.actions import FundOrders
    from deai.chain.gas import GAS
    from deai.client.orders import money

    async with _open(settings) as (ledger, own, book):
        purse = await money.look(ledger, book, own)
        needs = await lacking(ledger, own, units, GAS[settings.chain].owner)
        if needs is not None:
            return {**await _document(ledger, own, book), "needs": needs}
        action = FundOrders(units, purse.next_page)
        key = await named(ledger, "FundOrders", own, intent)
        done = await send(settings, ledger, action, key, units, yes=yes)
        return {**await _document(ledger, own, book), "transaction": done}


async def _thaw(
    settings: Settings, asked: Amount | None, intent: str, yes: bool
) -> dict[str, Any]:  # fmt: skip
    from deai.actions import RequestThaw
    from deai.errors import UsageError
    from deai.money import Amount, format_tokens

    async with _open(settings) as (ledger, own, book):
        balance = await ledger.order_balance(own)
        units = Amount(balance.balance) if asked is None else asked
        if units > balance.balance and not intent:
            raise UsageError(
                f"{format_tokens(int(balance.balance))} are set aside, and no more can thaw",
                hint="deai orders thaw --all",
                code="too_much",
            )
        if not units and not balance.thaws_at:
            return await _document(ledger, own, book)  # nothing is asked for, as before
        key = await named(ledger, "RequestThaw", own, intent)
        done = await send(settings, ledger, RequestThaw(units), key, units, yes=yes)
        return {**await _document(ledger, own, book), "transaction": done}


async def _withdraw(
    settings: Settings, payee: AccountId | None, intent: str, yes: bool
) -> dict[str, Any]:  # fmt: skip
    from deai.actions import WithdrawThawed
    from deai.errors import Declined

    async with _open(settings) as (ledger, own, book):
        balance = await ledger.order_balance(own)
        if not balance.thaws_at and not intent:
            raise Declined(
                "nothing thaws", hint="ask first: deai orders thaw AMOUNT", code="nothing_thaws"
            )
        key = await named(ledger, "WithdrawThawed", own, intent)
        leaving = min(balance.thawing, balance.balance)
        action = WithdrawThawed(payee or own)
        done = await send(settings, ledger, action, key, leaving, yes=yes)
        return {**await _document(ledger, own, book), "transaction": done}


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[tuple[Ledger, AccountId, OrderBook]]:
    """The chain as the payer sees it, its account, and what it has signed."""
    from deai.client import access
    from deai.client.orders.book import FILE, OrderBook
    from deai.keys import holder_of, load_signer

    signer = load_signer(settings.client_key, settings.client_passphrase, chain=settings.chain)
    own = holder_of(signer.account, settings.client_account)
    book = OrderBook(settings.home / FILE)
    try:
        async with access.open_account(
            settings.network, settings.chain, signer, settings.home, own
        ) as ledger:
            _ = ledger.info.orders  # raises where there are none
            yield ledger, own, book
    finally:
        book.close()


async def _document(ledger: Ledger, own: AccountId, book: OrderBook) -> dict[str, Any]:
    from deai.client.documents import rfc3339
    from deai.client.orders import money

    purse = await money.look(ledger, book, own)
    balance, has = purse.balance, await ledger.balances(own)
    return {
        "account": own,
        "chain": ledger.info.name,
        "state": balance.state.label,
        "balance": str(int(balance.balance)),
        "thawing": str(int(balance.thawing)),
        "thaws_at": rfc3339(balance.thaws_at) if balance.thaws_at else None,
        "promised": str(purse.promised),
        "free": str(purse.free),
        "nonces": purse.nonces,
        "tokens": str(has.tokens),
        "needs": None,
        "transaction": None,
    }


def _print(settings: Settings, document: dict[str, Any]) -> None:
    from deai.cli.render import pairs, tokens

    def render(console: Console) -> None:
        thaws = document["thaws_at"]
        thawing = f"{tokens(document['thawing'])} until {thaws}" if thaws else ""
        pairs(
            console,
            [
                ("Account", f"{document['account']} on {document['chain']}"),
                ("Set aside", f"{tokens(document['balance'])}   {document['state']}"),
                ("Thawing", thawing),
                ("In signed orders", tokens(document["promised"])),
                ("Free for orders", tokens(document["free"])),
                ("Orders left", f"{document['nonces']:,}"),
                ("Wallet", tokens(document["tokens"])),
                ("Transaction", document["transaction"] or ""),
            ],
        )
        show_needs(settings, console, document["needs"])

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
