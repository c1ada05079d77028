"""The worker's side of small tasks: a batch in, its outputs out, and one bad task fails alone.

What is the same for every task of a call (parameters, model) is read once and kept for the
batches that follow. A task that finds no memory, or whose runner raises, is a failure of that
task: the worker serves one client, whose next tasks go on here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from deai.errors import ExecutionFailed, NodeFault, WorkloadFault
from deai.lane.receipts import MAX_TASK_BYTES
from deai.ports import Estimate
from workloads import wire
from workloads.spec import ManyRunner, ModelFiles, Runner, RunnerTask, WorkloadSpec
from workloads.tools import Tools, read_parameters, refuse_unpaid

KEPT_TERMS: Final = 8
"""Different calls whose parameters and model are kept at hand."""


class Terms(NamedTuple):
    """What the tasks of one call share, checked and loaded."""

    spec: WorkloadSpec
    runner: Runner
    parameters: dict[str, Any]
    model: ModelFiles | None
    many: ManyRunner | None


TermsKey: TypeAlias = tuple[str, int, str, bytes]


class BatchRunner:
    """Runs batches, one after the other, for the life of one worker."""

    def __init__(self, tools: Tools, send: Callable[[wire.BatchDone], None]) -> None:
        self._tools = tools
        self._send = send
        self._kept: dict[TermsKey, Terms] = {}

    def run(self, batch: wire.RunBatch) -> None:
        """Compute every task and send its outputs.

        Raises `WorkloadFault` or `NodeFault` when nothing of it can be computed.
        """
        terms = self._terms(batch)
        together = terms.many is not None and len(batch.inputs) > 1
        answers = self._together(terms, batch) if together else self._one_by_one(terms, batch)
        outputs: list[bytes] = []
        missing: list[wire.Missing] = []
        held = 0
        for answer in answers:
            if isinstance(answer, Exception):
                missing.append(_missing(len(outputs), answer))
                outputs.append(b"")
                continue
            outputs.append(answer)
            held += len(answer)
            if held >= wire.PART_BYTES:
                self._send(wire.BatchDone(batch.number, outputs, missing))
                outputs, missing, held = [], [], 0
        if outputs:
            self._send(wire.BatchDone(batch.number, outputs, missing))

    def _one_by_one(self, terms: Terms, batch: wire.RunBatch) -> Iterator[bytes | Exception]:
        runner, parameters, model = terms.runner, terms.parameters, terms.model
        check_input, check_output = terms.spec.check_input, terms.spec.check_output
        seed, threads, max_units = batch.seed, self._tools.threads, batch.max_units
        answer: bytes | Exception
        for data in batch.inputs:
            try:
                estimate = check_input(parameters, data)
                if estimate.units > max_units:
                    refuse_unpaid(estimate, max_units)
                answer = runner(RunnerTask(parameters, data, model, seed, threads), _ignore).data
                check_output(answer, estimate)
                if len(answer) > MAX_TASK_BYTES:
                    _refuse_large(answer)
            except Exception as error:  # noqa: BLE001
                # Code of a workload, on a stranger's input: it may raise anything, and anything,
                # `MemoryError` too, is the failure of this one task. It is reported, not hidden.
                answer = error
            yield answer

    def _together(self, terms: Terms, batch: wire.RunBatch) -> Iterator[bytes | Exception]:
        """All that can be computed in one call; if that fails, each for itself."""
        assert terms.many is not None
        estimates: list[Estimate | Exception] = []
        good: list[bytes] = []
        for data in batch.inputs:
            try:
                estimate = terms.spec.check_input(terms.parameters, data)
                refuse_unpaid(estimate, batch.max_units)
            except ExecutionFailed as error:
                estimates.append(error)
            else:
                estimates.append(estimate)
                good.append(data)
        shared = RunnerTask(terms.parameters, b"", terms.model, batch.seed, self._tools.threads)
        try:
            outputs = list(terms.many(shared, good))
        except Exception:  # noqa: BLE001
            # Which of the tasks it is about nobody knows: one by one, below, it comes again with
            # the task that it belongs to, and is reported there.
            outputs = []
        if len(outputs) != len(good):
            return self._one_by_one(terms, batch)
        left = iter(outputs)
        return iter(
            [
                estimate
                if isinstance(estimate, Exception)
                else _checked(terms, next(left), estimate)
                for estimate in estimates
            ]
        )

    def _terms(self, batch: wire.RunBatch) -> Terms:
        key = (batch.workload, batch.version, batch.model, batch.parameters)
        found = self._kept.pop(key, None)
        if found is None:
            tools = self._tools
            spec = tools.specs[key[:2]]
            parameters = read_parameters(spec, batch.parameters)
            model = tools.model(spec, batch.model, parameters)
            runner, many = tools.runners[key[:2]], tools.many.get(key[:2])
            found = Terms(spec, runner, parameters, model, many)
        self._kept[key] = found  # the last place: used last
        if len(self._kept) > KEPT_TERMS:
            del self._kept[next(iter(self._kept))]
        return found


def _checked(terms: Terms, output: bytes, estimate: Estimate) -> bytes | Exception:
    try:
        terms.spec.check_output(output, estimate)
        if len(output) > MAX_TASK_BYTES:
            _refuse_large(output)
    except Exception as error:  # noqa: BLE001 - as in `_one_by_one`: it becomes this task's failure
        return error
    return output


def _refuse_large(output: bytes) -> None:
    raise NodeFault(
        f"an output of {len(output)} bytes; at most {MAX_TASK_BYTES}", code="output_limit"
    )


def _missing(position: int, error: Exception) -> wire.Missing:
    match error:
        case WorkloadFault():
            return wire.Missing(position, error.fault, str(error)[: wire.MAX_REASON])
        case NodeFault():
            reason = f"{error.reason_code}: {error}"
        case _:
            reason = "".join(traceback.format_exception_only(error)).strip()
    return wire.Missing(position, 0, reason[: wire.MAX_REASON])


def _ignore(fraction: float) -> None:
    """Nobody watches the progress of a small task."""
