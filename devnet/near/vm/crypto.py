"""Host functions: chance, hashes, signatures."""

import hashlib
from typing import Final

from coincurve import PublicKey
from Crypto.Hash import RIPEMD160, keccak

from devnet.near.keys import verify_ed25519
from devnet.near.rules import HOST_GAS
from devnet.near.vm.call import Call, HostError
from devnet.near.vm.functions import host

# ruff: noqa: D103 - they are documented by NEAR, under these names

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@host(1)
def random_seed(call: Call, register: int) -> None:
    call.put(register, call.context.seed)


@host(3, based=False)
def sha256(call: Call, length: int, pointer: int, register: int) -> None:
    data = call.given(length, pointer)
    call.pay("sha256_base", len(data), "sha256_byte")
    call.put(register, hashlib.sha256(data).digest())


@host(3, based=False)
def keccak256(call: Call, length: int, pointer: int, register: int) -> None:
    data = call.given(length, pointer)
    call.pay("keccak256_base", len(data), "keccak256_byte")
    call.put(register, keccak.new(data=data, digest_bits=256).digest())


@host(3, based=False)
def keccak512(call: Call, length: int, pointer: int, register: int) -> None:
    data = call.given(length, pointer)
    call.pay("keccak512_base", len(data), "keccak512_byte")
    call.put(register, keccak.new(data=data, digest_bits=512).digest())


@host(3, based=False)
def ripemd160(call: Call, length: int, pointer: int, register: int) -> None:
    data = call.given(length, pointer)
    blocks = (len(data) + 8) // 64 + 1
    call.burn(HOST_GAS["ripemd160_base"] + HOST_GAS["ripemd160_block"] * blocks)
    call.put(register, RIPEMD160.new(data).digest())


@host(7, 1, based=False)
def ecrecover(
    call: Call,
    hash_length: int,
    hash_pointer: int,
    signature_length: int,
    signature_pointer: int,
    version: int,
    malleability: int,
    register: int,
) -> int:
    call.pay("ecrecover_base")
    signature = call.given(signature_length, signature_pointer)
    digest = call.given(hash_length, hash_pointer)
    if len(signature) != 64 or len(digest) != 32 or version > 3 or malleability > 1:
        raise HostError("ecrecover error: an argument of the wrong length or range")
    if malleability and int.from_bytes(signature[32:], "big") > _ORDER // 2:
        return 0
    try:
        key = PublicKey.from_signature_and_message(signature + bytes([version]), digest, None)
    except Exception as error:  # noqa: BLE001 - coincurve raises bare Exception for bad signatures
        del error
        return 0
    call.put(register, key.format(compressed=False)[1:])
    return 1


@host(6, 1, based=False)
def ed25519_verify(
    call: Call,
    signature_length: int,
    signature_pointer: int,
    message_length: int,
    message_pointer: int,
    key_length: int,
    key_pointer: int,
) -> int:
    call.pay("ed25519_verify_base")
    signature = call.given(signature_length, signature_pointer)
    if len(signature) != 64:
        raise HostError("ED25519 signature verification error: invalid signature length")
    message = call.given(message_length, message_pointer)
    call.burn(HOST_GAS["ed25519_verify_byte"] * len(message))
    key = call.given(key_length, key_pointer)
    if len(key) != 32:
        raise HostError("ED25519 signature verification error: invalid public key length")
    return int(verify_ed25519(key, message, signature))
