"""The network file: all that a node or client elsewhere needs to take part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from deai.codec import decode_json, encode_json
from deai.errors import ConfigError, MalformedMessage, UsageError
from deai.ids import AccountId, ChainName, parse_peer
from deai.net import PeerAddress
from deai.signing import Domain
from deai.tasks import ESCROW_NAME, REGISTRY_NAME
from deai.urls import parse_url

MAX_NETWORK_BYTES: Final = 256 * 1024


class ChainEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One chain: endpoints (at least one), ids and addresses of the contracts."""

    kind: str
    """`embedded`, `anvil` or `public`."""
    chain_id: int
    rpc_urls: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
    ws_url: str = ""
    contracts: dict[str, AccountId]
    deployed_at: int = 0
    """Block of deployment: where an index starts."""

    @property
    def registry(self) -> Domain:
        """What registrations, offers and beats are bound to."""
        return Domain(REGISTRY_NAME, self.chain_id, self.contracts["NodeRegistry"])

    @property
    def escrow(self) -> Domain:
        """What accepts, results and approvals are bound to."""
        return Domain(ESCROW_NAME, self.chain_id, self.contracts["TaskEscrow"])


class BootstrapPeer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A peer worth dialling first; coordinators are also heartbeat hubs."""

    peer_id: str
    addresses: tuple[str, ...]
    role: str = "hub"


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chains, contracts, coordinators, bootstrap peers, models."""

    name: str
    chains: dict[ChainName, ChainEntry]
    coordinators: tuple[str, ...] = ()
    bootstrap: tuple[BootstrapPeer, ...] = ()
    models: dict[str, str] = {}
    """Model name → manifest digest that this network means by the name."""

    @property
    def hubs(self) -> tuple[PeerAddress, ...]:
        """Bootstrap peers that take heartbeats."""
        return tuple(
            PeerAddress(parse_peer(peer.peer_id), peer.addresses)
            for peer in self.bootstrap
            if peer.role == "hub"
        )


def load_network(path: Path) -> Network:
    """Read a network file; raise `ConfigError` naming the file and the setting."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NETWORK_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the network file {path}: {error.strerror}",
            hint="pass --network FILE, as written by `deai devnet up` or given by a network",
        ) from error
    if len(data) > MAX_NETWORK_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_NETWORK_BYTES} bytes")
    try:
        network = decode_json(data, Network)
    except MalformedMessage as error:
        raise ConfigError(f"{path}: {error}") from error
    for name, chain in network.chains.items():
        missing = {"ComputeToken", "NodeRegistry", "TaskEscrow"} - set(chain.contracts)
        if missing:
            raise ConfigError(f"{path}: chains.{name}.contracts lacks {', '.join(sorted(missing))}")
    for url in network.coordinators:
        try:
            parse_url(url)
        except UsageError as error:
            raise ConfigError(f"{path}: coordinators: {error}", hint=error.hint) from error
    return network


def save_network(network: Network, path: Path) -> None:
    """Write a network file, replacing an old one in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.format(encode_json(network), indent=2) + b"\n")
    temporary.replace(path)
