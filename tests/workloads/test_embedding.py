"""The embedding runner agrees with transformers, text by text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from workloads import embedding
from workloads.models import package_directory
from workloads.runners import embedding as runner
from workloads.spec import ModelFiles, RunnerTask
from workloads.tensors import matrix_values

pytestmark = pytest.mark.slow

TEXTS = [
    "The cat sits outside",
    "a",
    "A man is playing guitar, and the new movie is awesome.",
    "Größe, naïve café – 数学は楽しい 🎉 ¿qué?",
    "  spaces around, and\ttabs\tinside  ",
    "word " * 400,
    "deadline 2024-03-01T00:00:00Z http://example.org/?q=1&r=2",
    "The cat sits outside",
    "\u0000 control \u200b zero width",
    "[CLS] [SEP] [MASK] [PAD]",
    *[f"sentence {'very ' * (n % 40)}long {n}" for n in range(60)],
]


def reference(texts: list[str]) -> Any:
    """sentence-transformers' pipeline for this model: BERT, masked mean, normalise."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(package_directory("all-minilm-l6-v2"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                [text.strip() for text in texts[start : start + 32]],
                padding=True,
                truncation="longest_first",
                max_length=256,
                return_tensors="pt",
            )
            tokens = model(**batch)[0]
            mask = batch["attention_mask"].unsqueeze(-1).expand(tokens.size()).float()
            means = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            found.append(means)
    return torch.cat(found)


def embed(minilm: ModelFiles, texts: list[str], **given: Any) -> Any:
    parameters = embedding.check_parameters(given)
    data = "\n".join(texts).encode()
    task = RunnerTask(parameters, data, minilm, b"", 1)
    output = runner.run(task, lambda fraction: None)
    embedding.check_output(output.data, embedding.check_input(parameters, data))
    return matrix_values(output.data, "embeddings")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_vectors_are_within_1e_5_of_the_reference(minilm: ModelFiles) -> None:
    theirs = reference(TEXTS)
    raw = embed(minilm, TEXTS, normalize=False)
    assert raw.dtype == np.float32
    assert raw.shape == (len(TEXTS), 384)
    assert np.abs(raw - theirs.numpy()).max() < 1e-5
    ours = embed(minilm, TEXTS)
    normal = torch.nn.functional.normalize(theirs, p=2, dim=1).numpy()
    assert np.abs(ours - normal).max() < 1e-6


def test_rows_are_in_the_order_of_the_texts(minilm: ModelFiles) -> None:
    forward = embed(minilm, TEXTS[:12])
    backward = embed(minilm, TEXTS[11::-1])
    assert np.abs(forward - backward[::-1]).max() < 1e-6
    assert np.array_equal(forward[0], forward[7])


def test_a_text_beyond_the_models_length_is_cut(minilm: ModelFiles) -> None:
    rows = embed(minilm, ["word " * 254, "word " * 1000])
    assert np.array_equal(rows[0], rows[1])


def test_batches_hold_one_length_each_and_every_text_once() -> None:
    tokens = [[0] * length for length in (5, 3, 5, 9, 3, 5, 9, 200)]
    found = list(runner.batches(tokens, budget=10))
    assert sorted(index for batch in found for index in batch) == list(range(8))
    assert all(len({len(tokens[index]) for index in batch}) == 1 for batch in found)
    assert all(sum(len(tokens[index]) for index in batch) <= 10 for batch in found[:-1])


def test_a_manifest_of_another_architecture_is_refused(minilm: ModelFiles) -> None:
    for wrong in ({"kind": "gpt/1"}, {"heads": 7}, {"max_tokens": 513}):
        with pytest.raises(ValueError, match=r"manifest's|not a BERT"):
            runner.Sizes.read({**minilm.architecture, **wrong})
