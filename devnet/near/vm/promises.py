"""Host functions: receipts for others, and the results of those waited for."""

from devnet.near import rules
from devnet.near.actions import (
    AddKey,
    CreateAccount,
    DeleteAccount,
    DeleteKey,
    DeployContract,
    FunctionCall,
    FunctionCallAccess,
    Transfer,
)
from devnet.near.borsh import Reader
from devnet.near.keys import is_account
from devnet.near.rules import DATA_FEE, HOST_GAS, RECEIPT_FEE
from devnet.near.vm.call import Call, HostError, Promise
from devnet.near.vm.functions import host

# ruff: noqa: D103 - they are documented by NEAR, under these names

_FAILED, _SUCCESSFUL = 2, 1


def _account(call: Call, length: int, pointer: int) -> str:
    data = call.given(length, pointer)
    call.pay("utf8_decoding_base", len(data), "utf8_decoding_byte")
    name = data.decode()
    if not is_account(name):
        raise HostError("The account ID is invalid")
    return name


def _public_key(call: Call, length: int, pointer: int) -> str:
    reader = Reader(call.given(length, pointer))
    return reader.public_key()


def _create(call: Call, receiver: str, waited_for: list[Promise]) -> int:
    to_self = receiver == call.context.current
    sent = RECEIPT_FEE.send_to_self if to_self else RECEIPT_FEE.send
    data = DATA_FEE.send_to_self if to_self else DATA_FEE.send
    call.burn(sent + (data + DATA_FEE.execute) * len(waited_for))
    call.promise_gas(RECEIPT_FEE.execute)
    if len(call.promises) >= rules.MAX_PROMISES:
        raise HostError(f"The number of promises exceeds the limit {rules.MAX_PROMISES}")
    promise = Promise(receiver)
    for one in waited_for:
        data_id = call.storage.new_data_id()
        one.outputs.append((data_id, receiver))
        promise.inputs.append(data_id)
    call.promises.append(promise)
    return _number(call, promise)


def _number(call: Call, promise: Promise | list[Promise]) -> int:
    if len(call.numbered) >= 2 * rules.MAX_PROMISES:
        raise HostError(f"The number of promises exceeds the limit {rules.MAX_PROMISES}")
    call.numbered.append(promise)
    return len(call.numbered) - 1


@host(2, 1, in_views=False)
def promise_batch_create(call: Call, length: int, pointer: int) -> int:
    return _create(call, _account(call, length, pointer), [])


@host(3, 1, in_views=False)
def promise_batch_then(call: Call, number: int, length: int, pointer: int) -> int:
    return _create(call, _account(call, length, pointer), call.waited_for(number))


@host(2, 1, in_views=False)
def promise_and(call: Call, pointer: int, count: int) -> int:
    call.pay("promise_and_base")
    if count > rules.MAX_PROMISES:
        raise HostError(f"The number of promises exceeds the limit {rules.MAX_PROMISES}")
    raw = call.read(pointer, count * 8)
    call.burn(HOST_GAS["promise_and_per_promise"] * len(raw))
    joined = [
        promise
        for at in range(0, len(raw), 8)
        for promise in call.waited_for(int.from_bytes(raw[at : at + 8], "little"))
    ]
    if len(joined) > rules.MAX_JOINED:
        raise HostError(
            f"The number of input data dependencies {len(joined)} exceeds the maximum "
            f"{rules.MAX_JOINED}"
        )
    return _number(call, joined)


@host(8, 1, in_views=False)
def promise_create(call: Call, length: int, pointer: int, *function_call: int) -> int:
    number = promise_batch_create(call, length, pointer)
    promise_batch_action_function_call_weight(call, number, *function_call, 0)
    return number or 0


@host(9, 1, in_views=False)
def promise_then(call: Call, after: int, length: int, pointer: int, *function_call: int) -> int:
    number = promise_batch_then(call, after, length, pointer)
    promise_batch_action_function_call_weight(call, number, *function_call, 0)
    return number or 0


