"""Prometheus metrics of a node: read from its live state when asked, kept nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from node.state import Mode, Node

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    def __init__(self, node: Node, paid: int) -> None:
        self._node = node
        self._paid = paid

    def collect(self) -> Iterator[Metric]:
        """Every row of docs/metrics.md, section "Node"."""
        node = self._node
        yield _gauge("deai_node_running_tasks", "Tasks in a worker now", node.running)
        yield _gauge("deai_node_open_seats", "Seats accepted and not ended", len(node.engagements))
        yield _gauge("deai_node_capacity", "Tasks computed at once", node.config.capacity)
        yield _gauge("deai_node_hubs", "Hubs that confirm heartbeats", len(node.hubs))
        yield _gauge("deai_node_problems", "Problems that stand now", len(node.problems))
        head = node.head.number if node.head is not None else 0
        yield _gauge("deai_node_chain_head", "Newest block seen", head)
        lag = max(0.0, trio.current_time() - node.head_at) if node.head is not None else 0.0
        yield _gauge("deai_node_chain_lag_seconds", "Since the last new block", lag)
        rss = psutil.Process().memory_info().rss
        yield _gauge("deai_node_resident_bytes", "Memory of the daemon, workers excluded", rss)
        yield _gauge("deai_node_store_bytes", "Inputs and outputs on disk", node.ports.blobs.used)
        age = node.ports.wall() - node.started_at
        yield _gauge("deai_node_uptime_seconds", "Since the daemon started", max(0.0, age))
        modes = GaugeMetricFamily("deai_node_mode", "1 for the present mode", labels=["mode"])
        for mode in Mode:
            modes.add_metric([mode.value], float(node.mode is mode))
        yield modes
        # Tokens, not base units: a float holds 18 decimals of neither, and says so in the docs.
        yield _counter("deai_node_paid_tokens", "Earned by settled seats", self._paid / 10**18)
        yield _labelled(node, "deai_node_ended", "Seats ended, by outcome", "ended.", "outcome")
        yield _labelled(node, "deai_node_declined", "Not taken or done", "reason.", "reason")
        yield _labelled(node, "deai_node_transactions", "Sent", "submitted.", "verb")
        yield _labelled(node, "deai_node_units", "Cost units computed", "units.", "workload")
        for name, text in (
            ("proposals", "Seats asked for"),
            ("accepted", "Seats accepted"),
            ("computed", "Results signed"),
            ("bad_blobs", "Blobs that were not what they claimed"),
            ("bad_openings", "Openings that fit no commitment"),
        ):
            yield _counter(f"deai_node_{name}", text, node.counters[name])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(node: Node, name: str, text: str, prefix: str, label: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in sorted(node.counters.items()):
        if key.startswith(prefix):
            family.add_metric([key.removeprefix(prefix)], count)
    return family


def render(node: Node, paid: int) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(node, paid))
    return generate_latest(registry)
