"""Running a receipt: its actions, the money and gas it brought, what it sends on."""

import hashlib
from typing import Final

import msgspec

from devnet.near import rules
from devnet.near.actions import (
    NEED_OWNER,
    Action,
    AddKey,
    CreateAccount,
    DeleteAccount,
    DeleteKey,
    DeployContract,
    FunctionCall,
    Transfer,
    execution_fee,
)
from devnet.near.entries import ViewedEntries, WrittenEntries
from devnet.near.errors import ActionFailed, Json
from devnet.near.keys import (
    is_implicit,
    may_create,
    public_key_bytes,
    public_key_text,
)
from devnet.near.receipts import ActionReceipt, Ready
from devnet.near.rules import GAS_PRICE
from devnet.near.settlement import Applied, BlockContext, Tally, digest, settle
from devnet.near.state import AccessKey, Account, Reading, State, key_bytes, missing_stake
from devnet.near.vm.call import CallContext
from devnet.near.vm.machine import CallOutcome, Machine

NO_KEY: Final = bytes(33)


class Executor:
    """Applies receipts to a state."""

    def __init__(self, state: State, machine: Machine) -> None:
        self.state = state
        self._machine = machine

    def apply(self, ready: Ready, block: BlockContext) -> Applied:
        """Run one receipt; a failure leaves no trace but what it burnt."""
        self.state.begin()
        tally = Tally()
        self._run(ready, block, tally)
        receipt = ready.receipt
        if tally.failure is not None:
            self.state.undo()
            tally.promises.clear()
            tally.inheritance, tally.value, tally.used = None, b"", tally.burnt
        if receipt.is_refund:
            tally.burnt = tally.used = 0
        reward = self._reward(receipt, tally)
        return settle(receipt, block, tally, reward)

    def view(
        self, state: Reading, account_id: str, account: Account, method: str, args: bytes,
        block: BlockContext,
    ) -> CallOutcome:  # fmt: skip
        """Run a method that may not change anything, on any state."""
        context = CallContext(
            current=account_id, signer=account_id, signer_key=NO_KEY, predecessor=account_id,
            method=method, args=args, deposit=0, prepaid_gas=rules.MAX_BURNT_GAS,
            height=block.height, timestamp=block.timestamp, seed=block.hash,
            balance=account.amount, refund_to=account_id, is_view=True,
        )  # fmt: skip
        code = state.code(account.code_hash)
        world = ViewedEntries(state, account_id, account)
        return self._machine.run(account.code_hash, code, context, world)

    def _run(self, ready: Ready, block: BlockContext, tally: Tally) -> None:
        receipt = ready.receipt
        actor = receipt.predecessor
        for index, action in enumerate(receipt.actions):
            fee = execution_fee(action, receipt.receiver)
            tally.burnt += fee
            tally.used += fee
            try:
                actor = self._permitted(receipt, action, actor)
                if isinstance(action, FunctionCall):
                    last = index == len(receipt.actions) - 1
                    self._call(ready, block, index, action, last=last, tally=tally)
                else:
                    tally.value = b""
                    self._act(receipt, action, block, tally)
            except ActionFailed as error:
                tally.failure = {"ActionError": {"index": index, "kind": error.kind}}
                return
        account = self.state.account(receipt.receiver)
        lack = missing_stake(account, account.amount) if account else 0
        if lack:
            kind = {"account_id": receipt.receiver, "amount": str(lack)}
            tally.failure = {"ActionError": {"index": None, "kind": {"LackBalanceForState": kind}}}

    def _permitted(self, receipt: ActionReceipt, action: Action, actor: str) -> str:
        name = receipt.receiver
        exists = self.state.account(name) is not None
        if isinstance(action, CreateAccount):
            if exists:
                raise ActionFailed({"AccountAlreadyExists": {"account_id": name}})
            creator = receipt.predecessor
            if "." not in name:
                kind = {"account_id": name, "registrar_account_id": "registrar"}
                raise ActionFailed(
                    {"CreateAccountOnlyByRegistrar": {**kind, "predecessor_id": creator}}
                )
            if not may_create(creator, name):
                raise ActionFailed(
                    {"CreateAccountNotAllowed": {"account_id": name, "predecessor_id": creator}}
                )
            return name
        makes = isinstance(action, Transfer) and is_implicit(name) and len(receipt.actions) == 1
        if not exists and (receipt.is_refund or not makes):
            raise ActionFailed({"AccountDoesNotExist": {"account_id": name}})
        if isinstance(action, NEED_OWNER) and actor != name:
            raise ActionFailed({"ActorNoPermission": {"account_id": name, "actor_id": actor}})
        return actor

    def _act(
        self, receipt: ActionReceipt, action: Action, block: BlockContext, tally: Tally
    ) -> None:
        name = receipt.receiver
        account = self.state.account(name) or Account()
        match action:
            case CreateAccount():
                self.state.put_account(name, account)
            case Transfer(deposit):
                self._transfer(receipt, account, deposit, block)
            case DeployContract(code):
                self._deploy(name, account, code)
            case AddKey(public_key, access):
                if self.state.key(name, public_key):
                    kind = {"account_id": name, "public_key": public_key}
                    raise ActionFailed({"AddKeyAlreadyExists": kind})
                key = AccessKey(_first_nonce(block.height), access)
                self._add_key(name, account, public_key, key)
            case DeleteKey(public_key):
                found = self.state.key(name, public_key)
                if found is None:
                    kind = {"account_id": name, "public_key": public_key}
                    raise ActionFailed({"DeleteKeyDoesNotExist": kind})
                self.state.put_key(name, public_key, None)
                usage = account.usage - key_bytes(public_key, found)
                self.state.put_account(name, msgspec.structs.replace(account, usage=usage))
            case DeleteAccount(beneficiary):
                self._delete(name, account)
                tally.inheritance = (beneficiary, account.amount)
            case FunctionCall():
                raise AssertionError("calls are made by _call")

    def _transfer(
        self, receipt: ActionReceipt, account: Account, deposit: int, block: BlockContext
    ) -> None:
        name = receipt.receiver
        if self.state.account(name) is None:  # an implicit account is made by its first money
            public_key = public_key_text(b"\0" + bytes.fromhex(name))
            self._add_key(name, account, public_key, AccessKey(_first_nonce(block.height)))
            account = self.state.account(name) or account
        amount = account.amount + deposit
        self.state.put_account(name, msgspec.structs.replace(account, amount=amount))
        key = self.state.key(name, receipt.signer_key) if receipt.refunds_gas else None
        if key and key.access and key.access.allowance is not None:
            allowance = key.access.allowance + deposit
            access = msgspec.structs.replace(key.access, allowance=allowance)
            self.state.put_key(name, receipt.signer_key, AccessKey(key.nonce, access))

    def _deploy(self, name: str, account: Account, code: bytes) -> None:
        if len(code) > rules.MAX_CONTRACT_BYTES:
            kind = {"size": len(code), "limit": rules.MAX_CONTRACT_BYTES}
            raise ActionFailed({"ContractSizeExceeded": kind})
        digest = hashlib.sha256(code).digest()
        old = len(self.state.code(account.code_hash)) if account.code_hash else 0
        self.state.codes.setdefault(digest, code)
        usage = account.usage - old + len(code)
        changed = msgspec.structs.replace(account, code_hash=digest, usage=usage)
        self.state.put_account(name, changed)

    def _add_key(self, name: str, account: Account, public_key: str, key: AccessKey) -> None:
        self.state.put_key(name, public_key, key)
        usage = account.usage + key_bytes(public_key, key)
        self.state.put_account(name, msgspec.structs.replace(account, usage=usage))

    def _delete(self, name: str, account: Account) -> None:
        code = len(self.state.code(account.code_hash)) if account.code_hash else 0
        if account.usage - code > rules.MAX_DELETED_STATE_BYTES:
            raise ActionFailed({"DeleteAccountWithLargeState": {"account_id": name}})
        for public_key in self.state.keys(name):
            self.state.put_key(name, public_key, None)
        for key, _ in list(self.state.data(name, b"")):
            self.state.put_datum(name, key, None)
        self.state.put_account(name, None)

    def _call(
        self, ready: Ready, block: BlockContext, index: int, action: FunctionCall, *,
        last: bool, tally: Tally,
    ) -> None:  # fmt: skip
        receipt = ready.receipt
        name = receipt.receiver
        account = self.state.account(name) or Account()
        if not account.code_hash:
            kind: Json = {"CodeDoesNotExist": {"account_id": name}}
            raise ActionFailed({"FunctionCallError": {"CompilationError": kind}})
        balance = account.amount + action.deposit
        self.state.put_account(name, msgspec.structs.replace(account, amount=balance))
        context = CallContext(
            current=name, signer=receipt.signer, signer_key=public_key_bytes(receipt.signer_key),
            predecessor=receipt.predecessor, method=action.method, args=action.args,
            deposit=action.deposit, prepaid_gas=action.gas, height=block.height,
            timestamp=block.timestamp, seed=digest(block.hash, receipt.id, index),
            balance=balance, refund_to=receipt.refund_to or receipt.predecessor,
            results=ready.results, outputs=[to for _, to in receipt.outputs] if last else (),
        )  # fmt: skip
        world = WrittenEntries(self.state, name, digest(block.hash, receipt.id, -1 - index))
        code = self.state.code(account.code_hash)
        outcome = self._machine.run(account.code_hash, code, context, world)
        tally.burnt += outcome.burnt
        tally.used += outcome.used
        tally.call_gas += outcome.burnt
        tally.logs += outcome.logs
        if outcome.failure is not None:
            raise ActionFailed({"FunctionCallError": outcome.failure})
        tally.value = outcome.returned
        tally.promises += outcome.promises
        account = self.state.account(name) or account
        self.state.put_account(name, msgspec.structs.replace(account, amount=outcome.balance))

    def _reward(self, receipt: ActionReceipt, tally: Tally) -> int:
        account = self.state.account(receipt.receiver)
        if account is None or receipt.is_refund:
            return 0
        reward = tally.call_gas * rules.REWARD_NUMERATOR // rules.REWARD_DENOMINATOR * GAS_PRICE
        if reward:
            changed = msgspec.structs.replace(account, amount=account.amount + reward)
            self.state.put_account(receipt.receiver, changed)
        return reward


def _first_nonce(height: int) -> int:
    """Return the nonce of a new key: above all that a deleted one with its name ever used."""
    return max(0, height - 1) * rules.NONCES_PER_BLOCK
