"""Keeps what `deai node why` counts over restarts: proposals, accepts, payments and reasons."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import structlog
import trio

from deai.codec import Codec, encode_canonical
from deai.errors import LimitExceeded, MalformedMessage, NodeFault
from node.state import MAX_REASONS, TALLIED, Node, Reason

logger = structlog.get_logger(__name__)

EVERY: Final = 60.0
"""Seconds between two writes: so much a killed node forgets."""
STALE: Final = 7 * 24 * 3600.0
"""Seconds after which a reason that did not come again is of no use to anybody."""
_FACT: Final = "why"
_MAX_BYTES: Final = 512 * 1024


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    counts: dict[str, int]
    reasons: Annotated[tuple[_Why, ...], msgspec.Meta(max_length=MAX_REASONS)]


class _Why(msgspec.Struct, frozen=True, array_like=True):
    code: str
    message: str
    hint: str
    since: int
    last: int
    count: int


_KEPT: Final = Codec[_Kept](_Kept, _MAX_BYTES)


class Tally:
    """One node's counts in its journal."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._written = b""

    async def recall(self) -> None:
        """Go on from where an earlier life stopped."""
        node = self._node
        data = await node.ports.journal.recall(_FACT)
        if data is None:
            return
        try:
            kept = _KEPT.decode(data)
        except MalformedMessage as error:
            logger.warning("counts of earlier lives lost", action="recall", reason=str(error))
            return
        self._written = data
        node.earlier.update(kept.counts)
        for one in kept.reasons:
            if node.wall() - one.last < STALE:
                node.reasons[one.code] = Reason(*msgspec.structs.astuple(one))

    async def run(self) -> None:
        """Write what has changed, every minute until cancelled."""
        while True:
            await trio.sleep(EVERY)
            await self.keep()

    async def keep(self) -> None:
        """Write what has changed."""
        node = self._node
        kept = _Kept(
            {name: node.tallied(name) for name in TALLIED},
            tuple(
                _Why(one.code, one.message[:512], one.hint[:512], int(one.since), int(one.last),
                     one.count)
                for one in node.reasons.values()
            ),
        )  # fmt: skip
        data = encode_canonical(kept)
        if data == self._written:
            return
        try:
            await node.ports.journal.remember(_FACT, data)
        except (LimitExceeded, NodeFault) as error:
            node.daemon.disk_failed(error)
            return
        self._written = data
