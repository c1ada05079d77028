"""What Python signs and hashes is what Solidity checks."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from deai import channels as c, orders as o
from deai.chain.sei.calls import order_words
from deai.errors import LedgerRejected
from deai.ids import raw
from deai.money import UNIT, Amount
from deai.tasks import Policy, Task, fold_commitments
from devnet.evm.rules import SEI_SSTORE_SET_GAS
from rewards import fees as rules
from tests.contracts.channels import CLOSE_PERIOD, NO_VOUCHER, Channels, Paid
from tests.contracts.evm import Reverted
from tests.contracts.orders import FUNDS, THAW_PERIOD, Orders, clients
from tests.contracts.rewards import Rewards, payee
from tests.contracts.world import DIGEST, FEE, TIP, Job, World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> World:
    return World(SEI_SSTORE_SET_GAS)


@pytest.fixture(scope="module")
def channels(world: World) -> Channels:
    return Channels(world)


def test_the_contract_names_a_task_as_python_does(world: World) -> None:
    job = Job(world, 3, Policy.EXACT)
    assert world.escrow.read("taskIdOf", job.words) == raw(job.id)


def test_a_task_is_paid_from_signatures_that_python_made(world: World) -> None:
    before = world.balance(world.client)
    earned = [world.balance(world.owners[i]) for i in range(3)]
    job = Job(world, 3, Policy.EXACT)
    job.assign()
    job.relay("")
    job.finalise("", world.other)
    paid = [world.balance(world.owners[i]) - earned[i] for i in range(3)]
    assert paid == [FEE * 86 // 100] * 3
    assert before - world.balance(world.client) == 3 * FEE + TIP


def test_approvals_sign_the_word_that_the_lane_keeps(world: World) -> None:
    job = Job(world, 3, Policy.TOL32, lane=5)
    job.assign()
    for seat in range(3):
        job.commit(seat, bytes([seat + 1]) * 32)
    kept = world.escrow.read("laneOf", world.client.address, 5)[1]
    values = [(seat, job.only()[seat][2]) for seat in range(3)]
    assert kept == fold_commitments(job.task.nonce, values)
    job.finalise("", world.client, approvals=job.approvals())
    assert world.escrow.read("laneOf", world.client.address, 5)[4] == job.task.nonce


@pytest.mark.parametrize("field", [name for name in Task.__struct_fields__ if name != "policy"])
def test_another_value_in_any_field_is_another_task(world: World, field: str) -> None:
    job = Job(world, 3, Policy.EXACT, lane=6)
    job.assign()
    names = list(Task.__struct_fields__)
    words = list(job.words)
    at = names.index(field)
    words[at] = {"client": world.other.address, "spec_hash": bytes(32)}.get(
        field, 5 if field == "seats" else (words[at] + 1 if isinstance(words[at], int) else None)
    )
    with pytest.raises(Reverted) as refused:
        world.escrow.do(
            world.operators[0], "commit", tuple(words), job.seats, [(0, DIGEST, DIGEST, DIGEST)]
        )
    assert refused.value.name == "NotOpen"
    world.evm.wait(job.task.commit_deadline + 1 - world.evm.now)
    job.do("", world.other, "expire")


def test_the_stake_is_what_was_sent_with_the_registration(world: World) -> None:
    node = world.registry.read("nodeOf", raw(world.nodes[0]))
    assert node[0] == world.owners[0].address.lower()
    assert node[1] == world.operators[0].address.lower()
    assert node[7] == 1000 * UNIT


# --- channels -----------------------------------------------------------------------------------


def balance(world: World, address: str) -> int:
    return int(world.token.read("balanceOf", address))


def test_the_contract_names_a_channel_as_python_does(channels: Channels) -> None:
    paid = Paid(channels, 1)
    assert channels.contract.read("channelIdOf", paid.words) == raw(paid.id)


def test_a_channel_pays_what_python_promised_and_keeps_the_record_of_the_core(
    world: World, channels: Channels
) -> None:
    paid = Paid(channels, 2)
    before = balance(world, paid.owner.address)
    record = c.opened(c.ChannelRecord(), Amount(10 * UNIT))
    paid.open(10 * UNIT)
    assert paid.record() == core(record)
    record = c.topped_up(record, Amount(UNIT))
    paid.top_up(UNIT)
    assert paid.record() == core(record)
    root = c.fold_receipts(c.NO_RECEIPTS, DIGEST)
    for amount in (3 * UNIT, 12 * UNIT):
        record, _ = c.redeemed(record, paid.voucher(amount, root=root), world.evm.now)
        paid.do("", world.operators[0], "redeem", paid.promise(amount, root=root))
        assert paid.record() == core(record)
    record = c.close_requested(record, world.evm.now, CLOSE_PERIOD)
    paid.do("", paid.client, "requestClose")
    assert paid.record() == core(record)
    world.evm.wait(CLOSE_PERIOD + 1)
    record, refunded = c.finished(record, world.evm.now)
    paid.do("", world.other, "finish")
    assert paid.record() == core(record)
    assert (balance(world, paid.owner.address) - before, refunded) == (11 * UNIT, 0)


def core(record: c.ChannelRecord) -> tuple[int, ...]:
    """As the contract's view tells it."""
    return (record.state, record.deposit, record.claimed, record.closes_at, record.epoch)


