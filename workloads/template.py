"""The process that imports torch once and forks a locked worker whenever one is needed.

Single-threaded, because a fork copies one thread only. It talks to the daemon over a socket that
keeps message borders; descriptors of a worker's pipes travel beside the request. When the daemon
ends, however it ends, the socket ends, so does the template, and the kernel kills the workers.
A worker that has ended stays unreaped until the daemon says so: its process id is not reused
while the daemon may still signal it.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from deai.errors import DeaiError
from workloads import catalog, models
from workloads.sandbox.lock import mapped_bytes
from workloads.tools import Tools
from workloads.worker import serve

MAX_CONTROL_BYTES: Final = 64 * 1024


class Setup(msgspec.Struct, frozen=True, array_like=True, tag="setup"):
    """First message: what to import, and how workers are limited."""

    workloads: list[str]
    extra: list[str]
    models: str
    threads: int
    memory_bytes: int


class Fork(msgspec.Struct, frozen=True, array_like=True, tag="fork"):
    """Make a worker of the two descriptors that come along: its input, its output."""


class Reap(msgspec.Struct, frozen=True, array_like=True, tag="reap"):
    """The worker `pid` has ended: free its process id and say how it ended."""

    pid: int


class Imported(msgspec.Struct, frozen=True, array_like=True, tag="imported"):
    """The template is ready: bytes mapped before any work, and its threads (must be 1)."""

    pid: int
    mapped_bytes: int
    threads: int


class Forked(msgspec.Struct, frozen=True, array_like=True, tag="forked"):
    """A worker's process id; a pidfd comes along."""

    pid: int


class Reaped(msgspec.Struct, frozen=True, array_like=True, tag="reaped"):
    """Exit code or minus the signal, and the most memory it ever used."""

    code: int
    peak_bytes: int


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """What went wrong in the template."""

    message: str


Order: TypeAlias = Setup | Fork | Reap
Answer: TypeAlias = Imported | Forked | Reaped | Broken

encode: Final = msgspec.msgpack.Encoder().encode
decode_order: Final = msgspec.msgpack.Decoder[Order](Order).decode
decode_answer: Final = msgspec.msgpack.Decoder[Answer](Answer).decode


def main() -> None:
    """Serve the control socket given as descriptor number in argv until it ends."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        setup = decode_order(control.recv(MAX_CONTROL_BYTES))
        assert isinstance(setup, Setup)
        tools = _import(setup)
    except (DeaiError, ImportError, AttributeError, OSError, ValueError) as error:
        control.send(encode(Broken(message=f"{type(error).__name__}: {error}"[:2000])))
        return
    gc.collect()
    gc.freeze()
    threads = len(list(Path("/proc/self/task").iterdir()))
    control.send(encode(Imported(pid=os.getpid(), mapped_bytes=mapped_bytes(), threads=threads)))
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MAX_CONTROL_BYTES, 2)
        if not data:
            return
        _obey(control, tools, decode_order(data), descriptors)


def _obey(control: socket.socket, tools: Tools, order: Order, descriptors: list[int]) -> None:
    match order:
        case Fork():
            source, sink = descriptors
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                control.detach()
                serve(tools, source, sink, parent)
            os.close(source)
            os.close(sink)
            handle = os.pidfd_open(child)
            socket.send_fds(control, [encode(Forked(pid=child))], [handle])
            os.close(handle)
        case Reap(pid=pid):
            try:
                _, status, usage = os.wait4(pid, 0)
            except ChildProcessError as error:
                control.send(encode(Broken(message=str(error))))
                return
            code = os.waitstatus_to_exitcode(status)
            control.send(encode(Reaped(code=code, peak_bytes=usage.ru_maxrss * 1024)))
        case Setup():
            control.send(encode(Broken(message="already set up")))


def _import(setup: Setup) -> Tools:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    specs = {
        (spec.id, spec.version): spec
        for spec in catalog.load(extra=setup.extra)
        if not setup.workloads or spec.id in setup.workloads
    }
    runners = {key: catalog.load_name(spec.runner) for key, spec in specs.items()}
    many = {key: catalog.load_name(spec.run_many) for key, spec in specs.items() if spec.run_many}
    comparers = {
        key: catalog.load_name(spec.compare) for key, spec in specs.items() if spec.compare
    }
    for spec in specs.values():
        if spec.warm_up:
            catalog.load_name(spec.warm_up)()
    return Tools(
        specs=specs,
        runners=runners,
        many=many,
        comparers=comparers,
        load_model=models.load_model,
        models=Path(setup.models),
        threads=setup.threads,
        memory_bytes=setup.memory_bytes,
    )
