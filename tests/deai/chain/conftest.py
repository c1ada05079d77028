"""The worlds on which the conformance suite runs."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from deai.chain.ledger import Ledger, Parameters
from deai.chain.memory import MemoryChain
from deai.signing import LocalSigner, Signer
from rewards.rules import RULES
from tests.deai.chain.chains import (
    PARAMETERS,
    ChainProcess,
    chain_process,
    chain_world,
    is_anvil_here,
)
from tests.deai.chain.near.harness import NearChain, near_chain, near_world
from tests.support.ledger_conformance import World

WITH_ORDERS = [
    "memory",
    pytest.param("embedded", marks=[pytest.mark.chain, pytest.mark.network]),
    pytest.param("anvil", marks=[pytest.mark.chain, pytest.mark.network, pytest.mark.slow]),
]
"""The chains whose contracts settle orders and keep pools."""
WITH_CHANNELS = WITH_REWARDS = [
    *WITH_ORDERS,
    pytest.param("near", marks=[pytest.mark.chain, pytest.mark.network]),
]
"""The chains whose contracts have payment channels and distribute rewards."""


def memory_world(parameters: Parameters = PARAMETERS) -> tuple[World, MemoryChain]:
    numbers = itertools.count(1)

    def signer() -> LocalSigner:
        return LocalSigner(next(numbers).to_bytes(32, "big"))

    holder = signer()
    chain = MemoryChain(RULES, holder=holder.account, parameters=parameters)

    async def open_(by: Signer) -> Ledger:
        return chain.ledger(by)

    async def advance(seconds: int) -> None:
        chain.advance(seconds)

    return World(
        "memory", chain.ledger(), holder, open_, advance, signer, lambda _: signer()
    ), chain


@pytest.fixture(scope="session")
def one_embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("embedded")) as chain:
        yield chain


@pytest.fixture(scope="module")
def embedded(one_embedded: ChainProcess) -> Iterator[ChainProcess]:
    with one_embedded.awake():
        yield one_embedded


@pytest.fixture(scope="session")
def one_anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    if not is_anvil_here():
        pytest.skip("anvil is not installed: npm install --no-save --prefix contracts/sei")
    with chain_process("anvil", tmp_path_factory.mktemp("anvil")) as chain:
        yield chain


@pytest.fixture(scope="module")
def anvil(one_anvil: ChainProcess) -> Iterator[ChainProcess]:
    with one_anvil.awake():
        yield one_anvil


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NearChain]:
    """A chain for each module: following one from its start reads every block."""
    with near_chain(tmp_path_factory.mktemp("near")) as chain:
        yield chain


@pytest.fixture(params=WITH_CHANNELS)
def chain(request: pytest.FixtureRequest) -> ChainProcess | NearChain | None:
    """The process behind `world`, None for the ledger in memory."""
    if request.param == "memory":
        return None
    found: ChainProcess | NearChain = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def world(chain: ChainProcess | NearChain | None) -> AsyncIterator[World]:
    if chain is None:
        yield memory_world()[0]
        return
    if isinstance(chain, NearChain):
        async with near_world(chain) as on_near:
            yield on_near
        return
    async with chain_world(chain) as found:
        yield found
