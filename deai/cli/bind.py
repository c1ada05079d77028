"""`deai stake bind`: both owners sign that two registrations are one node, each in its own run.

Nothing is sent to a chain. A run reads what stands there, signs the half that the given key can
sign, and writes the file that the other owner needs next, or that a node publishes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli.base import NODES_HINT, Settings, command, emit, run_trio, typed
from deai.cli.sending import YES
from deai.cli.stake_common import (
    ACCOUNT,
    INDEX,
    OWNER,
    PASSPHRASE,
    holder,
    node_of_key,
    owner_key,
)
from deai.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from deai.binding import Draft, Side
    from deai.chain.ledger import Ledger
    from deai.ids import ChainName, NodeId

FILE: Final = "binding.json"


@command("bind")
@click.option("--twin", metavar="ID", help="The node on the other chain.")
@click.option(
    "--binding", "file", type=click.Path(path_type=Path), help="Default: HOME/binding.json."
)
@click.option("--renew", is_flag=True, help="Begin anew: both sign again.")
@INDEX
@OWNER
@ACCOUNT
@PASSPHRASE
@YES
def bind(settings: Settings, **options: Any) -> None:  # noqa: ANN401
    r"""Sign that a node on Sei and one on NEAR are the same node; run it once for each owner.

    A slash on either chain then counts on both, and a node has its twin for good. The file goes
    from the first owner to the second, and whole to the node, which publishes it.

    \b
    Examples:
      deai stake bind --chain sei --twin alice.near#0
      deai stake bind --chain near --owner-account alice.near --owner-key owner-near.json
    """
    from deai.ids import node_on

    twin = options.pop("twin")
    if twin is not None:
        other = _other(settings.chain)
        twin = typed(
            "--twin", lambda text: node_on(other, text), twin, code="bad_node_id", hint=NODES_HINT
        )
    document = run_trio(_bind, settings, options, twin)

    def render(console: Console) -> None:
        from deai.cli.render import pairs, say

        say(console, "● complete" if document["complete"] else "○ one owner has yet to sign")
        pairs(console, [("File", document["file"])])
        if document["complete"]:
            say(console, "The node whose home it lies in publishes it; or copy it there.")
        else:
            left = next(name for name, done in document["signed"].items() if not done)
            say(console, f"Next, with the file: deai stake bind --chain {left}")

    emit(settings, document, render)


def binding_document(path: Path, draft: Draft) -> dict[str, Any]:
    """A binding file as the commands' documents show it."""
    body = draft.binding
    signed = {"sei": draft.sei is not None, "near": draft.near is not None}
    return {
        "node_ids": {"sei": body.sei.node, "near": body.near.node},
        "owners": {"sei": body.sei.owner, "near": body.near.owner},
        "nonce": body.nonce,
        "signed": signed,
        "complete": all(signed.values()),
        "file": str(path),
    }


def binding_of(settings: Settings, node: str) -> dict[str, Any] | None:
    """What the home's binding file says of a node; None if it says nothing that can be read."""
    from deai.binding import read_binding
    from deai.cli.render import say
    from deai.errors import ConfigError, NotSetUp

    path = settings.home / FILE
    try:
        draft = read_binding(path)
    except NotSetUp:
        return None
    except ConfigError as error:
        say(settings.err, f"{error}")
        return None
    if node not in (draft.binding.sei.node, draft.binding.near.node):
        return None
    return binding_document(path, draft)


def _other(chain: str) -> str:
    from deai.ids import NEAR, SEI

    return SEI if chain == NEAR else NEAR


async def _bind(settings: Settings, options: dict[str, Any], twin: NodeId | None) -> dict[str, Any]:
    from deai.binding import read_binding, sign_half, write_binding
    from deai.client.access import open_reader
    from deai.errors import NotSetUp
    from deai.ids import node_of
    from deai.keys import load_signer

    path: Path = options["file"] or settings.home / FILE
    signer = load_signer(
        owner_key(settings, options), options["passphrase_file"], chain=settings.chain
    )
    owner = holder(settings, options, signer.account)
    node = node_of(settings.chain, owner, options["index"])
    try:
        found: Draft | None = read_binding(path)
    except NotSetUp:
        found = None
    if twin is None:
        twin = _twin_of(found, node) or _twin_here(settings, options["index"])
    if found is not None and _twin_of(found, node) != twin:
        raise UsageError(
            f"{path} binds {found.binding.sei.node} and {found.binding.near.node},"
            f" not {node} and {twin}",
            hint="name another file with --binding",
            code="other_binding",
        )
    async with (
        open_reader(settings.network, settings.chain) as here,
        open_reader(settings.network, _other(settings.chain)) as there,
    ):
        meant, pool = await node_of_key(settings, here, owner, options["index"])
        if pool is not None:
            raise UsageError(
                f"{meant} takes delegations: what owns it is a contract, which signs nothing",
                hint="only a node that its owner's own key registered can be bound",
                code="takes_delegations",
            )
        mine = await _side(here, node)
        if not await here.speaks_for(owner, signer.account):
            raise ConfigError(
                f"{signer.account} is no full-access key of {owner}",
                hint="name the owner's own key with --owner-key",
                code="wrong_key",
            )
        sides = {side.chain: side for side in (mine, await _side(there, twin))}
    await _check_elsewhere(settings, node, twin)
    draft = _draft(path, found, sides, renew=options["renew"])
    if draft.half(settings.chain) is None:
        _ask(settings, options, path, draft)
        draft = draft.with_half(sign_half(draft.binding, signer))
        write_binding(path, draft)
    return binding_document(path, draft)


