"""Canonical bytes of typed values: msgspec arrays in MessagePack, one form per value.

Amounts and counts travel as decimal text: they do not fit MessagePack's 64-bit integers.
Free-form values (workload parameters) go through `msgpack` in its strict mode.
"""

from __future__ import annotations

import re
from typing import Any, Final, Generic, TypeVar

import msgpack
import msgspec

from deai.errors import MalformedMessage
from deai.money import Amount, Count

T = TypeVar("T")

MAX_VALUE_BYTES: Final = 32 * 1024
MAX_VALUE_DEPTH: Final = 8
MAX_VALUE_ITEMS: Final = 4096
MAX_JSON_DEPTH: Final = 64
MAX_DIGITS: Final = 34
"""Of the longest whole number: 112 bits."""

# A string without an end is one too: looking for its end from every quote inside it would take
# time that grows with the square of the text.
_JSON_BRACKETS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def _to_wire(value: object) -> str:
    if isinstance(value, Amount | Count):
        return str(int(value))
    raise NotImplementedError(f"no wire form: {type(value)}")


def _from_wire(kind: type[object], value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        if len(value) > 1 and value[0] == "0":
            raise ValueError("a whole number has no leading zeros")
        if kind is Amount:
            return Amount(int(value))
        if kind is Count:
            return Count(int(value))
    raise ValueError(f"cannot read {kind.__name__}")


ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_to_wire)
_PLAIN: Final = frozenset((type(None), bool, int, float, str))
JSON_ENCODER: Final = msgspec.json.Encoder(enc_hook=_to_wire, order="sorted")


class Codec(Generic[T]):
    """Bytes of one type (or tagged union), at most `max_bytes`, only in canonical form."""

    def __init__(self, kind: Any, max_bytes: int) -> None:  # noqa: ANN401 - a union is no type
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(
            kind, dec_hook=_from_wire
        )
        self._max_bytes = max_bytes

    def encode(self, value: T) -> bytes:
        """The one canonical form; raise `MalformedMessage` above `max_bytes`."""
        data = ENCODER.encode(value)
        if len(data) > self._max_bytes:
            raise MalformedMessage(f"{len(data)} bytes exceed {self._max_bytes}")
        return data

    def decode(self, data: bytes) -> T:
        """Read one value; raise `MalformedMessage` for anything but its canonical form."""
        value = self.decode_any_form(data)
        if ENCODER.encode(value) != data:
            raise MalformedMessage("not in canonical form")
        return value

    def decode_any_form(self, data: bytes | memoryview) -> T:
        """As `decode`, for bytes that nobody hashes or signs: also in other forms of the value.

        One value may then have several forms (an integer in more bytes than it needs), which is
        harmless where only the value counts, and saves encoding it once more.
        """
        if len(data) > self._max_bytes:
            raise MalformedMessage(f"{len(data)} bytes exceed {self._max_bytes}")
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from error


def encode_canonical(value: object) -> bytes:
    """Canonical bytes of a typed struct, for hashing and signing."""
    return ENCODER.encode(value)


def encode_json(value: object) -> bytes:
    """JSON of a typed struct: amounts as decimal text, keys sorted."""
    return JSON_ENCODER.encode(value)


def decode_json(data: bytes, kind: type[T]) -> T:
    """Read a typed struct from JSON; raise `MalformedMessage` with the path of the fault."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_from_wire)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def check_json_depth(text: str) -> None:
    """Raise `MalformedMessage` for JSON nested more than `MAX_JSON_DEPTH` deep.

    For text of strangers that no type bounds: Python's parser recurses on the machine's stack,
    and its limit is the whole process's, which some libraries raise until the stack overflows.
    """
    depth = 0
    for found in _JSON_BRACKETS.finditer(text):
        sign = found[0][0]
        if sign in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise MalformedMessage(f"nested more than {MAX_JSON_DEPTH} deep")
        elif sign in "]}":
            depth -= 1


def encode_value(value: object) -> bytes:
    """Canonical MessagePack of a free-form value: maps sorted by key, floats as binary64.

    Raises `MalformedMessage` for types other than None, bool, int, float, str, list, dict with
    text keys, and above the size, depth and count limits of this module.
    """
    budget = [MAX_VALUE_ITEMS]
    try:
        data: bytes = msgpack.packb(_ordered(value, 0, budget), use_bin_type=True)
    except (OverflowError, ValueError, UnicodeEncodeError) as error:
        raise MalformedMessage(str(error)) from error
    if len(data) > MAX_VALUE_BYTES:
        raise MalformedMessage(f"{len(data)} bytes exceed {MAX_VALUE_BYTES}")
    return data


def decode_value(data: bytes) -> Any:  # noqa: ANN401 - free-form by definition
    """Read a free-form value; raise `MalformedMessage` for anything but its canonical form."""
    if len(data) > MAX_VALUE_BYTES:
        raise MalformedMessage(f"{len(data)} bytes exceed {MAX_VALUE_BYTES}")
    try:
        value = msgpack.unpackb(
            data, raw=False, strict_map_key=True, max_ext_len=0, max_bin_len=0, use_list=True
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
    if encode_value(value) != data:
        raise MalformedMessage("not in canonical form")
    return value


def _ordered(value: object, depth: int, budget: list[int]) -> object:
    budget[0] -= 1
    if depth > MAX_VALUE_DEPTH or budget[0] < 0:
        raise MalformedMessage("nested too deeply or too many items")
    if type(value) in _PLAIN or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_ordered(item, depth + 1, budget) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise MalformedMessage("keys are text")
        return {key: _ordered(value[key], depth + 1, budget) for key in sorted(value)}
    raise MalformedMessage(f"no wire form: {type(value).__name__}")
