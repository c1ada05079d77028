"""Where a devnet keeps things, and what it remembers between two `up`s."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from deai.codec import decode_json
from deai.errors import ConfigError, MalformedMessage, NotSetUp, UsageError
from deai.files import replace_file
from deai.ids import NEAR, SEI, ChainName
from devnet.processes import ProcessRecord

MAX_NODES: Final = 64
FIRST_PORT: Final = 10_240
LAST_PORT: Final = 32_768
PORTS_TRIED: Final = 2_000
_GIVEN: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HELD: Final = ExitStack()
"""Ports that this process chose: nobody else chooses them as long as it lives."""
atexit.register(_HELD.close)


class NodePlan(msgspec.Struct, frozen=True):
    """One node: its name, how it misbehaves (empty: honestly not), its port, its chains.

    Misbehaving, it does so on every chain.
    """

    name: str
    behaviour: str
    port: int
    chain: ChainName = SEI
    also: tuple[ChainName, ...] = ()
    """The other chains that the same process serves."""

    @property
    def chains(self) -> tuple[ChainName, ...]:
        """All chains that it serves."""
        return (self.chain, *self.also)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for when the devnet began; a second `up` keeps it."""

    chain: str
    """`embedded` or `anvil` (Sei), `near`, or `both`: Sei and NEAR."""
    seed: str
    chain_port: int
    near_port: int = 0
    coordinator_port: int
    coordinator_p2p_port: int
    coordinator_metrics_port: int = 0
    """0 in a directory from before it was kept: any free port at each start."""
    block_seconds: float = 0
    """Between blocks; 0: as long as the chain's own usually take."""
    window_seconds: int = 0
    """Of the contracts; 0: as long as the chain's own usually is."""
    nodes: tuple[NodePlan, ...]

    @property
    def chains(self) -> tuple[ChainName, ...]:
        """The chains of the devnet; the client's commands mean the first unless told."""
        return {"near": (NEAR,), "both": (SEI, NEAR)}.get(self.chain, (SEI,))


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The plan, and the processes started last."""

    plan: Plan
    processes: tuple[ProcessRecord, ...] = ()

    def process(self, name: str) -> ProcessRecord | None:
        """The record of one process, if it ever started."""
        return next((found for found in self.processes if found.name == name), None)


@dataclass(frozen=True)
class Layout:
    """Paths below the devnet's directory."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "devnet.json"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def network(self) -> Path:
        return self.root / "network.json"

    @property
    def coordinator(self) -> Path:
        return self.root / "coordinator"

    @property
    def client(self) -> Path:
        return self.root / "client"

    @property
    def treasury(self) -> Path:
        """Home of who gets the protocol's fees and proposes rewards."""
        return self.root / "treasury"

    @property
    def models(self) -> Path:
        return self.root / "models"

    def node(self, name: str) -> Path:
        return self.root / name

    def log(self, process: str) -> Path:
        return self.root / "logs" / f"{process}.log"

    def load(self) -> State:
        """What this directory holds; raise `NotSetUp` or `ConfigError`."""
        try:
            data = self.state.read_bytes()
        except FileNotFoundError as error:
            raise NotSetUp(
                f"no devnet in {self.root}", hint="start one with `deai devnet up --detach`"
            ) from error
        try:
            return decode_json(data, State)
        except MalformedMessage as error:
            raise ConfigError(f"{self.state}: {error}") from error

    def save(self, state: State) -> None:
        """Remember, in one step."""
        self.root.mkdir(parents=True, exist_ok=True)
        document = msgspec.json.format(msgspec.json.encode(state), indent=1)
        replace_file(self.state, document, flush=False)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One launcher at a time; raise `ConfigError` if another one is at work."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise ConfigError(
                f"another command is working on the devnet in {self.root}",
                hint="wait for it, or choose another --dir",
                code="busy",
            ) from error
        try:
            yield
        finally:
            os.close(handle)

    def secret(self, seed: str, name: str) -> bytes:
        """A key that follows from the devnet's seed: for worthless tokens only."""
        return hashlib.sha256(f"deai devnet {seed}/{name}".encode()).digest()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; kept for the life of the devnet so that addresses last.

    They are from below those that the system gives away by itself, or somebody would have one of
    them by the time that its program starts; and this process holds them, so that another devnet
    that begins meanwhile takes others.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(FIRST_PORT, _first_given()), PORTS_TRIED):
        if len(found) == count:
            return found
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            continue
        # Whoever allows the same may listen there now: all of our programs do.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _HELD.enter_context(holder)
        found.append(port)
    raise ConfigError(f"hardly a port below {_first_given()} is free on this machine")


def _first_given() -> int:
    """The first port that the system gives to who does not ask for one."""
    try:
        first = int(_GIVEN.read_text().split()[0])
    except (OSError, ValueError):
        return LAST_PORT
    return min(max(first, FIRST_PORT + PORTS_TRIED), LAST_PORT)


def make_plan(
    chain: str, nodes: int, seed: str, behaviours: dict[int, str], *,
    block_seconds: float = 0, window_seconds: int = 0,
) -> Plan:  # fmt: skip
    """A fresh plan; raise `UsageError` for numbers out of range.

    `block_seconds` is the time between blocks, 0 for what the chain's own usually take;
    `window_seconds` the contracts' shortest window for openings and proofs, 0 for the usual one.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise UsageError(
            f"a devnet has 1 to {MAX_NODES} nodes, not {nodes}", hint="--nodes 3 is a good start"
        )
    for index in behaviours:
        if not 0 <= index < nodes:
            raise UsageError(
                f"--behaviour {index}=…: there is no node {index}",
                hint=f"nodes count from 0 to {nodes - 1}",
            )
    chain_port, near_port, http, p2p, metrics, *node_ports = free_ports(5 + nodes)
    plan = Plan(
        chain=chain, seed=seed, chain_port=chain_port, near_port=near_port, coordinator_port=http,
        coordinator_p2p_port=p2p, coordinator_metrics_port=metrics, nodes=(),
        block_seconds=block_seconds, window_seconds=window_seconds,
    )  # fmt: skip
    first, *others = plan.chains
    planned = tuple(
        NodePlan(f"node-{index}", behaviours.get(index, ""), port, first, tuple(others))
        for index, port in enumerate(node_ports)
    )
    return msgspec.structs.replace(plan, nodes=planned)
