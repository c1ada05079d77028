"""`deai keys`: make, list, show, import and export keys. No command ever prints a secret."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deai.cli.base import Settings, emit, group

if TYPE_CHECKING:
    from rich.console import Console

    from deai.ids import AccountId, PeerId

KINDS: Final = ("owner", "operator", "peer", "client")
MOST_LISTED: Final = 60
"""Letters of an account that leave room for the rest; `show` has all of them."""
MEANING: Final = {
    "owner": "controls stake and earnings; keep it off the node",
    "operator": "signs for a node: accepts, results, heartbeats",
    "peer": "who the node is among its peers",
    "client": "pays for tasks",
}
KIND = click.option("--kind", type=click.Choice(KINDS), required=True, help="Which key.")


@group("keys")
def keys() -> None:
    r"""Create, list and move keys.

    Keys are keystore files (version 3), readable by their owner only; those for Sei open in any
    wallet. With --chain near they are Ed25519 keys, in files of their own (client-near.json).

    \b
    Examples:
      deai keys new --kind client
      deai keys new --kind client --chain near
      deai keys list
    """


@keys.command("new")
@KIND
def new(settings: Settings, kind: str) -> None:
    r"""Make a key; an existing one is never overwritten.

    \b
    Example:
      deai keys new --kind client
    """
    from deai.errors import ConfigError
    from deai.keys import create_key, create_peer_key

    path = _path(settings, kind)
    if path.exists():
        raise ConfigError(
            f"{path} exists", hint="a key is never overwritten; choose another --home"
        )
    if kind == "peer":
        create_peer_key(path)
    else:
        create_key(path, _passphrase(settings, kind), chain=settings.chain)
    _emit_one(settings, kind)


@keys.command("list")
def list_(settings: Settings) -> None:
    r"""List the keys of this home.

    \b
    Example:
      deai keys list
    """
    from deai.cli.render import table

    items = [_describe(settings, kind) for kind in KINDS if _path(settings, kind).exists()]

    def render(console: Console) -> None:
        table(
            console,
            ("Kind", "Account or peer", "What it does"),
            [
                (
                    one["kind"],
                    _listed(one),
                    MEANING[one["kind"]],
                )
                for one in items
            ],
            wrap=(2,),
        )

    emit(settings, {"items": items, "next_cursor": None}, render)


@keys.command("show")
@KIND
def show(settings: Settings, kind: str) -> None:
    r"""Show the account (or peer id) of a key, and where it lies.

    \b
    Example:
      deai keys show --kind client
    """
    _emit_one(settings, kind)


@keys.command("import")
@KIND
@click.option(
    "--from", "source", metavar="FILE|-", required=True,
    help="A keystore, 64 hex digits or NEAR's ed25519:…; - reads standard input.",
)  # fmt: skip
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="The keystore's own passphrase."
)
def import_(settings: Settings, kind: str, source: str, passphrase_file: Path | None) -> None:
    r"""Bring a key from elsewhere into this home, sealed with this home's passphrase.

    \b
    Examples:
      deai keys import --kind client --from wallet.json --passphrase-file wallet.pass
      pass show wallet | deai keys import --kind client --from -
    """
    from deai.errors import UsageError
    from deai.keys import create_key, export_key, load_signer

    target = _path(settings, kind)
    if kind == "peer":
        raise UsageError("a peer key is made, not imported", hint="deai keys new --kind peer")
    if source != "-" and not Path(source).is_file():
        raise UsageError(
            f"--from: there is no file {source!r}",
            hint="name a keystore, or - for standard input",
            code="unreadable_input",
        )
    if source == "-":
        create_key(
            target, _passphrase(settings, kind),
            secret=_secret(sys.stdin.read(1024), settings.chain), chain=settings.chain,
        )  # fmt: skip
    else:
        load_signer(Path(source), passphrase_file, chain=settings.chain)
        export_key(Path(source), passphrase_file, target, _passphrase(settings, kind))
    _emit_one(settings, kind)


@keys.command("export")
@KIND
@click.option(
    "--to", "target", type=click.Path(path_type=Path), required=True, help="A new keystore file."
)
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), required=True,
    help="Passphrase of the copy; made if the file is missing.",
)  # fmt: skip
def export(settings: Settings, kind: str, target: Path, passphrase_file: Path) -> None:
    r"""Write a copy of a key under another passphrase.

    A node's operator key belongs to its journal: a copy that runs elsewhere can sign two
    results for one task and lose stake. Rotate the key instead of copying it.

    \b
    Example:
      deai keys export --kind owner --to /media/usb/owner.json --passphrase-file usb.pass
    """
    from deai.errors import UsageError
    from deai.keys import export_key

    if kind == "peer":
        raise UsageError(
            "a peer key is not exported", hint="make one there: deai keys new --kind peer"
        )
    if target.is_dir():
        raise UsageError(
            f"--to: {str(target)!r} is a folder", hint="name a new file", code="unwritable_output"
        )
    export_key(_path(settings, kind), _passphrase(settings, kind), target, passphrase_file)
    document = {**_describe(settings, kind), "path": str(target)}
    emit(settings, document, lambda console: _render(console, document))


def _secret(text: str, chain: str) -> bytes:
    from deai.errors import ConfigError
    from deai.ids import SEI
    from deai.keys import read_secret
    from deai.signing import LocalSigner

    try:
        found = read_secret(Path("standard input"), text)
        if found is None:
            raise ConfigError("standard input holds no key: 64 hex digits or ed25519:… expected")
        secret, kind = found
        # Zero and numbers beyond the curve's order are no keys either.
        if kind == SEI:
            LocalSigner(secret)
    except ValueError as error:
        raise ConfigError("standard input holds no key") from error
    if kind != chain:
        raise ConfigError(
            f"standard input holds a key for {kind}, not for {chain}", code="wrong_key_kind"
        )
    return secret


def _path(settings: Settings, kind: str) -> Path:
    from deai.keys import key_file

    if kind == "client":
        return settings.client_key
    if kind == "peer":
        return settings.home / "keys" / "peer.key"
    return key_file(settings.home, kind, settings.chain)


def _passphrase(settings: Settings, kind: str) -> Path:
    return settings.client_passphrase if kind == "client" else settings.home / "keys" / "passphrase"


def _describe(settings: Settings, kind: str) -> dict[str, Any]:
    from deai.errors import NotSetUp
    from deai.ids import NEAR
    from deai.keys import account_of, holder_of

    path = _path(settings, kind)
    on = f" --chain {NEAR}" if settings.chain == NEAR else ""
    if not path.exists():
        raise NotSetUp(f"there is no {kind} key", hint=f"deai keys new --kind {kind}{on}")
    if kind == "peer":
        return {"kind": kind, "account": None, "peer_id": peer_id_of(path), "path": str(path)}
    key = account_of(path, chain=settings.chain)
    document = {"kind": kind, "account": key, "peer_id": None, "path": str(path)}
    if settings.chain == NEAR:
        # An operator's key is one of its owner's account, which this file does not name.
        account = None if kind == "operator" else holder_of(key, _named(settings, kind))
        document |= {"account": account, "public_key": key}
    return document


def _named(settings: Settings, kind: str) -> AccountId | None:
    return settings.client_account if kind == "client" else None


def peer_id_of(path: Path) -> PeerId:
    """The libp2p peer id of an Ed25519 key file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from deai.errors import ConfigError, NotSetUp
    from deai.ids import peer_of

    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotSetUp(f"no key at {path}", hint="deai keys new --kind peer") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) != 32:
        raise ConfigError(f"{path}: an identity has 32 bytes")
    public = Ed25519PrivateKey.from_private_bytes(data).public_key().public_bytes_raw()
    return peer_of(public)


def _emit_one(settings: Settings, kind: str) -> None:
    document = _describe(settings, kind)
    emit(settings, document, lambda console: _render(console, document))


def _listed(one: dict[str, Any]) -> str:
    from deai.cli.render import short

    name: str = one["account"] or one["peer_id"] or one["public_key"]
    return short(name) if len(name) > MOST_LISTED else name


def _render(console: Console, document: dict[str, Any]) -> None:
    from deai.cli.render import pairs

    pairs(
        console,
        [
            ("Kind", f"{document['kind']}: {MEANING[document['kind']]}"),
            ("Account", document["account"] or ""),
            ("Public key", document.get("public_key", "")),
            ("Peer id", document["peer_id"] or ""),
            ("File", document["path"]),
        ],
    )
