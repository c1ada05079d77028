"""The hub under friendly, wrong and hostile peers; over the in-memory net."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from coordinator.hub import INSTANCE_SECONDS, MAX_REFUSALS, MESSAGE_BURST, Hub
from coordinator.metrics import Metrics
from deai.errors import MalformedMessage, PeerUnreachable
from deai.hashing import keccak
from deai.ids import NodeId, PeerId
from deai.messages import (
    BEAT_DIALECT,
    BeatMessage,
    BeatSeen,
    Goodbye,
    PublishBeat,
    PublishOffer,
    Refused,
    TwinHeard,
)
from deai.net import Link, PeerAddress
from deai.offers import Signed
from deai.signing import LocalSigner
from p2p.memory import MemoryNetwork
from tests.coordinator.support import REGISTRY, SEI, make_beat, make_offer, peer
from tests.coordinator.world import Chain

NOW = 1_800_000_000.0


@dataclass
class Scene:
    """A hub that serves, and a chain whose nodes it knows."""

    hub: Hub
    chain: Chain
    network: MemoryNetwork
    address: PeerAddress
    metrics: Metrics

    @property
    def node(self) -> NodeId:
        return self.chain.nodes[0]

    @asynccontextmanager
    async def dial(self, who: PeerId) -> AsyncIterator[Link[BeatMessage]]:
        async with (
            self.network.open_net(who) as net,
            net.dial(self.address, BEAT_DIALECT, timeout=5) as link,
        ):
            yield link

    async def until_cut_off(
        self, who: PeerId, messages: Sequence[BeatMessage]
    ) -> list[BeatMessage]:
        """Say one after the other; what was answered before the hub closed the link."""
        answers: list[BeatMessage] = []
        async with self.dial(who) as link:
            try:
                for message in messages:
                    await link.send(message)
                    answers.append(await link.receive())
            except (PeerUnreachable, MalformedMessage):
                return answers
        raise AssertionError(f"all {len(messages)} messages were answered")

    def beat(self, who: PeerId, **changes: object) -> PublishBeat:
        return PublishBeat(make_beat(self.chain, self.node, who, **changes))

    def offer(self, who: PeerId, *, of: NodeId | None = None, **changes: object) -> PublishOffer:
        now = int(clock())
        times = {"sequence": now, "issued_at": now, "expires_at": now + 600}
        return PublishOffer(make_offer(self.chain, of or self.node, who, **(times | changes)))


async def nobody_speaks(chain: str, account: str, key: str) -> bool:
    raise AssertionError("no binding was published")


def clock() -> float:
    return NOW + trio.current_time()


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    chain = Chain(1)
    metrics = Metrics()
    hub = Hub({SEI: REGISTRY}, nobody_speaks, clock=clock, metrics=metrics)
    hub.learn(SEI, {node: chain.signers[node].account for node in chain.nodes})
    network = MemoryNetwork()
    async with network.open_net(peer()) as net, trio.open_nursery() as nursery:
        await nursery.start(net.serve, BEAT_DIALECT, hub.serve)
        yield Scene(hub, chain, network, PeerAddress(net.peer_id, net.addresses), metrics)
        nursery.cancel_scope.cancel()


async def test_a_signed_beat_is_answered_and_kept(scene: Scene, autojump_clock: MockClock) -> None:
    who = peer()
    async with scene.dial(who) as link:
        await link.send(scene.beat(who, sequence=7, running=2))
        assert await link.receive() == BeatSeen(7, 1)
    beats, offers, _ = scene.hub.take()
    assert [(row["node_id"], row["sequence"], row["running"]) for row in beats] == [
        (scene.node, 7, 2)
    ]
    assert offers == []
    assert scene.hub.take() == ([], [], [])


async def test_a_beat_said_again_changes_nothing(scene: Scene, autojump_clock: MockClock) -> None:
    who = peer()
    async with scene.dial(who) as link:
        for sequence in (5, 5, 4):
            await link.send(scene.beat(who, sequence=sequence, running=sequence))
            assert await link.receive() == BeatSeen(5, 1)
    (row,), *_ = scene.hub.take()
    assert row["running"] == 5


async def test_a_beat_replayed_by_another_peer_is_refused(
    scene: Scene, autojump_clock: MockClock
) -> None:
    owner, thief = peer(), peer()
    stolen = scene.beat(owner)
    async with scene.dial(thief) as link:
        await link.send(stolen)
        answer = await link.receive()
    assert isinstance(answer, Refused)
    assert answer.code == "wrong_peer"
    assert scene.hub.take() == ([], [], [])


async def test_a_key_that_the_chain_does_not_name_is_refused(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    other = LocalSigner(keccak(b"not the operator"))
    async with scene.dial(who) as link:
        await link.send(scene.beat(who, signer=other))
        answer = await link.receive()
        assert isinstance(answer, Refused)
        assert answer.code == "wrong_operator"
        await link.send(scene.beat(who))
        assert isinstance(await link.receive(), BeatSeen)


async def test_a_forged_signature_cuts_the_peer_off(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    forged = scene.beat(who).beat
    forged = Signed(
        forged.body + b"", forged.operator, bytes([forged.signature[0] ^ 1]) + forged.signature[1:]
    )
    async with scene.dial(who) as link:
        await link.send(PublishBeat(forged))
        with pytest.raises((PeerUnreachable, MalformedMessage)):
            await link.receive()
    assert scene.hub.take() == ([], [], [])
    honest = peer()
    async with scene.dial(honest) as link:
        await link.send(scene.beat(honest))
        assert isinstance(await link.receive(), BeatSeen)


async def test_a_body_that_is_no_beat_cuts_the_peer_off(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    offer = scene.offer(who).offer
    async with scene.dial(who) as link:
        await link.send(PublishBeat(offer))  # signed well, but as an offer
        with pytest.raises((PeerUnreachable, MalformedMessage)):
            await link.receive()
    assert scene.hub.take() == ([], [], [])


async def test_a_node_that_the_index_learns_a_moment_later_is_heard(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    fresh = scene.chain.register()
    signer = scene.chain.signers[fresh]
    async with scene.dial(who) as link, trio.open_nursery() as nursery:
        await link.send(PublishOffer(scene.offer(who, of=fresh).offer))
        await link.send(PublishBeat(make_beat(scene.chain, fresh, who)))

        async def learn() -> None:
            await trio.sleep(2)
            scene.hub.learn(SEI, {fresh: signer.account})

        nursery.start_soon(learn)
        assert isinstance(await link.receive(), BeatSeen)
    beats, offers, _ = scene.hub.take()
    assert [row["node_id"] for row in beats + offers] == [fresh, fresh]


async def test_a_stranger_is_refused_after_a_moment_and_shut_out_in_the_end(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    stranger = NodeId("0x" + "77" * 32)
    signer = LocalSigner(keccak(b"stranger"))
    beats = [
        PublishBeat(make_beat(scene.chain, stranger, who, signer=signer, sequence=sequence))
        for sequence in range(MAX_REFUSALS + 1)
    ]
    answers = await scene.until_cut_off(who, beats)
    assert [answer.code for answer in answers if isinstance(answer, Refused)] == [
        "unknown_node"
    ] * MAX_REFUSALS
    assert scene.hub.take() == ([], [], [])


async def test_a_flood_is_cut_off_and_others_are_still_heard(
    scene: Scene, autojump_clock: MockClock
) -> None:
    flooder, honest = peer(), peer()
    beats = [scene.beat(flooder, sequence=number) for number in range(10 * int(MESSAGE_BURST))]
    answers = await scene.until_cut_off(flooder, beats)
    assert isinstance(answers[-1], Refused)
    assert answers[-1].code == "too_fast"
    assert len(answers) <= MESSAGE_BURST + 2
    async with scene.dial(honest) as link:
        await link.send(scene.beat(honest, sequence=10_000))
        assert isinstance(await link.receive(), BeatSeen)


async def test_two_processes_with_one_key_hear_of_each_other(
    scene: Scene, autojump_clock: MockClock
) -> None:
    one, other = peer(), peer()
    async with scene.dial(one) as first, scene.dial(other) as second:
        await first.send(scene.beat(one, instance=b"first---", sequence=1))
        assert await first.receive() == BeatSeen(1, 1)
        await trio.sleep(1)
        await second.send(scene.beat(other, instance=b"second--", sequence=1))
        # What beat before it began to listen may be what it replaces.
        assert await second.receive() == BeatSeen(1, 1)
        await trio.sleep(1)
        mine = scene.beat(one, instance=b"first---", sequence=2)
        await first.send(mine)
        shown = await first.receive()
        assert await first.receive() == BeatSeen(2, 2)
        # With the proof: the other's beat, as the node's key signed it.
        assert shown == TwinHeard(scene.beat(other, instance=b"second--", sequence=1).beat)
        await second.send(scene.beat(other, instance=b"second--", sequence=2))
        assert await second.receive() == TwinHeard(mine.beat)
        assert await second.receive() == BeatSeen(2, 2)


async def test_a_restarted_node_is_not_taken_for_its_own_double(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    async with scene.dial(who) as link:
        await link.send(scene.beat(who, instance=b"before--", sequence=90))
        await link.receive()
        await trio.sleep(1)
        for sequence in range(1, 4):
            await link.send(scene.beat(who, instance=b"after---", sequence=sequence))
            assert await link.receive() == BeatSeen(sequence, 1)
            await trio.sleep(1)


async def test_instances_are_bounded_and_forgotten(scene: Scene, autojump_clock: MockClock) -> None:
    who = peer()
    async with scene.dial(who) as link:
        codes = []
        for number in range(10):
            instance = number.to_bytes(8, "big")
            await link.send(scene.beat(who, instance=instance, sequence=1))
            codes.append(type(await link.receive()))
        assert codes == [BeatSeen] * 8 + [Refused] * 2
        await trio.sleep(INSTANCE_SECONDS + 1)
        await link.send(scene.beat(who, instance=b"laterlat", sequence=1))
        assert await link.receive() == BeatSeen(1, 1)


async def test_only_a_newer_offer_replaces_an_offer(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    async with scene.dial(who) as link:
        now = int(clock())
        for sequence in (now + 5, now + 9, now + 7):
            await link.send(scene.offer(who, sequence=sequence))
        await link.send(scene.beat(who))
        await link.receive()
    _, (row,), _ = scene.hub.take()
    assert row["sequence"] == now + 9


async def test_an_old_offer_does_not_come_back_after_a_restart(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    now = int(clock())
    scene.hub.restore([(scene.node, now + 50)])
    async with scene.dial(who) as link:
        await link.send(scene.offer(who, sequence=now + 50))
        await link.send(scene.beat(who))
        await link.receive()
    assert scene.hub.take()[1] == []


@pytest.mark.parametrize(("issued", "expires"), [(-700, -100), (1000, 1600)])
async def test_an_offer_out_of_its_time_is_refused(
    scene: Scene, autojump_clock: MockClock, issued: int, expires: int
) -> None:
    who = peer()
    now = int(clock())
    async with scene.dial(who) as link:
        await link.send(scene.offer(who, issued_at=now + issued, expires_at=now + expires))
        answer = await link.receive()
    assert isinstance(answer, Refused)
    assert answer.code == "expired"


async def test_a_silent_or_parting_peer_is_let_go(scene: Scene, autojump_clock: MockClock) -> None:
    who = peer()
    async with scene.dial(who) as link:
        await link.send(Goodbye("draining"))
        with pytest.raises(PeerUnreachable):
            await link.receive()


async def test_an_answer_meant_for_nodes_is_refused_here(
    scene: Scene, autojump_clock: MockClock
) -> None:
    who = peer()
    async with scene.dial(who) as link:
        await link.send(BeatSeen(1, 1))
        answer = await link.receive()
    assert isinstance(answer, Refused)
    assert answer.code == "unexpected"


async def test_a_rotated_key_is_believed_at_once(scene: Scene, autojump_clock: MockClock) -> None:
    who = peer()
    new = LocalSigner(keccak(b"rotated"))
    scene.hub.learn(SEI, {scene.node: new.account})
    async with scene.dial(who) as link:
        await link.send(scene.beat(who, signer=new))
        assert isinstance(await link.receive(), BeatSeen)
        await link.send(scene.beat(who, sequence=2))
        answer = await link.receive()
    assert isinstance(answer, Refused)
    assert answer.code == "wrong_operator"
