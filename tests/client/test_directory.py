"""Finding nodes: any source may lie or fail; only the registry's operator key makes an offer."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from deai.binding import Binding, Half, Side, SignedBinding, encode_draft, sign_half
from deai.client import local
from deai.client.coordinator import Coordinator, CoordinatorNodes, bound_of, hint_of
from deai.client.directory import Bound, Directory, Hint, PeerList, RegistryEvents
from deai.client.local import open_local
from deai.client.matching import Twin, Wish, rank
from deai.client.sessions import Sessions
from deai.errors import (
    CoordinatorUnreachable,
    Declined,
    LedgerUnreachable,
    MalformedMessage,
    NotSetUp,
)
from deai.ids import NEAR, SEI
from deai.money import UNIT
from deai.net import PeerAddress
from deai.offers import Signed, open_offer, sign_offer
from deai.tasks import Policy
from tests.client.support.node import Script
from tests.client.support.world import World, open_world, peer_name, signer
from tests.support.bindings import NEAR_OWNER, binding, draft, signed
from tests.support.polling import eventually

change = msgspec.structs.replace

WISH = Wish(
    workload="matmul-proof", version=1, model="", policy=Policy.EXACT, seats=3, units=1,
    max_fee=UNIT, seconds=100.0,
)  # fmt: skip


class Given:
    """A source that says what it is told to, or fails."""

    def __init__(self, hints: Sequence[Hint], error: Exception | None = None) -> None:
        self.name = "given"
        self._hints, self._error = hints, error

    async def hints(self) -> Sequence[Hint]:
        if self._error is not None:
            raise self._error
        return self._hints


async def find(world: World, tmp_path: Path, *sources: Any, fallback: Any = ()) -> list[str]:
    async with world.client(tmp_path) as client:
        directory = Directory(world.chain.ledger(), client.tools.sessions, sources, fallback)
        found = await directory.candidates(WISH, world.chain.now)
        return [one.node for one in found]


async def test_nodes_are_found_by_what_they_announced_on_chain_when_no_coordinator_answers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 3) as world:
        down = Given((), CoordinatorUnreachable("down"))
        found = await find(world, tmp_path, down, fallback=[RegistryEvents(world.chain.ledger())])
        assert sorted(found) == sorted(node.node for node in world.nodes)


async def test_a_forged_offer_is_not_believed_and_does_not_hide_the_genuine_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 3) as world:
        genuine = [
            Hint(PeerAddress(n.net.peer_id, n.net.addresses), n.node, await n.offer())
            for n in world.nodes
        ]
        victim = open_offer(genuine[0].offer, world.chain.info.registry)  # type: ignore[arg-type]
        cheaper = msgspec.structs.replace(victim, sequence=victim.sequence + 10**6)
        forged = Hint(
            genuine[0].peer,
            victim.node,
            sign_offer(cheaper, world.chain.info.registry, signer("a thief")),
        )
        broken = Hint(genuine[0].peer, victim.node, Signed(b"x", signer("a").account, bytes(64)))
        for order in ([forged, broken, *genuine], [*genuine, broken, forged]):
            found = await find(world, tmp_path, Given(order))
            assert sorted(found) == sorted(node.node for node in world.nodes)


async def bound_hint(world: World, index: int = 0) -> tuple[Hint, Binding]:
    """A node of the world, whose owner signed that it is `owner.testnet#0`, slashed there."""
    node, info, owner = world.nodes[index], world.chain.info, signer(f"owner of node-{index}")
    mine = Side(
        chain=SEI, chain_id=info.chain_id, registry=info.registry.contract, node=node.node,
        owner=owner.account, operator=node.operator.account,
    )  # fmt: skip
    body = binding(sei=mine)
    halves = (sign_half(body, owner), sign_half(body, NEAR_OWNER))
    place = PeerAddress(node.net.peer_id, node.net.addresses)
    return Hint(place, node.node, await node.offer(), Bound(SignedBinding(body, *halves), 5)), body


async def test_of_many_nodes_others_are_looked_at_in_every_search(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deai.client.directory.MAX_RECORDS", 3)
    async with open_world(*[Script()] * 9) as world, world.client(tmp_path) as client:
        peers = PeerList([PeerAddress(n.net.peer_id, n.net.addresses) for n in world.nodes])
        salts = iter(range(1, 100))
        directory = Directory(
            world.chain.ledger(), client.tools.sessions, [peers], (),
            random=lambda count: next(salts).to_bytes(count, "big"),
        )  # fmt: skip
        seen = set()
        for _ in range(12):
            found = await directory.candidates(WISH, world.chain.now, fresh=True)
            assert len(found) == 3
            again = await directory.candidates(WISH, world.chain.now)
            assert {one.node for one in again} == {one.node for one in found}
            seen |= {one.node for one in found}
        assert seen == {node.node for node in world.nodes}


async def test_a_twin_is_believed_when_both_owners_signed_for_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 2) as world, world.client(tmp_path) as client:
        hint, body = await bound_hint(world)
        source = Given([hint])
        directory = Directory(world.chain.ledger(), client.tools.sessions, [source], ())
        (found,) = await directory.candidates(WISH, world.chain.now)
        assert found.twin == Twin(body.near.node, NEAR, 5)
        (rejected,) = rank([found], WISH, now=world.chain.now, epoch=0, seed=b"s").rejected
        assert rejected.code == "slashed_elsewhere"
        assert hint.bound is not None
        newer = change(body, nonce=body.nonce + 1)
        owner = signer("owner of node-0")
        again = SignedBinding(newer, sign_half(newer, owner), sign_half(newer, NEAR_OWNER))
        for bound in (replace(hint.bound, slashed=0), Bound(again, 0)):
            source._hints = [replace(hint, bound=bound)]
            (found,) = await directory.candidates(WISH, world.chain.now, fresh=True)
            assert found.twin == Twin(body.near.node, NEAR, 5)


async def test_a_slash_that_one_source_told_is_not_taken_back_by_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 2) as world, world.client(tmp_path) as client:
        places = [PeerAddress(one.net.peer_id, one.net.addresses) for one in world.nodes]
        hints = [
            Hint(place, one.node, await one.offer())
            for place, one in zip(places, world.nodes, strict=True)
        ]
        source = Given([hints[0], replace(hints[1], slashed=True)])
        directory = Directory(world.chain.ledger(), client.tools.sessions, [source], ())
        for fresh in (False, True):
            found = await directory.candidates(WISH, world.chain.now, fresh=fresh)
            assert [one.slashed for one in found] == [False, True]
            ranking = rank(found, WISH, now=world.chain.now, epoch=0, seed=b"s")
            assert [(one.node, one.code) for one in ranking.rejected] == [
                (world.nodes[1].node, "slashed")
            ]
            source._hints = hints


async def test_a_twin_that_an_owner_did_not_sign_for_is_left_out_and_the_node_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 2) as world:
        hint, body = await bound_hint(world)
        bound = hint.bound
        assert bound is not None
        thief = signer("a thief")
        elsewhere = change(body, sei=change(body.sei, registry=thief.account))
        others = (await bound_hint(world, 1))[0].bound
        forged = [
            change(bound.binding, sei=Half(thief.account, bound.binding.sei.signature)),
            change(bound.binding, sei=sign_half(body, thief)),
            change(bound.binding, near=bound.binding.sei),
            change(bound.binding, binding=change(body, nonce=8)),
            SignedBinding(
                elsewhere, sign_half(elsewhere, signer("owner of node-0")),
                sign_half(elsewhere, NEAR_OWNER),
            ),
            others.binding if others is not None else None,
        ]  # fmt: skip
        for one in forged:
            assert one is not None
            lie = replace(hint, bound=Bound(one, 5))
            async with world.client(tmp_path) as client:
                directory = Directory(
                    world.chain.ledger(), client.tools.sessions, [Given([lie])], ()
                )
                (found,) = await directory.candidates(WISH, world.chain.now)
                assert found.twin is None
                assert any("its binding is not genuine" in note for note in directory.notes)


def test_a_coordinators_words_about_a_twin_are_read_within_bounds() -> None:
    document = json.loads(encode_draft(draft()))
    told: dict[str, Any] = {"slashed": "25", "binding": document, "standing": "jailed"}

    assert bound_of(told) == Bound(signed(), 25)
    half = json.loads(encode_draft(draft(near=False)))
    wrongs: tuple[object, ...] = (
        None, [], {}, {"slashed": "25"}, {**told, "slashed": "-1"}, {**told, "slashed": "٣"},
        {**told, "slashed": "9" * 31}, {**told, "slashed": 2.5}, {**told, "binding": half},
        {**told, "binding": {**document, "more": 1}}, {**told, "binding": "x" * 9000},
        {**told, "binding": {**document, "nonce": float("nan")}},
    )  # fmt: skip
    for wrong in wrongs:
        assert bound_of(wrong) is None


async def test_without_the_chain_nobody_is_believed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script()) as world, world.client(tmp_path) as client:
        node = world.nodes[0]
        peer = PeerAddress(node.net.peer_id, node.net.addresses)
        source = Given([Hint(peer, node.node, await node.offer())])
        directory = Directory(world.chain.ledger(), client.tools.sessions, [source], ())
        world.chain.set_reachable(False)
        with pytest.raises(LedgerUnreachable):
            await directory.candidates(WISH, world.chain.now)


async def test_a_peer_that_does_not_answer_is_noted_and_left_out(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(*[Script()] * 2) as world, world.client(tmp_path) as client:
        peers = [PeerAddress(n.net.peer_id, n.net.addresses) for n in world.nodes]
        world.network.freeze(world.nodes[0].net.peer_id)
        sessions: Sessions = client.tools.sessions
        directory = Directory(world.chain.ledger(), sessions, [PeerList(peers)], ())
        found = await directory.candidates(WISH, world.chain.now)
        assert [one.node for one in found] == [world.nodes[1].node]
        assert any(world.nodes[0].net.peer_id in note for note in directory.notes)


@contextmanager
def coordinator(status: int, body: bytes) -> Iterator[str]:
    """A server that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.network
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", CoordinatorUnreachable),
        (500, b"{}", CoordinatorUnreachable),
        (404, b'{"title": "no such node"}', Declined),
        (200, b'{"items": 3}', MalformedMessage),
        (200, b"[" * 100_000, CoordinatorUnreachable),
        (200, b'{"items": [0, "[", {"a": ' * 100_000, CoordinatorUnreachable),
        (200, b"\xff", CoordinatorUnreachable),
        (200, b" " * (9 * 1024 * 1024), CoordinatorUnreachable),
    ],
)
async def test_a_coordinator_that_talks_nonsense_is_an_error_of_its_own_kind(
    status: int, body: bytes, error: type[Exception]
) -> None:
    with coordinator(status, body) as url, pytest.raises(error):
        await CoordinatorNodes(Coordinator([url])).hints()


