"""Peers on the local network, found by multicast DNS (zeroconf).

What is heard is a hint from anybody on the network: bounded, limited to addresses of that
network, and proven only by dialling.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from deai.errors import ConfigError, MalformedMessage
from deai.ids import parse_peer
from deai.net import PeerAddress
from p2p.discovery import MAX_ADDRESSES

SERVICE: Final = "_deai._tcp.local."
LIFE: Final = 300.0
"""Seconds that what was heard stays worth trying."""
_LOCAL: Final = re.compile(r"/ip[46]/([0-9a-fA-F.:]{2,45})/tcp/\d{1,5}")
MAX_ANNOUNCED: Final = 4
"""Addresses in one announcement, whose text may have 255 bytes."""
_BACKLOG: Final = 256
_LOOKUP_MS: Final = 1000


@asynccontextmanager
async def open_mdns(
    own: PeerAddress, network: str, *, interfaces: Sequence[str] = ()
) -> AsyncIterator[trio.MemoryReceiveChannel[PeerAddress]]:
    """Announce `own` under the name of a network and hear who else is on it.

    Only addresses on loopback or private networks are announced or believed. `interfaces` are
    the addresses to use (all by default). Raises `ConfigError` where multicast is not to be had.
    What is not received from the channel in time is dropped: it will be announced again.
    """
    send, receive = trio.open_memory_channel[PeerAddress](_BACKLOG)
    token = trio.lowlevel.current_trio_token()

    def hear(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        # On a thread of zeroconf's.
        if state_change is ServiceStateChange.Removed:
            return
        info = zeroconf.get_service_info(service_type, name, timeout=_LOOKUP_MS)
        peer = parse_announcement(info.properties, network) if info else None
        if peer is not None and peer.peer_id != own.peer_id:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(_offer, send, peer)

    def start() -> Zeroconf:
        zeroconf = Zeroconf(interfaces=list(interfaces)) if interfaces else Zeroconf()
        zeroconf.register_service(_announcement(own, network))
        ServiceBrowser(zeroconf, SERVICE, handlers=[hear])
        return zeroconf

    try:
        zeroconf = await trio.to_thread.run_sync(start)
    except OSError as error:
        raise ConfigError(
            f"no multicast on this machine: {error}", hint="switch mDNS off in the configuration"
        ) from error
    try:
        yield receive
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


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


def _offer(channel: trio.MemorySendChannel[PeerAddress], peer: PeerAddress) -> None:
    with suppress(trio.WouldBlock, trio.BrokenResourceError):
        channel.send_nowait(peer)
