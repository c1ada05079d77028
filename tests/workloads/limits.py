"""Bounds for what a test may use."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from workloads.sandbox.lock import mapped_bytes


@contextmanager
def memory(most: int) -> Iterator[None]:
    """Let this process map at most `most` bytes more than it has mapped now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes() + most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
