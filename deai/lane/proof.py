"""The receipt of one task of the lane: a file that proves it, checked offline.

It holds the task's terms, its place, the digests of input and output, the path from its leaf to
the root of its window, and the node's signature over the window. That the channel exists is for
the chain to say; everything else follows from signatures and digests.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from deai.channels import Channel, ChannelKey, Epoch, channel_id
from deai.errors import DeaiError, MalformedMessage
from deai.ids import NEAR, SEI, hexed, parse_digest
from deai.lane.receipts import (
    MAX_WINDOW,
    Name,
    Number,
    Terms,
    WindowReceipt,
    task_leaf,
    terms_hash,
    verify_window,
)
from deai.merkle import root_of_path
from deai.money import Amount
from deai.receipts import Report, read_as, unhexed
from deai.signing import Domain
from deai.tasks import Account, Node, Operator

VERSION: Final = 1
_MAX_PATH: Final = 8

Hex: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^0x([0-9a-f]{2})*\Z", max_length=1 << 16)]


class _Shown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: an object in JSON, of known fields alone."""


class ShownChannel(_Shown, frozen=True, kw_only=True):
    """Who pays, which node works, whose signature promises."""

    client: Account
    node: Node
    session_key: Operator


class ShownTerms(_Shown, frozen=True, kw_only=True):
    """`deai.lane.receipts.Terms`; `parameters` in hex."""

    channel: ChannelKey
    epoch: Epoch
    workload: Name
    version: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    model: Annotated[str, msgspec.Meta(max_length=128)]
    parameters: Hex
    max_units: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    price: Amount


class ShownWindow(_Shown, frozen=True, kw_only=True):
    """`deai.lane.receipts.WindowReceipt`; `root` in hex."""

    number: Number
    first: Number
    tasks: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)]
    cumulative_amount: Amount
    root: Hex


class LaneReceipt(_Shown, frozen=True, kw_only=True):
    """What was asked, what came out, who did it, and that it was paid for."""

    lane: Literal["channel"] = "channel"
    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION
    chain: str
    domain: Domain
    channel: ShownChannel
    operator: Operator
    terms: ShownTerms
    index: Number
    input_digest: Hex
    """SHA-256 of the input's bytes."""
    output_digest: Hex
    window: ShownWindow
    path: Annotated[tuple[Hex, ...], msgspec.Meta(max_length=_MAX_PATH)]
    signature: Hex


def sha256(data: bytes) -> bytes:
    """The digest of an input or output as leaves have it."""
    return hashlib.sha256(data).digest()


def make_lane_receipt(
    *, chain: str, domain: Domain, channel: Channel, operator: Operator, terms: Terms, index: int,
    given: bytes, output: bytes, window: WindowReceipt, path: tuple[bytes, ...], signature: bytes,
) -> LaneReceipt:  # fmt: skip
    """The receipt of the task with this index, from what the client's book holds."""
    return LaneReceipt(
        chain=chain,
        domain=domain,
        channel=ShownChannel(
            client=channel.client, node=channel.node, session_key=channel.session_key
        ),
        operator=operator,
        terms=ShownTerms(
            channel=terms.channel,
            epoch=terms.epoch,
            workload=terms.workload,
            version=terms.version,
            model=terms.model,
            parameters=hexed(terms.parameters),
            max_units=terms.max_units,
            price=terms.price,
        ),
        index=index,
        input_digest=hexed(sha256(given)),
        output_digest=hexed(sha256(output)),
        window=ShownWindow(
            number=window.number,
            first=window.first,
            tasks=window.tasks,
            cumulative_amount=window.cumulative_amount,
            root=hexed(window.root),
        ),
        path=tuple(hexed(one) for one in path),
        signature=hexed(signature),
    )


def read_lane_receipt(data: bytes) -> LaneReceipt:
    """Read a receipt; raise `MalformedMessage`."""
    return read_as(data, LaneReceipt)


def verify_lane_receipt(
    receipt: LaneReceipt, given: bytes | None = None, output: bytes | None = None
) -> Report:
    """Check channel, place, path and signature without a network; it never raises.

    `given` and `output`, where there are any, are compared with the digests.
    """
    report = Report()
    check = report.check
    terms, window = receipt.terms, receipt.window
    check("channel", _channel(receipt), f"{terms.channel} binds client, node, key and contract")
    check(
        "window",
        _window(receipt),
        f"task {receipt.index - window.first + 1} of {window.tasks} in window {window.number}",
    )
    check("signature", _signature(receipt), f"the window is signed by {receipt.operator}")
    check("price", "", f"{terms.price} for at most {terms.max_units} units of {terms.workload}")
    for name, data, digest in (
        ("input", given, receipt.input_digest),
        ("output", output, receipt.output_digest),
    ):
        if data is not None:
            report.compare(name, data, digest, sha256)
    return report


def _channel(receipt: LaneReceipt) -> str:
    shown = receipt.channel
    if receipt.chain != (NEAR if isinstance(receipt.domain.chain_id, str) else SEI):
        return f"the domain is not of the chain {receipt.chain!r}"
    channel = Channel(shown.client, shown.node, shown.session_key)
    try:
        computed = channel_id(channel, receipt.domain)
    except DeaiError as error:
        return str(error)
    return "" if computed == receipt.terms.channel else f"the fields hash to {computed}"


def _window(receipt: LaneReceipt) -> str:
    try:
        digests = parse_digest(receipt.input_digest), parse_digest(receipt.output_digest)
        leaf = task_leaf(terms_hash(_terms(receipt.terms)), receipt.index, *digests)
        path = [parse_digest(one) for one in receipt.path]
        root = parse_digest(receipt.window.root)
    except MalformedMessage as error:
        return str(error)
    window = receipt.window
    found = root_of_path(leaf, receipt.index - window.first, window.tasks, path)
    return "" if found == root else "terms, place and digests do not lead to the window's root"


def _signature(receipt: LaneReceipt) -> str:
    window = receipt.window
    try:
        signed = WindowReceipt(
            receipt.terms.channel, receipt.terms.epoch, window.number, window.first, window.tasks,
            window.cumulative_amount, parse_digest(window.root),
        )  # fmt: skip
        verify_window(receipt.domain, receipt.operator, signed, unhexed(receipt.signature))
    except DeaiError as error:
        return str(error)
    return ""


def _terms(shown: ShownTerms) -> Terms:
    return Terms(
        channel=shown.channel,
        epoch=shown.epoch,
        workload=shown.workload,
        version=shown.version,
        model=shown.model,
        parameters=unhexed(shown.parameters),
        max_units=shown.max_units,
        price=shown.price,
    )
