"""What the token refuses waits in the channel, and whose it is gets it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.near.calls import encode_action
from deai.chain.near.channel_calls import pay_due
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import open_sender
from deai.chain.near.steps import YOCTO, NearCall, Needs, call
from deai.channels import ChannelState
from deai.signing import Signer
from devnet.accounts import channels_difference, read_books
from tests.deai.chain.near.faulty import key_of
from tests.deai.chain.near.harness import Actor, NearChain, near_world, settings
from tests.support.channel_conformance import DEPOSIT, Paying, paying
from tests.support.ledger_conformance import World, refused

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


@pytest.fixture
async def world(chain: NearChain) -> AsyncIterator[World]:
    async with near_world(chain) as found:
        yield found


async def send_bare(chain: NearChain, by: Signer, made: NearCall, key: str) -> None:
    """As a program that looks after nothing does it: what has to be there before is not."""
    assert isinstance(by, Actor)
    bare = msgspec.structs.replace(made, needs=Needs())
    async with (
        open_pool([chain.rpc_url], timeout=30) as pool,
        open_sender(pool, key_of(by), None, f"bare {key}", settings=settings()) as sender,
    ):
        await sender.send(bare, kind="Bare", key=key)


async def leave_token(chain: NearChain, world: World, by: Signer) -> None:
    """The account closes its place at the token, which then sends it nothing."""
    to = world.reader.info.contracts["ComputeToken"]
    step = call("storage_unregister", 20, YOCTO, force=True)
    await send_bare(chain, by, NearCall(to, (step,)), f"leave {by.account}")


async def books_difference(world: World) -> tuple[int, int]:
    books = await read_books(world.reader)
    return books.difference, await channels_difference(world.reader, books)


async def bare(chain: NearChain, one: Paying, by: Signer, action: act.Action, key: str) -> None:
    made = encode_action(action, one.world.reader.info.contracts)
    await send_bare(chain, by, made, f"{key} {one.id}")


async def test_what_an_owner_could_not_be_paid_waits_and_comes_with_the_next(
    chain: NearChain, world: World
) -> None:
    one = await paying(world, deposit=1000)  # the token has never heard of its owner
    await bare(chain, one, one.client, one.redeeming(300), "early")
    record = await one.record()
    assert (record.claimed, record.due, record.remaining) == (300, 300, 700)
    assert (await one.tokens())[1] == 0
    assert await books_difference(world) == (0, 0)
    await one.redeem(450)
    record = await one.record()
    assert (record.claimed, record.due) == (450, 0)
    assert (await one.tokens())[1] == 450
    assert await books_difference(world) == (0, 0)


async def test_a_client_fetches_its_refund_by_finishing_once_more(
    chain: NearChain, world: World
) -> None:
    one = await paying(world, funds=DEPOSIT, deposit=DEPOSIT)
    await leave_token(chain, world, one.client)
    await bare(chain, one, one.owner, act.CloseChannel(one.channel, 1, one.voucher(40)), "close")
    record = await one.record()
    assert (record.state, record.due) == (ChannelState.CLOSED, DEPOSIT)
    assert await one.tokens() == (0, 0)
    finish = act.FinishClose(one.channel, 1)
    assert await (await world.ledger(one.client)).simulate(finish) > 0
    await one.as_client(finish)
    assert await one.tokens() == (DEPOSIT - 40, 40)
    assert (await one.record()).due == 0
    await refused(one.as_client(finish, key="again"), "BadState", state=int(ChannelState.CLOSED))
    assert await books_difference(world) == (0, 0)


async def test_what_waits_outlives_the_next_opening(chain: NearChain, world: World) -> None:
    one = await paying(world, deposit=10)
    await bare(chain, one, one.owner, act.CloseChannel(one.channel, 1, one.voucher(10)), "close")
    assert (await one.record()).due == 10
    await one.open(20, epoch=2)
    record = await one.record()
    assert (record.deposit, record.claimed, record.due) == (20, 0, 10)
    await one.redeem(5, epoch=2)
    assert (await one.tokens())[1] == 15
    nothing = pay_due(one.channel, world.reader.info.channels.contract)
    await refused(send_bare(chain, one.owner, nothing, "nothing"), "NothingDue")


async def test_our_own_payments_open_what_the_token_has_to_know(world: World) -> None:
    """Owners and a client that left are opened again by whoever pays them."""
    first = await paying(world, deposit=10)
    second = await paying(world, client=first.client, deposit=20)
    batch = ((first.channel, first.voucher(4)), (second.channel, second.voucher(5)))
    await first.as_stranger(act.RedeemMany(batch))
    assert [(await one.tokens())[1] for one in (first, second)] == [4, 5]
    assert [(await one.record()).due for one in (first, second)] == [0, 0]
