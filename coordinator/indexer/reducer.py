"""One event of the chain folded into the index: pure, and the only writer of derived state.

`apply` looks up the state before, and returns what is different after. The same events in the
same order give the same state, whatever was done in between: batches, restarts, rewinds.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec

from coordinator.indexer.channels import LiveEvent, fold_channel
from coordinator.indexer.pools import fold_pool
from coordinator.indexer.state import (
    ChannelEntry,
    DayEarned,
    Entity,
    NodeChannels,
    NodeState,
    PoolEntry,
    Rows,
    Totals,
)
from deai.chain import tasks_view
from deai.chain.tasks_view import AttemptView, TaskView, Verdict
from deai.errors import IllegalTransition
from deai.events import (
    BatchMatured,
    BatchStarted,
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    CommissionAnnounced,
    Delegated,
    Deposited,
    EarningsCollected,
    EquivocationProven,
    FeesSwept,
    IncomeShared,
    LedgerEvent,
    LedgerRecord,
    NodeAnnounced,
    NodeBeat,
    NodeRegistered,
    NodeSlashed,
    OperatorRotated,
    OrderFeesSwept,
    OrderSettled,
    OrdersFunded,
    OrderSkipped,
    OutputsApproved,
    PageOpened,
    PoolClosed,
    PoolOpened,
    PoolSlashed,
    Position,
    ResultCommitted,
    ResultDelivered,
    ResultRevealed,
    RewardsCancelled,
    RewardsClaimed,
    RewardsFunded,
    RewardsProposed,
    SeatReassigned,
    SeatReleased,
    StakeAdded,
    StakeWithdrawn,
    StandingChanged,
    TaskAssigned,
    TaskCancelled,
    TaskExpired,
    TaskFinalised,
    TaskObjected,
    TaskPosted,
    ThawRequested,
    ThawWithdrawn,
    TokensMoved,
    UnbondingStarted,
    UndelegationPaid,
    UndelegationRequested,
    VaultWithdrawn,
    VoucherRedeemed,
    VoucherSkipped,
)
from deai.ids import AccountId, NodeId, owner_of
from deai.lifecycle import SEAT_TRANSITIONS, SeatState
from deai.standing import PROBATION_TASKS, Standing

NOBODY: Final = frozenset({AccountId("0x" + "0" * 40), AccountId("system")})
"""On one side of a mint or burn, by chain: accounts that nobody can own."""
_SEAT_ENDED: Final = frozenset(state for state in SeatState if not SEAT_TRANSITIONS[state])
REPUTED: Final = frozenset({Verdict.UNCHECKED, Verdict.PAID, Verdict.LOST, Verdict.SILENT})
"""Verdicts with which the chain tells the node's reputation; with others both numbers are 0."""

UNFIT: Final = (IllegalTransition, IndexError)
"""What folding an event raises that cannot follow: no row of a table, or no such seat."""

_change = msgspec.structs.replace


def apply(rows: Rows, record: LedgerRecord) -> tuple[Entity, ...]:
    """What is different after `record`.

    An event that cannot follow from the state before is counted as an anomaly and changes
    nothing else: a lying endpoint must not stop the index, and a rebuild counts the same.
    """
    draft = _Draft(rows)
    try:
        draft.fold(record.event, record.position)
    except UNFIT:
        totals = rows.totals()
        return (_change(totals, anomalies=totals.anomalies + 1),)
    return draft.changes()


def day_of(time: int) -> str:
    """The UTC day of a chain time: `2026-11-21`."""
    return dt.datetime.fromtimestamp(time, dt.UTC).date().isoformat()


