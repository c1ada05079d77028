"""The figures of the whole network, gathered from the store in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from coordinator import documents
from coordinator.store.reader import THROUGHPUT_SECONDS, Reader
from coordinator.store.rows import Row

DURATIONS: Final = 500
"""Newest completed tasks whose duration counts."""


@dataclass(frozen=True)
class Figures:
    """One moment: what hot routes, pages and live events are made of."""

    now: float
    chains: list[Row]
    nodes: list[Row]
    stats: dict[str, Any]
    _made: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """By chain: what was asked for once. Every page shows it, and each offer is read for it."""

    @property
    def health(self) -> dict[str, Any]:
        """`GET /api/v1/network/health`."""
        return documents.health_document(self.chains, self.stats["active_nodes"], self.now)

    def nodes_stats(self, chain: str = "") -> dict[str, Any]:
        """`GET /api/v1/nodes/stats`, of one chain or of all."""
        if chain not in self._made:
            nodes = [row for row in self.nodes if not chain or row["chain"] == chain]
            self._made[chain] = documents.nodes_stats_document(nodes, self.now)
        return self._made[chain]

    def sums(self, chain: str = "") -> dict[str, Any]:
        """The network's figures of one chain (also of one that is not followed) or of all."""
        found: dict[str, Any] = self.stats if not chain else self.stats["by_chain"].get(chain)
        return found or documents.sums_document(
            chains=[], totals=[], nodes=[], completed=0, window=THROUGHPUT_SECONDS, now=self.now
        )

    @property
    def is_ready(self) -> bool:
        """Whether every chain is followed up to its head."""
        return documents.is_ready(self.chains, self.now)


def gather(reader: Reader, now: float) -> Figures:
    """Read everything once; `now` is Unix seconds."""
    chains = reader.chains()
    nodes = reader.nodes()
    # Chain time, not ours: a throughput does not depend on how far clocks are apart.
    completed = {
        row["chain"]: reader.completed_since(
            row["chain"], (row["head_time"] or 0) - THROUGHPUT_SECONDS
        )
        for row in chains
    }
    stats = documents.stats_document(
        chains=chains,
        totals=reader.totals(),
        nodes=nodes,
        completed=completed,
        window=THROUGHPUT_SECONDS,
        durations=reader.durations(DURATIONS),
        now=now,
    )
    return Figures(now, chains, nodes, stats)
