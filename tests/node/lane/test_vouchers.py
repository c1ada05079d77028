"""Vouchers that no honest client sends: the link ends, and nothing of them is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from deai.actions import FinishClose
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.channels import CHANNELS_NAME, fold_receipts, sign_voucher
from deai.errors import PeerUnreachable
from deai.hashing import ZERO, keccak
from deai.ids import AccountId, ChannelId
from deai.lane.messages import Halt, Pay, Results, Welcome, Work
from deai.merkle import merkle_root
from deai.money import Amount
from deai.signing import Domain, LocalSigner
from tests.node.lane.support import (
    DEPOSIT,
    PRICE,
    LaneClient,
    at_work,
    channel_open,
    lane_client,
    lane_provider,
)
from tests.node.support.names import key
from tests.node.support.world import Provider, World, open_world

pytestmark = pytest.mark.world


def signed(
    client: LaneClient, amount: int, tasks: int, *, number: int | None = None,
    by: LocalSigner | None = None, domain: Domain | None = None, channel: ChannelId | None = None,
    epoch: int | None = None, root: bytes | None = None, lies: bytes | None = None,
) -> Pay:  # fmt: skip
    """A voucher with whatever a liar wants in it; by default for what is due."""
    leaves = client.unpaid[:tasks]
    window = lies if lies is not None else merkle_root(leaves) if leaves else ZERO
    receipts = fold_receipts(client.receipts, window) if tasks else client.receipts
    voucher = sign_voucher(
        domain or client.domain, by or client.session, channel or client.id,
        epoch or client.epoch, Amount(amount), root or receipts,
    )  # fmt: skip
    return Pay(number or client.number + 1, tasks, Amount(amount), window, voucher.signature)


def other_chain(client: LaneClient) -> Domain:
    return Domain(CHANNELS_NAME, 4242, client.domain.contract)


def other_contract(client: LaneClient) -> Domain:
    return Domain(CHANNELS_NAME, client.domain.chain_id, AccountId("0x" + "77" * 20))


OWED = 10 * PRICE
BAD: dict[str, Callable[[LaneClient], Pay]] = {
    "lower than the last": lambda c: signed(c, c.cumulative - 1, 0),
    "less than is owed": lambda c: signed(c, c.cumulative + OWED - 1, 10),
    "above the deposit": lambda c: signed(c, DEPOSIT + 1, 10),
    "the largest number there is": lambda c: signed(c, (1 << 96) - 1, 10),
    "of another epoch": lambda c: signed(c, c.cumulative + OWED, 10, epoch=2),
    "of another channel": lambda c: signed(
        c, c.cumulative + OWED, 10, channel=ChannelId("0x" + "cd" * 32)
    ),
    "of another chain": lambda c: signed(c, c.cumulative + OWED, 10, domain=other_chain(c)),
    "of another contract": lambda c: signed(c, c.cumulative + OWED, 10, domain=other_contract(c)),
    "signed by another key": lambda c: signed(c, c.cumulative + OWED, 10, by=key("thief")),
    "signed by the client's own key": lambda c: signed(c, c.cumulative + OWED, 10, by=c.signer),
    "without a signature": lambda c: msgspec.structs.replace(
        signed(c, c.cumulative + OWED, 10), signature=bytes(64)
    ),
    "for other receipts": lambda c: signed(c, c.cumulative + OWED, 10, lies=keccak(b"lie")),
    "that folds something else": lambda c: signed(c, c.cumulative + OWED, 10, root=keccak(b"x")),
    "for more than was delivered": lambda c: signed(c, c.cumulative + 11 * PRICE, 11),
    "for nothing": lambda c: signed(c, c.cumulative, 0),
    "ahead with a root": lambda c: signed(c, c.cumulative + PRICE, 0, lies=keccak(b"lie")),
    "with the number of the last": lambda c: signed(c, c.cumulative + OWED, 10, number=c.number),
    "with a number left out": lambda c: signed(c, c.cumulative + OWED, 10, number=c.number + 2),
}


async def working(world: World) -> tuple[Provider, Callable[[LaneClient], Awaitable[None]]]:
    node = await lane_provider(world)

    async def prepare(client: LaneClient) -> None:
        """Two hundred tasks paid, ten delivered and due."""
        assert isinstance(await client.connect(), Welcome)
        await client.agree()
        await client.work_off(*[b"x"] * 200)
        await client.ask_for(*[b"y"] * 10)
        await client.hear_until(lambda: len(client.unpaid) == 10)

    return node, prepare


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
async def test_a_bad_voucher_ends_the_link_and_counts_for_nothing(
    tmp_path: Path, make: Callable[[LaneClient], Pay]
) -> None:
    async with open_world(tmp_path) as world:
        node, prepare = await working(world)
        async with lane_client(world, node) as client:
            await prepare(client)
            await client.peer.send(make(client))
            assert await client.halted() in ("bad_voucher", "bad_signature")
            with pytest.raises(PeerUnreachable):
                await client.hear_until(lambda: False)
            account = client.entry
            assert account.promised == 200 * PRICE
            # The client may come again and pay as it should have.
            answer = await client.connect()
            assert isinstance(answer, Welcome)
            assert answer.number == client.number
            assert answer.next_index == 210
            await client.pay(10)
            await client.hear_until(lambda: client.acknowledged == client.number)
            assert account.promised == 210 * PRICE


async def test_two_vouchers_for_one_window_pay_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node, prepare = await working(world)
        async with lane_client(world, node) as client:
            await prepare(client)
            first = client.voucher(10)
            await client.peer.send(first)
            await client.peer.send(first)
            assert await client.halted() == "bad_voucher"
            answer = await client.connect()
            assert isinstance(answer, Welcome)
            assert (answer.number, answer.paid) == (client.number, 210)
            account = client.entry
            assert account.promised == 210 * PRICE


async def test_vouchers_for_results_that_never_were_take_no_room_on_the_disk(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path) as client:
        node = client.provider
        await client.work_off(b"one")
        await client.connect(received=client.received + 640)
        client.unpaid, client.prices = [bytes(32)] * 640, [0] * 640
        for _ in range(10):
            await client.pay(64)
        await client.hear_until(lambda: client.acknowledged == client.number)
        assert client.signatures[-10:] == [b""] * 10
        with closing(sqlite3.connect(node.home / "lane.db")) as db:
            (windows,) = db.execute("SELECT count(*) FROM vouchers").fetchone()
        assert windows == 1


async def test_a_voucher_after_the_close_is_not_taken(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    soon = msgspec.structs.replace(DEFAULT_PARAMETERS, close_period=20)
    async with open_world(tmp_path, soon) as world:
        node, prepare = await working(world)
        async with lane_client(world, node) as client:
            await prepare(client)
            await client.request_close()
            # The node redeems what it has, says why no more is done, and still takes what is due.
            assert await client.halted() == "closing"
            await client.pay(10)
            await client.hear_until(lambda: client.acknowledged == client.number)
            await client.until_claimed(210 * PRICE)
            await finish(client, patient_clock)
            assert await client.halted() == "closed"
            refused = await client.connect()
            assert isinstance(refused, Halt)
            assert refused.code == "no_channel"


async def finish(client: LaneClient, clock: MockClock) -> None:
    """End the channel after its closing time."""
    period = (await client.world.chain.ledger().parameters()).close_period
    clock.autojump_threshold = 0.001
    with trio.move_on_after(period + 1):
        await client.hear_until(lambda: False, 2 * period)
    clock.autojump_threshold = 0.02
    ledger = client.world.chain.ledger(client.signer)
    await ledger.submit(FinishClose(client.channel, client.epoch))


async def test_work_that_was_not_agreed_ends_the_link(tmp_path: Path) -> None:
    async with channel_open(tmp_path) as client:
        await client.connect()
        await client.peer.send(Work(7, [0], [b"x"]))
        assert await client.halted() == "bad_terms"


@pytest.mark.parametrize(("tasks", "size"), [(1025, 0), (70, 64 * 1024)])
async def test_more_work_than_the_node_takes_ends_the_link(
    tmp_path: Path, tasks: int, size: int
) -> None:
    async with at_work(tmp_path) as client:
        for _ in range(tasks):
            await client.ask_for(bytes(size))
        assert await client.halted() == "too_much_work"


async def test_a_message_of_the_other_side_ends_the_link(tmp_path: Path) -> None:
    async with channel_open(tmp_path) as client:
        await client.connect()
        await client.peer.send(Results(0, 0, [0], [b"x"]))
        assert isinstance(await client.hear_one(Halt), Halt)
        with pytest.raises(PeerUnreachable):
            await client.hear()
