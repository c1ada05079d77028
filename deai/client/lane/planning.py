"""What tasks of the lane would cost, and what channels still hold, before anything is promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deai.channels import ChannelState
from deai.client.lane.book import BookReader
from deai.client.lane.places import Survey, no_place, survey
from deai.client.lane.tasks import rounded_units
from deai.client.matching import Rejected, Wish, ask_of
from deai.client.tools import Tools
from deai.codec import decode_value
from deai.errors import DeaiError, LimitExceeded, TaskDeclined, UsageError
from deai.ids import NodeId
from deai.lane.receipts import MAX_TASK_BYTES
from deai.money import MAX_AMOUNT, format_tokens
from deai.offers import WorkloadOffer
from deai.ports import Catalogue, WorkloadInfo
from deai.tasks import Policy


@dataclass(frozen=True, slots=True)
class Meant:
    """Tasks of one workload with the same parameters, as they were asked for and checked."""

    info: WorkloadInfo
    parameters: bytes
    wish: Wish
    max_units: int


async def meant(
    tools: Tools, workload: str, *, params: Mapping[str, Any] | None, max_fee: int,
    nodes: Iterable[NodeId] | None, max_units: int,
) -> Meant:  # fmt: skip
    """Check what a lane is opened for; raises `UsageError`, `WorkloadFault` or `LedgerError`s."""
    if not 0 < max_fee <= MAX_AMOUNT or not 0 <= max_units < 1 << 32:
        raise UsageError(
            "max_fee is a positive amount, auto_top_up and max_units are none or positive",
            hint="the most to pay per task, as 0.12CT",
            code="bad_amount",
        )
    info = tools.catalogue.info(workload)
    if Policy.NONE.label not in info.policies:
        raise UsageError(
            f"{info.id} cannot be computed without verification",
            hint="submit its tasks through the escrow",
            code="unsupported_policy",
        )
    given = dict(params or {})
    parameters = tools.catalogue.parameters(info.id, given)
    values = decode_value(parameters)
    model = values.get("model", "") if isinstance(values, dict) else ""
    wish = Wish(
        workload=info.id,
        version=info.version,
        model=model if isinstance(model, str) else "",
        policy=Policy.NONE,
        seats=1,
        units=max_units or 1,
        max_fee=max_fee,
        seconds=(await tools.ledger.parameters()).max_span,
        nodes=tuple(nodes or ()),
    )
    return Meant(info, parameters, wish, max_units)


class Prices:
    """What tasks cost at some nodes."""

    def __init__(
        self, catalogue: Catalogue, what: Meant, offers: Mapping[NodeId, WorkloadOffer]
    ) -> None:
        self.offers = offers
        self._catalogue = catalogue
        self._what = what

    @property
    def max_fee(self) -> int:
        """The most that is paid for a task."""
        return self._what.wish.max_fee

    def units(self, data: bytes) -> int:
        """Check an input as every node will; what it costs.

        Raises `WorkloadFault` or `LimitExceeded`.
        """
        if len(data) > MAX_TASK_BYTES:
            raise LimitExceeded(
                f"the input has {len(data)} bytes; the lane takes {MAX_TASK_BYTES}",
                hint="submit it through the escrow, or cut it",
                code="input_too_large",
            )
        return self._catalogue.check(self._what.info.id, self._what.parameters, data).units

    def covered(self, units: int) -> int:
        """For how many units a task of so many is paid, so that few terms have to be agreed.

        Raises `LimitExceeded`, or `TaskDeclined` where every node asks too much.
        """
        most, max_fee = self._what.max_units, self._what.wish.max_fee
        if most and units > most:
            raise LimitExceeded(
                f"the input has {units} units; max_units is {most}",
                hint="raise max_units, or cut the input",
                code="too_many_units",
            )
        covered = most or rounded_units(max(1, units))
        if not most and self._best(covered) > max_fee:
            covered = max(1, units)
        if (best := self._best(covered)) > max_fee:
            raise TaskDeclined(
                f"{covered} units cost {format_tokens(best)} or more; at most "
                f"{format_tokens(max_fee)} is offered",
                hint="raise max_fee",
                code="price_below_every_offer",
            )
        return covered

    def _best(self, units: int) -> int:
        return min(ask_of(offer, units) for offer in self.offers.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """Who would compute, and from which money. Sums in base units."""

    prices: Prices | None
    """None where no node would do."""
    nodes: tuple[PlannedNode, ...]
    """With an open channel first, then those that would do if they had one."""
    rejected: tuple[Rejected, ...]
    problem: DeaiError | None
    """Why no task would be begun."""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One that would do, and the channel with it."""

    node: NodeId
    offer: WorkloadOffer
    state: str
    """Of the channel: `open`, `closing`, `closed`, or `none` where this home has no key for it."""
    deposit: int
    promised: int
    """By this home's book and by what was claimed."""

    @property
    def left(self) -> int:
        """What more can be promised."""
        return max(0, self.deposit - self.promised) if self.state == "open" else 0


async def plan_lane(
    tools: Tools, workload: str, *, params: Mapping[str, Any] | None = None, max_fee: int,
    nodes: Iterable[NodeId] | None = None, max_units: int = 0,
) -> Plan:  # fmt: skip
    """Look, promise nothing; raises as `Client.lane` does for what cannot be meant."""
    what = await meant(
        tools, workload, params=params, max_fee=max_fee, nodes=nodes, max_units=max_units
    )
    found = await survey(tools, what.wish, fresh=True)
    planned = await tools.offload(lambda: _planned(tools, found))
    planned.sort(key=lambda one: one.state != ChannelState.OPEN.label)
    usable = [one for one in planned if one.state == ChannelState.OPEN.label] or planned
    return Plan(
        Prices(tools.catalogue, what, {one.node: one.offer for one in usable}) if usable else None,
        tuple(planned),
        found.ranking.rejected,
        None if found.open else no_place(found, what.wish, tools),
    )


def _planned(tools: Tools, found: Survey) -> list[PlannedNode]:
    reader = BookReader(tools.home)
    try:
        planned = []
        for ranked, offer, place in found.nodes:
            if place is None:
                planned.append(PlannedNode(ranked.node, offer, "none", 0, 0))
                continue
            record = place.record
            standing = reader.standing(place.id, record.epoch)
            promised = max(int(standing.promised.cumulative), int(record.claimed))
            planned.append(
                PlannedNode(ranked.node, offer, record.state.label, int(record.deposit), promised)
            )
        return planned
    finally:
        reader.close()
