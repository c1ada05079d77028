"""A workload whose runner attacks: what a bug in a parser or in torch would let a stranger do."""

# The bare system calls are the attack:
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH208, PTH211
from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from deai.ports import Estimate
from deai.tasks import FaultCode, Policy
from workloads import wire
from workloads.faults import fault
from workloads.forkserver import ENVIRONMENT
from workloads.spec import Determinism, Report, RunnerOutput, RunnerTask, WorkloadSpec

GOOD: Final = b"good"


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"attack": "none", "argument": "", **given}


def check_input(parameters: Mapping[str, Any], data: bytes) -> Estimate:
    if data == b"bad":
        fault(FaultCode.MALFORMED_INPUT, "bad")
    return Estimate(items=1, units=1)


def check_output(data: bytes, estimate: Estimate) -> None:
    if data == b"not canonical":
        raise ValueError("not canonical")


def run(task: RunnerTask, report: Report) -> RunnerOutput:
    """`ESCAPES` answer what they got; `BREAKAGES` break the worker; the rest is work."""
    name, argument = task.parameters["attack"], task.parameters["argument"]
    if name in ESCAPES:
        return RunnerOutput(repr(ESCAPES[name](argument)).encode())
    if name in BREAKAGES:
        BREAKAGES[name](argument)
    if name == "pid":
        return RunnerOutput(str(os.getpid()).encode())
    if name == "report":
        for fraction in (0.0, 0.5, 1.0):
            report(fraction)
            time.sleep(0.1)
    if name == "begin":
        report(0.5)
        time.sleep(600)
    return RunnerOutput(task.input or GOOD)


def _call(number: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), f"call {number}")


def _fork(argument: str) -> str:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


def _thread(argument: str) -> str:
    try:
        threading.Thread(target=lambda: None).start()
    except RuntimeError as error:
        raise OSError("no thread") from error
    return "started a thread"


def _write(argument: str) -> str:
    Path(argument).write_text("owned")
    return "wrote"


def _signal_by_pipe(argument: str) -> str:
    source, _ = os.pipe()
    fcntl.fcntl(source, fcntl.F_SETOWN, os.getppid())
    return "owns a signal"


def _own_any_descriptor(argument: str) -> str:
    for descriptor in range(3, 20):
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getppid())
    return "owns a signal"


def _limits(argument: str) -> str:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "no limits"


def _parents_limits(argument: str) -> str:
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1))
    return "limited the parent"


def _kill(argument: str) -> str:
    os.kill(int(argument), 9)
    return "killed"


def _standard_input(argument: str) -> str:
    return "read " + str(len(os.read(0, 10))) if os.read(0, 10) else _denied()


def _denied() -> str:
    raise OSError("nothing there")


def _environment(argument: str) -> str:
    ours = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", *ENVIRONMENT}
    leaked = set(os.environ) - ours
    return f"leaked {leaked}" if leaked else _denied()


def _descriptors(argument: str) -> str:
    open_ones = []
    for descriptor in range(3, 4096):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        open_ones.append(descriptor)
    return f"holds {open_ones}" if len(open_ones) > 2 else _denied()


