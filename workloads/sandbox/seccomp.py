"""The system calls a locked worker may make, as a BPF program assembled by hand (x86-64).

A list of what is allowed; everything else answers EPERM. A worker computes, reads its pipe and
its model files, and writes its pipe: no sockets, no exec, no new process, no signal to others.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import Final

_ARCH_X86_64: Final = 0xC000003E
_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000

_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000

_CLONE, _CLONE3, _FCNTL, _IOCTL, _TGKILL, _PRLIMIT = 56, 435, 72, 16, 234, 302
_PLAIN: Final = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20, "access": 21, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63,
    "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98,
    "sysinfo": 99, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "openat": 257,
    "newfstatat": 262, "readlinkat": 267, "ppoll": 271, "set_robust_list": 273, "getcpu": 309,
    "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
}  # fmt: skip
# F_SETOWN and F_SETSIG would let a pipe send signals to the daemon: only these are harmless.
_FCNTL_COMMANDS: Final = (1, 2, 3, 1030)  # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC


def supported() -> bool:
    """Whether the numbers of this module are this machine's."""
    return platform.machine() == "x86_64"


def assemble(*, pid: int, threads: bool) -> list[bytes]:
    """The filter for the process `pid`, which may start threads only if `threads`."""
    deny = _op(_RETURN, _ERRNO | errno.EPERM)
    allow = _op(_RETURN, _ALLOW)
    program = [
        _op(_LOAD, 4), _op(_EQUAL, _ARCH_X86_64, 1, 0), _op(_RETURN, _KILL),
        _op(_LOAD, 0), _op(_AT_LEAST, _X32_BIT, 0, 1), _op(_RETURN, _KILL),
    ]  # fmt: skip
    # glibc falls back to clone, whose flags a filter can see, when clone3 does not exist.
    program += _when(_CLONE3, [_op(_RETURN, _ERRNO | errno.ENOSYS)])
    thread_only = [_op(_LOAD, _argument(0)), _op(_ANY_BIT, _CLONE_THREAD, 0, 1), allow, deny]
    program += _when(_CLONE, thread_only if threads else [deny])
    program += _when(_IOCTL, [_op(_RETURN, _ERRNO | errno.ENOTTY)])
    commands = [step for number in _FCNTL_COMMANDS for step in (_op(_EQUAL, number, 0, 1), allow)]
    program += _when(_FCNTL, [_op(_LOAD, _argument(1)), *commands, deny])
    program += _when(_TGKILL, [_op(_LOAD, _argument(0)), _op(_EQUAL, pid, 0, 1), allow, deny])
    # Reading one's limits is fine; the pointer to new ones must be null, in both halves.
    unchanged = [
        _op(_LOAD, _argument(2)), _op(_EQUAL, 0, 0, 3),
        _op(_LOAD, _argument(2) + 4), _op(_EQUAL, 0, 0, 1), allow, deny,
    ]  # fmt: skip
    program += _when(_PRLIMIT, unchanged)
    for number in sorted(_PLAIN.values()):
        program += _when(number, [allow])
    return [*program, deny]


def _op(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """Run `body`, which always returns, if the call is `number` (which is what is loaded)."""
    return [_op(_EQUAL, number, 0, len(body)), *body]


def _argument(index: int) -> int:
    """Offset of the low half of an argument in `struct seccomp_data`, little-endian."""
    return 16 + 8 * index
