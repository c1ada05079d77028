"""The only place that builds a libp2p host: TCP, Noise and Yamux, guarded, and nothing else.

py-libp2p is pinned to 0.8.1 because `p2p.guards` replaces two of its private methods.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final, cast

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.swarm import Swarm
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from deai.errors import ConfigError
from p2p.counters import Counters
from p2p.guards import BoundedYamux, guard
from p2p.identity import Identity
from p2p.limits import NetLimits

PINNED: Final = "0.8.1"
CONNECTIONS_PER_PEER: Final = 4
"""Both sides may dial at once, and a peer that lost us may come back before we noticed."""

_HINTS: Final[dict[int | None, str]] = {
    errno.EADDRINUSE: "another program has the port; stop it or choose another port",
    errno.EADDRNOTAVAIL: "listen on an address of this machine, or on /ip4/0.0.0.0",
    errno.EACCES: "choose a port above 1023",
}


@asynccontextmanager
async def open_host(
    identity: Identity, listen: Sequence[str], limits: NetLimits, counters: Counters
) -> AsyncIterator[BasicHost]:
    """Run a guarded libp2p host that listens on the multiaddrs of `listen` (none: a dialler).

    Raises `ConfigError` for an address that cannot be listened on, a port that is taken
    included. On leaving, every connection and listener is closed.
    """
    addresses = [_parse_listen(text) for text in listen]
    for text in listen:
        _probe(text)
    host = _build(identity, limits, counters)
    try:
        async with host.run(listen_addrs=addresses):
            if len(host.get_network().listeners) != len(addresses):
                raise ConfigError(f"cannot listen on {', '.join(listen)}")
            try:
                yield host
            finally:
                with trio.move_on_after(5, shield=True):
                    await host.close()
    finally:
        # After a crash the listeners live on in a task of trio's own and, sharing their port,
        # would take connections away from the next host.
        with trio.move_on_after(5, shield=True):
            for listener in list(host.get_network().listeners.values()):
                await listener.close()


def _build(identity: Identity, limits: NetLimits, counters: Counters) -> BasicHost:
    if version("libp2p") != PINNED:
        raise ConfigError(f"libp2p {version('libp2p')} is installed, {PINNED} is required")
    _quieten()
    keys = create_new_key_pair(identity.seed)
    noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
    host = new_host(
        key_pair=keys,
        # Named one by one: the library's own list also takes plaintext, from anybody as anybody.
        sec_opt={NOISE: noise},
        muxer_opt={TProtocol(YAMUX): BoundedYamux},
        enable_tcp=True,
        negotiate_timeout=int(limits.handshake_timeout),
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            max_connections=limits.max_connections,
            high_watermark=limits.max_connections,
            min_connections=0,
            low_watermark=0,
            max_connections_per_peer=CONNECTIONS_PER_PEER,
            inbound_upgrade_timeout=limits.handshake_timeout,
            outbound_upgrade_timeout=limits.handshake_timeout,
            inbound_stream_protocol_negotiation_timeout=limits.handshake_timeout,
            outbound_stream_protocol_negotiation_timeout=limits.handshake_timeout,
        ),
        resource_manager=ResourceManager(
            limits=ResourceLimits(
                max_connections=2 * limits.max_connections,
                max_streams=limits.max_connections * limits.max_streams_per_connection,
            ),
            connection_limits=ConnectionLimits(
                max_established_per_peer=CONNECTIONS_PER_PEER,
                max_established_total=limits.max_connections,
            ),
            enable_graceful_degradation=False,
            enable_circuit_breaker=False,
        ),
    )
    assert isinstance(host, BasicHost)
    swarm = cast("Swarm", host.get_network())
    swarm.retry_config = RetryConfig(max_retries=0)  # retries are the caller's decision
    guard(swarm, limits, counters)
    return host


PARSING: Final = (MultiaddrError, ValueError, TypeError, OverflowError)
"""What multiaddr raises for texts that are none, by 600,000 random ones."""


def _parse_listen(text: str) -> Multiaddr:
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
    except PARSING as error:
        raise ConfigError(f"not a multiaddr: {text!r}") from error
    if names not in (["ip4", "tcp"], ["ip6", "tcp"]):
        raise ConfigError(f"{text!r} is not of the form /ip4/ADDRESS/tcp/PORT")
    return address


def _probe(text: str) -> None:
    """Raise `ConfigError` if the port is taken: libp2p would share it, or say nothing."""
    _, kind, ip, _, port = text.split("/")
    family = socket.AF_INET if kind == "ip4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # but not REUSEPORT
        try:
            probe.bind((str(ipaddress.ip_address(ip)), int(port)))
            probe.listen(1)
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            raise ConfigError(
                f"cannot listen on {text}: {error}", hint=_HINTS.get(number, "")
            ) from error


def _quieten() -> None:
    """Keep strangers from filling the log: at its usual levels libp2p reports what they do."""
    package = logging.getLogger("libp2p")
    if package.level == logging.NOTSET or package.level > logging.DEBUG:
        package.setLevel(logging.CRITICAL)
    if not package.handlers:
        package.addHandler(logging.NullHandler())
