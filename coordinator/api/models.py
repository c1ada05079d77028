"""The documents of the API as OpenAPI sees them; `coordinator.documents` makes them.

Amounts are decimal text in base units (18 decimals), times RFC 3339 UTC.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Documents may grow fields; readers ignore what they do not know."""

    model_config = ConfigDict(extra="forbid")


class ProblemModel(BaseModel):
    """An error (RFC 9457) with a stable code."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, str]] | None = None


class ChainModel(Model):
    """How far one chain is followed."""

    head: int | None
    cursor: int | None
    behind: int
    head_time: str | None
    lag_s: float | None
    following: bool


class Percentiles(Model):
    """Milliseconds by the chain's clock over the newest completed tasks."""

    p50: int
    p95: int
    tasks: int


class ChannelSums(Model):
    """Over payment channels: deposited = redeemed + returned + held."""

    open: int
    closing: int
    closed: int
    deposited: str
    redeemed: str
    returned: str
    held: str


class Sums(Model):
    """Figures of one chain or of all; throughput is tasks completed per second over 60 s.

    escrowed = paid + refunded + protocol_fees + held. `total_rewards_distributed` is what nodes
    earned: `paid` for their seats, and vouchers that registered nodes' owners redeemed.
    """

    nodes: int
    active_nodes: int
    nodes_by_state: dict[str, int]
    pending_tasks: int
    open_tasks: int
    tasks_by_state: dict[str, int]
    throughput: float
    total_staked: str
    total_rewards_distributed: str
    rewarded_seats: int
    escrowed: str
    paid: str
    refunded: str
    protocol_fees: str
    held: str
    channels: ChannelSums
    min_stake: str
    slashed: str
    supply: str
    anomalies: int


class NetworkStats(Sums):
    """The network at a glance: all chains together, then each by itself."""

    completion_ms: Percentiles | None
    chains: dict[str, ChainModel]
    by_chain: dict[str, Sums]
    as_of: str


class Check(Model):
    """One thing that must be well."""

    name: str
    ok: bool
    detail: str


class NetworkHealth(Model):
    """Every check on its own."""

    status: Literal["ok", "degraded"]
    checks: list[Check]
    as_of: str


class Alive(Model):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Ready(Model):
    """Whether the index is at the head of every chain."""

    ready: bool
    chains: dict[str, ChainModel]


class Performance(Model):
    """What a node last said about its work."""

    running: int
    queued: int
    completed: int
    failed: int
    head: int
    instances: int
    mode: str


class SignedOffer(Model):
    """A signed offer: verify it against the registry's operator before using it."""

    chain: str
    sequence: int
    expires_at: str
    body: str
    """Canonical bytes, base64."""
    operator: str
    signature: str
    """64 bytes, base64."""


class Pool(Model):
    """A node's stake as a pool that others lend to; income and slashes are shared by shares.

    assets = own + delegated, `own` being the manager's part; `room` is what may still be
    delegated. What `leaving` unbonds for those who wanted out is in none of them. Commissions are
    hundredths of a percent of income. Income and slashes count once somebody has them shared out.
    """

    manager: str
    number: str
    """Which of the manager's pools, in decimal: 96 bits."""
    state: Literal["open", "closing", "closed"]
    commission_bps: int
    next_commission_bps: int | None
    """Announced, and not in force yet."""
    next_commission_at: str | None
    assets: str
    own: str
    delegated: str
    room: str
    shares: str
    worth_of_1000_shares: str
    """Of a thousand times 10^18 shares: a new pool gives so many for 1,000 tokens."""
    queued_shares: str
    """They wait for the next batch to unbond."""
    leaving: str
    matures_at: str | None
    income: str
    """Ever shared out, the commission included."""
    paid_out: str
    """Ever left the pool for those who wanted out."""
    opened_at: str


class Bound(Model):
    """The same node's registration on the other chain.

    `binding` holds both owners' signatures over both registrations: verify them before believing
    it. Standing, state and what was slashed are this coordinator's word.
    """

    chain: str
    node_id: str
    standing: str
    state: str
    slashed: str
    binding: dict[str, Any]


class Node(Model):
    """One node: facts of the chain, and what this coordinator heard.

    `earned` is what its owner was paid for it since it registered: for seats, by settlements of
    tasks, and for the tasks of channels, by vouchers that were redeemed.
    """

    node_id: str
    chain: str
    owner: str
    operator: str
    peer_id: str
    addresses: list[str]
    state: str
    status: Literal["online", "offline", "maintenance"]
    standing: str
    stake: str
    bonded: str
    unbonding: str
    unbond_at: str | None
    reputation: float
    reputation_thousandths: int
    checked_tasks: int
    last_epoch: int
    completed: int
    failed: int
    released: int
    earned: str
    slashed: str
    channels: ChannelSums
    pool: Pool | None
    bound: Bound | None
    registered_at: str
    last_heartbeat: str | None
    performance_metrics: Performance | None
    hardware: dict[str, Any] | None
    version: str | None
    sandbox: str | None
    capacity: int | None
    workloads: list[dict[str, Any]]
    offer: SignedOffer | None
    offers: list[SignedOffer]


