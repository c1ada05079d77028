"""Who might be out there: one bounded book of peers that every source feeds.

Sources are the bootstrap list, the local network (`p2p.mdns`), the registry contract and
coordinators. Where a record is only a hint (the first two), dialling proves who answers; where
it is a signed offer, its caller has verified it and passes its sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deai.ids import PeerId
from deai.net import PeerAddress

MAX_ADDRESSES: Final = 16


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer may be reached, until when (seconds of the caller's clock), and who says so.

    `sequence` is that of the signed record, which grows with each; 0 is an unsigned hint.
    """

    address: PeerAddress
    expires_at: float
    sequence: int = 0


class PeerBook:
    """At most `max_peers` records: one per peer, the newest signed one, else merged hints."""

    def __init__(self, *, own: PeerId | None = None, max_peers: int = 4096) -> None:
        self._own = own
        self._max_peers = max_peers
        self._records: dict[PeerId, PeerRecord] = {}

    def add(self, record: PeerRecord, now: float) -> bool:
        """Take a record in; whether that taught us anything.

        When the book is full, what expires first makes room, hints before signed records; a
        hint never displaces a signed record.
        """
        peer_id = record.address.peer_id
        if record.expires_at <= now or peer_id == self._own:
            return False
        known = self.find(peer_id, now)
        if known is None:
            if not self._make_room(record, now):
                return False
        elif record.sequence < known.sequence:
            return False
        elif record.sequence == known.sequence:
            record = known if record.sequence else _merge(known, record)
        self._records[peer_id] = record
        return record != known

    def find(self, peer_id: PeerId, now: float) -> PeerRecord | None:
        """What is known of a peer, if it has not expired."""
        record = self._records.get(peer_id)
        return record if record is not None and record.expires_at > now else None

    def records(self, now: float) -> list[PeerRecord]:
        """Every record that has not expired, those that live longest first."""
        alive = (record for record in self._records.values() if record.expires_at > now)
        return sorted(alive, key=lambda record: record.expires_at, reverse=True)

    def _make_room(self, record: PeerRecord, now: float) -> bool:
        if len(self._records) < self._max_peers:
            return True
        first = min(
            self._records.values(),
            key=lambda one: (one.expires_at > now, one.sequence > 0, one.expires_at),
        )
        if first.expires_at > now and first.sequence and not record.sequence:
            return False
        del self._records[first.address.peer_id]
        return True


def _merge(known: PeerRecord, hint: PeerRecord) -> PeerRecord:
    """Both hints' addresses, the newer ones first."""
    addresses = tuple(dict.fromkeys(hint.address.addresses + known.address.addresses))
    return PeerRecord(
        PeerAddress(known.address.peer_id, addresses[:MAX_ADDRESSES]),
        max(known.expires_at, hint.expires_at),
    )
