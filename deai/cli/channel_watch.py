"""`deai channel watch`: a watchtower that runs until it is told to stop."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli.base import (
    NODES_HINT,
    ExitWith,
    Settings,
    command,
    emit,
    run_trio,
    typed,
    until_told,
)
from deai.cli.sending import NEEDS_FUNDS, lacking, show_needs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from rich.console import Console

    from deai.chain.ledger import ChainInfo
    from deai.channels import Channel, Voucher
    from deai.client.tower.opening import Tower
    from deai.client.tower.watch import Happening
    from deai.lane.tower import NotKept
    from deai.net import Net
    from deai.signing import Signer

LISTEN: Final = "/ip4/0.0.0.0/tcp/4010"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@command("watch")
@click.option("--node", "nodes", multiple=True, metavar="ID", help="Serve only this one; repeat.")
@click.option("--vouchers", "files", multiple=True, type=FILE, help="Hold a file's vouchers, too.")
@click.option("--listen", multiple=True, metavar="MULTIADDR", help=f"Default {LISTEN}.")
@click.option("--announce", multiple=True, metavar="MULTIADDR", help="What nodes are told instead.")
@click.option("--offline", is_flag=True, help="Nobody hands vouchers over: files only.")
@click.option("--key-file", type=click.Path(path_type=Path), help="Pays for gas; made if missing.")
@click.option("--account", metavar="NAME", help="On NEAR: the account of that key.")
@click.option("--least", default="0.01CT", metavar="AMOUNT", help="Answer for no less than this.")
@click.option("--patience", default="60s", metavar="TIME", help="The node's own time to answer.")
def watch(settings: Settings, **options: Any) -> None:  # noqa: ANN401 - click's own
    r"""Hold vouchers for nodes, and redeem them when a client closes on an older one.

    Runs until Ctrl-C. Nodes name it in their setting `node.lane.towers`. It pays gas from an
    account of its own; whatever it redeems goes to the node's owner.

    \b
    Examples:
      deai channel watch --node 0xNODE
      deai channel watch --offline --vouchers vouchers.json
    """
    outcome: dict[str, Any] = {"event": "stopped"}
    run_trio(_watch, settings, options, outcome)
    emit(settings, outcome, partial(_last, settings, outcome))
    if outcome["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)


async def _watch(settings: Settings, options: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Until told to stop, or at once if the account cannot pay; `outcome` tells what was done."""
    import trio

    async with trio.open_nursery() as nursery:
        await nursery.start(until_told, nursery.cancel_scope)
        await _run(settings, options, outcome)
        nursery.cancel_scope.cancel()


async def _run(settings: Settings, options: dict[str, Any], outcome: dict[str, Any]) -> None:
    import trio

    from deai.chain.gas import GAS
    from deai.cli.task_input import parse_duration
    from deai.client import access
    from deai.client.tower.opening import open_tower
    from deai.ids import account_on, node_on
    from deai.keys import holder_of
    from deai.money import parse_amount

    here = partial(node_on, settings.chain)
    nodes = [typed("--node", here, one, hint=NODES_HINT) for one in options["nodes"]]
    least = typed("--least", parse_amount, options["least"])
    patience = typed("--patience", parse_duration, options["patience"])
    named = options["account"]
    if named is not None:
        named = typed("--account", partial(account_on, settings.chain), named)
    signer = _signer(settings, options["key_file"])
    account = holder_of(signer.account, named)
    outcome |= {"account": account, "needs": None}
    gas = GAS[settings.chain].owner
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(
            access.open_account(settings.network, settings.chain, signer, settings.home, account)
        )
        files = [_read(one, ledger.info) for one in options["files"]]
        outcome["needs"] = await lacking(ledger, account, 0, gas)
        if outcome["needs"] is not None:
            return
        net = (
            None if options["offline"] else await stack.enter_async_context(_net(settings, options))
        )
        tower = await stack.enter_async_context(
            open_tower(
                ledger, settings.home / f"tower-{settings.chain}.db", partial(_tell, settings),
                net=net, nodes=nodes, patience=int(patience), least=least, gas_needed=gas,
            )
        )  # fmt: skip
        try:
            refused = [one for file in files for one in await tower.intake.import_vouchers(file)]
            _ready(settings, account, net, tower, refused)
            await trio.sleep_forever()
        finally:
            outcome |= {
                "held": len(tower.shelf.held),
                "answered": tower.watch.answered,
                "missed": tower.watch.missed,
                "problems": dict(tower.watch.problems),
            }
            if "gas" in tower.watch.problems:
                outcome["needs"] = {"address": account, "gas": str(gas), "tokens": "0"}


