"""Nodes that can be paid by voucher: with an open channel of this home, and an offer that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deai.channels import Channel, ChannelRecord, ChannelState, channel_id
from deai.client.lane.halts import command
from deai.client.matching import Ranked, Ranking, Wish, explain, rank
from deai.client.tools import Tools
from deai.errors import NotSetUp, TaskDeclined
from deai.ids import AccountId, ChannelId, NodeId
from deai.keys import load_signer
from deai.net import PeerAddress
from deai.offers import WorkloadOffer
from deai.signing import Domain, Signer


@dataclass(frozen=True, slots=True)
class Place:
    """A node with an open channel, what it asks, and the key that promises for the client."""

    peer: PeerAddress
    operator: AccountId
    offer: WorkloadOffer
    channel: Channel
    id: ChannelId
    record: ChannelRecord
    key: Signer = field(repr=False)

    @property
    def node(self) -> NodeId:
        """Whose it is."""
        return self.channel.node


def session_key_file(home: Path, node: NodeId) -> Path:
    """Where a home keeps the key that promises in its channel with a node."""
    return home / "keys" / "channels" / f"{node}.json"


@dataclass(frozen=True, slots=True)
class Survey:
    """Every node that would do, the best first, and the channel with it if this home has a key."""

    ranking: Ranking
    nodes: tuple[tuple[Ranked, WorkloadOffer, Place | None], ...]

    @property
    def open(self) -> tuple[Place, ...]:
        """Those that can be paid now."""
        return tuple(
            place
            for _, _, place in self.nodes
            if place is not None and place.record.state is ChannelState.OPEN
        )


async def find_places(tools: Tools, wish: Wish) -> tuple[Place, ...]:
    """Every node that fits and has an open channel of this account, the cheapest first.

    Raises `TaskDeclined` where no node fits at all, `NotSetUp` where none that does has an open
    channel, and what the ledger raises.
    """
    for fresh in (False, True):
        found = await survey(tools, wish, fresh=fresh)
        if found.open:
            return found.open
    raise no_place(found, wish, tools)


async def survey(tools: Tools, wish: Wish, *, fresh: bool) -> Survey:
    """Look at everybody; raises what the ledger raises."""
    head = await tools.ledger.head()
    parameters = await tools.ledger.parameters()
    epoch = head.time // parameters.epoch_seconds
    candidates = await tools.directory.candidates(wish, head.time, fresh=fresh)
    ranking = rank(candidates, wish, now=head.time, epoch=epoch, seed=tools.random(32))
    nodes = []
    for one in ranking.fit:
        offer = _offer(one, wish)
        nodes.append((one, offer, await _place(tools, one, offer)))
    return Survey(ranking, tuple(nodes))


def no_place(found: Survey, wish: Wish, tools: Tools) -> NotSetUp | TaskDeclined:
    """Why nobody can be paid now."""
    if not found.ranking.fit:
        return explain(found.ranking, wish)
    places = [place for _, _, place in found.nodes if place is not None]
    closing = [one.node for one in places if one.record.state is ChannelState.CLOSING]
    return _no_channel(found.ranking.fit, closing, wish.nodes, tools.ledger.info.channels)


def _offer(one: Ranked, wish: Wish) -> WorkloadOffer:
    return next(
        offer
        for offer in one.candidate.offer.workloads
        if (offer.workload, offer.version) == (wish.workload, wish.version)
    )


async def _place(tools: Tools, one: Ranked, offered: WorkloadOffer) -> Place | None:
    path = session_key_file(tools.home, one.node)
    info = tools.ledger.info

    def read() -> Signer | None:
        if not path.exists():
            return None
        return load_signer(path, tools.passphrase, chain=info.name)

    key: Signer | None = await tools.offload(read)
    if key is None:
        return None
    channel = Channel(tools.account, one.node, key.account)
    id_ = channel_id(channel, info.channels)
    record = await tools.ledger.channel(id_)
    return Place(
        one.candidate.peer, one.candidate.record.operator, offered, channel, id_, record, key
    )


def _no_channel(
    fit: Sequence[Ranked], closing: Sequence[NodeId], nodes: Sequence[NodeId], domain: Domain
) -> NotSetUp | TaskDeclined:
    if closing:
        return TaskDeclined(
            f"the channel with {closing[0]} is closing",
            hint="finish it, then open it again: "
            + command(f"deai channel close {closing[0]}", domain),
            code="closing",
        )
    best = fit[0].node
    which = "the nodes that were named" if nodes else f"the {len(fit)} nodes that would do"
    return NotSetUp(
        f"no channel is open with {which}",
        hint=command(f"open one: deai channel open {best} 10CT", domain),
        code="no_channel",
    )
