"""A chain process, and plain JSON-RPC to it."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from py_near.account import Account
from py_near.providers import JsonProvider

from devnet.near.keys import unbase58
from tests.devnet.evm.tools import eventually
from tests.devnet.near.tools import ALICE, GENESIS, HELLO, deploy, keys, sign_raw

T = TypeVar("T")


class Running:
    """A chain process and a client of it."""

    def __init__(self, directory: Path, *flags: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        genesis = directory / "genesis.json"
        genesis.write_text(
            json.dumps(
                {
                    name: {"amount": str(grant.amount), "public_keys": grant.public_keys}
                    for name, grant in GENESIS.items()
                }
            )
        )
        command = [sys.executable, "-m", "devnet.near", "--dir", str(directory)]
        self.process = subprocess.Popen(
            [*command, "--genesis", str(genesis), *flags], stderr=subprocess.PIPE, text=True
        )
        self.ready: dict[str, Any] = eventually(self._is_ready)
        self.url = str(self.ready["rpc_url"])
        self.client = httpx.Client(timeout=60, headers={"content-type": "application/json"})

    def _is_ready(self) -> dict[str, Any] | None:
        if self.process.poll() is not None:
            _, complaint = self.process.communicate()
            raise AssertionError(f"the chain ended: {complaint}")
        try:
            document: dict[str, Any] = json.loads((self.directory / "ready.json").read_text())
        except FileNotFoundError:
            return None
        return document if document["pid"] == self.process.pid else None

    def post(self, body: bytes | str) -> httpx.Response:
        return self.client.post(self.url, content=body)

    def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: dict[str, Any] = self.post(json.dumps(request)).json()
        return answer

    def rpc(self, method: str, params: Any = None) -> Any:
        answer = self.ask(method, params)
        assert "error" not in answer, answer
        return answer["result"]

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

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.client.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # does nothing to one that has ended
        if self.process.stderr and not self.process.stderr.closed:
            self.process.communicate()
        self.client.close()

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=30)
        self.client.close()
        return self.process.returncode


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
