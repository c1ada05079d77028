"""What a task's run is given: the ports, the journal, where files go, chance and faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from deai.chain.ledger import Head, Ledger
from deai.client.directory import Directory
from deai.client.journal import Journal, Offload, in_a_thread
from deai.client.purse import Purse
from deai.client.sessions import Sessions
from deai.errors import ConfigError
from deai.ids import AccountId
from deai.net import Net
from deai.ports import Catalogue
from deai.signing import Signer


def no_crash(_point: str) -> None:
    """The crash hook of a client that is not being tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything outside that a run touches."""

    ledger: Ledger
    net: Net
    sessions: Sessions
    directory: Directory
    purse: Purse
    journal: Journal
    catalogue: Catalogue
    home: Path
    passphrase: Path
    """Opens the session keys of channels."""
    results: Path
    receipts: Path
    random: Callable[[int], bytes] = field(repr=False)
    wall_clock: Callable[[], float]
    signer: Signer | None = field(default=None, repr=False)
    """The account's key, for what is signed and not sent: orders."""
    offload: Offload = in_a_thread
    """Runs a blocking call (files) beside the event loop."""
    crash: Callable[[str], None] = no_crash

    @property
    def account(self) -> AccountId:
        """Who pays; raise `ConfigError` if the ledger only reads."""
        account = self.ledger.account
        if account is None:
            raise ConfigError("no key to pay with", code="no_key")
        return account


class ChainClock:
    """Chain time between blocks: the newest block's time plus what passed here since."""

    def __init__(self) -> None:
        self._head: Head | None = None
        self._read_at = 0.0

    def saw(self, head: Head) -> None:
        """Note a new head."""
        if self._head is None or head.number > self._head.number or head.time > self._head.time:
            self._head = head
            self._read_at = trio.current_time()

    @property
    def now(self) -> int:
        """Chain time in whole seconds."""
        if self._head is None:
            return 0
        return self._head.time + int(trio.current_time() - self._read_at)
