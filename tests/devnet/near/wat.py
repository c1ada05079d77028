"""Contracts written by hand, in WebAssembly's text form."""

from __future__ import annotations

import re
from collections.abc import Mapping

import wasmtime

from devnet.near.vm import machine  # noqa: F401 - fills the table
from devnet.near.vm.functions import HOST, NOT_MODELLED


def contract(
    methods: Mapping[str, str], data: Mapping[int, bytes] | None = None, *, pages: int = 1,
    extra: str = "", imports: str = "",
) -> bytes:  # fmt: skip
    """A contract with these methods (their instructions) and this in its memory.

    A host function is imported when it is called by its name, as in ``call $log_utf8``.
    """
    text = " ".join([*methods.values(), extra])
    imported = [imports]
    for name in sorted(set(re.findall(r"call \$(\w+)", text))):
        if name in HOST:
            parameters, results, bits = HOST[name].parameters, HOST[name].results, 64
        elif name in NOT_MODELLED:
            parameters, results, bits = NOT_MODELLED[name]
        else:
            continue
        kind = f"(param {'i64 ' * parameters})" + (f" (result i{bits})" if results else "")
        imported.append(f'(import "env" "{name}" (func ${name} {kind}))')
    functions = [f'(func (export "{name}") {body})' for name, body in methods.items()]
    placed = [
        f'(data (i32.const {at}) "{"".join(f"{chr(92)}{byte:02x}" for byte in content)}")'
        for at, content in (data or {}).items()
    ]
    parts = [*imported, f'(memory (export "memory") {pages})', *placed, extra, *functions]
    return bytes(wasmtime.wat2wasm(f"(module {' '.join(parts)})"))


def numbers(*values: int) -> str:
    """Instructions that put these on the stack."""
    return " ".join(f"i64.const {value}" for value in values)


def returned_register(register: int = 0) -> str:
    """Instructions that return what a register holds."""
    return f"{numbers(-1, register)} call $value_return"
