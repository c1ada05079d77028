"""When vouchers are worth a transaction: a decision without a clock or a chain of its own."""

from __future__ import annotations

import pytest

from deai.channels import Channel, Voucher
from deai.ids import SEI, ChannelId, NodeId
from deai.lane.payee import Standing
from deai.money import UNIT, Amount
from node.config import Lane
from node.lane.policy import Circumstances, why_redeem
from node.lane.tables import Entry
from tests.node.support.names import key

LANE = Lane(redeem_amount="5CT", redeem_hours=2.0, redeem_least="1CT", max_gas_price=50)
NODE = NodeId("0x" + "01" * 20 + "00" * 12)
CHANNEL = ChannelId("0x" + "11" * 32)


def entry(tokens: float, *, redeemed: float = 0, since: int = 0, closes_at: int = 0) -> Entry:
    promised = Amount(int(tokens * UNIT))
    voucher = Voucher(CHANNEL, 1, promised, bytes(32), bytes(64))
    return Entry(
        id=1, chain=SEI, channel_id=CHANNEL, epoch=1,
        channel=Channel(key("a").account, NODE, key("b").account),
        standing=Standing(number=1, voucher=voucher), redeemed=int(redeemed * UNIT),
        owed_since=since, closes_at=closes_at,
    )  # fmt: skip


def at(
    now: int = 100, *, gas_price: int = 10, is_draining: bool = False, chain_time: int = 1000
) -> Circumstances:
    return Circumstances(
        now=now, chain_time=chain_time, gas_price=gas_price, is_draining=is_draining
    )


POLICY: dict[str, tuple[Entry, Circumstances, bool, str]] = {
    "nothing to redeem": (entry(9, redeemed=9), at(), True, ""),
    "too little and too young": (entry(4), at(), False, ""),
    "enough": (entry(5), at(), False, "amount"),
    "enough, most of it redeemed before": (entry(9, redeemed=5), at(), False, ""),
    "old enough": (entry(2), at(2 * 3600), False, "age"),
    "a second too young": (entry(2), at(2 * 3600 - 1), False, ""),
    "old and worth nothing": (entry(0.9), at(10**9), False, ""),
    "asked for, whatever it is worth": (entry(0.1), at(gas_price=99), True, "asked"),
    "gas is dear": (entry(9), at(10**9, gas_price=51), False, ""),
    "gas is dear, but the client closes": (
        entry(2, closes_at=1000), at(gas_price=51), False, "closing"
    ),
    "the client has closed": (entry(9, closes_at=999), at(), False, ""),
    "the node leaves": (entry(1), at(gas_price=51, is_draining=True), False, "draining"),
    "the node leaves over a trifle": (entry(0.5), at(is_draining=True), False, ""),
}  # fmt: skip


@pytest.mark.parametrize(("account", "seen", "asked", "why"), POLICY.values(), ids=POLICY.keys())
def test_vouchers_are_redeemed_when_they_are_worth_it(
    account: Entry, seen: Circumstances, asked: bool, why: str
) -> None:
    assert why_redeem(account, LANE, seen, is_asked=asked) == why
