"""The few kernel calls of the lock that Python does not offer, through libc.

Numbers and structures: `prctl(2)`, `capabilities(7)`, `landlock(7)`, `seccomp(2)`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_SYS_CAPSET: Final = 126  # x86-64
_CAPABILITY_VERSION: Final = 0x20080522
_SYS_LANDLOCK: Final = (444, 445, 446)  # create ruleset, add rule, restrict self
_CREATE_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    _checked(_LIBC.prctl(option, value, pointer, 0, 0), f"prctl {option}")


def die_with_parent(parent: int, signal_number: int) -> None:
    """Ask for `signal_number` when the parent ends; raise `OSError` if it already has."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        raise OSError(f"parent {parent} is gone")


def forbid_attachment() -> None:
    """No core dumps, no debugger of the same user."""
    _prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """No set-user-id program gives anything back; the filters below demand it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability, so that root inside is an ordinary user."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    empty = ctypes.create_string_buffer(24)
    _checked(_LIBC.syscall(_SYS_CAPSET, header, empty), "capset")


def install_filter(program: Sequence[bytes]) -> None:
    """Install a seccomp filter: assembled BPF instructions of eight bytes each."""
    code = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    holder = ctypes.create_string_buffer(head)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(holder))


def restrict_files(readable: Sequence[Path]) -> int:
    """From now on only files under `readable` can be opened, to read; return the ABI used.

    Also denies TCP (ABI 4), device ioctl (5), abstract sockets and signals to others (6).
    """
    version = _checked(_LIBC.syscall(_SYS_LANDLOCK[0], None, 0, _CREATE_VERSION), "landlock")
    handled = (1 << 13) - 1
    handled |= sum(1 << bit for bit, since in ((13, 2), (14, 3), (15, 5)) if version >= since)
    attributes = struct.pack("=Q", handled)
    attributes += struct.pack("=Q", 3) if version >= 4 else b""
    attributes += struct.pack("=Q", 3) if version >= 6 else b""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = _checked(_LIBC.syscall(_SYS_LANDLOCK[0], buffer, len(attributes), 0), "ruleset")
    try:
        for path in readable:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = ctypes.create_string_buffer(
                    struct.pack("=Qi", _READ_FILE | _READ_DIR, place), 12
                )
                made = _LIBC.syscall(_SYS_LANDLOCK[1], ruleset, _RULE_PATH_BENEATH, rule, 0)
                _checked(made, f"rule for {path}")
            finally:
                os.close(place)
        _checked(_LIBC.syscall(_SYS_LANDLOCK[2], ruleset, 0), "restrict")
    finally:
        os.close(ruleset)
    return version
