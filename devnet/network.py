"""A devnet that runs, as the commands and the demo see it: its chains, keys and ledgers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deai.chain.ledger import Ledger
from deai.errors import NotSetUp
from deai.ids import AccountId, ChainName
from deai.network import Network, load_network
from deai.signing import Signer
from devnet import processes
from devnet.chains import Giver, LocalChain, chains_of
from devnet.layout import Layout, Plan


@dataclass(frozen=True)
class Devnet:
    """A running devnet, as the commands and the demo see it."""

    layout: Layout
    plan: Plan
    network: Network
    environment: Mapping[str, str]

    @property
    def first(self) -> ChainName:
        """The chain that is meant where none is named."""
        return self.plan.chains[0]

    def local(self, chain: ChainName | None = None) -> LocalChain:
        """One of its chains."""
        return chains_of(self.layout, self.plan)[chain or self.first]

    def signer(self, name: str, chain: ChainName | None = None) -> Signer:
        """A key of this devnet: `funder`, `faucet`, `treasury`, `client`, `node-0` (owner) …"""
        return self.local(chain).signer(name)

    def account(self, name: str, chain: ChainName | None = None) -> AccountId:
        """The account for which that key speaks."""
        return self.local(chain).account(name)

    @asynccontextmanager
    async def ledger(self, name: str = "", chain: ChainName | None = None) -> AsyncIterator[Ledger]:
        """A chain, read by nobody in particular or sent to with a devnet key."""
        local = self.local(chain)
        async with local.ledger(self.network.chains[local.name], name) as ledger:
            yield ledger

    @asynccontextmanager
    async def faucet(self, chain: ChainName | None = None) -> AsyncIterator[Giver]:
        """The faucet of a chain."""
        local = self.local(chain)
        async with self.ledger("faucet", local.name) as ledger:
            yield local.giver(self.network.chains[local.name], ledger)


def opened(layout: Layout, environment: Mapping[str, str]) -> Devnet:
    """A devnet that is (or was) up; raise `NotSetUp`."""
    plan = layout.load().plan
    if not layout.network.exists():
        raise NotSetUp("the devnet never came up", hint="run `deai devnet up` again")
    return Devnet(
        layout, plan, load_network(layout.network), processes.child_environment(environment)
    )
