"""The chains a devnet may hold: how each is started, deployed to, paid from; who signs there."""

from __future__ import annotations

import json
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import msgspec

from deai.actions import TransferGas, TransferTokens
from deai.chain.ledger import Ledger, Parameters, Transaction
from deai.chain.opening import open_ledger
from deai.codec import decode_json, encode_json
from deai.errors import LedgerRejected, NotSetUp, UsageError
from deai.files import replace_file
from deai.ids import NEAR, SEI, AccountId, ChainName
from deai.keys import holder_of
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from deai.signing import Ed25519Signer, LocalSigner, Signer
from devnet.faucet import Faucet
from devnet.layout import Layout, Plan

SUPPLY: Final = 1_000_000_000 * UNIT
GENESIS_GAS: Final = 1_000_000 * 10**18
NEAR_COIN: Final = 10**24
NEAR_WINDOW: Final = 24
"""Seconds. Openings have half of it on chain, and on NEAR members hear of the last commitment,
which begins it, only two or three blocks later."""
BANK: Final = AccountId("devnet")
"""The NEAR account that deploys, and whose tokens and NEAR the faucet gives away."""


class DevnetParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The contracts' constants on a devnet: seconds where a network has hours."""

    min_stake: int = 1_000 * UNIT
    min_fee: int = UNIT // 10**6
    min_lease: int = 5
    min_window: int
    max_span: int = 600
    epoch_seconds: int = 60
    unbonding_seconds: int = 1_260
    weight_fee: int = UNIT // 100
    bounty: int = UNIT
    close_period: int = 60
    reward_delay: int = 10
    thaw_period: int = 120
    min_delegation: int = UNIT

    def on_chain(self, treasury: AccountId) -> Parameters:
        """As a deployment takes them."""
        return Parameters(
            min_stake=Amount(self.min_stake),
            min_fee=Amount(self.min_fee),
            min_lease=self.min_lease,
            min_window=self.min_window,
            max_span=self.max_span,
            epoch_seconds=self.epoch_seconds,
            unbonding_seconds=self.unbonding_seconds,
            weight_fee=Amount(self.weight_fee),
            bounty=Amount(self.bounty),
            treasury=treasury,
            close_period=self.close_period,
            reward_delay=self.reward_delay,
            thaw_period=self.thaw_period,
            min_delegation=Amount(self.min_delegation),
        )


