"""What every part of the node's tests refers to."""

from __future__ import annotations

from collections.abc import Callable

from deai.hashing import keccak
from deai.ids import PeerId
from deai.money import UNIT, Amount
from deai.signing import LocalSigner
from tests.support import polling

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
    """Wait until something is true: by the mock clock, for which an hour is nothing."""
    await polling.until(condition, seconds)
