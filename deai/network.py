"""The network file: all that a node or client elsewhere needs to take part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import msgspec

from deai.codec import decode_json, encode_json
from deai.errors import ConfigError, MalformedMessage, UsageError
from deai.files import replace_file
from deai.ids import NEAR, SEI, AccountId, ChainName, account_on, parse_peer
from deai.net import PeerAddress
from deai.signing import Domain
from deai.tasks import ESCROW_NAME, REGISTRY_NAME
from deai.urls import parse_url

MAX_NETWORK_BYTES: Final = 256 * 1024
_NEAR_CHAIN: Final = re.compile(r"near:[-_a-zA-Z0-9]{1,32}")


class ChainEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One chain: endpoints (at least one), ids and addresses of the contracts."""

    kind: str
    """`embedded`, `anvil` or `public`."""
    chain_id: int | str
    """A number on Sei; on NEAR a text such as `near:mainnet`."""
    rpc_urls: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
    ws_url: str = ""
    contracts: dict[str, AccountId]
    deployed_at: int = 0
    """Block of deployment: where an index starts."""

    @property
    def evm_chain_id(self) -> int:
        """The chain id as a number; raises `ConfigError` for a chain that has a text."""
        if isinstance(self.chain_id, str):
            raise ConfigError(f"a chain id of this kind is a number, not {self.chain_id!r}")
        return self.chain_id

    @property
    def registry(self) -> Domain:
        """What registrations, offers and beats are bound to."""
        return Domain(REGISTRY_NAME, self.chain_id, self._contract("NodeRegistry"))

    @property
    def escrow(self) -> Domain:
        """What accepts, results and approvals are bound to."""
        return Domain(ESCROW_NAME, self.chain_id, self._contract("TaskEscrow"))

    def _contract(self, name: str) -> AccountId:
        # Files may write Sei's addresses in mixed case; NEAR has no capitals.
        return AccountId(self.contracts[name].lower())


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
        problem = _problem(name, chain)
        if problem:
            raise ConfigError(f"{path}: chains.{name}{problem}")
    for url in network.coordinators:
        try:
            parse_url(url)
        except UsageError as error:
            raise ConfigError(f"{path}: coordinators: {error}", hint=error.hint) from error
    for peer in network.bootstrap:
        try:
            parse_peer(peer.peer_id)
        except MalformedMessage as error:
            raise ConfigError(f"{path}: bootstrap: {error}") from error
    return network


def _problem(name: ChainName, chain: ChainEntry) -> str:
    """What is wrong with a chain's entry, beginning with the setting; empty if nothing is."""
    if name not in (SEI, NEAR):
        return f": no such chain; one of {SEI}, {NEAR}"
    number = chain.chain_id
    if name == SEI and (not isinstance(number, int) or number < 1):
        return ".chain_id: a number is expected, such as 1329"
    if name == NEAR and (not isinstance(number, str) or not _NEAR_CHAIN.fullmatch(number)):
        return ".chain_id: near: and a name is expected, such as near:mainnet"
    missing = {"ComputeToken", "NodeRegistry", "TaskEscrow"} - set(chain.contracts)
    if missing:
        return f".contracts lacks {', '.join(sorted(missing))}"
    for contract, account in chain.contracts.items():
        try:
            account_on(name, account)
        except MalformedMessage as error:
            return f".contracts.{contract}: {error}"
    if name == NEAR and chain.contracts["NodeRegistry"] != chain.contracts["TaskEscrow"]:
        return ".contracts: NodeRegistry and TaskEscrow are one account on NEAR"
    return ""


def save_network(network: Network, path: Path) -> None:
    """Write a network file, replacing an old one in one step."""
    replace_file(path, msgspec.json.format(encode_json(network), indent=2) + b"\n")
