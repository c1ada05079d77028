"""What can be asked about accounts: the kinds of ``query``, at any block still remembered."""

from collections.abc import Callable
from typing import Final

from devnet.near import params
from devnet.near.chain import Chain
from devnet.near.errors import Json, RpcError, parse_error
from devnet.near.keys import base58, is_account
from devnet.near.params import BlockReference, Query
from devnet.near.rules import MAX_KEY_BYTES, MAX_STATE_VIEW_BYTES
from devnet.near.state import Account, Reading
from devnet.near.views import NOTHING, Block, access_key_view, text

NO_SUCH_KEY: Final = "access key {} does not exist while viewing"

Kind = Callable[[Query, Reading, Account, Block], Json]


class Queries:
    """Answers ``query`` for one chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._kinds: dict[str, Kind] = {
            "view_account": self._account,
            "view_access_key": self._access_key,
            "view_access_key_list": self._access_keys,
            "view_state": self._state,
            "view_code": self._code,
            "call_function": self._call,
        }

    def block(self, reference: BlockReference) -> Block:
        """Return the block that is meant; raises :class:`RpcError`, ``UNKNOWN_BLOCK``."""
        store, wanted = self._chain.store, reference.block_id
        if isinstance(wanted, int):
            found = store.block(wanted)
        elif wanted is not None:
            found = store.block_by_hash(params.digest(wanted, "block_id"))
        elif reference.sync_checkpoint is not None:
            found = store.first()
        else:
            found = self._chain.head
        if found is None:
            data = f"DB Not Found Error: BLOCK {'HEIGHT' if isinstance(wanted, int) else 'HASH'}"
            raise RpcError("UNKNOWN_BLOCK", {}, f"{data}: {wanted}")
        return found

    def answer(self, asked: Query) -> Json:
        """Answer a query; raises :class:`RpcError` with nearcore's cause."""
        kind = self._kinds.get(asked.request_type)
        if kind is None:
            raise parse_error(f"Failed parsing args: unknown request_type {asked.request_type!r}")
        block = self.block(asked.reference)
        place: Json = {"block_height": block.height, "block_hash": base58(block.hash)}
        name = asked.account_id
        if not is_account(name):
            raise parse_error(f"Failed parsing args: {name[:100]!r} is not an account ID")
        state = self._chain.at(block)
        if state is None:
            raise RpcError(
                "GARBAGE_COLLECTED_BLOCK",
                place,
                f"The data for block #{block.height} is garbage collected on this node, "
                "use an archival node to fetch historical data",
            )
        account = state.account(name)
        if account is None:
            raise RpcError(
                "UNKNOWN_ACCOUNT",
                {"requested_account_id": name, **place},
                f"account {name} does not exist while viewing",
            )
        return kind(asked, state, account, block) | place

    def _account(self, _asked: Query, _state: Reading, account: Account, _block: Block) -> Json:
        return {
            "amount": str(account.amount),
            "locked": "0",
            "code_hash": base58(account.code_hash) if account.code_hash else NOTHING,
            "storage_usage": account.usage,
            "storage_paid_at": 0,
        }

    def _access_key(self, asked: Query, state: Reading, _account: Account, _block: Block) -> Json:
        public_key = params.public_key(asked.public_key)
        key = state.key(asked.account_id, public_key)
        if key is None:  # not an error: nearcore keeps this for older clients
            return {"error": NO_SUCH_KEY.format(public_key), "logs": []}
        return access_key_view(key)

    def _access_keys(self, asked: Query, state: Reading, _account: Account, _block: Block) -> Json:
        return {
            "keys": [
                {"public_key": public_key, "access_key": access_key_view(key)}
                for public_key, key in sorted(state.keys(asked.account_id).items())
            ]
        }

    def _state(self, asked: Query, state: Reading, account: Account, block: Block) -> Json:
        prefix = params.blob(asked.prefix_base64, "prefix_base64", MAX_KEY_BYTES)
        values: list[Json] = []
        size = 0
        code = len(state.code(account.code_hash)) if account.code_hash else 0
        too_large = account.usage - code > MAX_STATE_VIEW_BYTES
        for key, value in () if too_large else state.data(asked.account_id, prefix):
            values.append({"key": text(key), "value": text(value)})
            size += len(key) + len(value)
        if too_large or size > MAX_STATE_VIEW_BYTES:
            info: Json = {"contract_account_id": asked.account_id}
            place: Json = {"block_height": block.height, "block_hash": base58(block.hash)}
            raise RpcError(
                "TOO_LARGE_CONTRACT_STATE",
                {**info, **place},
                f"State of contract {asked.account_id} is too large to be viewed",
            )
        return {"values": values, "proof": []}

    def _code(self, asked: Query, state: Reading, account: Account, block: Block) -> Json:
        if not account.code_hash:
            raise self._no_code(asked, block)
        code = state.code(account.code_hash)
        return {"code_base64": text(code), "hash": base58(account.code_hash)}

    def _call(self, asked: Query, state: Reading, _account: Account, block: Block) -> Json:
        args = params.blob(asked.args_base64, "args_base64")
        outcome = self._chain.view(state, block, asked.account_id, asked.method_name, args)
        if outcome is None:
            raise self._no_code(asked, block)
        if outcome.failure is not None:
            failed = f"wasm execution failed with error: {_debug(outcome.failure)}"
            return {"error": failed, "logs": outcome.logs}
        returned = outcome.returned if isinstance(outcome.returned, bytes) else b""
        return {"result": list(returned), "logs": outcome.logs}

    @staticmethod
    def _no_code(asked: Query, block: Block) -> RpcError:
        return RpcError(
            "NO_CONTRACT_CODE",
            {
                "contract_account_id": asked.account_id,
                "block_height": block.height,
                "block_hash": base58(block.hash),
            },
            f"Contract code for contract ID {asked.account_id} has never been observed on the node",
        )


def _debug(failure: Json) -> str:
    """Write a failure as nearcore does for views: the debug form of its Rust value."""
    ((kind, detail),) = failure.items()
    if kind != "ExecutionError":
        while isinstance(detail, dict):
            ((inner, detail),) = detail.items()
            kind = f"{kind}({inner}"
        return f"{kind}({detail}" + ")" * (kind.count("(") + 1)
    panic = str(detail).removeprefix("Smart contract panicked: ")
    if panic != detail:
        return f'HostError(GuestPanic {{ panic_msg: "{panic}" }})'
    return str(detail)
