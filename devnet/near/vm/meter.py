"""Makes a contract burn what nearcore would: every instruction, every function's frame.

wasmtime counts most instructions as one unit of fuel but some as none, and nearcore charges for
the frame of a function too (``prepare_v3`` of its VM). What is missing is put in as pairs of
``i32.const 0`` and ``drop``: wasmtime counts one unit for each pair and makes no code of it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from devnet.near.rules import (
    MAX_BODY_BYTES,
    MAX_FUNCTIONS,
    MAX_LOCALS,
    MEMORY_PAGES,
)

T = TypeVar("T")

_UNIT: Final = b"\x41\x00\x1a"  # i32.const 0, drop
_FRAME_BYTES: Final = 64
_ENTRY_UNITS: Final = 1  # wasmtime counts one when a function is entered
_TYPE_BYTES: Final = {0x7F: 4, 0x7E: 8, 0x7D: 4, 0x7C: 8, 0x70: 8, 0x6F: 8}

_CUSTOM, _TYPES, _IMPORTS, _FUNCTIONS, _MEMORY, _CODE = 0, 1, 2, 3, 5, 10

_LOOP, _BR_TABLE, _SELECT, _GROW, _PREFIX = 0x03, 0x0E, 0x1C, 0x40, 0xFC
_UNCOUNTED: Final = frozenset((0x00, 0x01, 0x0F, 0x1A))  # unreachable, nop, return, drop
_ONE_NUMBER: Final = frozenset(
    (0x02, _LOOP, 0x04, 0x0C, 0x0D, 0x10, *range(0x20, 0x27), 0x3F, _GROW, 0x41, 0x42, 0xD0, 0xD2)
)
_TWO_NUMBERS: Final = frozenset((0x11, *range(0x28, 0x3F)))
_CONSTANTS: Final = {0x43: 4, 0x44: 8}
_PREFIXED_NUMBERS: Final = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_MEMORY_LIMITS: Final = b"\1\1" + b"".join(map(_number, MEMORY_PAGES))


class TooLarge(ValueError):
    """The contract is over a limit; the text is nearcore's ``PrepareError``."""


@lru_cache(16)
def metered(code: bytes) -> bytes:
    """Return the same contract with its gas in it, without its custom sections.

    Raises :class:`ValueError` (or :class:`IndexError`) for what is no module, and
    :class:`TooLarge`. Whether the module is valid is for wasmtime to say.
    """
    if code[:8] != b"\0asm\1\0\0\0":
        raise ValueError("not a wasm module")
    out = [code[:8]]
    module = _Module()
    reader = _Reader(code, 8)
    while reader.at < len(code):
        section, size = reader.byte(), reader.number()
        start, end = reader.at, reader.at + size
        if end > len(code):
            raise ValueError("a section ends after the module")
        if section == _TYPES:
            module.types = reader.many(reader.function_type)
        elif section == _IMPORTS:
            reader.many(reader.skip_import)
        elif section == _FUNCTIONS:
            module.functions = reader.many(reader.number)
            if len(module.functions) > MAX_FUNCTIONS:
                raise TooLarge("TooManyFunctions")
        content = code[start:end]
        if section == _CODE:
            content = module.metered(reader)
        elif section == _MEMORY:
            content = _MEMORY_LIMITS  # whatever the contract says, as on NEAR
        if section != _CUSTOM:
            out.append(bytes([section]) + _number(len(content)) + content)
        reader.at = end
    return b"".join(out)


class _Reader:
    """Reads the parts of a module."""

    def __init__(self, code: bytes, at: int) -> None:
        self.code = code
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.code[self.at - 1]

    def number(self) -> int:
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found
            if shift > 63:
                raise ValueError("a number is too long")

    def many(self, item: Callable[[], T]) -> list[T]:
        count = self.number()
        if count > len(self.code):
            raise ValueError("more items than bytes")
        return [item() for _ in range(count)]

    def function_type(self) -> int:
        """Return how many bytes of a frame the parameters take."""
        if self.byte() != 0x60:
            raise ValueError("not a function type")
        parameters = sum(self.many(self.value_type))
        self.many(self.value_type)
        return parameters

    def value_type(self) -> int:
        return _TYPE_BYTES.get(self.byte(), 8)

    def skip_import(self) -> None:
        for _ in range(2):
            length = self.number()
            self.at += length
        kind = self.byte()
        if kind != 0:
            raise TooLarge("Memory" if kind == 2 else "Instantiate")
        self.number()


class _Module:
    """What is known of a module before its code comes."""

    def __init__(self) -> None:
        self.types: list[int] = []
        self.functions: list[int] = []
        self._locals = 0

    def metered(self, reader: _Reader) -> bytes:
        count = reader.number()
        if count != len(self.functions):
            raise ValueError("not as many bodies as functions")
        bodies = [self._body(reader, self.types[kind]) for kind in self.functions]
        return _number(count) + b"".join(_number(len(body)) + body for body in bodies)

    def _body(self, reader: _Reader, parameters: int) -> bytes:
        size = reader.number()
        start, end = reader.at, reader.at + size
        if size > MAX_BODY_BYTES:
            raise TooLarge("FunctionBodyTooLarge")
        frame = _FRAME_BYTES + parameters
        for _ in range(reader.number()):
            count = reader.number()
            self._locals += count
            frame += count * reader.value_type()
        if self._locals > MAX_LOCALS:
            raise TooLarge("TooManyLocals")
        head = reader.code[start : reader.at]
        body = _instructions(reader.code, reader.at, end)
        reader.at = end
        return head + _UNIT * (-(-frame // 8) - _ENTRY_UNITS) + body


def _instructions(code: bytes, at: int, end: int) -> bytes:
    out: list[bytes] = []
    copied = at
    while at < end:
        operation = code[at]
        if operation in _UNCOUNTED:
            out += (code[copied:at], _UNIT)
            copied = at
            at += 1
        elif operation in _ONE_NUMBER:
            at = _skip(code, at + 1)
            if operation == _LOOP:  # paid for on every round
                out += (code[copied:at], _UNIT)
                copied = at
        elif operation in _TWO_NUMBERS:
            at = _skip(code, _skip(code, at + 1))
        elif operation in _CONSTANTS:
            at += 1 + _CONSTANTS[operation]
        elif operation in (_BR_TABLE, _SELECT):
            reader = _Reader(code, at + 1)
            for _ in range(reader.number() + (operation == _BR_TABLE)):
                reader.at = _skip(code, reader.at)
            at = reader.at
        elif operation == _PREFIX:
            reader = _Reader(code, at + 1)
            for _ in range(_PREFIXED_NUMBERS.get(reader.number(), 0)):
                reader.at = _skip(code, reader.at)
            at = reader.at
        else:
            at += 1
    out.append(code[copied:end])
    return b"".join(out)


def _skip(code: bytes, at: int) -> int:
    while code[at] >= 0x80:
        at += 1
    return at + 1
