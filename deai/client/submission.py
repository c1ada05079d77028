"""From a request to an assigned task on chain: match, reserve, ask around, fund, post.

The order is what makes a killed client safe: the lane is reserved before anybody is asked, and a
committee's accepts are on disk before the transaction that uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import trio

from deai.actions import PostAndAssign
from deai.chain.ledger import Transaction
from deai.client.committee import PASSING, Asked, Refusal, ask_around, call_off, summed
from deai.client.journal import Entry, MemberRecord, Proposal
from deai.client.lanes import already_posted, keep_lane, reserve
from deai.client.matching import Ranked
from deai.client.offering import POST_MARGIN, Plan, Scene, look_around, plan_for
from deai.client.requests import Prepared
from deai.client.sessions import Session
from deai.client.tools import Tools
from deai.errors import ConfigError, InsufficientFunds, LedgerRejected, TaskDeclined
from deai.ids import NodeId, TaskId
from deai.money import Amount
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
SETTLED_BY_OTHERS: Final = frozenset({"LaneBusy", "BadNonce", "NotOpen"})
"""Refusals that mean: this lane and nonce have been used."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A task on chain, and by which transaction if this life sent it."""

    entry: Entry
    proposal: Proposal
    transaction: Transaction | None
    plan: Plan | None
    early: Mapping[int, Session] = field(default_factory=dict)
    """By seat: the link on which the input went with the proposal."""
    matched_at: float | None = None
    """Local time at which the committee was complete, if that was in this life."""


