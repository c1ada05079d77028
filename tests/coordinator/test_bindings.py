"""Bindings at the hub: only in both directions, one a node, for good; under hostile peers, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
import trio
from trio.testing import MockClock

from coordinator import bindings as module
from coordinator.hub import MAX_REFUSALS, MESSAGE_BURST, Hub
from coordinator.metrics import Metrics
from deai.binding import Binding, Half, SignedBinding, binding_digest, decode_draft, sign_half
from deai.errors import LedgerUnreachable, MalformedMessage, PeerUnreachable
from deai.ids import NEAR, SEI, AccountId, ChainName, PeerId, near_node_id, node_id
from deai.messages import BEAT_DIALECT, BeatMessage, BindingSeen, PublishBinding, Refused
from deai.net import Link, PeerAddress
from deai.signing import Domain
from deai.tasks import REGISTRY_NAME
from p2p.memory import MemoryNetwork
from tests.coordinator.support import peer
from tests.support.bindings import NEAR_OWNER, binding, near_signer, signed
from tests.support.samples import signer

NOW = 1_800_000_000.0
change = msgspec.structs.replace


@dataclass
class NearKeys:
    """What NEAR says about keys; counts how often it is asked."""

    full: set[tuple[str, str]] = field(default_factory=set)
    asked: int = 0
    is_reachable: bool = True
    answer_after: float = 0.0

    async def __call__(self, chain: ChainName, account: AccountId, key: AccountId) -> bool:
        assert chain == NEAR
        self.asked += 1
        await trio.sleep(self.answer_after)
        if not self.is_reachable:
            raise LedgerUnreachable("down")
        return (account, key) in self.full


@dataclass
class Scene:
    """A hub that follows both chains, on which two nodes are registered."""

    hub: Hub
    keys: NearKeys
    network: MemoryNetwork
    address: PeerAddress

    @asynccontextmanager
    async def dial(self, who: PeerId) -> AsyncIterator[Link[BeatMessage]]:
        async with (
            self.network.open_net(who) as net,
            net.dial(self.address, BEAT_DIALECT, timeout=5) as link,
        ):
            yield link

    async def say(self, *statements: SignedBinding) -> list[BeatMessage]:
        """What the hub answers to one peer after the other."""
        answers = []
        for one in statements:
            async with self.dial(peer()) as link:
                await link.send(PublishBinding(one))
                answers.append(await link.receive())
        return answers

    async def code(self, statement: SignedBinding) -> str:
        """Why the hub refuses."""
        (answer,) = await self.say(statement)
        assert isinstance(answer, Refused)
        return answer.code

    async def is_cut_off(self, statement: SignedBinding) -> bool:
        async with self.dial(peer()) as link:
            await link.send(PublishBinding(statement))
            try:
                await link.receive()
            except (PeerUnreachable, MalformedMessage):
                return True
        return False

    def learn(self, *bodies: Binding) -> None:
        """Let the index know the registrations that bindings name."""
        for body in bodies:
            for side in (body.sei, body.near):
                self.hub.learn(side.chain, {side.node: side.operator})
            self.keys.full.add((body.near.owner, NEAR_OWNER.account))


def registry_of(body: Binding, chain: str) -> Domain:
    side = body.side(chain)
    return Domain(REGISTRY_NAME, side.chain_id, side.registry)


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    body, keys = binding(), NearKeys()
    hub = Hub(
        {chain: registry_of(body, chain) for chain in (SEI, NEAR)},
        keys,
        clock=lambda: NOW + trio.current_time(),
        metrics=Metrics(),
    )
    network = MemoryNetwork()
    async with network.open_net(peer()) as net, trio.open_nursery() as nursery:
        await nursery.start(net.serve, BEAT_DIALECT, hub.serve)
        found = Scene(hub, keys, network, PeerAddress(net.peer_id, net.addresses))
        found.learn(body)
        yield found
        nursery.cancel_scope.cancel()


async def test_a_binding_that_both_owners_signed_is_kept_from_any_peer(
    scene: Scene, autojump_clock: MockClock
) -> None:
    assert await scene.say(signed()) == [BindingSeen(7)]

    rows = scene.hub.take().bindings
    body = binding()
    assert [(row["node_id"], row["twin_id"], row["nonce"]) for row in rows] == [
        (body.sei.node, body.near.node, 7),
        (body.near.node, body.sei.node, 7),
    ]
    assert all(decode_draft(row["document"].encode()).signed == signed() for row in rows)
    assert scene.hub.take().bindings == []


async def test_a_binding_said_again_costs_no_question_and_no_row(
    scene: Scene, autojump_clock: MockClock
) -> None:
    assert await scene.say(signed(), signed()) == [BindingSeen(7)] * 2

    assert len(scene.hub.take().bindings) == 2
    assert scene.keys.asked == 1


async def test_a_newer_binding_of_the_same_pair_replaces_and_an_older_one_changes_nothing(
    scene: Scene,
    autojump_clock: MockClock,
) -> None:
    newer, older = signed(binding(nonce=9)), signed(binding(nonce=8))

    assert await scene.say(signed(), newer, older) == [
        BindingSeen(7), BindingSeen(9), BindingSeen(9),
    ]  # fmt: skip
    assert {row["nonce"] for row in scene.hub.take().bindings} == {9}


async def test_a_binding_from_before_a_restart_is_neither_replayed_nor_left(
    scene: Scene, autojump_clock: MockClock
) -> None:
    body = binding()
    scene.hub.restore([], [(body.sei.node, body.near.node, 7), (body.near.node, body.sei.node, 7)])
    other = _with_twin(body, 1)
    scene.learn(other)

    assert await scene.say(signed(binding(nonce=6)), signed()) == [BindingSeen(7)] * 2
    assert await scene.code(signed(change(other, nonce=10))) == "bound_elsewhere"
    assert scene.hub.take().bindings == []


def _with_twin(body: Binding, index: int) -> Binding:
    """The Sei node with another NEAR node of the same owner."""
    return change(body, near=change(body.near, node=near_node_id(body.near.owner, index)))


async def test_a_node_has_one_twin_whoever_signs_and_however_late(
    scene: Scene, autojump_clock: MockClock
) -> None:
    body = binding()
    on_near = _with_twin(body, 1)
    on_sei = change(body, sei=change(body.sei, node=node_id(body.sei.owner, 1)))
    scene.learn(on_near, on_sei)
    await scene.say(signed())

    for other in (on_near, on_sei):
        assert await scene.code(signed(change(other, nonce=1000))) == "bound_elsewhere"
    assert {row["nonce"] for row in scene.hub.take().bindings} == {7}


async def test_of_two_twins_at_once_one_is_taken(scene: Scene, autojump_clock: MockClock) -> None:
    scene.keys.answer_after = 1.0
    other = _with_twin(binding(), 1)
    scene.learn(other)
    answers: list[BeatMessage] = []

    async def say(statement: SignedBinding) -> None:
        answers.extend(await scene.say(statement))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, signed())
        nursery.start_soon(say, signed(other))

    assert sorted(type(one).__name__ for one in answers) == ["BindingSeen", "Refused"]
    assert len(scene.hub.take().bindings) == 2


async def test_one_direction_alone_binds_nothing_and_cuts_the_peer_off(
    scene: Scene, autojump_clock: MockClock
) -> None:
    whole = signed()

    assert await scene.is_cut_off(change(whole, near=whole.sei))
    assert await scene.is_cut_off(change(whole, sei=whole.near))
    assert await scene.is_cut_off(change(whole, near=Half(NEAR_OWNER.account, bytes(64))))
    assert scene.hub.take().bindings == []
    assert scene.keys.asked == 0


async def test_a_stranger_cannot_drag_a_node_into_his_slash(
    scene: Scene, autojump_clock: MockClock
) -> None:
    body, thief = binding(), signer(99)
    mine = change(body, sei=change(body.sei, node=node_id(thief.account, 0), owner=thief.account))
    scene.learn(mine)
    his_half = sign_half(mine, thief)
    no_key_of_the_victim = SignedBinding(mine, his_half, sign_half(mine, near_signer(98)))
    victims_other_statement = SignedBinding(mine, his_half, signed().near)
    names_the_victim = SignedBinding(
        body, Half(body.sei.owner, thief.sign(binding_digest(body))), signed().near
    )

    assert await scene.code(no_key_of_the_victim) == "not_the_owner"
    assert await scene.is_cut_off(victims_other_statement)
    assert await scene.is_cut_off(names_the_victim)
    assert scene.hub.take().bindings == []


async def test_a_function_call_key_does_not_speak_for_its_account(
    scene: Scene, autojump_clock: MockClock
) -> None:
    hot = near_signer(74)  # the operator's own key, which NEAR knows for a few methods only
    statement = change(signed(), near=sign_half(binding(), hot))

    assert await scene.code(statement) == "not_the_owner"


@pytest.mark.parametrize(
    ("side", "name", "value"),
    [
        ("sei", "chain_id", 1329),
        ("sei", "registry", AccountId("0x" + "ee" * 20)),
        ("near", "chain_id", "near:mainnet"),
        ("near", "registry", AccountId("other.testnet")),
    ],
)
async def test_a_binding_of_another_network_is_refused(
    scene: Scene, autojump_clock: MockClock, side: str, name: str, value: object
) -> None:
    body = binding()
    elsewhere = change(body, **{side: change(body.side(side), **{name: value})})
    moved = SignedBinding(elsewhere, signed().sei, signed().near)

    assert await scene.code(signed(elsewhere)) == "other_network"
    assert await scene.code(moved) == "other_network"


async def test_both_registrations_must_be_there_with_these_operators(
    scene: Scene, autojump_clock: MockClock
) -> None:
    body = binding()
    unknown = _with_twin(body, 5)
    rotated = change(body, sei=change(body.sei, operator=signer(97).account))

    assert await scene.code(signed(unknown)) == "unknown_node"
    assert await scene.code(signed(rotated)) == "wrong_operator"


async def test_a_key_rotated_later_does_not_undo_a_binding(
    scene: Scene, autojump_clock: MockClock
) -> None:
    await scene.say(signed())
    scene.hub.learn(SEI, {binding().sei.node: signer(97).account})

    assert await scene.say(signed()) == [BindingSeen(7)]
    other = _with_twin(binding(), 1)
    scene.learn(other)
    assert await scene.code(signed(change(other, nonce=99))) == "bound_elsewhere"


async def test_a_chain_that_does_not_answer_decides_nothing(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.keys.is_reachable = False
    assert await scene.code(signed()) == "chain_unreachable"
    scene.keys.is_reachable = True
    scene.keys.answer_after = module.CHAIN_TIMEOUT + 1
    assert await scene.code(signed()) == "chain_unreachable"
    scene.keys.answer_after = 0
    assert await scene.say(signed()) == [BindingSeen(7)]


async def test_a_side_of_the_wrong_kind_cuts_the_peer_off(
    scene: Scene, autojump_clock: MockClock
) -> None:
    body = binding()
    crossed = change(body, near=change(body.near, operator=body.sei.operator))

    assert await scene.is_cut_off(SignedBinding(crossed, signed().sei, signed().near))


def strangers(count: int) -> Sequence[SignedBinding]:
    """Bindings of the real NEAR node to made-up nodes of somebody else, signed as he can."""
    thief, key = signer(99), near_signer(98)
    body = binding()
    found = []
    for index in range(count):
        mine = change(
            body,
            sei=change(body.sei, node=node_id(thief.account, index), owner=thief.account),
        )
        found.append(SignedBinding(mine, sign_half(mine, thief), sign_half(mine, key)))
    return found


async def _flood(scene: Scene, statements: Sequence[SignedBinding]) -> int:
    """How many of 10,000 messages of one peer are answered before it is cut off."""
    async with scene.dial(peer()) as link:
        for number in range(10_000):
            try:
                await link.send(PublishBinding(statements[number % len(statements)]))
                await link.receive()
            except (PeerUnreachable, MalformedMessage):
                return number
    raise AssertionError("nobody was cut off")


async def test_ten_thousand_statements_of_one_peer_are_cut_off_after_a_few(
    scene: Scene, autojump_clock: MockClock
) -> None:
    answered = await _flood(scene, strangers(60))

    assert answered <= MAX_REFUSALS
    assert scene.keys.asked == 0
    assert scene.hub.take().bindings == []
    assert await scene.say(signed()) == [BindingSeen(7)]


async def test_a_valid_statement_repeated_ten_thousand_times_is_too_fast(
    scene: Scene, autojump_clock: MockClock
) -> None:
    answered = await _flood(scene, [signed()])

    assert answered <= MESSAGE_BURST + 1
    assert scene.keys.asked == 1


async def test_many_peers_together_ask_the_chain_no_faster_than_allowed(
    scene: Scene, autojump_clock: MockClock
) -> None:
    statements = strangers(80)
    scene.learn(*(one.binding for one in statements))

    codes = [await scene.code(one) for one in statements]

    assert set(codes) == {"not_the_owner", "busy"}
    assert scene.keys.asked <= module.QUESTION_BURST + trio.current_time() * (
        module.QUESTIONS_PER_SECOND
    )
    await trio.sleep(1)
    assert await scene.say(signed()) == [BindingSeen(7)]


async def test_those_who_wait_for_the_chain_are_few_and_wait_briefly(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.keys.answer_after = 1.0
    statements = strangers(module.MAX_WAITING + 10)
    scene.learn(*(one.binding for one in statements))
    codes: list[str] = []

    async def say(statement: SignedBinding) -> None:
        codes.append(await scene.code(statement))

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for one in statements:
            nursery.start_soon(say, one)

    assert trio.current_time() - started <= module.CHAIN_TIMEOUT + 1
    assert codes.count("busy") >= 9
    assert codes.count("chain_unreachable") >= module.MAX_WAITING - 6
    assert codes.count("not_the_owner") == scene.keys.asked - 1
    assert scene.keys.asked <= module.CHAIN_TIMEOUT + 1
