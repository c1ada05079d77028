"""What strangers may use of this process, and how long anybody may be silent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLimits:
    """Bounds of one net. Times are seconds; a "link" is one stream of one protocol."""

    max_links: int = 1024  # inbound, all peers together
    max_links_per_peer: int = 8  # inbound
    max_connections: int = 1024
    max_pending: int = 256  # inbound connections that have not proven who they are
    max_pending_per_ip: int = 32
    handshake_timeout: float = 5.0
    idle_timeout: float = 30.0  # a connection without a link is closed after this
    # One stream costs the receiver about 1.5 ms of CPU. Identify, its push and a reconnecting
    # client stay far below the burst.
    stream_burst: int = 64
    streams_per_second: float = 10.0
    max_streams_per_connection: int = 32
    # A peer above this rate is read more slowly, not cut off.
    frames_per_second: float = 50_000.0
    frame_burst: float = 100_000.0
    ping_interval: float = 10.0
    ping_timeout: float = 30.0  # no complete frame for this long: the peer is dead
    ping_burst: float = 20.0
    pings_per_second: float = 2.0
    send_timeout: float = 30.0  # no room for a message for this long: the peer does not read
    close_timeout: float = 5.0  # to flush what is queued when a link is closed

    def __post_init__(self) -> None:
        if not 0 < self.ping_interval < self.ping_timeout:
            raise ValueError("a peer must be pinged before it is taken for dead")
        if self.ping_interval * self.pings_per_second < 1:
            raise ValueError("peers would take our own pings for a flood")