class Giver(Protocol):
    """A faucet."""

    async def give(self, address: AccountId, tokens: int) -> list[Transaction]:
        """Tokens, and money for gas; returns the token transfer."""
        ...


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a deployment, on either chain."""

    contracts: dict[str, AccountId]
    block: int
    chain_id: int | str


@dataclass(frozen=True)
class LocalChain(ABC):
    """One chain of a devnet. Keys follow from the devnet's seed and a name."""

    layout: Layout
    plan: Plan

    name: ClassVar[ChainName]
    block_seconds: ClassVar[float]
    window_seconds: ClassVar[int]

    @property
    def parameters(self) -> DevnetParameters:
        """The constants of its contracts."""
        return DevnetParameters(min_window=self.plan.window_seconds or self.window_seconds)

    @property
    def directory(self) -> Path:
        """Where it is kept."""
        return self.layout.root / self.name

    @property
    @abstractmethod
    def kind(self) -> str:
        """Which implementation: `embedded` or `anvil`."""

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it; writes the accounts it begins with before the first time."""

    @abstractmethod
    def signer(self, name: str) -> Signer:
        """A key: `faucet`, `treasury`, `client`, `node-0` (owner), `node-0/operator` …"""

    @abstractmethod
    async def deployed(self, ready: Mapping[str, Any]) -> Deployed:
        """Put the contracts there, once."""

    @abstractmethod
    def giver(self, entry: ChainEntry, ledger: Ledger) -> Giver:
        """A faucet over the ledger of the account that holds the tokens."""

    def account(self, name: str) -> AccountId:
        """The account for which a key of the devnet speaks."""
        return holder_of(self.signer(name).account)

    @asynccontextmanager
    async def ledger(self, entry: ChainEntry, name: str = "") -> AsyncIterator[Ledger]:
        """The chain, read by nobody in particular or sent to with a key of the devnet."""
        if not name:
            async with open_ledger(self.name, entry) as reader:
                yield reader
            return
        outbox = self.layout.keys / f"outbox-{self._mark(name)}.db"
        account = self.account(name)
        async with open_ledger(
            self.name, entry, self.signer(name), outbox, account=account
        ) as ledger:
            yield ledger

    async def entry(self, ready: Mapping[str, Any]) -> ChainEntry:
        """The chain as the network file names it; deploys the contracts when that was not done."""
        path = self.layout.root / f"{self._mark('deployment')}.json"
        if path.exists():
            found = decode_json(path.read_bytes(), Deployed)
        else:
            found = await self.deployed(ready)
            replace_file(path, encode_json(found), flush=False)
        return ChainEntry(
            kind=self.kind,
            chain_id=found.chain_id,
            rpc_urls=(ready["rpc_url"],),
            ws_url=ready.get("ws_url", ""),
            contracts=found.contracts,
            deployed_at=found.block,
        )

    def _mark(self, name: str) -> str:
        return name if self.name == SEI else f"{name}-{self.name}"

    def _people(self) -> list[str]:
        return ["client", *(node.name for node in self.plan.nodes if self.name in node.chains)]


@dataclass(frozen=True)
class SeiChain(LocalChain):
    """The embedded EVM chain, or anvil."""

    name: ClassVar[ChainName] = SEI
    block_seconds: ClassVar[float] = 0.4
    window_seconds: ClassVar[int] = 10

    @property
    def kind(self) -> str:
        return "anvil" if self.plan.chain == "anvil" else "embedded"

    def command(self) -> list[str]:
        genesis = self.directory / "genesis.json"
        if not genesis.exists():
            people = self._people()
            operators = [f"{name}/operator" for name in people[1:]]
            names = ["funder", "faucet", "treasury", *people, *operators]
            document = {self.account(name): str(GENESIS_GAS) for name in names}
            replace_file(genesis, json.dumps(document).encode(), flush=False)
        module = "devnet.evm.anvil" if self.kind == "anvil" else "devnet.evm"
        return [
            sys.executable, "-m", module, "--dir", str(self.directory), "--port",
            str(self.plan.chain_port), "--block-time",
            str(self.plan.block_seconds or self.block_seconds),
            "--genesis", str(genesis),
        ]  # fmt: skip

    def signer(self, name: str) -> Signer:
        return LocalSigner(self.layout.secret(self.plan.seed, name))

    def giver(self, entry: ChainEntry, ledger: Ledger) -> Giver:
        funder = self.layout.secret(self.plan.seed, "funder")
        return Faucet(ledger, entry.rpc_urls[0], entry.evm_chain_id, funder)

    async def deployed(self, ready: Mapping[str, Any]) -> Deployed:
        from deai.chain.sei.deploy import deploy

        done = await deploy(
            (ready["rpc_url"],),
            self.signer("faucet"),
            self.parameters.on_chain(self.account("treasury")),
            supply=SUPPLY,
            proposer=self.account("treasury"),
            outbox_path=self.layout.keys / "outbox-deployment.db",
        )
        return Deployed(contracts=done.contracts, block=done.block, chain_id=done.chain_id)


@dataclass(frozen=True)
class NearChain(LocalChain):
    """The embedded NEAR chain. Accounts are implicit ones, but for the bank."""

    name: ClassVar[ChainName] = NEAR
    block_seconds: ClassVar[float] = 0.6
    window_seconds: ClassVar[int] = NEAR_WINDOW

    @property
    def kind(self) -> str:
        return "embedded"

    def command(self) -> list[str]:
        genesis = self.directory / "genesis.json"
        if not genesis.exists():
            begun = dict.fromkeys(["treasury", *self._people()], 1000) | {"faucet": 10**9}
            document = {
                self.account(name): {
                    "amount": str(coins * NEAR_COIN),
                    "public_keys": [self.signer(name).account],
                }
                for name, coins in begun.items()
            }
            replace_file(genesis, json.dumps(document).encode(), flush=False)
        return [
            sys.executable, "-m", "devnet.near", "--dir", str(self.directory), "--port",
            str(self.plan.near_port), "--block-time",
            str(self.plan.block_seconds or self.block_seconds),
            "--genesis", str(genesis),
        ]  # fmt: skip

    def signer(self, name: str) -> Signer:
        return Ed25519Signer(self.layout.secret(self.plan.seed, name))

    def account(self, name: str) -> AccountId:
        return BANK if name == "faucet" else super().account(name)

    def giver(self, entry: ChainEntry, ledger: Ledger) -> Giver:
        return NearFaucet(ledger)

    async def deployed(self, ready: Mapping[str, Any]) -> Deployed:
        try:
            from deai.chain.near.deploy import deploy
            from deai.chain.near.keys import NearKey
        except ImportError as error:
            raise NotSetUp(
                f"NEAR needs the package {error.name}", code="missing_package"
            ) from error
        done = await deploy(
            (ready["rpc_url"],),
            NearKey(BANK, self.signer("faucet")),
            self.parameters.on_chain(self.account("treasury")),
            supply=SUPPLY,
            proposer=self.account("treasury"),
            outbox_path=self.layout.keys / "outbox-deployment-near.db",
        )
        return Deployed(contracts=done.contracts, block=done.block, chain_id=done.chain_id)


class NearFaucet:
    """Sends NEAR and tokens from one account; the ledger opens accounts at the token."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def give(self, address: AccountId, tokens: int) -> list[Transaction]:
        """Tokens, and 10 NEAR; returns the token transfer.

        Raises `LedgerUnreachable`, and `UsageError` for a name that nobody has.
        """
        # Asking a faucet twice means twice: every call is an intent of its own.
        key = f"faucet:{address}:{secrets.token_hex(8)}"
        gas = TransferGas(address, Amount(10 * NEAR_COIN))
        try:
            await self._ledger.submit(gas, key=f"{key}/gas")
        except LedgerRejected as error:
            if "AccountDoesNotExist" not in str(error):
                raise
            raise UsageError(
                f"there is no account {address}",
                hint="a transfer opens implicit accounts only: 64 hex digits, of a public key",
                code="no_account",
            ) from error
        if not tokens:
            return []
        return [await self._ledger.submit(TransferTokens(address, Amount(tokens)), key=key)]


KINDS: Final[Mapping[ChainName, type[LocalChain]]] = {SEI: SeiChain, NEAR: NearChain}


def chains_of(layout: Layout, plan: Plan) -> dict[ChainName, LocalChain]:
    """The chains of a devnet, in the order of its plan."""
    return {name: KINDS[name](layout, plan) for name in plan.chains}
