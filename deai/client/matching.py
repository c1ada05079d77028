"""Which nodes may take a task, in which order, and why the others may not. Pure.

Where several nodes check each other, seats are *drawn*: weighted by stake × reputation, with the
client's private seed, never two of one owner. Taking the cheapest would let whoever undercuts
everybody buy the whole committee. Only where the client trusts (`none/1`) price and speed decide.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from deai.chain.ledger import NodeRecord
from deai.errors import TaskDeclined
from deai.ids import AccountId, ChainName, NodeId, owner_of
from deai.money import Amount, format_tokens, typed_amount
from deai.net import PeerAddress
from deai.offers import Offer, WorkloadOffer
from deai.tasks import Policy

SANDBOX_RANK: Final[Mapping[str, int]] = {"none": 0, "partial": 1, "full": 2}
"""How far a node's workers are locked down, as its offer says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a task needs of a node. Sums per seat in base units, `seconds` until the deadline."""

    workload: str
    version: int
    model: str
    policy: Policy
    seats: int
    units: int
    max_fee: int
    seconds: float
    nodes: tuple[NodeId, ...] = ()
    """Only these, if any are named."""
    min_sandbox: str = "none"


@dataclass(frozen=True, slots=True)
class Twin:
    """The same node's registration on another chain, which both owners signed for.

    `slashed`: base units that it lost there by equivocation, in a coordinator's words.
    """

    node: NodeId
    chain: ChainName
    slashed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node with a verified offer; `record` is what the registry says of it."""

    offer: Offer
    peer: PeerAddress
    record: NodeRecord
    twin: Twin | None = None
    slashed: bool = False
    """Whether a source knows of an equivocation here; the registry forgets it with the release."""

    @property
    def node(self) -> NodeId:
        """Its id."""
        return self.offer.node

    @property
    def owner(self) -> AccountId:
        """Who would be paid."""
        return owner_of(self.offer.node)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that may take the task: what it asks a seat, how long it would compute."""

    candidate: Candidate
    ask: int
    seconds: float

    @property
    def node(self) -> NodeId:
        """Its id."""
        return self.candidate.node


@dataclass(frozen=True, slots=True)
class Rejected:
    """A node that may not take the task: `code` for programs, `reason` for people."""

    node: NodeId
    code: str
    reason: str
    ask: int = 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """Everybody who was looked at: the fit ones in the order to ask, the others with reasons."""

    fit: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]


def ask_of(offered: WorkloadOffer, units: int) -> int:
    """What a node asks for one seat of a task of `units`, in base units."""
    return offered.base_fee + offered.unit_fee * units


def screen(offer: Offer, wish: Wish, now: int) -> Rejected | tuple[int, float]:
    """Judge an offer by itself: `(asked fee, seconds of computing)` or why it does not do."""
    node = offer.node
    if wish.nodes and node not in wish.nodes:
        return Rejected(node, "not_named", "only named nodes were asked for")
    if offer.expires_at < now:
        return Rejected(node, "offer_expired", f"its offer expired {now - offer.expires_at} s ago")
    named = [one for one in offer.workloads if one.workload == wish.workload]
    if not named:
        return Rejected(node, "workload", f"does not run {wish.workload}")
    offered = next((one for one in named if one.version == wish.version), None)
    if offered is None:
        versions = ", ".join(str(one.version) for one in named)
        return Rejected(node, "version", f"runs version {versions}, not {wish.version}")
    if wish.model and wish.model not in offered.models:
        return Rejected(node, "model", "does not have the model")
    if wish.policy.label not in offered.policies:
        return Rejected(node, "policy", f"does not take {wish.policy.label}")
    if offer.capacity < 1:
        return Rejected(node, "capacity", "takes no tasks now")
    if SANDBOX_RANK.get(offer.sandbox, 0) < SANDBOX_RANK[wish.min_sandbox]:
        return Rejected(node, "sandbox", f"its sandbox is {offer.sandbox or 'none'}")
    speed = offered.milliunits_per_second
    seconds = wish.units * 1000 / speed if speed else 0.0
    if seconds > wish.seconds:
        return Rejected(
            node, "deadline", f"needs {seconds:.0f} s and the deadline is in {wish.seconds:.0f} s"
        )
    ask = ask_of(offered, wish.units)
    if ask > wish.max_fee:
        return Rejected(node, "price", f"asks {format_tokens(ask)}", ask=ask)
    return ask, seconds


def unfit(record: NodeRecord, epoch: int) -> Rejected | None:
    """Why the registry would not let this node take a seat now; None if it would."""
    if not record.standing.is_assignable:
        return Rejected(record.node, "standing", f"is {record.standing.label}")
    if record.last_epoch + 1 < epoch:
        return Rejected(record.node, "silent", "has not beaten on chain for an epoch")
    return None


