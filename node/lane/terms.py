"""Whether tasks of given terms are computed here: a pure judgement, with a code for each no."""

from __future__ import annotations

from dataclasses import dataclass

from deai.codec import decode_value
from deai.errors import MalformedMessage, WorkloadFault
from deai.ids import ChannelId
from deai.lane.receipts import Terms
from deai.ports import Catalogue, WorkloadInfo
from deai.tasks import Policy
from node.config import SANDBOX_LEVELS, NodeConfig


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: `code` for programs, `reason` for the client, `hint` for our operator."""

    code: str
    reason: str
    hint: str = ""


def judge_terms(
    terms: Terms,
    *,
    channel: ChannelId,
    epoch: int,
    workload: WorkloadInfo | None,
    sandbox: str,
    config: NodeConfig,
    catalogue: Catalogue,
) -> Refusal | None:
    """Why tasks of these terms are refused, or None to take them.

    `workload` is what is offered here under the name that they give, None for nothing. No input
    is looked at: that is the locked worker's part.
    """
    if (terms.channel, terms.epoch) != (channel, epoch):
        return Refusal("bad_terms", "the terms are of another channel or epoch")
    if workload is None or workload.version != terms.version:
        return Refusal("workload", f"{terms.workload} v{terms.version} is not offered here")
    if terms.model and terms.model not in workload.models:
        return Refusal("model", f"model {terms.model} is not here", "deai node init imports models")
    if Policy.NONE.label not in workload.policies:
        return Refusal("policy", f"{workload.id} is not done unchecked here")
    if SANDBOX_LEVELS.index(sandbox) < SANDBOX_LEVELS.index(config.min_sandbox):
        return Refusal(
            "sandbox",
            f"the workers are isolated at level {sandbox} only",
            "deai node doctor says which lock does not hold",
        )
    price = config.price(terms.workload)
    floor = price.base + price.unit * terms.max_units
    if terms.price < floor:
        return Refusal(
            "price",
            f"a task of {terms.max_units} units costs at least {floor}",
            f"node.prices.{terms.workload}",
        )
    return _about_parameters(terms, catalogue)


def _about_parameters(terms: Terms, catalogue: Catalogue) -> Refusal | None:
    try:
        given = decode_value(terms.parameters)
        checked = (
            catalogue.parameters(terms.workload, given) if isinstance(given, dict) else b"no table"
        )
    except (MalformedMessage, WorkloadFault) as error:
        return Refusal("parameters", f"the parameters are not valid: {error}"[:300])
    if checked != terms.parameters:
        return Refusal("parameters", "the parameters are not as the catalogue writes them")
    return None
