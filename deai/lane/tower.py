"""What a node and a watchtower say to each other, and the file that carries vouchers without it.

A watchtower holds the newest voucher of each channel and shows it to the chain when a client
closes the channel on an older one while the node is away. Anybody may redeem a voucher and the
node's owner is paid, so a tower is trusted with nothing but to be there.

    node → tower   Greet           tower → node   Welcome | Refused
    node → tower   Keep …          tower → node   Kept | NotKept, one for each, in order

On the wire as in the lane: a version byte, then a MessagePack array whose first item names the
message. The operator's signature in `Greet` binds both peers of the link, so that nobody else
fills the place that a tower keeps for a node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from deai.channels import Channel, ChannelKey, Epoch, Voucher, channel_id, verify_voucher
from deai.codec import Codec, decode_json, encode_json
from deai.errors import BadSignature, MalformedMessage
from deai.hashing import keccak
from deai.ids import SEI, AccountId, ChainName, NodeId, PeerId, node_on, parse_peer
from deai.messages import Code, Reason
from deai.money import Amount
from deai.net import Dialect, PeerAddress
from deai.signing import Domain, Signer, struct_type, verify
from deai.tasks import Node, Signature

TOWER_VERSION: Final = 1
TOWER_PROTOCOL: Final = "/deai/tower/1"
KEEP_SECONDS: Final = 1.0
"""A node hands over one voucher a channel in this time at most: the newest."""
MAX_FRAME: Final = 4096
MAX_FILE_BYTES: Final = 64 << 20
FILE_FORMAT: Final = "deai vouchers/1"

_GREETING: Final = struct_type("TowerGreeting(NODE node,bytes32 peer,bytes32 tower)")


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """Base: tagged by its class name."""


class Greet(_Message, frozen=True):
    """Which node speaks here, signed by its operator."""

    node: Node
    signature: Signature


class Welcome(_Message, frozen=True):
    """The node is served; `channels` is how many channels the tower keeps for it at most."""

    channels: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]


class Refused(_Message, frozen=True):
    """The node is not served; `code` for programs, `reason` for people."""

    code: Code
    reason: Reason


class Keep(_Message, frozen=True):
    """The newest voucher of a channel for the node that greeted."""

    channel: Channel
    voucher: Voucher


class Kept(_Message, frozen=True):
    """What the tower holds of a channel now is durable: this voucher, or one that pays more."""

    channel_id: ChannelKey
    epoch: Epoch
    cumulative_amount: Amount


class NotKept(_Message, frozen=True):
    """`code` is `gone` (closed, or another epoch), `nothing_new`, `full`, `too_fast`, `chain`…"""

    channel_id: ChannelKey
    code: Code
    reason: Reason


TowerMessage: TypeAlias = Greet | Welcome | Refused | Keep | Kept | NotKept

_CODEC: Final = Codec[TowerMessage](TowerMessage, MAX_FRAME)
_VERSION: Final = bytes([TOWER_VERSION])


def encode_tower(message: TowerMessage) -> bytes:
    """The message as a frame's body."""
    return _VERSION + _CODEC.encode(message)


def decode_tower(data: bytes) -> TowerMessage:
    """Read one message; raise `MalformedMessage`."""
    if data[:1] != _VERSION:
        raise MalformedMessage("this side speaks version 1 of the watchtower")
    return _CODEC.decode(data[1:])


def tower_dialect(chain: ChainName) -> Dialect[TowerMessage]:
    """The conversation about channels of one chain."""
    suffix = "" if chain == SEI else f"/{chain}"
    return Dialect(
        f"{TOWER_PROTOCOL}{suffix}", encode_tower, decode_tower, max_frame_bytes=MAX_FRAME + 1
    )


def greeting_digest(domain: Domain, node: NodeId, peer: PeerId, tower: PeerId) -> bytes:
    """What an operator signs so that `peer` hands over the node's vouchers to `tower`."""
    fields = (node, keccak(peer.encode()), keccak(tower.encode()))
    return domain.digest(_GREETING, fields)


def sign_greet(
    domain: Domain, operator: Signer, node: NodeId, peer: PeerId, tower: PeerId
) -> Greet:
    """The greeting of a node whose own peer id is `peer`."""
    return Greet(node, operator.sign(greeting_digest(domain, node, peer, tower)))


def verify_greet(
    domain: Domain, greet: Greet, operator: AccountId, peer: PeerId, tower: PeerId
) -> None:
    """Raise `BadSignature` unless the operator let this peer speak for the node."""
    verify(greeting_digest(domain, greet.node, peer, tower), greet.signature, operator)


def check_voucher(domain: Domain, channel: Channel, voucher: Voucher) -> None:
    """Raise `BadSignature` or `MalformedMessage` unless it is a voucher of this channel."""
    if channel_id(channel, domain) != voucher.channel:
        raise MalformedMessage("a voucher of another channel")
    verify_voucher(domain, channel.session_key, voucher)


def parse_tower(text: str) -> PeerAddress:
    """Read `/ip4/…/tcp/…/p2p/PEER`; raise `MalformedMessage`."""
    address, found, peer = text.rpartition("/p2p/")
    if not found or not address.startswith("/"):
        raise MalformedMessage(f"no address of a watchtower: {text[:120]!r}")
    return PeerAddress(parse_peer(peer), (address,))


# --- the way without a network -----------------------------------------------------------------


class VoucherFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Vouchers of one contract as a JSON document."""

    format: Literal["deai vouchers/1"] = "deai vouchers/1"
    chain: str
    chain_id: int | str
    contract: str
    vouchers: tuple[tuple[Channel, Voucher], ...]


def encode_vouchers(
    chain: ChainName, domain: Domain, vouchers: Iterable[tuple[Channel, Voucher]]
) -> bytes:
    """The file's bytes."""
    return encode_json(
        VoucherFile(
            chain=chain,
            chain_id=domain.chain_id,
            contract=domain.contract,
            vouchers=tuple(vouchers),
        )
    )


def decode_vouchers(
    data: bytes, chain: ChainName, domain: Domain
) -> tuple[tuple[Channel, Voucher], ...]:
    """Read a file, every signature checked.

    Raises `MalformedMessage` for anything else than vouchers of this chain and contract, and
    `BadSignature` naming the channel whose voucher its session key did not sign.
    """
    if len(data) > MAX_FILE_BYTES:
        raise MalformedMessage(f"a file of vouchers has {MAX_FILE_BYTES >> 20} MiB at most")
    found = decode_json(data, VoucherFile)
    if (found.chain, found.chain_id, found.contract) != (chain, domain.chain_id, domain.contract):
        raise MalformedMessage(f"vouchers of another contract: {found.contract} on {found.chain}")
    for channel, voucher in found.vouchers:
        node_on(chain, channel.node)
        try:
            check_voucher(domain, channel, voucher)
        except BadSignature as error:
            raise BadSignature(f"channel {voucher.channel}: {error}") from error
    return found.vouchers
