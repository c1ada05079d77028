"""Whether to take a seat of a signed order: a pure judgement, with a code for each no."""

from __future__ import annotations

from dataclasses import dataclass

from deai.chain.ledger import ChainInfo, NodeRecord, Parameters
from deai.errors import BadSignature
from deai.hashing import MAX_BLOB_BYTES
from deai.ids import AccountId, NodeId, raw
from deai.money import format_tokens
from deai.order_messages import Place
from deai.orders import PAYABLE, OrderBalance, is_covered, is_sound, order_id
from deai.ports import WorkloadInfo
from deai.signing import verify
from deai.tasks import Policy, spec_hash
from node.config import SANDBOX_LEVELS, NodeConfig
from node.daemon import Mode
from node.orders.book import Record

TAKEN_HERE = frozenset({Policy.NONE, Policy.EXACT})
BYTES_PER_SECOND = 1024 * 1024
"""Assumed rate of an input on its way, when judging whether the time is long enough."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: `code` for programs, `reason` for the client, `hint` for our operator."""

    code: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the judgement depends on, apart from the chain's word on the client."""

    config: NodeConfig
    info: ChainInfo
    parameters: Parameters
    node: NodeId
    operator: AccountId
    mode: Mode
    record: NodeRecord | None
    now: int
    """Chain seconds."""
    workload: WorkloadInfo | None
    """None: not installed or not offered here."""
    sandbox: str
    load: int
    """Seats that need a worker, of tasks and orders, on whichever chain."""
    room: int
    """Orders that may still be kept."""
    peer_open: int
    """Orders of this peer whose input has not come."""
    share: int
    """How many of those one peer may have."""
    peer_waits: float
    """Seconds until this peer, which let accepts lapse, may hold another slot."""
    nonce_is_taken: bool
    """Another order of the client with this nonce is open here."""
    at_risk: int
    """Fees of the client's open orders of which no quorum is here."""
    past: Record
    """What the client did before."""
    is_ill: str = ""
    """Code of a problem that stops new work."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the chain has of the client."""

    balance: OrderBalance
    page: int
    """The word that holds the order's bit."""
    promised: int
    """What the client's other orders cost that are open here."""


def judge(place: Place, seen: Situation) -> Refusal | None:
    """Why the seat is not taken as far as that is known here, or None to ask the chain."""
    for check in (_about_us, _about_the_order, _about_the_spec, _about_the_client):
        refusal = check(place, seen)
        if refusal is not None:
            return refusal
    return None


def judge_standing(place: Place, seen: Situation, standing: Standing) -> Refusal | None:
    """Why the client cannot pay for the order, or None to take it."""
    order = place.order
    if not standing.page & 1:
        return Refusal("page_closed", f"page {order.page} of the client's nonces was not bought")
    if standing.page & order.bit:
        return Refusal("nonce_used", f"nonce {order.nonce} was settled before")
    period = seen.parameters.thaw_period
    if not is_covered(standing.balance, order, standing.promised, seen.now, period):
        free, needed = standing.balance.free, standing.promised + order.cost
        return Refusal(
            "not_covered",
            f"{format_tokens(free)} are set aside and not thawing, {format_tokens(needed)} needed",
        )
    return None


def _about_us(_place: Place, seen: Situation) -> Refusal | None:
    config, record = seen.config, seen.record
    if seen.is_ill:
        return Refusal(seen.is_ill, "the node cannot take work now", "see `deai node status`")
    if seen.mode is Mode.PAUSED:
        return Refusal("paused", "the operator paused the node", "deai node resume")
    if seen.mode is Mode.DRAINING:
        return Refusal("draining", "the node finishes what it has and leaves")
    if seen.mode is Mode.JOINING:
        return Refusal("joining", "the node is starting")
    if record is None or record.standing not in PAYABLE:
        return Refusal("not_registered", "the node is not paid for orders now", "deai stake status")
    if record.operator != seen.operator:
        return Refusal(
            "not_registered", "another key speaks for the node", "the operator was rotated"
        )
    if SANDBOX_LEVELS.index(seen.sandbox) < SANDBOX_LEVELS.index(config.min_sandbox):
        return Refusal(
            "sandbox",
            f"the workers are isolated at level {seen.sandbox} only",
            "deai node doctor says which lock does not hold",
        )
    if seen.load >= config.capacity + config.queue:
        return Refusal("capacity", "every slot is taken", "raise node.capacity or node.queue")
    if seen.room <= 0:
        return Refusal("capacity", "as many orders are open here as are kept")
    if seen.peer_open >= seen.share:
        return Refusal("capacity", f"{seen.share} orders of this client wait for their input")
    if seen.peer_waits:
        return Refusal("capacity", f"too many seats were left; ask in {seen.peer_waits:.0f} s")
    return None