@pytest.mark.network
@pytest.mark.parametrize(("status", "body"), [(503, b"{}"), (200, b"<html>"), (502, b"sorry")])
async def test_the_second_coordinator_is_asked_when_the_first_is_ill(
    status: int, body: bytes
) -> None:
    with coordinator(200, b'{"ok": true}') as url, coordinator(status, body) as ill:
        assert await Coordinator([ill, url]).get("/network/stats") == {"ok": True}
        with pytest.raises(CoordinatorUnreachable, match=ill):
            await Coordinator([ill]).get("/network/stats")


@pytest.mark.network
async def test_the_second_coordinator_is_asked_when_the_first_is_down() -> None:
    with coordinator(200, b'{"ok": true}') as url:
        assert await Coordinator(["http://127.0.0.1:9", url]).get("/network/stats") == {"ok": True}
    with pytest.raises(CoordinatorUnreachable, match="no coordinator answered"):
        await Coordinator(["http://127.0.0.1:9"]).get("/network/stats")
    with pytest.raises(CoordinatorUnreachable, match="no coordinator is configured"):
        await Coordinator([]).get("/network/stats")


async def test_a_coordinators_entry_is_read_and_a_broken_one_passed_over(
    autojump_clock: MockClock,
) -> None:
    async with open_world(Script()) as world:
        node = world.nodes[0]
        signed = await node.offer()
        entry = {
            "node_id": node.node,
            "peer_id": node.net.peer_id,
            "addresses": list(node.net.addresses),
            "offer": {
                "body": base64.b64encode(signed.body).decode(),
                "operator": signed.operator,
                "signature": base64.b64encode(signed.signature).decode(),
            },
        }
        hint = hint_of(json.loads(json.dumps(entry)))
        assert hint is not None
        assert hint.offer == signed
        assert not hint.slashed
        for told, slashed in (("0", False), ("1", True), ("9" * 30, True)):
            hint = hint_of({**entry, "slashed": told})
            assert hint is not None
            assert hint.slashed is slashed
        broken: object
        for broken in (
            None, [], {}, {**entry, "peer_id": "?"}, {**entry, "node_id": 7},
            {**entry, "slashed": "-1"}, {**entry, "slashed": "9" * 31}, {**entry, "slashed": None},
        ):  # fmt: skip
            assert hint_of(broken) is None
        without = hint_of({**entry, "offer": {"body": "%%"}})
        assert without is not None
        assert without.offer is None


