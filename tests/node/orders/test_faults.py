"""Nodes and clients that die or cheat while an order is under way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio.lowlevel
import trio.testing

from deai.client.client import Client
from deai.client.orders import submission
from deai.client.orders.book import CRASH_POINTS as CLIENT_POINTS
from deai.errors import DeaiError
from deai.hashing import CHUNK_BYTES
from deai.messages import BlobChunk, BlobHeader
from deai.order_receipts import read_order_receipt, verify_order_receipt
from deai.signing import LocalSigner
from node.orders.records import OrderState
from node.orders.service import CRASH_POINTS as NODE_POINTS
from tests.node.orders.scripted import buyer
from tests.node.orders.support import config, fund, held, nodes, payer, settlements, submit
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, until
from tests.node.support.world import Provider, World, open_world

Clock = trio.testing.MockClock

pytestmark = pytest.mark.world


def settled_ids(world: World) -> Counter[str]:
    return Counter(str(one.order_id) for one in settlements(world))


async def all_over(chosen: list[Provider]) -> None:
    await until(lambda: all(not one.live.orders.live for one in chosen))  # type: ignore[union-attr]


@pytest.mark.parametrize("point", NODE_POINTS)
async def test_a_node_that_is_killed_at_any_moment_signs_once_and_is_paid_once(
    tmp_path: Path, autojump_clock: Clock, point: str
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world, config=config(settle_minutes=0.5))
        for one in chosen:
            one.crash_at = point
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            handle = await submit(client)
            await until(lambda: any(not one.crash_at for one in chosen))
            for one in chosen:
                if one.crash_at:
                    one.crash_at = ""  # one is enough, where not all met it together
                else:
                    await one.stopped.wait()
                    await one.start()
            with trio.fail_after(1000):
                outcome = await handle.wait()
            assert outcome.ok
            assert outcome.data == b"HELLO"
            await all_over(chosen)
            assert settled_ids(world) == {outcome.task_id: 1}
            (settled,) = settlements(world)
            assert sum(settled.payments) + settled.protocol_fee == settled.order.cost
            states = {(await held(one, outcome.task_id)).state for one in chosen}
            assert states <= {OrderState.PAID, OrderState.LEFT_OUT}
            assert all(settled.payments)


class Died(BaseException):
    """A client's end."""


@pytest.mark.parametrize("point", CLIENT_POINTS)
async def test_a_client_that_is_killed_at_any_moment_goes_on_with_the_same_order(
    tmp_path: Path, autojump_clock: Clock, point: str
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world, config=config(settle_minutes=0.5))
        await fund(world)
        reached: list[str] = []

        def crash(here: str) -> None:
            reached.append(here)
            if here == point:
                raise Died

        with pytest.raises(Died):
            async with payer(world, tmp_path / "client", crash=crash) as client:
                await (await submit(client, idempotency_key="once")).wait()
        assert point in reached
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client, idempotency_key="once")).wait()
            assert outcome.ok
            assert outcome.data == b"HELLO"
            again = await (await submit(client, idempotency_key="once")).wait()
            assert again.task_id == outcome.task_id
            await all_over(chosen)
            assert settled_ids(world) == {outcome.task_id: 1}
            assert all(one.bench.runs == 1 for one in chosen)


async def test_a_client_that_comes_back_before_its_nodes_waits_for_them(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world)
        await fund(world)

        def crash(here: str) -> None:
            if here == "order_taken":
                raise Died

        with pytest.raises(Died):
            async with payer(world, tmp_path / "client", crash=crash) as client:
                await (await submit(client)).wait()
        for one in chosen:
            await one.kill()
        async with payer(world, tmp_path / "client") as client:
            handle = await submit(client)
            await trio.sleep(20)
            for one in chosen:
                await one.start()
            with trio.fail_after(300):
                assert (await handle.wait()).ok


async def test_seats_that_never_answer_end_the_waiting(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world, bench=SmallBench(seconds=30))
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            handle = await submit(client)
            await handle.posted()
            for one in chosen[:2]:
                await one.kill()
            with trio.fail_after(300):
                outcome = await handle.wait()
            assert outcome.state == "failed"
            assert "no quorum" in outcome.document["detail"]


