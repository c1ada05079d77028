"""Vouchers on their way to a tower: who may bring them, what is kept, how both sides recover."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from deai.channels import sign_voucher
from deai.client.tower.opening import Limits
from deai.errors import PeerUnreachable
from deai.hashing import keccak
from deai.ids import SEI, NodeId, PeerId
from deai.lane.tower import (
    Keep,
    Kept,
    NotKept,
    Refused,
    TowerMessage,
    Welcome,
    sign_greet,
    tower_dialect,
)
from deai.money import Amount
from deai.net import Link
from deai.signing import LocalSigner, Signer
from p2p.identity import Identity
from tests.support.ledger_conformance import provider
from tests.tower.support import Place, Standing, handing_over, open_place, standing, towers_of

pytestmark = pytest.mark.world


@asynccontextmanager
async def calling(
    place: Place,
    tower: Standing,
    *,
    node: NodeId | None = None,
    operator: Signer | None = None,
    as_peer: PeerId | None = None,
) -> AsyncIterator[tuple[Link[TowerMessage], TowerMessage]]:
    """A link that greeted, and the answer; by default all is as it should be."""
    peer = Identity.generate().peer_id
    async with (
        place.network.open_net(peer) as net,
        net.dial(tower.address, tower_dialect(SEI), timeout=5) as link,
    ):
        greet = sign_greet(
            place.world.reader.info.channels,
            operator or place.worker.operator,
            node or place.worker.node,
            as_peer or peer,
            tower.address.peer_id,
        )
        await link.send(greet)
        yield link, await link.receive()


async def asked(link: Link[TowerMessage], *messages: TowerMessage) -> list[Any]:
    for message in messages:
        await link.send(message)
    with trio.fail_after(60):
        return [await link.receive() for _ in messages]


async def test_a_voucher_is_on_disk_when_it_is_confirmed(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid = await place.channel()
        async with standing(place) as tower, calling(place, tower) as (link, welcome):
            assert welcome == Welcome(Limits().of_a_node)
            (kept,) = await asked(link, Keep(paid.channel, paid.voucher(300)))
            assert kept == Kept(paid.id, 1, Amount(300))
        async with standing(place) as again:
            assert again.holds(paid.voucher(300))
            assert again.tower.shelf.held[paid.id].channel == paid.channel


async def test_an_older_voucher_is_answered_with_what_is_held(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid = await place.channel()
        async with calling(place, tower) as (link, _):
            await asked(link, Keep(paid.channel, paid.voucher(300)))
            await trio.sleep(2)
            (kept,) = await asked(link, Keep(paid.channel, paid.voucher(200)))
        assert kept == Kept(paid.id, 1, Amount(300))
        assert tower.holds(paid.voucher(300))


async def test_answers_come_in_the_order_of_what_they_answer(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        several = [await place.channel() for _ in range(6)]
        await several[3].close()
        async with calling(place, tower) as (link, _):
            keeps = [Keep(one.channel, one.voucher(10)) for one in several]
            answers = await asked(link, *keeps)
        assert [one.channel_id for one in answers] == [one.id for one in several]
        assert [type(one) for one in answers] == [Kept] * 3 + [NotKept] + [Kept] * 2


async def test_a_tower_keeps_only_what_can_pay(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        never, closed, claimed = [await place.channel() for _ in range(3)]
        never.session = LocalSigner(keccak(b"never opened"))
        await closed.close()
        await claimed.redeem(300)
        newer = await place.channel()
        async with calling(place, tower) as (link, _):
            answers = await asked(
                link,
                Keep(never.channel, never.voucher(1)),
                Keep(closed.channel, closed.voucher(1)),
                Keep(claimed.channel, claimed.voucher(300)),
                Keep(newer.channel, newer.voucher(10, 2)),
            )
        assert [one.code for one in answers] == ["gone", "gone", "nothing_new", "gone"]
        assert not tower.tower.shelf.held


async def test_one_voucher_a_second_and_channel(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid, other = await place.channel(), await place.channel()
        async with calling(place, tower) as (link, _):
            answers = await asked(
                link,
                Keep(paid.channel, paid.voucher(1)),
                Keep(other.channel, other.voucher(1)),
                Keep(paid.channel, paid.voucher(2)),
            )
            assert [type(one) for one in answers] == [Kept, Kept, NotKept]
            assert answers[2].code == "too_fast"
            await trio.sleep(1)
            (kept,) = await asked(link, Keep(paid.channel, paid.voucher(2)))
            assert kept == Kept(paid.id, 1, Amount(2))


async def test_what_no_node_sends_ends_the_link_and_is_not_held(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid, domain = await place.channel(), place.world.reader.info.channels
        stranger = LocalSigner(keccak(b"stranger"))
        foreign = await provider(place.world)
        elsewhere = msgspec.structs.replace(paid.channel, node=foreign.node)
        other = await place.channel()
        wrong: tuple[TowerMessage, ...] = (
            Keep(paid.channel, paid.voucher(300, by=stranger)),
            Keep(
                paid.channel,
                sign_voucher(domain, paid.session, other.id, 1, Amount(1), bytes(32)),
            ),
            Keep(elsewhere, paid.voucher(300)),
            Kept(paid.id, 1, Amount(1)),
        )
        for message in wrong:
            async with calling(place, tower) as (link, welcome):
                assert isinstance(welcome, Welcome)
                await link.send(message)
                with pytest.raises(PeerUnreachable), trio.fail_after(30):
                    await link.receive()
        assert not tower.tower.shelf.held
        async with calling(place, tower) as (link, _):
            assert await asked(link, Keep(paid.channel, paid.voucher(3)))


async def test_only_the_operator_s_peer_speaks_for_a_node(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        wrong: tuple[dict[str, Any], ...] = (
            {"operator": LocalSigner(keccak(b"stranger"))},
            {"as_peer": Identity.generate().peer_id},  # a greeting that was overheard
        )
        for changed in wrong:
            with pytest.raises(PeerUnreachable), trio.fail_after(30):
                async with calling(place, tower, **changed):
                    pass
        unknown = NodeId("0x" + "77" * 32)
        async with calling(place, tower, node=unknown) as (_, refused):
            assert isinstance(refused, Refused)
            assert refused.code == "not_active"


async def test_who_is_served_is_bounded(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        other = await provider(place.world)
        async with standing(place, nodes=[other.node]) as named:
            async with calling(place, named) as (_, answer):
                assert isinstance(answer, Refused)
                assert answer.code == "not_served"
            theirs: dict[str, Any] = {"node": other.node, "operator": other.operator}
            async with calling(place, named, **theirs) as (_, answer):
                assert isinstance(answer, Welcome)
        async with (
            standing(place, "small", limits=Limits(nodes=1, of_a_node=2)) as small,
            calling(place, small) as (link, _),
        ):
            async with calling(place, small, **theirs) as (_, answer):
                assert isinstance(answer, Refused)
                assert answer.code == "full"
            several = [await place.channel() for _ in range(3)]
            keeps = [Keep(one.channel, one.voucher(10)) for one in several]
            answers = await asked(link, *keeps)
            assert [type(one) for one in answers] == [Kept, Kept, NotKept]
            assert answers[2].code == "full"
            assert len(small.tower.shelf.held) == 2


async def test_a_chain_that_is_down_keeps_new_channels_out_for_a_while(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid = await place.channel()
        async with calling(place, tower) as (link, _):
            place.chain.set_reachable(False)
            (answer,) = await asked(link, Keep(paid.channel, paid.voucher(3)))
            assert answer.code == "chain"
            place.chain.set_reachable(True)
            (answer,) = await asked(link, Keep(paid.channel, paid.voucher(3)))
            assert isinstance(answer, Kept)


async def test_of_many_vouchers_only_the_newest_are_sent(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid = await place.channel()
        async with handing_over(place, tower) as node:
            for amount in range(1, 301):
                node.offer(paid.channel, paid.voucher(amount))
                await trio.sleep(0.01)
            await place.until(lambda: tower.holds(paid.voucher(300)))
            node.offer(paid.channel, paid.voucher(299))
            await trio.sleep(3)
            assert tower.holds(paid.voucher(300))
            assert node.troubles == {}
        assert tower.tower.shelf.writer.flushes <= 8, "three seconds, a voucher each, and the rest"


async def test_a_tower_that_was_away_is_handed_everything_again(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid, other = await place.channel(), await place.channel()
        peer = Identity.generate().peer_id
        async with standing(place) as tower:
            address = tower.address
        async with place.network.open_net(peer) as net, trio.open_nursery() as nursery:
            node = towers_of(place, net, [address])
            nursery.start_soon(node.run)
            node.offer(paid.channel, paid.voucher(300))
            await trio.sleep(10)
            assert set(node.troubles) == {address.peer_id}
            async with standing(place, "anew", identity=address.peer_id) as tower:
                await place.until(lambda: tower.holds(paid.voucher(300)), 120)
                assert node.troubles == {}
            node.offer(other.channel, other.voucher(20))
            node.offer(paid.channel, paid.voucher(310))
            async with standing(place, "lost everything", identity=address.peer_id) as tower:
                await place.until(lambda: len(tower.tower.shelf.held) == 2, 120)
                assert tower.holds(paid.voucher(310))
            nursery.cancel_scope.cancel()


async def test_a_closed_channel_is_offered_to_nobody_any_more(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid, other = await place.channel(), await place.channel()
        async with standing(place) as tower, handing_over(place, tower) as node:
            node.offer(paid.channel, paid.voucher(300))
            node.forget(paid.id)
            node.offer(other.channel, other.voucher(300))
            await place.until(lambda: tower.tower.shelf.held)
            await trio.sleep(5)
            assert set(tower.tower.shelf.held) == {other.id}
