"""The JSON-RPC methods, and the way from a decoded request to the bytes of its answer."""

from collections.abc import Callable
from typing import Final

import msgspec
from eth.exceptions import PyEVMError
from eth_utils.exceptions import ValidationError

from devnet.evm import params
from devnet.evm.blocks import Head, data, gas_price, quantity, transaction_json
from devnet.evm.chain import Chain
from devnet.evm.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    RpcError,
    invalid_params,
    refused,
)
from devnet.evm.rules import MAX_LOG_BLOCKS, MAX_LOGS

CLIENT_VERSION: Final = "deai-embedded/1 (py-evm, prague)"
MAX_FEE_HISTORY: Final = 1_024
MAX_PERCENTILES: Final = 100
MAX_MINED_AT_ONCE: Final = 10_000

Params = list[object]
Method = Callable[[Params], object]


class Rpc:
    """Answers JSON-RPC requests about one chain. One thread; nothing here waits."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._methods: dict[str, tuple[Method, int, int]] = {
            # name: (method, fewest parameters, most parameters)
            "web3_clientVersion": (lambda _: CLIENT_VERSION, 0, 0),
            "net_version": (lambda _: str(chain.rules.chain_id), 0, 0),
            "eth_chainId": (lambda _: quantity(chain.rules.chain_id), 0, 0),
            "eth_blockNumber": (lambda _: quantity(chain.head.number), 0, 0),
            "eth_gasPrice": (lambda _: quantity(chain.gas_price), 0, 0),
            "eth_maxPriorityFeePerGas": (lambda _: quantity(chain.tip), 0, 0),
            "eth_feeHistory": (self._fee_history, 2, 3),
            "eth_getBalance": (self._balance, 1, 2),
            "eth_getTransactionCount": (self._transaction_count, 1, 2),
            "eth_getCode": (self._code, 1, 2),
            "eth_getStorageAt": (self._storage, 2, 3),
            "eth_call": (self._call, 1, 3),
            "eth_estimateGas": (self._estimate, 1, 3),
            "eth_sendRawTransaction": (self._send, 1, 1),
            "eth_getTransactionByHash": (self._transaction, 1, 1),
            "eth_getTransactionReceipt": (self._receipt, 1, 1),
            "eth_getBlockByNumber": (self._block_by_number, 1, 2),
            "eth_getBlockByHash": (self._block_by_hash, 1, 2),
            "eth_getLogs": (self._logs, 1, 1),
            "evm_mine": (self._mine, 0, 1),
            "evm_increaseTime": (self._increase_time, 1, 1),
            "evm_setNextBlockTimestamp": (self._set_next_timestamp, 1, 1),
            "evm_snapshot": (lambda _: quantity(chain.snapshot()), 0, 0),
            "evm_revert": (self._revert, 1, 1),
        }

    def answer(self, request: object) -> bytes | None:
        """Return the encoded answer to one decoded request; None for a notification."""
        call = parse_request(request)
        if isinstance(call, RpcError):
            return failure(request_id(request), call)
        name, arguments, wants_answer = call
        try:
            result = self.invoke(name, arguments)
        except RpcError as error:
            encoded = failure(request_id(request), error)
        else:
            encoded = success(request_id(request), result)
        return encoded if wants_answer else None

    def invoke(self, name: str, arguments: Params) -> object:
        """Run a method; raises :class:`RpcError` and nothing else."""
        found = self._methods.get(name)
        if found is None:
            raise RpcError(
                METHOD_NOT_FOUND, f"the method {name[:64]} does not exist/is not available"
            )
        method, fewest, most = found
        if len(arguments) < fewest:
            raise invalid_params(f"missing value for required argument {len(arguments)}")
        if len(arguments) > most:
            raise invalid_params(f"too many arguments, want at most {most}")
        try:
            return method(arguments)
        except (PyEVMError, ValidationError) as error:
            raise RpcError(INTERNAL_ERROR, f"{type(error).__name__}: {error}") from error

    # State

    def _balance(self, given: Params) -> str:
        return quantity(self.chain.balance(params.address(given[0]), self._at(given, 1)))

    def _transaction_count(self, given: Params) -> str:
        account = params.address(given[0])
        nonce = self.chain.nonce(account, self._at(given, 1))
        if given[1:] == ["pending"]:
            nonce = self.chain.pool.next_nonce(account, nonce)
        return quantity(nonce)

    def _code(self, given: Params) -> str:
        return data(self.chain.code(params.address(given[0]), self._at(given, 1)))

    def _storage(self, given: Params) -> str:
        account = params.address(given[0])
        slot = _slot(given[1])
        return data(self.chain.storage(account, slot, self._at(given, 2)).to_bytes(32, "big"))

    def _call(self, given: Params) -> str:
        _no_overrides(given)
        return data(self.chain.call(params.call(given[0]), self._at(given, 1)))

    def _estimate(self, given: Params) -> str:
        _no_overrides(given)
        return quantity(self.chain.estimate(params.call(given[0]), self._at(given, 1)))

    # Transactions and blocks

    def _send(self, given: Params) -> str:
        return data(self.chain.submit(params.data(given[0], "transaction")))

    def _transaction(self, given: Params) -> object:
        wanted = params.digest(given[0], "transaction hash")
        stored = self.chain.store.transaction(wanted)
        if stored is not None:
            return msgspec.Raw(stored)
        waiting = self.chain.pool.get(wanted)
        if waiting is None:
            return None
        price = gas_price(waiting, self.chain.next_base_fee)
        place = {"blockHash": None, "blockNumber": None, "transactionIndex": None}
        return transaction_json(waiting, self.chain.rules.chain_id, price) | place

    def _receipt(self, given: Params) -> object:
        stored = self.chain.store.receipt(params.digest(given[0], "transaction hash"))
        return None if stored is None else msgspec.Raw(stored)

    def _block_by_number(self, given: Params) -> object:
        wanted = params.block_number(given[0])
        number = self.chain.head.number if wanted == params.LATEST else wanted
        return self._block(number, full=_full(given))

    def _block_by_hash(self, given: Params) -> object:
        found = self.chain.store.block_by_hash(params.digest(given[0], "block hash"))
        return None if found is None else self._block(found.number, full=_full(given))

    def _block(self, number: int, *, full: bool) -> object:
        store = self.chain.store
        header = store.header(number)
        if header is None:
            return None
        transactions: list[object]
        if full:
            transactions = [msgspec.Raw(body) for body in store.transactions(number)]
        else:
            transactions = [data(one) for one in store.transaction_hashes(number)]
        # The header is stored as JSON: put one more member in front of its closing brace.
        return msgspec.Raw(
            header[:-1] + b',"transactions":' + msgspec.json.encode(transactions) + b"}"
        )

    def _logs(self, given: Params) -> list[msgspec.Raw]:
        wanted = params.log_filter(given[0])
        first, last = self._range(wanted)
        if last - first >= MAX_LOG_BLOCKS:
            raise refused(
                f"block range too large ({last - first + 1}), "
                f"maximum allowed is {MAX_LOG_BLOCKS} blocks"
            )
        found = self.chain.store.logs(
            first, last, wanted.addresses, wanted.topics, limit=MAX_LOGS + 1
        )
        if len(found) > MAX_LOGS:
            raise refused(f"query returned more than {MAX_LOGS} results")
        return [msgspec.Raw(log) for log in found]

    def _range(self, wanted: params.LogFilter) -> tuple[int, int]:
        head = self.chain.head.number
        if wanted.block_hash is not None:
            block = self.chain.store.block_by_hash(wanted.block_hash)
            if block is None:
                raise refused("unknown block")
            return block.number, block.number
        first = head if wanted.first == params.LATEST else wanted.first
        last = head if wanted.last == params.LATEST else wanted.last
        if first > last:
            raise invalid_params("invalid block range params")
        return first, last

    def _fee_history(self, given: Params) -> dict[str, object]:
        count = params.number(given[0], "block count")
        percentiles = _percentiles(given[2] if len(given) > 2 else None)
        newest = self._resolve(given[1])
        first = max(0, newest.number - min(count, MAX_FEE_HISTORY) + 1)
        blocks = self.chain.store.blocks(first, newest.number) if count else []
        rules = self.chain.rules
        fees = [block.base_fee for block in blocks]
        if blocks:
            fees.append(rules.next_base_fee(blocks[-1].base_fee, blocks[-1].gas_used))
        history: dict[str, object] = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(fee) for fee in fees],
            "gasUsedRatio": [block.gas_used / rules.block_gas_limit for block in blocks],
        }
        if percentiles is not None:
            history["reward"] = [self._tips(block, percentiles) for block in blocks]
        return history

    def _tips(self, block: Head, percentiles: list[float]) -> list[str]:
        tips = sorted(self.chain.store.tips(block.number))
        found: list[str] = []
        for percentile in percentiles:
            threshold, passed, chosen = block.gas_used * percentile / 100, 0, 0
            for tip, gas_used in tips:
                chosen = tip
                passed += gas_used
                if passed >= threshold:
                    break
            found.append(quantity(chosen))
        return found

    # Time

    def _mine(self, given: Params) -> str:
        wanted = given[0] if given else None
        count, timestamp = 1, None
        if isinstance(wanted, dict):
            count = params.number(wanted.get("blocks", 1), "blocks", MAX_MINED_AT_ONCE)
            wanted = wanted.get("timestamp")
        if wanted is not None:
            timestamp = params.number(wanted, "timestamp")
        self.chain.mine_many(count, timestamp)
        return "0x0"

    def _increase_time(self, given: Params) -> int:
        return self.chain.increase_time(params.number(given[0], "seconds"))

    def _set_next_timestamp(self, given: Params) -> None:
        self.chain.set_next_timestamp(params.number(given[0], "timestamp"))

    def _revert(self, given: Params) -> bool:
        return self.chain.revert(params.number(given[0], "snapshot"))

    # Blocks by name

    def _at(self, given: Params, position: int) -> Head:
        return self._resolve(given[position] if len(given) > position else None)

    def _resolve(self, value: object) -> Head:
        wanted = params.block_or_hash(value)
        if wanted == params.LATEST:
            return self.chain.head
        store = self.chain.store
        found = store.block_by_hash(wanted) if isinstance(wanted, bytes) else store.block(wanted)
        if found is None:
            raise refused("header not found")
        return found


def parse_request(request: object) -> tuple[str, Params, bool] | RpcError:
    """Return a request's method, its parameters and whether it wants an answer; or its error."""
    if not isinstance(request, dict):
        return RpcError(INVALID_REQUEST, "invalid request: an object expected")
    name = request.get("method")
    if request.get("jsonrpc") != "2.0" or not isinstance(name, str):
        return RpcError(INVALID_REQUEST, "invalid request: jsonrpc 2.0 and a method expected")
    if "id" in request and request["id"] is not None and request_id(request) is None:
        return RpcError(INVALID_REQUEST, "invalid request: the id is neither text nor number")
    arguments = request.get("params")
    if arguments is None:
        arguments = []
    if not isinstance(arguments, list):
        return invalid_params("non-array args")
    return name, arguments, "id" in request


