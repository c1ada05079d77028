"""The devnet's faucet: money for gas and worthless tokens, sent by transfer.

Tokens were all minted at deployment; the faucet holds them and never mints.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from typing import Any, Final

import httpx
import trio

from deai.actions import TransferTokens
from deai.chain.ledger import Ledger, Transaction
from deai.chain.sei.transaction import Envelope, sign
from deai.errors import LedgerRejected, LedgerUnreachable
from deai.ids import AccountId, hexed
from deai.money import Amount
from deai.signing import LocalSigner

GAS_PORTION: Final = 5 * 10**18
"""Wei that come with every portion of tokens: some hundred transactions."""
_TRANSFER_GAS: Final = 21_000
_WAIT_S: Final = 60.0


class Faucet:
    """Sends from two accounts: `ledger`'s own for tokens, a raw key for gas money."""

    def __init__(self, ledger: Ledger, rpc_url: str, chain_id: int, funder: bytes) -> None:
        self._ledger = ledger
        self._url = rpc_url
        self._chain_id = chain_id
        self._funder = LocalSigner(funder)
        self._ids = itertools.count(1)

    async def give(self, address: AccountId, tokens: int) -> list[Transaction]:
        """Tokens, and money for gas; returns the token transfer. Raises `LedgerUnreachable`."""
        await self.give_gas([address])
        if not tokens:
            return []
        action = TransferTokens(address, Amount(tokens))
        # Asking a faucet twice means twice: every call is an intent of its own.
        key = f"faucet:{address}:{secrets.token_hex(8)}"
        return [await self._ledger.submit(action, key=key)]

    async def give_gas(self, addresses: Sequence[AccountId]) -> None:
        """Money for gas to each; returns when all of it has arrived."""
        if not addresses:
            return
        async with httpx.AsyncClient(timeout=30) as http:
            nonce = int(
                await self._call(
                    http, "eth_getTransactionCount", [self._funder.account, "latest"]
                ), 16,
            )  # fmt: skip
            price = int(await self._call(http, "eth_gasPrice", []), 16)
            hashes = []
            for offset, address in enumerate(addresses):
                envelope = Envelope(
                    chain_id=self._chain_id, nonce=nonce + offset, tip=0, fee=2 * price,
                    gas=_TRANSFER_GAS, to=address, data=b"", value=GAS_PORTION,
                )  # fmt: skip
                raw = hexed(sign(envelope, self._funder).raw)
                hashes.append(await self._call(http, "eth_sendRawTransaction", [raw]))
            with trio.move_on_after(_WAIT_S):
                for sent in hashes:
                    while await self._call(http, "eth_getTransactionReceipt", [sent]) is None:
                        await trio.sleep(0.1)
                return
        raise LedgerUnreachable("the chain did not mine the faucet's transfers in time")

    async def _call(self, http: httpx.AsyncClient, method: str, params: list[Any]) -> Any:  # noqa: ANN401
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            answer = (await http.post(self._url, json=body)).json()
        except (httpx.HTTPError, ValueError) as error:
            raise LedgerUnreachable(f"{method}: {error!r}") from error
        if "error" in answer:
            raise LedgerRejected(str(answer["error"].get("message")), {"method": method})
        return answer["result"]
