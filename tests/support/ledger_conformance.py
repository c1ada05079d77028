"""What any `Ledger` must do: actors, scenarios and the suite that runs on every adapter.

A `World` is one chain under test. Scenarios speak only the port; time is moved by the world.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Cursor, EventBatch, Ledger, Transaction
from deai.chain.tasks_view import TaskView, fold
from deai.errors import LedgerRejected
from deai.events import LedgerRecord
from deai.hashing import ZERO, keccak
from deai.ids import AccountId, NodeId, TaskId, near_node_id, node_id
from deai.money import UNIT, Amount
from deai.signing import Signer, word
from deai.tasks import (
    Accept,
    Approval,
    Commitment,
    Opening,
    Policy,
    Result,
    Seat,
    Task,
    accept_digest,
    approval_digest,
    commit_digest,
    commitment_value,
    operate_digest,
    result_digest,
    task_id,
)
from rewards import reputation

FEE = Amount(2 * UNIT)
TIP = Amount(UNIT // 50)
STAKE = Amount(500 * UNIT)
PEER_ID = "12D3KooWGRUqHp2hgbVpEzbGVMKiEQuT6RVqGPLKGbuzTM8gRHx9"
ADDRESSES = ("/ip4/127.0.0.1/tcp/4001", "/dns4/node.example/tcp/4001")
RIGHT, WRONG = keccak(b"right"), keccak(b"wrong")
UNSIGNED = bytes(64)
LEASE, WINDOW = 60, 100
START = reputation.START


@dataclass
class World:
    """One chain under test.

    `signer` hands out accounts that can pay for gas, `operator` hot keys for an owner's nodes.
    """

    name: str
    reader: Ledger
    holder: Signer
    open: Callable[[Signer], Awaitable[Ledger]]
    advance: Callable[[int], Awaitable[None]]
    signer: Callable[[], Signer]
    operator: Callable[[Signer], Signer]
    _ledgers: dict[AccountId, Ledger] = field(default_factory=dict)
    _opening: trio.Lock = field(default_factory=trio.Lock)

    async def ledger(self, signer: Signer) -> Ledger:
        """The chain seen by `signer`; opened once."""
        async with self._opening:
            if signer.account not in self._ledgers:
                self._ledgers[signer.account] = await self.open(signer)
        return self._ledgers[signer.account]

    async def now(self) -> int:
        """Chain time."""
        return (await self.reader.head()).time

    async def pass_(self, moment: int) -> None:
        """Let the newest block be later than `moment`."""
        while (left := moment - await self.now()) >= 0:
            await self.advance(left + 1)

    async def fund(self, to: AccountId, amount: int) -> None:
        """Give tokens from the holder of the supply."""
        bank = await self.ledger(self.holder)
        key = f"fund:{to}:{next(_COUNTER)}:{await self.now()}"
        await bank.submit(act.TransferTokens(to, Amount(amount)), key=key)


_COUNTER = itertools.count()


def node_of(owner: AccountId, index: int = 0) -> NodeId:
    """The id of an owner's node, in the form of its chain."""
    return node_id(owner, index) if owner.startswith("0x") else near_node_id(owner, index)


def key_of(owner: Signer) -> AccountId:
    """What verifies an owner's signatures: its address, or the full-access key of a NEAR name."""
    key: Signer = getattr(owner, "key", owner)
    return key.account


@dataclass
class Provider:
    """An owner with one registered node."""

    world: World
    owner: Signer
    operator: Signer
    node: NodeId

    async def owns(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.owner)).submit(action, key=key)

    async def operates(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.operator)).submit(action, key=key)

    def accepts(self, id_: TaskId, seat: int, valid_until: int, attempt: int = 0) -> Accept:
        domain = self.world.reader.info.escrow
        digest = accept_digest(domain, id_, seat, attempt, self.node, valid_until)
        return Accept(self.node, valid_until, self.operator.sign(digest))


