"""Latency of an escrowed task of three seats on NEAR: from posting to completed, 1 s blocks."""

from __future__ import annotations

from benchmarks import escrow_latency
from deai.ids import NEAR


def main() -> None:
    """Start a network, measure, stop it."""
    escrow_latency.main(NEAR)


if __name__ == "__main__":
    main()
