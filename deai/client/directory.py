"""Which nodes there are: coordinators, the registry's events and bootstrap peers, each optional.

Whatever a source says is a hint. A node counts only with a fresh offer that is signed by the
operator key which the registry holds for it. A source that fails is noted and left out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import trio

from deai.binding import Binding, SignedBinding, check
from deai.chain.ledger import Cursor, Ledger, NodeRecord
from deai.client.matching import Candidate, Twin, Wish
from deai.client.sessions import Sessions
from deai.errors import (
    BadSignature,
    DeaiError,
    LedgerUnreachable,
    MalformedMessage,
    PeerUnreachable,
)
from deai.events import NodeAnnounced, NodeRegistered, NodeSlashed
from deai.ids import NodeId, PeerId, parse_peer
from deai.net import PeerAddress
from deai.offers import Offer, Signed, open_offer

MAX_NODES: Final = 2048
"""Nodes kept from all sources together."""
MAX_DIALS: Final = 64
"""Nodes asked for an offer in one search."""
MAX_RECORDS: Final = 256
"""Registry records read in one search: of so many nodes, drawn among all that fit."""
AT_ONCE: Final = 16
OFFER_TIMEOUT: Final = 3.0
SOURCE_TIMEOUT: Final = 5.0
FRESH_SECONDS: Final = 10.0
"""How long what was found is used again without looking."""
RECORD_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Bound:
    """What a source says of a node on the other chain, and both owners' signatures for it."""

    binding: SignedBinding
    slashed: int
    """Base units; the source's word."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What a source knows of a node: an offer, or only where it may be reached."""

    peer: PeerAddress
    node: NodeId | None = None
    offer: Signed | None = None
    bound: Bound | None = None
    slashed: bool = False
    """Whether it lost stake to an equivocation on this chain, ever."""


class Source(Protocol):
    """Somewhere to learn of nodes."""

    @property
    def name(self) -> str:
        """For the notes."""
        ...

    async def hints(self) -> Sequence[Hint]:
        """At most `MAX_NODES`; raise `DeaiError` when it cannot be read."""
        ...


class PeerList:
    """Peers known beforehand: bootstrap peers that may be nodes."""

    def __init__(self, peers: Iterable[PeerAddress], name: str = "bootstrap") -> None:
        self.name = name
        self._hints = tuple(Hint(peer) for peer in peers)

    async def hints(self) -> Sequence[Hint]:
        """All of them."""
        return self._hints


class RegistryEvents:
    """Where nodes announced on chain that they listen; read from deployment, then onwards."""

    def __init__(self, ledger: Ledger) -> None:
        self.name = "registry"
        self._ledger = ledger
        self._known: dict[NodeId, PeerAddress] = {}
        self._slashed: dict[NodeId, None] = {}
        self._lock = trio.Lock()
        self._cursor: Cursor | None = None

    async def hints(self) -> Sequence[Hint]:
        """Every node's newest announcement; what was read before is not read again."""
        async with self._lock, self._ledger.follow(self._cursor) as batches:
            async for batch in batches:
                for record in batch.records:
                    event = record.event
                    if isinstance(event, NodeRegistered | NodeAnnounced):
                        self._learn(event)
                    elif isinstance(event, NodeSlashed):
                        _keep(self._slashed, event.node)
                self._cursor = batch.cursor
                if batch.cursor.number >= batch.head.number:
                    break
        return tuple(
            Hint(peer, node, slashed=node in self._slashed) for node, peer in self._known.items()
        )

    def _learn(self, event: NodeRegistered | NodeAnnounced) -> None:
        try:
            peer = PeerAddress(parse_peer(event.peer_id), event.addresses)
        except MalformedMessage:
            return
        self._known.pop(event.node, None)
        if len(self._known) >= MAX_NODES:
            self._known.pop(next(iter(self._known)))
        self._known[event.node] = peer


def _keep(slashed: dict[NodeId, None], node: NodeId) -> None:
    """Remember a slashed node, and forget the one that was told longest ago if they are many."""
    slashed.pop(node, None)
    if len(slashed) >= MAX_NODES:
        del slashed[next(iter(slashed))]
    slashed[node] = None