def _signer(settings: Settings, path: Path | None) -> Signer:
    from deai.keys import create_key, key_file, load_signer

    if path is None:
        path = key_file(settings.home, "tower", settings.chain)
        if not path.exists():
            create_key(path, settings.client_passphrase, chain=settings.chain)
    return load_signer(path, settings.client_passphrase, chain=settings.chain)


def _read(path: Path, info: ChainInfo) -> Sequence[tuple[Channel, Voucher]]:
    from deai.errors import ProtocolError, UsageError
    from deai.lane.tower import decode_vouchers

    try:
        return decode_vouchers(path.read_bytes(), info.name, info.channels)
    except OSError as error:
        raise UsageError(f"--vouchers: cannot read {path}: {error.strerror}") from error
    except ProtocolError as error:
        raise UsageError(
            f"--vouchers: {path}: {error}",
            hint="write it with `deai node export-vouchers`, on the same network",
            code="bad_vouchers",
        ) from error


def _net(settings: Settings, options: dict[str, Any]) -> AbstractAsyncContextManager[Net]:
    from deai.client.adapters import open_net
    from deai.keys import create_peer_key

    identity = settings.home / "keys" / "tower-peer.key"
    create_peer_key(identity)
    return open_net(identity, listen=options["listen"] or (LISTEN,), announce=options["announce"])


def _ready(
    settings: Settings, account: str, net: Net | None, tower: Tower, refused: Sequence[NotKept]
) -> None:
    addresses = [] if net is None else [f"{one}/p2p/{net.peer_id}" for one in net.addresses]
    document = {
        "event": "ready",
        "account": account,
        "peer_id": None if net is None else net.peer_id,
        "addresses": addresses,
        "held": len(tower.shelf.held),
        "refused": [
            {"channel_id": one.channel_id, "code": one.code, "detail": one.reason}
            for one in refused
        ],
    }

    def render(console: Console) -> None:
        from deai.cli.render import pairs, say

        say(console, f"● watching {len(tower.shelf.held):,} channels")
        rows = [("Pays from", account), *(("Reached at", one) for one in addresses)]
        rows += [("Not held", f"{one.channel_id}: {one.reason}") for one in refused]
        pairs(console, rows)

    emit(settings, document, render)


def _tell(settings: Settings, what: Happening) -> None:
    amount = None if what.amount is None else str(int(what.amount))
    document = {
        "event": what.event,
        "channel_id": what.channel_id,
        "code": what.code,
        "detail": what.detail,
        "amount": amount,
        "transaction": what.transaction,
    }

    def render(console: Console) -> None:
        from deai.cli.render import marked, one_line, say, tokens

        parts = [marked(what.event), what.channel_id or "", what.code, what.detail]
        parts += ["" if amount is None else tokens(amount), what.transaction or ""]
        say(console, "   ".join(one_line(part) for part in parts if part))

    emit(settings, document, render)


def _last(settings: Settings, outcome: dict[str, Any], console: Console) -> None:
    from deai.cli.render import pairs, say

    if "held" in outcome:
        say(console, f"○ stopped, holding the vouchers of {outcome['held']:,} channels")
        rows = [("Answered", str(outcome["answered"])), ("Missed", str(outcome["missed"]))]
        rows += [(f"Problem {code}", text) for code, text in outcome["problems"].items()]
        pairs(console, rows)
    show_needs(settings, console, outcome["needs"])
