"""The wasm engine: compiled contracts, the host functions bound to it, one call at a time."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Final

import wasmtime

from devnet.near import rules
from devnet.near.actions import FunctionCall
from devnet.near.vm import about, crypto, promises, storage
from devnet.near.vm.binding import Bindings, exported
from devnet.near.vm.call import Call, CallContext, GasExceeded, HostError, Promise, Storage
from devnet.near.vm.functions import HOST, NOT_MODELLED, Host
from devnet.near.vm.meter import TooLarge, metered

MAX_COMPILED: Final = 64  # contracts kept compiled
_MODULES: Final = (about, crypto, promises, storage)  # importing them fills the table
_U32: Final = 2**32 - 1

Failure = dict[str, object]


@dataclass(frozen=True)
class CallOutcome:
    """How a call ended. ``failure`` is nearcore's ``FunctionCallError``, None for a success.

    ``returned`` is a value or the promise whose value is meant. Gas ``used`` holds what promises
    were given. ``balance`` is the account's afterwards, in yoctoNEAR.
    """

    burnt: int
    used: int
    balance: int
    logs: list[str]
    returned: bytes | Promise = b""
    promises: list[Promise] = field(default_factory=list)
    failure: Failure | None = None


class _Refused(Exception):
    """The code or the method cannot be run: nothing is burnt."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class Machine:
    """Runs calls, one after the other: on NEAR no call happens inside another."""

    def __init__(self) -> None:
        self._bindings = Bindings(_engine())
        self._call: Call | None = None
        for name, function in HOST.items():
            given, results = ["i64"] * function.parameters, ["i64"] * function.results
            self._bindings.define(name, given, results, self._bound(name, function))
        for name, (parameters, count, bits) in NOT_MODELLED.items():
            results = [f"i{bits}"] * count
            self._bindings.define(name, ["i64"] * parameters, results, _refusal(name))
        self._bindings.define("abort", ["i32"] * 4, [], self._abort)

    def run(
        self, code_hash: bytes, code: bytes, context: CallContext, world: Storage
    ) -> CallOutcome:
        """Run a method of a contract to its end."""
        call = Call(context, world)
        failure: Failure | None = None
        self._call = call
        try:
            self._execute(call, code_hash, code)
            call.finish()
            share_gas(call)
        except _Refused as refused:
            return CallOutcome(0, 0, context.balance, [], failure=refused.failure)
        except GasExceeded as error:
            call.exhaust()
            failure = {"ExecutionError": str(error)}
        except HostError as error:
            failure = {"ExecutionError": str(error)}
        except wasmtime.Trap as trap:
            failure = {"ExecutionError": _trapped(call, trap)}
        except wasmtime.WasmtimeError as error:
            failure = {"LinkError": {"msg": str(error).splitlines()[0]}}
        finally:
            self._call = None
        burnt = min(call.burnt_gas, rules.MAX_BURNT_GAS, context.prepaid_gas)
        if failure is not None:
            return CallOutcome(burnt, burnt, context.balance, call.logs, failure=failure)
        return CallOutcome(
            burnt, call.used_gas, call.balance, call.logs, call.returned, call.promises
        )

    def _execute(self, call: Call, code_hash: bytes, code: bytes) -> None:
        module = _compiled(code_hash, code)
        if not call.context.method:
            raise _Refused({"MethodResolveError": "MethodEmptyName"})
        call.burn(
            rules.HOST_GAS["contract_loading_base"]
            + rules.HOST_GAS["contract_loading_byte"] * len(code)
        )
        store = wasmtime.Store(_engine())
        store.set_limits(
            memory_size=rules.MAX_MEMORY_BYTES,
            table_elements=rules.MAX_TABLE_ELEMENTS,
            instances=1,
            tables=1,
            memories=1,
        )
        call.start(store)
        instance = self._bindings.linker.instantiate(store, module)
        method = exported(store, instance, call.context.method)
        if not isinstance(method, wasmtime.Func):
            raise _Refused({"MethodResolveError": "MethodNotFound"})
        kind = method.type(store)
        if kind.params or kind.results:
            raise _Refused({"MethodResolveError": "MethodInvalidSignature"})
        memory = exported(store, instance, "memory")
        if isinstance(memory, wasmtime.Memory):
            call.attach(memory)
        self._bindings.call(store, method)

    def _running(self) -> Call:
        if self._call is None:
            raise AssertionError("no call is running")
        return self._call

    def _bound(self, name: str, function: Host) -> Callable[..., int | None]:
        base = rules.HOST_GAS["base"] if function.based else 0
        in_views, run = function.in_views, function.run

        def bound(*arguments: int) -> int | None:
            call = self._running()
            if call.context.is_view and not in_views:
                raise HostError(f"{name} is not allowed in view calls")
            call.burn(base)
            try:
                return run(call, *arguments)
            except ValueError as error:  # bytes that are not what they should be
                raise HostError(f"{name}: {error}") from error

        return bound

    def _abort(self, message: int, filename: int, line: int, column: int) -> None:
        """Do what AssemblyScript's contracts call when they fail."""
        call = self._running()

        def text(pointer: int) -> str:
            (length,) = struct.unpack("<I", call.read((pointer - 4) & _U32, 4))
            return call.read(pointer & _U32, length).decode("utf-16-le", "replace")

        raise HostError(
            f"Smart contract panicked: {text(message)}, filename: {text(filename)!r} "
            f"line: {line & _U32} col: {column & _U32}"
        )


