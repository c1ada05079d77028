"""From a request to an assigned task on chain: match, reserve, ask around, fund, post.

The order is what makes a killed client safe: the lane is reserved before anybody is asked, and a
committee's accepts are on disk before the transaction that uses them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from deai.actions import Deposit, PostAndAssign
from deai.chain.ledger import Parameters, Transaction
from deai.client.committee import PASSING, Asked, Refusal, ask_around, call_off
from deai.client.journal import MAX_LANES, Entry, MemberRecord, Proposal
from deai.client.matching import Ranked, Ranking, choose, explain, fee_for, rank
from deai.client.requests import Prepared
from deai.client.tools import Tools
from deai.errors import (
    ConfigError,
    DeaiError,
    InsufficientFunds,
    LedgerRejected,
    LimitExceeded,
    TaskDeclined,
)
from deai.ids import NodeId, TaskId
from deai.money import Amount, format_tokens
from deai.tasks import Policy, Task, spec_hash, task_id

ROUNDS: Final = 40
"""Committees that are tried before giving up."""
BUSY_PATIENCE: Final = 20.0
"""Seconds to wait for nodes that are busy."""
BUSY_PAUSE: Final = 1.0
MOST_PATIENCE: Final = 16
"""How often the lease is lengthened, at most, for nodes that find it too short."""
MOST_REJECTED: Final = 4
"""Committees that the contract may refuse before the client gives up."""
MIN_DEADLINE: Final = 120.0
POST_MARGIN: Final = 5
"""Seconds between proposing and the block of the assignment."""
SETTLED_BY_OTHERS: Final = frozenset({"LaneBusy", "BadNonce", "NotOpen"})
"""Refusals that mean: this lane and nonce have been used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be posted, without asking anybody: for `--dry-run` and the first round."""

    ranking: Ranking
    chosen: tuple[Ranked, ...]
    fee: Amount
    lease: int
    deadline: int
    """Seconds from now until the commit deadline."""
    now: int


@dataclass(frozen=True, slots=True)
class Posted:
    """A task on chain, and by which transaction if this life sent it."""

    entry: Entry
    proposal: Proposal
    transaction: Transaction | None
    plan: Plan | None
    matched_at: float | None = None
    """Local time at which the committee was complete, if that was in this life."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a submission would do; `plan` is None where it could not, and `error` says why."""

    prepared: Prepared
    ranking: Ranking
    plan: Plan | None
    error: DeaiError | None


async def look_around(
    tools: Tools, prepared: Prepared, seed: bytes, *, fresh: bool = False
) -> tuple[Ranking, Parameters, int]:
    """Rank every node that can be found; also the contracts' constants and chain time."""
    head = await tools.ledger.head()
    parameters = await tools.ledger.parameters()
    wish = prepared.wish(prepared.request.deadline or parameters.max_span)
    candidates = await tools.directory.candidates(wish, head.time, fresh=fresh)
    epoch = head.time // parameters.epoch_seconds
    ranking = rank(candidates, wish, now=head.time, epoch=epoch, seed=seed)
    return ranking, parameters, head.time


def plan_for(
    prepared: Prepared,
    ranking: Ranking,
    parameters: Parameters,
    now: int,
    excluded: set[NodeId],
    patience: int = 1,
) -> Plan:
    """Choose from a ranking; fee, lease and deadline follow from the chosen. Pure.

    `patience` multiplies the lease, after nodes said that it was too short.
    """
    fit = [one for one in ranking.fit if one.node not in excluded]
    chosen = choose(fit, prepared.seats)
    span = prepared.request.deadline or parameters.max_span
    if len(chosen) < prepared.seats:
        raise explain(Ranking(tuple(fit), ranking.rejected), prepared.wish(span))
    fee = fee_for(chosen, parameters.min_fee)
    if fee > prepared.request.max_fee:
        raise TaskDeclined(
            f"the contract takes no fee below {format_tokens(parameters.min_fee)} a seat",
            hint=f"raise --max-fee to {parameters.min_fee}",
            code="price_below_every_offer",
        )
    slowest = max(one.seconds for one in chosen)
    lease, deadline = times(prepared, parameters, slowest, patience)
    return Plan(ranking, chosen, fee, lease, deadline, now)