def _about_the_order(place: Place, seen: Situation) -> Refusal | None:
    order = place.order
    if order.policy not in TAKEN_HERE:
        return Refusal(
            "policy",
            f"{order.policy.label} compares outputs and orders compare digests: exact/1 and "
            "none/1 are taken, the rest is for the escrow",
        )
    if not is_sound(order, seen.parameters.min_fee) or seen.node not in order.nodes:
        return Refusal("bad_order", "no contract would pay this node for an order of this form")
    if seen.nonce_is_taken:
        return Refusal("nonce_taken", f"another order with nonce {order.nonce} is open here")
    terms = seen.config.orders
    latest = seen.now + min(seen.parameters.thaw_period, terms.horizon)
    if order.valid_until > latest:
        return Refusal(
            "too_long", f"orders are taken that end by {latest}", "node.orders.horizon_hours"
        )
    needed = seen.config.min_lease + terms.settle_margin
    needed += place.spec.input_bytes // BYTES_PER_SECOND
    if order.valid_until < seen.now + needed:
        return Refusal(
            "too_short", f"an order ends {needed} s from now or later", "node.orders.settle_margin"
        )
    return None


def _about_the_spec(place: Place, seen: Situation) -> Refusal | None:
    order, spec, workload = place.order, place.spec, seen.workload
    if spec_hash(spec) != order.spec_hash:
        return Refusal("bad_spec", "the order does not name this spec")
    if spec.domain != f"{seen.info.chain_id}:{seen.info.orders.contract}":
        return Refusal("bad_spec", "the spec is for another chain or contract")
    if spec.input_bytes > min(seen.config.max_input_mib << 20, MAX_BLOB_BYTES):
        return Refusal(
            "too_large", f"inputs up to {seen.config.max_input_mib} MiB", "node.max_input_mib"
        )
    if workload is None or workload.version != spec.workload_version:
        return Refusal("workload", f"{spec.workload} v{spec.workload_version} is not offered here")
    if spec.model and spec.model not in workload.models:
        return Refusal("model", f"model {spec.model} is not here", "deai node init imports models")
    if order.policy.label not in workload.policies:
        return Refusal("policy", f"{workload.id} is not verified by {order.policy.label} here")
    least = max(seen.config.price(spec.workload).base, seen.parameters.min_fee)
    if order.fee < least:
        return Refusal(
            "price", f"a seat costs at least {least}", f"node.prices.{spec.workload}.base_fee"
        )
    return None


def _about_the_client(place: Place, seen: Situation) -> Refusal | None:
    """What it did before, and whether this is its word at all."""
    order, past = place.order, seen.past
    try:
        signed = raw(order_id(order, seen.info.orders))
        verify(signed, place.signature, order.client)
    except BadSignature as error:
        return Refusal("bad_signature", f"the order is not its client's: {error}")
    if past.has_cheated:
        return Refusal(
            "cheated", "this client had a nonce settled for another order than the one we hold"
        )
    # Of one seat our own signature is the quorum: nothing depends on what the client shows.
    owed = past.lost + (seen.at_risk + int(order.fee) if order.quorum > 1 else 0)
    if owed > seen.config.orders.most_at_risk:
        return Refusal(
            "exposure",
            f"{format_tokens(owed)} of work for this client would be without the signatures that "
            f"pay for it; {format_tokens(seen.config.orders.most_at_risk)} are risked",
            "node.orders.exposure",
        )
    return None
