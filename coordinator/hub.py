"""The heartbeat hub: hears nodes over the peers' net, believes only what their operator signed.

A beat or an offer counts when its signature is that of the operator which the chain names for
the node, and when it came from the peer it was made for: nobody can replay somebody else's.
What a stranger can make grow is bounded: one entry per registered node, a few instances each,
a rate per link. Nothing here decides about money or work; losing it loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import trio

from coordinator.bindings import Bindings, SpeaksFor
from coordinator.metrics import Metrics
from coordinator.operators import Operators, Refusal
from coordinator.store.rows import Row
from deai.errors import BadSignature, MalformedMessage, PeerUnreachable
from deai.ids import AccountId, ChainName, NodeId
from deai.messages import (
    BeatMessage,
    BeatSeen,
    BindingSeen,
    Goodbye,
    PublishBeat,
    PublishBinding,
    PublishOffer,
    Refused,
    TwinHeard,
)
from deai.net import Link
from deai.offers import Beat, Offer, Signed, open_beat, open_offer
from deai.signing import Domain

T = TypeVar("T")

MAX_INSTANCES: Final = 8
INSTANCE_SECONDS: Final = 15.0
"""An instance that was not heard for this long is gone."""
MESSAGES_PER_SECOND: Final = 5.0
MESSAGE_BURST: Final = 30.0
MAX_REFUSALS: Final = 10
"""A link is closed after this many: whoever it is, it is not learning."""
LINK_SILENCE: Final = 120.0
REPLY_TIMEOUT: Final = 10.0
MAX_AHEAD: Final = 300
"""Seconds by which a node's clock may be ahead of ours in an offer."""


@dataclass
class _Instance:
    first: float
    last: float
    sequence: int
    beat: Signed
    """The newest, as its node signed it."""


@dataclass
class _Heard:
    """What one node said."""

    sequence: int = -1
    offer_sequence: int = -1
    instances: dict[bytes, _Instance] = field(default_factory=dict)


class Gossip(NamedTuple):
    """Rows of what was heard and not stored yet."""

    beats: list[Row]
    offers: list[Row]
    bindings: list[Row]


