"""A deposit that is withdrawn, or promised twice: it pays once, the rest is the client's."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from deai.actions import FinishClose, OpenChannel, RedeemVoucher
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.errors import Declined
from deai.lane.messages import Agreed, Halt, Welcome
from deai.money import Amount
from tests.node.lane.support import DEPOSIT, PRICE, LaneClient, at_work, lanes_of
from tests.node.support.names import peer, until

pytestmark = pytest.mark.world

PERIOD = 20
SOON = msgspec.structs.replace(DEFAULT_PARAMETERS, close_period=PERIOD)


async def tokens(client: LaneClient) -> int:
    """What the client has outside the channel."""
    return (await client.world.chain.ledger().balances(client.signer.account)).tokens


async def withdrawn(client: LaneClient) -> None:
    """The client takes back what no voucher took, after the time for answers."""
    await client.request_close()
    client.world.chain.advance(PERIOD + 1)
    ledger = client.world.chain.ledger(client.signer)
    await ledger.submit(FinishClose(client.channel, client.epoch))


async def test_a_deposit_withdrawn_while_the_node_was_away_buys_nothing_more(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, paid=20, parameters=SOON) as client:
        node = client.provider
        await client.hang_up()
        await node.kill()
        await withdrawn(client)
        assert await tokens(client) == DEPOSIT, "nobody answered in time"
        await node.start()
        await until(lambda: client.entry.is_closed)
        assert (client.entry.unredeemed, client.entry.lost) == (0, 20 * PRICE)
        answer = await client.connect()
        assert isinstance(answer, Halt)
        assert answer.code == "no_channel"
        assert lanes_of(node).redeeming.ask() == [], "what the chain would refuse is not sent"


async def test_a_deposit_is_withdrawn_once_and_without_what_was_promised(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=20, parameters=SOON) as client:
        await client.request_close()
        await client.until_claimed(20 * PRICE)
        client.world.chain.advance(PERIOD + 1)
        ledger = client.world.chain.ledger(client.signer)
        finish = FinishClose(client.channel, client.epoch)
        await ledger.submit(finish)
        with pytest.raises(Declined):
            await ledger.submit(finish, key="once more")
        assert await tokens(client) == DEPOSIT - 20 * PRICE


async def test_the_promises_of_an_epoch_are_worth_nothing_in_the_next(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=20, parameters=SOON) as client:
        node, old = client.provider, client.entry.standing.voucher
        assert old is not None
        lanes_of(node).redeeming.ask()
        await client.until_claimed(20 * PRICE)
        await withdrawn(client)
        ledger = client.world.chain.ledger(client.signer)
        await ledger.submit(
            OpenChannel(node.node_id, client.session.account, 2, Amount(30 * PRICE)), key="again"
        )
        with pytest.raises(Declined):
            await ledger.submit(RedeemVoucher(client.channel, old), key="an old promise")
        assert (await client.record()).claimed == 0
        refused = await client.connect()
        assert isinstance(refused, Halt)
        assert refused.code == "no_channel"
        second = replace(
            client, epoch=2, life=b"life-two", number=0, received=0, cumulative=0, acknowledged=0,
            receipts=LaneClient.receipts, unpaid=[], prices=[], terms={}, signatures=[],
            _stack=AsyncExitStack(),
        )  # fmt: skip
        answer = await second.connect()
        assert isinstance(answer, Welcome)
        assert (answer.voucher, answer.credit, answer.deposit) == (None, 0, 30 * PRICE)
        assert isinstance(await second.agree(), Agreed)
        await second.work_off(b"y")
        await second.hang_up()


async def test_two_copies_of_a_home_spend_one_deposit_once(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=20) as client, AsyncExitStack() as stack:
        net = await stack.enter_async_context(client.world.network.open_net(peer("copy")))
        copy = replace(
            client, net=net, life=b"life-two", link=None, unpaid=[], prices=[], terms={},
            inputs={}, outputs={}, halts=[], signatures=[], _stack=AsyncExitStack(),
        )  # fmt: skip
        await client.work_off(*[b"x"] * 20)
        shown = await copy.connect()
        assert isinstance(shown, Welcome)
        # The node shows the copy what the other has promised; it does not look, and pays again.
        assert shown.number > copy.number
        assert isinstance(await copy.agree(), Agreed)
        await copy.pay(0, more=PRICE)
        assert await copy.halted() == "bad_voucher"
        await copy.hang_up()
        assert client.entry.promised == 40 * PRICE
        lanes_of(client.provider).redeeming.ask()
        await client.until_claimed(40 * PRICE)
        await client.connect()
        await client.agree()
        await client.work_off(b"z")
        assert client.entry.promised == 41 * PRICE
