"""Transactions: what a block may hold, and what it costs to be in one."""

from dataclasses import dataclass
from typing import Final

import msgspec

from devnet.near import rules
from devnet.near.actions import (
    AddKey,
    DeleteAccount,
    DeployContract,
    FunctionCall,
    attached_gas,
    deposits,
    execution_gas,
    send_gas,
)
from devnet.near.borsh import SignedTransaction
from devnet.near.errors import InvalidTransaction, Json
from devnet.near.keys import is_account
from devnet.near.rules import GAS_PRICE
from devnet.near.state import AccessKey, State, missing_stake

MAX_U64: Final = 2**64 - 1


@dataclass(frozen=True)
class Cost:
    """What a transaction takes from its signer: gas burnt at once, and money in all (yoctoNEAR)."""

    sent_gas: int
    total: int


def cost(transaction: SignedTransaction) -> Cost:
    """Return what a transaction takes."""
    actions, receiver = transaction.actions, transaction.receiver
    sent = send_gas(actions, transaction.signer, receiver)
    bought = execution_gas(actions, receiver) + attached_gas(actions)
    return Cost(sent, (sent + bought) * GAS_PRICE + deposits(actions))


def check_form(transaction: SignedTransaction) -> None:
    """Check what no state can change; raises :class:`InvalidTransaction`."""
    if not is_account(transaction.signer):
        raise InvalidTransaction({"InvalidSignerId": {"signer_id": transaction.signer[:100]}})
    if not is_account(transaction.receiver):
        named = {"receiver_id": transaction.receiver[:100]}
        raise InvalidTransaction({"InvalidReceiverId": named})
    if transaction.size > rules.MAX_TRANSACTION_BYTES:
        size = {"size": transaction.size, "limit": rules.MAX_TRANSACTION_BYTES}
        raise InvalidTransaction({"TransactionSizeExceeded": size})
    if not transaction.is_genuine:
        raise InvalidTransaction("InvalidSignature")
    _check_actions(transaction)


def charge(state: State, transaction: SignedTransaction, height: int) -> Cost:
    """Take a transaction's cost from its signer and use its nonce, in the block at ``height``.

    Raises :class:`InvalidTransaction` and changes nothing if the signer, the key, the nonce or the
    money is not there.
    """
    spent, key = checked(state, transaction, height)
    account = state.accounts[transaction.signer]
    state.begin()
    amount = account.amount - spent.total
    state.put_account(transaction.signer, msgspec.structs.replace(account, amount=amount))
    access = key.access
    if access is not None and access.allowance is not None:
        access = msgspec.structs.replace(access, allowance=access.allowance - spent.total)
    used = AccessKey(transaction.nonce, access)
    state.put_key(transaction.signer, transaction.public_key, used)
    return spent


def checked(state: State, transaction: SignedTransaction, height: int) -> tuple[Cost, AccessKey]:
    """Return a transaction's cost and its key as it is now; raises like :func:`charge`."""
    signer, public_key = transaction.signer, transaction.public_key
    account = state.account(signer)
    if account is None:
        raise InvalidTransaction({"SignerDoesNotExist": {"signer_id": signer}})
    key = state.key(signer, public_key)
    if key is None:
        missing: Json = {"account_id": signer, "public_key": public_key}
        raise _bad_key({"AccessKeyNotFound": missing})
    if transaction.nonce <= key.nonce:
        nonces = {"tx_nonce": transaction.nonce, "ak_nonce": key.nonce}
        raise InvalidTransaction({"InvalidNonce": nonces})
    bound = height * rules.NONCES_PER_BLOCK
    if transaction.nonce >= bound:
        nonces = {"tx_nonce": transaction.nonce, "upper_bound": bound}
        raise InvalidTransaction({"NonceTooLarge": nonces})
    spent = cost(transaction)
    _check_access(transaction, key, spent)
    if account.amount < spent.total:
        have: Json = {"balance": str(account.amount), "cost": str(spent.total)}
        raise InvalidTransaction({"NotEnoughBalance": {"signer_id": signer, **have}})
    lack = missing_stake(account, account.amount - spent.total)
    if lack:
        short: Json = {"signer_id": signer, "amount": str(lack)}
        raise InvalidTransaction({"LackBalanceForState": short})
    return spent, key


