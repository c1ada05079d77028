"""Tolerance: which outputs are, within a model's thresholds, the same result.

Thresholds are calibrated per model and runtime and live in its manifest: `max_abs`, the largest
difference of any value, relative to the rows' largest value where that exceeds 1; `cosine`, the
largest 1 - cos of any two rows. Comparison happens in binary64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from workloads.embedding import OUTPUT_NAME
from workloads.tensors import matrix_values

Values = npt.NDArray[np.float32] | npt.NDArray[np.float64]
ROWS: Final = 1024
"""Compared at once: a committee's outputs of 64 MiB each must not be in memory as binary64 too."""


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
    return list(_distances(left, right))[-1]


def _distances(left: Values, right: Values) -> Iterator[dict[str, float]]:
    """The distance of ever more rows; the last is that of all."""
    scale = max(1.0, _largest(left), _largest(right))
    apart = turned = 0.0
    for start in range(0, len(left), ROWS):
        a = left[start : start + ROWS].astype(np.float64)
        b = right[start : start + ROWS].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
        # Rows of zeros have no direction: they agree with each other by `max_abs` alone.
        products = np.einsum("ij,ij->i", a, b)
        cosines = np.divide(products, lengths, out=np.ones_like(lengths), where=lengths > 0)
        turned = max(turned, float((1.0 - cosines).max()))
        np.subtract(a, b, out=a)
        apart = max(apart, _largest(a))
        yield {"max_abs": apart / scale, "cosine": turned}


def _largest(values: Values) -> float:
    return max(float(values.max()), -float(values.min()))


def _alike(left: Values, right: Values, tolerances: Mapping[str, float]) -> bool:
    if left.shape != right.shape:
        return False
    # What differs mostly does so from the first rows on: the rest is not looked at.
    return all(
        found[name] <= limit
        for found in _distances(left, right)
        for name, limit in tolerances.items()
    )


def _read(output: bytes) -> npt.NDArray[np.float32] | None:
    try:
        return matrix_values(output, OUTPUT_NAME)
    except ValueError:
        return None
