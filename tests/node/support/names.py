"""What every part of the node's tests refers to."""

from __future__ import annotations

from collections.abc import Callable

import trio

from deai.hashing import keccak
from deai.ids import PeerId
from deai.money import UNIT, Amount
from deai.signing import LocalSigner

FEE = Amount(UNIT)
LEASE = 30
WINDOW = 600


def key(name: str) -> LocalSigner:
    return LocalSigner(keccak(name.encode()))


def peer(name: str) -> PeerId:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = keccak(b"peer", name.encode()) * 2
    return PeerId("12D3KooW" + "".join(alphabet[byte % 58] for byte in digest[:44]))


async def until(condition: Callable[[], object], *, seconds: float = 2000) -> None:
    """Wait on trio's clock until something is true."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.05)
