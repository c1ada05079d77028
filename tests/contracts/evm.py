"""One account after another sends transactions to py-evm; no blocks, no pool, no sockets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from eth.db.atomic import AtomicDB
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Address

from deai.hashing import keccak
from devnet.evm.rules import GWEI, Rules
from devnet.evm.vm import EMPTY_ROOT, BlockContext, Machine, Outcome

RICH = 10**24  # wei
START = 1_800_000_000  # chain time of the first transaction


class Reverted(Exception):
    """A transaction failed; `name` is the contract's error."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def artifact(name: str) -> dict[str, Any]:
    """A compiled contract as the package ships it."""
    place = resources.files("deai.chain").joinpath("artifacts", "sei", f"{name}.json")
    document: dict[str, Any] = json.loads(place.read_text())
    return document


def account(label: str) -> LocalAccount:
    """A key that is the same in every run, because calldata bytes decide the gas."""
    made: LocalAccount = Account.from_key(keccak(label.encode()))
    return made


class Evm:
    """A state, a clock, and the gas of the last transaction."""

    def __init__(self, sstore_set_gas: int) -> None:
        self._rules = Rules(sstore_set_gas=sstore_set_gas)
        self._machine = Machine(self._rules, AtomicDB())
        self._state = self._machine.state(EMPTY_ROOT, BlockContext(1, START, GWEI, ()))
        self._nonces: dict[str, int] = {}
        self.now = START
        self.gas = 0

    def wait(self, seconds: int) -> None:
        """Let chain time pass."""
        self.now += seconds
        self._state.execution_context = self._machine.context(BlockContext(1, self.now, GWEI, ()))

    def send(self, sender: LocalAccount, to: str, data: bytes) -> Outcome:
        """Execute one transaction; an empty `to` deploys. Its gas is then `self.gas`."""
        nonce = self._nonces.get(sender.address, 0)
        if not nonce:
            self._state.set_balance(Address(bytes.fromhex(sender.address[2:])), RICH)
        self._nonces[sender.address] = nonce + 1
        signed = sender.sign_transaction(
            {
                "type": 2,
                "chainId": self._rules.chain_id,
                "nonce": nonce,
                "to": bytes.fromhex(to[2:]),
                "value": 0,
                "data": data,
                "gas": self._rules.block_gas_limit,
                "maxFeePerGas": GWEI,
                "maxPriorityFeePerGas": 0,
            }
        )
        transaction = self._machine.decode(bytes(signed.raw_transaction))
        outcome = self._machine.apply(self._state, transaction)
        if outcome is None:
            raise AssertionError("the transaction could not be included")
        self.gas = outcome.gas_used
        return outcome

    def deploy(self, sender: LocalAccount, name: str, *arguments: Any) -> Deployed:
        """Deploy a shipped artifact."""
        found = artifact(name)
        constructor = next(entry for entry in found["abi"] if entry["type"] == "constructor")
        data = bytes.fromhex(found["bytecode"][2:])
        outcome = self.send(sender, "", data + encode(_types(constructor["inputs"]), arguments))
        if outcome.created is None:
            raise Reverted(outcome.error)
        return Deployed(self, "0x" + outcome.created.hex(), found["abi"])

    def next_address(self, sender: LocalAccount, ahead: int) -> str:
        """Where the contract that `sender` deploys after `ahead` others will be."""
        nonce = self._nonces.get(sender.address, 0) + ahead
        encoded = bytes([0x80 if nonce == 0 else nonce])  # as RLP; below 128
        body = b"\x94" + bytes.fromhex(sender.address[2:]) + encoded
        return "0x" + keccak(bytes([0xC0 + len(body)]) + body)[12:].hex()


class Deployed:
    """A contract on an `Evm`. A function is named, or spelled with its types if overloaded."""

    def __init__(self, evm: Evm, address: str, abi: list[dict[str, Any]]) -> None:
        self._evm = evm
        self.address = address
        self._functions: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._errors: dict[bytes, str] = {}
        for entry in abi:
            if entry["type"] not in ("function", "error"):
                continue
            spelled = f"{entry['name']}({','.join(_types(entry['inputs']))})"
            selector = keccak(spelled.encode())[:4]
            if entry["type"] == "error":
                self._errors[selector] = entry["name"]
            else:
                self._functions[spelled] = self._functions[entry["name"]] = (selector, entry)

    def encode(self, function: str, arguments: Sequence[Any]) -> bytes:
        """Calldata of a call."""
        selector, entry = self._functions[function]
        return selector + encode(_types(entry["inputs"]), arguments)

    def do(self, sender: LocalAccount, function: str, *arguments: Any) -> Outcome:
        """Send a call; raise `Reverted` with the contract's error."""
        outcome = self._evm.send(sender, self.address, self.encode(function, arguments))
        if not outcome.ok:
            raise Reverted(self._errors.get(outcome.output[:4], outcome.error))
        return outcome

    def read(self, function: str, *arguments: Any) -> Any:
        """The value of a view, from a transaction that changes nothing but a nonce."""
        outcome = self.do(account("reader"), function, *arguments)
        types = _types(self._functions[function][1]["outputs"])
        values = decode(types, outcome.output)
        return values[0] if len(values) == 1 else values


def _types(parts: Sequence[dict[str, Any]]) -> list[str]:
    """ABI types as signatures spell them: a struct is a parenthesis."""
    return [
        f"({','.join(_types(part['components']))}){part['type'][5:]}"
        if part["type"].startswith("tuple")
        else str(part["type"])
        for part in parts
    ]
