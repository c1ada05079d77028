"""The daemon's end of the template: starts it, asks it for workers, buries them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec
import trio

from deai.errors import NodeFault
from workloads import process, template
from workloads.process import WorkerProcess

START_TIMEOUT: Final = 180.0
"""Seconds for importing torch, cold, on a busy machine."""
ANSWER_TIMEOUT: Final = 60.0
END_TIMEOUT: Final = 30.0
_INT: Final = 4
ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "LC_ALL": "C.UTF-8",
    # Freed memory stays at hand: else every layer's tensors are mapped and faulted in anew, in
    # a worker through its system call filter too. An idle worker keeps the threshold at most.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
"""Of the template and its workers: one thread, no GPU, how glibc keeps memory."""


class ForkServer:
    """A running template."""

    def __init__(self, started: subprocess.Popen[bytes], control: trio.socket.SocketType) -> None:
        self._process = started
        self._control = control
        self._turn = trio.Lock()
        self.mapped_bytes = 0
        self.alive = True

    @classmethod
    async def start(cls, setup: template.Setup, environment: Mapping[str, str]) -> ForkServer:
        """Import everything and be ready to fork; raise `NodeFault` if that fails.

        The environment of the template, hence of every worker, is built here from nothing.
        """
        try:
            started, ours = _launch(environment)
        except OSError as error:
            raise _no_means(error) from error
        server = cls(started, trio.socket.from_stdlib_socket(ours))
        answer: template.Answer | None = None
        try:
            with trio.move_on_after(START_TIMEOUT):
                answer, _ = await server._exchange(setup)
        finally:
            if not isinstance(answer, template.Imported) or answer.threads != 1:
                await server.stop()
        if not server.alive:
            raise NodeFault(f"the template cannot serve: {answer}", code="template_failed")
        assert isinstance(answer, template.Imported)
        server.mapped_bytes = answer.mapped_bytes
        return server

    async def fork(self) -> WorkerProcess:
        """A new worker, which locks itself in before it reads; raise `NodeFault`."""
        try:
            inward, outward = process.make_pipes()
        except OSError as error:
            raise _no_means(error) from error
        kept = False
        try:
            answer, handles = await self._ask(template.Fork(), (inward[0], outward[1]))
            if not isinstance(answer, template.Forked) or len(handles) != 1:
                self.alive = False
                raise NodeFault("the template does not fork", code="template_failed")
            kept = True
            return WorkerProcess(answer.pid, handles[0], inward[1], outward[0])
        finally:
            for descriptor in (inward[0], outward[1]):
                os.close(descriptor)
            for descriptor in () if kept else (inward[1], outward[0]):
                os.close(descriptor)

    async def bury(self, worker: WorkerProcess) -> int:
        """Kill a worker, free its process id; return the most bytes it held (0: unknown)."""
        with trio.move_on_after(END_TIMEOUT, shield=True):
            try:
                # A dead template's workers were reaped elsewhere: their ids may be anybody's.
                worker.kill(whole_group=self.alive)
                await worker.wait_ended()
                answer, _ = await self._ask(template.Reap(worker.pid))
            except NodeFault:
                return 0
            finally:
                await worker.close()
            return answer.peak_bytes if isinstance(answer, template.Reaped) else 0
        return 0

    async def stop(self) -> None:
        """Kill the template; the kernel kills its workers with it."""
        self.alive = False
        self._control.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._process.wait)

    async def _ask(
        self, order: template.Order, descriptors: tuple[int, ...] = ()
    ) -> tuple[template.Answer, list[int]]:
        async with self._turn:
            if not self.alive:
                raise NodeFault("the template is gone", code="template_failed")
            # A cancelled exchange would leave its answer to the next one that asks.
            with trio.move_on_after(ANSWER_TIMEOUT, shield=True):
                return await self._exchange(order, descriptors)
            self.alive = False
            raise NodeFault("the template does not answer", code="template_failed")

    async def _exchange(
        self, order: template.Order, descriptors: tuple[int, ...] = ()
    ) -> tuple[template.Answer, list[int]]:
        passed = b"".join(number.to_bytes(_INT, sys.byteorder) for number in descriptors)
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)] if descriptors else []
        try:
            await self._control.sendmsg([template.encode(order)], beside)
            data, ancillary, _, _ = await self._control.recvmsg(
                template.MAX_CONTROL_BYTES, socket.CMSG_SPACE(_INT), socket.MSG_CMSG_CLOEXEC
            )
            answer = template.decode_answer(data)
        except (OSError, msgspec.DecodeError) as error:
            self.alive = False
            raise NodeFault("the template ended", code="template_failed") from error
        return answer, [int.from_bytes(raw[:_INT], sys.byteorder) for _, _, raw in ancillary]


def _launch(environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A new template and our end of its socket. Raises `OSError`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            started = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    "from workloads.template import main; main()",
                    str(theirs.fileno()),
                ],
                env={
                    **ENVIRONMENT,
                    **environment,
                    "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        except OSError:
            ours.close()
            raise
    return started, ours


def _no_means(error: OSError) -> NodeFault:
    return NodeFault(
        f"no worker can be started: {error.strerror}",
        hint="raise the limit of open files or processes, or free some memory",
        code="template_failed",
    )
