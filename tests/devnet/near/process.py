"""A chain process, and plain JSON-RPC to it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from py_near.account import Account
from py_near.providers import JsonProvider

from devnet.near.keys import unbase58
from tests.devnet.near.tools import ALICE, GENESIS, HELLO, deploy, keys, sign_raw
from tests.support.chain_process import ChainProcess

T = TypeVar("T")


class Running(ChainProcess):
    """A chain process and a client of it."""

    def __init__(self, directory: Path, *flags: str) -> None:
        genesis = {
            name: {"amount": str(grant.amount), "public_keys": grant.public_keys}
            for name, grant in GENESIS.items()
        }
        super().__init__("devnet.near", directory, genesis, *flags)

    def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        return self.call(method, params)

    def rpc(self, method: str, params: Any = None) -> Any:
        return self.result(method, params)

    def query(self, kind: str, account: str, **more: Any) -> Any:
        asked = {"request_type": kind, "account_id": account, "finality": "final", **more}
        return self.rpc("query", asked if "block_id" not in more else _without_finality(asked))

    def head(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rpc("block", {"finality": "final"})["header"]
        return found

    def nonce(self, name: str) -> int:
        return int(self.query("view_access_key", name, public_key=keys(name)[1])["nonce"])

    def sign(self, signer: str, receiver: str, *actions: Any, nonce: int = 0) -> str:
        """A signed transaction in base64."""
        block_hash = unbase58(self.head()["hash"], 32)
        chosen = nonce or self.nonce(signer) + 1
        return sign_raw(signer, receiver, actions, nonce=chosen, block_hash=block_hash)

    def send(self, signer: str, receiver: str, *actions: Any, until: str = "FINAL") -> Any:
        raw = self.sign(signer, receiver, *actions)
        return self.rpc("send_tx", {"signed_tx_base64": raw, "wait_until": until})

    def install(self) -> None:
        """Put the contract where these tests expect it."""
        assert "SuccessValue" in self.send(HELLO, HELLO, deploy())["status"]

    def view(self, method: str, arguments: Any = None, contract: str = HELLO) -> Any:
        body = base64.b64encode(json.dumps(arguments or {}).encode()).decode()
        found = self.query("call_function", contract, method_name=method, args_base64=body)
        assert "error" not in found, found
        return json.loads(bytes(found["result"]))


def _without_finality(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name != "finality"}


@asynccontextmanager
async def login(url: str, name: str = ALICE, secret: str = "") -> AsyncIterator[Account]:
    """py-near's account object, with a timeout that a test can wait for."""
    account = Account(name, secret or keys(name)[0], rpc_addr=url)
    account._provider = JsonProvider(url, timeout=60)
    await account.startup()
    try:
        yield account
    finally:
        await account.shutdown()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run py-near, which knows only asyncio."""
    return asyncio.run(asyncio.wait_for(coroutine, 120))
