"""Names of things: nominal types over their one canonical text form.

Accounts and nodes are text in the chain's own form (`0x` + lower-case hex on Sei; `alice.near`
and `alice.near#0` on NEAR, where a key is `ed25519:` + base58); digests and task ids are 32 raw
bytes inside the program and `0x` + hex at every edge.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from deai.errors import MalformedMessage

AccountId = NewType("AccountId", str)
"""An account on a chain: `0x` + 40 lower-case hex digits on Sei, its name on NEAR.

An operator is named by what verifies its signatures: its account on Sei, its key on NEAR."""
NodeId = NewType("NodeId", str)
"""A registered node: `0x` + 64 hex on Sei, the owner's address followed by a 96-bit index;
`owner#index` on NEAR, the index in decimal."""
TaskId = NewType("TaskId", str)
"""An escrowed task: `0x` + 64 hex, the hash of its chain, contract and every field."""
ChannelId = NewType("ChannelId", str)
"""A payment channel: `0x` + 64 hex, the hash of its chain, contract and every field."""
OrderId = NewType("OrderId", str)
"""A signed order: `0x` + 64 hex, the hash of its chain, contract and every field."""
PeerId = NewType("PeerId", str)
"""A libp2p peer id in its base58 text form."""
ChainName = NewType("ChainName", str)
"""Which of the two chains: `sei` or `near`."""

SEI: Final = ChainName("sei")
NEAR: Final = ChainName("near")

_ACCOUNT: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_WORD: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_NEAR_ACCOUNT: Final = re.compile(
    r"(?=.{2,64}\Z)(?:[a-z0-9]+[-_])*[a-z0-9]+(?:\.(?:[a-z0-9]+[-_])*[a-z0-9]+)*"
)
_NEAR_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_KEY: Final = "ed25519"
_UNHASHED: Final = bytes.fromhex("0024")  # the multihash "identity", 36 bytes follow
_ED25519_PROTOBUF: Final = bytes.fromhex("08011220")  # type Ed25519, then 32 bytes of key
_PEER: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,64}")


def parse_account(text: str) -> AccountId:
    """Read a Sei address in any case; raise `MalformedMessage` for anything else."""
    if not _ACCOUNT.fullmatch(text):
        raise MalformedMessage(f"not an account address: {text[:80]!r}")
    return AccountId(text.lower())


def parse_node(text: str) -> NodeId:
    """Read a node id in any case; raise `MalformedMessage` for anything else."""
    if not _WORD.fullmatch(text):
        raise MalformedMessage(f"not a node id: {text[:80]!r}")
    return NodeId(text.lower())


def parse_task(text: str) -> TaskId:
    """Read a task id in any case; raise `MalformedMessage` for anything else."""
    if not _WORD.fullmatch(text):
        raise MalformedMessage(f"not a task id: {text[:80]!r}")
    return TaskId(text.lower())


def parse_peer(text: str) -> PeerId:
    """Read a base58 peer id; raise `MalformedMessage` for anything else."""
    if not _PEER.fullmatch(text):
        raise MalformedMessage(f"not a peer id: {text[:80]!r}")
    return PeerId(text)


def node_id(owner: AccountId, index: int) -> NodeId:
    """The id of the owner's node number `index` (0 ≤ index < 2^96)."""
    if not 0 <= index < 1 << 96:
        raise MalformedMessage(f"a node index has 96 bits: {index}")
    return NodeId(f"{owner}{index:024x}")


def parse_near_account(text: str) -> AccountId:
    """Read a NEAR account name; raise `MalformedMessage` for anything else."""
    if not _NEAR_ACCOUNT.fullmatch(text):
        raise MalformedMessage(f"not a NEAR account: {text[:80]!r}")
    return AccountId(text)


def parse_near_node(text: str) -> NodeId:
    """Read `owner#index` in its one form; raise `MalformedMessage` for anything else."""
    owner, _, index = text.partition("#")
    if not _NEAR_INDEX.fullmatch(index):
        raise MalformedMessage(f"not a NEAR node id: {text[:80]!r}")
    return near_node_id(parse_near_account(owner), int(index))