def test_a_voucher_of_the_epoch_before_is_refused(world: World, channels: Channels) -> None:
    paid = Paid(channels, 3)
    paid.open()
    old = paid.promise(5 * UNIT)
    paid.do("", paid.owner, "close", NO_VOUCHER)
    paid.open()
    with pytest.raises(Reverted, match="BadSignature"):
        paid.do("", world.other, "redeem", old)
    paid.do("", world.other, "redeem", paid.promise(5 * UNIT, epoch=2))


def test_a_bad_voucher_in_a_batch_is_named_and_the_rest_is_paid(
    world: World, channels: Channels
) -> None:
    several = [Paid(channels, number) for number in (4, 5, 6)]
    for paid in several:
        paid.open()
    before = balance(world, several[0].owner.address)
    batch = [(paid.words, paid.promise(UNIT, epoch=1 + (paid is several[1]))) for paid in several]
    outcome = channels.do("", world.other, "redeemMany", batch)
    assert outcome.ok
    assert balance(world, several[0].owner.address) - before == 2 * UNIT
    assert [paid.record()[2] for paid in several] == [UNIT, 0, UNIT]


def test_claims_that_python_made_are_paid(world: World) -> None:
    rewards = Rewards(world)
    rewards.fund(10 * UNIT)
    first, second = rewards.in_force(9, UNIT, "")
    rewards.claim(first)
    rewards.claim(second)
    for number in (0, 1):
        assert rewards.contract.read("claimedBy", payee(number)) == UNIT
        assert world.token.read("balanceOf", payee(number)) == UNIT
    with pytest.raises(Reverted, match="NothingNew"):
        rewards.claim(first)


@pytest.fixture(scope="module")
def orders(world: World) -> Orders:
    """The order contract beside the others."""
    return Orders(world)


def test_the_contract_names_an_order_as_python_does(world: World, orders: Orders) -> None:
    order = orders.order(world.client)
    words, nodes = order_words(order), [raw(node) for node in order.nodes]
    assert orders.contract.read("orderIdOf", words, nodes) == raw(o.order_id(order, orders.domain))


def test_an_order_settles_as_the_core_judges_it_and_keeps_its_record(
    world: World, orders: Orders
) -> None:
    client = clients(1)[0]
    record = o.funded(o.OrderBalance(), Amount(FUNDS))
    orders.fund(client)
    assert orders.balance(client) == (record.state, record)
    several = [
        orders.signed(client, orders.order(client, 1)),
        orders.signed(client, orders.order(client, 255), silent=[2]),
        orders.signed(client, orders.order(client, 2), silent=[0, 1]),
        orders.signed(client, orders.order(client, 3, at=(4,))),
    ]
    earned = [0] * 5
    page, fees = 1, 0
    for number, one in enumerate(several):
        members = [orders.member(world.nodes.index(node)) for node in one.order.nodes]
        with pytest.raises(LedgerRejected, match="NoQuorum") if number == 2 else nullcontext():
            mask = o.judge(
                one, record=record, page=page, members=members, now=world.evm.now,
                least_fee=orders.least_fee, domain=orders.domain,
            )  # fmt: skip
        if number == 2:
            continue
        record, page = o.charged(record, one.order), page | one.order.bit
        share = o.payout(one.order, mask, members, rules.paid)
        fees += share.protocol_fee
        for node, payment in zip(one.order.nodes, share.payments, strict=True):
            earned[world.nodes.index(node)] += payment
    orders.settle(several)
    assert orders.balance(client) == (record.state, record)
    assert orders.page(client) == page
    assert [orders.earned(at)[0] for at in range(5)] == earned
    assert sum(orders.earned(at)[1] for at in range(5)) == fees
    record = o.thaw_requested(record, Amount(UNIT), world.evm.now, THAW_PERIOD)
    orders.do("", client, "requestThaw", UNIT)
    assert orders.balance(client) == (record.state, record)
    world.evm.wait(THAW_PERIOD + 1)
    record, _ = o.withdrawn(record, world.evm.now)
    orders.do("", client, "withdraw", client.address)
    assert orders.balance(client) == (record.state, record)
