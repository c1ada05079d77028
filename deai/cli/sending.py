"""What commands that send have in common: what lacks, simulate, ask, send, wait."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from deai.cli.base import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from deai.actions import Action
    from deai.chain.ledger import Ledger
    from deai.ids import AccountId

NEEDS_FUNDS: Final = 5
YES = click.option("--yes", is_flag=True, help="Do not ask.")
KEY = click.option(
    "--key", "intent", default="", metavar="NAME",
    help="A name for this transfer: repeated with it, nothing is sent twice.",
)  # fmt: skip


async def lacking(
    ledger: Ledger, account: AccountId, tokens: int, needed_gas: int
) -> dict[str, str] | None:
    """What an account must be sent before it can go on: gas and tokens; None if nothing."""
    has = await ledger.balances(account)
    gas, missing = max(0, needed_gas - has.gas), max(0, tokens - has.tokens)
    if not gas and not missing:
        return None
    return {"address": account, "gas": str(gas), "tokens": str(missing)}


async def named(ledger: Ledger, verb: str, about: str, intent: str) -> str:
    """A key for something that may be meant twice.

    Without a name (`intent`) it is meant once for each block in which it was asked for.
    """
    return f"{verb}:{about}:{intent or (await ledger.head()).hash}"


async def send(
    settings: Settings, ledger: Ledger, action: Action, key: str, moved: int, *, yes: bool
) -> str:
    """Simulate, ask, send, wait for finality; the transaction's hash."""
    from deai.cli.render import say, tokens

    gas = await ledger.simulate(action)
    name, console = _words(action), settings.err
    say(console, f"○ {name}   moves {tokens(moved)}   gas {gas:,}   would succeed")
    if not yes and not settings.json and console.is_terminal:
        click.confirm("Send it?", abort=True, err=True)
    done = await ledger.submit(action, key=key)
    say(console, f"● {name}   tx {done.hash}   block {done.block:,}   final")
    return done.hash


def _words(action: Action) -> str:
    """What an action does, in words: `add stake`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(action).__name__).lower()


def show_needs(settings: Settings, console: Console, needs: dict[str, str] | None) -> None:
    """What has to arrive before the same command goes on, if anything."""
    from deai.chain.gas import GAS
    from deai.cli.render import pairs, say, tokens

    if needs is None:
        return
    gas = int(needs["gas"])
    say(console, "Before this can go on:")
    pairs(
        console,
        [
            ("Send to", needs["address"]),
            ("Tokens", tokens(needs["tokens"]) if int(needs["tokens"]) else ""),
            ("For gas", GAS[settings.chain].coins(gas) if gas else ""),
        ],
    )
    say(console, "Then run the same command again.")