def request_id(request: object) -> str | int | float | None:
    """Return a request's id if it is one that can be given back."""
    found = request.get("id") if isinstance(request, dict) else None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    return found


def success(identity: str | float | None, result: object) -> bytes:
    """Encode an answer with a result."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identity, "result": result})


def failure(identity: str | float | None, error: RpcError) -> bytes:
    """Encode an answer with an error."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identity, "error": error.document()})


def _slot(value: object) -> int:
    # Clients send a slot both as a number and as 32 padded bytes.
    if isinstance(value, str) and len(value) == 66:
        return int.from_bytes(params.digest(value, "slot"), "big")
    return params.quantity(value, "slot")


def _full(given: Params) -> bool:
    return params.flag(given[1], "full transactions") if len(given) > 1 else False


def _no_overrides(given: Params) -> None:
    if len(given) > 2 and given[2]:
        raise invalid_params("state overrides are not supported")


def _percentiles(value: object) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_PERCENTILES:
        raise invalid_params(f"invalid percentiles: a list of at most {MAX_PERCENTILES} expected")
    found: list[float] = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float) or not 0 <= item <= 100:
            raise invalid_params("invalid reward percentile")
        if found and item < found[-1]:
            raise invalid_params("invalid reward percentile: not in order")
        found.append(float(item))
    return found
