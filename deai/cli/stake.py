"""`deai stake`: register a node, add and withdraw stake. Each command may be run again.

A command looks at the chain first and does only what is missing; a transaction that was sent
before an interruption is found again by its name in the outbox, never sent twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli.base import ExitWith, Settings, emit, group, run_trio, typed

if TYPE_CHECKING:
    from rich.console import Console

    from deai.actions import Action
    from deai.chain.ledger import Ledger, NodeRecord
    from deai.ids import AccountId, NodeId
    from deai.money import Amount

ACCOUNTS_HINT: Final = {
    "sei": "an account is 0x and 40 hex digits",
    "near": "an account is a name, such as alice.near, or 64 hex digits",
}
NODES_HINT: Final = "`deai network nodes --json` lists their whole ids"
NEEDS_FUNDS: Final = 5
CONSENT_LIFE: Final = 3600
"""Seconds for which the operator's consent counts."""
INDEX = click.option("--index", type=click.IntRange(0), default=0, help="Which of your nodes.")
OWNER = click.option(
    "--owner-key", type=click.Path(path_type=Path), help="Default: HOME/keys/owner.json."
)
ACCOUNT = click.option(
    "--owner-account", metavar="NAME", help="NEAR: default the owner key's implicit account."
)
PASSPHRASE = click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="Of the owner key."
)
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@group("stake")
def stake() -> None:
    r"""Register nodes, add and withdraw stake.

    These commands sign with the owner key, which belongs on another machine than the node.

    \b
    Examples:
      deai stake register --stake 1000CT --operator-key operator.json --peer-key peer.key
      deai stake status
    """


@stake.command("register")
@click.option("--stake", "amount", metavar="N|1000CT", help="Default: the least that is allowed.")
@click.option("--operator-key", type=click.Path(path_type=Path), help="HOME/keys/operator.json.")
@click.option("--peer-key", type=click.Path(path_type=Path), help="HOME/keys/peer.key.")
@click.option("--address", "addresses", multiple=True, metavar="MULTIADDR", help="Repeatable.")
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
    document = run_trio(_register, settings, options, amount)
    _finish(settings, document)


@stake.command("add")
@click.argument("amount")
@click.option("--key", "intent", default="", help="Name it, to repeat it safely.")
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
    from deai.actions import AddStake
    from deai.money import parse_amount

    units = typed("AMOUNT", parse_amount, amount)
    document = run_trio(
        _act, settings, options, "add", lambda node: AddStake(node, units), int(units), intent
    )
    _finish(settings, document)


@stake.command("unbond")
@click.argument("amount", default="")
@click.option("--all", "everything", is_flag=True, help="Leave: the node gets no more tasks.")
@click.option("--key", "intent", default="", help="Name it, to repeat it safely.")
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
    _finish(settings, run_trio(_unbond, settings, options, units, intent))


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
    account = None if to is None else _account(settings, "--to", to)
    _finish(settings, run_trio(_withdraw, settings, options, account))


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
    document = run_trio(_status, settings, node, options)

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
        rows += [("Wallet", tokens(document["wallet"])), ("Vault", tokens(document["vault"]))]
        pairs(console, rows)

    emit(settings, document, render)


