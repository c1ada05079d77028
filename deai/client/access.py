"""A client on a real network: chain, peers, workloads and sources from a network file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from deai.chain.ledger import Ledger
from deai.chain.opening import open_ledger
from deai.client.account import TurnTaking
from deai.client.adapters import load_catalogue, open_net
from deai.client.alone import one_error
from deai.client.client import Client
from deai.client.coordinator import Coordinator, CoordinatorNodes
from deai.client.directory import PeerList, RegistryEvents, Source
from deai.client.local import open_local
from deai.client.opening import open_client
from deai.errors import ConfigError
from deai.ids import SEI, AccountId, ChainName, parse_peer
from deai.keys import create_peer_key, holder_of, load_signer
from deai.net import PeerAddress
from deai.network import ChainEntry, Network, load_network
from deai.signing import Signer


@asynccontextmanager
async def connect(
    network: Network | Path,
    *,
    key: Signer | Path,
    home: Path,
    chain: str = SEI,
    passphrase_file: Path | None = None,
    account: AccountId | None = None,
    coordinators: Sequence[str] = (),
    mdns: bool = False,
) -> AsyncIterator[Client]:
    """A client that pays with `key` and keeps its journal, results and receipts in `home`.

    `account` is the NEAR account for which the key signs; default its implicit one.
    `coordinators` are URLs to ask for nodes (default: those of the network file); none needs to
    answer. With `mdns`, nodes that announce themselves on the local network are looked for too.
    Raises `ConfigError`, `NotSetUp` or `LedgerUnreachable`.
    """
    if isinstance(network, Path):
        network = load_network(network)
    signer = load_signer(key, passphrase_file, chain=chain) if isinstance(key, Path) else key
    catalogue = load_catalogue()
    identity = home / "keys" / "client-peer.key"
    create_peer_key(identity)
    with one_error():
        async with AsyncExitStack() as stack:
            ledger = await stack.enter_async_context(
                open_account(network, chain, signer, home, account)
            )
            net = await stack.enter_async_context(open_net(identity))
            sources = sources_of(network, chain, coordinators)
            if mdns:
                sources += (await stack.enter_async_context(open_local(network.name)),)
            client = await stack.enter_async_context(
                open_client(
                    ledger=ledger,
                    net=net,
                    catalogue=catalogue,
                    home=home,
                    passphrase=passphrase_file,
                    signer=signer,
                    sources=sources,
                    fallback=fallback_of(network, ledger),
                )
            )
            yield client


@asynccontextmanager
async def open_account(
    network: Network, chain: str, signer: Signer, home: Path, account: AccountId | None = None
) -> AsyncIterator[Ledger]:
    """The chain as `signer` sees it; other commands may use the same account meanwhile.

    `account` is the NEAR account for which the key signs; default its implicit one.
    """
    entry = entry_of(network, chain)
    holder = holder_of(signer.account, account)
    outbox = home / f"outbox-{chain}-{signer.account}.db"
    with one_error():
        async with open_reader(network, chain, holder) as reader, trio.open_nursery() as nursery:
            yield TurnTaking(
                reader,
                holder,
                lambda: open_ledger(chain, entry, signer, outbox, account=holder),
                nursery,
            )
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_reader(
    network: Network, chain: str, account: AccountId | None = None
) -> AsyncIterator[Ledger]:
    """The chain without a key; `account` is whose keys' allowances may be asked for on NEAR."""
    async with open_ledger(chain, entry_of(network, chain), account=account) as ledger:
        yield ledger


def entry_of(network: Network, chain: str) -> ChainEntry:
    """A chain of the network; raise `ConfigError` if it is not one of it."""
    entry = network.chains.get(ChainName(chain))
    if entry is None:
        raise ConfigError(
            f"the network {network.name!r} has no chain {chain!r}",
            hint="one of " + ", ".join(network.chains),
            code="unknown_chain",
        )
    return entry


def sources_of(
    network: Network, chain: str, coordinators: Sequence[str] = ()
) -> tuple[Source, ...]:
    """Where to look for nodes first."""
    urls = tuple(coordinators) or network.coordinators
    return (CoordinatorNodes(Coordinator(urls), chain),) if urls else ()


def fallback_of(network: Network, ledger: Ledger) -> tuple[Source, ...]:
    """Where to look when the coordinators do not know enough nodes, or are down."""
    peers = [
        PeerAddress(parse_peer(peer.peer_id), peer.addresses)
        for peer in network.bootstrap
        if peer.role != "hub"
    ]
    return (*((PeerList(peers),) if peers else ()), RegistryEvents(ledger))