def near_node_id(owner: AccountId, index: int) -> NodeId:
    """The id of the NEAR account's node number `index` (0 ≤ index < 2^32)."""
    if not 0 <= index < 1 << 32:
        raise MalformedMessage(f"a node index has 32 bits on NEAR: {index}")
    return NodeId(f"{owner}#{index}")


def account_on(chain: str, text: str) -> AccountId:
    """Read an account in the form of `chain`; raise `MalformedMessage` for anything else."""
    return parse_near_account(text) if chain == NEAR else parse_account(text)


def node_on(chain: str, text: str) -> NodeId:
    """Read a node id in the form of `chain`; raise `MalformedMessage` for anything else."""
    return parse_near_node(text) if chain == NEAR else parse_node(text)


def node_of(chain: str, owner: AccountId, index: int) -> NodeId:
    """The id of the owner's node number `index` on `chain`; raise `MalformedMessage`."""
    return near_node_id(owner, index) if chain == NEAR else node_id(owner, index)


def any_account(text: str) -> AccountId:
    """Read an account of either chain; raise `MalformedMessage` for anything else.

    What begins like a Sei address is read as one. (NEAR allows such names, also short ones, but
    far more often they are addresses that were cut off.)
    """
    return parse_account(text) if text[:2].lower() == "0x" else parse_near_account(text)


def any_node(text: str) -> NodeId:
    """Read a node id of either chain; raise `MalformedMessage` for anything else."""
    return parse_near_node(text) if "#" in text else parse_node(text)


def parse_operator(text: str) -> AccountId:
    """Read what verifies a node's signatures: a Sei address, or NEAR's `ed25519:` + base58.

    Raises `MalformedMessage` for anything else.
    """
    kind, mark, key = text.partition(":")
    if not mark:
        return parse_account(text)
    if kind != _KEY:
        raise MalformedMessage(f"not an Ed25519 key: {text[:80]!r}")
    parse_base58(key, 32)
    return AccountId(text)


def key_on(chain: str, text: str) -> AccountId:
    """Read what verifies signatures on `chain`; raise `MalformedMessage` for anything else."""
    key = parse_operator(text)
    if key.startswith(_KEY) is not (chain == NEAR):
        raise MalformedMessage(f"not a key on {chain}: {text[:80]!r}")
    return key


def implicit_account(public_key: bytes) -> AccountId:
    """The NEAR account that a 32-byte Ed25519 key owns without anybody making it."""
    return AccountId(public_key.hex())


def index_of(node: NodeId) -> int:
    """Which of its owner's nodes this is."""
    _, mark, index = node.partition("#")
    return int(index) if mark else int(node[42:], 16)


def owner_of(node: NodeId) -> AccountId:
    """The account that owns `node`, read from the id itself."""
    owner, mark, _ = node.partition("#")
    return AccountId(owner if mark else node[:42])


def base58(data: bytes) -> str:
    """Text of bytes in Bitcoin's alphabet, as NEAR writes keys and hashes."""
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def parse_base58(text: str, size: int) -> bytes:
    """Read exactly `size` bytes; raise `MalformedMessage` for anything else."""
    number = 0
    if len(text) <= 2 * size:
        for letter in text:
            number = number * 58 + _BASE58.find(letter)
    data = number.to_bytes(size, "big") if 0 <= number < 1 << 8 * size else b""
    # Written back, so that a strange letter, a length or a leading 1 too many cannot pass.
    if base58(data) != text or not data:
        raise MalformedMessage(f"not {size} bytes in base58: {text[:80]!r}")
    return data


def peer_of(public_key: bytes) -> PeerId:
    """The libp2p peer id of an Ed25519 public key of 32 bytes: the key itself, not hashed.

    Base58 of an identity multihash over the key's protobuf (libp2p's "peer ids and keys").
    """
    return PeerId(base58(_UNHASHED + _ED25519_PROTOBUF + public_key))


def raw(text: str) -> bytes:
    """The bytes behind a `0x…` id."""
    return bytes.fromhex(text[2:])


def hexed(data: bytes) -> str:
    """`0x` + hex of bytes."""
    return "0x" + data.hex()


def parse_digest(text: str) -> bytes:
    """Read a 32-byte digest from `0x` + hex; raise `MalformedMessage` for anything else."""
    if not _WORD.fullmatch(text):
        raise MalformedMessage(f"not a digest: {text[:80]!r}")
    return bytes.fromhex(text[2:])