def registration(
    world: World, owner: Signer, hot: Signer, *, stake: int = STAKE, **changed: Any
) -> act.RegisterNode:
    """A registration that is accepted, unless `changed`."""
    valid_until = changed.pop("valid_until", 1 << 39)
    index = changed.pop("index", 0)
    digest = operate_digest(
        world.reader.info.registry, node_of(owner.account, index), hot.account, valid_until
    )
    action = act.RegisterNode(
        index, hot.account, valid_until, hot.sign(digest), Amount(stake), PEER_ID,
        ADDRESSES,
    )  # fmt: skip
    return msgspec.structs.replace(action, **changed)


async def provider(world: World, *, stake: int = STAKE) -> Provider:
    """A new owner with a newly registered node."""
    owner = world.signer()
    operator = world.operator(owner)
    await world.fund(owner.account, 4 * stake)
    ledger = await world.ledger(owner)
    await ledger.submit(registration(world, owner, operator, stake=stake))
    return Provider(world, owner, operator, node_of(owner.account))


async def many_providers(world: World, count: int) -> list[Provider]:
    """So many new nodes, registered at the same time."""
    found: list[Provider] = []

    async def add() -> None:
        found.append(await provider(world))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(add)
    return found


async def client(world: World, *, deposit: int = 1000 * UNIT) -> Signer:
    """A new account with a vault balance."""
    signer = world.signer()
    await world.fund(signer.account, 2 * deposit)
    await (await world.ledger(signer)).submit(act.Deposit(Amount(deposit)))
    return signer


@dataclass
class Play:
    """One task, its client and its providers, and what each of them does next."""

    world: World
    client: Signer
    task: Task
    providers: list[Provider]
    posted_at: int = 0
    secrets: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def id(self) -> TaskId:
        return task_id(self.task, self.world.reader.info.escrow)

    async def view(self) -> TaskView:
        """The task as its events tell it."""
        view = fold(await self.world.reader.task_events(self.id, since=self.posted_at))
        assert view is not None
        return view

    async def committee(self) -> tuple[Seat, ...]:
        return (await self.view()).committee

    async def as_client(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.client)).submit(action, key=key)

    async def as_stranger(self, action: act.Action, *, key: str = "") -> Transaction:
        return await (await self.world.ledger(self.world.holder)).submit(action, key=key)

    def accepts(self) -> tuple[Accept, ...]:
        until = self.task.commit_deadline
        return tuple(p.accepts(self.id, seat, until) for seat, p in enumerate(self.providers))

    async def post(self) -> None:
        self.posted_at = (await self.as_client(act.PostTask(self.task))).block

    async def assign(self) -> None:
        await self.as_client(act.AssignTask(self.task, self.accepts()))

    async def start(self) -> None:
        done = await self.as_client(act.PostAndAssign(self.task, self.accepts()))
        self.posted_at = done.block

    async def commitment(
        self, seat: int, digest: bytes = RIGHT, *, signed: bool = True
    ) -> Commitment:
        view = await self.view()
        attempt = view.committee[seat].attempt
        holder = self.providers[seat]
        salt = keccak(b"salt", bytes([seat, attempt]))
        value = commitment_value(self.id, seat, attempt, holder.node, digest, salt)
        self.secrets[seat] = (digest, salt)
        domain = self.world.reader.info.escrow
        signature = holder.operator.sign(commit_digest(domain, self.id, seat, attempt, value))
        return Commitment(seat, value, signature if signed else UNSIGNED)

    async def commit(self, *seats: int, digests: dict[int, bytes] | None = None) -> None:
        """Relay the commitments of some seats in one transaction."""
        chosen = digests or {}
        new = [await self.commitment(seat, chosen.get(seat, RIGHT)) for seat in seats]
        action = act.CommitResults(self.task, await self.committee(), tuple(new))
        await self.as_client(action)

    async def openings(self, *opened: int) -> tuple[Opening, ...]:
        """Every committed seat in the order of the chain; only `opened` ones with their digest."""
        view = await self.view()
        chosen = opened or tuple(seat for seat, _ in view.commitments)
        return tuple(
            Opening(seat, *self.secrets[seat]) if seat in chosen else Opening(seat, ZERO, value)
            for seat, value in view.commitments
        )

    async def approval(self, seat: int, mask: int) -> Approval:
        view = await self.view()
        domain = self.world.reader.info.escrow
        digest = approval_digest(domain, self.id, seat, word(view.acc), mask)
        return Approval(seat, mask, self.providers[seat].operator.sign(digest))

    def result(self, seat: int, output: bytes, evidence: bytes = ZERO, attempt: int = 0) -> Result:
        domain = self.world.reader.info.escrow
        digest = result_digest(domain, self.id, seat, attempt, output, evidence)
        return Result(output, evidence, self.providers[seat].operator.sign(digest))

    async def finalise(
        self, *opened: int, masks: dict[int, int] | None = None, stranger: bool = False
    ) -> None:
        approvals = [await self.approval(seat, mask) for seat, mask in (masks or {}).items()]
        action = act.FinaliseTask(
            self.task, await self.committee(), await self.openings(*opened), tuple(approvals)
        )
        await (self.as_stranger(action) if stranger else self.as_client(action))


