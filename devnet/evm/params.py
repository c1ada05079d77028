"""Reading JSON-RPC parameters, strictly: the right type, the right form, bounded.

Every function takes a decoded JSON value and returns ours, or raises :class:`RpcError` with code
-32602 and a text that names what is wrong.
"""

import re
from dataclasses import dataclass
from typing import Final

from devnet.evm.errors import invalid_params
from devnet.evm.vm import Call

LATEST: Final = -1
"""What :func:`block_number` returns for the newest block: on Sei it is also the final one."""

MAX_FILTER_VALUES: Final = 1_000
MAX_ACCESS_LIST: Final = 1_000
MAX_U64: Final = 2**64 - 1

_QUANTITY: Final = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,63})\Z")
_DATA: Final = re.compile(r"0x([0-9a-fA-F]{2})*\Z")
_NEWEST: Final = {"latest", "safe", "finalized", "pending"}


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs: empty ``addresses`` and empty entries of ``topics`` accept everything."""

    addresses: tuple[bytes, ...]
    topics: tuple[tuple[bytes, ...], ...]
    block_hash: bytes | None
    first: int  # LATEST or a number
    last: int


def quantity(value: object, name: str = "value") -> int:
    """Read a hexadecimal number of up to 256 bits."""
    if not isinstance(value, str) or not _QUANTITY.match(value):
        raise invalid_params(f"invalid {name}: a hexadecimal number without leading zeros expected")
    return int(value, 16)


def number(value: object, name: str = "value", most: int = MAX_U64) -> int:
    """Read a number given as such or in hexadecimal (the ``evm_`` methods allow both)."""
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        found = quantity(value, name)
    if not 0 <= found <= most:
        raise invalid_params(f"invalid {name}: out of range")
    return found


def data(value: object, name: str = "data") -> bytes:
    """Read hexadecimal bytes."""
    if not isinstance(value, str) or not _DATA.match(value):
        raise invalid_params(f"invalid {name}: hexadecimal bytes with 0x expected")
    return bytes.fromhex(value[2:])


def sized(value: object, size: int, name: str) -> bytes:
    """Read exactly ``size`` bytes."""
    found = data(value, name)
    if len(found) != size:
        raise invalid_params(f"invalid {name}: {size} bytes expected, {len(found)} given")
    return found


def address(value: object, name: str = "address") -> bytes:
    """Read an address; a checksum in it is not checked, as in geth."""
    return sized(value, 20, name)


def digest(value: object, name: str = "hash") -> bytes:
    """Read a 32-byte hash."""
    return sized(value, 32, name)


def flag(value: object, name: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise invalid_params(f"invalid {name}: true or false expected")
    return value


def block_number(value: object) -> int:
    """Read a block number or tag; :data:`LATEST` stands for the newest block."""
    if value is None or (isinstance(value, str) and value in _NEWEST):
        return LATEST
    if value == "earliest":
        return 0
    found = quantity(value, "block number")
    if found > 2**63 - 1:
        raise invalid_params("invalid block number: out of range")
    return found


def block_or_hash(value: object) -> int | bytes:
    """Read a block number, tag, or the object of EIP-1898 (``blockHash`` or ``blockNumber``)."""
    if not isinstance(value, dict):
        return block_number(value)
    if "blockHash" in value:
        return digest(value["blockHash"], "block hash")
    if "blockNumber" in value:
        return block_number(value["blockNumber"])
    raise invalid_params("invalid block: blockHash or blockNumber expected")


def call(value: object) -> Call:
    """Read the transaction object of ``eth_call`` and ``eth_estimateGas``.

    Fee fields are accepted and ignored: a simulated call pays no fee here.
    """
    if not isinstance(value, dict):
        raise invalid_params("invalid call: an object expected")
    given = {key: item for key, item in value.items() if item is not None}
    payload = data(given["data"]) if "data" in given else b""
    if "input" in given:
        other = data(given["input"], "input")
        if "data" in given and other != payload:
            raise invalid_params('both "data" and "input" are set and not equal')
        payload = other
    for name in ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "nonce", "chainId"):
        if name in given:
            quantity(given[name], name)
    return Call(
        sender=address(given["from"], "from") if "from" in given else bytes(20),
        to=address(given["to"], "to") if "to" in given else None,
        value=quantity(given.get("value", "0x0"), "value"),
        data=payload,
        gas=min(quantity(given["gas"], "gas"), MAX_U64) if "gas" in given else None,
        access_list=_access_list(given.get("accessList", [])),
    )


def log_filter(value: object) -> LogFilter:
    """Read the object of ``eth_getLogs`` and of a ``logs`` subscription."""
    if not isinstance(value, dict):
        raise invalid_params("invalid filter: an object expected")
    block_hash = value.get("blockHash")
    first, last = value.get("fromBlock"), value.get("toBlock")
    if block_hash is not None and (first is not None or last is not None):
        raise invalid_params("cannot specify both BlockHash and FromBlock/ToBlock")
    wanted = value.get("address")
    given = wanted if isinstance(wanted, list) else [] if wanted is None else [wanted]
    _bounded(given, "addresses")
    return LogFilter(
        addresses=tuple(address(item) for item in given),
        topics=_topics(value.get("topics")),
        block_hash=None if block_hash is None else digest(block_hash, "block hash"),
        first=block_number(first),
        last=block_number(last),
    )


def _topics(value: object) -> tuple[tuple[bytes, ...], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid_params("invalid topics: a list expected")
    if len(value) > 4:
        raise invalid_params("exceed max topics")
    found: list[tuple[bytes, ...]] = []
    for item in value:
        accepted = item if isinstance(item, list) else [] if item is None else [item]
        _bounded(accepted, "topics")
        # A null among alternatives accepts every value, as in geth.
        anything = any(one is None for one in accepted)
        found.append(() if anything else tuple(digest(one, "topic") for one in accepted))
    return tuple(found)


def _access_list(value: object) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    if not isinstance(value, list):
        raise invalid_params("invalid accessList: a list expected")
    _bounded(value, "accessList", MAX_ACCESS_LIST)
    found: list[tuple[bytes, tuple[int, ...]]] = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("storageKeys"), list):
            raise invalid_params("invalid accessList: address and storageKeys expected")
        _bounded(item["storageKeys"], "storageKeys", MAX_ACCESS_LIST)
        slots = tuple(
            int.from_bytes(digest(slot, "storage key"), "big") for slot in item["storageKeys"]
        )
        found.append((address(item.get("address")), slots))
    return tuple(found)


def _bounded(values: list[object], name: str, most: int = MAX_FILTER_VALUES) -> None:
    if len(values) > most:
        raise invalid_params(f"invalid {name}: more than {most}")
