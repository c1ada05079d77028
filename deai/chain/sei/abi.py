"""The contracts' interface: committed artifacts, calls, events and errors by their ABI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

import msgspec
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from deai.chain.ledger import OPTIONAL_CONTRACTS
from deai.chain.refusals import refusal
from deai.errors import LedgerRejected, MalformedMessage
from deai.hashing import keccak
from deai.ids import hexed

CONTRACTS: Final = ("ComputeToken", "NodeRegistry", "TaskEscrow")
"""What every deployment has."""
Errors: TypeAlias = Mapping[bytes, tuple[str, tuple[tuple[str, str], ...]]]
"""By selector: an error's name, and `(name, type)` of its arguments."""
_BUILTIN_ERRORS: Final[Errors] = {
    bytes.fromhex("08c379a0"): ("Error", (("reason", "string"),)),
    bytes.fromhex("4e487b71"): ("Panic", (("code", "uint256"),)),
}
_MAX_SHOWN: Final = 80


class Function(msgspec.Struct, frozen=True):
    """How to call one function and read its answer."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class EventShape(msgspec.Struct, frozen=True):
    """How to read one event: `(name, type, indexed)` in order."""

    name: str
    fields: tuple[tuple[str, str, bool], ...]


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One contract: functions by `name/argument count`, events by topic, errors by selector."""

    functions: dict[str, Function]
    events: dict[bytes, EventShape]
    errors: dict[bytes, tuple[str, tuple[tuple[str, str], ...]]]
    constructor: tuple[str, ...]
    bytecode: bytes


@cache
def interface(contract: str) -> Interface:
    """The committed artifact of a contract."""
    data = files("deai.chain").joinpath(f"artifacts/sei/{contract}.json").read_bytes()
    artifact: Any = msgspec.json.decode(data)
    functions, events, errors = {}, {}, {}
    constructor: tuple[str, ...] = ()
    for entry in artifact["abi"]:
        kind, inputs = entry["type"], entry.get("inputs", [])
        types = tuple(_type(one) for one in inputs)
        if kind == "constructor":
            constructor = types
        if kind not in ("function", "event", "error"):
            continue
        name = entry["name"]
        digest = keccak(f"{name}({','.join(types)})".encode())
        if kind == "function":
            outputs = tuple(_type(one) for one in entry["outputs"])
            functions[f"{name}/{len(types)}"] = Function(digest[:4], types, outputs)
        elif kind == "event":
            fields = tuple((one["name"], _type(one), bool(one["indexed"])) for one in inputs)
            events[digest] = EventShape(name, fields)
        else:
            errors[digest[:4]] = (name, tuple((one["name"], _type(one)) for one in inputs))
    return Interface(
        functions=functions,
        events=events,
        errors=errors,
        constructor=constructor,
        bytecode=bytes.fromhex(artifact["bytecode"].removeprefix("0x")),
    )


def call_data(contract: str, function: str, *arguments: object) -> bytes:
    """The input of a call."""
    shape = interface(contract).functions[f"{function}/{len(arguments)}"]
    return shape.selector + encode(shape.inputs, arguments)


def creation_data(contract: str, *arguments: object) -> bytes:
    """The input of the transaction that deploys a contract."""
    shape = interface(contract)
    return shape.bytecode + encode(shape.constructor, arguments)


def values(types: Sequence[str], *arguments: object) -> bytes:
    """Bare ABI encoding of some values."""
    return encode(types, arguments)


def read_answer(contract: str, function: str, data: bytes, at: int = 0) -> Any:  # noqa: ANN401
    """What a call without arguments or with one to three returned: its value number `at`.

    Raises `MalformedMessage` for bytes that are no such answer.
    """
    candidates = interface(contract).functions
    shape = next(candidates[f"{function}/{n}"] for n in range(4) if f"{function}/{n}" in candidates)
    return _decode(shape.outputs, data)[at]


def read_event(
    contract: str, topics: Sequence[bytes], data: bytes
) -> tuple[str, dict[str, Any]] | None:
    """`(name, values)` of a log; None for an event that the contract's ABI does not know.

    Text comes as bytes, because nothing makes a stranger write UTF-8 into it. Raises
    `MalformedMessage` for bytes that are no such event.
    """
    shape = interface(contract).events.get(topics[0]) if topics else None
    if shape is None:
        return None
    indexed = [(name, kind) for name, kind, is_indexed in shape.fields if is_indexed]
    plain = [
        (name, "bytes" if kind == "string" else kind)
        for name, kind, is_indexed in shape.fields
        if not is_indexed
    ]
    if len(topics) != len(indexed) + 1:
        raise MalformedMessage(f"{shape.name} has {len(indexed)} topics, not {len(topics) - 1}")
    found = dict(
        zip([name for name, _ in plain], _decode([kind for _, kind in plain], data), strict=True)
    )
    for (name, kind), topic in zip(indexed, topics[1:], strict=True):
        found[name] = _decode([kind], topic)[0]
    return shape.name, found


def read_error(data: bytes) -> LedgerRejected:
    """The contract's own error behind revert data, whichever contract raised it."""
    if not data:
        return refusal("Reverted")
    name, fields = _errors().get(data[:4], ("", ()))
    if not name:
        return refusal("Unknown", {"data": hexed(data[:_MAX_SHOWN])})
    try:
        found = _decode([kind for _, kind in fields], data[4:])
    except MalformedMessage:
        return refusal(name)
    shown = zip(fields, found, strict=True)
    return refusal(name, {key: _shown(kind, value) for (key, kind), value in shown})


def error_name(contract: str, selector: bytes) -> str:
    """The name of one of a contract's errors; raises `MalformedMessage` for none of them."""
    try:
        return interface(contract).errors[selector][0]
    except KeyError:
        raise MalformedMessage(f"{contract} has no error {selector.hex()}") from None


@cache
def _errors() -> Errors:
    contracts = (*CONTRACTS, *OPTIONAL_CONTRACTS)
    return merged(_BUILTIN_ERRORS, *(interface(contract).errors for contract in contracts))


def merged(*tables: Errors) -> Errors:
    """Errors of several contracts: the first that has one says what its arguments are called.

    A selector tells types and not names, and a refusal may come from a contract that was called by
    the one that we called; so a contract added later changes nothing about those before it.
    """
    found: dict[bytes, tuple[str, tuple[tuple[str, str], ...]]] = {}
    for table in tables:
        found = {**table, **found}
    return found


def _decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    try:
        found: tuple[Any, ...] = decode(types, data)
    except (DecodingError, ValueError, OverflowError) as error:
        raise MalformedMessage(f"not ABI data of ({', '.join(types)}): {error}") from error
    return found


def _type(parameter: Mapping[str, Any]) -> str:
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_type(one) for one in parameter["components"])
    return f"({inner}){kind.removeprefix('tuple')}"


def _shown(kind: str, value: object) -> object:
    if kind == "bytes4" and isinstance(value, bytes):  # another error, by its selector
        return _errors().get(value, ("", ()))[0]
    return _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return hexed(value)
    return value.lower() if isinstance(value, str) and value.startswith("0x") else value
