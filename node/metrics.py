"""Prometheus metrics of a node: read from its live state when asked, kept nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import psutil
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from node.daemon import Daemon, Mode
from node.documents import lane, problems
from node.orders.records import OrderState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    def __init__(self, daemon: Daemon, paid: int) -> None:
        self._daemon = daemon
        self._paid = paid

    def collect(self) -> Iterator[Metric]:
        """Every row of docs/metrics.md, section "Node"."""
        daemon, nodes = self._daemon, self._daemon.nodes
        counters = sum((node.counters for node in nodes), Counter[str]())
        seats = sum(len(node.engagements) for node in nodes)
        hubs = {peer for node in nodes for peer in node.hubs}
        yield _gauge("deai_node_running_tasks", "Tasks in a worker now", daemon.running)
        yield _gauge("deai_node_open_seats", "Seats accepted and not ended", seats)
        yield _gauge("deai_node_capacity", "Tasks computed at once", daemon.config.capacity)
        yield _gauge("deai_node_hubs", "Hubs that confirm heartbeats", len(hubs))
        yield _gauge("deai_node_problems", "Problems that stand now", len(problems(daemon)))
        heads = GaugeMetricFamily("deai_node_chain_head", "Newest block seen", labels=["chain"])
        lags = GaugeMetricFamily(
            "deai_node_chain_lag_seconds", "Since the last new block", labels=["chain"]
        )
        for node in nodes:
            if node.head is not None:
                heads.add_metric([node.info.name], node.head.number)
                lags.add_metric([node.info.name], max(0.0, trio.current_time() - node.head_at))
        yield heads
        yield lags
        rss = psutil.Process().memory_info().rss
        yield _gauge("deai_node_resident_bytes", "Memory of the daemon, workers excluded", rss)
        used = max((node.ports.blobs.used for node in nodes), default=0)
        yield _gauge("deai_node_store_bytes", "Inputs and outputs on disk", used)
        age = daemon.wall() - daemon.started_at
        yield _gauge("deai_node_uptime_seconds", "Since the daemon started", max(0.0, age))
        modes = GaugeMetricFamily("deai_node_mode", "1 for the present mode", labels=["mode"])
        for mode in Mode:
            modes.add_metric([mode.value], float(daemon.mode is mode))
        yield modes
        yield from _lane(daemon, counters)
        yield from _orders(daemon, counters)
        # Tokens, not base units: a float holds 18 decimals of neither, and says so in the docs.
        yield _counter("deai_node_paid_tokens", "Earned by settled seats", self._paid / 10**18)
        yield _labelled(counters, "deai_node_ended", "Seats ended, by outcome", "ended.", "outcome")
        yield _labelled(counters, "deai_node_declined", "Not taken or done", "reason.", "reason")
        yield _labelled(counters, "deai_node_transactions", "Sent", "submitted.", "verb")
        yield _labelled(counters, "deai_node_units", "Cost units computed", "units.", "workload")
        for name, text in (
            ("proposals", "Seats asked for"),
            ("accepted", "Seats accepted"),
            ("computed", "Results signed"),
            ("bad_blobs", "Blobs that were not what they claimed"),
            ("bad_openings", "Openings that fit no commitment"),
        ):
            yield _counter(f"deai_node_{name}", text, counters[name])


def _lane(daemon: Daemon, counters: Counter[str]) -> Iterator[Metric]:
    """Of the fast lane, all chains together; tokens, not base units."""
    parts = [part for branch in daemon.branches if (part := lane(daemon, branch)) is not None]

    def tokens(key: str) -> float:
        return sum(int(part[key]) for part in parts) / 10**18

    for name, text in (
        ("tasks", "Tasks computed in the fast lane"),
        ("faults", "Tasks of the lane that could not be computed"),
        ("worker_deaths", "Workers that ended over tasks of the lane"),
        ("vouchers", "Vouchers taken"),
    ):
        yield _counter(f"deai_node_lane_{name}", text, counters[f"lane.{name}"])
    promised = counters["lane.promised"] / 10**18
    yield _counter("deai_node_lane_promised_tokens", "Promised by vouchers", promised)
    clients = sum(part["linked"] for part in parts)
    yield _gauge("deai_node_lane_clients", "Channels with a link", clients)
    yield _gauge(
        "deai_node_lane_queued", "Tasks that wait in the lane", sum(p["queued"] for p in parts)
    )
    yield _gauge("deai_node_lane_owed_tokens", "Delivered and not promised", tokens("owed"))
    yield _gauge("deai_node_lane_credit_tokens", "What clients may owe", tokens("credit"))
    yield _gauge(
        "deai_node_lane_unredeemed_tokens", "Promised and not redeemed", tokens("unredeemed")
    )
    flush = daemon.book.writer.flush_seconds if daemon.book is not None else 0.0
    yield _gauge("deai_node_lane_flush_seconds", "What making vouchers durable takes", flush)


def _orders(daemon: Daemon, counters: Counter[str]) -> Iterator[Metric]:
    """Of signed orders, all chains together; tokens, not base units."""
    held = [
        one.held for node in daemon.nodes if node.orders is not None
        for one in node.orders.live.values()
    ]  # fmt: skip
    secured = [one for one in held if one.state is OrderState.SECURED]
    pending = sum(int(one.order.fee) for one in secured) / 10**18
    risk = sum(int(one.order.fee) for one in held if one.is_at_risk) / 10**18
    yield _gauge("deai_node_orders_open", "Signed orders that are not over", len(held))
    yield _gauge("deai_node_orders_secured", "Of those, to be settled", len(secured))
    yield _gauge("deai_node_orders_pending_tokens", "Fees that wait for settlement", pending)
    yield _gauge("deai_node_orders_at_risk_tokens", "Fees of work without a quorum", risk)
    yield _counter("deai_node_orders_settled", "Orders that paid", counters["orders.settled"])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(counters: Counter[str], name: str, text: str, prefix: str, label: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in sorted(counters.items()):
        if key.startswith(prefix):
            family.add_metric([key.removeprefix(prefix)], count)
    return family


def render(daemon: Daemon, paid: int) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(daemon, paid))
    return generate_latest(registry)
