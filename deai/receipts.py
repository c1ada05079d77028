"""Receipts: a file that proves what was done for a task, checked offline.

A receipt holds the task and its spec, the committee, every accept, every signed result,
approvals, commitments and openings, the settlement as the chain reported it and the hashes of
the transactions. Offline, everything that follows from signatures, digests and sums is checked;
that the transactions are on the chain is the one thing that needs the chain, and the report
says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import msgspec

from deai import tasks
from deai.codec import decode_json, encode_json
from deai.errors import BadSignature, DeaiError, MalformedMessage
from deai.events import SeatSettlement
from deai.hashing import blob_digest
from deai.ids import hexed, owner_of, parse_digest
from deai.money import Amount
from deai.signing import Domain, verify, word
from deai.tasks import (
    MAX_SEATS,
    Mask,
    Policy,
    Seat,
    SeatIndex,
    Seconds,
    Task,
    TaskKey,
    TaskSpec,
)

R = TypeVar("R", bound=msgspec.Struct)

MAX_RECEIPT_BYTES: Final = 1024 * 1024
VERSION: Final = 1


class SeatProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One seat's evidence; fields stay empty for what a seat never did."""

    seat: SeatIndex
    holder: Seat
    accept_valid_until: Seconds = 0
    accept_signature: str = ""
    commitment: str = ""
    output_digest: str = ""
    salt: str = ""
    evidence_digest: str = ""
    result_signature: str = ""
    approval_mask: Mask = 0
    approval_signature: str = ""


class ReceiptTransaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transaction of the task."""

    kind: str
    hash: str
    block: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked, who did it, what came out, who was paid."""

    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION
    chain: str
    escrow: Domain
    task_id: TaskKey
    task: Task
    spec: TaskSpec
    commit_order: Annotated[tuple[SeatIndex, ...], msgspec.Meta(max_length=MAX_SEATS)]
    """Seats in the order in which their commitments stand on chain."""
    seats: Annotated[tuple[SeatProof, ...], msgspec.Meta(max_length=MAX_SEATS)]
    result: str
    """Winning output digest, `0x…`, or empty when nobody won."""
    fault: bool
    settlements: Annotated[tuple[SeatSettlement, ...], msgspec.Meta(max_length=MAX_SEATS)]
    refunded: Amount
    protocol_fee: Amount
    tip: Amount
    """Tip to a finaliser other than the client."""
    transactions: tuple[ReceiptTransaction, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Report:
    """The outcome of checking a receipt offline."""

    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def check(self, name: str, problem: str, good: str) -> None:
        """Add what was found: a problem, or what is good."""
        self.checks.append(Check(name, not problem, problem or good))

    def compare(
        self, name: str, data: bytes, digest: str, hashed: Callable[[bytes], bytes] = blob_digest
    ) -> None:
        """Whether this data is what a digest was made of."""
        found = hexed(hashed(data))
        self.check(name, "" if found == digest else f"hashes to {found}", found)


class _Kind(msgspec.Struct):
    lane: str = ""


def lane_of(data: bytes) -> str:
    """Which lane a file says that it is a receipt of: `channel`, `order`, or empty for none."""
    try:
        return msgspec.json.decode(data, type=_Kind).lane
    except (msgspec.DecodeError, RecursionError):
        return ""


def read_receipt(data: bytes) -> Receipt:
    """Read the receipt of a task in escrow; raise `MalformedMessage`."""
    return read_as(data, Receipt)


def read_as(data: bytes, kind: type[R]) -> R:
    """Read a receipt of any kind; raise `MalformedMessage`."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise MalformedMessage(f"a receipt has at most {MAX_RECEIPT_BYTES} bytes")
    return decode_json(data, kind)


def write_receipt(receipt: msgspec.Struct) -> bytes:
    """The file: indented JSON."""
    return msgspec.json.format(encode_json(receipt), indent=2) + b"\n"


def verify_receipt(receipt: Receipt, output: bytes | None = None) -> Report:
    """Check ids, digests, signatures and sums without a network.

    Of a receipt that `read_receipt` gave it never raises. `output`, when given, is compared with
    the winning digest.
    """
    report = Report()
    check = report.check
    check("task id", _task_id(receipt), f"{receipt.task_id} binds chain, contract and every field")
    check("spec", _spec(receipt), "the task's hash is that of the spec")
    check("seats", _seats(receipt), f"{receipt.task.seats} seats, distinct owners")
    for proof in receipt.seats:
        check(f"seat {proof.seat}", _seat(receipt, proof), _said(proof))
    check("winner", _winner(receipt), receipt.result or "nobody won, as the rules say")
    check("sums", _sums(receipt), "paid + refunded + protocol fee = escrowed")
    if output is not None:
        report.compare("output", output, receipt.result)
    return report


def _task_id(receipt: Receipt) -> str:
    try:
        computed = tasks.task_id(receipt.task, receipt.escrow)
    except MalformedMessage as error:
        return str(error)
    return "" if computed == receipt.task_id else f"the fields hash to {computed}"


def _spec(receipt: Receipt) -> str:
    if tasks.spec_hash(receipt.spec) != receipt.task.spec_hash:
        return "the spec hashes to something else"
    named = f"{receipt.escrow.chain_id}:{receipt.escrow.contract}"
    return "" if receipt.spec.domain == named else f"made for {receipt.spec.domain}"


def _seats(receipt: Receipt) -> str:
    if sorted(proof.seat for proof in receipt.seats) != list(range(receipt.task.seats)):
        return "not one proof per seat"
    owners = {proof.holder.owner for proof in receipt.seats}
    return "" if len(owners) == receipt.task.seats else "one owner holds two seats"


def _said(proof: SeatProof) -> str:
    parts = [
        word_
        for word_, value in (
            ("accepted", proof.accept_signature),
            ("committed", proof.commitment),
            ("opened", proof.salt),
            ("signed its result", proof.result_signature),
            ("approved", proof.approval_signature),
        )
        if value
    ]
    return f"{owner_of(proof.holder.node)} " + (", ".join(parts) or "did nothing")


def _seat(receipt: Receipt, proof: SeatProof) -> str:
    domain, task_id, holder = receipt.escrow, receipt.task_id, proof.holder
    seat, attempt = proof.seat, holder.attempt
    if not proof.accept_signature:
        return "its accept is missing: nothing shows that it took the seat"
    try:
        signed = tasks.accept_digest(
            domain, task_id, seat, attempt, holder.node, proof.accept_valid_until
        )
        verify(signed, unhexed(proof.accept_signature), holder.operator)
        if proof.salt:
            opened = tasks.commitment_value(
                task_id, seat, attempt, holder.node,
                parse_digest(proof.output_digest), parse_digest(proof.salt),
            )  # fmt: skip
            if hexed(opened) != proof.commitment:
                return "the opening is not what was committed"
        if proof.result_signature:
            signed = tasks.result_digest(
                domain, task_id, seat, attempt,
                parse_digest(proof.output_digest), parse_digest(proof.evidence_digest),
            )  # fmt: skip
            verify(signed, unhexed(proof.result_signature), holder.operator)
        if proof.approval_signature:
            signed = tasks.approval_digest(
                domain, task_id, seat, word(_acc(receipt)), proof.approval_mask
            )
            verify(signed, unhexed(proof.approval_signature), holder.operator)
    except DeaiError as error:
        return str(error)
    return ""


def unhexed(text: str) -> bytes:
    """Bytes as a receipt shows them; raise `BadSignature`."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise BadSignature("not hex") from error


def _acc(receipt: Receipt) -> int:
    by_seat = {proof.seat: proof.commitment for proof in receipt.seats}
    order = [(seat, parse_digest(by_seat.get(seat, ""))) for seat in receipt.commit_order]
    return tasks.fold_commitments(receipt.task.nonce, order)


def _winner(receipt: Receipt) -> str:
    task = receipt.task
    try:
        digests, masks = _revealed(receipt)
    except MalformedMessage as error:
        return str(error)
    found, paid = tasks.winner(task, digests)
    is_fault = found in tasks.fault_digests(receipt.task_id)
    if is_fault and any(digest not in (None, found) for digest in digests):
        found, paid, is_fault = None, 0, False
    if task.policy.is_tolerance and not is_fault:
        opened = sum(1 << seat for seat, digest in enumerate(digests) if digest is not None)
        best, paid = tasks.approved(task, masks, opened)
        found = digests[best] if best is not None else None
    expected = hexed(found) if found else ""
    if expected != receipt.result:
        return f"the rules give {expected or 'nobody'}"
    if is_fault is not receipt.fault:
        return "the seats do not agree that the task is bad"
    if found and not any(
        proof.result_signature for proof in receipt.seats if proof.output_digest == expected
    ):
        return "no seat signed it: nothing shows whose result it is"
    return "" if is_fault else _payees(receipt, paid)


def _revealed(receipt: Receipt) -> tuple[list[bytes | None], list[int | None]]:
    """Digests and approvals by seat, None where there is none; raise `MalformedMessage`."""
    digests: list[bytes | None] = [None] * receipt.task.seats
    masks: list[int | None] = [None] * receipt.task.seats
    for proof in receipt.seats:
        if proof.seat >= receipt.task.seats:
            continue  # said by the check of the seats
        # Under none/1 the signed result is commitment and opening at once, without a salt.
        if proof.salt or (receipt.task.policy is Policy.NONE and proof.output_digest):
            digests[proof.seat] = parse_digest(proof.output_digest)
        masks[proof.seat] = proof.approval_mask if proof.approval_signature else None
    return digests, masks


def _payees(receipt: Receipt, paid: int) -> str:
    told = sum(
        1 << seat for seat, settlement in enumerate(receipt.settlements) if settlement.payment
    )
    return "" if told == paid else "others were paid than those who won"


def _sums(receipt: Receipt) -> str:
    if len(receipt.settlements) != receipt.task.seats:
        return "not one settlement per seat"
    paid = sum(settlement.payment for settlement in receipt.settlements)
    total = paid + receipt.refunded + receipt.protocol_fee + receipt.tip
    if total == receipt.task.escrowed:
        return ""
    return f"{total} left the escrow, {receipt.task.escrowed} entered it"
