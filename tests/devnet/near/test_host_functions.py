"""Host functions one by one, called by contracts written by hand."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import wasmtime
from coincurve import PrivateKey
from hypothesis import given, strategies as st

from devnet.near.actions import FunctionCall, execution_gas
from devnet.near.rules import HOST_GAS, NEAR, OPERATION_GAS, TGAS
from devnet.near.vm.functions import HOST
from devnet.near.vm.meter import metered
from tests.devnet.near.tools import (
    ALICE,
    BOB,
    CONTRACT,
    HELLO,
    Result,
    World,
    a_world,
    call,
    deploy,
)  # fmt: skip
from tests.devnet.near.wat import contract, numbers, returned_register

pytestmark = pytest.mark.slow

CONTRACTS = Path(__file__).parents[3] / "deai/chain/artifacts/near"

DIGESTS = {
    "sha256": hashlib.sha256(b"abc").hexdigest(),
    "keccak256": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
    "keccak512": (
        "18587dc2ea106b9a1563e32b3312421ca164c7f1f07bc922a9c83d77cea3a1e5"
        "d0c69910739025372dc14ac9642629379540c17e2a65b19d77aa511a9d00bb96"
    ),
    "ripemd160": "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc",
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path, contract=False) as made:
        yield made


def install(world: World, code: bytes, name: str = HELLO) -> None:
    assert world.send(name, name, deploy(code)).status == {"SuccessValue": ""}


def raw(result: Result) -> bytes:
    assert "SuccessValue" in result.status, result.status
    return base64.b64decode(result.status["SuccessValue"])


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_hashes(world: World, name: str) -> None:
    code = contract({"hash": f"{numbers(3, 8, 0)} call ${name} {returned_register()}"}, {8: b"abc"})
    install(world, code)
    assert raw(world.send(ALICE, HELLO, call("hash"))).hex() == DIGESTS[name]


def test_ecrecover_finds_the_signer_and_refuses_what_none_signed(world: World) -> None:
    key, digest = PrivateKey(b"\7" * 32), hashlib.sha256(b"signed").digest()
    signature = key.sign_recoverable(digest, hasher=None)

    def method(version: int) -> str:
        return f"{numbers(32, 0, 64, 32, version, 0, 0)} call $ecrecover"

    found = f"{method(signature[64])} drop {returned_register()}"
    code = contract({"found": found}, {0: digest, 32: signature[:64]})
    install(world, code)
    public = key.public_key.format(compressed=False)[1:]
    assert raw(world.send(ALICE, HELLO, call("found"))) == public
    code = contract(
        {"found": f"{method(0)} drop {returned_register()}"}, {0: digest, 32: b"\xff" * 64}
    )
    install(world, code)
    assert "invalid register" in world.send(ALICE, HELLO, call("found")).failure
    code = contract({"found": f"{method(7)} drop"}, {0: digest})
    install(world, code)
    assert "ecrecover error" in world.send(ALICE, HELLO, call("found")).failure


def test_an_entry_is_written_read_replaced_and_removed_and_its_bytes_counted(world: World) -> None:
    write = f"{numbers(1, 0, 5, 1, 0)} call $storage_write drop"
    code = contract(
        {
            "write": write,
            "shorter": f"{numbers(1, 0, 2, 1, 0)} call $storage_write drop {returned_register()}",
            "read": f"{numbers(1, 0, 0)} call $storage_read drop {returned_register()}",
            "remove": f"{numbers(1, 0, 0)} call $storage_remove drop {returned_register()}",
            "has": (
                f"(if (i64.eq (i64.const 1) (call $storage_has_key {_given(1, 0)})) "
                f"(then {numbers(2, 1)} call $value_return))"
            ),
        },
        {0: b"khello"},
    )
    install(world, code)
    accounts = world.chain.state.accounts
    usage = accounts[HELLO].usage
    assert raw(world.send(ALICE, HELLO, call("has"))) == b""
    world.send(ALICE, HELLO, call("write"))
    assert accounts[HELLO].usage == usage + 1 + 5 + 40
    assert raw(world.send(ALICE, HELLO, call("has"))) == b"he"
    assert raw(world.send(ALICE, HELLO, call("shorter"))) == b"hello"
    assert accounts[HELLO].usage == usage + 1 + 2 + 40
    assert raw(world.send(ALICE, HELLO, call("read"))) == b"he"
    assert raw(world.send(ALICE, HELLO, call("remove"))) == b"he"
    assert accounts[HELLO].usage == usage
    assert "invalid register" in world.send(ALICE, HELLO, call("remove")).failure


def _given(*values: int) -> str:
    return " ".join(f"(i64.const {value})" for value in values)


def test_a_joint_callback_gets_every_result_in_order_and_failures_as_such(world: World) -> None:
    """Two calls are joined; the callback returns the status of each and the second's value."""
    method, callback, amount = b"say", b"joined", bytes(16)
    data = {
        0: BOB.encode(), 32: ALICE.encode(), 64: method, 72: callback, 80: amount, 96: b"no",
        112: HELLO.encode(), 136: bytes(16),
    }  # fmt: skip
    gas = 10 * TGAS

    def ask(length: int, pointer: int, name: tuple[int, int]) -> str:
        return f"{numbers(length, pointer, *name, 0, 0, 80, gas)} call $promise_create"

    start = (
        f"i32.const 136 {ask(len(ALICE), 32, (3, 64))} i64.store "
        f"i32.const 144 {ask(len(BOB), 0, (3, 64))} i64.store "
        f"{numbers(136, 2)} call $promise_and "
        f"{numbers(len(HELLO), 112, 6, 72, 0, 0, 80, gas)} call $promise_then call $promise_return"
    )
    joined = (
        f"i32.const 200 {numbers(0, 5)} call $promise_result i32.wrap_i64 i32.store8 "
        f"i32.const 201 {numbers(1, 6)} call $promise_result i32.wrap_i64 i32.store8 "
        "i32.const 202 call $promise_results_count i32.wrap_i64 i32.store8 "
        f"{numbers(6, 203)} call $read_register "
        f"{numbers(5, 200)} call $value_return"
    )
    install(world, contract({"start": start, "joined": joined}, data))
    install(world, contract({"say": f"{numbers(2, 96)} call $value_return"}, {96: b"ok"}), BOB)
    # There is no contract at the first account: that call fails.
    done = world.send(ALICE, HELLO, call("start", gas=100 * TGAS))
    assert raw(done) == b"\x02\x01\x02ok"


