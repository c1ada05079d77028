"""The part about payment channels: vouchers at the edges of their fields, and random runs."""

from __future__ import annotations

import base64
from typing import Any, Final

from common import RANDOM, domain_document, near_domain

from deai import channels
from deai.channels import Channel, ChannelRecord, Voucher
from deai.errors import IllegalTransition, LedgerRejected, LimitExceeded
from deai.ids import AccountId, ChannelId, hexed, near_node_id, node_id
from deai.money import MAX_AMOUNT, Amount
from deai.signing import Domain, Ed25519Signer, LocalSigner

NEAR_NAMES: Final = ("aa", "client.near", "a-b_c.d-e.testnet", "7" * 64)


OPS: Final = ("open", "topUp", "redeem", "requestClose", "close", "finish")
WEIGHTS: Final = {
    channels.ChannelState.NONE: (6, 1, 1, 1, 1, 1),
    channels.ChannelState.OPEN: (1, 2, 9, 2, 1, 1),
    channels.ChannelState.CLOSING: (1, 1, 6, 1, 1, 3),
    channels.ChannelState.CLOSED: (6, 1, 1, 1, 1, 1),
}
"""How likely each of `OPS` is tried in each state."""
PERIOD: Final = 100
START: Final = 1_800_000_000


def channel_vectors() -> dict[str, Any]:
    """Payment channels: ids, vouchers, receipts roots, and runs of calls with their outcome."""
    contract = AccountId(hexed(RANDOM.randbytes(20)))
    sei = [Domain(channels.CHANNELS_NAME, number, contract) for number in (1329, 713714)]
    near = Domain(channels.CHANNELS_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    return {
        "cases": [
            {"domain": domain_document(domain), **_case(domain, number)}
            for domain in sei
            for number in range(4)
        ],
        "near": {
            "domain": near_domain(channels.CHANNELS_NAME),
            "cases": [_case(near, number) for number in range(5)],
        },
        "receipts": [_receipts(count) for count in (1, 2, 5)],
        "ops": OPS,
        "period": PERIOD,
        "start": START,
        "runs": [_run(40) for _ in range(12)],
    }


def _receipts(count: int) -> dict[str, Any]:
    """Roots of windows and what they fold to."""
    windows = [RANDOM.randbytes(32) for _ in range(count)]
    root = channels.NO_RECEIPTS
    for window in windows:
        root = channels.fold_receipts(root, window)
    return {"windows": [hexed(one) for one in windows], "root": hexed(root)}


def _case(domain: Domain, number: int) -> dict[str, Any]:
    """A channel and one voucher of it; the first two at the edges of every field."""
    on_near = isinstance(domain.chain_id, str)
    secret = RANDOM.randbytes(32)
    session = Ed25519Signer(secret) if on_near else LocalSigner(secret)
    if on_near:
        client, owner = (AccountId(NEAR_NAMES[(number + i) % len(NEAR_NAMES)]) for i in (0, 1))
        node = near_node_id(owner, [0, 2**32 - 1, 7][number % 3])
    else:
        client, owner = (AccountId(hexed(RANDOM.randbytes(20))) for _ in range(2))
        node = node_id(owner, [0, 2**96 - 1, RANDOM.getrandbits(20)][min(number, 2)])
    epoch = [1, channels.MAX_EPOCH, RANDOM.getrandbits(8) + 1][min(number, 2)]
    amount = Amount([1, MAX_AMOUNT, RANDOM.getrandbits(90) + 1][min(number, 2)])
    root = [channels.NO_RECEIPTS, b"\xff" * 32, RANDOM.randbytes(32)][min(number, 2)]
    name = channels.channel_id(Channel(client, node, session.account), domain)
    signed = channels.sign_voucher(domain, session, name, epoch, amount, root)
    return {
        "channel": {"client": client, "node": node, "sessionKey": session.account},
        "channelId": name,
        "secret": hexed(secret),
        "epoch": epoch,
        "cumulativeAmount": str(amount),
        "receiptsRoot": hexed(root),
        "digest": hexed(channels.voucher_digest(domain, name, epoch, amount, root)),
        "signature": base64.b64encode(signed.signature).decode()
        if on_near
        else hexed(signed.signature),
    }


def _step(
    record: ChannelRecord, op: str, amount: int, epoch: int, now: int
) -> tuple[ChannelRecord, int, int]:
    """The record after a step, what the owner got, what the client got back."""
    name = ChannelId("0x" + "00" * 32)
    voucher = Voucher(name, epoch, Amount(amount), bytes(32), bytes(64))
    paid = refunded = 0
    match op:
        case "open":
            record = channels.opened(record, Amount(amount))
        case "topUp":
            record = channels.topped_up(record, Amount(amount))
        case "redeem":
            record, paid = channels.redeemed(record, voucher, now)
        case "requestClose":
            record = channels.close_requested(record, now, PERIOD)
        case "close":
            record, paid, refunded = channels.closed(record, voucher if amount else None, now)
        case _:
            record, refunded = channels.finished(record, now)
    return record, paid, refunded


def _run(length: int) -> dict[str, Any]:
    """Random calls to one channel, and what is so after each; `epochs` are what was signed."""
    record, now, paid, refunded = ChannelRecord(), START, 0, 0
    columns: dict[str, list[Any]] = {
        name: [] for name in (
            "ops", "amounts", "epochs", "times", "errors", "states", "deposits", "claimed",
            "closesAt", "counts", "ownerHas", "clientGot",
        )
    }  # fmt: skip
    for _ in range(length):
        op = RANDOM.choices(OPS, WEIGHTS[record.state])[0]
        amount = RANDOM.choice([0, 1, *(RANDOM.randrange(100, 400) for _ in range(8))])
        if op in ("redeem", "close") and RANDOM.random() < 0.7:
            amount = record.claimed + RANDOM.randrange(60)
        epoch = max(1, record.epoch + RANDOM.choice([0, 0, 0, 0, 1, -1]))
        now += RANDOM.choice([0, 0, 1, 40, PERIOD])
        if record.closes_at and RANDOM.random() < 0.4:
            now = max(now, record.closes_at + RANDOM.randrange(2))
        error = ""
        try:
            record, to_owner, to_client = _step(record, op, amount, epoch, now)
            paid, refunded = paid + to_owner, refunded + to_client
        except IllegalTransition:
            error = "BadState"
        except LimitExceeded:
            error = "UsedUp"
        except LedgerRejected as refused:
            error = refused.name
        row = (
            OPS.index(op), amount, epoch, now, error, int(record.state), record.deposit,
            record.claimed, record.closes_at, record.epoch, paid, refunded,
        )  # fmt: skip
        for column, value in zip(columns.values(), row, strict=True):
            column.append(int(value) if isinstance(value, int) else value)
    return columns
