"""Blocks, transactions, receipts and logs in the form JSON-RPC shows them.

A block is rendered once, when it is sealed, and stored as JSON: reading it later costs a look-up.
The block hash is Keccak over the RLP of the header's sixteen London fields. The two roots of
transactions and receipts commit to their lists but are plain digests, not Merkle tries: nobody
proves against them on a development chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
import rlp
from eth import constants
from eth.abc import SignedTransactionAPI
from eth_typing import HexStr
from eth_utils.crypto import keccak

from devnet.evm.pool import Waiting
from devnet.evm.vm import FEE_COLLECTOR, Log, Outcome

NO_HASH: Final = bytes(32)
NO_BLOOM: Final = 0
CACHED_ADDRESSES: Final = 4_096  # an address appears in many transactions and logs

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Head:
    """What the next block needs to know about the one before it."""

    number: int
    hash: bytes
    timestamp: int  # whole seconds since 1970
    base_fee: int  # wei per gas
    gas_used: int
    state_root: bytes


@dataclass(frozen=True, slots=True)
class Included:
    """One transaction, executed."""

    waiting: Waiting
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A row: a transaction and its receipt as JSON, and what ``eth_feeHistory`` needs."""

    hash: bytes
    body: bytes
    receipt: bytes
    gas_used: int
    tip: int  # wei per gas above the base fee


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A row: a log's JSON and the fields it is searched by."""

    index: int
    address: bytes
    topics: tuple[bytes, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished block, rendered."""

    head: Head
    header: bytes
    transactions: tuple[StoredTransaction, ...]
    logs: tuple[StoredLog, ...]


def quantity(number: int) -> str:
    """Format a number as JSON-RPC does: hexadecimal without leading zeros."""
    return hex(number)


def data(raw: bytes) -> str:
    """Format bytes as JSON-RPC does."""
    return "0x" + raw.hex()


@lru_cache(CACHED_ADDRESSES)
def checksummed(address: bytes) -> str:
    """Format an address with its EIP-55 checksum."""
    text = address.hex()
    digest = keccak(text=HexStr(text)).hex()
    return "0x" + "".join(
        letter.upper() if int(nibble, 16) >= 8 else letter
        for letter, nibble in zip(text, digest, strict=False)
    )


def seal(
    parent: Head | None,
    *,
    timestamp: int,
    base_fee: int,
    gas_limit: int,
    chain_id: int,
    state_root: bytes,
    extra: bytes,
    included: Sequence[Included],
) -> Sealed:
    """Render the block after ``parent`` (None for the first block).

    ``extra`` is the header's free field; it makes a block that replaces another one differ from
    it even when both are empty and of the same second.
    """
    number = 0 if parent is None else parent.number + 1
    gas_used = sum(one.outcome.gas_used for one in included)
    bloom = NO_BLOOM
    for one in included:
        bloom |= _bloom(one.outcome.logs)
    header_fields: list[bytes] = [
        NO_HASH if parent is None else parent.hash,
        bytes(constants.EMPTY_UNCLE_HASH),
        FEE_COLLECTOR,
        state_root,
        keccak(b"".join(one.waiting.hash for one in included)),
        keccak(rlp.encode([_receipt_fields(one) for one in included])),
        bloom.to_bytes(256, "big"),
        b"",
        _integer(number),
        _integer(gas_limit),
        _integer(gas_used),
        _integer(timestamp),
        extra,
        NO_HASH,
        bytes(8),
        _integer(base_fee),
    ]
    encoded = rlp.encode(header_fields)
    block_hash = keccak(encoded)
    head = Head(number, block_hash, timestamp, base_fee, gas_used, state_root)
    header: Json = {
        "number": quantity(number),
        "hash": data(block_hash),
        "parentHash": data(header_fields[0]),
        "sha3Uncles": data(header_fields[1]),
        "miner": checksummed(FEE_COLLECTOR),
        "stateRoot": data(state_root),
        "transactionsRoot": data(header_fields[4]),
        "receiptsRoot": data(header_fields[5]),
        "logsBloom": data(header_fields[6]),
        "difficulty": "0x0",
        "gasLimit": quantity(gas_limit),
        "gasUsed": quantity(gas_used),
        "timestamp": quantity(timestamp),
        "extraData": data(extra),
        "mixHash": data(NO_HASH),
        "nonce": data(bytes(8)),
        "baseFeePerGas": quantity(base_fee),
        "size": quantity(len(encoded) + sum(len(one.waiting.raw) for one in included)),
        "uncles": [],
    }
    transactions: list[StoredTransaction] = []
    logs: list[StoredLog] = []
    cumulative = 0
    for position, one in enumerate(included):
        cumulative += one.outcome.gas_used
        place: Json = {
            "blockHash": data(block_hash),
            "blockNumber": quantity(number),
            "transactionIndex": quantity(position),
        }
        price = gas_price(one.waiting, base_fee)
        own_logs = [
            _log(log, index, timestamp, place | {"transactionHash": data(one.waiting.hash)})
            for index, log in enumerate(one.outcome.logs, start=len(logs))
        ]
        logs.extend(own_logs)
        receipt = _receipt(one, own_logs, price, cumulative, place)
        body = transaction_json(one.waiting, chain_id, price) | place
        transactions.append(
            StoredTransaction(
                hash=one.waiting.hash,
                body=msgspec.json.encode(body),
                receipt=msgspec.json.encode(receipt),
                gas_used=one.outcome.gas_used,
                tip=price - base_fee,
            )
        )
    return Sealed(head, msgspec.json.encode(header), tuple(transactions), tuple(logs))


def gas_price(waiting: Waiting, base_fee: int) -> int:
    """Return what ``waiting`` pays in a block with this base fee, in wei per gas."""
    return min(waiting.max_fee, base_fee + waiting.max_tip)


def transaction_json(waiting: Waiting, chain_id: int, price: int) -> Json:
    """Return a transaction's JSON without its place in a block."""
    transaction = waiting.transaction
    kind = type_of(transaction)
    body: Json = {
        "hash": data(waiting.hash),
        "type": quantity(kind),
        "chainId": quantity(chain_id),
        "nonce": quantity(waiting.nonce),
        "from": checksummed(waiting.sender),
        "to": checksummed(transaction.to) if transaction.to else None,
        "value": quantity(transaction.value),
        "gas": quantity(waiting.gas),
        "gasPrice": quantity(price),
        "input": data(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    if kind == 0:
        body["v"] = quantity(int(transaction.v))  # type: ignore[attr-defined]
        return body
    body["v"] = body["yParity"] = quantity(transaction.y_parity)
    body["accessList"] = [
        {
            "address": checksummed(address),
            "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots],
        }
        for address, slots in transaction.access_list
    ]
    if kind >= 2:
        body["maxFeePerGas"] = quantity(waiting.max_fee)
        body["maxPriorityFeePerGas"] = quantity(waiting.max_tip)
    if kind == 4:
        body["authorizationList"] = [
            {
                "chainId": quantity(entry.chain_id),
                "address": checksummed(entry.address),
                "nonce": quantity(entry.nonce),
                "yParity": quantity(entry.y_parity),
                "r": quantity(entry.r),
                "s": quantity(entry.s),
            }
            for entry in transaction.authorization_list
        ]
    return body


def type_of(transaction: SignedTransactionAPI) -> int:
    """Return the EIP-2718 type; 0 for a legacy transaction."""
    return getattr(transaction, "type_id", None) or 0


def _receipt(
    one: Included, logs: list[StoredLog], price: int, cumulative: int, place: Json
) -> Json:
    waiting, outcome = one.waiting, one.outcome
    to = waiting.transaction.to
    return place | {
        "transactionHash": data(waiting.hash),
        "type": quantity(type_of(waiting.transaction)),
        "from": checksummed(waiting.sender),
        "to": checksummed(to) if to else None,
        "status": quantity(int(outcome.ok)),
        "gasUsed": quantity(outcome.gas_used),
        "cumulativeGasUsed": quantity(cumulative),
        "effectiveGasPrice": quantity(price),
        "contractAddress": checksummed(outcome.created) if outcome.created else None,
        "logs": [msgspec.Raw(log.body) for log in logs],
        "logsBloom": data(_bloom(outcome.logs).to_bytes(256, "big")),
    }


def _log(log: Log, index: int, timestamp: int, place: Json) -> StoredLog:
    body = place | {
        "address": checksummed(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "logIndex": quantity(index),
        "blockTimestamp": quantity(timestamp),
        "removed": False,
    }
    return StoredLog(index, log.address, log.topics, msgspec.json.encode(body))


def _receipt_fields(one: Included) -> list[object]:
    return [
        _integer(int(one.outcome.ok)),
        _integer(one.outcome.gas_used),
        [[log.address, list(log.topics), log.data] for log in one.outcome.logs],
    ]


def _bloom(logs: Sequence[Log]) -> int:
    """Return the 2,048-bit filter of the yellow paper over addresses and topics."""
    bits = 0
    for log in logs:
        for item in (log.address, *log.topics):
            digest = keccak(item)
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def _integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