class Hub:
    """Serves `BEAT_DIALECT` links and keeps what is worth storing until it is fetched."""

    def __init__(
        self,
        domains: Mapping[ChainName, Domain],
        speaks_for: SpeaksFor,
        *,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        """`clock` is Unix seconds; `domains` are the registries of the chains that count."""
        self._domains = dict(domains)
        self._clock = clock
        self._metrics = metrics
        self._operators = Operators(domains)
        self._bindings = Bindings(self._domains, self._operators, speaks_for, clock)
        self._heard: dict[NodeId, _Heard] = {}
        self._beats: dict[NodeId, Row] = {}
        self._offers: dict[NodeId, Row] = {}

    def learn(self, chain: ChainName, operators: Mapping[NodeId, AccountId]) -> None:
        """Take over which key the chain names for which node."""
        self._operators.learn(chain, operators)

    def restore(
        self,
        offers: Iterable[tuple[NodeId, int]],
        bindings: Iterable[tuple[NodeId, NodeId, int]] = (),
    ) -> None:
        """Remember what was heard before a restart, so that nothing older replaces it.

        Offers as node and sequence, bindings as node, twin and nonce.
        """
        for node, sequence in offers:
            self._heard.setdefault(node, _Heard()).offer_sequence = sequence
        self._bindings.restore(bindings)

    def take(self) -> Gossip:
        """What is new since the last call."""
        found = Gossip(
            list(self._beats.values()), list(self._offers.values()), self._bindings.take()
        )
        self._beats, self._offers = {}, {}
        return found

    def give_back(self, gossip: Gossip) -> None:
        """What could not be stored is new again, unless something newer was heard meanwhile."""
        for mine, rows in ((self._beats, gossip.beats), (self._offers, gossip.offers)):
            for row in rows:
                mine.setdefault(row["node_id"], row)
        self._bindings.give_back(gossip.bindings)

    async def serve(self, link: Link[BeatMessage]) -> None:
        """Listen to one peer until it leaves, breaks a rule or falls silent."""
        allowance, at, refusals = MESSAGE_BURST, trio.current_time(), 0
        while refusals < MAX_REFUSALS:
            message = None
            with trio.move_on_after(LINK_SILENCE):
                message = await link.receive()
            if message is None or isinstance(message, Goodbye):
                return
            now = trio.current_time()
            allowance = min(MESSAGE_BURST, allowance + (now - at) * MESSAGES_PER_SECOND) - 1
            at = now
            if allowance < 0:
                self._metrics.beats.labels("too_fast").inc()
                await _reply(link, Refused(None, "too_fast", "slow down: 5 messages a second"))
                return
            try:
                await self._take_in(link, message)
            except Refusal as refusal:
                refusals += 1
                self._metrics.beats.labels(refusal.message.code).inc()
                await _reply(link, refusal.message)
            except (BadSignature, MalformedMessage) as error:
                self._metrics.beats.labels(error.code).inc()
                raise  # the net cuts the peer off

    async def _take_in(self, link: Link[BeatMessage], message: BeatMessage) -> None:
        match message:
            case PublishBeat():
                chain, beat = self._open(message.beat, open_beat)
                await self._operators.check(chain, beat.node, message.beat.operator)
                for answer in self._beat(link, chain, beat, message.beat):
                    await _reply(link, answer)
                self._metrics.beats.labels("taken").inc()
            case PublishOffer():
                chain, offer = self._open(message.offer, open_offer)
                await self._operators.check(chain, offer.node, message.offer.operator)
                self._offer(link, chain, offer, message.offer)
                self._metrics.beats.labels("offer").inc()
            case PublishBinding():
                nonce = await self._bindings.take_in(message.signed)
                await _reply(link, BindingSeen(nonce))
                self._metrics.beats.labels("binding").inc()
            case _:
                raise Refusal("unexpected", "this is a hub: it takes beats, offers and bindings")

    def _open(self, signed: Signed, opener: Callable[[Signed, Domain], T]) -> tuple[ChainName, T]:
        error = BadSignature("no chain of this hub")
        for chain, domain in self._domains.items():
            try:
                return chain, opener(signed, domain)
            except BadSignature as failed:
                error = failed
        raise error

    def _beat(
        self, link: Link[BeatMessage], chain: ChainName, beat: Beat, signed: Signed
    ) -> tuple[BeatMessage, ...]:
        if beat.peer_id != link.peer_id:
            raise Refusal("wrong_peer", "this beat was made for another peer")
        now = self._clock()
        heard = self._heard.setdefault(beat.node, _Heard())
        instance = self._instance(heard, beat, now, signed)
        others = _others(heard, instance, now)
        alive = min(255, 1 + len(others))
        if beat.sequence > instance.sequence:
            instance.sequence, instance.last, instance.beat = beat.sequence, now, signed
            heard.sequence = beat.sequence
            self._beats[beat.node] = {
                "node_id": beat.node,
                "chain": chain,
                "peer_id": beat.peer_id,
                "sequence": beat.sequence,
                "received_at": now,
                "sent_at": beat.sent_at,
                "mode": beat.mode,
                "running": beat.running,
                "queued": beat.queued,
                "completed": beat.completed,
                "failed": beat.failed,
                "head": beat.head,
                "instances": alive,
            }
        seen = BeatSeen(instance.sequence, alive)
        if not others:
            return (seen,)
        return TwinHeard(max(others, key=lambda one: one.last).beat), seen

    def _instance(self, heard: _Heard, beat: Beat, now: float, signed: Signed) -> _Instance:
        found = heard.instances.get(beat.instance)
        if found is None:
            for old in [
                key for key, one in heard.instances.items() if now - one.last > INSTANCE_SECONDS
            ]:
                del heard.instances[old]
            if len(heard.instances) >= MAX_INSTANCES:
                raise Refusal("too_many_instances", "too many processes run with one key")
            found = heard.instances[beat.instance] = _Instance(now, now, -1, signed)
        return found

    def _offer(
        self, link: Link[BeatMessage], chain: ChainName, offer: Offer, signed: Signed
    ) -> None:
        now = self._clock()
        if offer.peer_id != link.peer_id:
            raise Refusal("wrong_peer", "this offer was made for another peer")
        if offer.expires_at <= now or offer.issued_at > now + MAX_AHEAD:
            raise Refusal("expired", "this offer is not valid now; check the clock")
        heard = self._heard.setdefault(offer.node, _Heard())
        if offer.sequence <= heard.offer_sequence:
            return  # an older one, or the same again: the newest stays
        heard.offer_sequence = offer.sequence
        self._offers[offer.node] = {
            "node_id": offer.node,
            "chain": chain,
            "sequence": offer.sequence,
            "expires_at": offer.expires_at,
            "received_at": now,
            "operator": signed.operator,
            "body": signed.body,
            "signature": signed.signature,
        }


def _others(heard: _Heard, me: _Instance, now: float) -> list[_Instance]:
    """Other processes that beat with this node's key, as far as it matters to `me`.

    Only those heard after `me` began count: the process that a restart replaced fell silent.
    """
    return [
        one
        for one in heard.instances.values()
        if one is not me and one.last > me.first and now - one.last <= INSTANCE_SECONDS
    ]


async def _reply(link: Link[BeatMessage], message: BeatMessage) -> None:
    with trio.move_on_after(REPLY_TIMEOUT) as scope:
        await link.send(message)
    if scope.cancelled_caught:
        raise PeerUnreachable("the peer does not read its answers")