def test_a_factory_creates_funds_keys_and_deploys_in_one_batch(world: World) -> None:
    child = f"child.{HELLO}"
    small = contract({"hi": f"{numbers(2, 0)} call $value_return"}, {0: b"hi"})
    public = b"\0" + bytes.fromhex("11" * 32)
    data = {
        0: child.encode(), 64: (2 * NEAR).to_bytes(16, "little"), 96: public, 160: bytes(16),
        192: HELLO.encode(), 224: b"hi", 1_024: small,
    }  # fmt: skip
    add_call_key = numbers(0, 33, 96, 0, 160, len(HELLO), 192, 2, 224)
    make = (
        f"{numbers(len(child), 0)} call $promise_batch_create drop "
        f"{numbers(0)} call $promise_batch_action_create_account "
        f"{numbers(0, 64)} call $promise_batch_action_transfer "
        f"{add_call_key} call $promise_batch_action_add_key_with_function_call "
        f"{numbers(0, len(small), 1_024)} call $promise_batch_action_deploy_contract "
        f"{numbers(0)} call $promise_return"
    )
    install(world, contract({"make": make}, data))
    assert raw(world.send(ALICE, HELLO, call("make", gas=100 * TGAS))) == b""
    assert world.balance(child) == 2 * NEAR
    (key,) = world.chain.state.keys(child).values()
    assert key.access is not None
    assert (key.access.receiver, key.access.methods, key.access.allowance) == (HELLO, ("hi",), None)
    assert raw(world.send(ALICE, child, call("hi"))) == b"hi"
    again = world.send(ALICE, HELLO, call("make", gas=100 * TGAS))
    assert "AccountAlreadyExists" in again.failure
    assert world.balance(child) < 2 * NEAR + NEAR // 100  # the money of the second came back


