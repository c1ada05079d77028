"""`deai channel`: deposits of a client for one node each, to open, fill up, look at and close.

Each command may be run again: it looks at the chain first and does what is missing. The session
key of a channel lies in the home that opened it; it is made before the deposit leaves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deai.cli import channel_book, channel_node
from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed, typed_node
from deai.cli.channel_watch import watch
from deai.cli.sending import KEY, NEEDS_FUNDS, YES, lacking, named, send, show_needs

if TYPE_CHECKING:
    from rich.console import Console

    from deai.actions import Action
    from deai.chain.ledger import Ledger
    from deai.channels import Channel, ChannelRecord
    from deai.ids import AccountId, ChannelId, NodeId
    from deai.money import Amount

SESSION = click.option(
    "--session-key", metavar="KEY", help="Of a channel that another home opened."
)


@group("channel")
def channel() -> None:
    r"""Deposits for one node each, from which vouchers pay for the tasks of the lane.

    A channel is closed by its client in two steps: `close` begins a waiting time, in which the
    node may still redeem vouchers, and after it the same command returns the rest.

    \b
    Examples:
      deai channel open 0xNODE 10CT
      deai channel list
    """


channel_node.add_to(channel)


@channel.command("open")
@click.argument("node_id", metavar="NODE")
@click.argument("amount")
@YES
def open_(settings: Settings, node_id: str, amount: str, **options: bool) -> None:
    r"""Lock a deposit for a node; a closed channel is opened again.

    \b
    Example:
      deai channel open 0xNODE 10CT
    """
    from deai.money import parse_positive

    units = typed("AMOUNT", parse_positive, amount)
    _print(settings, run_trio(_open_channel, settings, _node(settings, node_id), units, options))


@channel.command("top-up")
@click.argument("node_id", metavar="NODE")
@click.argument("amount")
@SESSION
@KEY
@YES
def top_up(
    settings: Settings,
    node_id: str,
    amount: str,
    intent: str,
    **options: Any,  # noqa: ANN401 - click's own
) -> None:
    r"""Add to the deposit of an open channel.

    \b
    Example:
      deai channel top-up 0xNODE 5CT
    """
    from deai.money import parse_positive

    units = typed("AMOUNT", parse_positive, amount)
    node = _node(settings, node_id)
    _print(settings, run_trio(_top_up, settings, node, units, intent, options))


@channel.command("show")
@click.argument("node_id", metavar="NODE")
@SESSION
def show(settings: Settings, node_id: str, **options: Any) -> None:  # noqa: ANN401 - click's own
    r"""What a channel holds, how much of it was claimed, and what this home has promised.

    In the home of that node: what every client's channel owes it.

    \b
    Example:
      deai channel show 0xNODE --json
    """
    if channel_node.show_here(settings, node_id):
        return
    _print(settings, run_trio(_show, settings, _node(settings, node_id), options))


@channel.command("close")
@click.argument("node_id", metavar="NODE")
@SESSION
@YES
def close(settings: Settings, node_id: str, **options: Any) -> None:  # noqa: ANN401 - click's own
    r"""Ask for the rest; after the waiting time the same command returns it.

    \b
    Example:
      deai channel close 0xNODE
    """
    _print(settings, run_trio(_close, settings, _node(settings, node_id), options))


@channel.command("list")
def list_(settings: Settings) -> None:
    r"""Every channel that this account ever opened, as the chain tells; slow on an old chain.

    \b
    Example:
      deai channel list --json
    """
    from deai.cli.render import bare, marked, short, table

    items = run_trio(_list, settings)

    def render(console: Console) -> None:
        rows = [
            (
                short(one["node_id"]), marked(one["state"]), bare(one["deposit"]),
                bare(one["claimed"]), bare(one["remaining"]), short(one["session_key"]),
            )
            for one in items
        ]  # fmt: skip
        headings = ("node", "state", "deposit CT", "claimed CT", "left CT", "session key")
        table(console, headings, rows, right=(2, 3, 4))

    emit(settings, {"items": items}, render)


channel.add_command(watch)


@dataclass(frozen=True)
class _Mine:
    """One channel of this account, as the chain has it now."""

    settings: Settings
    ledger: Ledger
    channel: Channel
    id: ChannelId
    record: ChannelRecord

    def document(self, transaction: str | None = None) -> dict[str, Any]:
        found = _row(self.settings.chain, self.id, self.channel, self.record)
        return {**found, "needs": None, "transaction": transaction}

    async def send(self, action: Action, key: str, moved: int, *, yes: bool) -> dict[str, Any]:
        """What the channel is after an action."""
        done = await send(self.settings, self.ledger, action, key, moved, yes=yes)
        after = await self.ledger.channel(self.id)
        return _Mine(self.settings, self.ledger, self.channel, self.id, after).document(done)


async def _open_channel(
    settings: Settings, node: NodeId, units: Amount, options: dict[str, bool]
) -> dict[str, Any]:
    from deai.actions import OpenChannel
    from deai.channels import ChannelState
    from deai.errors import UsageError
    from deai.keys import create_key

    def made(path: Path) -> AccountId:
        return create_key(path, settings.client_passphrase, chain=settings.chain)

    async with _mine(settings, node, None, made) as mine:
        state, epoch = mine.record.state, mine.record.epoch + 1
        if state is ChannelState.OPEN and mine.record.deposit == units:
            return mine.document()
        if state in (ChannelState.OPEN, ChannelState.CLOSING):
            raise UsageError(
                f"the channel with {node} is {state.label} already",
                hint="`deai channel top-up` adds to an open one; a closing one is closed first",
                code="channel_exists",
            )
        if (needs := await _needs(mine, units)) is not None:
            return {**mine.document(), "needs": needs}
        action = OpenChannel(node, mine.channel.session_key, epoch, units)
        key = f"OpenChannel:{mine.id}:{epoch}"
        return await mine.send(action, key, units, yes=options["yes"])


async def _top_up(
    settings: Settings, node: NodeId, units: Amount, intent: str, options: dict[str, Any]
) -> dict[str, Any]:
    from deai.actions import TopUpChannel

    async with _mine(settings, node, options["session_key"]) as mine:
        if (needs := await _needs(mine, units)) is not None:
            return {**mine.document(), "needs": needs}
        key = await named(mine.ledger, "TopUpChannel", mine.id, intent)
        action = TopUpChannel(mine.id, units)
        return await mine.send(action, key, units, yes=options["yes"])


async def _show(settings: Settings, node: NodeId, options: dict[str, Any]) -> dict[str, Any]:
    async with _mine(settings, node, options["session_key"]) as mine:
        book = channel_book.promised(settings.home, mine.id, mine.record.epoch)
        return {**mine.document(), "promised": book}


async def _close(settings: Settings, node: NodeId, options: dict[str, Any]) -> dict[str, Any]:
    from deai.actions import FinishClose, RequestClose
    from deai.channels import ChannelState

    async with _mine(settings, node, options["session_key"]) as mine:
        record, yes = mine.record, options["yes"]
        if record.state is ChannelState.OPEN:
            action = RequestClose(mine.channel, record.epoch)
            return await mine.send(action, f"RequestClose:{mine.id}:{record.epoch}", 0, yes=yes)
        now = (await mine.ledger.head()).time
        if record.state is ChannelState.CLOSING and now > record.closes_at:
            done = FinishClose(mine.channel, record.epoch)
            key = f"FinishClose:{mine.id}:{record.epoch}"
            return await mine.send(done, key, record.remaining, yes=yes)
        if record.state is ChannelState.CLOSED and record.due:
            done = FinishClose(mine.channel, record.epoch)
            key = f"FinishClose:{mine.id}:{record.epoch}:{int(record.due)}@{now}"
            return await mine.send(done, key, 0, yes=yes)
        return mine.document()


async def _list(settings: Settings) -> list[dict[str, Any]]:
    from deai.client import access

    found: list[dict[str, Any]] = []
    own, after = _own(settings), None
    async with access.open_reader(settings.network, settings.chain) as ledger:
        while True:
            page = await ledger.channels(client=own, after=after)
            found += [_row(settings.chain, one.id, one.channel, one.record) for one in page.items]
            if (after := page.next) is None:
                return found


async def _needs(mine: _Mine, units: Amount) -> dict[str, str] | None:
    from deai.chain.gas import GAS

    return await lacking(mine.ledger, mine.channel.client, units, GAS[mine.settings.chain].owner)


@asynccontextmanager
async def _mine(
    settings: Settings,
    node: NodeId,
    session_key: str | None,
    make: Callable[[Path], AccountId] | None = None,
) -> AsyncIterator[_Mine]:
    """The channel with a node; raises `NotSetUp` where this home has no session key for it.

    `make` makes that key where there is none.
    """
    from deai.channels import Channel, channel_id
    from deai.client import access
    from deai.errors import NotSetUp
    from deai.ids import key_on
    from deai.keys import account_of, holder_of, load_signer

    signer = load_signer(settings.client_key, settings.client_passphrase, chain=settings.chain)
    own = holder_of(signer.account, settings.client_account)
    async with access.open_account(
        settings.network, settings.chain, signer, settings.home, own
    ) as ledger:
        domain = ledger.info.channels
        path = settings.home / "keys" / "channels" / f"{node}.json"
        if session_key is not None:
            session = typed("--session-key", partial(key_on, settings.chain), session_key)
        elif path.exists():
            session = account_of(path, chain=settings.chain)
        elif make is not None:
            session = make(path)
        else:
            raise NotSetUp(
                f"no session key for {node} at {path}",
                hint="open the channel with `deai channel open`; --session-key names another's",
                code="no_session_key",
            )
        channel_ = Channel(own, node, session)
        id_ = channel_id(channel_, domain)
        yield _Mine(settings, ledger, channel_, id_, await ledger.channel(id_))


def _own(settings: Settings) -> AccountId:
    from deai.keys import account_of, holder_of

    key = account_of(settings.client_key, chain=settings.chain)
    return holder_of(key, settings.client_account)


def _node(settings: Settings, text: str) -> NodeId:
    return typed_node(settings, "NODE", text)


def _row(chain: str, id_: ChannelId, of: Channel, record: ChannelRecord) -> dict[str, Any]:
    from deai.client.documents import rfc3339

    return {
        "channel_id": id_,
        "chain": chain,
        "client": of.client,
        "node_id": of.node,
        "owner": of.owner,
        "session_key": of.session_key,
        "state": record.state.label,
        "epoch": record.epoch,
        "deposit": str(int(record.deposit)),
        "claimed": str(int(record.claimed)),
        "remaining": str(int(record.remaining)),
        "due": str(int(record.due)),
        "closes_at": rfc3339(record.closes_at) if record.closes_at else None,
    }


def _print(settings: Settings, document: dict[str, Any]) -> None:
    from deai.cli.render import marked, pairs, tokens

    def render(console: Console) -> None:
        pairs(
            console,
            [
                ("Channel", document["channel_id"]),
                ("Node", document["node_id"]),
                ("State", marked(document["state"])),
                ("Deposit", tokens(document["deposit"])),
                ("Claimed", tokens(document["claimed"])),
                ("Left", tokens(document["remaining"])),
                *(
                    [("To be sent again", tokens(document["due"]))]
                    if document["due"] != "0"
                    else []
                ),
                ("Vouchers pay until", document["closes_at"] or ""),
                *channel_book.rows(document),
                ("Session key", document["session_key"]),
                ("Transaction", document["transaction"] or ""),
            ],
        )
        show_needs(settings, console, document["needs"])

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