ANNOUNCE = """
import sys, trio
from deai.net import PeerAddress
from p2p.mdns import announce_mdns

async def main():
    async with announce_mdns(PeerAddress(sys.argv[1], ("/ip4/127.0.0.1/tcp/4001",)), sys.argv[2]):
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
"""


@pytest.mark.network
@pytest.mark.slow
async def test_what_another_process_announces_on_the_local_network_is_a_hint(
    tmp_path: Path,
) -> None:
    peer, name = peer_name("a neighbour"), f"test-{tmp_path.parent.name}"
    announcing = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCE, peer, name], stdin=subprocess.PIPE
    )
    try:
        async with open_local(name) as source:
            hints = await eventually(source.hints, 60)
    finally:
        announcing.communicate()
    assert hints == (Hint(PeerAddress(peer, ("/ip4/127.0.0.1/tcp/4001",))),)
    assert announcing.returncode == 0


async def test_without_multicast_the_other_sources_are_asked(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(network: str) -> Any:
        raise NotSetUp("no multicast on this machine")

    monkeypatch.setattr(local, "open_mdns", without)
    async with open_world(Script()) as world, world.client(tmp_path) as client:
        node = world.nodes[0]
        peers = PeerList([PeerAddress(node.net.peer_id, node.net.addresses)])
        async with open_local("test") as source:
            directory = Directory(world.chain.ledger(), client.tools.sessions, [source, peers], ())
            found = await directory.candidates(WISH, world.chain.now)
        assert [one.node for one in found] == [node.node]
        assert directory.notes == ["mdns: no multicast on this machine"]