class _Draft:
    """Changes of one event, kept apart until all of it was understood."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._nodes: dict[NodeId, NodeState] = {}
        self._days: dict[tuple[NodeId, str], DayEarned] = {}
        self._channels: tuple[ChannelEntry | NodeChannels, ...] = ()
        self._pool: PoolEntry | None = None
        self._task: TaskView | None = None
        self._totals: Totals | None = None

    def changes(self) -> tuple[Entity, ...]:
        task = () if self._task is None else (self._task,)
        pool = () if self._pool is None else (self._pool,)
        totals = () if self._totals is None else (self._totals,)
        earned = (*self._nodes.values(), *self._days.values())
        return (*earned, *self._channels, *pool, *task, *totals)

    def fold(self, event: LedgerEvent, at: Position) -> None:
        match event:
            case TokensMoved():
                self._moved(event)
            case NodeRegistered():
                self._registered(event, at)
            case NodeAnnounced():
                self._node(event.node, peer_id=event.peer_id, addresses=event.addresses)
            case OperatorRotated():
                self._node(event.node, operator=event.operator)
            case StakeAdded():
                self._node(event.node, bonded=int(event.bonded))
            case UnbondingStarted():
                self._unbonding(event)
            case StakeWithdrawn():
                left = self._find(event.node).unbonding - event.amount
                if left < 0:
                    raise IllegalTransition(f"{event.node} withdrew more than it unbonded")
                self._node(event.node, unbonding=left)
            case NodeBeat():
                self._node(event.node, last_epoch=event.epoch)
            case NodeSlashed():
                self._slashed(event)
            case StandingChanged():
                self._stands(event)
            case Deposited() | VaultWithdrawn() | FeesSwept():
                pass  # money between accounts: recorded, and no account is indexed
            case (
                ChannelOpened()
                | ChannelToppedUp()
                | VoucherRedeemed()
                | ChannelClosing()
                | ChannelClosed()
            ):
                self._channelled(event, at)
            case (
                PoolOpened()
                | Delegated()
                | UndelegationRequested()
                | BatchStarted()
                | BatchMatured()
                | UndelegationPaid()
                | IncomeShared()
                | PoolSlashed()
                | CommissionAnnounced()
                | PoolClosed()
            ):
                self._pool = fold_pool(self._rows, event, at)
            case VoucherSkipped():
                pass  # anybody's attempt at anything: it changed nothing
            case (
                OrdersFunded()
                | PageOpened()
                | OrderSettled()
                | OrderSkipped()
                | ThawRequested()
                | ThawWithdrawn()
                | EarningsCollected()
                | OrderFeesSwept()
            ):
                pass  # recorded; no page and no figure tells of signed orders yet
            case RewardsFunded() | RewardsProposed() | RewardsCancelled() | RewardsClaimed():
                pass  # recorded; an epoch is computed from the records themselves
            case (
                TaskPosted()
                | TaskAssigned()
                | SeatReassigned()
                | SeatReleased()
                | ResultCommitted()
                | ResultDelivered()
                | ResultRevealed()
                | OutputsApproved()
                | TaskFinalised()
                | TaskExpired()
                | TaskCancelled()
                | TaskObjected()
                | EquivocationProven()
            ):
                self._tasked(event, at)

    # --- nodes

    def _find(self, node: NodeId) -> NodeState:
        found = self._nodes.get(node) or self._rows.node(node)
        if found is None:
            raise IllegalTransition(f"node {node} never registered")
        return found

    def _node(self, node: NodeId, **fields: object) -> None:
        self._nodes[node] = _change(self._find(node), **fields)

    def _registered(self, event: NodeRegistered, at: Position) -> None:
        if self._rows.node(event.node) is not None:
            raise IllegalTransition(f"node {event.node} registered before")
        self._nodes[event.node] = NodeState(
            node=event.node,
            owner=owner_of(event.node),
            operator=event.operator,
            peer_id=event.peer_id,
            addresses=event.addresses,
            registered_at=at.time,
            bonded=int(event.stake),
        )

    def _unbonding(self, event: UnbondingStarted) -> None:
        # The event tells all that is now unbonding, not what was added to it.
        bonded = self._find(event.node).stake - event.amount
        if bonded < 0:
            raise IllegalTransition(f"{event.node} unbonds more than its stake")
        self._node(
            event.node, bonded=bonded, unbonding=int(event.amount), unbond_at=event.unbond_at
        )

    def _slashed(self, event: NodeSlashed) -> None:
        node = self._find(event.node)
        from_bonded = min(int(event.amount), node.bonded)
        unbonding = node.unbonding - (event.amount - from_bonded)
        if unbonding < 0:
            raise IllegalTransition(f"{event.node} lost more than its stake")
        self._node(
            event.node,
            bonded=node.bonded - from_bonded,
            unbonding=unbonding,
            slashed=node.slashed + event.amount,
            reputation=0,
            standing=Standing.JAILED,
        )
        self._add(slashed=int(event.amount))

    def _stands(self, event: StandingChanged) -> None:
        node = self._find(event.node)
        released = node.standing is Standing.JAILED and event.standing is Standing.PROBATION
        checked = 0 if released else node.checked_tasks
        self._node(event.node, standing=event.standing, checked_tasks=checked)

    # --- sums

    def _add(self, **sums: int) -> None:
        totals = self._totals or self._rows.totals()
        grown = {name: getattr(totals, name) + value for name, value in sums.items()}
        self._totals = _change(totals, **grown)

    def _moved(self, event: TokensMoved) -> None:
        if event.sender in NOBODY:
            self._add(minted=int(event.amount))
        elif event.receiver in NOBODY:
            self._add(burned=int(event.amount))

    def _earns(self, node: NodeState, amount: int, at: Position, *, seats: int) -> NodeState:
        """What a seat or a voucher paid for a node: the one place where it counts."""
        key = (node.node, day_of(at.time))
        day = self._days.get(key) or self._rows.day(*key) or DayEarned(node=key[0], day=key[1])
        self._days[key] = _change(day, earned=day.earned + amount, completed=day.completed + seats)
        self._add(rewarded=amount)
        return _change(node, earned=node.earned + amount, completed=node.completed + seats)

    # --- channels

    def _channelled(self, event: ChannelOpened | LiveEvent, at: Position) -> None:
        change = fold_channel(self._rows, event, at)
        self._channels = (change.entry, change.node)
        self._add(**change.sums)
        node = self._rows.node(change.node.node)
        # Anybody may open a channel for a node that nobody registered.
        if change.paid and node is not None:
            self._nodes[node.node] = self._earns(node, change.paid, at, seats=0)

    # --- tasks

    def _tasked(self, event: tasks_view.TaskRecordEvent, at: Position) -> None:
        before = self._rows.task(event.task_id)
        after = tasks_view.apply(before, LedgerRecord(at, event))
        self._task = after
        if before is None:
            self._add(escrowed=after.money.escrowed)
        if before is None or before.state is not after.state:
            if before is not None:
                self._add(**{before.state.value: -1})
            self._add(**{after.state.value: 1})
        if isinstance(event, SeatReassigned):
            self._add(reassigned=1)
        if after.is_over and before is not None and not before.is_over:
            money = after.money
            self._add(paid=money.paid, refunded=money.refunded, protocol_fees=money.protocol_fee)
        known = () if before is None else before.attempts
        for was, now in zip(known, after.attempts, strict=False):
            if now.state is not was.state and now.state in _SEAT_ENDED:
                self._seat_ended(was, now, at)

    def _seat_ended(self, was: AttemptView, now: AttemptView, at: Position) -> None:
        node = self._nodes.get(now.seat.node) or self._rows.node(now.seat.node)
        if node is None:
            # The task itself is sound, and its view must not depend on other records.
            self._add(anomalies=1)
            return
        if now.state is SeatState.PAID:
            payment = int(now.settlement.payment) if now.settlement is not None else 0
            node = self._earns(node, payment, at, seats=1)
            self._add(seats_paid=1)
        elif was.state is SeatState.RELEASED:
            node = _change(node, released=node.released + 1)
        else:
            node = _change(node, failed=node.failed + 1)
        outcome = now.settlement
        if outcome is not None and outcome.verdict in REPUTED:
            checked = node.checked_tasks
            if outcome.verdict == Verdict.PAID:
                checked = min(checked + 1, PROBATION_TASKS)
            node = _change(node, reputation=outcome.after, checked_tasks=checked)
        self._nodes[node.node] = node
