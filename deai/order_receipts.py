"""The receipt of a signed order: a file that proves its result, checked offline.

It holds the order with its client's signature, the spec, and what the seats signed about one
output. That the operators may sign for their nodes, and whether the order was settled, is for the
chain to say; everything else follows from signatures and digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from deai.errors import BadSignature, DeaiError, MalformedMessage
from deai.ids import AccountId, hexed, parse_digest, raw
from deai.money import Amount
from deai.order_messages import OrderKey
from deai.orders import Nonce, Order, Settlement, is_sound, order_id, result_digest
from deai.receipts import Report, read_as
from deai.signing import Domain, verify
from deai.tasks import (
    MAX_SEATS,
    Account,
    Node,
    Operator,
    Policy,
    Seconds,
    TaskSpec,
    parse_policy,
    spec_hash,
)

VERSION: Final = 1
_Hex = Annotated[str, msgspec.Meta(pattern=r"^(0x([0-9a-f]{2})+)?\Z", max_length=1 << 8)]


class SeatWord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One seat: who, by which key, and its signature (empty: it signed nothing or another)."""

    node: Node
    operator: Operator
    signature: _Hex


class OrderReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked, what came out, and who signed for it."""

    lane: Literal["order"] = "order"
    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION
    chain: str
    domain: Domain
    order_id: OrderKey
    client: Account
    fee: Amount
    """Of every seat; the order costs it times the seats."""
    policy: str
    valid_until: Seconds
    nonce: Nonce
    signature: _Hex
    """The client's, over the order."""
    spec: TaskSpec
    output_digest: _Hex
    seats: Annotated[tuple[SeatWord, ...], msgspec.Meta(min_length=1, max_length=MAX_SEATS)]


def make_order_receipt(
    settlement: Settlement, spec: TaskSpec, operators: Sequence[AccountId], *,
    chain: str, domain: Domain,
) -> OrderReceipt:  # fmt: skip
    """The receipt of an order; `operators` are the keys that signed, by seat."""
    order = settlement.order
    return OrderReceipt(
        chain=chain,
        domain=domain,
        order_id=order_id(order, domain),
        client=order.client,
        fee=order.fee,
        policy=order.policy.label,
        valid_until=order.valid_until,
        nonce=order.nonce,
        signature=hexed(settlement.signature),
        spec=spec,
        output_digest=hexed(settlement.output_digest),
        seats=tuple(
            SeatWord(node=node, operator=key, signature=hexed(signed) if signed else "")
            for node, key, signed in zip(order.nodes, operators, settlement.results, strict=True)
        ),
    )


def read_order_receipt(data: bytes) -> OrderReceipt:
    """Read a receipt; raise `MalformedMessage`."""
    return read_as(data, OrderReceipt)


def verify_order_receipt(
    receipt: OrderReceipt, given: bytes | None = None, output: bytes | None = None
) -> Report:
    """Check id, spec, signatures and quorum without a network; it never raises.

    `given` and `output`, where there are any, are compared with the digests.
    """
    report = Report()
    check = report.check
    check("order", _order_problem(receipt), f"{receipt.order_id} binds chain, contract and fields")
    check("spec", _spec_problem(receipt), "the order names this spec")
    signed = f"signed by {receipt.client}"
    check("client", _signed(raw(receipt.order_id), receipt.signature, receipt.client), signed)
    for seat, word in enumerate(receipt.seats):
        said = f"{word.operator} signed for {word.node}" if word.signature else "signed nothing"
        check(f"seat {seat}", _seat_problem(receipt, word), said)
    agreed = sum(1 for word in receipt.seats if word.signature)
    least = _order(receipt).quorum
    short = "" if agreed >= least else f"{agreed} seats signed, the rules ask for {least}"
    check("quorum", short, f"{agreed} of {len(receipt.seats)} seats signed {receipt.output_digest}")
    for name, data, digest in (
        ("input", given, hexed(receipt.spec.input_digest)),
        ("output", output, receipt.output_digest),
    ):
        if data is not None:
            report.compare(name, data, digest)
    return report


def _order(receipt: OrderReceipt) -> Order:
    try:
        policy = parse_policy(receipt.policy)
    except MalformedMessage:
        policy = Policy.NONE  # the id is another one then
    return Order(
        receipt.client, receipt.fee, policy, receipt.valid_until, receipt.nonce,
        spec_hash(receipt.spec), tuple(word.node for word in receipt.seats),
    )  # fmt: skip


def _order_problem(receipt: OrderReceipt) -> str:
    order = _order(receipt)
    try:
        computed = order_id(order, receipt.domain)
    except MalformedMessage as error:
        return str(error)
    if computed != receipt.order_id:
        return f"the fields hash to {computed}"
    return "" if is_sound(order, 0) else "no contract would settle an order of this form"


def _spec_problem(receipt: OrderReceipt) -> str:
    named = f"{receipt.domain.chain_id}:{receipt.domain.contract}"
    return "" if receipt.spec.domain == named else f"made for {receipt.spec.domain}"


def _seat_problem(receipt: OrderReceipt, word: SeatWord) -> str:
    if not word.signature:
        return ""
    try:
        signed = parse_digest(receipt.output_digest)
        digest = result_digest(receipt.domain, receipt.order_id, word.node, signed)
    except MalformedMessage as error:
        return str(error)
    return _signed(digest, word.signature, word.operator)


def _signed(digest: bytes, signature: str, account: str) -> str:
    try:
        verify(digest, bytes.fromhex(signature.removeprefix("0x")), AccountId(account))
    except BadSignature as error:
        return str(error)
    except (DeaiError, ValueError) as error:
        return f"no signature: {error}"
    return ""
