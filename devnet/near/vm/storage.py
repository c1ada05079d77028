"""Host functions: the contract's entries."""

from devnet.near.rules import (
    HOST_GAS,
    LARGE_VALUE_BYTES,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    WRITE_TRIE_NODES,
)
from devnet.near.vm.call import Call, HostError
from devnet.near.vm.functions import host

# ruff: noqa: D103 - they are documented by NEAR, under these names


def _key(call: Call, length: int, pointer: int) -> bytes:
    key = call.given(length, pointer)
    if len(key) > MAX_KEY_BYTES:
        raise HostError(f"The length of a storage key {len(key)} exceeds the limit {MAX_KEY_BYTES}")
    return key


@host(5, 1, in_views=False)
def storage_write(
    call: Call,
    key_length: int,
    key_pointer: int,
    value_length: int,
    value_pointer: int,
    register: int,
) -> int:
    call.pay("storage_write_base")
    key = _key(call, key_length, key_pointer)
    value = call.given(value_length, value_pointer)
    if len(value) > MAX_VALUE_BYTES:
        raise HostError(
            f"The length of a storage value {len(value)} exceeds the limit {MAX_VALUE_BYTES}"
        )
    old = call.storage.read(key)
    call.burn(
        HOST_GAS["storage_write_key_byte"] * len(key)
        + HOST_GAS["storage_write_value_byte"] * len(value)
        + HOST_GAS["storage_write_evicted_byte"] * len(old or b"")
        + HOST_GAS["touching_trie_node"] * WRITE_TRIE_NODES
    )
    call.storage.write(key, value)
    if old is None:
        return 0
    call.put(register, old)
    return 1


@host(3, 1)
def storage_read(call: Call, length: int, pointer: int, register: int) -> int:
    call.pay("storage_read_base")
    key = _key(call, length, pointer)
    value = call.storage.read(key)
    call.burn(
        HOST_GAS["storage_read_key_byte"] * len(key)
        + HOST_GAS["storage_read_value_byte"] * len(value or b"")
    )
    if value is not None and len(value) > LARGE_VALUE_BYTES:
        call.pay("large_read_base", len(value), "large_read_byte")
    if value is None:
        return 0
    call.put(register, value)
    return 1


@host(3, 1, in_views=False)
def storage_remove(call: Call, length: int, pointer: int, register: int) -> int:
    call.pay("storage_remove_base")
    key = _key(call, length, pointer)
    old = call.storage.read(key)
    call.burn(
        HOST_GAS["storage_remove_key_byte"] * len(key)
        + HOST_GAS["storage_remove_value_byte"] * len(old or b"")
        + HOST_GAS["touching_trie_node"] * WRITE_TRIE_NODES
    )
    if old is None:
        return 0
    call.storage.remove(key)
    call.put(register, old)
    return 1


@host(2, 1)
def storage_has_key(call: Call, length: int, pointer: int) -> int:
    call.pay("storage_has_key_base")
    key = _key(call, length, pointer)
    call.burn(HOST_GAS["storage_has_key_byte"] * len(key))
    return int(call.storage.read(key) is not None)
