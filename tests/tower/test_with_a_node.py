"""A node that serves the lane, a client that closes on what it paid first, and a tower beside."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest
import trio

from deai.chain.ledger import Ledger
from deai.client.tower.opening import open_tower
from deai.config import Config
from deai.errors import ConfigError
from deai.hashing import keccak
from deai.lane.messages import Agreed
from deai.money import Amount
from deai.signing import LocalSigner
from node.config import Lane, node_config
from node.lane.book import BookView
from p2p.identity import Identity
from tests.node.lane.support import PRICE, lane_client, lane_provider
from tests.node.support.world import CONFIG, open_world

pytestmark = pytest.mark.world


async def test_the_tower_shows_what_the_node_was_promised_last(tmp_path: Path) -> None:
    tower_peer = Identity.generate().peer_id
    async with open_world(tmp_path) as world:
        payer = cast("Ledger", world.chain.ledger(LocalSigner(keccak(b"tower"))))
        async with world.network.open_net(tower_peer) as net:
            lane = Lane(towers=(f"{net.addresses[0]}/p2p/{tower_peer}",))
            node = await lane_provider(world, config=msgspec.structs.replace(CONFIG, lane=lane))
            async with lane_client(world, node) as client:
                await client.connect()
                assert isinstance(await client.agree(), Agreed)
                await client.work_off(*[b"task %d" % one for one in range(100)])
                with trio.fail_after(60):
                    while "no_tower" not in node.live.problems:
                        await trio.sleep(1)
                async with open_tower(
                    payer, tmp_path / "tower.db", lambda _: None, net=net, least=Amount(1)
                ) as tower:
                    with trio.fail_after(120):
                        while not (held := tower.shelf.held.get(client.id)) or (
                            int(held.voucher.cumulative_amount) != client.cumulative
                        ):
                            await trio.sleep(1)
                        while "no_tower" in node.live.problems:
                            await trio.sleep(1)
                    await node.kill()
                    await client.request_close()
                    world.chain.advance(3600)
                    with trio.fail_after(60):
                        while not tower.watch.answered:
                            await trio.sleep(1)
            assert (await client.record()).claimed == 100 * PRICE == client.cumulative
    # What the tower showed is what the node's own file says.
    (entry,) = BookView(node.home / "lane.db").entries.values()
    assert entry.standing.voucher == held.voucher


@pytest.mark.parametrize("tower", ["here", "/ip4/127.0.0.1/tcp/4010", "/p2p/12D3Koo"])
def test_a_setting_that_names_no_tower_is_refused_by_its_name(tower: str) -> None:
    values = {"node": {"lane": {"towers": [tower]}}}
    with pytest.raises(ConfigError, match=r"node\.lane\.towers"):
        node_config(msgspec.structs.replace(Config(), sections=values))
