"""When vouchers become money, and what the node tells about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from deai.actions import Action, RedeemMany, RedeemVoucher
from deai.chain.ledger import Transaction
from deai.chain.memory import MemoryLedger
from deai.errors import LedgerRejected
from deai.lane.messages import Halt
from node import documents, metrics
from node.admin.app import make_app
from node.config import Lane
from tests.node.lane.support import PRICE, LaneClient, lane_client, lane_provider, lanes_of
from tests.node.support.names import key, until
from tests.node.support.world import CONFIG, Provider, open_world

pytestmark = pytest.mark.world


async def earned(client: LaneClient, tasks: int) -> None:
    await client.connect()
    await client.agree()
    await client.work_off(*[b"x"] * tasks)


def config(**lane: Any) -> Any:
    return msgspec.structs.replace(CONFIG, lane=Lane(**lane))


async def test_a_channel_is_redeemed_when_enough_is_owed_and_the_chain_says_it(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world, config=config(redeem_amount="0.5CT"))
        async with lane_client(world, node) as client:
            await earned(client, 40)
            await trio.sleep(6)
            assert (await client.record()).claimed == 0
            await client.work_off(*[b"x"] * 20)
            await client.until_claimed(60 * PRICE)
            account = client.entry
            await until(lambda: account.redeemed == 60 * PRICE)
            found = await documents.earnings(node.whole)
            assert found["paid"] == str(60 * PRICE)
            assert found["pending"] == "0"
            assert [one["paid"] for one in found["by_day"]] == [str(60 * PRICE)]
            assert sum(int(one["paid"]) for one in found["by_workload"]) == 60 * PRICE
            assert found["channels"]["tasks"] == 60


async def test_the_present_price_of_gas_decides(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.chain.gas_price = 51
        settings = config(redeem_amount="0.1CT", max_gas_price=50)
        node = await lane_provider(world, config=settings)
        async with lane_client(world, node) as client:
            await earned(client, 40)
            await trio.sleep(20)
            assert (await client.record()).claimed == 0
            world.chain.gas_price = 50
            await client.until_claimed(40 * PRICE)


async def test_ten_channels_share_a_transaction(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        clients = []
        async with trio.open_nursery() as nursery:

            async def one(name: str) -> None:
                async with lane_client(world, node, name) as client:
                    await earned(client, 3)
                    clients.append(client)

            for number in range(12):
                nursery.start_soon(one, f"client-{number}")
        lanes = lanes_of(node)
        assert len(lanes.redeeming.ask()) == 12
        for client in clients:
            await client.until_claimed(3 * PRICE)
        blocks = {
            record.position.block
            for record in world.chain.records
            if type(record.event).__name__ == "VoucherRedeemed"
        }
        assert len(blocks) == 2


async def test_one_refused_voucher_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        clients = []
        for number in range(10):
            async with lane_client(world, node, f"client-{number}") as client:
                await earned(client, 3)
                clients.append(client)
        bad = clients[3]
        submit = MemoryLedger.submit

        async def refuses(ledger: MemoryLedger, action: Action, *, key: str = "") -> Transaction:
            match action:
                case RedeemMany(redemptions=redemptions):
                    channels = [channel for channel, _ in redemptions]
                case RedeemVoucher(channel=channel):
                    channels = [channel]
                case _:
                    channels = []
            if bad.channel in channels:
                raise LedgerRejected("NotThisOne")
            return await submit(ledger, action, key=key)

        monkeypatch.setattr(MemoryLedger, "submit", refuses)
        lanes = lanes_of(node)
        began = trio.current_time()
        lanes.redeeming.ask()
        for client in clients:
            if client is not bad:
                await client.until_claimed(3 * PRICE)
        assert trio.current_time() - began < 60
        assert "redeem_failed" in node.live.problems
        monkeypatch.undo()
        await bad.until_claimed(3 * PRICE)
        await until(lambda: "redeem_failed" not in node.live.problems)


async def test_what_somebody_else_redeemed_is_noticed_and_not_sent_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with lane_client(world, node) as client:
            await earned(client, 5)
            account = client.entry
            voucher = account.standing.voucher
            assert voucher is not None
            stranger = world.chain.ledger(key("bank"))
            await stranger.submit(RedeemVoucher(client.channel, voucher))
            await until(lambda: account.redeemed == 5 * PRICE)
            lanes = lanes_of(node)
            assert lanes.redeeming.ask() == []


async def test_a_stale_close_while_the_node_was_away_is_answered_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with lane_client(world, node) as client:
            await earned(client, 30)
            await client.hang_up()
            await node.kill()
            await client.request_close()
            await node.start()
            await client.until_claimed(30 * PRICE)


async def test_a_refused_redemption_is_a_problem_and_is_tried_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with lane_client(world, node) as client:
            await earned(client, 30)
            lanes = lanes_of(node)
            world.chain.set_reachable(False)
            lanes.redeeming.ask()
            await until(lambda: "redeem_failed" in node.live.problems)
            world.chain.set_reachable(True)
            await client.until_claimed(30 * PRICE)
            await until(lambda: "redeem_failed" not in node.live.problems)


async def ask(node: Provider, method: str, path: str) -> Any:
    transport = httpx.ASGITransport(app=make_app(node.whole, "t" * 40))
    headers = {"authorization": "Bearer " + "t" * 40}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.request(method, path, headers=headers)
    return (
        answer.json() if answer.headers["content-type"].startswith("application/json") else answer
    )


async def test_the_admin_interface_shows_channels_and_redeems(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world, config=config(unpaid_windows=4))
        async with lane_client(world, node) as client:
            assert (await ask(node, "GET", "/channels"))["items"] == []
            await earned(client, 200)
            await client.ask_for(*[b"y"] * 3)
            await client.hear_until(lambda: len(client.unpaid) == 3)
            (shown,) = (await ask(node, "GET", "/channels"))["items"]
            assert shown["channel_id"] == client.id
            assert shown["state"] == "open"
            assert shown["linked"]
            assert shown["owed"] == str(3 * PRICE)
            assert shown["credit"] == str(10 * PRICE)
            assert shown["unredeemed"] == str(200 * PRICE)
            assert shown["windows"] == {"unpaid": 1, "allowed": 4}
            assert shown["tasks"] == {"paid": 200, "unpaid": 3, "executing": 0, "queued": 0}
            assert shown["latest_voucher"]["number"] == client.number
            status = (await ask(node, "GET", "/status"))["lane"]
            assert (status["linked"], status["tasks"]) == (1, 200)
            text = metrics.render(node.whole, 0).decode()
            assert "deai_node_lane_clients 1.0" in text
            assert "deai_node_lane_owed_tokens 0.03" in text
            asked = await ask(node, "POST", "/redeem?chain=near")
            assert asked["items"] == []
            asked = await ask(node, "POST", "/redeem")
            assert [one["amount"] for one in asked["items"]] == [str(200 * PRICE)]
            await client.until_claimed(200 * PRICE)
            bad = await ask(node, "GET", "/channels?cursor=-1")
            assert bad["error"]["code"] == "bad_request"


async def test_a_client_that_does_not_pay_is_a_reason(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with lane_client(world, node) as client:
            await client.connect()
            await client.agree()
            await client.ask_for(b"free")
            await client.hear_one(Halt)
            why = await ask(node, "GET", "/why")
            assert "lane_unpaid" in {one["code"] for one in why["reasons"]}
