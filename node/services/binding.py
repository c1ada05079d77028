"""Reads what both owners signed about this node on two chains, so that hubs can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog
import trio

from deai.binding import SignedBinding, read_binding
from deai.errors import ConfigError, NotSetUp
from deai.ids import NEAR, SEI
from node.daemon import Daemon

logger = structlog.get_logger(__name__)

EVERY: Final = 5.0
AGAIN: Final = "both owners sign anew: deai stake bind --renew"


class BindingFile:
    """Keeps `Daemon.binding` as the file says, which may come or change while the node runs."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self._daemon = daemon
        self._path = path
        self._read: tuple[int, int] | None = None

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            self.look()
            await trio.sleep(EVERY)

    def look(self) -> None:
        """Read the file if it is another than before; a bad one is a problem of the daemon's."""
        try:
            stat = self._path.stat()
            found = (stat.st_ctime_ns, stat.st_ino)
        except OSError:
            found = None  # if it is there and cannot be read, reading says why
        if found == self._read and found is not None:
            return
        daemon, self._read = self._daemon, found
        try:
            daemon.binding = None
            daemon.binding = self._load()
        except NotSetUp:
            daemon.solved("bad_binding")
        except ConfigError as error:
            daemon.problem("bad_binding", str(error), error.hint or AGAIN)
        else:
            daemon.solved("bad_binding")
            logger.info("binding read", action="binding", nonce=daemon.binding.binding.nonce)

    def _load(self) -> SignedBinding:
        draft = read_binding(self._path)
        signed = draft.signed
        if signed is None:
            lacking = next(chain for chain in (SEI, NEAR) if draft.half(chain) is None)
            raise ConfigError(
                f"{self._path}: the owner on {lacking} has not signed yet",
                hint=f"deai stake bind --chain {lacking}",
            )
        for branch in self._daemon.branches:
            side = signed.binding.side(branch.chain)
            if side.node != branch.node_id:
                raise ConfigError(f"{self._path} is about {side.node}, not {branch.node_id}")
            if side.operator != branch.operator:
                raise ConfigError(f"{self._path} names another operator than {branch.operator}")
        return signed