ESCAPES: Final[Mapping[str, Callable[[str], object]]] = {
    "open_tcp": lambda a: str(socket.socket(socket.AF_INET, socket.SOCK_STREAM).fileno()),
    "open_udp": lambda a: str(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno()),
    "open_unix": lambda a: str(socket.socket(socket.AF_UNIX).fileno()),
    "open_netlink": lambda a: str(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).fileno()),
    "socket_pair": lambda a: str(socket.socketpair()[0].fileno()),
    "connect": lambda a: str(socket.create_connection(("127.0.0.1", int(a)), 1).fileno()),
    "read_passwd": lambda a: Path("/etc/passwd").read_text()[:20],
    "read_key": lambda a: Path(a).read_text(),
    "read_own_memory_map": lambda a: Path("/proc/self/maps").read_text()[:20],
    "read_parent_environment": lambda a: Path(f"/proc/{os.getppid()}/environ").read_text()[:9],
    "list_root": lambda a: os.listdir("/"),
    "write_outside": _write,
    "write_models": _write,
    "rename": lambda a: os.rename(a, a + ".gone"),
    "delete": lambda a: os.unlink(a),
    "make_directory": lambda a: os.mkdir(a + ".d"),
    "link": lambda a: os.symlink("/etc", a + ".l"),
    "change_mode": lambda a: os.chmod(a, 0o777),
    "fork": _fork,
    "start_thread": _thread,
    "run_program": lambda a: str(subprocess.run(["/bin/true"], check=True).returncode),
    "replace_self": lambda a: os.execv("/bin/true", ["true"]),
    "replace_from_memory": lambda a: str(os.memfd_create("x")),
    "kill_parent": lambda a: _kill(str(os.getppid())),
    "kill_daemon": _kill,
    "kill_everybody": lambda a: _kill("-1"),
    "signal_by_pipe": _signal_by_pipe,
    "own_any_descriptor": _own_any_descriptor,
    "raise_limits": _limits,
    "limit_parent": _parents_limits,
    "trace_parent": lambda a: _call(101, 0x4206, os.getppid(), 0, 0),
    "read_parent_memory": lambda a: _call(310, os.getppid(), 0, 0, 0, 0, 0),
    "steal_descriptor": lambda a: _call(438, os.pidfd_open(os.getppid()), 0, 0),
    "leave_namespace": lambda a: _call(272, 0x10000000),
    "mount": lambda a: _call(165, 0, 0, 0, 0, 0),
    "load_bpf": lambda a: _call(321, 0, 0, 0),
    "use_io_uring": lambda a: _call(425, 1, 0),
    "use_keyring": lambda a: _call(250, 0, -3, 0),
    "another_filter": lambda a: _call(157, 22, 0, 0),
    "outlive_parent": lambda a: _call(157, 1, 0, 0, 0),
    "new_session": lambda a: os.setsid(),
    "standard_input": _standard_input,
    "environment": _environment,
    "descriptors": _descriptors,
}


def _eat_memory(argument: str) -> None:
    held = []
    while True:
        held.append(bytearray(b"x" * (16 << 20)))


def _hold_memory(argument: str) -> None:
    held = bytearray(b"x" * (64 << 20))
    while held:
        pass


def _recurse(argument: str) -> None:
    _recurse(argument)


def _hang(argument: str) -> None:
    while True:
        pass


def _pipe() -> int:
    """The descriptor on which the worker answers: the writable one above standard error."""
    for descriptor in range(3, 64):
        try:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                return descriptor
        except OSError:
            continue
    raise AssertionError("no pipe")


def _shout(argument: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.write("noise\n" * 10_000)
        stream.flush()
    os.write(1, b"\0\0\0\0\1" * 10_000)


def _say(message: wire.Reply) -> None:
    os.write(_pipe(), wire.frame(message))


def _flood(argument: str) -> None:
    while True:
        _say(wire.Progress(0.5))


BREAKAGES: Final[Mapping[str, Callable[[str], object]]] = {
    "eat_memory": _eat_memory,
    "hold_memory": _hold_memory,
    "reserve_memory": lambda a: len(bytearray(1 << 40)),
    "recurse": _recurse,
    "hang": _hang,
    "sleep": lambda a: time.sleep(3600),
    "exit": lambda a: sys.exit(0),
    "exit_now": lambda a: os._exit(0),
    "crash": lambda a: ctypes.string_at(0),
    "raise": lambda a: 1 // 0,
    "raise_odd": lambda a: (_ for _ in ()).throw(KeyboardInterrupt),
    "close_pipe": lambda a: os.close(_pipe()),
    "babble": lambda a: os.write(_pipe(), b"GET / HTTP/1.1\r\n\r\n"),
    "claim_huge_frame": lambda a: os.write(_pipe(), b"\x00\xff\xff\xff\xff"),
    "claim_huge_output": lambda a: _say(wire.Done((1 << 32) - 1, 0, 1, 0.0, {})),
    "claim_unknown_fault": lambda a: _say(wire.Fault(99, "x")),
    "answer_out_of_turn": lambda a: _say(wire.Probed({})),
    "flood": _flood,
    "shout": _shout,
}

SPEC: Final = WorkloadSpec(
    id="hostile",
    version=1,
    title="Attacks",
    description="Attacks.",
    policies=(Policy.EXACT,),
    default_policy=Policy.EXACT,
    determinism=Determinism.BITWISE,
    unit="attack",
    output_type="json",
    parameters_schema={},
    check_parameters=check_parameters,
    check_input=check_input,
    check_output=check_output,
    runner="tests.attacks.worker.hostile:run",
)
