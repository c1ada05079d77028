"""The one place that knows which adapter serves which chain; each is imported when it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from deai.chain.ledger import ChainInfo, Ledger
from deai.errors import ConfigError, NotSetUp
from deai.ids import NEAR, SEI, AccountId
from deai.keys import holder_of
from deai.network import ChainEntry
from deai.signing import Signer


@asynccontextmanager
async def open_ledger(
    name: str,
    entry: ChainEntry,
    signer: Signer | None = None,
    outbox: Path | None = None,
    *,
    account: AccountId | None = None,
) -> AsyncIterator[Ledger]:
    """A deployment on the chain `name`, as `signer` or as a reader.

    `account` is the NEAR account for which the key signs (default: its implicit one); to a reader
    it says whose keys' allowances may be asked for; on Sei a key has one account, and it says
    nothing. `outbox` keeps what was sent over restarts.
    Entering raises `LedgerUnreachable`, `ConfigError` (another chain, an outbox in use, a key of
    the other chain) and `NotSetUp` when what the chain needs is not installed.
    """
    _check_name(name)
    if signer is not None and signer.account.startswith("ed25519:") is not (name == NEAR):
        raise ConfigError(
            f"the key {signer.account} is not one for {name}",
            hint=f"make one with `deai keys new --chain {name}`, or name another file",
            code="wrong_key_kind",
        )
    if name == SEI:
        from deai.chain.sei.ledger import open_sei_ledger

        async with open_sei_ledger(entry, signer, outbox) as sei:
            yield sei
        return
    with _installed():
        from deai.chain.near.keys import NearKey
        from deai.chain.near.ledger import open_near_ledger
    key = NearKey(holder_of(signer.account, account), signer) if signer is not None else None
    async with open_near_ledger(entry, key, outbox, account=account) as near:
        yield near


def info_of(name: str, entry: ChainEntry) -> ChainInfo:
    """What is known of a deployment before its chain answers; raise `ConfigError`, `NotSetUp`."""
    _check_name(name)
    if name == SEI:
        from deai.chain.sei import ledger as sei

        return sei.chain_info(entry)
    with _installed():
        from deai.chain.near import ledger as near
    return near.chain_info(entry)


def _check_name(name: str) -> None:
    if name not in (SEI, NEAR):
        raise ConfigError(
            f"unknown chain: {name[:40]!r}", hint=f"one of {SEI}, {NEAR}", code="unknown_chain"
        )


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise NotSetUp(
            f"NEAR needs the package {error.name}, which is not installed",
            hint="install deai with its requirements again",
            code="missing_package",
        ) from error
