"""The two networks of the conformance suite, for attackers."""

from __future__ import annotations

from tests.p2p.conftest import clock, world

__all__ = ["clock", "world"]
