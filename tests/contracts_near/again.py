"""Recorded calls, run again one by one with something changed.

The calls of `gas_plays` hold every method with all its arguments as they are accepted, so that a
test which changes each of them forgets none.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devnet.near.rules import NEAR
from devnet.near.vm.call import CallContext
from devnet.near.vm.machine import CallOutcome, Machine
from tests.contracts_near.gas_plays import Meter
from tests.contracts_near.recorder import Record

MACHINE = Machine()
LONG, WIDE = "x" * 10_240, "é" * 5_000
SHORT = ("", "☃", "\0")
MALLORY = "mallory.near"
STRANGE: tuple[object, ...] = (LONG, WIDE, *SHORT, 5, -1, 2**64, 1.5, None, True, [], {}, [[]] * 50)


@dataclass
class Entries:
    """Storage of one call."""

    held: dict[bytes, bytes]
    bytes_used: int
    count: int = 0

    def read(self, key: bytes) -> bytes | None:
        return self.held.get(key)

    def write(self, key: bytes, value: bytes) -> None:
        self.held[key] = value

    def remove(self, key: bytes) -> None:
        self.held.pop(key, None)

    def usage(self) -> int:
        return self.bytes_used

    def new_data_id(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(32, "little")


@dataclass(frozen=True)
class Known:
    """A call that succeeds, on the state it needs."""

    contract: str  # token or compute
    method: str
    arguments: Any
    code_hash: bytes
    code: bytes
    context: CallContext
    entries: dict[bytes, bytes] = field(repr=False)
    usage: int = 0

    def run(self, arguments: Any = None, **changed: Any) -> CallOutcome:
        """The same call with other arguments, or another context."""
        body = self.context.args if arguments is None else json.dumps(arguments).encode()
        context = replace(self.context, args=body, **changed)
        return self._run(context, Entries(dict(self.entries), self.usage))

    def after(self, method: str, arguments: object, **changed: Any) -> Known:
        """The same call once the contract has been called so, by whom and with what it is told."""
        context = replace(
            self.context, method=method, args=json.dumps(arguments).encode(), **changed
        )
        world = Entries(dict(self.entries), self.usage)
        done = self._run(context, world)
        assert done.failure is None, (method, done.failure)
        return replace(self, entries=world.held, usage=world.bytes_used)

    def _run(self, context: CallContext, world: Entries) -> CallOutcome:
        return MACHINE.run(self.code_hash, self.code, context, world)


def known_calls(meter: Meter) -> list[Known]:
    """Each method once, in the case with the most arguments."""
    found: dict[tuple[str, str], Known] = {}
    records = [record for one in meter.rows.values() for record in one.records]
    for record in sorted(records, key=lambda one: -len(one["input"])):
        known = _known(record, meter.recorder.codes[record["code"]])
        wanted = (known.contract, known.method)
        if record["method"] == "ft_on_transfer":  # three methods behind one door
            wanted = (known.contract, f"ft_on_transfer {list(known.arguments['msg'])[:1]}")
        found.setdefault(wanted, known)
    return [found[name] for name in sorted(found)]


def _known(record: Record, code: bytes) -> Known:
    def raw(name: str) -> bytes:
        return base64.b64decode(record[name])

    context = CallContext(
        current=record["account"], signer=record["signer"], signer_key=raw("signer_key"),
        predecessor=record["predecessor"], method=record["method"], args=raw("input"),
        deposit=int(record["deposit"]), prepaid_gas=record["gas"], height=record["height"],
        timestamp=record["timestamp"], seed=raw("seed"),
        balance=int(record["balance"]) + int(record["deposit"]), refund_to=record["refund_to"],
        results=[None if one is None else base64.b64decode(one) for one in record["results"]],
        outputs=record["outputs"],
    )  # fmt: skip
    try:
        arguments: Any = json.loads(context.args or b"{}")
    except ValueError:
        arguments = None  # `upgrade` is given bare bytes
    if isinstance(arguments, dict) and arguments.get("msg"):
        arguments["msg"] = json.loads(arguments["msg"])
    entries = {base64.b64decode(k): base64.b64decode(v) for k, v in record["before"]}
    contract = record["account"].partition(".")[0]
    return Known(
        contract, context.method, arguments, bytes.fromhex(record["code"]), code, context,
        entries, record["usage"],
    )  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON document: every field, every first item of a list."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*path, name))
    elif isinstance(value, list) and value:
        found += places(value[0], (*path, 0))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with something else at one place; a message in it becomes text again."""
    copied = json.loads(json.dumps(value))
    inside = at(copied, path[:-1])
    inside[path[-1]] = new
    return plain(copied)


