"""Sentence embeddings: a BERT encoder in fp32 with mean pooling.

Texts of one length in tokens are computed together, so nothing is padded or masked and a text's
vector does not depend on its neighbours' lengths. Checked against transformers' own BERT.
Shapes: b texts, t tokens, d hidden, h heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from workloads.embedding import OUTPUT_NAME, parse_texts
from workloads.spec import ModelFiles, Report, RunnerOutput, RunnerTask
from workloads.tensors import encode_matrix

TOKENS_PER_BATCH: Final = 2048
CHARACTERS_PER_CALL: Final = 1 << 18
"""Text tokenised at once: what is cut off a long text takes memory until the call returns."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a manifest says about the architecture."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    max_tokens: int
    positions: int
    vocabulary: int
    layer_norm_eps: float

    @classmethod
    def read(cls, architecture: dict[str, Any]) -> Sizes:
        """From the manifest; raise `ValueError` for another kind or impossible sizes."""
        if architecture.get("kind") != "bert-mean/1":
            raise ValueError(f"not a BERT with mean pooling: {architecture.get('kind')}")
        sizes = cls(**{name: architecture[name] for name in cls.__slots__})
        if sizes.hidden % sizes.heads or not 2 < sizes.max_tokens <= sizes.positions:
            raise ValueError("the manifest's sizes contradict each other")
        return sizes


class Encoder:
    """Weights and tokenizer of one model."""

    def __init__(self, model: ModelFiles) -> None:
        self.sizes = Sizes.read(model.architecture)
        self._tokenizer = Tokenizer.from_file(str(model.directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.sizes.max_tokens)
        self._weights = _load(model.directory / "model.safetensors")
        shape = (self.sizes.vocabulary, self.sizes.hidden)
        if tuple(self._weights["embeddings.word_embeddings.weight"].shape) != shape:
            raise ValueError("the weights are not of the size the manifest says")

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids with the model's special tokens, cut at its maximum length."""
        # Surrounding spaces carry no meaning; sentence-transformers drops them too.
        encoded = self._tokenizer.encode_batch([text.strip() for text in texts])
        return [entry.ids for entry in encoded]

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, t] token ids to [b, d] means over the tokens."""
        length = tokens.shape[1]
        x = (
            self._weights["embeddings.word_embeddings.weight"][tokens]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
            + self._weights["embeddings.position_embeddings.weight"][:length]
        )  # [b, t, d]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self.sizes.layers):
            name = f"encoder.layer.{layer}"
            x = self._norm(x + self._attention(x, name), f"{name}.attention.output.LayerNorm")
            inner = F.gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._norm(
                x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm"
            )
        return x.mean(1)

    def _attention(self, x: Tensor, name: str) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            self._linear(x, f"{name}.attention.self.{part}")
            .view(b, t, self.sizes.heads, d // self.sizes.heads)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )  # each [b, h, t, d / h]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d)
        return self._linear(mixed, f"{name}.attention.output.dense")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(x, (self.sizes.hidden,), weight, bias, self.sizes.layer_norm_eps)


_LOADED: Final[dict[str, Encoder]] = {}
"""The one model this worker used last."""


def run(task: RunnerTask, report: Report) -> RunnerOutput:
    """Embed every text of the input, in order."""
    texts = parse_texts(task.input, task.parameters["format"])
    return RunnerOutput(encode_matrix(OUTPUT_NAME, _vectors(task, texts, report)))


def run_many(task: RunnerTask, inputs: Sequence[bytes]) -> list[bytes]:
    """Embed the texts of many inputs together: those of one length share the work."""
    parsed = [parse_texts(data, task.parameters["format"]) for data in inputs]
    vectors = _vectors(task, [text for texts in parsed for text in texts], lambda fraction: None)
    outputs, start = [], 0
    for texts in parsed:
        outputs.append(encode_matrix(OUTPUT_NAME, vectors[start : start + len(texts)]))
        start += len(texts)
    return outputs


def _vectors(task: RunnerTask, texts: list[str], report: Report) -> np.ndarray:
    assert task.model is not None
    torch.set_num_threads(task.threads)
    if task.model.digest not in _LOADED:
        _LOADED.clear()
        _LOADED[task.model.digest] = Encoder(task.model)
    with torch.inference_mode():
        vectors = embed(_LOADED[task.model.digest], texts, report)
        if task.parameters["normalize"]:
            vectors = F.normalize(vectors, dim=1)
    return vectors.numpy()


def warm_up() -> None:
    """Start the tokenizer, the matrix kernels and attention once, before the fork."""
    with torch.inference_mode():
        x = torch.ones(2, 12, 8, 32)
        F.scaled_dot_product_attention(x, x, x)
        F.layer_norm(F.gelu(F.linear(x, torch.ones(16, 32))), (16,)).mean(1)
    np.zeros(1, "<f4").tobytes()


def embed(encoder: Encoder, texts: list[str], report: Report) -> Tensor:
    """[n, d] vectors in the order of `texts`."""
    tokens: list[list[int]] = []
    for part in portions(texts):
        tokens += encoder.tokenize(part)
        report(0.0)
    result = torch.empty(len(texts), encoder.sizes.hidden)
    total = sum(map(len, tokens))
    done = 0
    for batch in batches(tokens):
        ids = torch.tensor([tokens[index] for index in batch], dtype=torch.int64)
        result[batch] = encoder.forward(ids)
        done += ids.numel()
        report(done / total)
    return result


def portions(texts: list[str]) -> Iterator[list[str]]:
    """The texts in order, cut into lists of about `CHARACTERS_PER_CALL`."""
    start = length = 0
    for index, text in enumerate(texts):
        length += len(text)
        if length >= CHARACTERS_PER_CALL or index == len(texts) - 1:
            yield texts[start : index + 1]
            start, length = index + 1, 0


def batches(tokens: list[list[int]], budget: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Indices of texts of one length, at most `budget` tokens together, shortest first."""
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(tokens):
        by_length.setdefault(len(ids), []).append(index)
    for length in sorted(by_length):
        alike = by_length[length]
        step = max(1, budget // length)
        yield from (alike[start : start + step] for start in range(0, len(alike), step))


def _load(path: Path) -> dict[str, Tensor]:
    with safe_open(str(path), framework="pt") as weights:
        return {name: weights.get_tensor(name).clone() for name in weights.keys()}  # noqa: SIM118
