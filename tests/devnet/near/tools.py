"""What these tests share: accounts and keys, a small contract, a chain in this process."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py_near import transactions as near

from devnet.near.borsh import SignedTransaction, signed_transaction
from devnet.near.chain import Chain, Grant, Options, open_chain
from devnet.near.keys import base58, key_pair
from devnet.near.rules import NEAR, TGAS
from devnet.near.store import ExecutedReceipt

CONTRACT = (Path(__file__).parent / "contract" / "hello.wasm").read_bytes()
RICH = 10**9 * NEAR
ROOT = "root.near"
HELLO = "hello.root.near"
ALICE = "alice.root.near"
BOB = "bob.root.near"


def keys(name: str) -> tuple[str, str]:
    """The secret and the public key of a name, always the same."""
    return key_pair(hashlib.sha256(name.encode()).digest())


GENESIS = {
    ROOT: Grant(RICH, (keys(ROOT)[1],)),
    **{name: Grant(1_000 * NEAR, (keys(name)[1],)) for name in (HELLO, ALICE, BOB)},
}
SUPPLY = sum(grant.amount for grant in GENESIS.values())


class FakeClock:
    """A clock that moves when told."""

    def __init__(self, now: int = 1_800_000_000 * 10**9) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def call(method: str, arguments: Any = None, *, gas: int = 30 * TGAS, deposit: int = 0) -> Any:
    body = arguments if isinstance(arguments, bytes) else json.dumps(arguments or {}).encode()
    return near.create_function_call_action(method, body, gas, deposit)


def transfer(amount: int) -> Any:
    return near.create_transfer_action(amount)


def deploy(code: bytes = CONTRACT) -> Any:
    return near.create_deploy_contract_action(code)


def sign_raw(
    signer: str, receiver: str, actions: Sequence[Any], *, nonce: int, block_hash: bytes,
    key: str = "",
) -> str:  # fmt: skip
    """A signed transaction in base64, made by py-near."""
    secret = keys(key or signer)[0]
    signed = near.sign_and_serialize_transaction(
        signer, secret, receiver, nonce, list(actions), block_hash
    )
    return str(signed)


class World:
    """A chain and its users: everything is signed, nothing is patched in."""

    def __init__(self, chain: Chain, clock: FakeClock) -> None:
        self.chain = chain
        self.clock = clock

    def sign(
        self, signer: str, receiver: str, *actions: Any, nonce: int | None = None, key: str = "",
        block_hash: bytes | None = None,
    ) -> SignedTransaction:  # fmt: skip
        if nonce is None:
            found = self.chain.state.key(signer, keys(key or signer)[1])
            nonce = found.nonce + 1 if found else 1
        dated = self.chain.head.hash if block_hash is None else block_hash
        raw = sign_raw(signer, receiver, actions, nonce=nonce, block_hash=dated, key=key)
        return signed_transaction(base64.b64decode(raw))

    def send(self, signer: str, receiver: str, *actions: Any, **how: Any) -> Result:
        """Send a transaction and make blocks until all of it is done."""
        transaction = self.sign(signer, receiver, *actions, **how)
        self.chain.submit(transaction)
        self.chain.settle()
        return self.result(transaction.id)

    def result(self, transaction_id: str) -> Result:
        included = self.chain.store.transaction(transaction_id)
        assert included is not None
        return Result(included.outcome, self.chain.store.receipts_of(transaction_id))

    def balance(self, name: str) -> int:
        account = self.chain.state.account(name)
        assert account is not None
        return account.amount

    def view(self, method: str, arguments: Any = None, contract: str = HELLO) -> Any:
        body = json.dumps(arguments or {}).encode()
        chain = self.chain
        outcome = chain.view(chain.state, chain.head, contract, method, body)
        assert outcome is not None
        assert outcome.failure is None, outcome.failure
        assert isinstance(outcome.returned, bytes)
        return json.loads(outcome.returned)

    def check_money(self) -> None:
        chain = self.chain
        assert chain.supply() + chain.books.burnt == chain.books.minted


class Result:
    """What became of a transaction."""

    def __init__(self, outcome: bytes, receipts: list[ExecutedReceipt]) -> None:
        self.transaction: dict[str, Any] = json.loads(outcome)
        self.outcomes: dict[str, dict[str, Any]] = {
            one.id: json.loads(one.outcome) for one in receipts
        }
        self.receipts: dict[str, dict[str, Any]] = {
            one.id: json.loads(one.body) for one in receipts
        }

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.transaction["outcome"]["status"]
        while "SuccessReceiptId" in status:
            status = self.outcomes[status["SuccessReceiptId"]]["outcome"]["status"]
        return status

    @property
    def value(self) -> Any:
        assert "SuccessValue" in self.status, self.status
        raw = base64.b64decode(self.status["SuccessValue"])
        return json.loads(raw) if raw else None

    @property
    def failure(self) -> str:
        assert "Failure" in self.status, self.status
        return json.dumps(self.status["Failure"])

    @property
    def gas(self) -> int:
        return sum(
            one["outcome"]["gas_burnt"] for one in [self.transaction, *self.outcomes.values()]
        )

    @property
    def logs(self) -> list[str]:
        return [line for one in self.outcomes.values() for line in one["outcome"]["logs"]]


@contextmanager
def a_world(
    directory: Path, options: Options | None = None, *, contract: bool = True
) -> Iterator[World]:
    """A chain with accounts and, if wanted, the contract; the books are checked at the end."""
    clock = FakeClock()
    directory.mkdir(exist_ok=True)
    chain = open_chain(directory / "chain.sqlite", options or Options(), GENESIS, clock)
    world = World(chain, clock)
    try:
        if contract and not chain.state.accounts[HELLO].code_hash:
            world.send(HELLO, HELLO, deploy())
        yield world
        world.check_money()
    finally:
        chain.store.close()


def block_hash_text(world: World) -> str:
    return base58(world.chain.head.hash)
