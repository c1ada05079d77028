"""The home of a node on disk: where each file stands, and the lock that keeps a second one out.

A home serves one chain or both. What belongs to a chain has it in its name; the registration made
first stands in `registration.json`, as in homes from before there were two.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from deai.codec import decode_json, encode_json
from deai.errors import ConfigError, MalformedMessage, NotSetUp
from deai.files import replace_file
from deai.ids import NEAR, SEI, AccountId, ChainName, NodeId
from deai.keys import key_file
from node.store.errors import AlreadyRunning


class PoolOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which pool owns a node that takes delegations: number `index` of its manager's."""

    manager: AccountId
    index: int


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node this home runs on one chain; written by `deai node init`."""

    node_id: NodeId
    owner: AccountId
    operator: AccountId
    peer_id: str
    chain: ChainName
    pool: PoolOf | None = None
    """Where the node takes delegations: `owner` is then the pool's account, which has no key."""

    @property
    def signer(self) -> AccountId:
        """The account of the owner key: the owner, or the manager of the pool that is."""
        return self.owner if self.pool is None else self.pool.manager


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one directory; `chain` is the one whose keys and registration are meant."""

    path: Path
    chain: ChainName = SEI

    def on(self, chain: ChainName) -> Home:
        """The same home, seen from another chain."""
        return replace(self, chain=chain)

    @property
    def network(self) -> Path:
        """The network file."""
        return self.path / "network.json"

    @property
    def config(self) -> Path:
        """The operator's settings."""
        return self.path / "config.toml"

    @property
    def operator_key(self) -> Path:
        """The hot key."""
        return key_file(self.path, "operator", self.chain)

    @property
    def owner_key(self) -> Path:
        """The cold key, if it was made here."""
        return key_file(self.path, "owner", self.chain)

    @property
    def peer_key(self) -> Path:
        """Who this process is among the peers."""
        return self.path / "keys" / "peer.key"

    @property
    def passphrase(self) -> Path:
        """Opens the key files of this home."""
        return self.path / "keys" / "passphrase"

    @property
    def models(self) -> Path:
        """Weights by digest."""
        return self.path / "models"

    @property
    def journal(self) -> Path:
        """What the node must not forget."""
        return self.path / "node.db"

    @property
    def lane(self) -> Path:
        """The accounts of channels."""
        return self.path / "lane.db"

    @property
    def orders(self) -> Path:
        """The signed orders."""
        return self.path / "orders.db"

    @property
    def blobs(self) -> Path:
        """Inputs and outputs of its tasks."""
        return self.path / "blobs"

    @property
    def binding(self) -> Path:
        """What both owners signed: that the registrations on two chains are one node."""
        return self.path / "binding.json"

    @property
    def ready(self) -> Path:
        """Written when the daemon takes work, removed when it leaves."""
        return self.path / "node.json"

    @property
    def admin_token(self) -> Path:
        """Opens the local HTTP interface."""
        return self.path / "admin.token"

    @property
    def speeds(self) -> Path:
        """What `deai node bench` measured."""
        return self.path / "speeds.json"

    def outbox(self, chain: str, account: str) -> Path:
        """Transactions of one account on one chain."""
        return self.path / f"outbox-{chain}-{account}.db"

    def registrations(self) -> tuple[Registration, ...]:
        """Which node this home runs on each chain, the one set up first at the front.

        Raises `NotSetUp` before `deai node init`, `ConfigError` for a damaged file.
        """
        found = [_load(path) for path in self._registration_files()]
        if not found:
            raise NotSetUp(
                f"no node is set up in {self.path}",
                hint="run: deai node init --network FILE",
            )
        return tuple(found)

    @property
    def has_registrations(self) -> bool:
        """Whether `deai node init` has come so far on any chain."""
        return bool(self._registration_files())

    def registration(self) -> Registration | None:
        """Which node this home runs on its chain; None before it was set up there."""
        files = self._registration_files()
        return next((one for one in map(_load, files) if one.chain == self.chain), None)

    def load_registration(self) -> Registration:
        """As `registration`; raise `NotSetUp` where that is None."""
        known = self.registration()
        if known is None:
            raise NotSetUp(
                f"no node is set up on {self.chain} in {self.path}",
                hint=f"run: deai node init --chain {self.chain} --network FILE",
            )
        return known

    def save_registration(self, registration: Registration) -> None:
        """Keep which node this home runs on a chain, beside that of the other one."""
        first = self.path / "registration.json"
        if first.exists() and _load(first).chain != registration.chain:
            first = self.path / f"registration-{registration.chain}.json"
        self.save(first, registration)

    def _registration_files(self) -> list[Path]:
        names = ("registration.json", *(f"registration-{chain}.json" for chain in (SEI, NEAR)))
        return [path for name in names if (path := self.path / name).exists()]

    def load_ready(self) -> dict[str, Any] | None:
        """What the running daemon wrote about itself, None if there is none."""
        try:
            return msgspec.json.decode(self.ready.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return None

    def load_speeds(self) -> dict[str, int]:
        """Measured thousandths of a unit per second, by workload; empty before `bench`."""
        try:
            return msgspec.json.decode(self.speeds.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            return {}

    def save(self, path: Path, document: object) -> None:
        """Replace a JSON file in one step, readable by this user only."""
        replace_file(path, msgspec.json.format(encode_json(document), indent=2) + b"\n", mode=0o600)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other node out of this home; raise `AlreadyRunning`."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(
                    f"another process runs the node in {self.path}",
                    hint="stop it first, or give this one a --home of its own",
                ) from error
            yield
        finally:
            os.close(descriptor)


def _load(path: Path) -> Registration:
    try:
        return decode_json(path.read_bytes(), Registration)
    except (OSError, MalformedMessage) as error:
        raise ConfigError(
            f"{path}: {error}",
            hint="put a copy back, or move it away and run: deai node init",
        ) from error
