"""What both owners signed about this node: hubs are told, and a bad file harms nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import trio.testing

from deai.binding import Binding, Draft, Side, sign_half, write_binding
from node import documents
from node.services.heartbeat import Said
from tests.node.hub import open_hub
from tests.node.support.names import key, until
from tests.node.support.world import Provider, World, open_world
from tests.support.bindings import NEAR_OWNER, binding as sample, signed

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock


def bound(world: World, provider: Provider, *, nonce: int = 1) -> Draft:
    """What the owners of this node, and of one on NEAR, signed."""
    info, owner = world.chain.info, key(f"{provider.name} owner")
    body = Binding(
        sei=Side(
            chain=info.name, chain_id=info.chain_id, registry=info.registry.contract,
            node=provider.node_id, owner=owner.account, operator=provider.signer.account,
        ),
        near=sample().near,
        nonce=nonce,
        issued_at=1_800_000_000,
    )  # fmt: skip
    return Draft(binding=body, sei=sign_half(body, owner), near=sign_half(body, NEAR_OWNER))


async def test_a_hub_hears_of_the_binding_before_anything_else_and_once_a_link(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node", hubs=(hub.address,), start=False)
        draft = bound(world, provider)
        write_binding(provider.home / "binding.json", draft)
        await provider.start()
        await trio.sleep(200)
        assert hub.told[0] == "PublishBinding"
        assert hub.bindings == [draft.binding]
        world.network.drop(provider.peer_id)
        await until(lambda: len(hub.bindings) == 2)


async def test_a_binding_that_comes_or_changes_later_is_told_too(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node", hubs=(hub.address,))
        assert not hub.bindings
        path = provider.home / "binding.json"
        for nonce in (1, 2):
            write_binding(path, bound(world, provider, nonce=nonce))
            await until(lambda: [one.nonce for one in hub.bindings][-1:] == [nonce])  # noqa: B023
        path.unlink()
        await until(lambda: provider.whole.binding is None)
        assert len(hub.bindings) == 2


async def test_a_refused_binding_is_said_again_a_few_times_and_shown(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        hub.refuses = "the chain does not tell"
        provider = await world.provider("node", hubs=(hub.address,), start=False)
        write_binding(provider.home / "binding.json", bound(world, provider))
        await provider.start()
        await until(lambda: "binding_refused" in provider.live.problems)
        assert hub.refuses in provider.live.problems["binding_refused"].message
        assert "hub_refuses" not in provider.live.problems
        hub.refuses = ""
        await until(lambda: hub.bindings, seconds=100)
        await until(lambda: "binding_refused" not in provider.live.problems)
        hub.refuses = "never"
        world.network.drop(provider.peer_id)
        before = hub.told.count("PublishBinding")
        await trio.sleep(600)
        # At once, then after 60, 120 and 240 seconds.
        assert hub.told.count("PublishBinding") - before == 4


def test_a_binding_is_insisted_on_eight_times_ever_more_slowly() -> None:
    said, one, other = Said(), signed(), signed(sample(nonce=8))
    times = [at for at in range(0, 100_000, 10) if said.wants(one, at)]
    assert [b - a for a, b in pairwise(times)] == [60 * 2**n for n in range(7)]
    assert said.wants(other, 100_000), "a new one is said at once"
    said.is_bound = True
    assert not any(said.wants(other, at) for at in range(100_000, 200_000, 10))


@pytest.mark.parametrize("fault", ["nonsense", "half", "another node", "another operator"])
async def test_a_bad_binding_is_a_problem_and_no_more(
    tmp_path: Path, autojump_clock: Clock, fault: str
) -> None:
    async with open_world(tmp_path) as world, open_hub(world) as hub:
        provider = await world.provider("node", hubs=(hub.address,), start=False)
        path = provider.home / "binding.json"
        good = bound(world, provider)
        match fault:
            case "nonsense":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text('{"format": "deai binding/1"')
            case "half":
                write_binding(path, Draft(binding=good.binding, sei=good.sei))
            case "another node":
                other = await world.provider("other", start=False)
                write_binding(path, bound(world, other))
            case _:
                provider.signer, signer = key("before"), provider.signer
                write_binding(path, bound(world, provider))
                provider.signer = signer
        await provider.start()
        (problem,) = [
            one for one in documents.problems(provider.whole) if one["code"] == "bad_binding"
        ]
        assert problem["hint"]
        await trio.sleep(20)
        assert hub.beats
        assert not hub.bindings
        write_binding(path, good)
        await until(lambda: hub.bindings)
        assert "bad_binding" not in provider.whole.problems
