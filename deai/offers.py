"""What a node says about itself, signed by its operator key: offers and heartbeats.

Both are bound to chain and registry through their domain, carry the peer id they were made
for, and expire; an older one never replaces a newer one.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from deai.codec import Codec, encode_canonical
from deai.errors import BadSignature
from deai.hashing import keccak
from deai.money import Amount
from deai.signing import Domain, Signer, verify
from deai.tasks import Node, Operator, Seconds, Signature

MAX_OFFER_BYTES: Final = 16 * 1024
MAX_BEAT_BYTES: Final = 2 * 1024
MAX_OFFER_LIFE: Final = 3600
"""Seconds between `issued_at` and `expires_at`, at most."""

_OFFER: Final = b"deai offer/1\x00"
_BEAT: Final = b"deai beat/1\x00"

Text = Annotated[str, msgspec.Meta(max_length=128)]
Address = Annotated[str, msgspec.Meta(max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""Grows from one statement of a node to its next; Unix nanoseconds fit."""


class WorkloadOffer(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True
):
    """One workload a node runs: asked fee of a seat = base_fee + unit_fee × units."""

    workload: Text
    version: Count
    models: Annotated[tuple[Text, ...], msgspec.Meta(max_length=32)]
    policies: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)]
    base_fee: Amount
    unit_fee: Amount
    milliunits_per_second: Count
    """Measured speed, thousandths of a unit per second."""


class Hardware(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True
):
    """Measured, not claimed by hand; still only the node's word."""

    device: Text
    cores: Count
    memory_mib: Count
    gpu: Text = ""
    gpu_memory_mib: Count = 0


class Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What a node runs, at what price, until when."""

    node: Node
    peer_id: Text
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=16)]
    version: Text
    sequence: Sequence
    """Grows with every offer of a node."""
    issued_at: Seconds
    expires_at: Seconds
    capacity: Count
    """Tasks it computes at once."""
    sandbox: Text
    hardware: Hardware
    workloads: Annotated[tuple[WorkloadOffer, ...], msgspec.Meta(max_length=32)]


class Beat(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """A node is alive: streamed to hubs every few seconds."""

    node: Node
    peer_id: Text
    sequence: Sequence
    sent_at: Seconds
    """Unix seconds by the node's clock."""
    mode: Annotated[str, msgspec.Meta(pattern=r"^(running|draining|paused|joining)\Z")]
    running: Count
    queued: Count
    completed: Count
    failed: Count
    head: Seconds
    """Newest block the node has seen."""
    instance: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    """Random per process life: two instances of one node are two copies of one key."""


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Canonical bytes of an offer or a beat and the operator's signature over them."""

    body: Annotated[bytes, msgspec.Meta(max_length=MAX_OFFER_BYTES)]
    operator: Operator
    signature: Signature


_OFFERS: Final = Codec[Offer](Offer, MAX_OFFER_BYTES)
_BEATS: Final = Codec[Beat](Beat, MAX_BEAT_BYTES)


def _digest(domain: Domain, tag: bytes, body: bytes) -> bytes:
    return keccak(tag, domain.separator, keccak(body))


def sign_offer(offer: Offer, domain: Domain, signer: Signer) -> Signed:
    """Sign an offer for one chain's registry."""
    body = encode_canonical(offer)
    return Signed(body, signer.account, signer.sign(_digest(domain, _OFFER, body)))


def sign_beat(beat: Beat, domain: Domain, signer: Signer) -> Signed:
    """Sign a heartbeat for one chain's registry."""
    body = encode_canonical(beat)
    return Signed(body, signer.account, signer.sign(_digest(domain, _BEAT, body)))


def open_offer(signed: Signed, domain: Domain) -> Offer:
    """Check and read an offer; raise `BadSignature` or `MalformedMessage`.

    The caller still compares `signed.operator` with the registry's operator of the node.
    """
    verify(_digest(domain, _OFFER, signed.body), signed.signature, signed.operator)
    offer = _OFFERS.decode(signed.body)
    if not offer.issued_at < offer.expires_at <= offer.issued_at + MAX_OFFER_LIFE:
        raise BadSignature("an offer lives at most an hour")
    return offer


def open_beat(signed: Signed, domain: Domain) -> Beat:
    """Check and read a heartbeat; raise `BadSignature` or `MalformedMessage`."""
    verify(_digest(domain, _BEAT, signed.body), signed.signature, signed.operator)
    return _BEATS.decode(signed.body)