def plain(arguments: Any) -> Any:
    """Arguments as they are sent: the message of a transfer is text."""
    message = arguments.get("msg") if isinstance(arguments, dict) else None
    if isinstance(message, dict):
        return {**arguments, "msg": json.dumps(message)}
    return arguments


def with_strange_values(
    calls: list[Known],
) -> Iterator[tuple[Known, tuple[Any, ...], object, bool]]:
    """Each call with each strange value at each place of its arguments, and whether it is taken."""
    for call in calls:
        if call.arguments is None:
            continue
        assert call.run().failure is None, call
        for path in places(call.arguments):
            old = at(call.arguments, path)
            for value in STRANGE:
                if value == old and type(value) is type(old):
                    continue
                done = call.run(changed(call.arguments, path, value))
                yield call, path, value, done.failure is None


def with_less_gas(calls: list[Known]) -> Iterator[tuple[Known, int, CallOutcome]]:
    """Each call with parts of the gas that it burns, and how it ends."""
    for call in calls:
        burnt = call.run().burnt
        for part in (0.1, 0.5, 0.9, 0.99):
            given = int(burnt * part)
            yield call, given, call.run(prepaid_gas=given)


def takes_only_what_was_sent(callback: Known) -> None:
    """Check that a callback refuses every other input."""
    sound = callback.context.args
    assert callback.run().failure is None
    for body in (b"", sound[:-1], sound + b"\0", b"{}", *(text.encode() for text in SHORT)):
        given = replace(callback, context=replace(callback.context, args=body))
        assert given.run().failure is not None, body


@dataclass(frozen=True)
class Row:
    """What the README says of a method."""

    method: str
    arguments: list[str]
    deposit: str
    caller: str


NO_ROW = Row("", [], "", "")


def take_exactly_one_yocto(calls: list[Known], rows: dict[str, Row]) -> int:
    """Check those that the table says want it; how many there are."""
    wanting = [one for one in calls if rows.get(one.method, NO_ROW).deposit == "yocto"]
    for call in wanting:
        assert call.run(deposit=1).failure is None, call
        for wrong in (0, 2, NEAR):
            assert "E_ONE_YOCTO" in str(call.run(deposit=wrong).failure), (call, wrong)
    return len(wanting)


def take_no_deposit(calls: list[Known], rows: dict[str, Row]) -> int:
    """Check those that the table says take none, and the token's call; how many there are."""
    bare = [
        one
        for one in calls
        if rows.get(one.method, NO_ROW).deposit == "none" or one.method == "ft_on_transfer"
    ]
    for call in bare:
        assert "doesn't accept deposit" in str(call.run(deposit=1).failure), call
    return len(bare)


def table(page: Path) -> Iterator[Row]:
    """Every method of a README's tables."""
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) < 5 or cells[2] not in ("none", "yocto", "storage", "NEP-145"):
            continue
        arguments = re.findall(r"(\w+)\??", re.sub(r"\(.*?\)", "", cells[1]))
        if cells[0].startswith("`upgrade`"):
            arguments = []
        for method in re.findall(r"`(\w+)`", cells[0].partition(" (")[0]):
            yield Row(method, arguments, cells[2], cells[3])