async def _register(
    settings: Settings, options: dict[str, Any], amount: Amount | None
) -> dict[str, Any]:
    from deai.actions import RegisterNode
    from deai.chain.gas import GAS
    from deai.cli.keys import peer_id_of
    from deai.errors import ConfigError, UsageError
    from deai.ids import node_of
    from deai.keys import load_signer
    from deai.money import Amount
    from deai.tasks import operate_digest

    gas = GAS[settings.chain]
    key, passphrase = _operator_key(settings, options)
    operator = load_signer(key, passphrase, chain=settings.chain)
    peer_id = peer_id_of(options["peer_key"] or settings.home / "keys" / "peer.key")
    async with _open(settings, options) as (ledger, owner):
        node = node_of(settings.chain, owner, options["index"])
        parameters = await ledger.parameters()
        least = int(parameters.min_stake)
        amount = Amount(least) if amount is None else amount
        if amount < least:
            raise UsageError(
                f"a stake of {int(amount)} is below the minimum of {least}",
                hint=f"pass --stake {least} or more",
                code="stake_too_low",
            )
        document: dict[str, Any] = {
            "node_id": node, "owner": owner, "operator": operator.account,
            "peer_id": peer_id, "needs": None, "steps": [],
        }  # fmt: skip
        record = await ledger.node(node)
        if record is not None:
            if record.operator != operator.account:
                raise ConfigError(
                    f"{node} is registered with another operator: {record.operator}",
                    hint="pass --index for another node, or that operator's key",
                )
            document["steps"] = [_step("register", "done_before")]
            await _give_gas(settings, options, ledger, document)
            return document
        has = (await ledger.balances(operator.account)).gas
        needed = gas.owner + (gas.operator if has < gas.little else 0)
        document["needs"] = await _lacking(ledger, owner, int(amount), needed)
        if document["needs"] is not None:
            document["steps"] = [_step("register", "waiting"), _step(gas.step, "waiting")]
            return document
        until = (await ledger.head()).time + CONSENT_LIFE
        consent = operator.sign(operate_digest(ledger.info.registry, node, operator.account, until))
        action = RegisterNode(
            options["index"], operator.account, until, consent, amount, peer_id,
            tuple(options["addresses"]),
        )  # fmt: skip
        done = await _send(settings, options, ledger, action, f"register:{node}", int(amount))
        document["steps"] = [_step("register", "done", done)]
        await _give_gas(settings, options, ledger, document)
        return document


async def _give_gas(
    settings: Settings, options: dict[str, Any], ledger: Ledger, document: dict[str, Any]
) -> None:
    """The step that lets an operator send when it has little for gas; may set `needs`."""
    from deai.actions import TransferGas
    from deai.chain.gas import GAS
    from deai.errors import InsufficientFunds
    from deai.ids import NEAR
    from deai.money import Amount

    operator, gas = document["operator"], GAS[settings.chain]
    has = (await ledger.balances(operator)).gas
    if has >= gas.little:
        document["steps"].append(_step(gas.step, "done_before"))
        return
    # Until it has arrived the balance stays as it is, and so does the intent.
    key = f"gas:{operator}:{has}"
    needs = {"address": document["owner"], "gas": str(gas.operator), "tokens": "0"}
    if settings.chain == NEAR:
        # An allowance is no money: what is burnt comes from the owner's account.
        document["needs"] = await _lacking(ledger, document["owner"], 0, gas.operator)
    if document["needs"] is None:
        try:
            action = TransferGas(operator, Amount(gas.operator))
            done = await _send(settings, options, ledger, action, key, 0)
        except InsufficientFunds:
            document["needs"] = needs
    waits = document["needs"] is not None
    document["steps"].append(
        _step(gas.step, "waiting" if waits else "done", None if waits else done)
    )


async def _act(
    settings: Settings,
    options: dict[str, Any],
    name: str,
    make: Any,  # noqa: ANN401 - NodeId → Action
    moved: int,
    intent: str,
) -> dict[str, Any]:
    from deai.chain.gas import GAS

    async with _open(settings, options) as (ledger, owner):
        node, record = await _registered(ledger, owner, options["index"])
        document = _document(node, owner, record)
        if name == "add":
            document["needs"] = await _lacking(ledger, owner, moved, GAS[settings.chain].owner)
            if document["needs"] is not None:
                document["steps"] = [_step(name, "waiting")]
                return document
        key = f"{name}:{node}:{intent}" if intent else await _once(ledger, name, node)
        done = await _send(settings, options, ledger, make(node), key, moved)
        document["steps"] = [_step(name, "done", done)]
        return document


