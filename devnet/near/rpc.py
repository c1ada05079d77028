"""The JSON-RPC methods, and the way from a decoded request to the bytes of its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from devnet.near import params
from devnet.near.chain import Chain
from devnet.near.errors import REQUEST_VALIDATION_ERROR, Json, RpcError, parse_error
from devnet.near.keys import base58
from devnet.near.params import ChunkReference
from devnet.near.patch import write_record
from devnet.near.progress import POLLING_S, Progress
from devnet.near.queries import Queries
from devnet.near.rules import (
    GAS_PRICE,
    MAX_BURNT_GAS,
    MAX_CONTRACT_BYTES,
    MAX_KEY_BYTES,
    MAX_PREPAID_GAS,
    PROTOCOL_VERSION,
    RECORD_BYTES,
    STORAGE_PRICE,
)
from devnet.near.state import State
from devnet.near.views import AUTHOR, NOTHING, block_view, chunk_header_view, moment

BUILD: Final = "deai-embedded-1"
MAX_FORWARD: Final = 10**9

Method = Callable[[object], Awaitable[object]]


@dataclass(frozen=True)
class Answer:
    """The bytes of an answer and their HTTP status."""

    body: bytes
    status: int = 200


class Rpc:
    """Answers JSON-RPC requests about one chain. ``wake`` is called when there is work."""

    def __init__(
        self, chain: Chain, wake: Callable[[], None], polling_s: float = POLLING_S
    ) -> None:
        self.chain = chain
        self.url = ""
        self._queries = Queries(chain)
        self._progress = progress = Progress(chain, wake, polling_s)
        self._methods: dict[str, Method] = {
            "broadcast_tx_async": progress.broadcast_async,
            "broadcast_tx_commit": progress.broadcast_commit,
            "send_tx": progress.send_tx,
            "tx": partial(progress.status, with_receipts=False),
            "EXPERIMENTAL_tx_status": partial(progress.status, with_receipts=True),
            **{name: _at_once(method) for name, method in self._immediate().items()},
        }

    def _immediate(self) -> dict[str, Callable[[object], object]]:
        return {
            "status": lambda _: self.status(),
            "health": lambda _: None,
            "network_info": lambda _: {"active_peers": [], "num_active_peers": 0},
            "query": lambda given: self._queries.answer(params.query(given)),
            "block": self._block,
            "chunk": self._chunk,
            "gas_price": self._gas_price,
            "validators": lambda _: self._validators(),
            "EXPERIMENTAL_receipt": self._receipt,
            "EXPERIMENTAL_protocol_config": lambda _: self._protocol_config(),
            "sandbox_fast_forward": self._fast_forward,
            "sandbox_patch_state": self._patch_state,
            "sandbox_snapshot": lambda _: {"snapshot": self.chain.snapshot()},
            "sandbox_restore": self._restore,
        }

    async def answer(self, request: object) -> Answer:
        """Return the encoded answer to one decoded request."""
        identity = request.get("id") if isinstance(request, dict) else None
        if isinstance(identity, dict | list | bool):
            identity = None
        try:
            result = await self._invoke(request)
        except RpcError as error:
            return failure(identity, error)
        body = {"jsonrpc": "2.0", "result": result, "id": identity}
        return Answer(msgspec.json.encode(body))

    async def _invoke(self, request: object) -> object:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            raise parse_error("Failed parsing args: a request with a method expected")
        name = request["method"]
        method = self._methods.get(name)
        if method is None:
            raise RpcError(
                "METHOD_NOT_FOUND",
                {"method_name": name[:100]},
                name[:100],
                kind=REQUEST_VALIDATION_ERROR,
                number=-32_601,
                message="Method not found",
                status=400,
            )
        return await method(request.get("params"))

    # The chain

    def status(self) -> Json:
        """Answer ``status``."""
        head, first = self.chain.head, self.chain.store.first() or self.chain.head
        sync: Json = {
            "latest_block_hash": base58(head.hash),
            "latest_block_height": head.height,
            "latest_state_root": NOTHING,
            "latest_block_time": moment(head.timestamp),
            "earliest_block_hash": base58(first.hash),
            "earliest_block_height": first.height,
            "earliest_block_time": moment(first.timestamp),
            "syncing": False,
            "epoch_id": NOTHING,
            "epoch_start_height": first.height,
        }
        return {
            "version": {"version": BUILD, "build": BUILD, "commit": "", "rustc_version": ""},
            "chain_id": self.chain.options.chain_id,
            "genesis_hash": base58(first.hash),
            "protocol_version": PROTOCOL_VERSION,
            "latest_protocol_version": PROTOCOL_VERSION,
            "rpc_addr": self.url,
            "validators": [{"account_id": AUTHOR, "is_slashed": False}],
            "sync_info": sync,
            "validator_account_id": None,
            "validator_public_key": None,
            "node_public_key": f"ed25519:{NOTHING}",
            "node_key": None,
            "uptime_sec": max(0, head.timestamp - first.timestamp) // 10**9,
            "detailed_debug_status": None,
        }

    def _block(self, given: object) -> Json:
        return block_view(self._queries.block(params.reference(given)))

    def _chunk(self, given: object) -> Json:
        wanted = given
        if isinstance(given, list) and len(given) == 1:
            wanted = {"chunk_id": given[0]}
        asked = params.named(wanted, ChunkReference, "block_id", "shard_id")
        if asked.chunk_id is not None:
            digest = params.digest(asked.chunk_id, "chunk_id")
            found = self.chain.store.block_by_chunk(digest)
            if found is None:
                info: Json = {"chunk_hash": asked.chunk_id}
                raise RpcError("UNKNOWN_CHUNK", info, f"Chunk Missing: {asked.chunk_id}")
        elif asked.shard_id != 0:
            raise RpcError("INVALID_SHARD_ID", {"shard_id": asked.shard_id})
        else:
            found = self._queries.block(params.reference({"block_id": asked.block_id}))
        store = self.chain.store
        return {
            "author": AUTHOR,
            "header": chunk_header_view(found),
            "transactions": [msgspec.Raw(one) for one in store.transactions(found.height)],
            "receipts": [msgspec.Raw(one) for one in store.receipts(found.height)],
        }

    def _gas_price(self, given: object) -> Json:
        self._queries.block(params.reference(given))
        return {"gas_price": str(GAS_PRICE)}

    def _validators(self) -> Json:
        lists = (
            "current_validators", "next_validators", "current_fishermen", "next_fishermen",
            "current_proposals", "prev_epoch_kickout",
        )  # fmt: skip
        return {**{name: [] for name in lists}, "epoch_start_height": 0, "epoch_height": 0}

    def _receipt(self, given: object) -> msgspec.Raw:
        asked = params.named(given, params.ReceiptReference, "receipt_id")
        found = self.chain.store.receipt(asked.receipt_id)
        if found is None:
            info: Json = {"receipt_id": asked.receipt_id}
            raise RpcError("UNKNOWN_RECEIPT", info, f"Receipt {asked.receipt_id} doesn't exist")
        return msgspec.Raw(found)

    def _protocol_config(self) -> Json:
        limits: Json = {
            "max_gas_burnt": MAX_BURNT_GAS,
            "max_total_prepaid_gas": MAX_PREPAID_GAS,
            "max_contract_size": MAX_CONTRACT_BYTES,
            "max_length_storage_key": MAX_KEY_BYTES,
        }
        storage: Json = {"num_bytes_account": 100, "num_extra_bytes_record": RECORD_BYTES}
        return {
            "protocol_version": PROTOCOL_VERSION,
            "chain_id": self.chain.options.chain_id,
            "min_gas_price": str(GAS_PRICE),
            "max_gas_price": str(GAS_PRICE),
            "runtime_config": {
                "storage_amount_per_byte": str(STORAGE_PRICE),
                "transaction_costs": {"storage_usage_config": storage},
                "wasm_config": {"limit_config": limits},
            },
        }

    # What only a local chain can do

    def _fast_forward(self, given: object) -> Json:
        asked = params.named(given, params.FastForward, "delta_height")
        if not 0 <= asked.delta_height <= MAX_FORWARD:
            raise parse_error("Failed parsing args: delta_height is out of range")
        if asked.seconds is not None and not 0 <= asked.seconds <= MAX_FORWARD:
            raise parse_error("Failed parsing args: seconds is out of range")
        self.chain.fast_forward(asked.delta_height, asked.seconds)
        return {}

    def _restore(self, given: object) -> Json:
        asked = params.named(given, params.Restoring, "snapshot")
        if not self.chain.restore(asked.snapshot):
            raise parse_error(f"Failed parsing args: there is no snapshot {asked.snapshot}")
        return {}

    def _patch_state(self, given: object) -> Json:
        asked = params.named(given, params.Patch, "records")
        if len(asked.records) > params.MAX_RECORDS:
            raise parse_error(f"Failed parsing args: more than {params.MAX_RECORDS} records")

        def write(state: State) -> None:
            for record in asked.records:
                write_record(state, record)

        self.chain.patch(write)
        return {}


def failure(identity: object, error: RpcError) -> Answer:
    """Encode an answer with an error."""
    body = {"jsonrpc": "2.0", "error": error.document(), "id": identity}
    return Answer(msgspec.json.encode(body), error.status)


def _at_once(method: Callable[[object], object]) -> Method:
    async def answer(given: object) -> object:
        return method(given)

    return answer
