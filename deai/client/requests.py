"""What somebody asks for, checked before a coin moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deai.chain.ledger import ChainInfo
from deai.client.matching import SANDBOX_RANK, Wish
from deai.codec import decode_value, encode_value
from deai.errors import LimitExceeded, MalformedMessage, UsageError
from deai.hashing import MAX_BLOB_BYTES, blob_digest, keccak
from deai.ids import AccountId, NodeId
from deai.money import MAX_AMOUNT
from deai.ports import Catalogue, Estimate, WorkloadInfo
from deai.tasks import MAX_COMMIT_SPAN, MAX_SEATS, Policy, TaskSpec, parse_policy

DEFAULT_SEATS: Final = 3
MAX_KEY_LENGTH: Final = 200
_TAG: Final = b"deai request/1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """A wish in the client's own words. Sums in base units, `deadline` in seconds from now."""

    workload: str
    data: bytes = field(repr=False)
    params: Mapping[str, Any] = field(default_factory=dict)
    policy: str = ""
    """Empty: the workload's own default."""
    seats: int = 0
    """0: one for `none/1`, else three."""
    max_fee: int
    deadline: float = 0.0
    """0: chosen from the nodes' measured speed, at least two minutes."""
    nodes: tuple[NodeId, ...] = ()
    tip: int = 0
    min_sandbox: str = "none"
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that every honest node would take: parameters filled in, input checked."""

    request: TaskRequest
    info: WorkloadInfo
    policy: Policy
    seats: int
    parameters: bytes
    model: str
    estimate: Estimate
    input_digest: bytes
    digest: bytes
    """Names the request: equal requests of one client on one chain have equal digests."""

    @property
    def data(self) -> bytes:
        """The input."""
        return self.request.data

    def wish(self, seconds: float) -> Wish:
        """What the matching needs to know; `seconds` until the deadline."""
        return Wish(
            workload=self.info.id,
            version=self.info.version,
            model=self.model,
            policy=self.policy,
            seats=self.seats,
            units=self.estimate.units,
            max_fee=self.request.max_fee,
            seconds=seconds,
            nodes=self.request.nodes,
            min_sandbox=self.request.min_sandbox,
        )

    def spec(self, chain: ChainInfo, salt: bytes) -> TaskSpec:
        """The spec that nodes are given; `salt` tells a deliberate repetition apart."""
        return TaskSpec(
            domain=f"{chain.chain_id}:{chain.escrow.contract}",
            workload=self.info.id,
            workload_version=self.info.version,
            model=self.model,
            input_digest=self.input_digest,
            input_bytes=len(self.data),
            parameters=self.parameters,
            salt=salt,
        )


def prepare(
    request: TaskRequest, catalogue: Catalogue, chain: ChainInfo, account: AccountId
) -> Prepared:
    """Check a request as every node will.

    Raises `WorkloadFault` (unknown workload, bad parameters, bad input), `LimitExceeded` (too
    large) or `UsageError` (a policy or number that cannot be meant).
    """
    if len(request.data) > MAX_BLOB_BYTES:
        raise LimitExceeded(
            f"the input has {len(request.data)} bytes; at most {MAX_BLOB_BYTES}",
            hint="cut it into several tasks",
            code="input_too_large",
        )
    info = catalogue.info(request.workload)
    policy = _policy(request.policy or info.default_policy, info)
    seats = request.seats or (1 if policy is Policy.NONE else DEFAULT_SEATS)
    _check_numbers(request, policy, seats)
    parameters = catalogue.parameters(info.id, dict(request.params))
    values = decode_value(parameters) if info.models else None
    model = values.get("model", "") if isinstance(values, dict) else ""
    estimate = catalogue.check(info.id, parameters, request.data)
    input_digest = blob_digest(request.data)
    named = [
        info.id, info.version, parameters.hex(), input_digest.hex(), policy.label, seats,
        str(request.max_fee), float(request.deadline), sorted(request.nodes), str(request.tip),
        request.min_sandbox, str(chain.name), chain.chain_id, chain.escrow.contract, account,
    ]  # fmt: skip
    return Prepared(
        request=request,
        info=info,
        policy=policy,
        seats=seats,
        parameters=parameters,
        model=model if isinstance(model, str) else "",
        estimate=estimate,
        input_digest=input_digest,
        digest=keccak(_TAG, encode_value(named)),
    )


def _policy(text: str, info: WorkloadInfo) -> Policy:
    hint = f"{info.id} takes " + " or ".join(info.policies)
    try:
        policy = parse_policy(text)
    except MalformedMessage as error:
        raise UsageError(str(error), hint=hint, code="unsupported_policy") from error
    if policy.label not in info.policies:
        raise UsageError(
            f"{info.id} cannot be verified by {policy.label}", hint=hint, code="unsupported_policy"
        )
    return policy


def _check_numbers(request: TaskRequest, policy: Policy, seats: int) -> None:
    if policy is Policy.NONE and seats != 1:
        raise UsageError(
            f"{policy.label} has exactly one seat, not {seats}",
            hint="leave --seats away, or ask for another --policy",
            code="bad_seats",
        )
    if policy is not Policy.NONE and (seats % 2 == 0 or not 3 <= seats <= MAX_SEATS):
        raise UsageError(
            f"{policy.label} takes an odd number of seats from 3 to {MAX_SEATS}, not {seats}",
            hint="--seats 3 is enough for most tasks",
            code="bad_seats",
        )
    if not request.deadline >= 0:
        raise UsageError(
            "the deadline lies in the past",
            hint="a deadline is a time from now, as 120s",
            code="deadline_in_the_past",
        )
    if request.deadline > MAX_COMMIT_SPAN:
        raise UsageError(
            f"a deadline lies at most {MAX_COMMIT_SPAN // 3600} hours ahead",
            hint="a deadline is a time from now, as 120s",
            code="bad_deadline",
        )
    if not 0 < request.max_fee <= MAX_AMOUNT or not 0 <= request.tip <= MAX_AMOUNT:
        raise UsageError(
            "the fee of a seat is a positive amount",
            hint="the most to pay per seat, as 0.12CT",
            code="bad_amount",
        )
    if request.max_fee * seats + request.tip > MAX_AMOUNT:
        raise UsageError(
            "more than all tokens there are",
            hint="the most to pay per seat, as 0.12CT",
            code="bad_amount",
        )
    if len(request.idempotency_key) > MAX_KEY_LENGTH:
        raise UsageError(f"an idempotency key has at most {MAX_KEY_LENGTH} characters")
    if request.min_sandbox not in SANDBOX_RANK:
        raise UsageError(
            f"unknown sandbox level: {request.min_sandbox[:20]!r}",
            hint="one of " + ", ".join(SANDBOX_RANK),
        )
