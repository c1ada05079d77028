"""Who may speak for a channel on a link: whoever its session key names.

Everything about a channel is public, so the greeting carries a signature over the peer that
sends it: without one, a stranger could take a client's results, end its link and its credit.
"""

from __future__ import annotations

from typing import Final

from deai.channels import Channel, channel_id
from deai.hashing import keccak
from deai.ids import PeerId, raw
from deai.signing import Domain, Signer, struct_type, verify
from deai.tasks import Signature

_GREETING: Final = struct_type("Greeting(bytes32 channelId,uint24 epoch,bytes32 peer)")


def greeting_digest(domain: Domain, channel: Channel, epoch: int, peer: PeerId) -> bytes:
    """What the session key signs so that `peer` speaks for the channel in this epoch."""
    id_ = raw(channel_id(channel, domain))
    return domain.digest(_GREETING, (id_, epoch, keccak(peer.encode())))


def sign_greeting(
    domain: Domain, key: Signer, channel: Channel, epoch: int, peer: PeerId
) -> Signature:
    """The session key's word that this peer (our own) speaks for it."""
    return key.sign(greeting_digest(domain, channel, epoch, peer))


def verify_greeting(
    domain: Domain, channel: Channel, epoch: int, peer: PeerId, signature: Signature
) -> None:
    """Raise `BadSignature` unless the session key named this peer, the link's authenticated one.

    Raises `MalformedMessage` for a channel that is not of the domain's chain.
    """
    verify(greeting_digest(domain, channel, epoch, peer), signature, channel.session_key)
