"""`deai rewards`: what an account is owed, checked against the chain and claimed.

Every figure is computed here from the chain's events, so that nobody needs to be believed: which
root is in force the contract says, what its leaves are follows from the events. Longer than other
modules because six short commands share what they read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed
from deai.cli.sending import KEY, NEEDS_FUNDS, YES, lacking, named, send, show_needs

if TYPE_CHECKING:
    from rich.console import Console

    from deai.actions import Action
    from deai.chain.ledger import Ledger
    from deai.claims import RewardsRecord, Share, Statement
    from deai.ids import AccountId

ACCOUNT = click.option("--account", metavar="ACCOUNT", help="Default: the one of this home.")
REASONS = ("audit", "refund", "slash", "delegation")


@group("rewards")
def rewards() -> None:
    r"""What accounts are owed each epoch: look, check it yourself, claim.

    Amounts add up over epochs: one claim pays everything since the last.

    \b
    Examples:
      deai rewards status
      deai rewards claim
      deai rewards verify 83333
    """


@rewards.command("status")
@ACCOUNT
def status(settings: Settings, account: str | None) -> None:
    r"""What an account is owed, was paid and can claim; slow on an old chain.

    \b
    Examples:
      deai rewards status --json
      deai rewards status --account 0xOWNER
    """
    from deai.cli.render_rewards import show_status

    document = run_trio(_status, settings, _who(settings, account))
    emit(settings, document, partial(show_status, document))


@rewards.command("claim")
@ACCOUNT
@YES
def claim(settings: Settings, account: str | None, **options: bool) -> None:
    r"""Let an account be paid what it can claim; anybody may pay the gas for it.

    \b
    Examples:
      deai rewards claim
      deai rewards claim --account 0xOWNER --yes
    """
    from deai.cli.render_rewards import show_status

    document = run_trio(_claim, settings, _who(settings, account), options["yes"])
    _print_sent(settings, document, partial(show_status, document))


@rewards.command("verify")
@click.argument("epoch", type=int, required=False)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write the statement's bytes there."
)
@click.option("--follow", is_flag=True, help="Check every root that is proposed, until Ctrl-C.")
@click.option("--cancel", "cancels", is_flag=True, help="And take wrong ones back as guardian.")
def verify(settings: Settings, epoch: int | None, output: Path | None, **options: bool) -> None:
    r"""Compute an epoch from the chain's events and compare with what was proposed for it.

    The status is 0 where they agree or nothing was proposed, and 1 where they differ. With
    `--follow` a wrong root ends it with 1; with `--cancel` it is taken back and the watch goes on.

    \b
    Examples:
      deai rewards verify 83333
      deai rewards verify 83333 --output epoch.msgpack --json
      deai rewards verify --follow --cancel
    """
    from deai.cli.render_rewards import show_epoch
    from deai.cli.rewards_follow import follow_checking

    if options["follow"]:
        _alone(epoch, output)
        follow_checking(settings, cancels=options["cancels"])
        return
    if epoch is None or options["cancels"]:
        raise click.UsageError("name an EPOCH, or --follow them all, with --cancel if you like")
    document = run_trio(_verify, settings, epoch, output)
    emit(settings, document, partial(show_epoch, document))
    if document["ok"] is False:
        raise ExitWith(1)


@rewards.command("fund")
@click.argument("amount")
@click.option(
    "--for", "shares", metavar="ACCOUNT=AMOUNT", multiple=True, help="Owed to it; may be repeated."
)
@click.option("--as", "reason", type=click.Choice(REASONS), default="audit", show_default=True)
@KEY
@YES
def fund(
    settings: Settings,
    amount: str,
    shares: tuple[str, ...],
    reason: str,
    intent: str,
    **options: bool,
) -> None:
    r"""Pay in: for the accounts named, and what is left for the insurance of clients.

    \b
    Examples:
      deai rewards fund 10CT
      deai rewards fund 10CT --for 0xACCOUNT=4CT --for 0xOTHER=6CT --as audit
    """
    from deai.cli.render_rewards import show_sent
    from deai.errors import UsageError
    from deai.money import parse_positive

    units = typed("AMOUNT", parse_positive, amount)
    named_ = tuple(_share(settings, text) for text in shares)
    if sum(one.amount for one in named_) > units:
        raise UsageError(
            "--for: the accounts are named more than is paid in",
            hint="what is left of the AMOUNT insures clients, so it is at least their sum",
            code="bad_share",
        )
    document = run_trio(_fund, settings, units, named_, reason, intent, options["yes"])
    _print_sent(settings, document, partial(show_sent, document))


@rewards.command("propose")
@click.argument("epoch", type=int, required=False)
@click.option("--follow", is_flag=True, help="Propose each epoch once it is over, until Ctrl-C.")
@YES
def propose(settings: Settings, epoch: int | None, **options: bool) -> None:
    r"""Put an epoch's root on chain, by default that of the last epoch that is over.

    The key must be the proposer's. Accounts claim under it after the contract's delay. With
    `--follow` nothing is asked, and epochs in which nobody came to be owed anything are left out.

    \b
    Examples:
      deai rewards propose
      deai rewards propose 83333 --yes
      deai rewards propose --follow --json
    """
    from deai.cli.render_rewards import show_epoch
    from deai.cli.rewards_follow import follow_proposing

    if options["follow"]:
        _alone(epoch)
        follow_proposing(settings)
        return
    document = run_trio(_propose, settings, epoch, options["yes"])
    _print_sent(settings, document, partial(show_epoch, document))


@rewards.command("cancel")
@click.argument("epoch", type=int)
@YES
def cancel(settings: Settings, epoch: int, **options: bool) -> None:
    r"""Take a proposed root back while it waits. The key must be the guardian's.

    \b
    Example:
      deai rewards cancel 83333
    """
    from deai.cli.render_rewards import show_sent

    document = run_trio(_cancel, settings, epoch, options["yes"])
    _print_sent(settings, document, partial(show_sent, document))


def _alone(*others: object) -> None:
    if any(one is not None for one in others):
        raise click.UsageError("--follow goes with neither an EPOCH nor --output")


# --- reading


async def _status(settings: Settings, account: AccountId) -> dict[str, Any]:
    from deai.client import access

    async with access.open_reader(settings.network, settings.chain) as ledger:
        return (await _owed(ledger, account, claims=False))[0]


async def _owed(
    ledger: Ledger, account: AccountId, *, claims: bool
) -> tuple[dict[str, Any], Action | None]:
    """What an account has, and the action that pays what it can claim.

    Under a root that is not what the events give nobody knows: who claims raises `ProtocolError`.
    """
    from deai.actions import ClaimRewards
    from deai.claims import ended_before
    from deai.cli.render_rewards import record_document
    from deai.client.adapters import load_rewards
    from deai.client.rewards import claim_under, read_history

    record, paid = await ledger.rewards(), await ledger.rewards_paid(account)
    seconds = (await ledger.parameters()).epoch_seconds
    last = ended_before((await ledger.head()).time, seconds)
    history = await read_history(ledger, load_rewards(), {last, *_epochs(record)})
    newest = _leaf(history.statements[last], account)
    document = {
        "account": account,
        "chain": ledger.info.name,
        "contract": ledger.info.rewards.contract,
        **record_document(record, history),
        "owed": None,
        "paid": str(int(paid)),
        "claimable": "0",
        "later": str(max(0, newest - int(paid))),
        "needs": None,
        "transaction": None,
    }
    if not record.epoch:
        return {**document, "owed": "0"}, None
    found = history.statements[record.epoch]
    if found.root != record.root and not claims:
        return document, None
    one = claim_under(found, record.root, account)
    owed = int(one.cumulative_amount) if one is not None else 0
    left = max(0, owed - int(paid))
    document |= {
        "owed": str(owed),
        "claimable": str(left),
        "later": str(newest - owed),
    }
    return document, ClaimRewards(one) if one is not None and left else None


def _epochs(record: RewardsRecord) -> set[int]:
    waiting = () if record.waiting is None else (record.waiting.epoch,)
    return {*waiting, record.epoch} - {0}


def _leaf(statement: Statement, account: AccountId) -> int:
    return sum(int(one.amount) for one in statement.leaves if one.account == account)


async def _verify(settings: Settings, epoch: int, output: Path | None) -> dict[str, Any]:
    import trio

    from deai.cli.render_rewards import epoch_document
    from deai.client import access
    from deai.client.adapters import load_rewards
    from deai.client.rewards import read_history
    from deai.codec import encode_canonical
    from deai.files import replace_file

    async with access.open_reader(settings.network, settings.chain) as ledger:
        history = await read_history(ledger, load_rewards(), {epoch})
        record = await ledger.rewards()
    if output is not None:
        await trio.to_thread.run_sync(
            replace_file, output, encode_canonical(history.statements[epoch])
        )
    return epoch_document(settings.chain, epoch, history, record)


# --- sending


async def _claim(settings: Settings, account: AccountId, yes: bool) -> dict[str, Any]:
    async with open_own(settings) as (ledger, own):
        document, action = await _owed(ledger, account, claims=True)
        if action is None:
            return document
        if (needs := await _needs(settings, ledger, own, 0)) is not None:
            return {**document, "needs": needs}
        amount = int(document["claimable"])
        key = f"ClaimRewards:{account}:{document['owed']}"
        done = await send(settings, ledger, action, key, amount, yes=yes)
        return {
            **document, "paid_to_all": str(int(document["paid_to_all"]) + int(amount)),
            "paid": document["owed"], "claimable": "0", "transaction": done,
        }  # fmt: skip


async def _fund(
    settings: Settings,
    units: int,
    shares: tuple[Share, ...],
    reason: str,
    intent: str,
    yes: bool,
) -> dict[str, Any]:
    from deai.actions import FundRewards
    from deai.claims import Reason
    from deai.money import Amount

    why = Reason[reason.upper()] if shares else Reason.POT
    async with open_own(settings) as (ledger, own):
        document = {
            "chain": ledger.info.name,
            "contract": ledger.info.rewards.contract,
            "amount": str(units),
            "reason": why.label,
            "shares": [{"account": one.account, "amount": str(int(one.amount))} for one in shares],
            "needs": await _needs(settings, ledger, own, units),
            "transaction": None,
        }
        if document["needs"] is not None:
            return document
        key = await named(ledger, "FundRewards", own, intent)
        action = FundRewards(Amount(units), why, shares)
        done = await send(settings, ledger, action, key, units, yes=yes)
        return {**document, "transaction": done}


async def _propose(settings: Settings, epoch: int | None, yes: bool) -> dict[str, Any]:
    from deai.actions import ProposeRewards
    from deai.claims import NO_ROOT, ended_before
    from deai.cli.render_rewards import epoch_document
    from deai.client.adapters import load_rewards
    from deai.client.rewards import read_history
    from deai.errors import Declined, UsageError
    from deai.money import format_tokens

    async with open_own(settings) as (ledger, own):
        if epoch is None:
            seconds = (await ledger.parameters()).epoch_seconds
            epoch = ended_before((await ledger.head()).time, seconds)
        history = await read_history(ledger, load_rewards(), {epoch})
        found = history.statements[epoch]
        record = await ledger.rewards()
        document = epoch_document(settings.chain, epoch, history, record)
        if found.root == NO_ROOT:
            raise UsageError(
                f"nobody was owed anything by the end of epoch {epoch}",
                hint="`deai rewards fund` pays in; clients' refunds follow from proven frauds",
                code="nothing_owed",
            )
        if document["state"] in ("active", "waiting", "superseded"):
            return document
        if found.total < record.total:
            raise Declined(
                f"the root in force is for {format_tokens(int(record.total))} in all, the events "
                f"give {format_tokens(int(found.total))}: the contract takes no smaller total",
                hint="`deai rewards fund --for` pays in until accounts are owed as much",
                code="total_falls",
            )
        if (needs := await _needs(settings, ledger, own, 0)) is not None:
            return {**document, "needs": needs}
        action = ProposeRewards(epoch, found.root, found.total, found.digest)
        # One that was cancelled may be proposed once more, so the block before it names it.
        key = await named(ledger, "ProposeRewards", f"{epoch}", "")
        done = await send(settings, ledger, action, key, 0, yes=yes)
        history = await read_history(ledger, load_rewards(), {epoch})
        after = epoch_document(settings.chain, epoch, history, await ledger.rewards())
        return {**after, "transaction": done}


async def _cancel(settings: Settings, epoch: int, yes: bool) -> dict[str, Any]:
    from deai.actions import CancelRewards
    from deai.errors import UsageError

    async with open_own(settings) as (ledger, own):
        record = await ledger.rewards()
        if record.waiting is None or record.waiting.epoch != epoch:
            raise UsageError(
                f"no root of epoch {epoch} waits",
                hint="`deai rewards status` tells which epoch's root does",
                code="nothing_waits",
            )
        needs = await _needs(settings, ledger, own, 0)
        done = None
        if needs is None:
            action = CancelRewards(epoch, record.waiting.root)
            key = await named(ledger, "CancelRewards", f"{epoch}", "")
            done = await send(settings, ledger, action, key, 0, yes=yes)
        return {
            "chain": ledger.info.name, "contract": ledger.info.rewards.contract, "epoch": epoch,
            "needs": needs, "transaction": done,
        }  # fmt: skip


@asynccontextmanager
async def open_own(settings: Settings) -> AsyncIterator[tuple[Ledger, AccountId]]:
    """The chain as this home's account sees it."""
    from deai.client import access
    from deai.keys import holder_of, load_signer

    signer = load_signer(settings.client_key, settings.client_passphrase, chain=settings.chain)
    own = holder_of(signer.account, settings.client_account)
    async with access.open_account(
        settings.network, settings.chain, signer, settings.home, own
    ) as ledger:
        yield ledger, own