class Submission:
    """One request on its way to the chain; used once."""

    def __init__(self, tools: Tools, prepared: Prepared, created: float) -> None:
        self._tools = tools
        self._prepared = prepared
        self._created = created
        self._refused: dict[NodeId, Refusal] = {}
        self._excluded: set[NodeId] = set()
        self._dead: set[TaskId] = set()
        self._patience = 1

    async def run(self, entry: Entry | None) -> Posted:
        """Carry the request to the chain, or find that an earlier life already did.

        Raises `TaskDeclined` (nobody takes it), `InsufficientFunds`, `LimitExceeded`, or
        `LedgerUnreachable`, after which the same request goes on where it was.
        """
        scene: Scene | None = None
        planned: Plan | None = None
        is_new = False
        if entry is None:
            entry, is_new, scene, planned = await self._begin()
        busy_until = trio.current_time() + BUSY_PATIENCE
        for number in range(ROUNDS):
            if not is_new:
                found = await already_posted(self._tools, entry)
                if found is not None:
                    bound = await self._tools.journal.bind(entry, found.task_id)
                    return Posted(bound, found, None, None)
                entry = await keep_lane(self._tools, entry)
            try:
                posted = await self._round(entry, scene, planned, is_new=is_new, fresh=number > 0)
            except (TaskDeclined, InsufficientFunds, ConfigError) as error:
                if isinstance(error, TaskDeclined) and trio.current_time() < busy_until:
                    passing = {n for n, one in self._refused.items() if one.code in PASSING}
                    if passing:
                        # Nodes were busy: that passes, and then they may take it.
                        self._excluded -= passing
                        await trio.sleep(BUSY_PAUSE)
                        is_new, scene, planned = False, None, None
                        continue
                await self._give_up(entry)
                if self._refused and isinstance(error, TaskDeclined):
                    raise self._declined() from error
                raise
            if posted is not None:
                return posted
            if len(self._dead) > MOST_REJECTED:
                break
            is_new, scene, planned = False, None, None
        found = await already_posted(self._tools, entry)
        if found is not None:
            return Posted(await self._tools.journal.bind(entry, found.task_id), found, None, None)
        await self._give_up(entry)
        raise self._declined()

    async def _begin(self) -> tuple[Entry, bool, Scene, Plan]:
        """Look before reserving: most requests that cannot be met leave no trace."""
        tools, prepared = self._tools, self._prepared
        seed = tools.random(32)
        scene = await look_around(tools, prepared, seed)
        plan = plan_for(prepared, scene)
        await tools.purse.check(tools.account, plan.fee * prepared.seats + prepared.request.tip)
        entry, is_new = await reserve(tools, prepared, seed, self._created)
        tools.crash("request_reserved")
        return entry, is_new, scene, plan

    async def _round(
        self,
        entry: Entry,
        scene: Scene | None,
        planned: Plan | None,
        *,
        is_new: bool,
        fresh: bool,
    ) -> Posted | None:
        """One committee; None if it did not come together or the contract refused it.

        `planned` is the plan for `scene`, if it is made already.
        """
        tools = self._tools
        saved = None if is_new else await self._still_good(entry)
        if saved is not None:
            return await self._post(entry, saved, None)
        if scene is None:
            scene = await look_around(tools, self._prepared, entry.seed, fresh=fresh)
        plan = planned or plan_for(self._prepared, scene, self._excluded, self._patience)
        task = self._task(entry, plan, scene)
        if not is_new:
            await tools.purse.check(tools.account, task.escrowed)
        asked = await self._ask(entry, task, plan, scene)
        self._learn(asked)
        identity = task_id(task, tools.ledger.info.escrow)
        if len(asked.seats) < task.seats:
            await call_off(tools.sessions, identity, asked.seats.values())
            return None
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
        posted = await self._post(entry, proposal, plan)
        early = {seat: one.early for seat, one in enumerate(seated) if one.early is not None}
        return posted if posted is None else replace(posted, early=early)

    def _task(self, entry: Entry, plan: Plan, scene: Scene) -> Task:
        return Task(
            client=entry.account,
            lane=entry.lane,
            nonce=entry.nonce,
            fee=plan.fee,
            tip=Amount(self._prepared.request.tip),
            seats=self._prepared.seats,
            policy=Policy(self._prepared.policy),
            lease=plan.lease,
            commit_deadline=scene.head.time + plan.deadline,
            window=scene.parameters.min_window,
            spec_hash=spec_hash(entry.spec),
        )

    async def _ask(self, entry: Entry, task: Task, plan: Plan, scene: Scene) -> Asked:
        rest = (one for one in scene.ranking.fit if one not in plan.chosen)
        return await ask_around(
            self._tools.sessions,
            self._tools.ledger.info.escrow,
            task,
            entry.spec,
            seats=range(task.seats),
            attempt=0,
            candidates=[one for one in (*plan.chosen, *rest) if one.node not in self._excluded],
            now=scene.head.time,
            data=self._prepared.data,
        )

    def _learn(self, asked: Asked) -> None:
        self._refused.update((one.node, one) for one in asked.refusals)
        too_short = [one for one in asked.refusals if one.code == "lease_too_short"]
        may_wait = self._patience < MOST_PATIENCE
        if too_short and may_wait:
            self._patience *= 2
        for refusal in asked.refusals:
            if refusal in too_short and may_wait:
                continue
            self._excluded.add(refusal.node)
            if refusal.code not in PASSING:
                self._tools.directory.forget(refusal.node)

    async def _post(self, entry: Entry, proposal: Proposal, plan: Plan | None) -> Posted | None:
        tools, task = self._tools, proposal.task
        matched_at = trio.current_time()
        # Named after lane and nonce: repeating it after a crash deposits nothing twice.
        name = f"{task.client}:{task.lane}:{task.nonce}"
        try:
            async with tools.purse.hold(tools.account, task.escrowed, name):
                action = PostAndAssign(task, proposal.accepts)
                transaction = await tools.ledger.submit(action)
        except InsufficientFunds as error:
            self._dead.add(proposal.task_id)
            if error.name == "Insufficient" and len(self._dead) <= MOST_REJECTED:
                # Another process spent it meanwhile; the wallet may still have more.
                await tools.purse.check(tools.account, task.escrowed)
                return None
            raise
        except LedgerRejected as error:
            self._dead.add(proposal.task_id)
            if error.name not in SETTLED_BY_OTHERS:
                # The contract names the node that it would not seat, if it was one.
                named = {a.node for a in proposal.accepts} & set(error.arguments.values())
                self._excluded |= named
                for node in named or {proposal.accepts[0].node}:
                    self._refused[node] = Refusal(node, error.name, str(error))
            return None
        tools.crash("posted")
        entry = msgspec.structs.replace(entry, task_id=proposal.task_id)
        return Posted(entry, proposal, transaction, plan, matched_at=matched_at)

    async def _still_good(self, entry: Entry) -> Proposal | None:
        """A committee of an earlier life whose accepts can still be used."""
        now = (await self._tools.ledger.head()).time
        for proposal in reversed(await self._tools.journal.proposals(entry)):
            task = proposal.task
            if (
                task.nonce == entry.nonce
                and proposal.task_id not in self._dead
                and now + task.lease + POST_MARGIN // 2 <= task.commit_deadline
                and all(accept.valid_until > now + 2 for accept in proposal.accepts)
            ):
                return proposal
        return None

    async def _give_up(self, entry: Entry) -> None:
        """Free the lane, unless a transaction of an earlier life might still land."""
        head = await self._tools.ledger.head()
        for proposal in await self._tools.journal.proposals(entry):
            is_dead = proposal.task_id in self._dead
            if not is_dead and proposal.task.commit_deadline > head.time:
                return
        await self._tools.journal.drop(entry)

    def _declined(self) -> TaskDeclined:
        shown = summed((one.code, one.reason) for one in self._refused.values())
        return TaskDeclined(
            f"no committee of {self._prepared.seats} came together: {shown}",
            hint="try again in a moment, raise --max-fee, or allow more time with --deadline",
            code="no_committee",
        )


def _member(one: Ranked) -> MemberRecord:
    peer = one.candidate.peer
    return MemberRecord(one.node, peer.peer_id, peer.addresses)