async def play(
    world: World,
    *,
    policy: Policy = Policy.EXACT,
    seats: int | None = None,
    start: bool = True,
    providers: Sequence[Provider] | None = None,
    payer: Signer | None = None,
    **changed: Any,
) -> Play:
    """A task, posted and assigned unless `start` is False."""
    count = seats if seats is not None else 1 if policy is Policy.NONE else 3
    members = list(providers) if providers is not None else await many_providers(world, count)
    account = payer if payer is not None else await client(world)
    lane = changed.pop("lane", 0)
    state = await world.reader.lane(account.account, lane)
    values: dict[str, Any] = {
        "client": account.account,
        "lane": lane,
        "nonce": state.closed + 1,
        "fee": FEE,
        "tip": TIP,
        "seats": count,
        "policy": policy,
        "lease": LEASE,
        "commit_deadline": await world.now() + 2 * LEASE,
        "window": WINDOW,
        "spec_hash": keccak(b"spec", bytes([next(_COUNTER) % 256])),
    }
    playing = Play(world, account, Task(**{**values, **changed}), members)
    if start:
        await playing.start()
    return playing


def changed(playing: Play, **fields: Any) -> Play:
    """The same actors around another task."""
    return replace(playing, task=msgspec.structs.replace(playing.task, **fields))


async def refused(doing: Awaitable[object], name: str, **arguments: object) -> LedgerRejected:
    """Expect the contract's own error `name`; its arguments too, where given."""
    with pytest.raises(LedgerRejected) as caught:
        await doing
    assert caught.value.name == name, caught.value
    for key, value in arguments.items():
        assert caught.value.arguments[key] == value
    return caught.value


async def batches_until(ledger: Ledger, cursor: Cursor | None, until: int) -> list[EventBatch]:
    """What a follower is given from `cursor` on until it has block `until`."""
    found = []
    with trio.fail_after(120):
        async with ledger.follow(cursor) as batches:
            async for batch in batches:
                found.append(batch)
                if batch.cursor.number >= until:
                    break
    return found


async def events_of(world: World, since: int) -> list[LedgerRecord]:
    """Every event from block `since` on, up to now."""
    until = (await world.reader.head()).number
    batches = await batches_until(world.reader, Cursor(since - 1, ""), until)
    assert all(batch.rewind_to is None or batch.rewind_to < since for batch in batches)
    return [r for batch in batches for r in batch.records if r.position.block >= since]


def words(record: LedgerRecord) -> tuple[object, ...]:
    """The values of an event, to look for an account or a node in."""
    return tuple(msgspec.structs.astuple(record.event))