@cache
def _engine() -> wasmtime.Engine:
    """Return the engine that all chains of this process share, with what it has compiled."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.wasm_simd = config.wasm_relaxed_simd = config.wasm_threads = False
    config.wasm_multi_memory = config.wasm_memory64 = config.wasm_multi_value = False
    config.wasm_exceptions = config.wasm_gc = config.wasm_function_references = False
    config.wasm_tail_call = config.wasm_stack_switching = False
    config.cranelift_opt_level = "none"  # calls are short; compiling is what takes long
    config.cranelift_nan_canonicalization = True
    config.max_wasm_stack = 1 << 20
    return wasmtime.Engine(config)


@lru_cache(MAX_COMPILED)
def _compiled(code_hash: bytes, code: bytes) -> wasmtime.Module:
    try:
        return wasmtime.Module(_engine(), metered(code))
    except TooLarge as error:
        raise _Refused({"CompilationError": {"PrepareError": str(error)}}) from error
    except (wasmtime.WasmtimeError, ValueError, IndexError) as error:
        failure: Failure = {"PrepareError": "Deserialization"}
        raise _Refused({"CompilationError": failure}) from error


def share_gas(call: Call) -> None:
    """Give the gas left over to the promised calls that asked for a share of it."""
    shares = [
        (promise, place, weight) for promise in call.promises for place, weight in promise.weights
    ]
    total = sum(weight for _, _, weight in shares)
    left = call.context.prepaid_gas - call.used_gas
    if not total or left <= 0:
        return
    given = 0
    for number, (promise, place, weight) in enumerate(shares, 1):
        share = left * weight // total if number < len(shares) else left - given
        given += share
        old = promise.actions[place]
        if isinstance(old, FunctionCall):
            promise.actions[place] = FunctionCall(
                old.method, old.args, old.gas + share, old.deposit
            )
    call.promised_gas += left


def _refusal(name: str) -> Callable[..., int | None]:
    def refuse(*_arguments: int) -> int | None:
        raise HostError(f"{name} is not modelled by this chain")

    return refuse


def _trapped(call: Call, trap: wasmtime.Trap) -> str:
    code = trap.trap_code
    if code == wasmtime.TrapCode.OUT_OF_FUEL:
        call.exhaust()
        return str(GasExceeded())
    if code == wasmtime.TrapCode.UNREACHABLE:
        return "WebAssembly trap: An `unreachable` opcode was executed."
    return f"WebAssembly trap: {code.name if code else trap.message.splitlines()[0]}"
