"""A made-up chain: records as contracts would report them, for tests and the benchmark.

Money adds up, committees are as posted, verdicts follow from what happened. `Chain.random`
draws one step; the same seed makes the same chain.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from deai.chain.ledger import Cursor, EventBatch, Head
from deai.channels import Channel
from deai.events import (
    BatchStarted,
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    CommissionAnnounced,
    Delegated,
    Deposited,
    EquivocationProven,
    IncomeShared,
    LedgerEvent,
    LedgerRecord,
    NodeBeat,
    NodeRegistered,
    NodeSlashed,
    OutputsApproved,
    PoolOpened,
    Position,
    ResultCommitted,
    ResultRevealed,
    SeatReassigned,
    SeatReleased,
    SeatSettlement,
    StakeAdded,
    StakeWithdrawn,
    StandingChanged,
    TaskAssigned,
    TaskCancelled,
    TaskExpired,
    TaskFinalised,
    TaskPosted,
    TokensMoved,
    UnbondingStarted,
    UndelegationRequested,
    VoucherRedeemed,
    VoucherSkipped,
)
from deai.hashing import keccak
from deai.ids import NEAR, SEI, AccountId, ChainName, ChannelId, NodeId, TaskId, hexed, node_of
from deai.money import UNIT, Amount, Count
from deai.signing import Ed25519Signer, LocalSigner, Signer
from deai.standing import Standing
from deai.tasks import Policy, Seat, Task

ZERO = AccountId("0x" + "0" * 40)
START = 1_780_000_000
PEERS = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


def account(number: int, chain: str = SEI) -> AccountId:
    """A made-up account."""
    return AccountId(f"u{number}.near" if chain == NEAR else f"0x{0xACC0_0000 + number:040x}")


@dataclass
class OpenTask:
    """A posted task and what is left to happen to it."""

    task_id: TaskId
    task: Task
    committee: tuple[Seat, ...] = ()
    committed: list[int] = field(default_factory=list)
    released: set[int] = field(default_factory=set)
    reassigned: int = 0


@dataclass
class MadeChannel:
    """A channel and what the contract would keep of it."""

    id: ChannelId
    channel: Channel
    epoch: int = 0
    deposit: int = 0
    claimed: int = 0
    is_closing: bool = False


class Chain:
    """Blocks of 0.4 s (times are whole seconds), one transaction an event."""

    def __init__(
        self,
        seed: int = 0,
        *,
        nodes: int = 5,
        minted: int = 1_000_000 * UNIT,
        tag: str = "main",
        name: ChainName = SEI,
    ) -> None:
        """`tag` names the fork: tasks, blocks and transactions of two forks differ."""
        self.name = name
        hot = Ed25519Signer(keccak(b"hot")).account
        self._hot = hot if name == NEAR else account(5000)
        """The key of every seat."""
        self.random_tag = tag
        self.random = random.Random(seed)
        self.records: list[LedgerRecord] = []
        self.block = 1
        self.nodes: list[NodeId] = []
        self.stakes: dict[NodeId, list[int]] = {}
        self.signers: dict[NodeId, Signer] = {}
        self.open: list[OpenTask] = []
        self.ended: list[OpenTask] = []
        self.channels: list[MadeChannel] = []
        self.posted = 0
        self._index = 0
        self.emit(TokensMoved(ZERO, account(0, self.name), Amount(minted)))
        for _ in range(nodes):
            self.register()

    # --- blocks

    @property
    def time(self) -> int:
        return START + self.block * 2 // 5

    def hash(self, block: int) -> str:
        return hexed(keccak(f"{self.random_tag}{block}".encode()))

    def mine(self) -> None:
        self.block += 1
        self._index = 0

    def emit(self, event: LedgerEvent) -> LedgerRecord:
        transaction = hexed(keccak(f"{self.random_tag}{self.block}/{self._index}".encode()))
        at = Position(self.block, self._index, self.hash(self.block), self.time, transaction)
        self._index += 1
        record = LedgerRecord(at, event)
        self.records.append(record)
        return record

    def batch(
        self, *, above: int = -1, upto: int | None = None, rewind_to: int | None = None
    ) -> EventBatch:
        """Everything in blocks `above` < block ≤ `upto`, as the follower reports it."""
        upto = self.block if upto is None else upto
        found = tuple(r for r in self.records if above < r.position.block <= upto)
        head = Head(self.block, self.hash(self.block), self.time)
        cursor = Cursor(upto, self.hash(upto))
        return EventBatch(records=found, cursor=cursor, head=head, rewind_to=rewind_to)

    # --- verbs

    def register(self, owner: AccountId | None = None) -> NodeId:
        """One more node, of a made-up owner unless one is given."""
        number = len(self.nodes)
        node = node_of(self.name, owner or account(1000 + number, self.name), 0)
        stake = 1000 * UNIT
        secret = keccak(f"operator {number}".encode())
        signer = Ed25519Signer(secret) if self.name == NEAR else LocalSigner(secret)
        self.signers[node] = signer
        self.nodes.append(node)
        self.stakes[node] = [stake, 0]
        self.emit(
            NodeRegistered(node, signer.account, Amount(stake), PEERS, ("/ip4/127.0.0.1/tcp/4001",))
        )
        return node

    def pool(self, node: NodeId) -> None:
        """Turn a node into one that takes delegations, with a history of its own."""
        manager, lender, stake = account(7001), account(7002), 1000 * UNIT
        self.emit(PoolOpened(node, manager, Count(2), 1_000, Amount(stake)))
        self.emit(Delegated(node, lender, Amount(3 * stake), Count(3 * stake)))
        self.emit(IncomeShared(node, Amount(stake), Amount(stake // 10), Count(stake // 12)))
        self.emit(UndelegationRequested(node, lender, Count(stake), 1))
        leaving = Amount(stake * 6 // 5)
        self.emit(BatchStarted(node, 1, Count(stake), leaving, self.time + 7_200))
        self.emit(UndelegationRequested(node, manager, Count(stake // 4), 2))
        self.emit(CommissionAnnounced(node, 500, self.time // 60 + 2))

    def post(
        self, *, seats: int = 3, fee: int = UNIT // 10, policy: Policy = Policy.EXACT
    ) -> OpenTask:
        self.posted += 1
        client = account(self.posted % 7, self.name)
        digest = keccak(f"{self.random_tag}task{self.posted}".encode())
        task = Task(
            client, 0, self.posted, Amount(fee), Amount(fee // 100), seats, policy, 60,
            self.time + 600, 600, digest,
        )  # fmt: skip
        opened = OpenTask(TaskId(hexed(digest)), task)
        self.open.append(opened)
        self.emit(TaskPosted(opened.task_id, task))
        return opened

    def assign(self, opened: OpenTask, nodes: list[NodeId] | None = None) -> None:
        chosen = nodes or self.random.sample(self.nodes, opened.task.seats)
        opened.committee = tuple(Seat(node, self._hot, self.time + 60, 0) for node in chosen)
        self.emit(TaskAssigned(opened.task_id, opened.committee))

    def commit(self, opened: OpenTask, seat: int) -> None:
        opened.committed.append(seat)
        value = keccak(opened.task_id.encode(), bytes([seat]))
        attempt = opened.committee[seat].attempt
        self.emit(ResultCommitted(opened.task_id, seat, attempt, value))

    def reveal(self, opened: OpenTask, seat: int) -> None:
        self.emit(ResultRevealed(opened.task_id, seat, bytes(32), bytes(32)))

    def approve(self, opened: OpenTask, seat: int) -> None:
        self.emit(OutputsApproved(opened.task_id, seat, 7, bytes(64)))

    def release(self, opened: OpenTask, seat: int) -> None:
        opened.released.add(seat)
        self.emit(SeatReleased(opened.task_id, seat))

    def reassign(self, opened: OpenTask, seat: int, node: NodeId) -> None:
        previous = opened.committee[seat]
        new = Seat(node, self._hot, self.time + 60, previous.attempt + 1)
        opened.committee = (*opened.committee[:seat], new, *opened.committee[seat + 1 :])
        released = seat in opened.released
        opened.released.discard(seat)
        opened.reassigned += 1
        self.emit(SeatReassigned(opened.task_id, seat, previous.node, released, opened.committee))

    def finalise(self, opened: OpenTask, losers: int = 0) -> None:
        """Committed seats are paid, but the last `losers` of them; fees of losers are kept."""
        task = opened.task
        winners = opened.committed[: len(opened.committed) - losers]
        won = len(winners) >= task.quorum
        payment = task.fee * 8600 // 10000 if won else 0
        seats = []
        for seat in range(task.seats):
            if won and seat in winners:
                seats.append(SeatSettlement(Amount(payment), 100_000, 100_900, 2))
            elif seat in opened.committed:
                seats.append(SeatSettlement(Amount(0), 100_000, 90_000, 3 if won else 0))
            else:
                seats.append(SeatSettlement(Amount(0), 0, 0, 0))
        paid = payment * len(winners) if won else 0
        silent = task.seats - len(opened.committed)
        refunded = task.fee * silent + task.tip
        self.emit(
            TaskFinalised(
                opened.task_id,
                keccak(b"result") if won else None,
                False,
                Amount(refunded),
                Amount(task.escrowed - refunded - paid),
                task.client,
                Amount(0),
                tuple(seats),
            )
        )
        self._end(opened)

    def cancel(self, opened: OpenTask) -> None:
        self.emit(TaskCancelled(opened.task_id, Amount(opened.task.escrowed)))
        self._end(opened)

    def expire(self, opened: OpenTask) -> None:
        self.emit(TaskExpired(opened.task_id, Amount(opened.task.escrowed)))
        self._end(opened)

    def slash(self, opened: OpenTask, seat: int) -> None:
        node = opened.committee[seat].node
        bonded, unbonding = self.stakes[node]
        amount = -(-(bonded + unbonding) // 5)
        taken = min(amount, bonded)
        self.stakes[node] = [bonded - taken, unbonding - (amount - taken)]
        bounty = amount // 100
        self.emit(EquivocationProven(opened.task_id, seat, node, account(9, self.name)))
        self.emit(
            NodeSlashed(
                node, account(9, self.name), Amount(amount), Amount(bounty), Amount(amount - bounty)
            )
        )
        self.emit(TokensMoved(account(90, self.name), ZERO, Amount(amount - bounty)))

    def _end(self, opened: OpenTask) -> None:
        self.open.remove(opened)
        self.ended.append(opened)

    # --- channels

    def new_channel(self, node: NodeId | None = None) -> MadeChannel:
        """A channel that was never opened, for one of the nodes or for a stranger."""
        number = len(self.channels)
        session = Ed25519Signer(keccak(b"session", number.to_bytes(4, "big"))).account
        channel = Channel(
            account(number % 7, self.name),
            node or self.random.choice(self.nodes),
            session if self.name == NEAR else account(7000 + number),
        )
        name = keccak(f"{self.random_tag}channel{number}".encode())
        made = MadeChannel(ChannelId(hexed(name)), channel)
        self.channels.append(made)
        return made

    def open_channel(self, made: MadeChannel, deposit: int = UNIT) -> None:
        made.epoch, made.deposit, made.claimed, made.is_closing = made.epoch + 1, deposit, 0, False
        self.emit(ChannelOpened(made.id, made.channel, made.epoch, Amount(deposit)))

    def top_up(self, made: MadeChannel, amount: int = UNIT) -> None:
        made.deposit += amount
        self.emit(ChannelToppedUp(made.id, Amount(amount), Amount(made.deposit)))

    def redeem(self, made: MadeChannel, paid: int, root: bytes = bytes(32)) -> None:
        made.claimed += paid
        self.emit(VoucherRedeemed(made.id, Amount(paid), Amount(made.claimed), root))

    def ask_to_close(self, made: MadeChannel) -> None:
        made.is_closing = True
        self.emit(ChannelClosing(made.id, self.time + 3600))

    def close_channel(self, made: MadeChannel) -> None:
        left = made.deposit - made.claimed
        self.emit(ChannelClosed(made.id, made.epoch, Amount(made.claimed), Amount(left)))
        made.deposit = made.claimed = 0

    # --- chance

    def run(self, events: int) -> None:
        """Random steps until at least `events` records exist."""
        while len(self.records) < events:
            self.step()

    def step(self) -> None:
        """One random thing that the contracts would allow; sometimes a new block before it."""
        draw = self.random
        if draw.random() < 0.5:
            self.mine()
        if not self.open or (len(self.open) < 8 and draw.random() < 0.15):
            self.post(seats=draw.choice((1, 3, 3, 5)))
            return
        chance = draw.random()
        if chance < 0.04:
            self._stakes_move()
            return
        if chance < 0.06:
            self.emit(NodeBeat(draw.choice(self.nodes), draw.randrange(1, 999)))
            return
        if chance < 0.08:
            self.emit(
                Deposited(
                    account(1, self.name), account(1, self.name), Amount(draw.randrange(UNIT))
                )
            )
            return
        if chance < 0.16:
            self._channels_move()
            return
        self._advance(draw.choice(self.open))

    def _channels_move(self) -> None:
        draw = self.random
        if len(self.channels) < 6 or draw.random() < 0.05:
            self.open_channel(self.new_channel(), draw.randrange(1, UNIT))
            return
        made = draw.choice(self.channels)
        left = made.deposit - made.claimed
        choice = draw.randrange(10)
        if not made.deposit:
            self.open_channel(made, draw.randrange(1, UNIT))
        elif choice == 0 and not made.is_closing:
            self.ask_to_close(made)
        elif choice == 1:
            self.close_channel(made)
        elif choice == 2 and not made.is_closing:
            self.top_up(made, draw.randrange(1, UNIT))
        elif choice == 3:
            self.emit(VoucherSkipped(made.id, "NothingNew"))
        elif left:
            self.redeem(made, draw.randrange(1, left + 1), keccak(str(made.claimed).encode()))

    def _stakes_move(self) -> None:
        draw, node = self.random, self.random.choice(self.nodes)
        bonded, unbonding = self.stakes[node]
        choice = draw.randrange(5)
        if choice == 0:
            self.register()
        elif choice == 1:
            self.stakes[node][0] += UNIT
            self.emit(StakeAdded(node, Amount(UNIT), Amount(bonded + UNIT)))
        elif choice == 2 and bonded > 2:
            moved = draw.randrange(1, bonded)
            self.stakes[node] = [bonded - moved, unbonding + moved]
            self.emit(UnbondingStarted(node, Amount(unbonding + moved), self.time + 60))
        elif choice == 3 and unbonding:
            self.stakes[node][1] = 0
            self.emit(StakeWithdrawn(node, account(3, self.name), Amount(unbonding)))
        elif self.ended and (done := draw.choice(self.ended)).committee:
            self.slash(done, 0)
            self.emit(StandingChanged(done.committee[0].node, Standing.PROBATION))

    def _advance(self, opened: OpenTask) -> None:
        draw, chance = self.random, self.random.random()
        if not opened.committee:
            self.cancel(opened) if chance < 0.1 else self.assign(opened)
            return
        waiting = [s for s in range(opened.task.seats) if s not in opened.committed]
        if not opened.committed and chance < 0.05:
            self.expire(opened)
        elif not waiting or (opened.committed and chance < 0.1):
            losers = draw.randrange(2) if len(opened.committed) > 1 else 0
            self.finalise(opened, losers)
        elif chance < 0.15 and waiting[0] not in opened.released:
            self.release(opened, waiting[0])
        elif chance < 0.25 and opened.reassigned < 3:
            taken = {seat.node for seat in opened.committee}
            free = [node for node in self.nodes if node not in taken]
            if free:
                self.reassign(opened, waiting[0], draw.choice(free))
        else:
            self.commit(opened, draw.choice(waiting))
