"""`deai node channels`, `redeem` and `export-vouchers`: what clients have paid by channels.

`deai channel show` and `deai channel redeem` come here in the home of a node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deai.cli.base import ExitWith, Group, Settings, emit, run_trio
from deai.ids import ChainName
from node.home import Home

FAILED = 1


@click.option("--cursor", default="", help="Where the page before ended.")
def channels(settings: Settings, cursor: str) -> None:
    r"""List the channels that pay this node: credit, owed, windows, unredeemed, latest voucher.

    \b
    Example:
      deai node channels --json
    """
    from node import offline, screens
    from node.admin.client import DaemonDown, call

    home = Home(settings.home, ChainName(settings.chain))
    try:
        document = call(home, "GET", "/channels" + (f"?cursor={cursor}" if cursor else ""))
    except DaemonDown:
        document = offline.channels(home)
    emit(settings, document, lambda console: screens.channels(console, document))


def redeem(settings: Settings) -> None:
    r"""Redeem every voucher that clients have paid with, on all chains or the one of --chain.

    A running node does it in the background; while none runs it is done here.

    \b
    Example:
      deai node redeem
    """
    from node import screens
    from node.admin.client import DaemonDown, call

    home = Home(settings.home, ChainName(settings.chain))
    chain = settings.only_chain
    try:
        document = call(home, "POST", "/redeem" + (f"?chain={chain}" if chain else ""))
    except DaemonDown:
        document = run_trio(_redeem_here, settings, home)
    emit(settings, document, lambda console: screens.redeemed(console, document))
    if any(one.get("error") for one in document["items"]):
        raise ExitWith(FAILED)


@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_vouchers(settings: Settings, file: Path) -> None:
    r"""Write every voucher that is not redeemed yet into a file for a watchtower.

    `deai channel watch --vouchers FILE` takes it, on any machine; nothing in it is secret.

    \b
    Example:
      deai node export-vouchers vouchers.json
    """
    from deai.chain.opening import info_of
    from deai.cli.render import say
    from deai.client.access import entry_of
    from deai.errors import UsageError
    from deai.files import replace_file
    from deai.lane.tower import encode_vouchers
    from deai.network import load_network
    from node.lane.book import BookView

    home = Home(settings.home, ChainName(settings.chain))
    network = settings.network if settings.config.network else load_network(home.network)
    info = info_of(home.chain, entry_of(network, home.chain))
    vouchers = [
        (one.channel, one.standing.voucher)
        for one in BookView(home.lane).entries.values()
        if one.chain == home.chain and one.unredeemed and one.standing.voucher is not None
    ]
    try:
        replace_file(file, encode_vouchers(home.chain, info.channels, vouchers))
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    document = {"file": str(file), "chain": home.chain, "vouchers": len(vouchers)}
    emit(settings, document, lambda console: say(console, f"{file}: {len(vouchers):,} vouchers"))


async def _redeem_here(settings: Settings, home: Home) -> dict[str, Any]:
    from deai.network import load_network
    from node.lane.offline import redeem_all

    network = settings.network if settings.config.network else load_network(home.network)
    return {"items": await redeem_all(home, network, settings.only_chain)}


def add_to(group: Group) -> None:
    """Make them commands of a group."""
    group.command("channels")(channels)
    group.command("redeem")(redeem)
    group.command("export-vouchers")(export_vouchers)
