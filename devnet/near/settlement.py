"""What comes of a receipt once its actions have run: what it sends, gives back and burns."""

import base64
import hashlib
from dataclasses import dataclass, field

import msgspec

from devnet.near import rules
from devnet.near.actions import Transfer, deposits
from devnet.near.errors import Json
from devnet.near.keys import SYSTEM, base58
from devnet.near.receipts import ActionReceipt, DataReceipt, Outcome, Receipt
from devnet.near.rules import GAS_PRICE
from devnet.near.vm.call import Promise


@dataclass(frozen=True)
class BlockContext:
    """The block that receipts run in. Time in nanoseconds since 1970."""

    height: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True)
class Applied:
    """What a receipt did: its outcome, what it sends, the money it burnt (yoctoNEAR)."""

    outcome: Outcome
    sent: list[Receipt]
    burnt: int


@dataclass
class Tally:
    """What has come together while the actions of one receipt run."""

    burnt: int = rules.RECEIPT_FEE.execute
    used: int = rules.RECEIPT_FEE.execute
    call_gas: int = 0
    logs: list[str] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    inheritance: tuple[str, int] | None = None  # a deleted account's beneficiary and money
    value: bytes | Promise = b""
    failure: Json | None = None


def settle(receipt: ActionReceipt, block: BlockContext, tally: Tally, reward: int) -> Applied:
    """Send on what came of a receipt, give back what was not used, burn the rest."""
    burnt = tally.burnt * GAS_PRICE - reward
    sender = _Sender(receipt, block.hash)
    made = {id(promise): sender.promised(promise) for promise in tally.promises}
    data: list[Receipt] = []
    returned = None
    if isinstance(tally.value, Promise):
        # What the promise returns, those who wait for this receipt are given.
        chosen = made[id(tally.value)]
        returned = chosen.id
        made[id(tally.value)] = msgspec.structs.replace(
            chosen, outputs=chosen.outputs + receipt.outputs
        )
    else:
        value = tally.value if tally.failure is None else None
        data = [
            DataReceipt(data_id, receipt.transaction, receipt.receiver, to, value)
            for data_id, to in receipt.outputs
        ]
    sent = list(made.values())
    if tally.inheritance is not None and tally.inheritance[1]:
        sent.append(sender.refund(*tally.inheritance))
    back = deposits(receipt.actions) if tally.failure is not None else 0
    if back and receipt.is_refund:
        burnt += back  # there is nobody left to give it to
    elif back:
        sent.append(sender.refund(receipt.refund_to or receipt.predecessor, back))
    unused = (receipt.bought_gas - tally.used) * GAS_PRICE
    if unused > 0:
        sent.append(sender.refund(receipt.signer, unused, gas=True))
    status: Json
    if tally.failure is not None:
        status = {"Failure": tally.failure}
    elif returned is not None:
        status = {"SuccessReceiptId": returned}
    else:
        status = {"SuccessValue": base64.b64encode(_value(tally)).decode()}
    outcome = Outcome(
        receipt.id, receipt.receiver, status, tuple(tally.logs), tuple(one.id for one in sent),
        tally.burnt, tally.burnt * GAS_PRICE - reward,
    )  # fmt: skip
    return Applied(outcome, [*data, *sent], burnt)


def _value(tally: Tally) -> bytes:
    return tally.value if isinstance(tally.value, bytes) else b""


@dataclass
class _Sender:
    """Makes the receipts that come of one."""

    receipt: ActionReceipt
    block_hash: bytes
    _count: int = 0

    def promised(self, promise: Promise) -> ActionReceipt:
        return ActionReceipt(
            self._id(), self.receipt.transaction, self.receipt.receiver, promise.receiver,
            self.receipt.signer, self.receipt.signer_key, tuple(promise.actions),
            tuple(promise.inputs), tuple(promise.outputs), promise.refund_to,
        )  # fmt: skip

    def refund(self, receiver: str, amount: int, *, gas: bool = False) -> ActionReceipt:
        return ActionReceipt(
            self._id(), self.receipt.transaction, SYSTEM, receiver, self.receipt.signer,
            self.receipt.signer_key, (Transfer(amount),), refunds_gas=gas,
        )  # fmt: skip

    def _id(self) -> str:
        self._count += 1
        return base58(digest(self.block_hash, self.receipt.id, self._count << 32))


def digest(block_hash: bytes, receipt_id: str, number: int) -> bytes:
    """Return a hash that only this receipt in this block has; ``number`` tells its uses apart."""
    tail = number.to_bytes(8, "little", signed=True)
    return hashlib.sha256(block_hash + receipt_id.encode() + tail).digest()
