"""What a NEAR transaction is made of: its steps, its receiver, and what must be there before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from deai.ids import AccountId, NodeId

TGAS: Final = 10**12
YOCTO: Final = 1
"""Shows the contract that a full-access key signed."""


class Call(msgspec.Struct, frozen=True, tag=True):
    """One method of the receiver. Gas in gas units, deposit in yoctoNEAR."""

    method: str
    args: bytes
    gas: int
    deposit: int = 0


class Send(msgspec.Struct, frozen=True, tag=True):
    """NEAR for the receiver, in yoctoNEAR."""

    deposit: int


class AddKey(msgspec.Struct, frozen=True, tag=True):
    """A new key of the signer: for `methods` of `contract` up to an allowance, or for all."""

    public_key: str
    contract: AccountId | None = None
    methods: tuple[str, ...] = ()
    allowance: int | None = None
    """Burnt as gas at most, in yoctoNEAR; None: without an end."""


class DeleteKey(msgspec.Struct, frozen=True, tag=True):
    """A key that the signer takes back."""

    public_key: str


class CreateAccount(msgspec.Struct, frozen=True, tag=True):
    """The receiver comes into being."""


class Deploy(msgspec.Struct, frozen=True, tag=True):
    """Code for the receiver."""

    code: bytes


Step: TypeAlias = Call | Send | AddKey | DeleteKey | CreateAccount | Deploy


class Needs(msgspec.Struct, frozen=True):
    """What must be there before, each to be looked up and supplied.

    `receivers`: accounts that the token must know. `at_vault`: whether the sender needs a vault
    account. `node`: whether its storage balance must have room for a node.
    """

    receivers: tuple[AccountId, ...] = ()
    at_vault: bool = False
    node: bool = False
    lane: int | None = None
    """A lane of the sender that the call's deposit pays for if it is new."""
    replaced: str = ""
    """A key of the sender that goes first, if it is there."""
    purse: tuple[AccountId, int] | None = None
    """An account that must hold so much NEAR for gas, in yoctoNEAR."""
    opens: tuple[NodeId, AccountId] | None = None
    """Node and session key of a channel of the sender, whose storage is paid if it is new."""
    record_of: AccountId | None = None
    """An account whose record in the receiver the call's deposit pays for if it is new."""
    tokens: int = 0
    """Base units that the sender must hold."""
    free: int = 0
    """Base units that its vault account must hold."""


class NearCall(msgspec.Struct, frozen=True):
    """A transaction without its nonce: `to` is None for the signer itself."""

    to: AccountId | None
    steps: tuple[Step, ...]
    needs: Needs = Needs()
    by: AccountId | None = None
    """Who signs with the key; None: the account that it was given for."""
    mends: bool = False
    """Whether the receiver itself makes good what fails on the way, so that only the end counts."""

    @property
    def gas(self) -> int:
        """Gas attached to the method calls."""
        return sum(step.gas for step in self.steps if isinstance(step, Call))

    @property
    def deposit(self) -> int:
        """What leaves the signer beside the price of gas, in yoctoNEAR."""
        return sum(_deposit(step) for step in self.steps)

    def is_for_key(self, contract: AccountId, methods: Sequence[str]) -> bool:
        """Whether a key limited to `methods` (empty: all) of `contract` may sign it."""
        return self.to == contract and all(
            isinstance(step, Call) and not step.deposit and (step.method in methods or not methods)
            for step in self.steps
        )


def _deposit(step: Step) -> int:
    return step.deposit if isinstance(step, Call | Send) else 0


def call(method: str, gas: int, deposit: int = 0, /, **arguments: object) -> Call:
    """A method call with JSON arguments; gas in TGas."""
    return Call(method, msgspec.json.encode(arguments), gas * TGAS, deposit)
