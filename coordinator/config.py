"""`[coordinator]`: where it listens, where it stores. Every setting has a default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from deai.config import Config, section
from deai.errors import ConfigError

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_Multiaddrs = Annotated[tuple[str, ...], msgspec.Meta(max_length=16)]


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole section."""

    listen: str = "127.0.0.1:8080"
    """Host and port of API and pages; port 0 takes a free one."""
    metrics: str = "127.0.0.1:0"
    """Host and port of `/metrics`; keep it off the public interface."""
    p2p: _Multiaddrs = ("/ip4/0.0.0.0/tcp/4101",)
    """Multiaddrs on which the heartbeat hub listens."""
    announce: _Multiaddrs = ()
    """Multiaddrs that others shall be told instead."""
    peer_key: str = ""
    """Key file of the hub's peer identity; default `HOME/keys/peer.key`, made when missing."""
    database: str = ""
    """SQLite file; default `HOME/coordinator.db`."""
    hosts: Annotated[tuple[str, ...], msgspec.Meta(max_length=32)] = ()
    """Host names that requests may use; default any, on loopback only loopback's."""
    log_level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"


@dataclass(frozen=True)
class Endpoint:
    """A host and a port."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As an http address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def load(config: Config) -> CoordinatorConfig:
    """The section of a configuration; raise `ConfigError` naming file, line and setting."""
    found = section(config, "coordinator", CoordinatorConfig)
    endpoint(found.listen, "listen")
    endpoint(found.metrics, "metrics")
    return found


def endpoint(text: str, setting: str) -> Endpoint:
    """`host:port`; raise `ConfigError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or not host:
        raise ConfigError(
            f"coordinator.{setting}: not host:port: {text[:80]!r}", hint="e.g. 127.0.0.1:8080"
        )
    return Endpoint(host.strip("[]"), int(port))


def allowed_hosts(config: CoordinatorConfig) -> frozenset[str]:
    """Host names that requests may use; empty means any."""
    host = endpoint(config.listen, "listen").host
    if config.hosts:
        return frozenset(name.lower() for name in config.hosts) | {host}
    # A page elsewhere must not reach a private coordinator through a name of its own.
    return LOOPBACK if host in LOOPBACK else frozenset()
