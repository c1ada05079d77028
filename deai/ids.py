"""Names of things: nominal types over their one canonical text form.

Accounts, nodes and tasks are text in the chain's own form (`0x` + lower-case hex on Sei);
digests are 32 raw bytes inside the program and `0x` + hex at every edge.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from deai.errors import MalformedMessage

AccountId = NewType("AccountId", str)
"""An account on a chain: `0x` + 40 lower-case hex digits on Sei."""
NodeId = NewType("NodeId", str)
"""A registered node: `0x` + 64 hex on Sei, the owner's address followed by a 96-bit index."""
TaskId = NewType("TaskId", str)
"""An escrowed task: `0x` + 64 hex, the hash of its chain, contract and every field."""
PeerId = NewType("PeerId", str)
"""A libp2p peer id in its base58 text form."""
ChainName = NewType("ChainName", str)
"""Which of the two chains: `sei` or `near`."""

_ACCOUNT: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_WORD: Final = re.compile(r"0x[0-9a-fA-F]{64}")
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


def owner_of(node: NodeId) -> AccountId:
    """The account that owns `node`, read from the id itself."""
    return AccountId(node[:42])


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
