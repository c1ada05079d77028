"""A real coordinator over a made-up chain: real store, real HTTP, real WebSocket, memory net."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import trio

from coordinator.config import CoordinatorConfig
from coordinator.main import Ports, run
from coordinator.services import FollowedChain
from deai.chain.ledger import ChainInfo, Cursor, EventBatch, Ledger, Parameters
from deai.errors import LedgerUnreachable
from deai.ids import NEAR, SEI as SEI, AccountId, NodeId, PeerId
from deai.money import UNIT, Amount
from deai.offers import (
    Beat,
    Hardware,
    Offer,
    Signed,
    WorkloadOffer,
    sign_beat,
    sign_offer,
)
from deai.signing import Domain
from deai.tasks import ESCROW_NAME, REGISTRY_NAME
from p2p.identity import Identity
from p2p.memory import MemoryNetwork
from tests.coordinator.world import Chain
from tests.support.polling import eventually

REGISTRY = Domain(REGISTRY_NAME, 713715, AccountId("0x" + "11" * 20))
CONTRACTS = {
    "ComputeToken": AccountId("0x" + "33" * 20),
    "NodeRegistry": REGISTRY.contract,
    "TaskEscrow": AccountId("0x" + "22" * 20),
}
INFO = ChainInfo(
    name=SEI,
    kind="memory",
    chain_id=713715,
    contracts=CONTRACTS,
    registry=REGISTRY,
    escrow=Domain(ESCROW_NAME, 713715, CONTRACTS["TaskEscrow"]),
    deployed_at=0,
)
COMPUTE = AccountId("compute.deai.testnet")
NEAR_INFO = ChainInfo(
    name=NEAR,
    kind="memory",
    chain_id="near:localnet",
    contracts={"ComputeToken": AccountId("token.deai.testnet"), "NodeRegistry": COMPUTE,
               "TaskEscrow": COMPUTE},
    registry=Domain(REGISTRY_NAME, "near:localnet", COMPUTE),
    escrow=Domain(ESCROW_NAME, "near:localnet", COMPUTE),
    deployed_at=0,
)  # fmt: skip
PARAMETERS = Parameters(
    min_stake=Amount(1000 * UNIT),
    min_fee=Amount(1),
    min_lease=10,
    min_window=10,
    max_span=86_400,
    epoch_seconds=60,
    unbonding_seconds=60,
    weight_fee=Amount(UNIT),
    bounty=Amount(UNIT),
    treasury=AccountId("0x" + "44" * 20),
)


@dataclass
class ScriptedLedger:
    """The reading half of a ledger over a `Chain`: follows it, and can be made unreachable."""

    chain: Chain
    info: ChainInfo = INFO
    is_reachable: bool = True
    full_keys: set[tuple[str, str]] = field(default_factory=set)
    followed_from: list[Cursor | None] = field(default_factory=list)
    rewind_to: int | None = None

    def __post_init__(self) -> None:
        self._grown = trio.Event()

    def grow(self) -> None:
        """What was emitted since is final now: followers hear of it."""
        self._grown.set()
        self._grown = trio.Event()

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        return account == key or (account, key) in self.full_keys

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Ledger]:
        if not self.is_reachable:
            raise LedgerUnreachable("down")
        yield cast("Ledger", self)

    async def parameters(self) -> Parameters:
        if not self.is_reachable:
            raise LedgerUnreachable("down")
        return PARAMETERS

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        self.followed_from.append(cursor)
        batches = self._batches(-1 if cursor is None else cursor.number)
        try:
            yield batches
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def _batches(self, at: int) -> AsyncIterator[EventBatch]:
        while True:
            grown = self._grown
            if not self.is_reachable:
                raise LedgerUnreachable("down")
            rewind, self.rewind_to = self.rewind_to, None
            if rewind is not None:
                at = rewind
            batch = self.chain.batch(above=at, rewind_to=rewind)
            yield batch
            # Not the chain's block: it may have grown while the batch was taken in.
            at = batch.cursor.number
            with trio.move_on_after(0.5):
                await grown.wait()


@dataclass
class Running:
    """A coordinator that serves."""

    url: str
    document: dict[str, Any]
    http: httpx.AsyncClient
    database: Path
    chain: Chain
    ledger: ScriptedLedger
    network: MemoryNetwork
    scope: trio.CancelScope
    near: ScriptedLedger | None = None

    async def get(self, path: str, **query: str | int) -> Any:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    async def until(self, path: str, met: Callable[[Any], bool]) -> Any:
        """The first answer that meets a condition; fails after a minute."""
        document: Any = None

        async def is_met() -> bool:
            nonlocal document
            document = await self.get(path)
            return met(document)

        try:
            await eventually(is_met)
        except trio.TooSlowError as error:
            raise AssertionError(f"{path} got to: {json.dumps(document)[:2000]}") from error
        return document

    async def settle(self) -> None:
        """Let the chain grow by what was emitted, and wait until the index shows it."""
        blocks = {}
        for ledger in (self.ledger, self.near):
            if ledger is not None:
                ledger.grow()
                blocks[ledger.info.name] = ledger.chain.block
        await self.until(
            "/api/v1/network/stats",
            lambda stats: {
                name: stats["chains"].get(name, {}).get("cursor") for name in blocks
            } == blocks,
        )  # fmt: skip


@asynccontextmanager
async def running(
    folder: Path,
    chain: Chain,
    *,
    ledger: ScriptedLedger | None = None,
    near: ScriptedLedger | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """Start a coordinator on free ports; stop it at the end and check that it stopped cleanly."""
    config = CoordinatorConfig(listen="127.0.0.1:0", metrics="127.0.0.1:0", **settings)
    ledger = ledger or ScriptedLedger(chain)
    network = MemoryNetwork()
    database = folder / "coordinator.db"
    async with network.open_net(Identity.generate().peer_id) as net, trio.open_nursery() as nursery:
        chains = {
            one.info.name: FollowedChain(one.info, one.opened)
            for one in (ledger, near)
            if one is not None
        }
        ports = Ports(chains, net)
        start = Starter(config, database, ports, folder / "coordinator.json")
        document = await nursery.start(start)
        async with httpx.AsyncClient(base_url=document["url"], timeout=60) as http:
            yield Running(
                document["url"], document, http, database, chain, ledger, network,
                nursery.cancel_scope, near,
            )  # fmt: skip
        nursery.cancel_scope.cancel()


@dataclass
class Starter:
    """`run` with its arguments, for `nursery.start`."""

    config: CoordinatorConfig
    database: Path
    ports: Ports
    ready_file: Path

    async def __call__(self, task_status: trio.TaskStatus[dict[str, Any]]) -> None:
        await run(
            self.config, self.database, self.ports,
            ready_file=self.ready_file, task_status=task_status,
        )  # fmt: skip


def peer() -> PeerId:
    """A fresh peer id."""
    return Identity.generate().peer_id


def make_offer(chain: Chain, node: NodeId, peer_id: PeerId, **changes: Any) -> Signed:
    """A signed offer of one of the chain's nodes."""
    now = int(time.time())
    fields: dict[str, Any] = {
        "node": node,
        "peer_id": peer_id,
        "addresses": ("/ip4/192.0.2.7/tcp/4001",),
        "version": "0.1.0",
        "sequence": now,
        "issued_at": now,
        "expires_at": now + 600,
        "capacity": 2,
        "sandbox": "full",
        "hardware": Hardware(device="AMD EPYC 7763", cores=16, memory_mib=65536),
        "workloads": (
            WorkloadOffer(
                workload="embedding",
                version=1,
                models=("all-MiniLM-L6-v2",),
                policies=("tol32/1", "none/1"),
                base_fee=Amount(UNIT // 100),
                unit_fee=Amount(UNIT // 10_000),
                milliunits_per_second=412_300,
            ),
            WorkloadOffer(
                workload="portfolio-risk",
                version=1,
                models=(),
                policies=("exact/1",),
                base_fee=Amount(UNIT // 50),
                unit_fee=Amount(UNIT // 20_000),
                milliunits_per_second=88_000,
            ),
        ),
    }
    signer = changes.pop("signer", None) or chain.signers[node]
    return sign_offer(Offer(**(fields | changes)), REGISTRY, signer)


def make_beat(chain: Chain, node: NodeId, peer_id: PeerId, **changes: Any) -> Signed:
    """A signed heartbeat of one of the chain's nodes."""
    fields: dict[str, Any] = {
        "node": node,
        "peer_id": peer_id,
        "sequence": 1,
        "sent_at": int(time.time()),
        "mode": "running",
        "running": 1,
        "queued": 0,
        "completed": 3,
        "failed": 0,
        "head": chain.block,
        "instance": b"instance",
    }
    signer = changes.pop("signer", None) or chain.signers[node]
    return sign_beat(Beat(**(fields | changes)), REGISTRY, signer)