@pytest.mark.parametrize(
    ("body", "data", "complaint"),
    [
        (f"{numbers(2, 0)} call $log_utf8", b"\xff\xfe", "bad UTF-8"),
        (f"{numbers(2, 0)} call $log_utf16", b"\0\xd8", "bad UTF-16"),
        (f"{numbers(20_000, 0)} call $log_utf8", b"", "exceeds the limit"),
        (f"(loop $on {numbers(0, 0)} call $log_utf8 br $on)", b"", "number of logs"),
        (f"{numbers(1, 1 << 27)} call $panic_utf8", b"", "MemoryAccessViolation"),
        (f"{numbers(1, -2)} call $panic_utf8", b"", "MemoryAccessViolation"),
        (f"{numbers(5, 0)} call $panic_utf8", b"words", "Smart contract panicked: words"),
        (f"{numbers(3, 0)} call $promise_batch_create drop", b"A B", "account ID is invalid"),
        (f"{numbers(9)} call $promise_return", b"", "does not correspond to existing promises"),
        (f"{numbers(0, 0)} call $promise_result drop", b"", "invalid promise result index"),
        ("".join(f"{numbers(number, 0, 0)} call $write_register " for number in range(101)), b"",
         "MemoryAccessViolation"),
        (f"{numbers(3_000, 0, 0)} call $storage_read drop", b"", "storage key 3000 exceeds"),
        (f"{numbers(3, 0, 0, 0)} call $promise_yield_resume drop", b"", "is not modelled"),
        ("unreachable", b"", "unreachable"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", b"", "WebAssembly trap"),
        ("call $deeper", b"", "WebAssembly trap"),
        ("(loop $on br $on)", b"", "Exceeded the prepaid gas"),
        (f"(loop $on {numbers(0, 0, 0)} call $sha256 br $on)", b"", "Exceeded the prepaid gas"),
        (f"(loop $on {numbers(2, 0)} call $promise_batch_create drop br $on)", b"ab", "promises"),
    ],
)  # fmt: skip
def test_what_a_contract_does_wrong_fails_its_call(
    world: World, body: str, data: bytes, complaint: str
) -> None:
    deeper = "(func $deeper call $deeper i64.const 1 drop)"
    install(world, contract({"go": body}, {0: data}, extra=deeper))
    done = world.send(ALICE, HELLO, call("go", gas=500 * TGAS))
    assert complaint in json.dumps(done.status)


def test_memory_ends_at_128_mebibytes(world: World) -> None:
    grow = (
        "(if (i32.eq (i32.const 1024) (memory.size)) (then "
        "(if (i32.eq (i32.const 1024) (memory.grow (i32.const 1024))) (then "
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const 1))) "
        f"(then {numbers(2, 0)} call $value_return))))))"
    )
    install(world, contract({"grow": grow}, {0: b"no"}))
    assert raw(world.send(ALICE, HELLO, call("grow"))) == b"no"
    install(world, contract({"grow": grow}, {0: b"no"}, pages=3_000))  # NEAR does not care
    assert raw(world.send(ALICE, HELLO, call("grow"))) == b"no"


@pytest.mark.parametrize(
    "code",
    [
        b"", b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\xff", b"no wasm at all",
        contract({"other": ""}),
        contract({}, extra='(func (export "go") (param i32))'),
        contract({}, extra='(global (export "go") i32 (i32.const 1))'),
        contract({"go": ""}, imports='(import "env" "unheard_of" (func))'),
    ],
)  # fmt: skip
def test_code_that_cannot_be_run_fails_the_call_and_nothing_else(world: World, code: bytes) -> None:
    install(world, code)
    done = world.send(ALICE, HELLO, call("go"))
    (error,) = done.status["Failure"]["ActionError"]["kind"]["FunctionCallError"]
    assert error in {"CompilationError", "MethodResolveError", "LinkError"}
    if error != "LinkError":  # only what could be loaded is paid for
        (outcome,) = [
            one for one in done.outcomes.values() if one["outcome"]["executor_id"] == HELLO
        ]
        fees = execution_gas((FunctionCall("go", b"{}", 0, 0),), HELLO)
        assert outcome["outcome"]["gas_burnt"] == fees


def test_every_host_function_has_a_price_and_takes_numbers(world: World) -> None:
    """None breaks the chain, whatever a contract hands it."""
    for name, function in sorted(HOST.items()):
        for value in (0, 7, 2**31, -1, -2):
            drop = " drop" if function.results else ""
            body = f"{numbers(*[value] * function.parameters)} call ${name}{drop}"
            install(world, contract({"go": body}))
            done = world.send(ALICE, HELLO, call("go", gas=20 * TGAS))
            assert set(done.status) <= {"SuccessValue", "Failure"}, name
            world.check_money()