async def _unbond(
    settings: Settings, options: dict[str, Any], units: int | None, intent: str
) -> dict[str, Any]:
    from deai.actions import RequestUnstake
    from deai.errors import UsageError
    from deai.money import Amount
    from deai.standing import Standing

    async with _open(settings, options) as (ledger, owner):
        node, record = await _registered(ledger, owner, options["index"])
        document = _document(node, owner, record)
        if record.standing in (Standing.UNBONDING, Standing.EXITED):
            document["steps"] = [_step("unbond", "done_before")]
            return document
        amount = Amount(record.stake if units is None else units)
        least = int((await ledger.parameters()).min_stake)
        if amount != record.stake and record.stake - amount < least:
            raise UsageError(
                f"of a stake of {record.stake}, {max(0, record.stake - least)} can be unbonded"
                f" without falling below the minimum of {least}",
                hint="unbond less, or leave with --all",
                code="stake_too_low",
            )
        key = f"unbond:{node}:{intent}" if intent else await _once(ledger, "unbond", node)
        action = RequestUnstake(node, amount)
        done = await _send(settings, options, ledger, action, key, int(amount))
        document["steps"] = [_step("unbond", "done", done)]
        return document


async def _withdraw(
    settings: Settings, options: dict[str, Any], to: AccountId | None
) -> dict[str, Any]:
    from deai.actions import WithdrawStake
    from deai.errors import Declined

    async with _open(settings, options) as (ledger, owner):
        node, record = await _registered(ledger, owner, options["index"])
        document = _document(node, owner, record)
        if not record.unbonding:
            document["steps"] = [_step("withdraw", "not_needed")]
            return document
        now = (await ledger.head()).time
        if now <= record.unbond_at:
            raise Declined(
                f"the stake is free in {record.unbond_at - now + 1} s",
                hint="run the same command then",
                code="still_unbonding",
            )
        action = WithdrawStake(node, to or owner)
        key = f"withdraw:{node}:{record.unbond_at}"
        done = await _send(settings, options, ledger, action, key, record.unbonding)
        document["steps"] = [_step("withdraw", "done", done)]
        return document


async def _status(
    settings: Settings, node: NodeId | None, options: dict[str, Any]
) -> dict[str, Any]:
    from deai.client.access import open_reader
    from deai.client.documents import rfc3339
    from deai.ids import node_of, owner_of
    from deai.keys import account_of

    if node is None:
        key = account_of(_owner_key(settings, options), chain=settings.chain)
        node = node_of(settings.chain, _holder(settings, options, key), options["index"])
    async with open_reader(settings.network, settings.chain) as ledger:
        record = await ledger.node(node)
        balances = await ledger.balances(owner_of(node))
    return {
        "node_id": node,
        "owner": owner_of(node),
        "chain": settings.chain,
        "registered": record is not None,
        "state": record.standing.label if record is not None else "none",
        "operator": record.operator if record is not None else None,
        "stake": str(record.stake) if record is not None else "0",
        "unbonding": str(record.unbonding) if record is not None else "0",
        "unbond_at": rfc3339(record.unbond_at) if record is not None and record.unbonding else None,
        "reputation": record.reputation / 1000 if record is not None else None,
        "checked_tasks": record.checked_tasks if record is not None else 0,
        "wallet": str(balances.tokens),
        "vault": str(balances.vault),
        "gas": str(balances.gas),
    }


async def _registered(ledger: Ledger, owner: AccountId, index: int) -> tuple[Any, NodeRecord]:
    from deai.errors import NotSetUp
    from deai.ids import node_of

    node = node_of(ledger.info.name, owner, index)
    record = await ledger.node(node)
    if record is None:
        raise NotSetUp(f"{node} is not registered", hint="deai stake register")
    return node, record


