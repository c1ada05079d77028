"""Host functions: registers, what the call is about, what it says and returns."""

from devnet.near.rules import DATA_BYTE_FEE, EPOCH_BLOCKS, MAX_RETURNED_BYTES
from devnet.near.vm.call import REGISTER_LENGTH, Call, HostError
from devnet.near.vm.functions import host

# ruff: noqa: D103 - they are documented by NEAR, under these names


@host(2)
def read_register(call: Call, register: int, pointer: int) -> None:
    call.write(pointer, call.given(REGISTER_LENGTH, register))


@host(1, 1)
def register_len(call: Call, register: int) -> int:
    return call.register_length(register)


@host(3)
def write_register(call: Call, register: int, length: int, pointer: int) -> None:
    call.put(register, call.read(pointer, length))


@host(1)
def current_account_id(call: Call, register: int) -> None:
    call.put(register, call.context.current.encode())


@host(1, in_views=False)
def signer_account_id(call: Call, register: int) -> None:
    call.put(register, call.context.signer.encode())


@host(1, in_views=False)
def signer_account_pk(call: Call, register: int) -> None:
    call.put(register, call.context.signer_key)


@host(1, in_views=False)
def predecessor_account_id(call: Call, register: int) -> None:
    call.put(register, call.context.predecessor.encode())


@host(1, in_views=False)
def refund_to_account_id(call: Call, register: int) -> None:
    call.put(register, call.context.refund_to.encode())


@host(1)
def input_(call: Call, register: int) -> None:
    call.put(register, call.context.args, shared=True)


@host(0, 1)
def block_index(call: Call) -> int:
    return call.context.height


@host(0, 1)
def block_timestamp(call: Call) -> int:
    return call.context.timestamp


@host(0, 1)
def epoch_height(call: Call) -> int:
    return call.context.height // EPOCH_BLOCKS


@host(0, 1)
def storage_usage(call: Call) -> int:
    return call.storage.usage()


@host(1)
def account_balance(call: Call, pointer: int) -> None:
    call.write(pointer, call.balance.to_bytes(16, "little"))


@host(1)
def account_locked_balance(call: Call, pointer: int) -> None:
    call.write(pointer, bytes(16))


@host(1)
def attached_deposit(call: Call, pointer: int) -> None:
    call.write(pointer, call.context.deposit.to_bytes(16, "little"))


@host(0, 1, in_views=False)
def prepaid_gas(call: Call) -> int:
    return call.context.prepaid_gas


@host(0, 1, in_views=False)
def used_gas(call: Call) -> int:
    return call.used_gas


@host(2)
def value_return(call: Call, length: int, pointer: int) -> None:
    data = call.given(length, pointer)
    if len(data) > MAX_RETURNED_BYTES:
        raise HostError(f"The length of a returned value {len(data)} exceeds the limit")
    for receiver in call.context.outputs:
        to_self = receiver == call.context.current
        sent = DATA_BYTE_FEE.send_to_self if to_self else DATA_BYTE_FEE.send
        call.burn((sent + DATA_BYTE_FEE.execute) * len(data))
    call.returned = data


@host(0)
def panic(_call: Call) -> None:
    raise HostError("Smart contract panicked: explicit guest panic")


@host(2)
def panic_utf8(call: Call, length: int, pointer: int) -> None:
    raise HostError("Smart contract panicked: " + call.text(length, pointer))


@host(2)
def log_utf8(call: Call, length: int, pointer: int) -> None:
    message = call.text(length, pointer)
    size = len(message.encode())
    call.pay("log_base", size, "log_byte")
    call.log(message, size)


@host(2)
def log_utf16(call: Call, length: int, pointer: int) -> None:
    data = call.read(pointer, length)
    call.pay("utf16_decoding_base", length, "utf16_decoding_byte")
    try:
        message = data.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise HostError("String encoding is bad UTF-16 sequence.") from error
    size = len(message.encode())
    call.pay("log_base", size, "log_byte")
    call.log(message, size)
