"""Host functions and exports, bound straight to wasmtime's C interface.

wasmtime-py makes an object of every argument and result of every call, and of every export of
every instance. A NEAR call consists of some dozens of host calls and is over after a millisecond,
half of which went there. Only what :mod:`devnet.near.vm.machine` needs is here: numbers in, at most
one number out.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

import wasmtime
from wasmtime import _ffi
from wasmtime._extern import wrap_extern

_U64: Final = 2**64 - 1
_finalizer: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()  # nothing to do: all lives as long

Function = Callable[..., int | None]
"""Takes unsigned 64-bit numbers."""


class Bindings:
    """Functions that contracts may import from ``env``; they live as long as this object."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.linker: Final = wasmtime.Linker(engine)
        self._callbacks: list[Any] = []
        self._raised: BaseException | None = None

    def define(self, name: str, parameters: list[str], results: list[str], run: Function) -> None:
        """Let contracts import ``run``; types are ``i32`` or ``i64``."""

        def called(_data: Any, _caller: Any, values: Any, _count: int) -> int:  # noqa: ANN401
            try:
                found = run(*[values[at].i64 & _U64 for at in places])
            except BaseException as error:  # noqa: BLE001 - raised again behind the foreign code
                self._raised = error
                trap: Any = wasmtime.Trap("a host function failed")._consume()  # noqa: SLF001
                return ctypes.cast(trap, ctypes.c_void_p).value or 0
            if has_result:
                values[0].i64 = found or 0  # ctypes takes it modulo 2**64
            return 0

        places, has_result = range(len(parameters)), bool(results)
        callback = _ffi.wasmtime_func_unchecked_callback_t(called)
        self._callbacks.append(callback)
        # Kept in a name until the call is over: a pointer does not keep what it points to.
        kind = wasmtime.FuncType(_types(parameters), _types(results))
        module, field = b"env", name.encode()
        failed: Any = _ffi.wasmtime_linker_define_func_unchecked(
            self.linker.ptr(),
            ctypes.create_string_buffer(module),
            len(module),
            ctypes.create_string_buffer(field),
            len(field),
            kind.ptr(),
            callback,
            None,
            _finalizer,
        )
        if failed:
            raise AssertionError(f"{name} cannot be defined")

    def call(self, store: wasmtime.Store, function: wasmtime.Func) -> None:
        """Call a function of a contract; raises what a host function raised in it."""
        try:
            function(store)
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            error, self._raised = self._raised, None
            if error is None:
                raise
            raise error from None


def exported(
    store: wasmtime.Store, instance: wasmtime.Instance, name: str
) -> wasmtime.Func | wasmtime.Memory | None:
    """Return a function or the memory that an instance exports."""
    item, data = _ffi.wasmtime_extern_t(), name.encode()
    found = _ffi.wasmtime_instance_export_get(
        store._context(),  # noqa: SLF001
        ctypes.byref(instance._instance),  # noqa: SLF001
        ctypes.create_string_buffer(data),
        len(data),
        ctypes.byref(item),
    )
    extern = wrap_extern(item) if found else None
    return extern if isinstance(extern, wasmtime.Func | wasmtime.Memory) else None


def _types(names: list[str]) -> list[wasmtime.ValType]:
    return [wasmtime.ValType.i64() if name == "i64" else wasmtime.ValType.i32() for name in names]
