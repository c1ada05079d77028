"""What a net has seen; plain counters that the programs' metrics read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Counters:
    """Gauges end in `_open`; everything else only grows."""

    links_inbound_open: int = 0
    links_outbound_open: int = 0
    links_inbound: int = 0
    links_outbound: int = 0
    dials_failed: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    refused: int = 0  # inbound links and streams beyond a limit
    malformed: int = 0  # links cut off for breaking the protocol
    dead_peers: int = 0  # links cut off because the peer fell silent
    handlers_ended_by_peer: int = 0  # it closed, vanished or broke the protocol

    def snapshot(self) -> dict[str, Any]:
        """A copy as a plain mapping."""
        return asdict(self)
