"""Cheaper arithmetic is not the same result: `tol32/1` tells it from honest differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deai.tasks import Policy
from workloads.runners.embedding import Encoder, embed
from workloads.spec import ModelFiles
from workloads.verification.compare import distance

pytestmark = [pytest.mark.slow]

TEXTS = [
    "a",
    "the cat sat on the mat",
    "prices fell again",
    "Ünïcödé ¡hola! 数学",
    "a node that computes less than it was paid for is a node that nobody needs",
    " ".join(["settlement", "of", "tasks", "and", "seats"] * 12),
]
MARGIN = 2
"""How far outside the threshold even the cheat nearest to it must be."""


def vectors(encoder: Encoder) -> np.ndarray:
    with torch.inference_mode():
        found = F.normalize(embed(encoder, TEXTS, lambda _: None).float(), dim=1)
    return found.numpy().astype(np.float64)


def rounded(kind: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda weight: weight.to(kind).float()


def eight_bits(weight: torch.Tensor) -> torch.Tensor:
    """Symmetric, one scale a row."""
    if weight.ndim < 2:
        return weight
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round() * scale


def ten_bits(weight: torch.Tensor) -> torch.Tensor:
    """As TF32 tensor cores read it: 10 bits of mantissa, rounded to nearest."""
    return ((weight.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize(
    "change",
    [rounded(torch.float16), rounded(torch.bfloat16), eight_bits, ten_bits],
    ids=["float16", "bfloat16", "int8", "tf32"],
)
def test_cheaper_weights_are_outside_the_threshold_for_every_text(
    minilm: ModelFiles, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    honest, cheat = Encoder(minilm), Encoder(minilm)
    cheat._weights = {name: change(weight) for name, weight in cheat._weights.items()}
    _is_told_apart(minilm, vectors(honest), vectors(cheat))


def test_a_layer_less_is_outside_the_threshold_for_every_text(minilm: ModelFiles) -> None:
    honest, cheat = Encoder(minilm), Encoder(minilm)
    cheat.sizes = dataclasses.replace(cheat.sizes, layers=cheat.sizes.layers - 1)
    _is_told_apart(minilm, vectors(honest), vectors(cheat))


def test_bfloat16_products_are_outside_the_threshold_for_every_text(
    minilm: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, linear = Encoder(minilm), F.linear
    honest = vectors(encoder)

    def cheap(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return linear(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).float()

    monkeypatch.setattr(F, "linear", cheap)
    _is_told_apart(minilm, honest, vectors(encoder))


def _is_told_apart(model: ModelFiles, honest: np.ndarray, cheat: np.ndarray) -> None:
    limit = model.tolerances[Policy.TOL32.label]["max_abs"] * MARGIN
    for row in range(len(TEXTS)):
        found = distance(honest[row : row + 1], cheat[row : row + 1])
        assert found["max_abs"] > limit, (TEXTS[row], found)
