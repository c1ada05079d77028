"""The locked process: reads a request, runs it, writes the answer, waits for the next.

It is forked from the template, which has imported everything; it serves one client and is then
killed. Nothing it says is believed beyond what its parent can check.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from typing import Final, NoReturn

from deai.errors import DeaiError, NodeFault, WorkloadFault
from workloads import wire
from workloads.batches import BatchRunner
from workloads.sandbox.lock import LockPlan, bind_to_parent, lock
from workloads.sandbox.probe import attempt_escapes
from workloads.spec import RunnerTask
from workloads.tools import Tools, read_parameters, refuse_unpaid

PROGRESS_INTERVAL: Final = 0.05
"""Seconds between two progress messages, at least."""
ORDERLY_EXIT: Final = 0
BROKEN_PIPE_EXIT: Final = 3


def serve(tools: Tools, source: int, sink: int, parent: int) -> NoReturn:
    """Lock this process in and answer requests until the pipe ends; never returns."""
    status = BROKEN_PIPE_EXIT
    try:
        bind_to_parent(parent)
        _settle_descriptors(source, sink)
        locked = lock(
            LockPlan(
                memory_bytes=tools.memory_bytes,
                threads=tools.threads,
                readable=(str(tools.models),) if tools.models.is_dir() else (),
            )
        )
        pipe = _Pipe(source, sink)
        pipe.send(
            wire.Ready(
                rlimits=locked.rlimits,
                landlock=locked.landlock,
                seccomp=locked.seccomp,
                problems=[problem[:2000] for problem in locked.problems],
            )
        )
        batches = BatchRunner(tools, pipe.send_batch)
        while (request := pipe.receive()) is not None:
            _answer(tools, batches, pipe, request)
        status = ORDERLY_EXIT
    except (OSError, DeaiError):
        # Nobody is left to tell; the exit status says that the conversation broke.
        status = BROKEN_PIPE_EXIT
    finally:
        os._exit(status)


def _settle_descriptors(source: int, sink: int) -> None:
    """Keep the two pipes; standard streams go nowhere, so printing cannot corrupt a frame."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    low = 3
    for keep in sorted((source, sink)):
        os.closerange(low, keep)
        low = keep + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _answer(
    tools: Tools, batches: BatchRunner, pipe: _Pipe, request: wire.Request | wire.RunBatch
) -> None:
    try:
        match request:
            case wire.RunBatch():
                batches.run(request)
            case wire.Probe():
                pipe.send(wire.Probed(denied=attempt_escapes()))
            case wire.Run():
                _run(tools, pipe, request)
            case wire.Compare():
                _compare(tools, pipe, request)
    except WorkloadFault as error:
        pipe.send(wire.Fault(code=error.fault, message=str(error)[:2000]))
    except NodeFault as error:
        pipe.send(wire.Failed(reason=error.reason_code, message=str(error)[:2000]))
    except (MemoryError, RecursionError) as error:
        pipe.send(wire.Failed(reason="memory", message=repr(error)[:2000]))
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the one outer loop: a runner may raise anything
        short = "".join(traceback.format_exception_only(error))[:2000]
        reason = "memory" if "can't allocate memory" in short else "runner"
        pipe.send(wire.Failed(reason=reason, message=short))


def _run(tools: Tools, pipe: _Pipe, request: wire.Run) -> None:
    data = pipe.receive_blob(request.input_bytes)
    key = (request.workload, request.version)
    spec, runner = tools.specs[key], tools.runners[key]
    parameters = read_parameters(spec, request.parameters)
    estimate = spec.check_input(parameters, data)
    refuse_unpaid(estimate, request.max_units)
    started = time.perf_counter()
    given = RunnerTask(
        parameters=parameters,
        input=data,
        model=tools.model(spec, request.model, parameters),
        seed=request.seed,
        threads=tools.threads,
    )
    output = runner(given, _Reporter(pipe))
    spec.check_output(output.data, estimate)
    pipe.send(
        wire.Done(
            output_bytes=len(output.data),
            evidence_bytes=len(output.evidence),
            units=estimate.units,
            seconds=time.perf_counter() - started,
            measured=output.measurements,
        )
    )
    pipe.send_blob(output.data)
    pipe.send_blob(output.evidence)


def _compare(tools: Tools, pipe: _Pipe, request: wire.Compare) -> None:
    outputs = [pipe.receive_blob(size) for size in request.sizes]
    key = (request.workload, request.version)
    spec = tools.specs[key]
    model = tools.model(spec, request.model, read_parameters(spec, request.parameters))
    if model is None or request.policy not in model.tolerances:
        raise ValueError(f"there are no thresholds for {request.policy}")
    agree = tools.comparers[key](outputs, model.tolerances[request.policy])
    pipe.send(wire.Compared(agree=agree))


class _Reporter:
    """Sends progress, but not more often than anybody could look at."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._due = 0.0

    def __call__(self, fraction: float) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PROGRESS_INTERVAL
            self._pipe.send(wire.Progress(fraction=min(1.0, max(0.0, fraction))))


class _Pipe:
    """Blocking frames over two descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink

    def receive(self) -> wire.Request | wire.RunBatch | None:
        """The next request; None when the parent has closed its end."""
        head = self._read(wire.HEADER.size, may_end=True)
        if not head:
            return None
        kind, length = wire.parse_header(head)
        if kind == wire.BATCH:
            return wire.decode_run_batch(self._read(length))
        if kind != wire.MESSAGE:
            raise OSError("data without a request")
        return wire.decode_request(self._read(length))

    def receive_blob(self, size: int) -> bytes:
        """`size` bytes from as many data frames as it takes."""
        pieces = bytearray()
        while len(pieces) < size:
            kind, length = wire.parse_header(self._read(wire.HEADER.size))
            if kind != wire.DATA or len(pieces) + length > size:
                raise OSError("more data than announced")
            pieces += self._read(length)
        return bytes(pieces)

    def send(self, message: wire.Reply) -> None:
        self._write(wire.frame(message))

    def send_batch(self, done: wire.BatchDone) -> None:
        self._write(wire.batch_frame(done))

    def send_blob(self, blob: bytes) -> None:
        for piece in wire.data_frames(blob):
            self._write(piece)

    def _read(self, length: int, *, may_end: bool = False) -> bytes:
        pieces = bytearray()
        while len(pieces) < length:
            piece = os.read(self._source, length - len(pieces))
            if not piece:
                if may_end and not pieces:
                    return b""
                raise OSError("the pipe ended inside a frame")
            pieces += piece
        return bytes(pieces)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]