def slashed(candidate: Candidate) -> Rejected | None:
    """Why a node is passed over for good, on whichever chain it was slashed; None if it was not.

    Its owner can release it from jail at once, so that a release ends nothing here.
    """
    node, twin = candidate.node, candidate.twin
    if candidate.slashed:
        return Rejected(node, "slashed", "was slashed for equivocation")
    if twin is not None and twin.slashed:
        why = f"was slashed for equivocation on {twin.chain} as {twin.node}"
        return Rejected(node, "slashed_elsewhere", why)
    return None


def rank(
    candidates: Iterable[Candidate], wish: Wish, *, now: int, epoch: int, seed: bytes
) -> Ranking:
    """Order the candidates for `wish`; equal arguments give an equal ranking.

    `now` is chain time in seconds, `epoch` the registry's present epoch, `seed` the client's
    private randomness for this task.
    """
    fit: list[Ranked] = []
    rejected: list[Rejected] = []
    seen: set[NodeId] = set()
    for candidate in candidates:
        if candidate.node in seen:
            continue
        seen.add(candidate.node)
        judged = screen(candidate.offer, wish, now)
        bad = judged if isinstance(judged, Rejected) else unfit(candidate.record, epoch)
        bad = bad or slashed(candidate)
        if bad is not None:
            rejected.append(bad)
            continue
        assert isinstance(judged, tuple)
        fit.append(Ranked(candidate, *judged))
    if wish.policy is Policy.NONE:
        fit.sort(key=lambda one: (one.ask, one.seconds, _chance(seed, one.node)))
    else:
        fit.sort(key=lambda one: (_draw(seed, one.candidate), one.node))
    rejected.sort(key=lambda one: one.node)
    return Ranking(tuple(fit), tuple(rejected))


def choose(fit: Iterable[Ranked], seats: int) -> tuple[Ranked, ...]:
    """The first `seats` with distinct owners; fewer if there are not enough."""
    chosen: list[Ranked] = []
    owners: set[AccountId] = set()
    for one in fit:
        if len(chosen) < seats and one.candidate.owner not in owners:
            owners.add(one.candidate.owner)
            chosen.append(one)
    return tuple(chosen)


def explain(ranking: Ranking, wish: Wish) -> TaskDeclined:
    """The error for a task that too few nodes fit: says what stood in the way and what helps."""
    priced = sorted((one for one in ranking.rejected if one.code == "price"), key=lambda r: r.ask)
    if not ranking.fit and priced:
        cheapest = priced[0]
        return TaskDeclined(
            f"price below every offer: {format_tokens(wish.max_fee)} a seat offered, the "
            f"cheapest of {len(priced)} offers asks {format_tokens(cheapest.ask)} "
            f"({cheapest.node})",
            hint=f"raise --max-fee to {typed_amount(cheapest.ask)} or more",
            code="price_below_every_offer",
        )
    counts: dict[str, int] = {}
    for one in ranking.rejected:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    shown = sorted(counts.items(), key=lambda item: -item[1])[:5]
    why = "; ".join(f"{count} × {reason}" for reason, count in shown) or "no other offer was found"
    owners = len({one.candidate.owner for one in ranking.fit})
    hint = "see `--dry-run` for every node and its reason"
    if priced:
        needed = [*(one.ask for one in ranking.fit), *(one.ask for one in priced)]
        needed.sort()
        if len(needed) >= wish.seats:
            least = typed_amount(needed[wish.seats - 1])
            hint = f"raise --max-fee to {least} or more, or lower --seats"
    return TaskDeclined(
        f"{wish.seats} nodes of different owners are needed for {wish.workload} under "
        f"{wish.policy.label}, {owners} would do: {why}",
        hint=hint,
        code="no_offer",
    )


def fee_for(chosen: Iterable[Ranked], min_fee: int) -> Amount:
    """The fee of every seat: the highest price asked among the chosen."""
    return Amount(max(min_fee, *(one.ask for one in chosen)))


def _chance(seed: bytes, node: NodeId) -> float:
    """A number in (0, 1) that only the holder of the seed can foresee."""
    drawn = hashlib.sha256(seed + node.encode()).digest()
    return (int.from_bytes(drawn[:8], "big") + 0.5) / 2**64


def _draw(seed: bytes, candidate: Candidate) -> float:
    # Sorting by -ln(u)/weight draws without replacement with probability by weight
    # (Efraimidis and Spirakis 2006).
    record = candidate.record
    weight = max(1, record.stake) * max(1, record.reputation)
    return -math.log(_chance(seed, candidate.node)) / weight