async def _lacking(
    ledger: Ledger,
    account: Any,  # noqa: ANN401
    tokens: int,
    needed_gas: int,
) -> dict[str, str] | None:
    has = await ledger.balances(account)
    gas, missing = max(0, needed_gas - has.gas), max(0, tokens - has.tokens)
    if not gas and not missing:
        return None
    return {"address": account, "gas": str(gas), "tokens": str(missing)}


async def _once(ledger: Ledger, name: str, node: Any) -> str:  # noqa: ANN401
    """A key for something that may be meant twice: one per block in which it was asked for."""
    return f"{name}:{node}:{(await ledger.head()).hash}"


async def _send(
    settings: Settings,
    options: dict[str, Any],
    ledger: Ledger,
    action: Action,
    key: str,
    moved: int,
) -> str:
    """Simulate, ask, send, wait for finality; the transaction's hash."""
    from deai.cli.render import say, tokens

    gas = await ledger.simulate(action)
    name = type(action).__name__
    console = settings.err
    say(console, f"○ {name}   moves {tokens(moved)}   gas {gas:,}   would succeed")
    if not options["yes"] and not settings.json and console.is_terminal:
        click.confirm("Send it?", abort=True, err=True)
    done = await ledger.submit(action, key=key)
    say(console, f"● {name}   tx {done.hash}   block {done.block:,}   final")
    return done.hash


@asynccontextmanager
async def _open(
    settings: Settings, options: dict[str, Any]
) -> AsyncIterator[tuple[Ledger, AccountId]]:
    """The chain as the owner sees it, and the owner's account."""
    from deai.client.access import open_account
    from deai.keys import load_signer

    path = _owner_key(settings, options)
    signer = load_signer(path, options["passphrase_file"], chain=settings.chain)
    owner = _holder(settings, options, signer.account)
    async with open_account(
        settings.network, settings.chain, signer, settings.home, owner
    ) as ledger:
        yield ledger, owner


def _holder(settings: Settings, options: dict[str, Any], key: AccountId) -> AccountId:
    from deai.keys import holder_of

    name = options["owner_account"]
    return holder_of(key, None if name is None else _account(settings, "--owner-account", name))


def _account(settings: Settings, option: str, text: str) -> AccountId:
    from deai.ids import account_on

    parse = partial(account_on, settings.chain)
    return typed(option, parse, text, code="bad_account", hint=ACCOUNTS_HINT[settings.chain])


def _owner_key(settings: Settings, options: dict[str, Any]) -> Path:
    from deai.keys import key_file

    given: Path | None = options["owner_key"]
    return given or key_file(settings.home, "owner", settings.chain)


def _operator_key(settings: Settings, options: dict[str, Any]) -> tuple[Path, Path | None]:
    from deai.keys import key_file

    return options["operator_key"] or key_file(settings.home, "operator", settings.chain), None


def _document(node: str, owner: str, record: NodeRecord) -> dict[str, Any]:
    return {
        "node_id": node,
        "owner": owner,
        "operator": record.operator,
        "needs": None,
        "steps": [],
    }


def _step(name: str, state: str, transaction: str | None = None) -> dict[str, Any]:
    return {"name": name, "state": state, "transaction": transaction}


def _finish(settings: Settings, document: dict[str, Any]) -> None:
    from deai.chain.gas import GAS
    from deai.cli.render import marked, pairs, say, tokens

    def render(console: Console) -> None:
        say(console, f"Node {document['node_id']}")
        for step in document["steps"]:
            transaction = f"   tx {step['transaction']}" if step["transaction"] else ""
            say(console, f"{marked(step['state'])}   {step['name']}{transaction}")
        if document["needs"] is not None:
            needs = document["needs"]
            say(console, "Before this can go on:")
            pairs(
                console,
                [
                    ("Send to", needs["address"]),
                    ("Tokens", tokens(needs["tokens"]) if int(needs["tokens"]) else ""),
                    ("For gas", GAS[settings.chain].coins(int(needs["gas"]))
                     if int(needs["gas"]) else ""),
                ],
            )  # fmt: skip
            say(console, "Then run the same command again.")

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