async def _needs(
    settings: Settings, ledger: Ledger, own: AccountId, tokens: int
) -> dict[str, str] | None:
    from deai.chain.gas import GAS

    return await lacking(ledger, own, tokens, GAS[settings.chain].owner)


# --- what was typed


def _who(settings: Settings, account: str | None) -> AccountId:
    from deai.ids import account_on
    from deai.keys import account_of, holder_of

    if account is not None:
        return typed("--account", partial(account_on, settings.chain), account)
    key = account_of(settings.client_key, chain=settings.chain)
    return holder_of(key, settings.client_account)


def _share(settings: Settings, text: str) -> Share:
    from deai.claims import Share
    from deai.errors import UsageError
    from deai.ids import account_on
    from deai.money import parse_positive

    name, sign, amount = text.partition("=")
    if not sign:
        raise UsageError(f"--for: no `ACCOUNT=AMOUNT`: {text[:60]!r}", code="bad_share")
    to = typed("--for", partial(account_on, settings.chain), name)
    return Share(to, typed("--for", parse_positive, amount))


def _print_sent(settings: Settings, document: dict[str, Any], render: Any) -> None:  # noqa: ANN401
    def shown(console: Console) -> None:
        render(console)
        show_needs(settings, console, document["needs"])

    emit(settings, document, shown)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