def _check_access(transaction: SignedTransaction, key: AccessKey, spent: Cost) -> None:
    access = key.access
    if access is None:
        return
    action = transaction.actions[0] if len(transaction.actions) == 1 else None
    if not isinstance(action, FunctionCall):
        raise _bad_key("RequiresFullAccess")
    if action.deposit:
        raise _bad_key("DepositWithFunctionCall")
    if transaction.receiver != access.receiver:
        other: Json = {"tx_receiver": transaction.receiver, "ak_receiver": access.receiver}
        raise _bad_key({"ReceiverMismatch": other})
    if access.methods and action.method not in access.methods:
        raise _bad_key({"MethodNameMismatch": {"method_name": action.method}})
    if access.allowance is not None and access.allowance < spent.total:
        named: Json = {"account_id": transaction.signer, "public_key": transaction.public_key}
        left: Json = {"allowance": str(access.allowance), "cost": str(spent.total)}
        raise _bad_key({"NotEnoughAllowance": {**named, **left}})


def _check_actions(transaction: SignedTransaction) -> None:
    actions = transaction.actions
    if len(actions) > rules.MAX_ACTIONS:
        raise _bad_actions(
            "TotalNumberOfActionsExceeded", "total_number_of_actions", len(actions),
            rules.MAX_ACTIONS,
        )  # fmt: skip
    gas = attached_gas(actions)
    if gas > MAX_U64:
        raise InvalidTransaction({"ActionsValidation": "IntegerOverflow"})
    if gas > rules.MAX_PREPAID_GAS:
        raise _bad_actions(
            "TotalPrepaidGasExceeded", "total_prepaid_gas", gas, rules.MAX_PREPAID_GAS
        )
    for place, action in enumerate(actions, 1):
        match action:
            case FunctionCall(gas=0):
                raise InvalidTransaction({"ActionsValidation": "FunctionCallZeroAttachedGas"})
            case FunctionCall(method) if len(method.encode()) > rules.MAX_METHOD_NAME_BYTES:
                raise _bad_actions(
                    "FunctionCallMethodNameLengthExceeded", "length", len(method.encode()),
                    rules.MAX_METHOD_NAME_BYTES,
                )  # fmt: skip
            case DeployContract(code) if len(code) > rules.MAX_CONTRACT_BYTES:
                raise _bad_actions(
                    "ContractSizeExceeded", "size", len(code), rules.MAX_CONTRACT_BYTES
                )
            case AddKey(access=access) if access is not None:
                _check_methods(access.methods)
            case DeleteAccount() if place < len(actions):
                raise InvalidTransaction({"ActionsValidation": "DeleteActionMustBeFinal"})
            case _:
                pass


def _check_methods(methods: tuple[str, ...]) -> None:
    for method in methods:
        if len(method.encode()) > rules.MAX_METHOD_NAME_BYTES:
            raise _bad_actions(
                "AddKeyMethodNameLengthExceeded", "length", len(method.encode()),
                rules.MAX_METHOD_NAME_BYTES,
            )  # fmt: skip
    total = sum(len(method.encode()) + 1 for method in methods)
    if total > rules.MAX_METHOD_NAMES_BYTES:
        raise _bad_actions(
            "AddKeyMethodNamesNumberOfBytesExceeded", "total_number_of_bytes", total,
            rules.MAX_METHOD_NAMES_BYTES,
        )  # fmt: skip


def _bad_key(kind: str | Json) -> InvalidTransaction:
    return InvalidTransaction({"InvalidAccessKeyError": kind})


def _bad_actions(name: str, what: str, found: int, limit: int) -> InvalidTransaction:
    return InvalidTransaction({"ActionsValidation": {name: {what: found, "limit": limit}}})
