"""Whether to take a seat: a pure judgement of a proposal, and the promise that follows.

Every refusal has a typed code and is counted, so that `deai node why` can say what kept work
away and what would change it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deai.chain.ledger import ChainInfo, NodeRecord, Parameters
from deai.errors import NodeFault
from deai.hashing import MAX_BLOB_BYTES, blob_digest
from deai.ids import AccountId, PeerId
from deai.messages import Accepted, DeclinedSeat, Propose
from deai.ports import WorkloadInfo
from deai.tasks import (
    MAX_COMMIT_SPAN,
    AttemptIndex,
    Policy,
    SeatIndex,
    accept_digest,
    spec_hash,
    task_id,
)
from node.config import SANDBOX_LEVELS, NodeConfig
from node.daemon import Mode
from node.engagement import Engagement
from node.state import Node
from node.store.errors import StoreFull
from node.store.records import Saved, SeatKey

BYTES_PER_SECOND = 1024 * 1024
"""Assumed rate of an input on its way, when judging whether a lease is long enough."""
UNUSED = "nothing to do: others get the slots meanwhile"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: `code` for programs, `reason` for the client, `hint` for our operator."""

    code: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the judgement depends on."""

    config: NodeConfig
    info: ChainInfo
    parameters: Parameters
    operator: AccountId
    mode: Mode
    record: NodeRecord | None
    now: int
    """Chain seconds."""
    workload: WorkloadInfo | None
    """None: not installed or not offered here."""
    sandbox: str
    load: int
    """Seats that need a worker, on whichever chain."""
    share: int
    """Accepts that one peer may hold unassigned."""
    peer_open: int
    """Those that this peer holds, on whichever chain."""
    peer_waits: float = 0.0
    """Seconds until this peer, which let accepts lapse, may hold another."""
    is_ill: str = ""
    """Code of a problem that stops new work: a full disk, a twin, a silent chain."""


def judge(proposal: Propose, seen: Situation) -> Refusal | None:
    """Why this seat is declined, or None to take it."""
    for check in (_about_us, _about_the_spec, _about_the_workload, _about_terms):
        refusal = check(proposal, seen)
        if refusal is not None:
            return refusal
    return None


def _about_us(_proposal: Propose, seen: Situation) -> Refusal | None:
    config = seen.config
    if seen.is_ill:
        return Refusal(seen.is_ill, "the node cannot take work now", "see `deai node status`")
    if seen.mode is Mode.PAUSED:
        return Refusal("paused", "the operator paused the node", "deai node resume")
    if seen.mode is Mode.DRAINING:
        return Refusal("draining", "the node finishes what it has and leaves")
    if seen.mode is Mode.JOINING:
        return Refusal("joining", "the node is starting")
    record = seen.record
    epoch = seen.now // seen.parameters.epoch_seconds
    if record is None or not record.standing.is_assignable or record.last_epoch + 1 < epoch:
        return Refusal("not_registered", "the node may not be assigned now", "deai stake status")
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
    if seen.peer_open >= seen.share:
        return Refusal(
            "capacity", f"a client holds {seen.share} accepts that it did not assign", UNUSED
        )
    if seen.peer_waits:
        return _lapsed(seen.peer_waits)
    return None


def _lapsed(wait: float) -> Refusal:
    return Refusal(
        "capacity",
        f"a client let too many accepts lapse; it may ask again in {math.ceil(wait)} s",
        UNUSED,
    )


def _about_the_spec(proposal: Propose, seen: Situation) -> Refusal | None:
    task, spec = proposal.task, proposal.spec
    if spec_hash(spec) != task.spec_hash:
        return Refusal("bad_spec", "the task does not name this spec")
    if spec.domain != f"{seen.info.chain_id}:{seen.info.escrow.contract}":
        return Refusal("bad_spec", "the spec is for another chain or contract")
    seats_fit = task.seats == 1 if task.policy is Policy.NONE else task.seats % 2 and task.seats > 1
    if not seats_fit or proposal.seat >= task.seats:
        return Refusal("bad_spec", f"{task.seats} seats do not fit {task.policy.label}")
    if spec.input_bytes > min(seen.config.max_input_mib << 20, MAX_BLOB_BYTES):
        return Refusal(
            "too_large", f"inputs up to {seen.config.max_input_mib} MiB", "node.max_input_mib"
        )
    data = proposal.input
    if data is not None and not (
        len(data) == spec.input_bytes and blob_digest(data) == spec.input_digest
    ):
        return Refusal("bad_spec", "the input is not the one that the spec names")
    return None


def _about_the_workload(proposal: Propose, seen: Situation) -> Refusal | None:
    task, spec, workload = proposal.task, proposal.spec, seen.workload
    if workload is None or workload.version != spec.workload_version:
        return Refusal("workload", f"{spec.workload} v{spec.workload_version} is not offered here")
    if spec.model and spec.model not in workload.models:
        return Refusal("model", f"model {spec.model} is not here", "deai node init imports models")
    if task.policy.label not in workload.policies:
        return Refusal("policy", f"{workload.id} is not verified by {task.policy.label} here")
    return None


def _about_terms(proposal: Propose, seen: Situation) -> Refusal | None:
    task, spec = proposal.task, proposal.spec
    price = seen.config.price(spec.workload)
    if task.fee < max(price.base, seen.parameters.min_fee):
        return Refusal(
            "price",
            f"a seat costs at least {max(price.base, seen.parameters.min_fee)}",
            f"node.prices.{spec.workload}.base_fee",
        )
    needed = seen.config.min_lease + spec.input_bytes // BYTES_PER_SECOND
    if task.lease < max(needed, seen.parameters.min_lease):
        return Refusal("lease_too_short", f"a lease of {needed} s is needed", "node.min_lease")
    if not seen.now + task.lease <= task.commit_deadline <= seen.now + MAX_COMMIT_SPAN + 60:
        return Refusal("deadline", "the lease does not fit before the commit deadline")
    if task.window < seen.parameters.min_window:
        return Refusal("bad_spec", f"a window has {seen.parameters.min_window} s at least")
    return None


class Negotiator:
    """Answers proposals, and remembers what it promised before it promises."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def situation(self, proposal: Propose, peer: PeerId) -> Situation:
        """What the judgement needs, as things are now."""
        node = self._node
        problems = node.problems.keys() | node.daemon.problems.keys()
        ills = ("disk_full", "another_instance", "chain_silent")
        wanted = proposal.spec.workload
        workload = next((one for one in node.offered() if one.id == wanted), None)
        return Situation(
            config=node.config,
            info=node.info,
            parameters=node.parameters,
            operator=node.ports.signer.account,
            mode=node.mode,
            record=node.record,
            now=node.chain_time,
            workload=workload,
            sandbox=node.ports.workbench.sandbox.level,
            load=node.daemon.load,
            share=node.daemon.share,
            peer_open=node.daemon.held_by(peer),
            peer_waits=self._waits(peer),
            is_ill=next((code for code in ills if code in problems), ""),
        )

    def _waits(self, peer: PeerId) -> float:
        daemon = self._node.daemon
        return daemon.holds.wait(daemon.owed_by(peer))

    async def propose(self, proposal: Propose, peer: PeerId) -> Accepted | DeclinedSeat:
        """Take the seat or say why not; a repeated proposal gets the same answer."""
        node = self._node
        task = task_id(proposal.task, node.info.escrow)
        node.counters["proposals"] += 1
        known = node.engagements.get(task)
        try:
            if known is not None:
                return await self._again(known, proposal, peer)
            refusal = judge(proposal, self.situation(proposal, peer))
            if refusal is None:
                return await self._accept(
                    proposal, SeatKey(task, proposal.seat, proposal.attempt), peer
                )
        except (StoreFull, NodeFault) as error:
            # What is not kept is not promised, and nothing of it is this link's fault.
            node.daemon.disk_failed(error)
            refusal = Refusal("disk_full", "the node cannot take work now", error.hint)
        node.reason(refusal.code, refusal.reason, refusal.hint)
        return DeclinedSeat(task, proposal.seat, refusal.code, refusal.reason)

    async def _accept(self, proposal: Propose, key: SeatKey, peer: PeerId) -> Accepted:
        node = self._node
        valid_until = min(
            node.chain_time + node.config.accept_seconds, proposal.task.commit_deadline
        )
        signature = self._sign(key, valid_until)
        node.ports.crash("accept.signed")
        saved = Saved(
            key=key,
            task=proposal.task,
            spec=proposal.spec,
            valid_until=valid_until,
            signature=signature,
            since=node.head.number if node.head is not None else 0,
            accepted_at=node.chain_time,
            client_peer=peer,
            has_input=proposal.input is not None,
            input=proposal.input,
        )
        engagement = Engagement.of(saved)
        # Registered before the journal's disk is waited for: two proposals that arrive together
        # must not both find the slot free.
        node.engagements[key.task_id] = engagement
        is_saved = False
        try:
            await node.ports.journal.accept(saved)
            is_saved = True
        finally:
            if not is_saved:
                del node.engagements[key.task_id]
            engagement.is_durable.set()
        node.ports.crash("accept.journalled")
        node.counters["accepted"] += 1
        node.engage(engagement)
        return self._answer(engagement)

    async def _again(
        self, known: Engagement, proposal: Propose, peer: PeerId
    ) -> Accepted | DeclinedSeat:
        node, key = self._node, known.key
        await known.is_durable.wait()
        if node.engagements.get(key.task_id) is not known:
            return DeclinedSeat(key.task_id, proposal.seat, "disk_full", "try again later")
        if known.spec != proposal.spec:
            return DeclinedSeat(key.task_id, proposal.seat, "bad_spec", "another spec than before")
        known.admit(peer)
        same = (key.seat, key.attempt) == (proposal.seat, proposal.attempt)
        if same and known.chain is None and node.mode is Mode.RUNNING:
            await self._renew(known, peer)
        if same:
            await self._take_input(known, proposal.input)
            return self._answer(known)
        return DeclinedSeat(
            key.task_id, proposal.seat, "capacity", f"the node holds seat {key.seat} of this task"
        )

    async def _take_input(self, known: Engagement, data: bytes | None) -> None:
        """The input with a repeated proposal, where it had not come yet."""
        if data is None or known.has_input or known.result is not None:
            return
        if blob_digest(data) == known.spec.input_digest:
            known.small_input, known.has_input = data, True
            await self._node.ports.journal.has_input(known.key, known.members, data)
            known.changed()

    async def _renew(self, known: Engagement, peer: PeerId) -> None:
        """Promise the seat for longer, unless this peer has kept slots waiting too long already."""
        node, key = self._node, known.key
        valid_until = min(node.chain_time + node.config.accept_seconds, known.task.commit_deadline)
        if valid_until <= known.valid_until:
            return
        if wait := self._waits(peer):
            refusal = _lapsed(wait)
            node.reason(refusal.code, refusal.reason, refusal.hint)
            return
        signature = self._sign(key, valid_until)
        await node.ports.journal.renew(key, valid_until, signature)
        if peer != known.asked_by:
            # Each pays for the time that it asked for, so that nobody can run up another's debt.
            node.daemon.holds.charge(known.asked_by, known.idle(node.chain_time))
            known.asked_by, known.asked_at = peer, node.chain_time
        known.valid_until, known.signature = valid_until, signature

    def _sign(self, key: SeatKey, valid_until: int) -> bytes:
        node = self._node
        digest = accept_digest(
            node.info.escrow, key.task_id, key.seat, key.attempt, node.ports.node, valid_until
        )
        return node.ports.signer.sign(digest)

    def _answer(self, engagement: Engagement) -> Accepted:
        key = engagement.key
        seat: SeatIndex = key.seat
        attempt: AttemptIndex = key.attempt
        return Accepted(
            key.task_id,
            seat,
            attempt,
            self._node.ports.node,
            engagement.valid_until,
            engagement.signature,
        )