@host(7, in_views=False)
def promise_batch_action_function_call(call: Call, number: int, *function_call: int) -> None:
    promise_batch_action_function_call_weight(call, number, *function_call, 0)


@host(8, in_views=False)
def promise_batch_action_function_call_weight(
    call: Call,
    number: int,
    method_length: int,
    method_pointer: int,
    args_length: int,
    args_pointer: int,
    amount_pointer: int,
    gas: int,
    weight: int,
) -> None:
    amount = call.amount(amount_pointer)
    method = call.given(method_length, method_pointer).decode()
    args = call.given(args_length, args_pointer)
    if not method:
        raise HostError("Method name is empty")
    if len(method.encode()) > rules.MAX_METHOD_NAME_BYTES:
        raise HostError("The length of a method name exceeds the limit")
    if len(args) > rules.MAX_ARGUMENT_BYTES:
        raise HostError("The length of the arguments exceeds the limit")
    call.spend(amount)
    promise = call.append(number, FunctionCall(method, args, gas, amount))
    call.promise_gas(gas)
    if weight:
        promise.weights.append((len(promise.actions) - 1, weight))


@host(3, in_views=False)
def promise_set_refund_to(call: Call, number: int, length: int, pointer: int) -> None:
    call.promise(number).refund_to = _account(call, length, pointer)


@host(1, in_views=False)
def promise_batch_action_create_account(call: Call, number: int) -> None:
    call.append(number, CreateAccount())


@host(3, in_views=False)
def promise_batch_action_deploy_contract(
    call: Call, number: int, length: int, pointer: int
) -> None:
    code = call.given(length, pointer)
    if len(code) > rules.MAX_CONTRACT_BYTES:
        raise HostError("The size of a contract code in DeployContract action exceeds the limit")
    call.append(number, DeployContract(code))


@host(2, in_views=False)
def promise_batch_action_transfer(call: Call, number: int, pointer: int) -> None:
    amount = call.amount(pointer)
    call.spend(amount)
    call.append(number, Transfer(amount))


@host(4, in_views=False)
def promise_batch_action_add_key_with_full_access(
    call: Call, number: int, length: int, pointer: int, _nonce: int
) -> None:
    call.append(number, AddKey(_public_key(call, length, pointer), None))


@host(9, in_views=False)
def promise_batch_action_add_key_with_function_call(
    call: Call,
    number: int,
    length: int,
    pointer: int,
    _nonce: int,
    allowance_pointer: int,
    receiver_length: int,
    receiver_pointer: int,
    methods_length: int,
    methods_pointer: int,
) -> None:
    key = _public_key(call, length, pointer)
    allowance = call.amount(allowance_pointer)
    receiver = _account(call, receiver_length, receiver_pointer)
    names = call.given(methods_length, methods_pointer).decode()
    methods = tuple(names.split(",")) if names else ()
    if any(not 0 < len(method.encode()) <= rules.MAX_METHOD_NAME_BYTES for method in methods):
        raise HostError("Method name is empty or exceeds the limit")
    call.append(number, AddKey(key, FunctionCallAccess(receiver, methods, allowance or None)))


@host(3, in_views=False)
def promise_batch_action_delete_key(call: Call, number: int, length: int, pointer: int) -> None:
    call.append(number, DeleteKey(_public_key(call, length, pointer)))


@host(3, in_views=False)
def promise_batch_action_delete_account(call: Call, number: int, length: int, pointer: int) -> None:
    call.append(number, DeleteAccount(_account(call, length, pointer)))


@host(0, 1, in_views=False)
def promise_results_count(call: Call) -> int:
    return len(call.context.results)


@host(2, 1, in_views=False)
def promise_result(call: Call, place: int, register: int) -> int:
    if place >= len(call.context.results):
        raise HostError(f"Accessed invalid promise result index: {place}")
    found = call.context.results[place]
    if found is None:
        return _FAILED
    call.put(register, found, shared=True)
    return _SUCCESSFUL


@host(1, in_views=False)
def promise_return(call: Call, number: int) -> None:
    call.pay("promise_return")
    call.returned = call.promise(number)
