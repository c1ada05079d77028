"""The worlds on which the conformance suite runs."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from deai.chain.memory import DEFAULT_PARAMETERS, MemoryChain
from deai.ids import AccountId
from deai.money import UNIT, Amount
from deai.signing import LocalSigner
from rewards.rules import RULES
from tests.support.ledger_conformance import World

PARAMETERS = msgspec.structs.replace(
    DEFAULT_PARAMETERS, min_lease=5, min_window=20, max_span=3_600, unbonding_seconds=7_201
)


def memory_world() -> tuple[World, MemoryChain]:
    numbers = itertools.count(1)

    def signer() -> LocalSigner:
        return LocalSigner(next(numbers).to_bytes(32, "big"))

    holder = signer()
    chain = MemoryChain(RULES, holder=holder.account, parameters=PARAMETERS)

    async def open_(by: LocalSigner) -> object:
        return chain.ledger(by)

    async def advance(seconds: int) -> None:
        chain.advance(seconds)

    world = World("memory", chain.ledger(), holder, open_, advance, signer)  # type: ignore[arg-type]
    return world, chain


@pytest.fixture(params=["memory"])
def world(request: pytest.FixtureRequest) -> World:
    return memory_world()[0]