def test_gas_left_over_is_shared_by_weight(world: World) -> None:
    data = {0: BOB.encode(), 32: b"go", 48: bytes(16)}

    def give(weight: int) -> str:
        arguments = numbers(2, 32, 0, 0, 48, 0, weight)
        promise = f"{numbers(len(BOB), 0)} call $promise_batch_create"
        return f"{promise} {arguments} call $promise_batch_action_function_call_weight"

    install(world, contract({"share": f"{give(1)} {give(3)}"}, data))
    done = world.send(ALICE, HELLO, call("share", gas=100 * TGAS))
    gas = [
        action["FunctionCall"]["gas"]
        for receipt in done.receipts.values()
        for action in receipt["receipt"]["Action"]["actions"]
        if "FunctionCall" in action and receipt["receiver_id"] == BOB
    ]
    assert len(gas) == 2
    assert 2.999 < gas[1] / gas[0] < 3.001
    assert 90 * TGAS < sum(gas) < 100 * TGAS


def burnt(world: World, body: str, extra: str = "") -> int:
    """Gas that a call burns, without what its code costs to send and to load."""
    code = contract({"go": body}, extra=extra)
    install(world, code)
    done = world.send(ALICE, HELLO, call("go", gas=900 * TGAS))
    assert done.status == {"SuccessValue": ""}
    (outcome,) = [one for one in done.outcomes.values() if one["outcome"]["executor_id"] == HELLO]
    fees = execution_gas((FunctionCall("go", b"{}", 0, 0),), HELLO)
    loading = HOST_GAS["contract_loading_base"] + HOST_GAS["contract_loading_byte"] * len(code)
    return int(outcome["outcome"]["gas_burnt"]) - fees - loading


@pytest.mark.parametrize(
    ("body", "extra", "operations"),
    [
        ("", "", 8),  # the frame
        ("nop", "", 9),
        ("i32.const 1 drop", "", 10),
        ("(local i32 i32 i64)", "", 10),
        ("(local i32) (local i64 i32 f32 f64)", "", 12),
        ("return", "", 9),
        ("(block (br 0))", "", 9),
        ("(if (i32.const 1) (then nop) (else nop nop))", "", 11),
        ("(local i32) (loop $on (br_if $on (i32.lt_s (local.tee 0 (i32.add (local.get 0) "
         "(i32.const 1))) (i32.const 10))))", "", 9 + 10 * 8),
        ("call $other", "(func $other (param))", 8 + 1 + 8),
        ("(call $other (i64.const 1) (i32.const 2))", "(func $other (param i64 i32))", 8 + 3 + 10),
        ("(drop (memory.size))", "", 10),
        ("(drop (memory.grow (i32.const 0)))", "", 11),
        ("(block (block (br_table 0 1 (i32.const 1))))", "", 10),
        ("(drop (select (i32.const 1) (i32.const 2) (i32.const 3)))", "", 13),
        ("(f64.store (i32.const 0) (f64.add (f64.const 1) (f64.const 2)))", "", 13),
    ],
)  # fmt: skip
def test_instructions_and_frames_cost_what_nearcore_charges(
    world: World, body: str, extra: str, operations: int
) -> None:
    assert burnt(world, body, extra) == operations * OPERATION_GAS


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.wasm")), ids=lambda path: path.stem)
def test_a_metered_contract_is_still_a_contract(path: Path) -> None:
    code = path.read_bytes()
    found = metered(code)
    engine = wasmtime.Engine()
    plain, changed = (wasmtime.Module(engine, one) for one in (code, found))
    assert [one.name for one in changed.exports] == [one.name for one in plain.exports]
    assert [one.name for one in changed.imports] == [one.name for one in plain.imports]
    assert metered(found) != found


@given(st.binary(max_size=200), st.integers(0, 2**16))
def test_metering_never_breaks_on_what_is_no_contract(noise: bytes, at: int) -> None:
    place = at % len(CONTRACT)
    for code in (noise, b"\0asm\1\0\0\0" + noise, CONTRACT[:place] + noise + CONTRACT[place:]):
        with suppress(ValueError, IndexError):
            metered(code)
