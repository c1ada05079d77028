"""Looks after the node on a chain: clock, gas, disk, standing, what the journal may forget."""

from __future__ import annotations

import shutil
from typing import Final

import structlog
import trio

from deai.chain.gas import GAS
from deai.errors import LimitExceeded, NodeFault, Unreachable
from deai.ids import NEAR
from deai.pools import PoolState
from deai.standing import Standing
from node.services.follower import SILENT_AFTER
from node.state import Node

logger = structlog.get_logger(__name__)

EVERY: Final = 5.0
SKEW: Final = 10
"""Seconds between this machine's clock and the chain's that are worth a word."""
LOW_DISK: Final = 512 << 20
KEEP: Final = 10_000
"""Ended engagements kept at most, whatever their age."""


_STANDINGS: Final = ("not_registered", "jailed", "pool_closed", "not_assignable", "wrong_key")


class Watch:
    """Turns what it sees into problems and solves those that have gone."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rounds = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look every few seconds until cancelled."""
        task_status.started()
        while True:
            await self.look()
            await trio.sleep(EVERY)

    async def look(self) -> None:
        """Look once."""
        self._look_at_chain()
        self._look_at_standing()
        await self._look_at_disk()
        if self._rounds % 12 == 0:
            await self._look_at_gas()
            await self._prune()
        self._rounds += 1

    def _look_at_chain(self) -> None:
        node = self._node
        silence = trio.current_time() - node.head_at
        if silence > SILENT_AFTER:
            node.problem(
                "chain_silent",
                f"no new block for {silence:.0f} s; no new work is taken",
                "check the RPC endpoints in the network file",
            )
            return
        node.solved("chain_silent")
        skew = node.ports.wall() - node.chain_time
        if node.chain_time and abs(skew) > SKEW + silence:
            node.problem(
                "clock",
                f"this machine's clock is {skew:+.0f} s off the chain's",
                "turn on time synchronisation; heartbeats carry this clock",
            )
        else:
            node.solved("clock")

    def _look_at_standing(self) -> None:
        found = self._standing()
        for code in _STANDINGS:
            if found is None or code != found[0]:
                self._node.solved(code)
        if found is not None:
            self._node.problem(*found)

    def _standing(self) -> tuple[str, str, str] | None:
        """Why the node may get no tasks: code, message and hint."""
        node = self._node
        record, pool = node.record, node.pool
        if record is None:
            return "not_registered", "the node is not registered", "deai node init"
        if record.standing is Standing.JAILED:
            leave = "stake unbond --all" if pool is None else f"pool close {node.ports.node}"
            return (
                "jailed",
                "the node was slashed and is jailed; clients pass it over from now on",
                f"take the stake out (deai {leave}) and register another node",
            )
        if pool is not None and pool.state is not PoolState.OPEN:
            return (
                "pool_closed",
                f"the pool that owns the node is {pool.state.label}: it gets no more tasks",
                f"deai pool show {node.ports.node}; another node needs a home of its own",
            )
        if not record.standing.is_assignable:
            return "not_assignable", f"the node is {record.standing.label}", "deai stake status"
        if record.operator != node.ports.signer.account:
            return "wrong_key", "another operator key is registered", "deai stake rotate"
        return None

    async def _look_at_disk(self) -> None:
        node, daemon = self._node, self._node.daemon
        free = shutil.disk_usage(node.ports.blobs.directory).free
        if free < LOW_DISK:
            daemon.problem("disk_low", f"{free >> 20} MiB left on disk", "free some space")
        else:
            daemon.solved("disk_low")
        if "disk_full" not in daemon.problems:
            return
        try:
            await self._prune()
            # Larger than a page: a journal that takes this has room for an engagement.
            await node.ports.journal.remember("probe", bytes(16 * 1024))
            node.ports.blobs.reserve("probe", 1 << 20)
            await node.ports.blobs.delete("probe")
        except (LimitExceeded, NodeFault):
            return
        daemon.solved("disk_full")
        logger.info("disk has room again", action="disk_recovered")

    async def _look_at_gas(self) -> None:
        node = self._node
        try:
            balances = await node.ports.ledger.balances(node.ports.signer.account)
            owner = await node.ports.ledger.balances(node.record_owner)
        except Unreachable:
            return  # the follower reports a chain that does not answer
        gas = GAS[node.info.name]
        if balances.gas < gas.low:
            node.problem(
                "low_gas",
                f"the operator key {node.ports.signer.account} has little left for gas",
                gas.refill,
            )
        elif node.info.name == NEAR and owner.gas < gas.low:
            node.problem(
                "low_gas",
                f"the owner's account {node.record_owner}, which pays, has little left for gas",
                "send it some of the chain's own coin",
            )
        else:
            node.solved("low_gas")

    async def _prune(self) -> None:
        """Forget what is old; where outputs crowd the store, also the oldest that are not."""
        node = self._node
        before, keep = node.chain_time - int(node.config.retention_hours * 3600), KEEP
        try:
            while True:
                gone = await node.ports.journal.prune(before=before, keep=keep)
                await node.ports.blobs.delete(*{key.blob("output") for key in gone})
                if not keep or not node.ports.blobs.is_crowded:
                    return
                keep //= 2
        except (LimitExceeded, NodeFault) as error:
            node.daemon.disk_failed(error)