def times(
    prepared: Prepared, parameters: Parameters, seconds: float, patience: int
) -> tuple[int, int]:
    """`(lease, deadline)` in seconds for a task that takes the slowest node `seconds`.

    A lease leaves room for a second attempt before the deadline where that is possible.
    Raises `ConfigError` when the deadline is too close for any lease.
    """
    needed = 10 + math.ceil(3 * seconds + len(prepared.data) / 2_000_000)
    wanted = prepared.request.deadline or max(MIN_DEADLINE, 4.0 * needed * patience)
    deadline = min(int(wanted), parameters.max_span - POST_MARGIN)
    longest = deadline - POST_MARGIN
    if longest < parameters.min_lease:
        raise ConfigError(
            f"a deadline in {deadline} s leaves no time: the shortest lease is "
            f"{parameters.min_lease} s",
            hint=f"ask for --deadline {parameters.min_lease + 2 * POST_MARGIN}s or more",
            code="deadline_too_close",
        )
    lease = min(needed, max(math.ceil(1.5 * seconds) + 5, longest // 2)) * patience
    return min(max(lease, parameters.min_lease), longest), deadline


async def submit(tools: Tools, prepared: Prepared, entry: Entry | None, created: float) -> Posted:
    """Carry a request to the chain, or find that an earlier life already did.

    Raises `TaskDeclined` (nobody takes it), `InsufficientFunds`, `LimitExceeded`, or
    `LedgerUnreachable`, after which the same request goes on where it was.
    """
    if entry is None:
        seed = tools.random(32)
        plan = plan_for(prepared, *await look_around(tools, prepared, seed), set())
        await ensure_balance(tools, plan.fee * prepared.seats + prepared.request.tip)
        entry = await reserve(tools, prepared, seed, created)
        tools.crash("request_reserved")
    refused: dict[NodeId, Refusal] = {}
    excluded: set[NodeId] = set()
    dead: set[TaskId] = set()
    patience, busy_until = 1, trio.current_time() + BUSY_PATIENCE
    for number in range(ROUNDS):
        found = await already_posted(tools, entry)
        if found is not None:
            return Posted(await tools.journal.bind(entry, found.task_id), found, None, None)
        entry = await keep_lane(tools, entry)
        try:
            proposal, plan_, asked = await _round(
                tools, prepared, entry, excluded, dead, patience, fresh=number > 0
            )
        except (TaskDeclined, InsufficientFunds, ConfigError) as error:
            passing = {node for node, one in refused.items() if one.code in PASSING}
            if isinstance(error, TaskDeclined) and passing and trio.current_time() < busy_until:
                # Nodes were busy: that passes, and money that buys nothing now buys it then.
                excluded -= passing
                await trio.sleep(BUSY_PAUSE)
                continue
            await _give_up(tools, entry, dead)
            if refused and isinstance(error, TaskDeclined):
                raise _declined(list(refused.values()), prepared) from error
            raise
        refused.update((one.node, one) for one in asked.refusals)
        for refusal in asked.refusals:
            if refusal.code == "lease_too_short" and patience < MOST_PATIENCE:
                patience = 2 * patience
            else:
                excluded.add(refusal.node)
                if refusal.code not in PASSING:
                    tools.directory.forget(refusal.node)
        if proposal is None:
            continue
        matched_at = trio.current_time()
        try:
            transaction = await tools.ledger.submit(PostAndAssign(proposal.task, proposal.accepts))
        except InsufficientFunds:
            await _give_up(tools, entry, dead | {proposal.task_id})
            raise
        except LedgerRejected as error:
            dead.add(proposal.task_id)
            if error.name not in SETTLED_BY_OTHERS:
                # The contract names the node that it would not seat, if it was one.
                named = {a.node for a in proposal.accepts} & set(error.arguments.values())
                excluded |= named
                for node in named or {proposal.accepts[0].node}:
                    refused[node] = Refusal(node, error.name, str(error))
                if len(dead) > MOST_REJECTED:
                    break
            continue
        tools.crash("posted")
        entry = msgspec.structs.replace(entry, task_id=proposal.task_id)
        return Posted(entry, proposal, transaction, plan_, matched_at)
    found = await already_posted(tools, entry)
    if found is not None:
        return Posted(await tools.journal.bind(entry, found.task_id), found, None, None)
    await _give_up(tools, entry, dead)
    raise _declined(list(refused.values()), prepared)


async def _give_up(tools: Tools, entry: Entry, dead: set[TaskId]) -> None:
    """Free the lane, unless a transaction of an earlier life might still land."""
    head = await tools.ledger.head()
    for proposal in await tools.journal.proposals(entry):
        if proposal.task_id not in dead and proposal.task.commit_deadline > head.time:
            return
    await tools.journal.drop(entry)


async def reserve(tools: Tools, prepared: Prepared, seed: bytes, created: float) -> Entry:
    """Take a free lane for the request, in the journal."""
    account, info = tools.account, tools.ledger.info
    spec = prepared.spec(info, tools.random(32))
    for _ in range(64):
        lane, nonce, since = await _free_lane(tools)
        entry = await tools.journal.reserve(
            chain=info.name,
            account=account,
            digest=prepared.digest,
            key=prepared.request.idempotency_key,
            lane=lane,
            nonce=nonce,
            since=since,
            seed=seed,
            spec=spec,
            policy=prepared.policy.label,
            created=created,
        )
        if entry is not None:
            return entry
        twin = await tools.journal.find(
            info.name, account, prepared.digest, prepared.request.idempotency_key
        )
        if twin is not None:
            return twin
    raise LimitExceeded("no free lane: too many tasks are being submitted at once")


async def already_posted(tools: Tools, entry: Entry) -> Proposal | None:
    """Which proposal of the request is on chain, if any."""
    proposals = await tools.journal.proposals(entry)
    if not proposals:
        return None
    lane = await tools.ledger.lane(entry.account, entry.lane)
    if lane.nonce < entry.nonce:
        return None
    for proposal in proposals:
        if await tools.ledger.task_events(proposal.task_id, since=entry.since):
            return proposal
    return None


async def keep_lane(tools: Tools, entry: Entry) -> Entry:
    """The entry with a lane and nonce that can still be used, moved if somebody used it."""
    for _ in range(64):
        lane = await tools.ledger.lane(entry.account, entry.lane)
        if not lane.is_busy and lane.closed + 1 == entry.nonce:
            return entry
        moved = await tools.journal.move(entry, *await _free_lane(tools))
        entry = moved or entry
    raise LimitExceeded("no free lane: too many tasks are being submitted at once")


async def ensure_balance(tools: Tools, needed: int) -> int:
    """Base units to deposit so that the vault holds `needed`.

    Raises `InsufficientFunds` naming what is missing when vault and wallet do not reach.
    """
    balances = await tools.ledger.balances(tools.account)
    short = needed - balances.vault
    if short <= 0:
        return 0
    if balances.tokens < short:
        missing = short - balances.tokens
        raise InsufficientFunds(
            "Insufficient",
            {
                "account": tools.account,
                "needed": format_tokens(needed),
                "has": format_tokens(balances.vault + balances.tokens),
            },
            hint=f"send {missing} base units ({format_tokens(missing)}) or more to "
            f"{tools.account}, or lower --max-fee",
        )
    return short


async def _free_lane(tools: Tools) -> tuple[int, int, int]:
    """`(lane, next nonce, newest block)` of the first lane that nobody uses."""
    held = await tools.journal.lanes(tools.ledger.info.name, tools.account)
    head = await tools.ledger.head()
    for lane in range(MAX_LANES):
        if lane not in held:
            record = await tools.ledger.lane(tools.account, lane)
            if not record.is_busy:
                return lane, record.closed + 1, head.number
    raise LimitExceeded(f"all {MAX_LANES} lanes of this account are busy")


async def _round(
    tools: Tools,
    prepared: Prepared,
    entry: Entry,
    excluded: set[NodeId],
    dead: set[TaskId],
    patience: int,
    *,
    fresh: bool,
) -> tuple[Proposal | None, Plan | None, Asked]:
    head = await tools.ledger.head()
    saved = await _still_good(tools, entry, dead, head.time)
    if saved is not None:
        await _fund(tools, entry, saved.task)
        return saved, None, Asked({}, ())
    ranking, parameters, _ = await look_around(tools, prepared, entry.seed, fresh=fresh)
    plan = plan_for(prepared, ranking, parameters, head.time, excluded, patience)
    task = Task(
        client=tools.account,
        lane=entry.lane,
        nonce=entry.nonce,
        fee=plan.fee,
        tip=Amount(prepared.request.tip),
        seats=prepared.seats,
        policy=Policy(prepared.policy),
        lease=plan.lease,
        commit_deadline=head.time + plan.deadline,
        window=parameters.min_window,
        spec_hash=spec_hash(entry.spec),
    )
    await ensure_balance(tools, task.escrowed)
    domain = tools.ledger.info.escrow
    order = [*plan.chosen, *(one for one in ranking.fit if one not in plan.chosen)]
    asked = await ask_around(
        tools.sessions,
        domain,
        task,
        entry.spec,
        seats=range(task.seats),
        attempt=0,
        candidates=[one for one in order if one.node not in excluded],
        now=head.time,
    )
    identity = task_id(task, domain)
    if len(asked.seats) < task.seats:
        await call_off(tools.sessions, identity, asked.seats.values())
        return None, plan, asked
    tools.crash("accepts_collected")
    seated = [asked.seats[seat] for seat in range(task.seats)]
    proposal = Proposal(
        task_id=identity,
        task=task,
        accepts=tuple(one.accept for one in seated),
        members=tuple(_member(one.ranked) for one in seated),
    )
    await tools.journal.propose(entry, proposal)
    tools.crash("proposal_saved")
    await _fund(tools, entry, task)
    return proposal, plan, asked


def _member(one: Ranked) -> MemberRecord:
    peer = one.candidate.peer
    return MemberRecord(one.node, peer.peer_id, peer.addresses)


async def _still_good(tools: Tools, entry: Entry, dead: set[TaskId], now: int) -> Proposal | None:
    """A committee of an earlier life whose accepts can still be used."""
    for proposal in reversed(await tools.journal.proposals(entry)):
        task = proposal.task
        if (
            task.nonce == entry.nonce
            and proposal.task_id not in dead
            and now + task.lease + POST_MARGIN // 2 <= task.commit_deadline
            and all(accept.valid_until > now + 2 for accept in proposal.accepts)
        ):
            return proposal
    return None


async def _fund(tools: Tools, entry: Entry, task: Task) -> None:
    short = await ensure_balance(tools, task.escrowed)
    if short:
        # Named after lane and nonce: repeating it after a crash deposits nothing twice.
        key = f"deposit:{task.client}:{entry.lane}:{entry.nonce}:{short}"
        await tools.ledger.submit(Deposit(Amount(short)), key=key)


def _declined(refused: Sequence[Refusal], prepared: Prepared) -> TaskDeclined:
    counts: dict[str, int] = {}
    for one in refused:
        line = f"{one.code}: {one.reason}" if one.reason else one.code
        counts[line] = counts.get(line, 0) + 1
    shown = "; ".join(f"{number} × {line}" for line, number in list(counts.items())[:6])
    return TaskDeclined(
        f"no committee of {prepared.seats} came together: {shown}",
        hint="try again in a moment, raise --max-fee, or allow more time with --deadline",
        code="no_committee",
    )