async def test_an_output_that_one_seat_withholds_comes_from_another(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world)
        await fund(world)
        asked: list[str] = []

        async def keep_it(*_: Any) -> None:
            asked.append("output")
            await trio.lowlevel.checkpoint()

        for one in chosen[:2]:
            one.live.orders.links.fetch = keep_it  # type: ignore[union-attr, method-assign]
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.ok
            assert outcome.data == b"HELLO"
        # With luck the honest one was asked first; by this committee's seats it was not.
        seats = [one["node_id"] for one in outcome.document["attempts"]]
        if seats[0] != chosen[2].node_id:
            assert asked


class OtherKey:
    """A signer that signs results with a key of its own."""

    def __init__(self, own: LocalSigner) -> None:
        self.account = own.account

    def sign(self, digest: bytes) -> bytes:
        return key("somebody else").sign(digest)


async def test_a_seat_that_signs_with_another_key_is_not_counted(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    from dataclasses import replace

    async with open_world(tmp_path) as world:
        chosen = await nodes(world)
        live = chosen[0].live
        live.ports = replace(live.ports, signer=OtherKey(chosen[0].signer))
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.ok
            assert outcome.document["result"]["agreed"] == 2
            await until(lambda: settlements(world))
            (settled,) = settlements(world)
            paid = dict(zip(settled.order.nodes, settled.payments, strict=True))
            assert not paid[chosen[0].node_id]
            assert paid[chosen[1].node_id]


def lying(data: bytes) -> Any:
    from tests.node.test_with_client import lying as liar

    return liar(data)


async def test_a_liar_in_the_minority_is_not_paid_and_changes_nothing(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        liar = await world.provider("liar", orders=True, config=config(), wrap=lying(b"LIE"))
        await nodes(world, 2)
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.data == b"HELLO"
            receipt = Path(outcome.document["receipt"])
            report = verify_order_receipt(
                read_order_receipt(receipt.read_bytes()), b"hello", b"HELLO"
            )
            assert report.ok, report.checks
            wrong = verify_order_receipt(read_order_receipt(receipt.read_bytes()), None, b"LIE")
            assert not wrong.ok
            await until(lambda: settlements(world))
            (settled,) = settlements(world)
            paid = dict(zip(settled.order.nodes, settled.payments, strict=True))
            assert not paid[liar.node_id]


async def test_an_order_without_a_quorum_costs_the_client_nothing(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        await world.provider("liar", orders=True, config=config(), wrap=lying(b"LIE"))
        await world.provider("other", orders=True, config=config(), wrap=lying(b"ANOTHER"))
        await nodes(world, 1)
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.state == "failed"
            assert "no quorum" in outcome.document["detail"]
            purse = await client.orders.purse()
            await trio.sleep(200)
            assert not settlements(world)
            assert purse.balance.balance == (await client.orders.purse()).balance.balance


async def test_a_node_that_takes_no_orders_is_passed_over(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        await world.provider("old")
        off = config(enabled=False)
        await world.provider("off", orders=True, config=off)
        await nodes(world)
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.ok


async def refused(client: Client, **options: Any) -> str:
    with pytest.raises(DeaiError) as caught:
        await (await submit(client, **options)).wait()
    return caught.value.reason_code


async def test_what_cannot_be_an_order_is_refused_before_anything_is_signed(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        await nodes(world)
        async with payer(world, tmp_path / "client") as client:
            assert await refused(client) == "insufficient_funds"
            await fund(world, 0.01)
            assert await refused(client) == "insufficient_funds"
            assert await refused(client, tip=1) == "usage"
            assert await refused(client, detach=True) == "usage"
            with pytest.raises(DeaiError, match="compares outputs") as caught:
                await client.submit("drift", b"1 2", max_fee=10**18, lane="order")
            assert caught.value.reason_code == "unsupported_policy"
            assert not await client.orders.book.recent(10)


async def test_many_orders_at_once_share_transactions_and_no_nonce(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(
            world, config=config(settle_minutes=1.0), bench=SmallBench(seconds=0.01)
        )
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            handles = [await submit(client, f"task {n}".encode()) for n in range(8)]
            outcomes = [await one.wait() for one in handles]
            assert all(one.ok for one in outcomes)
            await all_over(chosen)
            found = settlements(world)
            assert len(found) == len({one.order.nonce for one in found}) == 8
            blocks = {one.position.block for one in world.chain.records
                      if one.event in found}  # fmt: skip
            assert len(blocks) < 8


async def test_one_seat_without_verification_hands_over_for_its_own_signature(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world, 1)
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client, policy="none/1")).wait()
            assert outcome.ok
            assert outcome.document["result"]["agreed"] == 1
            await all_over(chosen)
            assert settled_ids(world) == {outcome.task_id: 1}


async def test_an_order_that_nobody_settles_is_told_to_have_cost_nothing(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world):
        chosen = await nodes(world, 1, config=config(settle_minutes=600))
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client, policy="none/1")).wait()
            shown = await client.show(outcome.task_id)
            assert (shown["held"], shown["order"]["settlement"]) == (shown["escrowed"], "open")
            await chosen[0].kill()
            world.chain.advance(4000)
            shown = await client.show(outcome.task_id)
            assert (shown["held"], shown["refunded"]) == ("0", shown["escrowed"])
            assert shown["order"]["settlement"] == "expired"


async def test_a_key_names_one_task_whichever_way_it_is_paid(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        await nodes(world)
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            assert (await (await submit(client, idempotency_key="a")).wait()).ok
            escrowed = await client.submit(
                "shout", b"hello", max_fee=10**18, idempotency_key="a"
            )  # fmt: skip
            with pytest.raises(DeaiError, match="belongs to another"):
                await escrowed.wait()
            escrowed = await client.submit(
                "shout", b"hello", max_fee=10**18, idempotency_key="b"
            )  # fmt: skip
            assert (await escrowed.wait()).ok
            assert await refused(client, idempotency_key="b") == "idempotency_conflict"


async def test_a_seat_from_which_the_output_only_trickles_is_not_waited_for(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world)
        await fund(world)
        asked: list[str] = []

        def slowly(one: Provider) -> Any:
            live = one.live.orders
            assert live is not None
            honest = live.links.fetch

            async def fetch(link: Any, order: Any, name: Any) -> None:
                asked.append(one.name)
                if len(asked) > 2:
                    await honest(link, order, name)
                    return
                blob, store = (await held(one, name)).blob("output"), one.live.ports.blobs
                length, leaves = await store.leaves(blob)
                await link.send(BlobHeader(name, "output", 0, length, leaves))
                for index in range(len(leaves)):
                    await trio.sleep(5)
                    chunk = await store.read_chunk(blob, index)
                    await link.send(BlobChunk(name, "output", 0, index, chunk))

            return fetch

        for one in chosen:
            one.live.orders.links.fetch = slowly(one)  # type: ignore[union-attr, method-assign]
        async with payer(world, tmp_path / "client") as client:
            data = b"a" * (40 * CHUNK_BYTES)
            outcome = await (await submit(client, data)).wait()
            assert outcome.ok
            assert outcome.data == data.upper()
        assert len(set(asked)) == 3


async def test_a_request_whose_seats_keep_the_output_is_not_theirs_for_ever(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "VALID", 200)
    monkeypatch.setattr(submission, "KEPT", 60)
    async with open_world(tmp_path) as world:
        chosen = await nodes(world)
        await fund(world)

        async def keep_it(*_: Any) -> None:
            await trio.lowlevel.checkpoint()

        honest = [one.live.orders.links.fetch for one in chosen]  # type: ignore[union-attr]
        for one in chosen:
            one.live.orders.links.fetch = keep_it  # type: ignore[union-attr, method-assign]
        async with payer(world, tmp_path / "client") as client:
            assert await refused(client) == "no_output"
            for one, fetch in zip(chosen, honest, strict=True):
                one.live.orders.links.fetch = fetch  # type: ignore[union-attr, method-assign]
            (first,) = await client.orders.book.recent(2)
            await trio.sleep(300)
            outcome = await (await submit(client)).wait()
            assert outcome.ok
            assert outcome.task_id != str(first.placed.order_id)
            assert (await client.show(first.placed.order_id))["order"]["settlement"] == "settled"


async def test_a_home_that_signed_nothing_yet_finds_the_newest_nonces_that_were_bought(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        for page in range(11):
            await fund(world, 1, page=page)
        async with payer(world, tmp_path / "client") as client:
            purse = await client.orders.purse()
            assert list(purse.pages) == list(range(3, 11))
            assert purse.next_page == 10
