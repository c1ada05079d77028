"""What the pool commands share: options, whose pool it is seen as, the result."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli import pool_screens, pool_steps
from deai.cli.base import ExitWith, Settings, emit, run_trio, typed, typed_node
from deai.cli.pool_look import Lent
from deai.cli.sending import NEEDS_FUNDS, show_needs
from deai.cli.stake_common import ACCOUNTS_HINT

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


def run_on(
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

    print_pool(settings, run_trio(there))


def account_here(settings: Settings, account: str | None) -> AccountId | None:
    """The account named, or that of this home: who pays for tasks, or who owns its node."""
    from deai.keys import account_of, holder_of, key_file

    if account is not None:
        return typed_account(settings, account)
    for path in (settings.client_key, key_file(settings.home, "owner", settings.chain)):
        if path.exists():
            return holder_of(account_of(path, chain=settings.chain))
    return None


def typed_account(settings: Settings, text: str) -> AccountId:
    """What was given as `--account`; raise `UsageError` if it is none of the chain."""
    from deai.ids import account_on

    read, hint = partial(account_on, settings.chain), ACCOUNTS_HINT[settings.chain]
    return typed("--account", read, text, code="bad_account", hint=hint)


def print_pool(settings: Settings, document: dict[str, Any]) -> None:
    """Print the result; leave with `NEEDS_FUNDS` if it waits for money."""

    def render(console: Console) -> None:
        pool_screens.show(document, console)
        show_needs(settings, console, document["needs"])

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
