"""What an epoch owes to whom, folded from the chain's events: the same for everybody who looks.

Only money that is in the contract is given out, and all of it is told apart by where it came from:

* A payment that names accounts (`RewardsFunded`: audit fees, refunds, shares of a slash, of what
  a node earned for those who lent it stake) is owed to exactly these accounts. On Sei nobody has
  to divide for lenders: the owner of a node that takes delegations is its pool's account, so what
  is owed to it is the pool's income once it is claimed, and theirs by their shares.
* Everything else that comes in is the **pot**: the protocol's fees, once the treasury passes them
  on, and whatever anybody sends. It insures clients: whoever paid for a seat whose node is then
  proven to have signed two results gets that fee back, and at most 40 % of what the proof took out
  of the node's stake and burned: whoever reports his own node, to be slashed by himself before
  others do it, still loses the rest. Who was harmed first is paid first; what the pot cannot pay
  waits for it to grow.

On NEAR nothing has come in but what the contract says itself (`RewardsFunded`): a plain transfer
to it, of which it never hears, is nobody's for good.

Nothing of the pot goes to those who work or ask for work: whatever a protocol gives them grows
with how often somebody pays himself. What contracts pay or refund by themselves, the bounty of a
proof among it, is not paid again here. What stays of a slash after the bounty is burned.

An epoch is so many seconds of chain time as the registry's. Integers only; nothing is rounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from deai.chain.tasks_view import Verdict
from deai.claims import Line, Reason, Share, Statement, claims_root, epoch_of
from deai.errors import MalformedMessage
from deai.events import (
    EquivocationProven,
    LedgerEvent,
    LedgerRecord,
    NodeSlashed,
    RewardsFunded,
    SeatReassigned,
    TaskAssigned,
    TaskCancelled,
    TaskExpired,
    TaskFinalised,
    TaskObjected,
    TaskPosted,
    TokensMoved,
)
from deai.ids import AccountId, NodeId, TaskId
from deai.money import Amount
from deai.signing import Domain
from deai.tasks import Task

_WHOLE_FEE: Final = frozenset({Verdict.UNCHECKED, Verdict.PAID, Verdict.LOST, Verdict.FORFEITED})
"""Verdicts after which the client does not get the seat's fee back: paid, or forfeited."""


REFUND_PERCENT: Final = 40
"""A client's share of a slash, as where a drawn panel decides it."""


@dataclass
class _TaskLosses:
    """The last task of a lane, as far as a client can lose by it."""

    id: TaskId
    task: Task
    holders: tuple[NodeId, ...] = ()
    lost: tuple[int, ...] | None = None
    """By seat, in base units, once the task has ended."""


@dataclass(frozen=True)
class _Proof:
    """A node was shown to have signed two results."""

    losses: _TaskLosses
    seat: int
    node: NodeId
    transaction: str


