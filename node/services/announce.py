"""Keeps the registry's word on where this node listens true."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from deai.actions import Announce as AnnounceOnChain
from deai.errors import Declined, LimitExceeded, NodeFault, Unreachable
from node.state import Node

logger = structlog.get_logger(__name__)

RETRY: Final = 15.0
_FACT: Final = "announced"


async def announce(node: Node) -> None:
    """Announce peer id and addresses on chain if they are not what was announced last."""
    addresses = node.ports.net.addresses
    fact = "\n".join((node.ports.net.peer_id, *addresses)).encode()
    while True:
        try:
            if node.record is not None:
                if await node.ports.journal.recall(_FACT) == fact:
                    return
                head = node.head.number if node.head is not None else 0
                # The same addresses may be announced again after others: an intent of its own.
                await node.ports.ledger.submit(
                    AnnounceOnChain(node.ports.node, node.ports.net.peer_id, addresses),
                    key=f"announce:{head}",
                )
                await node.ports.journal.remember(_FACT, fact)
                logger.info("addresses announced", action="announce", addresses=list(addresses))
                return
        except (Unreachable, Declined, LimitExceeded, NodeFault) as error:
            logger.warning("addresses not announced yet", action="announce", reason=str(error))
        await trio.sleep(RETRY)
