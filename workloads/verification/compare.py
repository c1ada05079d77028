"""Tolerance: which outputs are, within a model's thresholds, the same result.

Thresholds are calibrated per model and runtime and live in its manifest: `max_abs`, the largest
difference of any value, relative to the rows' largest value where that exceeds 1; `cosine`, the
largest 1 - cos of any two rows. Comparison happens in binary64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.embedding import OUTPUT_NAME
from workloads.tensors import matrix_values

Values = npt.NDArray[np.float64]


def matrices_agree(outputs: Sequence[bytes], tolerances: Mapping[str, float]) -> list[list[bool]]:
    """Pairwise agreement; an output that cannot be read agrees with nothing, itself included."""
    values = [_read(output) for output in outputs]
    agree = [[False] * len(values) for _ in values]
    for i, left in enumerate(values):
        for j in range(i, len(values)):
            right = values[j]
            same = left is not None and right is not None and _alike(left, right, tolerances)
            agree[i][j] = agree[j][i] = same
    return agree


def distance(left: Values, right: Values) -> dict[str, float]:
    """How far two results of one shape are apart, in the units of the thresholds."""
    scale = max(1.0, float(np.abs(left).max()), float(np.abs(right).max()))
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    # Rows of zeros have no direction: they agree with each other by `max_abs` alone.
    cosines = np.where(lengths > 0, (left * right).sum(1) / np.where(lengths > 0, lengths, 1), 1)
    return {
        "max_abs": float(np.abs(left - right).max()) / scale,
        "cosine": max(0.0, float((1.0 - cosines).max())),
    }


def _alike(left: Values, right: Values, tolerances: Mapping[str, float]) -> bool:
    if left.shape != right.shape:
        return False
    found: Mapping[str, Any] = distance(left, right)
    return all(found[name] <= limit for name, limit in tolerances.items())


def _read(output: bytes) -> Values | None:
    try:
        return matrix_values(output, OUTPUT_NAME).astype(np.float64)
    except ValueError:
        return None
