"""Bad input has one code, found by parsing alone; good input has one price."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from deai.codec import decode_value
from deai.errors import WorkloadFault
from deai.ports import Catalogue
from deai.tasks import FaultCode
from tests.workloads import limits
from workloads.inputs import InstalledWorkloads
from workloads.text import parse_json

CATALOGUE: Catalogue = InstalledWorkloads.load()
EMBEDDING = CATALOGUE.parameters("embedding", {})
JSONL = CATALOGUE.parameters("embedding", {"format": "jsonl"})
ECHO = CATALOGUE.parameters("echo", {})
RISK = CATALOGUE.parameters("portfolio-risk", {})
PORTFOLIO: dict[str, Any] = {
    "positions": [{"asset": "A", "value": 100.0}, {"asset": "B", "value": -50}],
    "assets": [
        {"name": "A", "drift": 0.05, "volatility": 0.2},
        {"name": "B", "drift": 0.01, "volatility": 0.3},
        {"name": "C", "drift": 0.0, "volatility": 0.0},
    ],
    "correlation": [[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]],
    "scenarios": [{"name": "crash", "shocks": {"A": -0.3}}],
}


def fault_of(workload: str, parameters: bytes, data: bytes) -> FaultCode:
    with pytest.raises(WorkloadFault) as caught:
        CATALOGUE.check(workload, parameters, data)
    return FaultCode(caught.value.fault)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", FaultCode.MALFORMED_INPUT),
        (b"\n", FaultCode.MALFORMED_INPUT),
        (b"one\n\ntwo\n", FaultCode.MALFORMED_INPUT),
        (b"one\n \t \ntwo\n", FaultCode.MALFORMED_INPUT),
        (b"one\r\n\r\n", FaultCode.MALFORMED_INPUT),
        (b"one\n\n", FaultCode.MALFORMED_INPUT),
        (b"\xff\xfe", FaultCode.MALFORMED_INPUT),
        (b"caf\xe9\n", FaultCode.MALFORMED_INPUT),
        (b"\xed\xa0\x80", FaultCode.MALFORMED_INPUT),
        (b"x\n" * 10_001, FaultCode.TOO_MANY_ITEMS),
        (b"x" * 2_000_000, FaultCode.ITEM_TOO_LARGE),
        (b"ok\n" + b"x" * (64 * 1024 + 1), FaultCode.ITEM_TOO_LARGE),
        ("ö".encode() * (32 * 1024 + 1), FaultCode.ITEM_TOO_LARGE),
        (b"x" * (64 * 1024 * 1024 + 1), FaultCode.INPUT_TOO_LARGE),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_text_has_its_code(data: bytes, code: FaultCode) -> None:
    assert fault_of("embedding", EMBEDDING, data) is code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{}", FaultCode.MALFORMED_INPUT),
        (b"[]", FaultCode.MALFORMED_INPUT),
        (b'"x"', FaultCode.MALFORMED_INPUT),
        (b'{"text": 1}', FaultCode.MALFORMED_INPUT),
        (b'{"text": " "}', FaultCode.MALFORMED_INPUT),
        (b'{"text": "a", "more": 1}', FaultCode.MALFORMED_INPUT),
        (b'{"text": "a", "text": "b"}', FaultCode.MALFORMED_INPUT),
        (b'{"text": "\\ud800"}', FaultCode.MALFORMED_INPUT),
        (b'{"text": NaN}', FaultCode.NOT_FINITE),
        (b'{"text": 1e999}', FaultCode.NOT_FINITE),
        (b'{"text": "a"', FaultCode.MALFORMED_INPUT),
        (b'{"text": ' + b"[" * 100_000, FaultCode.MALFORMED_INPUT),
        (b'{"text": ' + b"9" * 5000 + b"}", FaultCode.NOT_FINITE),
        (b'{"text": "' + b"x" * 65_537 + b'"}', FaultCode.ITEM_TOO_LARGE),
        (b'{"text": [' + b"{}," * 200_000 + b"{}]}", FaultCode.ITEM_TOO_LARGE),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_json_line_has_its_code(line: bytes, code: FaultCode) -> None:
    assert fault_of("embedding", JSONL, b'{"text": "fine"}\n' + line + b"\n") is code


def test_only_a_line_feed_ends_a_text() -> None:
    odd = "a\rb\u2028c\x0bd\x85e\n second\n"
    assert CATALOGUE.check("embedding", EMBEDDING, odd.encode()).items == 2


def test_the_longest_way_to_write_a_text_is_read() -> None:
    line = b'{"text": "' + b"\\u0041" * (64 * 1024) + b'"}'
    assert CATALOGUE.check("embedding", JSONL, line).items == 1


@pytest.mark.parametrize(
    ("form", "repeated", "code"),
    [("text", b"\n", FaultCode.TOO_MANY_ITEMS), ("jsonl", b"{},", FaultCode.ITEM_TOO_LARGE)],
)
def test_a_bomb_is_a_fault_before_it_takes_memory(
    form: str, repeated: bytes, code: FaultCode
) -> None:
    parameters = CATALOGUE.parameters("embedding", {"format": form})
    data = repeated * ((64 << 20) // len(repeated))
    # A worker may have less than this would expand to; then nodes would disagree.
    with limits.memory(256 << 20):
        assert fault_of("embedding", parameters, data) is code


def test_the_largest_allowed_input_is_allowed() -> None:
    assert CATALOGUE.check("embedding", EMBEDDING, b"x\n" * 10_000).items == 10_000
    assert CATALOGUE.check("embedding", EMBEDDING, b"x" * 65_536).items == 1


def changed(edit: Callable[[dict[str, Any]], Any]) -> bytes:
    document = copy.deepcopy(PORTFOLIO)
    edit(document)
    return json.dumps(document).encode()


def setting(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return edit


M, N, I = FaultCode.MALFORMED_INPUT, FaultCode.NOT_FINITE, FaultCode.INCONSISTENT_INPUT  # noqa: E741


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (setting("assets", 0, "volatility", to=-0.1), I),
        (setting("assets", 0, "volatility", to=float("nan")), N),
        (setting("assets", 0, "drift", to=float("inf")), N),
        (setting("assets", 0, "drift", to=10**400), N),
        (setting("assets", 0, "drift", to=6), I),
        (setting("assets", 0, "drift", to="0.1"), M),
        (setting("assets", 0, "drift", to=True), M),
        (setting("assets", 0, "name", to=""), M),
        (setting("assets", 1, "name", to="A"), I),
        (setting("assets", 0, "colour", to="red"), M),
        (setting("assets", to=[]), I),
        (setting("assets", to={}), M),
        (setting("assets", to=PORTFOLIO["assets"] * 30), FaultCode.TOO_MANY_ITEMS),
        (setting("positions", to=[]), I),
        (setting("positions", 0, "asset", to="Z"), I),
        (setting("positions", 0, "value", to=1e16), I),
        (setting("positions", 0, "value", to=None), M),
        (setting("positions", to=PORTFOLIO["positions"] * 6000), FaultCode.TOO_MANY_ITEMS),
        (setting("correlation", to=[[1, 0.5], [0.5, 1]]), I),
        (setting("correlation", 0, to=[1, 0.5]), I),
        (setting("correlation", 0, 0, to=1.1), I),
        (setting("correlation", 0, 1, to=0.6), I),
        (setting("correlation", to=[[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]), I),
        (setting("correlation", to=[[1, 1, 0], [1, 1, 0.5], [0, 0.5, 1]]), I),
        (setting("correlation", to=[[1, 1.5, 0], [1.5, 1, 0], [0, 0, 1]]), I),
        (setting("correlation", to="identity"), M),
        (setting("scenarios", 0, "shocks", to={"Z": 0.1}), I),
        (setting("scenarios", 0, "shocks", "A", to=float("-inf")), N),
        (setting("scenarios", to=PORTFOLIO["scenarios"] * 2), I),
        (setting("scenarios", to=PORTFOLIO["scenarios"] * 300), FaultCode.TOO_MANY_ITEMS),
        (setting("surprise", to=1), M),
        (lambda document: document.pop("assets"), M),
    ],
)
def test_a_bad_portfolio_has_its_code(
    edit: Callable[[dict[str, Any]], Any], code: FaultCode
) -> None:
    assert fault_of("portfolio-risk", RISK, changed(edit)) is code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"positions":1,"positions":2}',
        json.dumps(PORTFOLIO).encode() + b"x",
        json.dumps(PORTFOLIO).replace('"drift": 0.05', '"drift": 0.05, "drift": 0.06').encode(),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_portfolio_is_malformed(data: bytes) -> None:
    assert fault_of("portfolio-risk", RISK, data) is FaultCode.MALFORMED_INPUT


def test_a_perfectly_correlated_portfolio_is_valid() -> None:
    ones = [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]
    good = changed(setting("correlation", to=ones))
    assert CATALOGUE.check("portfolio-risk", RISK, good).items == 3


def test_matmul_takes_no_input() -> None:
    parameters = CATALOGUE.parameters("matmul-proof", {})
    assert CATALOGUE.check("matmul-proof", parameters, b"").items == 4
    assert fault_of("matmul-proof", parameters, b"x") is FaultCode.MALFORMED_INPUT


@pytest.mark.parametrize(
    ("workload", "given_parameters", "code"),
    [
        ("embedding", {"model": "no-such-model"}, FaultCode.UNKNOWN_MODEL),
        ("embedding", {"model": 3}, FaultCode.INVALID_PARAMETERS),
        ("embedding", {"normalize": 1}, FaultCode.INVALID_PARAMETERS),
        ("embedding", {"normalise": True}, FaultCode.INVALID_PARAMETERS),
        ("embedding", {"format": "csv"}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"paths": 0}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"paths": 10**9}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"paths": True}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"paths": 1000.5}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"confidence": []}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"confidence": [1]}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"confidence": [0.9, 0.9]}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"confidence": [float("nan")]}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"horizon_days": -1}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"seed": -1}, FaultCode.INVALID_PARAMETERS),
        ("portfolio-risk", {"volatility": 1}, FaultCode.INVALID_PARAMETERS),
        ("matmul-proof", {"size": 17}, FaultCode.INVALID_PARAMETERS),
        ("matmul-proof", {"size": 8192, "rounds": 1024}, FaultCode.INVALID_PARAMETERS),
        ("echo", {"times": 2}, FaultCode.INVALID_PARAMETERS),
        ("mining", {}, FaultCode.INVALID_PARAMETERS),
    ],
)
def test_a_bad_parameter_has_its_code(
    workload: str, given_parameters: dict[str, Any], code: FaultCode
) -> None:
    with pytest.raises(WorkloadFault) as caught:
        CATALOGUE.parameters(workload, given_parameters)
    assert caught.value.fault == code


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", FaultCode.MALFORMED_INPUT), (bytes((1 << 20) + 1), FaultCode.INPUT_TOO_LARGE)],
)
def test_an_echo_of_nothing_or_too_much_is_a_fault(data: bytes, code: FaultCode) -> None:
    assert fault_of("echo", ECHO, data) is code


@pytest.mark.parametrize(
    ("size", "units"), [(1, 1), (64 << 10, 1), ((64 << 10) + 1, 2), (1 << 20, 16)]
)
def test_an_echo_costs_a_unit_for_every_64_kib(size: int, units: int) -> None:
    assert CATALOGUE.check("echo", ECHO, bytes(size)).units == units


@pytest.mark.parametrize("workload", ["echo", "embedding", "matmul-proof", "portfolio-risk"])
def test_canonical_parameters_are_a_fixed_point(workload: str) -> None:
    first = CATALOGUE.parameters(workload, {})
    assert CATALOGUE.parameters(workload, decode_value(first)) == first


def test_ten_and_ten_point_zero_are_one_task() -> None:
    assert CATALOGUE.parameters("portfolio-risk", {"paths": 1000.0}) == CATALOGUE.parameters(
        "portfolio-risk", {"paths": 1000}
    )


def test_parameters_that_are_no_canonical_bytes_are_refused() -> None:
    assert fault_of("embedding", b"\xff", b"x\n") is FaultCode.INVALID_PARAMETERS
    assert fault_of("embedding", b"\x01", b"x\n") is FaultCode.INVALID_PARAMETERS


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_valid_input_or_a_fault(data: bytes) -> None:
    for workload, parameters in (
        ("embedding", EMBEDDING),
        ("embedding", JSONL),
        ("portfolio-risk", RISK),
        ("echo", ECHO),
    ):
        try:
            estimate = CATALOGUE.check(workload, parameters, data)
        except WorkloadFault as error:
            FaultCode(error.fault)
        else:
            assert estimate.items > 0
            assert estimate.units > 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_strict_json_reads_what_json_writes(value: Any) -> None:
    assert parse_json(json.dumps(value), "it") == value


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1)))
def test_texts_come_back_as_they_went_in(texts: list[str]) -> None:
    from workloads.embedding import parse_texts

    if texts and all(text.strip() for text in texts):
        assert parse_texts("\n".join(texts).encode(), "text") == texts


def test_listing_and_checking_import_no_torch() -> None:
    code = (
        "import sys\nfrom workloads.inputs import InstalledWorkloads\n"
        "c = InstalledWorkloads.load(); c.list(); c.info('embedding')\n"
        "c.check('embedding', c.parameters('embedding', {}), b'x')\n"
        "heavy = {'torch', 'tokenizers', 'transformers', 'safetensors', 'trio', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