@dataclass
class Book:
    """The accounts of one contract from its deployment to the end of `epoch`.

    Feed it every record in chain order (`apply`), then ask for the statement; `go_on` with later
    epochs. Events that cannot have happened, such as shares without the money for them, raise
    `MalformedMessage`.
    """

    domain: Domain
    seconds: int
    epoch: int
    _now: int = -1
    _pot: int = 0
    _carried: int = 0
    _received: int = 0
    _owed: dict[AccountId, int] = field(default_factory=dict)
    """To each account since ever."""
    _lines: dict[tuple[AccountId, Reason], int] = field(default_factory=dict)
    """Of the present epoch."""
    _lanes: dict[tuple[AccountId, int], _TaskLosses] = field(default_factory=dict)
    _tasks: dict[TaskId, _TaskLosses] = field(default_factory=dict)
    _burned: dict[tuple[str, NodeId], int] = field(default_factory=dict)
    """By transaction and node; of proofs that still wait for their task's end."""
    _proofs: list[_Proof] = field(default_factory=list)
    _waiting: deque[tuple[AccountId, int]] = field(default_factory=deque)

    def apply(self, record: LedgerRecord) -> bool:
        """Write down one record; False for one after the epoch's end, which changes nothing."""
        at = record.position
        epoch = epoch_of(at.time, self.seconds)
        if epoch > self.epoch:
            return False
        if epoch > self._now:
            self._turn(epoch)
        event = record.event
        match event:
            case TokensMoved(receiver=to):
                if to == self.domain.contract and not self._is_told_of_money:
                    self._come_in(event.amount)
            case RewardsFunded():
                if self._is_told_of_money:
                    self._come_in(event.amount)
                for share in event.shares:
                    self._add(share.account, event.reason, share.amount)
            case NodeSlashed():
                self._burned[at.transaction, event.node] = int(event.burned)
            case EquivocationProven():
                if (losses := self._tasks.get(event.task_id)) is not None:
                    proof = _Proof(losses, event.seat, event.node, at.transaction)
                    self._proofs.append(proof)
            case _:
                self._task(event)
        return True

    def go_on(self, epoch: int) -> None:
        """Keep the book until the end of a later epoch; that of an earlier one changes nothing."""
        self.epoch = max(self.epoch, epoch)

    def statement(self) -> Statement:
        """The epoch at its end, when every record until then was applied."""
        self._turn(self.epoch)
        self._close()
        lines = (Line(who, why, Amount(sum_)) for (who, why), sum_ in self._lines.items())
        leaves = tuple(Share(one, Amount(sum_)) for one, sum_ in sorted(self._owed.items()))
        return Statement(
            domain=self.domain,
            epoch=self.epoch,
            seconds=self.seconds,
            carried=Amount(self._carried),
            received=Amount(self._received),
            pot=Amount(self._pot),
            owed=Amount(sum(amount for _, amount in self._waiting)),
            lines=tuple(sorted(lines)),
            leaves=leaves,
            total=Amount(sum(self._owed.values())),
            root=claims_root(self.domain, leaves),
        )

    # --- an epoch's end

    def _turn(self, epoch: int) -> None:
        """Begin a later epoch. Those in between saw nothing, so they change nothing."""
        if epoch <= self._now:
            return
        if self._now >= 0:
            self._close()
        self._now, self._carried, self._received = epoch, self._pot, 0
        self._lines.clear()

    def _close(self) -> None:
        if self._pot < 0:
            raise MalformedMessage("more was shared out than came in: these are no chain's events")
        self._judge()
        while self._waiting and self._pot:
            client, due = self._waiting.popleft()
            paid = min(due, self._pot)
            self._add(client, Reason.REFUND, paid)
            if paid < due:
                self._waiting.appendleft((client, due - paid))

    def _judge(self) -> None:
        """Turn proofs whose tasks have ended into what their clients lost."""
        open_: list[_Proof] = []
        for proof in self._proofs:
            if (lost := proof.losses.lost) is None:
                open_.append(proof)
                continue
            holders = proof.losses.holders
            # A former holder cost the client nothing: the seat's fee is its successor's.
            held = proof.seat < len(holders) and holders[proof.seat] == proof.node
            burned = self._burned.get((proof.transaction, proof.node), 0)
            most = burned * REFUND_PERCENT // 100
            if due := min(lost[proof.seat] if held else 0, most):
                self._waiting.append((proof.losses.task.client, due))
        self._proofs = open_
        wanted = {(proof.transaction, proof.node) for proof in open_}
        self._burned = {key: sum_ for key, sum_ in self._burned.items() if key in wanted}

    @property
    def _is_told_of_money(self) -> bool:
        """Whether the contract says itself what came in, as on NEAR, and else has nothing.

        There a token moves a block before the contract hears of it, and goes back if it refuses.
        """
        return isinstance(self.domain.chain_id, str)

    def _come_in(self, amount: int) -> None:
        self._pot += amount
        self._received += amount

    def _add(self, account: AccountId, reason: Reason, amount: int) -> None:
        self._pot -= amount
        self._owed[account] = self._owed.get(account, 0) + amount
        self._lines[account, reason] = self._lines.get((account, reason), 0) + amount

    # --- tasks

    def _task(self, event: LedgerEvent) -> None:
        if isinstance(event, TaskPosted):
            lane = (event.task.client, event.task.lane)
            if (before := self._lanes.get(lane)) is not None:
                del self._tasks[before.id]
            self._lanes[lane] = self._tasks[event.task_id] = _TaskLosses(event.task_id, event.task)
            return
        id_ = getattr(event, "task_id", None)
        losses = None if id_ is None else self._tasks.get(id_)
        if losses is None:
            return
        seats = losses.task.seats
        match event:
            case TaskAssigned() | SeatReassigned():
                losses.holders = tuple(seat.node for seat in event.committee[:seats])
            case TaskFinalised():
                if len(event.seats) != seats:
                    raise MalformedMessage(f"{len(event.seats)} seats were settled, not {seats}")
                losses.lost = tuple(
                    int(losses.task.fee)
                    if seat.verdict in _WHOLE_FEE
                    else int(seat.payment)
                    if seat.verdict == Verdict.FAULT
                    else 0
                    for seat in event.seats
                )
            case TaskObjected():
                losses.lost = (int(event.protocol_fee),)
            case TaskExpired() | TaskCancelled():
                losses.lost = (0,) * seats
            case _:
                pass


def statement(
    records: Iterable[LedgerRecord], domain: Domain, seconds: int, epoch: int
) -> Statement:
    """An epoch from every record since deployment; later ones are passed over."""
    book = Book(domain, seconds, epoch)
    for record in records:
        if not book.apply(record):
            break
    return book.statement()
