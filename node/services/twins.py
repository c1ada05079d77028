"""Whether another process beats with this node's key: what hubs claim, and what they can show."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from deai.errors import BadSignature, MalformedMessage
from deai.offers import Signed, open_beat
from node.state import Node

logger = structlog.get_logger(__name__)

TWIN_SECONDS: Final = 15.0
"""A twin that no hub showed a new beat of for this long is gone."""
NEW_BLOCKS: Final = 8
"""A beat that names a block so far above our first one was signed since, whatever its clock says:
no process that we replaced has seen it, though its endpoint may have been some blocks ahead."""
MAX_TWINS: Final = 8


class Twins:
    """Beats of other processes that our key signed after this one began.

    A hub that counts more than one instance may be wrong or lie, and one that says so for ever
    would stop the node. A signature it cannot make, and beats of earlier lives of this node, which
    it has, are too old.
    """

    def __init__(self, node: Node) -> None:
        """Begin to listen now."""
        self._node = node
        self._began_at = node.ports.wall()
        self._first_block = node.head.number if node.head is not None else 0
        self._shown: dict[bytes, int] = {}
        """The newest sequence by instance: an old beat shown again proves nothing."""
        self._shown_at = float("-inf")
        self._counts: dict[str, int] = {}
        """By hub: instances that it counts."""

    @property
    def is_near(self) -> bool:
        """Whether another process beat with our key a moment ago, and is not gone everywhere."""
        is_fresh = trio.current_time() - self._shown_at <= TWIN_SECONDS
        return is_fresh and max(self._counts.values(), default=2) > 1

    def shown(self, signed: Signed) -> None:
        """Judge a beat that a hub has of another instance."""
        if self._is_new(signed):
            self._shown_at = trio.current_time()
        self._tell()

    def claimed(self, hub: str, instances: int) -> None:
        """A hub counts so many instances of this node."""
        is_news = instances > 1 >= self._counts.get(hub, 1)
        self._counts[hub] = instances
        if is_news and not self.is_near:
            logger.warning("twin claimed without a beat", action="twin", peer_id=hub)
        self._tell()

    def lost(self, hub: str) -> None:
        """The link to a hub is gone, and its claim with it."""
        self._counts.pop(hub, None)
        self._tell()

    def _is_new(self, signed: Signed) -> bool:
        node = self._node
        if signed.operator != node.ports.signer.account:
            return False
        try:
            beat = open_beat(signed, node.info.registry)
        except (BadSignature, MalformedMessage):
            return False
        if beat.node != node.ports.node or beat.instance == node.instance:
            return False
        if beat.sent_at <= self._began_at and beat.head <= self._first_block + NEW_BLOCKS:
            return False
        if beat.sequence <= self._shown.get(beat.instance, -1):
            return False
        self._shown[beat.instance] = beat.sequence
        if len(self._shown) > MAX_TWINS:
            del self._shown[next(iter(self._shown))]
        return True

    def _tell(self) -> None:
        node = self._node
        if self.is_near:
            node.solved("unproven_twin")
            node.problem(
                "another_instance",
                "another process beats with this node's key",
                "stop it: two signers of one key lose the stake; this one takes no new work",
            )
            return
        node.solved("another_instance")
        claims = sorted(hub for hub, count in self._counts.items() if count > 1)
        if claims:
            node.problem(
                "unproven_twin",
                f"{', '.join(claims)} claims that another process beats with this "
                "node's key, and shows no beat of it; the node works on",
                "if no copy of this node runs anywhere, the hub is wrong: use another",
            )
        else:
            node.solved("unproven_twin")
