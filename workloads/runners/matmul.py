"""Device proof: chained products of small integers, exact in fp32, hashed round by round.

Entries lie in [-15, 15], so a sum of at most 8192 products stays below 2^21: exact in fp32 in
any order and with any kernel. Each product, reduced, is the next left factor, so no round can
be skipped; the digest runs over every product.
"""

from __future__ import annotations

import hashlib
import time
from typing import Final

import torch
from torch import Tensor

from workloads.matmul import encode_digest
from workloads.runners.exactmath import philox
from workloads.spec import Report, RunnerOutput, RunnerTask

_SPAN: Final = 31
_MIX: Final = 40503
_ROWS_HASHED: Final = 1024


def run(task: RunnerTask, report: Report) -> RunnerOutput:
    """Multiply, hash, and time the multiplications alone."""
    torch.set_num_threads(task.threads)
    size, rounds = task.parameters["size"], task.parameters["rounds"]
    with torch.inference_mode():
        left = _seeded(task.parameters["seed"], size, 0)
        right = _seeded(task.parameters["seed"], size, 1)
        digest = hashlib.sha256()
        spent = 0.0
        for index in range(rounds):
            started = time.perf_counter()
            product = left @ right
            spent += time.perf_counter() - started
            left = _fold(product.to(torch.int32), digest)
            report((index + 1) / rounds)
    speed = 2.0 * size**3 * rounds / max(spent, 1e-9)
    return RunnerOutput(
        encode_digest(digest.hexdigest()),
        measurements={"multiply_seconds": spent, "operations_per_second": speed},
    )


def warm_up() -> None:
    """Touch the kernels once, before the fork."""
    run(
        RunnerTask({"seed": 0, "size": 64, "rounds": 1}, b"", None, b"", 1),
        lambda fraction: None,
    )


def _seeded(seed: int, size: int, which: int) -> Tensor:
    """A [size, size] matrix from Philox counters (index, which)."""
    rows = []
    for start in range(0, size * size // 4, 1 << 16):
        numbers = torch.arange(start, min(start + (1 << 16), size * size // 4), dtype=torch.int64)
        words = philox((numbers, which, 0, 0), seed)
        rows.append(torch.stack(words, 1).flatten() % _SPAN - _SPAN // 2)
    return torch.cat(rows).to(torch.float32).view(size, size)


def _fold(product: Tensor, digest: hashlib._Hash) -> Tensor:
    """Hash a product as little-endian int32 rows, and reduce it to the next left factor."""
    size = product.shape[0]
    rows = []
    for start in range(0, size, _ROWS_HASHED):
        part = product[start : start + _ROWS_HASHED]
        digest.update(part.contiguous().numpy().astype("<i4", copy=False).tobytes())
        mixed = (part.to(torch.int64) * _MIX) >> 5
        rows.append((mixed % _SPAN - _SPAN // 2).to(torch.float32))
    return torch.cat(rows)
