"""The home of a node on disk: where each file stands, and the lock that keeps a second one out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from deai.codec import decode_json, encode_json
from deai.errors import ConfigError, MalformedMessage, NotSetUp
from deai.ids import SEI, AccountId, ChainName, NodeId
from deai.keys import key_file
from node.store.errors import AlreadyRunning


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node this home runs; written by `deai node init`."""

    node_id: NodeId
    owner: AccountId
    operator: AccountId
    peer_id: str
    chain: ChainName


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one directory; keys have names by chain."""

    path: Path
    chain: ChainName = SEI

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
    def blobs(self) -> Path:
        """Inputs and outputs of its tasks."""
        return self.path / "blobs"

    @property
    def registration(self) -> Path:
        """Which node this home runs."""
        return self.path / "registration.json"

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

    def load_registration(self) -> Registration:
        """Raise `NotSetUp` before `deai node init`, `ConfigError` for a damaged file."""
        try:
            return decode_json(self.registration.read_bytes(), Registration)
        except FileNotFoundError as error:
            raise NotSetUp(
                f"no node is set up in {self.path}",
                hint="run: deai node init --network FILE",
            ) from error
        except (OSError, MalformedMessage) as error:
            raise ConfigError(f"{self.registration}: {error}") from error

    def load_ready(self) -> dict[str, Any] | None:
        """What the running daemon wrote about itself, None if there is none."""
        try:
            found: dict[str, Any] = msgspec.json.decode(self.ready.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return found

    def load_speeds(self) -> dict[str, int]:
        """Measured thousandths of a unit per second, by workload; empty before `bench`."""
        try:
            return msgspec.json.decode(self.speeds.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            return {}

    def save(self, path: Path, document: object) -> None:
        """Replace a JSON file in one step, readable by this user only."""
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(encode_json(document), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

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
