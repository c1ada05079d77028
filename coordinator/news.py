"""What is worth telling subscribers, by comparing one second with the one before. Pure."""

from __future__ import annotations

from typing import Any, Final

from coordinator.documents import performance
from coordinator.figures import Figures
from coordinator.presence import state_of, status_of

METRICS_SECONDS: Final = 10.0
"""A node whose status stays is told about at most this often."""


class News:
    """Remembers what was told about each node."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, str, dict[str, Any] | None, float]] | None = None

    def of(self, figures: Figures) -> list[tuple[str, dict[str, Any]]]:
        """Events since the last call: nodes that changed, then the network's figures.

        The first call only learns how things are: a restart is no news about any node.
        """
        events = []
        told = {}
        known = self._told
        for row in figures.nodes:
            status = status_of(row, figures.now)
            now = (status, state_of(row, status), performance(row), figures.now)
            before = None if known is None else known.get(row["node_id"])
            is_news = known is not None and (
                before is None
                or before[:2] != now[:2]
                or (before[2] != now[2] and figures.now - before[3] >= METRICS_SECONDS)
            )
            if is_news:
                data = {
                    "node_id": row["node_id"],
                    "chain": row["chain"],
                    "status": status,
                    "state": now[1],
                    "performance_metrics": now[2],
                }
                events.append(("node_status", data))
            told[row["node_id"]] = now if is_news or before is None else before
        self._told = told
        stats = figures.stats
        wanted = ("active_nodes", "pending_tasks", "open_tasks", "throughput")
        events.append(("network_stats", {name: stats[name] for name in wanted}))
        return events
