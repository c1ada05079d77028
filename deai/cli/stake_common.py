"""What the stake commands share: options, the owner's view of the chain, the result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli.base import ExitWith, Settings, emit, typed
from deai.cli.sending import NEEDS_FUNDS, show_needs

if TYPE_CHECKING:
    from rich.console import Console

    from deai.chain.ledger import Ledger, NodeRecord
    from deai.ids import AccountId, NodeId
    from deai.pools import PoolRecord

ACCOUNTS_HINT: Final = {
    "sei": "an account is 0x and 40 hex digits",
    "near": "an account is a name, such as alice.near, or 64 hex digits",
}
CONSENT_LIFE: Final = 3600
"""Seconds for which the operator's consent counts."""
MAX_INDEX: Final = (1 << 63) - 1
"""What a file of ours can hold; the contracts take more."""
INDEX = click.option(
    "--index", type=click.IntRange(0, MAX_INDEX), default=0, help="Which of your nodes."
)
OWNER = click.option(
    "--owner-key", type=click.Path(path_type=Path), help="Default: HOME/keys/owner.json."
)
ACCOUNT = click.option(
    "--owner-account", metavar="NAME", help="NEAR: default the owner key's implicit account."
)
PASSPHRASE = click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="Of the owner key."
)


@dataclass(frozen=True)
class Staked:
    """The registered node of an owner key, as the chain has it now."""

    settings: Settings
    ledger: Ledger
    signer: AccountId
    """The account of the key: the node's owner, or the manager of the pool that is."""
    node: NodeId
    record: NodeRecord
    pool: PoolRecord | None
    """Where the node takes delegations."""

    def document(self) -> dict[str, Any]:
        """The part of the result that all commands about one node have."""
        from deai.ids import owner_of

        return {
            "node_id": self.node,
            "owner": owner_of(self.node),
            "operator": self.record.operator,
            "needs": None,
            "steps": [],
        }


@asynccontextmanager
async def open_staked(settings: Settings, options: dict[str, Any]) -> AsyncIterator[Staked]:
    """The owner's node, open for its owner; raise `NotSetUp` if it is not registered."""
    from deai.errors import NotSetUp

    async with open_owner(settings, options) as (ledger, signer):
        node, pool = await node_of_key(settings, ledger, signer, options["index"])
        record = await ledger.node(node)
        if record is None:
            raise NotSetUp(f"{node} is not registered", hint="deai stake register")
        yield Staked(settings, ledger, signer, node, record, pool)


async def node_of_key(
    settings: Settings, ledger: Ledger, signer: AccountId, index: int
) -> tuple[NodeId, PoolRecord | None]:
    """Node `index` of an account, or of its pools: the home that knows only one of them decides.

    Where it does not, a pool is meant only if the account registered no node `index` itself.
    """
    from deai.chain.ledger import POOLS_CONTRACT
    from deai.ids import node_of
    from deai.pools import pool_node

    node = node_of(settings.chain, signer, index)
    if POOLS_CONTRACT not in ledger.info.contracts:
        return node, None
    lent = pool_node(ledger.info.delegations, signer, index)
    if not is_at_home(settings.home, lent) and await ledger.node(node) is not None:
        return node, None
    pool = await ledger.pool(lent)
    return (node, None) if pool is None else (lent, pool)


def is_at_home(home: Path, node: NodeId) -> bool:
    """Whether `deai node init` set this very node up in a home."""
    try:
        return any(f'"{node}"' in path.read_text() for path in home.glob("registration*.json"))
    except OSError:
        return False


@asynccontextmanager
async def open_owner(
    settings: Settings, options: dict[str, Any]
) -> AsyncIterator[tuple[Ledger, AccountId]]:
    """The chain as the owner sees it, and the owner's account."""
    from deai.client.access import open_account
    from deai.keys import load_signer

    path = owner_key(settings, options)
    signer = load_signer(path, options["passphrase_file"], chain=settings.chain)
    owner = holder(settings, options, signer.account)
    async with open_account(
        settings.network, settings.chain, signer, settings.home, owner
    ) as ledger:
        yield ledger, owner


def holder(settings: Settings, options: dict[str, Any], key: AccountId) -> AccountId:
    """The account that an owner key speaks for: its own, or `--owner-account`."""
    from deai.keys import holder_of

    name = options["owner_account"]
    return holder_of(key, None if name is None else account(settings, "--owner-account", name))


def account(settings: Settings, option: str, text: str) -> AccountId:
    """Read an account of the command's chain; raise `UsageError` naming the option."""
    from deai.ids import account_on

    parse = partial(account_on, settings.chain)
    return typed(option, parse, text, code="bad_account", hint=ACCOUNTS_HINT[settings.chain])


def owner_key(settings: Settings, options: dict[str, Any]) -> Path:
    """Where the owner key lies: `--owner-key`, or its place in the home."""
    from deai.keys import key_file

    given: Path | None = options["owner_key"]
    return given or key_file(settings.home, "owner", settings.chain)


def operator_key(settings: Settings, options: dict[str, Any]) -> Path:
    """Where the operator key lies: `--operator-key`, or its place in the home."""
    from deai.keys import key_file

    given: Path | None = options["operator_key"]
    return given or key_file(settings.home, "operator", settings.chain)


def step(name: str, state: str, transaction: str | None = None) -> dict[str, Any]:
    """One line of the result: a name, `done`, `done_before`, `waiting` or `not_needed`."""
    return {"name": name, "state": state, "transaction": transaction}


def finish(settings: Settings, document: dict[str, Any]) -> None:
    """Print the result; leave with `NEEDS_FUNDS` if it waits for money."""
    from deai.cli.render import marked, say

    def render(console: Console) -> None:
        say(console, f"Node {document['node_id']}")
        for step in document["steps"]:
            transaction = f"   tx {step['transaction']}" if step["transaction"] else ""
            say(console, f"{marked(step['state'])}   {step['name']}{transaction}")
        show_needs(settings, console, document["needs"])

    emit(settings, document, render)
    if document["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