@dataclass(slots=True)
class _Known:
    """A node as last seen."""

    peer: PeerAddress
    offer: Offer
    operator: str
    record: NodeRecord | None = None
    read_at: float = -1e9


class Directory:
    """All sources together, remembered for a while."""

    def __init__(
        self,
        ledger: Ledger,
        sessions: Sessions,
        sources: Sequence[Source],
        fallback: Sequence[Source],
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`fallback` sources are asked only when `sources` do not know enough nodes.

        `random` gives so many bytes, from which is drawn who is looked at where there are many.
        """
        self._random = random
        self._salt = b""
        self._ledger = ledger
        self._sessions = sessions
        self._sources = sources
        self._fallback = fallback
        # By node *and* signing key, so that a forged offer cannot displace the genuine one.
        self._nodes: dict[tuple[NodeId, str], _Known] = {}
        self._twins: dict[NodeId, tuple[SignedBinding, Twin]] = {}
        self._slashed: dict[NodeId, None] = {}
        self._places: dict[NodeId, PeerAddress] = {}
        self._looked_at = -1e9
        self.notes: list[str] = []
        """What went wrong in the last search, a line per source."""

    async def candidates(
        self, wish: Wish, now: int, *, fresh: bool = False
    ) -> tuple[Candidate, ...]:
        """Nodes with a verified offer for the wish's workload, and what the registry says.

        `now` is chain time; `fresh` looks again even if that was done a moment ago.
        Raises `LedgerUnreachable`: nothing can be believed without the chain.
        """
        age = trio.current_time() - self._looked_at
        if fresh or age > FRESH_SECONDS or not self._fitting(wish, now):
            self.notes = []
            await self._look(self._sources, wish, now)
            if len(self._fitting(wish, now)) < max(wish.seats, len(wish.nodes)) + 2:
                await self._look(self._fallback, wish, now)
            self._looked_at = trio.current_time()
            self._salt = self._random(16)  # the draw holds until everybody is looked for again
        fitting = self._fitting(wish, now)
        await self._read_records(fitting)
        return tuple(
            Candidate(
                known.offer,
                known.peer,
                known.record,
                self._twin_of(known.offer.node),
                known.offer.node in self._slashed,
            )
            for known in fitting
            if known.record is not None and known.record.operator == known.operator
        )

    async def find(self, nodes: Iterable[NodeId]) -> Mapping[NodeId, PeerAddress]:
        """Where the named nodes may be reached, as far as any source knows."""
        wanted = set(nodes)
        for sources in (self._sources, self._fallback):
            if wanted <= set(self._places):
                break
            for source in sources:
                for hint in await self._ask(source):
                    if hint.node in wanted:
                        self._places[hint.node] = hint.peer
        return {node: self._places[node] for node in wanted if node in self._places}

    def forget(self, node: NodeId) -> None:
        """A node did not answer: ask it again before it is used."""
        for key in [key for key in self._nodes if key[0] == node]:
            del self._nodes[key]

    def _fitting(self, wish: Wish, now: int) -> list[_Known]:
        found = [
            known
            for known in self._nodes.values()
            if known.offer.expires_at >= now
            and (not wish.nodes or known.offer.node in wish.nodes)
            and any(one.workload == wish.workload for one in known.offer.workloads)
        ]
        if len(found) > MAX_RECORDS:
            found.sort(key=lambda known: self._lot(known.offer.node))
        return found[:MAX_RECORDS]

    def _lot(self, node: NodeId) -> bytes:
        return hashlib.blake2b(node.encode(), key=self._salt, digest_size=8).digest()

    async def _look(self, sources: Sequence[Source], wish: Wish, now: int) -> None:
        hints: list[Hint] = []

        async def ask(source: Source) -> None:
            hints.extend(await self._ask(source))

        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(ask, source)
        unknown: dict[PeerId, Hint] = {}
        for hint in hints:
            if hint.node is not None and hint.bound is not None:
                self._bind(hint.node, hint.bound)
            if hint.node is not None and hint.slashed:
                # Whatever another source says, or leaves out.
                _keep(self._slashed, hint.node)
            if hint.offer is not None:
                self._learn(hint.offer, hint.peer, now)
            elif not self._is_fresh(hint, now) and len(unknown) < MAX_DIALS:
                unknown.setdefault(hint.peer.peer_id, hint)
        await self._dial(unknown.values(), now)

    async def _ask(self, source: Source) -> Sequence[Hint]:
        try:
            with trio.fail_after(SOURCE_TIMEOUT):
                return await source.hints()
        except trio.TooSlowError:
            self.notes.append(f"{source.name}: no answer in {SOURCE_TIMEOUT:g} s")
        except DeaiError as error:
            self.notes.append(f"{source.name}: {error}")
        return ()

    def _is_fresh(self, hint: Hint, now: int) -> bool:
        return any(
            known.offer.expires_at > now + 60
            for known in self._nodes.values()
            if known.peer.peer_id == hint.peer.peer_id
        )

    async def _dial(self, hints: Iterable[Hint], now: int) -> None:
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def dial(hint: Hint) -> None:
            async with limiter:
                try:
                    session = await self._sessions.open(hint.peer, timeout=OFFER_TIMEOUT)
                    signed = await session.ask_offer(OFFER_TIMEOUT)
                except PeerUnreachable as error:
                    self.notes.append(f"{hint.peer.peer_id}: {error}")
                    return
                self._learn(signed, hint.peer, now)

        async with trio.open_nursery() as nursery:
            for hint in hints:
                nursery.start_soon(dial, hint)

    def _learn(self, signed: Signed, peer: PeerAddress, now: int) -> None:
        try:
            offer = open_offer(signed, self._ledger.info.registry)
            address = PeerAddress(parse_peer(offer.peer_id), offer.addresses or peer.addresses)
        except DeaiError as error:
            self.notes.append(f"{peer.peer_id}: its offer is not genuine: {error}")
            return
        key = (offer.node, signed.operator)
        known = self._nodes.get(key)
        if known is None and len(self._nodes) >= MAX_NODES:
            self._expire(now)
        if offer.expires_at < now or (known is None and len(self._nodes) >= MAX_NODES):
            return
        if known is None:
            self._nodes[key] = _Known(address, offer, signed.operator)
        elif known.offer.sequence <= offer.sequence:
            known.peer, known.offer = address, offer

    def _bind(self, node: NodeId, bound: Bound) -> None:
        """Remember a node's twin if both owners signed for it.

        What is not signed for is noted and left out: nobody's word makes two nodes one.
        """
        proof, known = self._twins.get(node, (None, None))
        if known is None or proof != bound.binding:
            try:
                twin = self._twin(node, check(bound.binding))
            except DeaiError as error:
                self.notes.append(f"{node}: its binding is not genuine: {error}")
                return
            if known is None or (known.chain, known.node) != (twin.chain, twin.node):
                known = twin
        if node in self._twins or len(self._twins) < MAX_NODES:
            # What was slashed never falls, whatever a source says later.
            most = max(known.slashed, bound.slashed)
            self._twins[node] = (bound.binding, replace(known, slashed=most))

    def _twin_of(self, node: NodeId) -> Twin | None:
        found = self._twins.get(node)
        return None if found is None else found[1]

    def _twin(self, node: NodeId, body: Binding) -> Twin:
        domain, twin = self._ledger.info.registry, body.twin(node)
        mine = body.side(self._ledger.info.name)
        if (mine.node, mine.chain_id, mine.registry) != (node, domain.chain_id, domain.contract):
            raise BadSignature("it is about another network")
        return Twin(twin.node, twin.chain, 0)

    def _expire(self, now: int) -> None:
        for key in [key for key, known in self._nodes.items() if known.offer.expires_at < now]:
            del self._nodes[key]

    async def _read_records(self, fitting: Iterable[_Known]) -> None:
        now = trio.current_time()
        stale = [known for known in fitting if now - known.read_at > RECORD_SECONDS]
        if not stale:
            return
        limiter = trio.CapacityLimiter(AT_ONCE)
        failures: list[LedgerUnreachable] = []

        async def read(known: _Known) -> None:
            async with limiter:
                if failures:
                    return
                try:
                    known.record = await self._ledger.node(known.offer.node)
                    known.read_at = trio.current_time()
                except LedgerUnreachable as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for known in stale:
                nursery.start_soon(read, known)
        if failures:
            raise failures[0]
