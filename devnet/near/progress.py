"""Sending transactions and asking what became of them, with the waiting that goes with it."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from devnet.near import params
from devnet.near.borsh import SignedTransaction
from devnet.near.chain import Chain
from devnet.near.errors import InvalidTransaction, Json, RpcError, parse_error
from devnet.near.keys import is_account
from devnet.near.params import Asking, Level, Sending

POLLING_S: Final = 10.0  # nearcore's: afterwards the client is told TIMEOUT_ERROR

_ORDER: Final[dict[str, int]] = {
    "NONE": 0, "INCLUDED": 1, "INCLUDED_FINAL": 1, "EXECUTED_OPTIMISTIC": 2, "EXECUTED": 2,
    "FINAL": 3,
}  # fmt: skip
_REACHED: Final = ("NONE", "INCLUDED_FINAL", "EXECUTED", "FINAL")
"""Blocks are final at once, so nothing is ever only optimistic."""


class Progress:
    """Answers the methods about transactions. ``wake`` is called when there is work."""

    def __init__(
        self, chain: Chain, wake: Callable[[], None], polling_s: float = POLLING_S
    ) -> None:
        self._chain = chain
        self._wake = wake
        self._polling_s = polling_s
        self._made = asyncio.Event()
        chain.watchers.append(self._block_made)

    def _block_made(self) -> None:
        self._made.set()
        self._made = asyncio.Event()

    async def broadcast_async(self, given: object) -> str:
        """Take a transaction and return its hash. Nobody is told that it was refused."""
        transaction = params.transaction(_sending(given).signed_tx_base64)
        try:
            self._submit(transaction)
        except InvalidTransaction:
            return transaction.id
        return transaction.id

    async def broadcast_commit(self, given: object) -> Json:
        """Take a transaction and wait until it has been executed."""
        return await self.send(_sending(given))

    async def send_tx(self, given: object) -> Json:
        """Take a transaction and wait as long as asked."""
        sending = _sending(given)
        if sending.wait_until == "NONE":
            await self.broadcast_async([sending.signed_tx_base64])
            return {"final_execution_status": "NONE"}
        return await self.send(sending)

    async def send(self, sending: Sending) -> Json:
        """Take a transaction; raises :class:`RpcError` if it is refused, now or by a block."""
        transaction = params.transaction(sending.signed_tx_base64)
        try:
            self._submit(transaction)
        except InvalidTransaction as refused:
            raise refused.answer() from refused
        return await self._wait(transaction.id, sending.wait_until, with_receipts=False)

    async def status(self, given: object, *, with_receipts: bool) -> Json:
        """Say what became of a transaction, after waiting as long as asked."""
        asking = params.named(given, Asking, "tx_hash", "sender_account_id")
        if asking.signed_tx_base64 is not None:
            identity = params.transaction(asking.signed_tx_base64).id
        elif asking.tx_hash is not None:
            params.digest(asking.tx_hash, "tx_hash")
            identity = asking.tx_hash
            if asking.sender_account_id is None or not is_account(asking.sender_account_id):
                raise parse_error("Failed parsing args: sender_account_id is not an account ID")
        else:
            raise parse_error("Failed parsing args: tx_hash or signed_tx_base64 expected")
        return await self._wait(identity, asking.wait_until, with_receipts=with_receipts)

    def _submit(self, transaction: SignedTransaction) -> None:
        self._chain.submit(transaction)
        self._wake()

    async def _wait(self, identity: str, until: Level, *, with_receipts: bool) -> Json:
        wanted = _ORDER[until]
        try:
            async with asyncio.timeout(self._polling_s):
                while (reached := self._level(identity)) < wanted:
                    await self._made.wait()
        except TimeoutError as error:
            raise RpcError("TIMEOUT_ERROR", {}, "Timeout", status=408) from error
        return self._result(identity, _REACHED[reached], with_receipts=with_receipts)

    def _level(self, identity: str) -> int:
        left = self._chain.progress(identity)
        if left is not None:
            return 3 if not left.all else 2 if not left.working else 1
        if identity in self._chain.pool:
            return 0
        refused = self._chain.pool.refusal(identity)
        if refused is not None:
            raise refused.answer()
        raise RpcError(
            "UNKNOWN_TRANSACTION",
            {"requested_transaction_hash": identity},
            f"Transaction {identity} doesn't exist",
        )

    def _result(self, identity: str, reached: str, *, with_receipts: bool) -> Json:
        store = self._chain.store
        included = store.transaction(identity)
        if included is None:
            return {"final_execution_status": reached}
        receipts = store.receipts_of(identity)
        outcomes = {receipt.id: msgspec.json.decode(receipt.outcome) for receipt in receipts}
        result: Json = {
            "final_execution_status": reached,
            "status": _final_status(msgspec.json.decode(included.outcome), outcomes),
            "transaction": msgspec.Raw(included.body),
            "transaction_outcome": msgspec.Raw(included.outcome),
            "receipts_outcome": [msgspec.Raw(receipt.outcome) for receipt in receipts],
        }
        if with_receipts:
            result["receipts"] = [msgspec.Raw(receipt.body) for receipt in receipts]
        return result


def _sending(given: object) -> Sending:
    return params.named(given, Sending, "signed_tx_base64")


def _final_status(outcome: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> object:
    """Follow a value from promise to promise to where it was returned."""
    status = outcome["outcome"]["status"]
    while isinstance(status, dict) and "SuccessReceiptId" in status:
        found = outcomes.get(status["SuccessReceiptId"])
        if found is None:
            return "Started"
        status = found["outcome"]["status"]
    return status
