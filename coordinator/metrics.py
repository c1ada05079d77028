"""Prometheus metrics of the coordinator; `docs/metrics.md` has a row for each."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One set of metrics per coordinator; every method of them is safe from any thread."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge beside every counter that nobody reads
        self.registry = CollectorRegistry()
        registry = self.registry
        self.events = Counter(
            "deai_coordinator_events_total", "Chain events applied.", ["chain"], registry=registry
        )
        self.rewinds = Counter(
            "deai_coordinator_rewinds_total",
            "Times the chain replaced blocks.",
            ["chain"],
            registry=registry,
        )
        self.head = Gauge(
            "deai_coordinator_head_block", "Newest block heard of.", ["chain"], registry=registry
        )
        self.cursor = Gauge(
            "deai_coordinator_cursor_block", "Newest block applied.", ["chain"], registry=registry
        )
        self.follower_failures = Counter(
            "deai_coordinator_follower_failures_total",
            "Times following a chain had to be started anew.",
            ["chain"],
            registry=registry,
        )
        self.apply_seconds = Histogram(
            "deai_coordinator_apply_seconds",
            "Time to apply and commit one batch of events.",
            registry=registry,
            buckets=_LATENCIES,
        )
        self.beats = Counter(
            "deai_coordinator_beats_total",
            "Messages of nodes to the hub, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.links = Gauge(
            "deai_coordinator_hub_links", "Open links to the hub.", registry=registry
        )
        self.requests = Counter(
            "deai_coordinator_http_requests_total",
            "HTTP requests, by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "deai_coordinator_http_request_seconds",
            "Time to answer an HTTP request.",
            ["route"],
            registry=registry,
            buckets=_LATENCIES,
        )
        self.sockets = Gauge(
            "deai_coordinator_websockets", "Open WebSocket connections.", registry=registry
        )
        self.sockets_dropped = Counter(
            "deai_coordinator_websockets_dropped_total",
            "WebSocket connections closed because they read too slowly.",
            registry=registry,
        )
