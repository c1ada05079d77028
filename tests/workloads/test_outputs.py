"""Only canonical, finite results are hashed, compared and converted."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import numpy as reference

from deai.errors import WorkloadFault
from tests.workloads import limits
from workloads.inputs import InstalledWorkloads
from workloads.tensors import convert, decode_matrix, encode_matrix, matrix_values
from workloads.verification.compare import distance, matrices_agree

SMALL = np.array([[1.0, -0.25, 3e-8], [0.1, 2.0, -7.5]], np.float32)
GOOD = encode_matrix("embeddings", SMALL)

matrices = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.floats(-(2.0**99), 2.0**99, width=32),
)


@given(matrices)
def test_a_matrix_is_what_safetensors_would_read(values: np.ndarray) -> None:
    data = encode_matrix("embeddings", values)
    assert np.array_equal(reference.load(data)["embeddings"], values)
    assert np.array_equal(matrix_values(data, "embeddings"), values)


def header(text: str, body: bytes = GOOD[-24:]) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 100,
        GOOD[:-1],
        GOOD + b"\0",
        GOOD[:-4] + struct.pack("<f", float("nan")),
        GOOD[:-4] + struct.pack("<f", float("inf")),
        encode_matrix("other", SMALL),
        encode_matrix("embeddings", SMALL[:0]),
        header('{"embeddings":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'),
        header('{"embeddings": {"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}     '),
        header('{"embeddings":{"dtype":"F16","shape":[2,6],"data_offsets":[0,24]}}      '),
        header('{"embeddings":{"dtype":"F32","shape":[02,3],"data_offsets":[0,24]}}     '),
        header('{"embeddings":{"dtype":"F32","shape":[2,3],"data_offsets":[0,999]}}     '),
        header('{"embeddings":{"dtype":"F32","shape":[999999999,999999999],"data_offsets":[0,4]}}'),
        reference.save({"embeddings": SMALL}, metadata={"a": "b"}),
    ],
)
def test_any_other_bytes_are_no_result(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_matrix(data, "embeddings")


@given(st.integers(0, len(GOOD) - 25), st.integers(1, 255))
def test_no_other_header_is_canonical(position: int, change: int) -> None:
    bent = bytearray(GOOD)
    bent[position] ^= change
    with pytest.raises(ValueError, match=r".+"):
        decode_matrix(bytes(bent), "embeddings")


def test_outputs_agree_only_within_the_thresholds() -> None:
    limits = {"max_abs": 1e-5, "cosine": 1e-10}
    values = np.random.default_rng(3).standard_normal((20, 384)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    near, far = values.copy(), values.copy()
    near[3, 5] += 1e-6
    far[19, 383] += 3e-5
    shapes = [values, near, far, values[:19], -values, values[::-1]]
    outputs = [encode_matrix("embeddings", m) for m in shapes] + [b"", b"\0" * 100]
    agree = matrices_agree(outputs, limits)
    assert agree[0] == [True, True, False, False, False, False, False, False]
    assert agree[2][2]
    assert agree[6] == agree[7] == [False] * 8
    assert all(agree[i][j] == agree[j][i] for i in range(8) for j in range(8))


def test_large_outputs_of_others_keep_nobody_from_judging() -> None:
    tolerances = {"max_abs": 1e-5, "cosine": 1e-10}
    small = encode_matrix("embeddings", np.ones((10_000, 384), np.float32))
    large = [
        encode_matrix("embeddings", np.full((20_000, 384), n, np.float32)) for n in range(1, 6)
    ]
    with limits.memory(100 << 20):  # as binary64 the large ones alone are 300 MB
        agree = matrices_agree([small, *large, large[0]], tolerances)
    assert agree[0] == [True, *[False] * 6]
    assert agree[1] == [False, True, False, False, False, False, True]


def test_a_difference_is_found_in_any_row() -> None:
    tolerances = {"max_abs": 1e-5, "cosine": 1e-10}
    values = np.ones((5000, 3), np.float32)
    other = values.copy()
    other[4999, 2] += 1e-3
    outputs = [encode_matrix("embeddings", one) for one in (values, other)]
    assert matrices_agree(outputs, tolerances) == [[True, False], [False, True]]


def test_rows_of_zeros_agree_with_each_other_only() -> None:
    zeros, ones = np.zeros((2, 3)), np.ones((2, 3))
    assert distance(zeros, zeros) == {"max_abs": 0.0, "cosine": 0.0}
    assert distance(zeros, ones)["max_abs"] == 1.0


def test_results_convert_to_files_that_numpy_and_json_read() -> None:
    saved = convert(GOOD, "embeddings", ".npy")
    assert saved is not None
    assert np.array_equal(np.load(io.BytesIO(saved), allow_pickle=False), SMALL)
    lines = convert(GOOD, "embeddings", ".jsonl")
    assert lines is not None
    rows = [json.loads(line) for line in lines.decode().splitlines()]
    assert np.array_equal(np.array(rows, np.float32), SMALL)


def test_a_form_that_does_not_exist_is_refused() -> None:
    catalogue = InstalledWorkloads.load()
    with pytest.raises(WorkloadFault):
        catalogue.convert("embedding", GOOD, ".pkl")
    with pytest.raises(WorkloadFault):
        catalogue.convert("embedding", b"junk", ".npy")
    assert json.loads(catalogue.convert("portfolio-risk", b'{"a":1}', ".json")) == {"a": 1}
