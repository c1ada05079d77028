"""Peers on the local network, found by multicast DNS (zeroconf).

What is heard is a hint from anybody on the network: bounded, limited to addresses of that
network, and proven only by dialling.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Final

import ifaddr
import trio
from zeroconf import (
    Error,
    NonUniqueNameException,
    ServiceBrowser,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)

from deai.errors import ConfigError, MalformedMessage
from deai.ids import parse_peer
from deai.net import PeerAddress
from p2p.discovery import MAX_ADDRESSES, PeerBook, PeerRecord

SERVICE: Final = "_deai._tcp.local."
LIFE: Final = 300.0
"""Seconds that what was heard stays worth trying."""
_LOCAL: Final = re.compile(r"/ip[46]/([0-9a-fA-F.:]{2,45})/tcp/\d{1,5}")
MAX_ANNOUNCED: Final = 4
"""Addresses in one announcement, whose text may have 255 bytes."""
MAX_HEARD: Final = 1024
_WILDCARDS: Final = (
    ("ip4", "/ip4/127.0.0.1/", "/ip4/0.0.0.0/"),
    ("ip6", "/ip6/::1/", "/ip6/::/"),
)
_LOOKUP_MS: Final = 1000


class LocalPeers:
    """Who was heard on the local network. Made by `open_mdns`."""

    def __init__(self) -> None:
        self._book = PeerBook(max_peers=MAX_HEARD)

    def __call__(self) -> tuple[PeerAddress, ...]:
        """Everybody heard in the last `LIFE` seconds, the newest first; nobody was dialled."""
        return tuple(record.address for record in self._book.records(trio.current_time()))

    def hear(self, peer: PeerAddress) -> None:
        """Take an announcement in; on trio's thread."""
        now = trio.current_time()
        self._book.add(PeerRecord(peer, now + LIFE), now)


@asynccontextmanager
async def open_mdns(
    network: str, *, interfaces: Sequence[str] = ()
) -> AsyncIterator[Callable[[], tuple[PeerAddress, ...]]]:
    """Listen, until the context ends, to who announces itself under the name of a network.

    Yields what tells who was heard so far. Nothing is announced. `interfaces` are the addresses
    to use (all by default). Raises `ConfigError` where multicast is not to be had. Entry point
    `mdns` of the group `deai.adapters`.
    """
    token = trio.lowlevel.current_trio_token()
    heard = LocalPeers()

    def hear(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        # On a thread of zeroconf's.
        if state_change is ServiceStateChange.Removed:
            return
        with suppress(trio.RunFinishedError, Error):  # either may be closing this very moment
            info = zeroconf.get_service_info(service_type, name, timeout=_LOOKUP_MS)
            peer = parse_announcement(info.properties, network) if info else None
            if peer is not None:
                token.run_sync_soon(heard.hear, peer)

    async with _opened(interfaces, lambda made: ServiceBrowser(made, SERVICE, handlers=[hear])):
        yield heard


@asynccontextmanager
async def announce_mdns(
    own: PeerAddress, network: str, *, interfaces: Sequence[str] = ()
) -> AsyncIterator[None]:
    """Announce `own` under the name of a network until the context ends.

    Of its addresses only those on loopback or private networks are announced. Raises
    `ConfigError` where multicast is not to be had, or where another process announces this peer.
    """
    announcement = _announcement(own, network)
    async with _opened(interfaces, lambda made: made.register_service(announcement)):
        yield


def spread(addresses: Sequence[str], listen: Sequence[str]) -> tuple[str, ...]:
    """Where others on the local network reach a net that listens on any address.

    For each of `addresses` on loopback whose net listens on the wildcard of its kind, the same
    port on every private address of this machine, before the address itself.
    """
    found: dict[str, None] = {}
    for address in addresses:
        for kind, loopback, wildcard in _WILDCARDS:
            if address.startswith(loopback) and any(one.startswith(wildcard) for one in listen):
                rest = address.removeprefix(loopback)
                others = (f"/{kind}/{ip}/{rest}" for ip in _own_ips(kind))
                found |= dict.fromkeys(one for one in others if is_local(one))
        found[address] = None
    return tuple(found)


@asynccontextmanager
async def _opened(
    interfaces: Sequence[str], use: Callable[[Zeroconf], object]
) -> AsyncIterator[None]:
    def start() -> Zeroconf:
        with ExitStack() as stack:
            zeroconf = Zeroconf(interfaces=list(interfaces)) if interfaces else Zeroconf()
            stack.callback(zeroconf.close)
            use(zeroconf)
            stack.pop_all()
        return zeroconf

    try:
        zeroconf = await trio.to_thread.run_sync(start)
    except NonUniqueNameException as error:
        raise ConfigError("another process announces this peer on the local network") from error
    except (OSError, Error) as error:
        raise ConfigError(
            f"no multicast on this machine: {error}", hint="switch mDNS off in the configuration"
        ) from error
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


def _own_ips(kind: str) -> list[str]:
    """Addresses of this machine that are not loopback; link-local IPv6 would need a zone."""
    every = (ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    if kind == "ip4":
        return [ip for ip in every if isinstance(ip, str) and not ip.startswith("127.")]
    return [
        ip[0]
        for ip in every
        if not isinstance(ip, str) and ip[0] != "::1" and not ip[0].startswith("fe80")
    ]


def parse_announcement(properties: dict[bytes, bytes | None], network: str) -> PeerAddress | None:
    """What an announcement says, if it is one of this network's and of local addresses."""
    try:
        text = {key.decode(): (value or b"").decode() for key, value in properties.items()}
        peer_id = parse_peer(text.get("peer", ""))
    except (UnicodeDecodeError, MalformedMessage):
        return None
    listed = text.get("addresses", "").split(" ")[:MAX_ADDRESSES]
    addresses = tuple(address for address in listed if is_local(address))
    return PeerAddress(peer_id, addresses) if addresses and text.get("net") == network else None


def is_local(address: str) -> bool:
    """Whether a multiaddr is an IP on loopback or a private network, and TCP."""
    match = _LOCAL.fullmatch(address)
    try:
        ip = ipaddress.ip_address(match[1]) if match else None
    except ValueError:
        return False
    return ip is not None and ip.is_private and not ip.is_unspecified


def _announcement(own: PeerAddress, network: str) -> ServiceInfo:
    local = [one for one in own.addresses if is_local(one)][:MAX_ANNOUNCED]
    return ServiceInfo(
        SERVICE,
        f"{own.peer_id[-32:]}.{SERVICE}",
        # DNS-SD wants a host and a port too; only the properties are read.
        port=1,
        server=f"{own.peer_id[-32:]}.local.",
        parsed_addresses=[match[1] for one in local if (match := _LOCAL.fullmatch(one))],
        properties={"net": network, "peer": own.peer_id, "addresses": " ".join(local)},
    )
