"""The reducer: channels, epoch by epoch, and what nodes earn by them."""

from __future__ import annotations

from deai import actions as act
from deai.chain.memory import MemoryChain
from deai.channels import ChannelState
from deai.events import (
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    LedgerRecord,
    VoucherRedeemed,
)
from deai.money import Amount
from tests.coordinator.index import (
    Index,
    agrees_with_the_chain,
    channels_hold_together,
    memory_world,
)
from tests.coordinator.world import Chain
from tests.support.channel_conformance import ROOT, paying
from tests.support.ledger_conformance import provider


async def agrees_about_channels(chain: MemoryChain) -> Index:
    """Fold everything and compare every channel with the chain's own record of it."""
    index = await agrees_with_the_chain(chain)
    ledger = chain.ledger()
    assert index.channels
    for one in index.channels.values():
        record = await ledger.channel(one.id)
        assert (one.state, one.epoch) == (record.state, record.epoch)
        assert (one.held, one.closes_at) == (record.remaining, record.closes_at)
        if one.state is not ChannelState.CLOSED:  # the index keeps the figures of the last epoch
            assert (one.deposit, one.claimed) == (record.deposit, record.claimed)
    return index


async def test_a_channel_is_followed_through_every_epoch_and_earns_for_its_node() -> None:
    world, chain = memory_world()
    worker = await provider(world)
    playing = await paying(world, owner=worker.owner)
    assert playing.channel.node == worker.node
    await playing.open(50)
    await playing.top_up(10, "top-up")
    await playing.redeem(20)
    await agrees_about_channels(chain)
    await playing.request_close()
    await playing.redeem(35)
    index = await agrees_about_channels(chain)
    assert index.sums.channels_closing == 1
    await world.pass_(index.channels[playing.id].closes_at)
    await playing.finish()
    index = await agrees_about_channels(chain)
    kept = index.channels[playing.id]
    assert (kept.deposit, kept.claimed, kept.refunded, kept.receipts_root) == (60, 35, 25, ROOT)
    await playing.open(100, epoch=2)
    await playing.close(7, epoch=2)
    index = await agrees_about_channels(chain)
    assert index.channels[playing.id].redeemed == 42
    assert index.nodes[worker.node].earned == 42 == index.sums.rewarded
    assert index.nodes[worker.node].completed == 0
    sums = index.by_node[worker.node]
    assert (sums.deposited, sums.redeemed, sums.returned, sums.closed) == (160, 42, 118, 1)


async def test_what_many_vouchers_pay_is_counted_channel_by_channel() -> None:
    world, chain = memory_world()
    worker = await provider(world)
    several = [await paying(world, owner=worker.owner, deposit=100) for _ in range(3)]
    stale = (several[0].channel, several[0].voucher(0))
    vouchers = tuple((one.channel, one.voucher(10 + i)) for i, one in enumerate(several))
    await several[0].as_stranger(act.RedeemMany((*vouchers, stale)))
    index = await agrees_about_channels(chain)
    assert index.nodes[worker.node].earned == 33
    assert [index.channels[one.id].claimed for one in several] == [10, 11, 12]


async def test_vouchers_for_a_node_that_nobody_registered_are_nobody_s_earnings() -> None:
    world, chain = memory_world()
    await provider(world)
    playing = await paying(world, deposit=100)
    await playing.redeem(30)
    index = await agrees_about_channels(chain)
    assert index.sums.redeemed == 30
    assert index.sums.rewarded == 0
    assert index.by_node[playing.channel.node].redeemed == 30


def test_what_a_channel_cannot_have_done_is_an_anomaly_and_changes_nothing() -> None:
    chain = Chain(5)
    made, other = chain.new_channel(), chain.new_channel()
    chain.open_channel(made, 100)
    chain.redeem(made, 40)
    index = Index().take(chain.records)
    before = (dict(index.channels), dict(index.by_node), dict(index.nodes), dict(index.days))
    lies = (
        ChannelOpened(made.id, made.channel, 2, Amount(1)),  # while it is open
        ChannelOpened(other.id, other.channel, 2, Amount(1)),  # the second epoch first
        ChannelToppedUp(made.id, Amount(1), Amount(100)),
        ChannelToppedUp(other.id, Amount(1), Amount(1)),  # never opened
        VoucherRedeemed(made.id, Amount(1), Amount(40), bytes(32)),
        VoucherRedeemed(made.id, Amount(61), Amount(101), bytes(32)),  # above the deposit
        ChannelClosed(made.id, 2, Amount(40), Amount(60)),
        ChannelClosed(made.id, 1, Amount(40), Amount(61)),
        ChannelClosed(made.id, 1, Amount(41), Amount(59)),
    )
    at = chain.records[-1].position
    index.take(LedgerRecord(at, lie) for lie in lies)
    assert (index.channels, index.by_node, index.nodes, index.days) == before
    assert index.sums.anomalies == len(lies)
    chain.close_channel(made)
    index.take([chain.records[-1]])
    renamed = ChannelOpened(made.id, other.channel, 2, Amount(1))
    index.take([LedgerRecord(at, renamed), LedgerRecord(at, ChannelClosing(made.id, 9))])
    assert index.sums.anomalies == len(lies) + 2
    assert index.channels[made.id].state is ChannelState.CLOSED
    channels_hold_together(index)
