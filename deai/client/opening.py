"""Opening a client over its ports."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from deai.chain.ledger import Ledger
from deai.client.alone import one_error
from deai.client.client import Client
from deai.client.directory import Directory, RegistryEvents, Source
from deai.client.journal import Journal, Offload, in_a_thread
from deai.client.lane.patience import Patience
from deai.client.purse import Purse
from deai.client.sessions import Sessions
from deai.client.tools import Tools, no_crash
from deai.net import Net
from deai.ports import Catalogue
from deai.signing import Signer


@asynccontextmanager
async def open_client(
    *,
    ledger: Ledger,
    net: Net,
    catalogue: Catalogue,
    home: Path,
    sources: Sequence[Source] = (),
    fallback: Sequence[Source] | None = None,
    journal: Journal | None = None,
    passphrase: Path | None = None,
    signer: Signer | None = None,
    patience: Patience | None = None,
    offload: Offload = in_a_thread,
    random: Callable[[int], bytes] = secrets.token_bytes,
    crash: Callable[[str], None] = no_crash,
) -> AsyncIterator[Client]:
    """A client over the given ports, until the context ends; posted tasks go on without it.

    `sources` say which nodes there are, `fallback` is asked when they do not know enough
    (default: the registry's events). Files go to `home`: `client.db`, `results/`, `receipts/`, and
    of the fast lane `lane.db`; session keys of channels are read from there with `passphrase`.
    Orders (`orders.db`) need the account's key itself, `signer`.
    """
    own = journal or Journal(home / "client.db", offload)
    try:
        with one_error():
            async with trio.open_nursery() as nursery:
                sessions = Sessions(net, nursery, ledger.info.name)
                directory = Directory(
                    ledger,
                    sessions,
                    sources,
                    (RegistryEvents(ledger),) if fallback is None else fallback,
                )
                tools = Tools(
                    ledger=ledger,
                    net=net,
                    sessions=sessions,
                    directory=directory,
                    purse=Purse(ledger),
                    journal=own,
                    catalogue=catalogue,
                    home=home,
                    passphrase=passphrase or home / "keys" / "passphrase",
                    results=home / "results",
                    receipts=home / "receipts",
                    random=random,
                    wall_clock=time.time,
                    signer=signer,
                    offload=offload,
                    crash=crash,
                )
                client = Client(tools, nursery, patience or Patience())
                try:
                    yield client
                finally:
                    nursery.cancel_scope.cancel()
                    client.orders.close()
    finally:
        if journal is None:
            own.close()
