"""Batches on the wire and in the worker's loop, without a process: bounds, terms, parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from deai.codec import encode_value
from deai.errors import MalformedMessage, WorkloadFault
from deai.lane.receipts import MAX_TASK_BYTES
from tests.workloads import odd
from workloads import wire
from workloads.batches import KEPT_TERMS, BatchRunner
from workloads.spec import ModelFiles
from workloads.tools import Tools

missing = st.builds(
    wire.Missing,
    st.integers(0, wire.MAX_BATCH_TASKS - 1),
    st.integers(0, 255),
    st.text(max_size=wire.MAX_REASON),
)


def payload_of(frame: bytes | bytearray) -> bytes:
    kind, length = wire.parse_header(frame[: wire.HEADER.size])
    assert (kind, length) == (wire.BATCH, len(frame) - wire.HEADER.size)
    return bytes(frame[wire.HEADER.size :])


@given(
    st.integers(0, 1 << 30),
    st.lists(st.binary(max_size=300), min_size=1, max_size=20),
    st.lists(missing, max_size=20),
)
def test_columns_come_back_as_they_went_in(
    number: int, outputs: list[bytes], failures: list[wire.Missing]
) -> None:
    done = wire.BatchDone(number, outputs, failures)
    assert wire.decode_batch_done(payload_of(wire.batch_frame(done))) == done
    asked = wire.RunBatch(number, "odd", 1, "", b"\x80", bytes(32), 7, outputs)
    assert wire.decode_run_batch(payload_of(wire.batch_frame(asked))) == asked


@given(st.binary(max_size=200))
def test_any_bytes_are_columns_or_malformed(data: bytes) -> None:
    for decode in (wire.decode_batch_done, wire.decode_run_batch):
        try:
            decode(data)
        except MalformedMessage:
            continue


@pytest.mark.parametrize(
    "columns",
    [
        wire.BatchDone(1, [], []),
        wire.BatchDone(1, [b""] * (wire.MAX_BATCH_TASKS + 1), []),
        wire.BatchDone(1, [bytes(MAX_TASK_BYTES + 1)], []),
        wire.BatchDone(-1, [b""], []),
        wire.BatchDone(1, [b""], [wire.Missing(wire.MAX_BATCH_TASKS, 0, "")]),
        wire.BatchDone(1, [b""], [wire.Missing(0, 256, "")]),
        wire.BatchDone(1, [b""], [wire.Missing(0, 0, "x" * (wire.MAX_REASON + 1))]),
        wire.BatchDone(1, [b""], [wire.Missing(0, 0, "")] * (wire.MAX_BATCH_TASKS + 1)),
    ],
)
def test_what_no_worker_may_claim_is_malformed(columns: wire.BatchDone) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode_batch_done(payload_of(wire.batch_frame(columns)))


def test_the_largest_batch_fits_a_frame_and_no_larger_one_does() -> None:
    failures = [wire.Missing(n, 0, "😀" * wire.MAX_REASON) for n in range(wire.MAX_BATCH_TASKS)]
    part = [b""] * (wire.MAX_BATCH_TASKS - 5)
    part += [bytes(MAX_TASK_BYTES)] * 5  # a part is sent once it holds `PART_BYTES`
    assert wire.batch_frame(wire.BatchDone(1, part, failures))
    with pytest.raises(MalformedMessage):
        wire.batch_frame(wire.BatchDone(1, [bytes(MAX_TASK_BYTES)] * 33, []))


class Bench:
    """A worker's loop with models that are counted."""

    def __init__(self) -> None:
        self.sent: list[wire.BatchDone] = []
        self.loaded: list[str] = []
        key, spec = ("odd", 1), _with_models()
        tools = Tools(
            specs={key: spec},
            runners={key: odd.run},
            many={},
            comparers={},
            load_model=self._load,
            models=Path("nowhere"),
            threads=1,
            memory_bytes=1 << 30,
        )
        self.runner = BatchRunner(tools, self.sent.append)

    def _load(self, store: Path, digest: str) -> ModelFiles:
        self.loaded.append(digest)
        return ModelFiles(digest, store, {}, {})

    def run(self, *inputs: bytes, **given: Any) -> list[wire.BatchDone]:
        self.sent.clear()
        wanted = {"model": "m", **given}
        self.runner.run(
            wire.RunBatch(1, "odd", 1, "", encode_value(wanted), bytes(32), 1, list(inputs))
        )
        return self.sent


def _with_models() -> Any:
    import dataclasses

    def check(given: Mapping[str, Any]) -> dict[str, Any]:
        return odd.check_parameters(given)

    return dataclasses.replace(odd.SPEC, models=("m",), check_parameters=check)


def test_a_model_is_loaded_once_for_the_batches_of_its_terms() -> None:
    bench = Bench()
    for _ in range(3):
        for model in ("one", "two"):
            assert bench.run(b"x", model=model) == [wire.BatchDone(1, [b"X"], [])]
    assert bench.loaded == ["one", "two"]


def test_only_the_terms_used_last_are_kept() -> None:
    bench = Bench()
    names = [f"m{number}" for number in range(KEPT_TERMS + 1)]
    for name in names:
        bench.run(b"x", model=name)
        bench.run(b"x", model=names[0])
    assert bench.loaded == names
    bench.run(b"x", model=names[1])
    assert bench.loaded == [*names, names[1]], "the one that was not used for longest is gone"
    bench.run(b"x", model=names[0])
    assert bench.loaded[-1] == names[1]


def test_bad_terms_are_not_kept() -> None:
    bench = Bench()
    for _ in range(2):
        with pytest.raises(WorkloadFault):
            bench.run(b"x", mood="bad")
    assert bench.loaded == []


def test_large_outputs_go_out_in_parts_with_their_failures() -> None:
    parts = Bench().run(*[b"largest"] * 5, b"bad", b"x", *[b"largest"] * 3, b"too large", b"y")
    full = wire.PART_BYTES // MAX_TASK_BYTES
    assert [len(part.outputs) for part in parts] == [full, full + 2, 2]
    assert [[one.position for one in part.missing] for part in parts] == [[], [1], [0]]
    assert parts[-1].outputs == [b"", b"Y"]
    assert sum(map(len, parts[1].outputs)) == 4 * MAX_TASK_BYTES + 1
