"""What a transaction or a receipt does: NEAR's actions, and the gas of each."""

from collections.abc import Sequence
from typing import Final

import msgspec

from devnet.near import rules
from devnet.near.keys import is_implicit
from devnet.near.rules import Fee


class FunctionCallAccess(msgspec.Struct, frozen=True):
    """What a restricted key may do: call ``methods`` (empty: any) of ``receiver`` without money.

    ``allowance`` (yoctoNEAR) is what it may still spend on gas, None without a limit.
    """

    receiver: str
    methods: tuple[str, ...]
    allowance: int | None


class CreateAccount(msgspec.Struct, frozen=True, tag=True):
    """Create the receiver."""


class DeployContract(msgspec.Struct, frozen=True, tag=True):
    """Replace the receiver's code."""

    code: bytes


class FunctionCall(msgspec.Struct, frozen=True, tag=True):
    """Call a method of the receiver's code with a deposit (yoctoNEAR)."""

    method: str
    args: bytes
    gas: int
    deposit: int


class Transfer(msgspec.Struct, frozen=True, tag=True):
    """Give money (yoctoNEAR)."""

    deposit: int


class AddKey(msgspec.Struct, frozen=True, tag=True):
    """Add a key to the receiver; ``access`` None: a full one."""

    public_key: str
    access: FunctionCallAccess | None


class DeleteKey(msgspec.Struct, frozen=True, tag=True):
    """Remove a key of the receiver."""

    public_key: str


class DeleteAccount(msgspec.Struct, frozen=True, tag=True):
    """Remove the receiver; its money goes to the beneficiary."""

    beneficiary: str


Action = (
    CreateAccount | DeployContract | FunctionCall | Transfer | AddKey | DeleteKey | DeleteAccount
)

NEED_OWNER: Final = (DeployContract, AddKey, DeleteKey, DeleteAccount)
"""Only the account itself, or who has just created it, may do these."""


def deposit(action: Action) -> int:
    """Return the money that an action carries, in yoctoNEAR."""
    return action.deposit if isinstance(action, FunctionCall | Transfer) else 0


def deposits(actions: Sequence[Action]) -> int:
    """Return the money that actions carry together, in yoctoNEAR."""
    return sum(deposit(action) for action in actions)


def attached_gas(actions: Sequence[Action]) -> int:
    """Return the gas given to function calls."""
    return sum(action.gas for action in actions if isinstance(action, FunctionCall))


def send_gas(actions: Sequence[Action], sender: str, receiver: str) -> int:
    """Return the gas burnt by sending a receipt with these actions."""
    to_self = sender == receiver
    return _sent(rules.RECEIPT_FEE, to_self) + sum(
        send_fee(action, receiver, to_self=to_self) for action in actions
    )


def execution_gas(actions: Sequence[Action], receiver: str) -> int:
    """Return the gas bought to execute a receipt, without what is attached to calls."""
    return rules.RECEIPT_FEE.execute + sum(execution_fee(action, receiver) for action in actions)


def send_fee(action: Action, receiver: str, *, to_self: bool) -> int:
    """Return the gas burnt by sending one action."""
    return sum(_sent(fee, to_self) * count for fee, count in _fees(action, receiver))


def execution_fee(action: Action, receiver: str) -> int:
    """Return the gas burnt by executing one action, the run of a contract's code left out."""
    return sum(fee.execute * count for fee, count in _fees(action, receiver))


def _sent(fee: Fee, to_self: bool) -> int:
    return fee.send_to_self if to_self else fee.send


def _fees(action: Action, receiver: str) -> list[tuple[Fee, int]]:
    match action:
        case CreateAccount():
            return [(rules.CREATE_ACCOUNT_FEE, 1)]
        case DeployContract(code):
            return [(rules.DEPLOY_FEE, 1), (rules.DEPLOY_BYTE_FEE, len(code))]
        case FunctionCall(method, args):
            size = len(method.encode()) + len(args)
            return [(rules.CALL_FEE, 1), (rules.CALL_BYTE_FEE, size)]
        case Transfer() if is_implicit(receiver):
            made = (rules.CREATE_ACCOUNT_FEE, rules.ADD_FULL_KEY_FEE)
            return [(rules.TRANSFER_FEE, 1), *((fee, 1) for fee in made)]
        case Transfer():
            return [(rules.TRANSFER_FEE, 1)]
        case AddKey(_, None):
            return [(rules.ADD_FULL_KEY_FEE, 1)]
        case AddKey(_, FunctionCallAccess(_, methods)):
            size = sum(len(method.encode()) + 1 for method in methods)
            return [(rules.ADD_CALL_KEY_FEE, 1), (rules.ADD_CALL_KEY_BYTE_FEE, size)]
        case DeleteKey():
            return [(rules.DELETE_KEY_FEE, 1)]
        case DeleteAccount():
            return [(rules.DELETE_ACCOUNT_FEE, 1)]
        case _:
            raise AssertionError(action)
