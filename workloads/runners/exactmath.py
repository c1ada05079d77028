"""Arithmetic whose bits are the same on every machine.

Only what IEEE 754 rounds correctly (+, -, ×, ÷, rounding to integers) and integer operations, one
tensor operation at a time, so that nothing is contracted into a fused multiply-add. torch's own
`exp`, `log`, `randn` and `sum` differ between instruction sets or thread counts, and so does its
`sqrt`: of binary64 it is MKL's, which on AVX-512 is not correctly rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_WORD: Final = 0xFFFFFFFF
_PHILOX_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_PHILOX_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS: Final = 10
SUM_WIDTH: Final = 1 << 15
"""Values per partial sum; part of the definition of a result, never a tuning knob."""

_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 6.93147180369123816490e-01  # 33 bits, so that n × it is exact (fdlibm)
_LN2_LOW: Final = 1.90821492927058770002e-10
_EXP_TERMS: Final = tuple(1.0 / math.factorial(k) for k in range(13, 1, -1))
_LOG_TERMS: Final = tuple(1.0 / k for k in range(23, 2, -2))
_SQRT_GUESS: Final = 0x1FF7A3BEA91D9B1B
_SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD

# Wichura (1988), algorithm AS 241, PPND16: relative error about 1e-16.
_CENTRE: Final = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL: Final = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR_TAIL: Final = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def philox(counter: Sequence[Tensor | int], key: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 (Salmon et al., 2011): four 32-bit words, held in int64, per counter.

    `counter` is four words (at least the first a tensor), `key` 64 bits. Products wrap modulo
    2^64, as torch's integers do; the shifts are followed by a mask, so the sign does not matter.
    """
    c0, c1, c2, c3 = (torch.as_tensor(word, dtype=torch.int64) for word in counter)
    k0, k1 = key & _WORD, key >> 32
    for _ in range(_PHILOX_ROUNDS):
        p0, p1 = c0 * _PHILOX_MULTIPLIERS[0], c2 * _PHILOX_MULTIPLIERS[1]
        c0, c2 = (p1 >> 32 & _WORD) ^ c1 ^ k0, (p0 >> 32 & _WORD) ^ c3 ^ k1
        c1, c3 = p1 & _WORD, p0 & _WORD
        k0, k1 = k0 + _PHILOX_WEYL[0] & _WORD, k1 + _PHILOX_WEYL[1] & _WORD
    return c0, c1, c2, c3


def uniform(high: Tensor, low: Tensor) -> Tensor:
    """Two 32-bit words to a binary64 in (0, 1): an odd multiple of 2^-53, so never 0 or 1."""
    bits = (high << 20) | (low >> 12)
    return (bits * 2 + 1).to(torch.float64) * 2.0**-53


def normal(probability: Tensor) -> Tensor:
    """The standard normal quantile of probabilities in (0, 1)."""
    offset = probability - 0.5
    result = offset * _ratio(_CENTRE, 0.180625 - offset * offset)
    outside = (offset.abs() > 0.425).nonzero().squeeze(-1)
    if outside.numel():
        side = offset[outside]
        nearest = torch.minimum(probability[outside], 1.0 - probability[outside])
        root = sqrt(-log(nearest))
        near, far = _ratio(_TAIL, root - 1.6), _ratio(_FAR_TAIL, root - 5.0)
        size = torch.where(root <= 5.0, near, far)
        result[outside] = torch.where(side < 0.0, -size, size)
    return result


def exp(x: Tensor) -> Tensor:
    """e^x for |x| ≤ 700, to about one unit in the last place."""
    steps = torch.round(x * _LOG2_E)
    r = (x - steps * _LN2_HIGH) - steps * _LN2_LOW
    series = _horner(_EXP_TERMS, r)
    value = (series * (r * r) + r) + 1.0
    return value * ((steps.to(torch.int64) + 1023) << 52).view(torch.float64)


def log(x: Tensor) -> Tensor:
    """Natural logarithm of positive normal numbers, to about one unit in the last place."""
    bits = x.view(torch.int64) - _SQRT_HALF_BITS
    exponent = bits >> 52
    mantissa = (x.view(torch.int64) - (exponent << 52)).view(torch.float64)  # in [√½, √2)
    f = mantissa - 1.0
    s = f / (mantissa + 1.0)
    square = s * s
    series = _horner(_LOG_TERMS, square) * square
    steps = exponent.to(torch.float64)
    return steps * _LN2_HIGH + (steps * _LN2_LOW + (s * 2.0 + (s * 2.0) * series))


def sqrt(x: Tensor) -> Tensor:
    """Square root of positive normal numbers by Heron's rule, to about one last place."""
    # Half the exponent is a guess within 3.5 %; each step squares the error.
    root = ((x.view(torch.int64) >> 1) + _SQRT_GUESS).view(torch.float64)
    for _ in range(4):
        root = (root + x / root) * 0.5
    return root


def tree_sum(values: Tensor) -> float:
    """The sum of a vector: pairwise within blocks of `SUM_WIDTH`, blocks from first to last."""
    blocks = torch.nn.functional.pad(values, (0, -values.numel() % SUM_WIDTH))
    rows = blocks.view(-1, SUM_WIDTH)
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        rows = rows[:, :half] + rows[:, half:]
    total = 0.0
    for partial in rows[:, 0].tolist():
        total += partial
    return total


class TreeSum:
    """`tree_sum` of several vectors of one length that arrive in pieces, none of them kept."""

    def __init__(self, rows: int) -> None:
        self._totals = [0.0] * rows
        self._rest = torch.empty((rows, 0), dtype=torch.float64)

    def add(self, piece: Tensor) -> None:
        """The next values of each vector: [rows, any length]."""
        waiting = torch.cat((self._rest, piece), 1)
        whole = waiting.shape[1] - waiting.shape[1] % SUM_WIDTH
        for start in range(0, whole, SUM_WIDTH):
            self._take(waiting[:, start : start + SUM_WIDTH])
        self._rest = waiting[:, whole:].clone()

    def totals(self) -> list[float]:
        """The sums, once every piece was added."""
        missing = -self._rest.shape[1] % SUM_WIDTH
        self.add(torch.zeros((len(self._totals), missing), dtype=torch.float64))
        return self._totals

    def _take(self, block: Tensor) -> None:
        for row, values in enumerate(block):
            self._totals[row] += tree_sum(values)


def _horner(terms: Sequence[float], x: Tensor) -> Tensor:
    value = x * terms[0]
    for term in terms[1:-1]:
        value = (value + term) * x
    return value + terms[-1]


def _ratio(pair: tuple[tuple[float, ...], tuple[float, ...]], x: Tensor) -> Tensor:
    return _horner(pair[0], x) / _horner(pair[1], x)