def _twin_of(found: Draft | None, node: str) -> NodeId | None:
    """What a file says, if it is about this node."""
    if found is None or node not in (found.binding.sei.node, found.binding.near.node):
        return None
    return found.binding.twin(node).node


def _twin_here(settings: Settings, index: int) -> NodeId:
    """The node of the other chain's owner key, if that lies in this home."""
    from deai.errors import NotSetUp
    from deai.ids import node_of
    from deai.keys import account_of, holder_of, key_file

    other = _other(settings.chain)
    try:
        key = account_of(key_file(settings.home, "owner", other), chain=other)
    except NotSetUp as error:
        raise UsageError(
            f"which node on {other} is it?",
            hint="name it with --twin, or the file that its owner signed with --binding",
            code="no_twin",
        ) from error
    return node_of(other, holder_of(key), index)


async def _side(ledger: Ledger, node: NodeId) -> Side:
    from deai.binding import Side
    from deai.errors import NotSetUp
    from deai.ids import owner_of

    info, record = ledger.info, await ledger.node(node)
    if record is None:
        raise NotSetUp(
            f"{node} is not registered on {info.name}",
            hint=f"deai stake register --chain {info.name}",
            code="unregistered_node",
        )
    return Side(
        chain=info.name, chain_id=info.chain_id, registry=info.registry.contract, node=node,
        owner=owner_of(node), operator=record.operator,
    )  # fmt: skip


async def _check_elsewhere(settings: Settings, node: NodeId, twin: NodeId) -> None:
    """Raise `Declined` if a coordinator knows one of the two with another twin.

    No hub would take such a binding. Advice only: none needs to answer.
    """
    from urllib.parse import quote

    from deai.client.coordinator import Coordinator
    from deai.errors import DeaiError, Declined

    if not settings.network.coordinators:
        return
    coordinator = Coordinator(settings.network.coordinators)
    for one, other in ((node, twin), (twin, node)):
        try:
            document = await coordinator.get(f"/nodes/{quote(one)}/status")
            known = document["bound"]["node_id"]
        except (DeaiError, KeyError, TypeError):
            continue
        if known != other:
            raise Declined(
                f"{one} is bound to {str(known)[:80]} already, as a coordinator says",
                hint="a node has one twin for good",
                code="bound_elsewhere",
            )


def _draft(path: Path, found: Draft | None, sides: dict[ChainName, Side], *, renew: bool) -> Draft:
    """What the file holds if the chains still say so, or a new one with a higher nonce."""
    from deai.binding import Binding, Draft
    from deai.ids import NEAR, SEI

    if found is None or renew:
        now = time.time_ns()
        least = 0 if found is None else found.binding.nonce + 1
        body = Binding(
            sei=sides[SEI], near=sides[NEAR], nonce=max(now, least), issued_at=now // 10**9
        )
        return Draft(binding=body)
    for chain, side in sides.items():
        was = found.binding.side(chain)
        changed = [
            name for name in side.__struct_fields__ if getattr(was, name) != getattr(side, name)
        ]
        if changed:
            name = changed[0]
            raise ConfigError(
                f"{path}: its {name} on {chain} is {getattr(was, name)},"
                f" the chain says {getattr(side, name)}",
                hint="begin anew with --renew; both owners sign again",
                code="binding_outdated",
            )
    return found


def _ask(settings: Settings, options: dict[str, Any], path: Path, draft: Draft) -> None:
    """Show what will be signed, and ask."""
    from deai.cli.render import pairs, say

    console, body = settings.err, draft.binding
    say(console, "○ One node for good, on two chains: a slash on either counts on both")
    for side in (body.sei, body.near):
        pairs(
            console,
            [
                (f"Node on {side.chain}", side.node),
                ("Owner", f"{side.owner}{' (signs now)' if side.chain == settings.chain else ''}"),
                ("Operator", side.operator),
                ("Registry", f"{side.registry} on {side.chain_id}"),
            ],
        )
    pairs(console, [("File", str(path))])
    if not options["yes"] and not settings.json and console.is_terminal:
        click.confirm("Sign it?", abort=True, err=True)