class Day(Model):
    """What a node earned on one day (UTC, chain time)."""

    day: str
    earned: str
    completed: int


class NodeStatus(Node):
    """One node with its earnings by day, newest first."""

    by_day: list[Day]
    as_of: str


class Prices(Model):
    """Of online nodes, per unit, in base units."""

    lowest: str
    median: str
    highest: str


class Market(Model):
    """One workload as online nodes offer it."""

    nodes: int
    policies: list[str]
    unit_fee: Prices
    base_fee_lowest: str


class NodesStats(Model):
    """All nodes together."""

    total: int
    active: int
    by_state: dict[str, int]
    by_status: dict[str, int]
    by_standing: dict[str, int]
    total_staked: str
    earned: str
    slashed: str
    completed: int
    failed: int
    workloads: dict[str, Market]
    as_of: str


class NodePage(Model):
    """A page of nodes."""

    items: list[Node]
    next_cursor: str | None


class Channel(Model):
    """One payment channel as the chain knows it; no task that it paid for is on the chain.

    `deposit`, `claimed`, `refunded` and `receipts_root` are of its newest epoch, `redeemed` is
    what vouchers paid in all of them; `remaining` is what it holds.
    """

    channel_id: str
    chain: str
    client: str
    node_id: str
    owner: str
    session_key: str
    state: Literal["open", "closing", "closed"]
    epoch: int
    deposit: str
    claimed: str
    refunded: str
    remaining: str
    redeemed: str
    closes_at: str | None
    receipts_root: str
    opened_at: str
    opened_block: int
    updated_at: str


class ChannelPage(Model):
    """A page of channels, those first that were opened last."""

    items: list[Channel]
    next_cursor: str | None


class TaskSummary(Model):
    """One task as lists show it."""

    task_id: str
    chain: str
    client: str
    lane: str
    policy: str
    state: str
    seats: int
    committed: int
    attempts: int
    fee: str
    escrowed: str
    held: str
    paid: str
    refunded: str
    protocol_fee: str
    result_digest: str | None
    fault: bool
    spec_hash: str
    posted_at: str
    posted_block: int
    updated_at: str
    ended_at: str | None
    estimated_completion: str | None
    deadline: str


class TaskPage(Model):
    """A page of tasks, newest first."""

    items: list[TaskSummary]
    next_cursor: str | None


class Attempt(Model):
    """One holder of one seat."""

    attempt: int
    seat: int
    node_id: str
    provider: str
    fee: str
    state: str
    output_digest: str | None
    reason: str | None
    started_at: str
    lease_end: str
    committed_at: str | None
    ended_at: str | None
    payment: str | None
    reputation_before: float | None
    reputation_after: float | None


class Result(Model):
    """What won; the size and the place are the client's to know."""

    digest: str
    bytes: None
    path: None
    agreed: int
    seats: int


class Payment(Model):
    """Paid for one seat."""

    provider: str
    node_id: str
    seat: int
    amount: str


class Transaction(Model):
    """One transaction that touched the task; its gas is not in the chain's events."""

    kind: str
    hash: str
    block: int
    at: str
    gas_used: None
    events: int


class Moment(Model):
    """One event in the life of a task."""

    at: str
    block: int
    what: str
    seat: int | None
    note: str
    transaction: str


class Equivocation(Model):
    """Two different signed results of one attempt were shown."""

    seat: int
    node_id: str
    submitter: str


class Timings(Model):
    """Milliseconds by the chain's clock; null where only client and nodes know."""

    match_ms: None
    assign_ms: int | None
    input_ms: None
    execute_ms: int | None
    settle_ms: int | None
    total_ms: int | None


class Task(Model):
    """One task as far as the chain knows it."""

    task_id: str
    workload: None
    chain: str
    lane: str
    policy: str
    client: str
    spec_hash: str
    state: str
    detail: str
    progress: float
    estimated_completion: str | None
    fee: str
    tip: str
    seats: int
    quorum: int
    lease_s: int
    window_s: int
    deadline: str
    attempts: list[Attempt]
    result: Result | None
    escrowed: str
    held: str
    paid: str
    refunded: str
    protocol_fee: str
    payments: list[Payment]
    equivocations: list[Equivocation]
    transactions: list[Transaction]
    timeline: list[Moment]
    receipt: None
    timings: Timings
