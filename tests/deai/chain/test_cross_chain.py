"""What was signed for one chain is worth nothing on the other, in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from deai import actions as act
from deai.ids import AccountId, NodeId
from deai.signing import Domain, Ed25519Signer, LocalSigner
from deai.tasks import (
    Accept,
    Commitment,
    Result,
    accept_digest,
    commit_digest,
    result_digest,
    task_id,
)
from tests.support.ledger_conformance import Play, World, node_of, play, refused


@dataclass(frozen=True)
class Other:
    """The other kind of chain: its escrow, and how the same parties are called there."""

    escrow: Domain
    party: AccountId

    @property
    def node(self) -> NodeId:
        return node_of(self.party)


def other_chain(world: World) -> Other:
    name = world.reader.info.escrow.name
    if world.name == "near":
        party = AccountId("0x" + "c1" * 20)
        return Other(Domain(name, 1_328, AccountId("0x" + "5e" * 20)), party)
    return Other(Domain(name, "near:localnet", AccountId("compute.near")), AccountId("bob.near"))


def signatures(world: World, playing: Play, seat: int, digest: bytes) -> list[bytes]:
    """By the operator's own key, and by a key of the other chain's kind."""
    kind = LocalSigner if world.name == "near" else Ed25519Signer
    return [playing.providers[seat].operator.sign(digest), kind(b"\x11" * 32).sign(digest)]


async def test_an_accept_for_the_other_chain_seats_nobody(world: World) -> None:
    playing = await play(world, start=False)
    await playing.post()
    there, task = other_chain(world), playing.task
    good = playing.accepts()
    until = task.commit_deadline
    theirs = task_id(msgspec.structs.replace(task, client=there.party), there.escrow)
    for id_ in (theirs, playing.id):
        digest = accept_digest(there.escrow, id_, 0, 0, there.node, until)
        for signature in signatures(world, playing, 0, digest):
            presented = (Accept(good[0].node, until, signature), *good[1:])
            await refused(
                playing.as_client(act.AssignTask(task, presented), key=signature.hex()),
                "BadSignature",
                seat=0,
            )
    await playing.assign()
    assert len(await playing.committee()) == 3


async def test_neither_a_commitment_nor_a_result_of_the_other_chain_counts(world: World) -> None:
    playing = await play(world)
    there, committee = other_chain(world), await playing.committee()
    good = await playing.commitment(1)
    digest = commit_digest(there.escrow, playing.id, 1, 0, good.value)
    for signature in signatures(world, playing, 1, digest):
        action = act.CommitResults(playing.task, committee, (Commitment(1, good.value, signature),))
        await refused(playing.as_client(action, key=signature.hex()), "BadSignature", seat=1)
    pair = []
    for output in (b"\x01" * 32, b"\x02" * 32):
        digest = result_digest(there.escrow, playing.id, 1, 0, output, bytes(32))
        pair.append(Result(output, bytes(32), playing.providers[1].operator.sign(digest)))
    proof = act.ProveEquivocation(playing.task, committee, 1, pair[0], pair[1])
    await refused(playing.as_stranger(proof), "BadSignature", seat=1)
    assert not msgspec.structs.asdict(await playing.view())["commitments"]
