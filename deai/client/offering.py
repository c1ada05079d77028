"""What would be offered to whom: committee, fee, lease and deadline from a ranking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from deai.chain.ledger import Head, Parameters
from deai.client.matching import Ranked, Ranking, choose, explain, fee_for, rank
from deai.client.requests import Prepared
from deai.client.tools import Tools
from deai.errors import ConfigError, DeaiError, TaskDeclined, UsageError
from deai.ids import NodeId
from deai.money import Amount, format_tokens, typed_amount

MIN_DEADLINE: Final = 120.0
POST_MARGIN: Final = 5
"""Seconds between proposing and the block of the assignment."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be posted, without asking anybody: for `--dry-run` and the first round."""

    ranking: Ranking
    chosen: tuple[Ranked, ...]
    fee: Amount
    lease: int
    deadline: int
    """Seconds from now until the commit deadline."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everybody who was found, and what the chain said at that moment."""

    ranking: Ranking
    parameters: Parameters
    head: Head


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a submission would do; `plan` is None where it could not, and `error` says why."""

    prepared: Prepared
    ranking: Ranking
    plan: Plan | None
    error: DeaiError | None


async def look_around(
    tools: Tools, prepared: Prepared, seed: bytes, *, fresh: bool = False
) -> Scene:
    """Rank every node that can be found; `fresh` looks again even if that was done just now."""
    head = await tools.ledger.head()
    parameters = await tools.ledger.parameters()
    wish = prepared.wish(prepared.request.deadline or parameters.max_span)
    candidates = await tools.directory.candidates(wish, head.time, fresh=fresh)
    epoch = head.time // parameters.epoch_seconds
    return Scene(rank(candidates, wish, now=head.time, epoch=epoch, seed=seed), parameters, head)


def plan_for(
    prepared: Prepared, scene: Scene, excluded: set[NodeId] | None = None, patience: int = 1
) -> Plan:
    """Choose from a ranking; fee, lease and deadline follow from the chosen. Pure.

    `patience` multiplies the lease, after nodes said that it was too short.
    """
    ranking, parameters = scene.ranking, scene.parameters
    fit = [one for one in ranking.fit if one.node not in (excluded or ())]
    chosen = choose(fit, prepared.seats)
    span = prepared.request.deadline or parameters.max_span
    if len(chosen) < prepared.seats:
        raise explain(Ranking(tuple(fit), ranking.rejected), prepared.wish(span))
    fee = fee_for(chosen, parameters.min_fee)
    if fee > prepared.request.max_fee:
        raise TaskDeclined(
            f"the contract takes no fee below {format_tokens(parameters.min_fee)} a seat",
            hint=f"raise --max-fee to {typed_amount(parameters.min_fee)}",
            code="price_below_every_offer",
        )
    slowest = max(one.seconds for one in chosen)
    lease, deadline = times(prepared, parameters, slowest, patience)
    return Plan(ranking, chosen, fee, lease, deadline)


def times(
    prepared: Prepared, parameters: Parameters, seconds: float, patience: int
) -> tuple[int, int]:
    """`(lease, deadline)` in seconds for a task that takes the slowest node `seconds`.

    A lease leaves room for a second attempt before the deadline where that is possible.
    Raises `UsageError` when the deadline is too close for any lease, `ConfigError` when the
    network's own limits leave no time.
    """
    needed = 10 + math.ceil(3 * seconds + len(prepared.data) / 2_000_000)
    wanted = prepared.request.deadline or max(MIN_DEADLINE, 4.0 * needed * patience)
    deadline = min(int(wanted), parameters.max_span - POST_MARGIN)
    longest = deadline - POST_MARGIN
    if longest < parameters.min_lease:
        wrong = UsageError if prepared.request.deadline else ConfigError
        raise wrong(
            f"a deadline in {deadline} s leaves no time: the shortest lease is "
            f"{parameters.min_lease} s",
            hint=f"ask for --deadline {parameters.min_lease + 2 * POST_MARGIN}s or more",
            code="deadline_too_close",
        )
    lease = min(needed, max(math.ceil(1.5 * seconds) + 5, longest // 2)) * patience
    return min(max(lease, parameters.min_lease), longest), deadline
