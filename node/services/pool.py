"""Looks after the pool of a node that takes delegations: shares out income, pays what is due.

Anybody may advance a pool; its own node does it, so that nobody has to. The operator's key pays. An
intent is named by its occasion, so a node that was killed in between does nothing twice: each
batch is started and paid once, and income is shared out once in `advance_hours` at most.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import structlog
import trio

from deai.actions import AdvancePool
from deai.chain.ledger import POOLS_CONTRACT, PricesGas
from deai.chain.pool_income import waiting_income
from deai.errors import Declined, InsufficientFunds, LedgerRejected, Unreachable
from deai.pools import PoolRecord
from node.config import Pool
from node.daemon import Mode
from node.state import Node

logger = structlog.get_logger(__name__)

EVERY: Final = 30.0
PAUSES: Final = (30.0, 300.0, 1800.0)
"""After one failure, two, and more."""
HOUR: Final = 3600
_PROBLEM: Final = "advance_failed"


def why_advance(
    pool: PoolRecord,
    income: int,
    settings: Pool,
    *,
    chain_time: int,
    gas_price: int,
    shared_at: int = 0,
) -> str:
    """The occasion to advance a pool, which names the intent; empty to wait.

    `income` is what waits to be shared out, `shared_at` when that was done last, as far as is
    known: the number of a period keeps it from being repeated after a restart. Who waits for
    money is not kept waiting by what gas costs: that is once for each batch, and the payment of
    one starts the next.
    """
    if pool.matures_at and chain_time > pool.matures_at:
        return f"pay:{pool.matures_at}"
    if settings.max_gas_price and gas_price > settings.max_gas_price:
        return ""
    period = max(1, int(settings.advance_hours * HOUR))
    if income and income >= settings.least and chain_time - shared_at >= period:
        return f"share:{chain_time // period}"
    return ""


class PoolCare:
    """Advances the pool of one node until cancelled; ends at once where there is none."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._done = ""
        self._shared_at = 0
        self._refused: Counter[str] = Counter()

    async def run(self) -> None:
        """Look every half minute, more rarely after failures."""
        failures = 0
        while POOLS_CONTRACT in self._node.info.contracts:
            try:
                await self.look()
                failures = 0
            except (Unreachable, Declined) as error:
                failures += 1
                self._node.problem(_PROBLEM, f"the pool is not advanced: {error}", error.hint)
                logger.warning("pool not advanced", action="advance", reason=str(error))
            if self._node.pool is None and self._node.record is not None:
                return
            await trio.sleep(PAUSES[min(failures, len(PAUSES)) - 1] if failures else EVERY)

    async def look(self) -> None:
        """Learn how the pool is, and advance it if there is an occasion; raises as `submit`."""
        node = self._node
        await self._read()
        if node.pool is None or node.mode is Mode.DRAINING:
            return
        why = why_advance(
            node.pool, node.pool_income, node.config.pool,
            chain_time=node.chain_time, gas_price=node.gas_price, shared_at=self._shared_at,
        )  # fmt: skip
        if why and why != self._done:
            await self._advance(why)
        node.solved(_PROBLEM)

    async def _read(self) -> None:
        node, ledger = self._node, self._node.ports.ledger
        node.pool = await ledger.pool(node.ports.node)
        if node.pool is None:
            return
        node.pool_income = await waiting_income(ledger, node.record_owner)
        asks = node.config.pool.max_gas_price and node.pool_income
        if asks and isinstance(ledger, PricesGas):
            node.gas_price = await ledger.gas_price()

    async def _advance(self, why: str) -> None:
        node = self._node
        key = f"advance:{node.ports.node}:{why}" + f"#{self._refused[why]}"
        try:
            done = await node.ports.ledger.submit(AdvancePool(node.ports.node), key=key)
        except LedgerRejected as error:
            # Right another time, perhaps: another intent. Money for gas is the same one's.
            if not isinstance(error, InsufficientFunds):
                self._refused = Counter({why: self._refused[why] + 1})
            raise
        self._done, self._shared_at = why, done.time
        node.gas_price = done.gas_price or node.gas_price
        node.counters["submitted.advance"] += 1
        logger.info("pool advanced", action="advance", why=why, transaction=done.hash)
        await self._read()
