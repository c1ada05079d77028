"""Payment channels: the same on the ledger in memory and on every chain that has them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.ledger import MAX_CHANNEL_PAGE, ChannelMark
from deai.channels import ChannelRecord, ChannelState
from deai.errors import InsufficientFunds, LimitExceeded
from deai.events import (
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    LedgerEvent,
    TokensMoved,
    VoucherRedeemed,
    VoucherSkipped,
)
from deai.ids import AccountId, ChannelId, node_id
from deai.money import UNIT, Amount
from devnet.accounts import channels_difference, read_books
from tests.deai.chain.conftest import WITH_CHANNELS
from tests.support.channel_conformance import DEPOSIT, ROOT, Paying, paying
from tests.support.ledger_conformance import World, batches_until, events_of, refused

pytestmark = pytest.mark.parametrize("chain", WITH_CHANNELS, indirect=True)
NOBODY = AccountId("0x" + "00" * 20)


async def told(world: World, block: int) -> list[LedgerEvent]:
    """What a block and those after it reported."""
    return [record.event for record in await events_of(world, block)]


async def test_a_channel_is_opened_with_a_deposit_and_grows(world: World) -> None:
    one = await paying(world)
    assert (await one.record()).state is ChannelState.NONE
    contract = world.reader.info.contracts["PaymentChannels"]
    done = await one.open()
    assert await told(world, done.block) == [
        TokensMoved(one.client.account, contract, Amount(DEPOSIT)),
        ChannelOpened(one.id, one.channel, 1, Amount(DEPOSIT)),
    ]
    assert await one.record() == ChannelRecord(deposit=Amount(DEPOSIT), epoch=1)
    done = await one.as_stranger(act.TopUpChannel(one.id, Amount(7)))
    assert await told(world, done.block) == [
        TokensMoved(world.holder.account, contract, Amount(7)),
        ChannelToppedUp(one.id, Amount(7), Amount(DEPOSIT + 7)),
    ]
    assert (await one.record()).deposit == DEPOSIT + 7
    assert await one.tokens() == (9 * DEPOSIT, 0)


async def test_what_is_no_channel_cannot_be_opened(world: World) -> None:
    one = await paying(world)
    poor = one.opening(10 * DEPOSIT + 1)
    error = await refused(one.as_client(poor), "ERC20InsufficientBalance")
    assert isinstance(error, InsufficientFunds)
    for action in (
        one.opening(0),
        one.opening(session_key=NOBODY),
        one.opening(node=node_id(NOBODY, 3)),
    ):
        refusal = await refused(one.as_client(action), "BadData")
        assert refusal.hint
    closed = {"id": one.id, "state": int(ChannelState.NONE)}
    await refused(one.top_up(1, "early"), "BadState", **closed)
    await refused(one.redeem(1), "BadState", **closed)
    await refused(one.close(), "BadState", **closed)
    await refused(one.request_close(), "BadState", **closed)
    await refused(one.finish(), "BadState", **closed)
    assert await one.record() == ChannelRecord()
    assert await one.tokens() == (10 * DEPOSIT, 0)


async def test_an_open_channel_is_not_opened_again(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    again = one.as_client(one.opening(5), key="again")
    await refused(again, "BadState", id=one.id, state=int(ChannelState.OPEN))
    await refused(one.top_up(0, "nothing"), "BadData")


async def test_the_owner_is_paid_what_the_largest_voucher_promises(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    contract = world.reader.info.contracts["PaymentChannels"]
    done = await one.redeem(30)
    assert await told(world, done.block) == [
        VoucherRedeemed(one.id, Amount(30), Amount(30), ROOT),
        TokensMoved(contract, one.owner.account, Amount(30)),
    ]
    await one.redeem(45)
    await refused(one.redeem(44), "NothingNew", claimed=45)
    await refused(one.redeem(45, key="once more"), "NothingNew", claimed=45)
    assert await one.tokens() == (9 * DEPOSIT, 45)
    record = await one.record()
    assert (record.claimed, record.remaining) == (45, DEPOSIT - 45)


async def test_a_voucher_above_the_deposit_pays_the_rest_when_the_deposit_grows(
    world: World,
) -> None:
    one = await paying(world, deposit=10)
    await one.redeem(14)
    assert (await one.tokens())[1] == 10
    await refused(one.redeem(14, key="again"), "NothingNew", claimed=10)
    await one.top_up(10, "more")
    await one.redeem(14, key="after the top-up")
    assert (await one.tokens())[1] == 14
    assert (await one.record()).remaining == 6


async def test_only_the_session_keys_signature_of_this_channel_pays(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    other = await paying(world, client=one.client, owner=one.owner, index=1)
    domain = world.reader.info.channels
    elsewhere_id = "near:elsewhere" if isinstance(domain.chain_id, str) else 1
    elsewhere = msgspec.structs.replace  # of a voucher: what the contract is not told
    vouchers = [
        one.voucher(5, by=one.client),
        one.voucher(5, epoch=2),
        one.voucher(5, domain=replace(domain, chain_id=elsewhere_id)),
        one.voucher(5, domain=world.reader.info.escrow),
        elsewhere(other.voucher(5, by=one.session), channel=one.id),
        elsewhere(one.voucher(5), cumulative_amount=Amount(6)),
        elsewhere(one.voucher(5), receipts_root=bytes(32)),
        elsewhere(one.voucher(5), signature=bytes(64)),
    ]
    for number, voucher in enumerate(vouchers):
        action = act.RedeemVoucher(one.channel, voucher)
        await refused(one.as_stranger(action, key=f"{one.id}:{number}"), "BadSignature")
        await refused(one.as_owner(act.CloseChannel(one.channel, 1, voucher)), "BadSignature")
    assert await one.record() == ChannelRecord(deposit=Amount(DEPOSIT), epoch=1)


async def test_what_is_wrong_is_told_in_the_contracts_order(world: World) -> None:
    one = await paying(world, deposit=10)
    forged = act.RedeemVoucher(one.channel, one.voucher(8, by=one.client))
    await one.redeem(8)
    await refused(one.as_stranger(forged, key=f"{one.id}:new"), "NothingNew")
    await one.request_close()
    closes_at = (await one.record()).closes_at
    await world.pass_(closes_at)
    await refused(one.as_stranger(forged, key=f"{one.id}:late"), "NothingNew")
    forged = act.RedeemVoucher(one.channel, one.voucher(9, by=one.client))
    await refused(one.as_stranger(forged), "TooLate", closesAt=closes_at)
    await one.finish()
    await refused(
        one.as_stranger(forged, key=f"{one.id}:over"), "BadState", state=int(ChannelState.CLOSED)
    )


async def test_many_are_redeemed_and_one_that_cannot_be_stops_none(world: World) -> None:
    first = await paying(world, deposit=DEPOSIT)
    second = await paying(world, client=first.client, owner=first.owner, index=1, deposit=20)
    never = await paying(world, client=first.client)
    third = await paying(world, client=first.client, deposit=30)
    batch = (
        (first.channel, first.voucher(10)),
        (never.channel, never.voucher(10)),
        (second.channel, second.voucher(25)),
        (first.channel, first.voucher(10)),
        (third.channel, third.voucher(9, by=first.session)),
        (third.channel, third.voucher(7)),
        (first.channel, first.voucher(12)),
    )
    contract = world.reader.info.contracts["PaymentChannels"]
    done = await first.as_stranger(act.RedeemMany(batch))
    # On Sei neighbours of one owner are paid together, on NEAR all of one owner's.
    sums = (
        [(first, 32), (third, 7)] if world.name == "near" else [(first, 30), (third, 7), (first, 2)]
    )
    assert await told(world, done.block) == [
        VoucherRedeemed(first.id, Amount(10), Amount(10), ROOT),
        VoucherSkipped(never.id, "BadState"),
        VoucherRedeemed(second.id, Amount(20), Amount(20), ROOT),
        VoucherSkipped(first.id, "NothingNew"),
        VoucherSkipped(third.id, "BadSignature"),
        VoucherRedeemed(third.id, Amount(7), Amount(7), ROOT),
        VoucherRedeemed(first.id, Amount(2), Amount(12), ROOT),
        *(TokensMoved(contract, of.owner.account, Amount(sum_)) for of, sum_ in sums),
    ]
    again = first.as_stranger(act.RedeemMany(batch), key=f"{first.id}:again")
    await refused(again, "NothingRedeemed")
    await refused(first.as_stranger(act.RedeemMany(())), "NothingRedeemed")


async def test_the_owner_closes_at_once_with_its_last_voucher(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    contract = world.reader.info.contracts["PaymentChannels"]
    await one.redeem(10)
    early = act.CloseChannel(one.channel, 1, one.voucher(40))
    await refused(one.as_client(early), "Forbidden", caller=one.client.account)
    done = await one.close(40)
    rest = Amount(DEPOSIT - 40)
    assert await told(world, done.block) == [
        VoucherRedeemed(one.id, Amount(30), Amount(40), ROOT),
        ChannelClosed(one.id, 1, Amount(40), rest),
        TokensMoved(contract, one.owner.account, Amount(30)),
        TokensMoved(contract, one.client.account, rest),
    ]
    assert await one.record() == ChannelRecord(epoch=1)
    assert await one.tokens() == (10 * DEPOSIT - 40, 40)


async def test_a_close_passes_over_a_voucher_that_adds_nothing(world: World) -> None:
    one = await paying(world, deposit=10)
    await one.redeem(10)
    done = await one.close(9)
    assert await told(world, done.block) == [ChannelClosed(one.id, 1, Amount(10), Amount(0))]
    two = await paying(world, deposit=10)
    await two.close()
    assert await two.tokens() == (10 * DEPOSIT, 0)


async def test_no_voucher_outlives_its_epoch(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    old = one.redeeming(50)
    await one.close()
    await one.open(DEPOSIT, epoch=2)
    await refused(one.as_stranger(old), "BadSignature")
    await one.redeem(3, epoch=2)
    assert await one.record() == ChannelRecord(
        deposit=Amount(DEPOSIT), claimed=Amount(3), epoch=2
    )  # fmt: skip


async def test_a_client_gets_out_alone_and_a_newer_voucher_wins_meanwhile(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    period = (await world.reader.parameters()).close_period
    assert period > 0
    await refused(one.finish(), "BadState", state=int(ChannelState.OPEN))
    ask = act.RequestClose(one.channel, 1)
    await refused(one.as_owner(ask), "Forbidden", caller=one.owner.account)
    done = await one.request_close()
    closes_at = done.time + period
    assert await told(world, done.block) == [ChannelClosing(one.id, closes_at)]
    record = await one.record()
    assert (record.state, record.closes_at) == (ChannelState.CLOSING, closes_at)
    await refused(one.as_client(ask, key="twice"), "BadState", state=int(ChannelState.CLOSING))
    await refused(one.top_up(1, "late"), "BadState", state=int(ChannelState.CLOSING))
    await refused(one.finish(), "TooEarly", closesAt=closes_at)
    await one.redeem(60)
    await world.pass_(closes_at)
    await refused(one.redeem(70), "TooLate", closesAt=closes_at)
    late = act.CloseChannel(one.channel, 1, one.voucher(70))
    await refused(one.as_owner(late), "TooLate", closesAt=closes_at)
    done = await one.finish()
    contract = world.reader.info.contracts["PaymentChannels"]
    assert await told(world, done.block) == [
        ChannelClosed(one.id, 1, Amount(60), Amount(DEPOSIT - 60)),
        TokensMoved(contract, one.client.account, Amount(DEPOSIT - 60)),
    ]
    assert await one.tokens() == (10 * DEPOSIT - 60, 60)


async def test_the_owner_ends_what_the_client_began_to_close(world: World) -> None:
    one = await paying(world, deposit=DEPOSIT)
    await one.request_close()
    await one.close(25)
    assert await one.tokens() == (10 * DEPOSIT - 25, 25)
    await refused(one.finish(), "BadState", state=int(ChannelState.CLOSED))


async def test_every_intent_about_a_channel_takes_effect_once(world: World) -> None:
    one = await paying(world)
    period = (await world.reader.parameters()).close_period
    first = await one.open()
    assert await one.open() == first
    added = await one.top_up(5, "five more")
    assert await one.top_up(5, "five more") == added
    batch = act.RedeemMany(((one.channel, one.voucher(9)),))
    assert await one.redeem(4) == await one.redeem(4)
    assert await one.as_owner(batch) == await one.as_owner(batch)
    assert await one.request_close() == await one.request_close()
    await world.pass_(await world.now() + period)
    done: list[str] = []

    async def finish() -> None:
        done.append((await one.finish()).hash)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(finish)
    assert len(set(done)) == 1
    await one.open(epoch=2)
    assert await one.close(1, epoch=2) == await one.close(1, epoch=2)
    assert await one.tokens() == (10 * DEPOSIT - 9 - 1, 10)


async def test_simulating_an_opening_changes_nothing_and_refuses_alike(world: World) -> None:
    one = await paying(world)
    ledger = await world.ledger(one.client)
    assert await ledger.simulate(one.opening()) >= 0
    assert await one.record() == ChannelRecord()
    await refused(ledger.simulate(one.opening(0)), "BadData")
    await refused(ledger.simulate(act.FinishClose(one.channel, 1)), "BadState")


async def listed(world: World, limit: int, **of: object) -> list[tuple[ChannelId, int]]:
    """A list as ids and deposits, from its pages of at most `limit` channels."""
    rows: list[tuple[ChannelId, int]] = []
    after = None
    for _ in range(20):
        page = await world.reader.channels(limit=limit, after=after, **of)  # type: ignore[arg-type]
        assert len(page.items) <= limit
        rows += [(one.id, int(one.record.deposit)) for one in page.items]
        after = page.next
        if after is None:
            return rows
    raise AssertionError("the list does not end")


async def test_channels_are_listed_by_client_and_by_node(world: World) -> None:
    client, owner = world.signer(), world.signer()
    await world.fund(client.account, 10 * DEPOSIT)
    mine: list[Paying] = []
    mine_from = (await world.reader.head()).number
    for number in range(5):
        one = await paying(world, client=client, owner=owner, index=number % 2)
        await one.open(10 + number)
        mine.append(one)
    stranger = await paying(world, owner=owner, index=0, deposit=99)
    await mine[1].close()
    await mine[2].close()
    await mine[2].open(77, epoch=2)
    rows = [(one.id, deposit) for one, deposit in zip(mine, [10, 0, 77, 13, 14], strict=True)]
    assert await listed(world, 100, client=client.account) == rows
    assert await listed(world, 2, client=client.account) == rows
    node = mine[0].channel.node
    both = [rows[0], rows[2], rows[4], (stranger.id, 99)]
    assert await listed(world, 100, node=node) == both
    assert await listed(world, 100, client=client.account, node=node) == both[:3]
    assert await listed(world, 100, client=owner.account) == []
    since = ChannelMark(mine_from, -1)
    first = (await world.reader.channels(client=client.account, limit=1, after=since)).items[0]
    assert (first.channel, first.record) == (mine[0].channel, await mine[0].record())
    for wrong in (0, MAX_CHANNEL_PAGE + 1):
        with pytest.raises(LimitExceeded):
            await world.reader.channels(client=client.account, limit=wrong)
    head = (await world.reader.head()).number
    page = await world.reader.channels(client=client.account, after=ChannelMark(head + 9, 0))
    assert (page.items, page.next) == ((), None)


async def test_the_contract_holds_exactly_what_channels_have_left(world: World) -> None:
    one = await paying(world, deposit=50 * UNIT)
    two = await paying(world, deposit=3)
    await one.redeem(20 * UNIT)
    await two.close(1)
    until = (await world.reader.head()).number
    batches = await batches_until(world.reader, None, until)
    contract, held, left = world.reader.info.contracts["PaymentChannels"], 0, 0
    for event in (record.event for batch in batches for record in batch.records):
        match event:
            case TokensMoved(sender=sender, receiver=receiver, amount=amount):
                held += amount * ((receiver == contract) - (sender == contract))
            case ChannelOpened(deposit=amount) | ChannelToppedUp(amount=amount):
                left += amount
            case VoucherRedeemed(paid=amount) | ChannelClosed(refunded=amount):
                left -= amount
            case _:
                pass
    assert held == left >= 30 * UNIT
    assert (await world.reader.balances(contract)).tokens == held
    books = await read_books(world.reader)
    assert (books.difference, await channels_difference(world.reader, books)) == (0, 0)
    forgetful = replace(books, channels=books.channels - {one.id})
    assert await channels_difference(world.reader, forgetful) == 30 * UNIT
