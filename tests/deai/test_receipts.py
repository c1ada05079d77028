"""Receipts are checked offline: what proves something passes, what does not is told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from deai import tasks
from deai.errors import MalformedMessage
from deai.events import SeatSettlement
from deai.hashing import blob_digest
from deai.ids import TaskId, hexed, node_id
from deai.money import Amount
from deai.receipts import Receipt, SeatProof, read_receipt, verify_receipt, write_receipt
from deai.tasks import FaultCode, Policy, Seat
from tests.support.examples import examples
from tests.support.samples import ESCROW, signer, spec, task

OUTPUT = b"what came out"
SALT = bytes(range(32))


def made(policy: Policy = Policy.EXACT, fault: FaultCode | None = None) -> Receipt:
    """A receipt as an honest client writes it."""
    seats = 1 if policy is Policy.NONE else 3
    body = task(signer(1).account, seats=seats, policy=policy)
    identity = tasks.task_id(body, ESCROW)
    digest = blob_digest(OUTPUT) if fault is None else tasks.fault_digest(identity, fault)
    payment = Amount(body.fee * 9 // 10 if fault is None else body.fee // 10)
    kept = seats * (body.fee - payment)
    return Receipt(
        chain="sei",
        escrow=ESCROW,
        task_id=identity,
        task=body,
        spec=spec(),
        commit_order=tuple(range(seats)),
        seats=tuple(proof(identity, seat, digest, policy) for seat in range(seats)),
        result=hexed(digest),
        fault=fault is not None,
        settlements=(SeatSettlement(payment, 100_000, 100_000, 2),) * seats,
        refunded=Amount(body.tip + (kept if fault is not None else 0)),
        protocol_fee=Amount(0 if fault is not None else kept),
        tip=Amount(0),
        transactions=(),
    )


def proof(identity: TaskId, seat: int, digest: bytes, policy: Policy) -> SeatProof:
    key = signer(10 + seat)
    holder = Seat(node_id(signer(20 + seat).account, 0), key.account, 1_900_000_000, 0)
    accept = tasks.accept_digest(ESCROW, identity, seat, 0, holder.node, 1_800_000_000)
    result = tasks.result_digest(ESCROW, identity, seat, 0, digest, digest)
    unchecked = policy is Policy.NONE
    value = tasks.commitment_value(identity, seat, 0, holder.node, digest, SALT)
    return SeatProof(
        seat=seat,
        holder=holder,
        accept_valid_until=1_800_000_000,
        accept_signature=hexed(key.sign(accept)),
        commitment=hexed(digest if unchecked else value),
        output_digest=hexed(digest),
        salt="" if unchecked else hexed(SALT),
        evidence_digest=hexed(digest),
        result_signature=hexed(key.sign(result)),
    )


def with_seat(receipt: Receipt, seat: int, **fields: Any) -> Receipt:
    seats = list(receipt.seats)
    seats[seat] = replace(seats[seat], **fields)
    return replace(receipt, seats=tuple(seats))


def wrong(receipt: Receipt, output: bytes | None = None) -> set[str]:
    """Names of the checks that a receipt fails, read back from its file."""
    report = verify_receipt(read_receipt(write_receipt(receipt)), output)
    return {check.name for check in report.checks if not check.ok}


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.NONE])
@pytest.mark.parametrize("fault", [None, FaultCode.NOT_FINITE])
def test_an_honest_receipt_passes(policy: Policy, fault: FaultCode | None) -> None:
    assert wrong(made(policy, fault), OUTPUT if fault is None else None) == set()


def test_the_result_of_an_unchecked_task_is_what_its_provider_signed() -> None:
    forged = replace(made(Policy.NONE), result=hexed(blob_digest(b"something better")))
    assert wrong(forged, b"something better") == {"winner"}


def test_seats_that_nobody_is_shown_to_have_taken_prove_nothing() -> None:
    assert wrong(with_seat(made(), 1, accept_signature="")) == {"seat 1"}


def test_a_result_that_nobody_signed_is_nobodys() -> None:
    receipt = made()
    for seat in range(3):
        assert wrong(receipt) == set()
        receipt = with_seat(receipt, seat, result_signature="")
    assert wrong(receipt) == {"winner"}


@pytest.mark.parametrize("fault", [None, FaultCode.NOT_FINITE])
def test_whether_a_task_is_bad_is_for_its_seats_to_say(fault: FaultCode | None) -> None:
    assert wrong(replace(made(fault=fault), fault=fault is None)) == {"winner"}


def test_who_was_paid_is_who_won() -> None:
    receipt = made()
    paid = receipt.settlements[0].payment
    nothing = SeatSettlement(Amount(0), 0, 0, 5)
    forged = replace(
        receipt,
        settlements=(*receipt.settlements[:2], nothing),
        protocol_fee=Amount(receipt.protocol_fee + paid),
    )
    assert wrong(forged) == {"winner"}
    assert wrong(replace(receipt, settlements=receipt.settlements[:2])) == {"winner", "sums"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON document."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


DOCUMENT = json.loads(write_receipt(made()))
ODD = st.one_of(
    st.sampled_from([-1, 0, 1 << 63, 1 << 300, 10**9, "", "0x", "zz", "0x" + "0" * 64, None, True]),
    st.sampled_from(["0x" + "0" * 64 + "\n", "ed25519:" + "1" * 32, "a.near#0", [], {}, "-1"]),
)


@examples(400)
@given(st.sampled_from(places(DOCUMENT)[1:]), ODD)
def test_a_damaged_receipt_is_refused_or_fails_and_nothing_else(
    place: tuple[Any, ...], odd: Any
) -> None:
    damaged = json.loads(json.dumps(DOCUMENT))
    *path, last = place
    inner = damaged
    for key in path:
        inner = inner[key]
    inner[last] = odd
    try:
        receipt = read_receipt(json.dumps(damaged).encode())
    except MalformedMessage:
        return
    verify_receipt(receipt, OUTPUT)
