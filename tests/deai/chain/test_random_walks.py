"""Whatever anybody sends in whatever order: no token appears or disappears, no state is illegal.

On a real chain the same walk is replayed in memory (see `twin`): refusals, events and records
must be equal, also for the sequences that nobody thought of.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from deai import actions as act
from deai.chain.tasks_view import fold
from deai.errors import LedgerRejected
from deai.hashing import ZERO, keccak
from deai.money import UNIT, Amount
from deai.standing import Standing
from deai.tasks import FaultCode, Opening, Policy, fault_digest
from tests.deai.chain.conftest import memory_world
from tests.support.ledger_conformance import (
    LEASE,
    STAKE,
    WINDOW,
    WRONG,
    Play,
    Provider,
    World,
    client,
    many_providers,
    play,
)

pytestmark = pytest.mark.slow


class Walk:
    """One client with two lanes, five providers, and a source of ideas."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.plays: list[Play] = []
        self.providers: list[Provider] = []
        self.accepted = self.refused = 0
        self.count = 0

    async def begin(self) -> None:
        self.providers = await many_providers(self.world, 5)
        self.payer = await client(self.world)

    async def step(self) -> None:
        ideas: list[Callable[[Play], Awaitable[None]]] = [
            self.commit, self.commit, self.commit, self.finalise, self.finalise, self.reveal,
            self.approve, self.deliver, self.object_, self.release, self.reassign, self.expire,
            self.cancel, self.assign, self.equivocate, self.sweep, self.wait, self.wait,
        ]  # fmt: skip
        self.count += 1
        try:
            running = [one for one in self.plays if not (await one.view()).is_over]
            if len(running) < 2 and self.chance.random() < 0.6:
                await self.post()
            elif self.chance.random() < 0.1:
                await self.registry()
            else:
                recent = running if running and self.chance.random() < 0.9 else self.plays[-3:]
                if recent:
                    await self.chance.choice(ideas)(self.chance.choice(recent))
            self.accepted += 1
        except LedgerRejected:
            self.refused += 1

    async def post(self) -> None:
        policy = self.chance.choice([Policy.EXACT, Policy.EXACT, Policy.TOL32, Policy.NONE])
        seats = 1 if policy is Policy.NONE else 3
        for one in self.providers:
            record = await self.world.reader.node(one.node)
            assert record is not None
            if record.standing is Standing.JAILED and self.chance.random() < 0.8:
                await one.owns(act.Unjail(one.node), key=f"{self.count}:{one.node}")
        lanes = [await self.world.reader.lane(self.payer.account, lane) for lane in (0, 1)]
        free = [lane for lane in (0, 1) if not lanes[lane].is_busy] or [0]
        playing = await play(
            self.world,
            policy=policy,
            start=False,
            providers=self.chance.sample(self.providers, seats),
            payer=self.payer,
            lane=self.chance.choice(free),
            fee=Amount(self.chance.choice([1_000, 10**14, UNIT])),
            tip=Amount(self.chance.choice([0, 77])),
            window=self.chance.choice([20, WINDOW]),
        )
        if self.chance.random() < 0.8:
            await playing.start()
        else:
            await playing.post()
        self.plays.append(playing)

    async def commit(self, on: Play) -> None:
        committee = await on.committee()
        seats = [s for s in range(len(committee)) if self.chance.random() < 0.7]
        digests = {s: self.digest(on) for s in seats}
        action = act.CommitResults(
            on.task, committee, tuple([await on.commitment(s, digests[s]) for s in seats])
        )
        view = await on.view()
        before = dict(on.secrets)
        try:
            await on.as_stranger(action, key=f"{self.count}:{on.id}")
        except LedgerRejected:
            on.secrets = before
            raise
        for seat, _ in view.commitments:  # those stay what they were
            if seat in before:
                on.secrets[seat] = before[seat]

    def digest(self, on: Play) -> bytes:
        return self.chance.choice(
            [keccak(b"right")] * 5 + [WRONG, fault_digest(on.id, FaultCode.NOT_FINITE)]
        )

    async def openings(self, on: Play) -> tuple[Opening, ...]:
        view = await on.view()
        if on.task.policy is Policy.NONE:
            return tuple(Opening(seat, value, ZERO) for seat, value in view.commitments)
        if self.chance.random() < 0.3:
            opened = set(view.openings)
        else:
            opened = {s for s in range(on.task.seats) if self.chance.random() < 0.9}
        return tuple(
            Opening(seat, *on.secrets[seat])
            if seat in opened and seat in on.secrets
            else Opening(seat, ZERO, value)
            for seat, value in view.commitments
        )

    async def reveal(self, on: Play) -> None:
        action = act.RevealResults(on.task, await on.committee(), await self.openings(on))
        await on.as_stranger(action, key=f"{self.count}")

    async def approve(self, on: Play) -> None:
        seat = self.chance.randrange(on.task.seats)
        if not await on.committee():
            return
        approval = await on.approval(seat, self.chance.randrange(8))
        action = act.ApproveOutputs(on.task, await on.committee(), approval)
        await on.as_stranger(action, key=f"{self.count}")

    async def finalise(self, on: Play) -> None:
        committee = await on.committee()
        approvals = []
        if on.task.policy.is_tolerance and committee and self.chance.random() < 0.8:
            masks = [self.chance.choice([0b111, 0b111, 0b011, 0b100]) for _ in committee]
            approvals = [await on.approval(seat, mask) for seat, mask in enumerate(masks)]
        action = act.FinaliseTask(on.task, committee, await self.openings(on), tuple(approvals))
        by = on.as_client if self.chance.random() < 0.6 else on.as_stranger
        await by(action, key=f"{self.count}")

    async def deliver(self, on: Play) -> None:
        if not (committee := await on.committee()):
            return
        result = on.result(0, self.digest(on))
        action = act.DeliverResult(on.task, committee, result)
        await on.as_stranger(action, key=f"{self.count}")

    async def object_(self, on: Play) -> None:
        await on.as_client(act.ObjectToResult(on.task, await on.committee()), key=f"{self.count}")

    async def release(self, on: Play) -> None:
        seat = self.chance.randrange(on.task.seats)
        action = act.ReleaseSeat(on.task, await on.committee(), seat)
        await on.providers[seat].operates(action, key=f"{self.count}")

    async def reassign(self, on: Play) -> None:
        committee = await on.committee()
        seat, new = self.chance.randrange(on.task.seats), self.chance.choice(self.providers)
        attempt = committee[seat].attempt + 1 if committee else 1
        accept = new.accepts(on.id, seat, on.task.commit_deadline, attempt)
        action = act.ReassignSeat(on.task, committee, seat, accept)
        await on.as_client(action, key=f"{self.count}")
        on.providers[seat] = new
        on.secrets.pop(seat, None)

    async def expire(self, on: Play) -> None:
        action = act.ExpireTask(on.task, await on.committee())
        await on.as_stranger(action, key=f"{self.count}")

    async def cancel(self, on: Play) -> None:
        await on.as_client(act.CancelTask(on.task), key=f"{self.count}")

    async def assign(self, on: Play) -> None:
        await on.as_client(act.AssignTask(on.task, on.accepts()), key=f"{self.count}")

    async def equivocate(self, on: Play) -> None:
        if self.chance.random() < 0.7 or not (committee := await on.committee()):
            return
        seat = self.chance.randrange(on.task.seats)
        attempt = committee[seat].attempt
        pair = [on.result(seat, keccak(bytes([n])), attempt=attempt) for n in (1, 2)]
        action = act.ProveEquivocation(on.task, committee, seat, pair[0], pair[1])
        await on.as_stranger(action, key=f"{self.count}")

    async def sweep(self, on: Play) -> None:
        action = act.SweepFees(on.task.client, (0, 1), self.count)
        await on.as_stranger(action)

    async def wait(self, _: Play) -> None:
        await self.world.advance(self.chance.choice([5, LEASE, LEASE, 3 * LEASE]))

    async def registry(self) -> None:
        one = self.chance.choice(self.providers)
        epoch = await self.world.now() // (await self.world.reader.parameters()).epoch_seconds
        actions: list[act.Action] = [
            act.Unjail(one.node),
            act.AddStake(one.node, Amount(STAKE // 10)),
            act.RequestUnstake(one.node, Amount(STAKE // 20)),
            act.WithdrawStake(one.node, one.owner.account),
            act.WithdrawVault(one.owner.account, Amount(1_000)),
        ]
        action = self.chance.choice(actions)
        key = f"{self.count}:{one.node}"
        if self.chance.random() < 0.2:
            await one.operates(act.Heartbeat(one.node, epoch), key=key)
        else:
            await one.owns(action, key=key)


@pytest.mark.parametrize("seed", range(25))
async def test_no_sequence_creates_or_destroys_money_in_memory(seed: int) -> None:
    world, chain = memory_world()
    supply = chain.total_tokens()
    walk = Walk(world, seed)
    await walk.begin()
    burned = 0
    for _ in range(120):
        await walk.step()
        held = chain.holdings()
        escrow, registry = chain.owed()
        assert held[chain.info.contracts["TaskEscrow"]] == escrow
        assert held[chain.info.contracts["NodeRegistry"]] == registry
        assert burned <= (burned := supply - chain.total_tokens())
    assert walk.accepted > 30, "a walk that is always refused shows nothing"
    assert walk.refused > 10
    for playing in walk.plays:
        money = (await playing.view()).money
        assert money.escrowed == money.held + money.paid + money.refunded + money.protocol_fee


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_a_real_chain_and_the_tables_agree_on_any_sequence(world: World, seed: int) -> None:
    walk = Walk(world, 1_000 + seed)
    await walk.begin()
    for _ in range(50):
        await walk.step()
    assert walk.accepted > 10
    for playing in walk.plays:
        assert fold(await world.reader.task_events(playing.id, since=playing.posted_at)) is not None
