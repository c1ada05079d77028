"""One node's conversation in the lane, without I/O: what to say next, and what was heard.

The client asks for tasks as long as the node has places and the deposit covers them, checks each
result's place, counts it, and pays as `deai.lane.payer` says. Whatever the node does that no
honest one would raises `ProtocolError`, `BadSignature` or `Halted`; then the session is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import trio

from deai.client.lane.agreements import Agreement, Agreements, packed
from deai.client.lane.halts import PASSING, Halted, command, hint
from deai.client.lane.tasks import Kind, Task
from deai.errors import DeaiError, NodeFault, ProtocolError, TaskDeclined, WorkloadFault
from deai.ids import AccountId, ChannelId, NodeId, PeerId
from deai.lane.messages import (
    Agreed,
    Ask,
    Credit,
    Faults,
    Halt,
    Hello,
    LaneMessage,
    LookAgain,
    Receipts,
    Refused,
    Results,
    Welcome,
)
from deai.lane.payer import Issued, Payer, Promised
from deai.lane.receipts import MAX_TASK_BYTES, task_leaves, verify_window
from deai.money import Amount, format_tokens
from deai.signing import Signer

MAX_UNACKNOWLEDGED: Final = 256
"""Vouchers that may be under way before no more tasks are asked for."""
_IDS: Final = 1 << 32


class Pages(Protocol):
    """What of the book a conversation needs."""

    def issued(self, one: Issued, done: Callable[[], None]) -> None:
        """Write a voucher, then call `done`."""
        ...

    def acknowledged(self, done: Iterable[tuple[Issued, bytes]]) -> None:
        """Write that vouchers are durable at the node."""
        ...

    def adopted(self, channel: ChannelId, epoch: int, promised: Promised) -> None:
        """Write a promise that was lost here."""
        ...

    def noted(self, channel: ChannelId, epoch: int, credit: int, received: int, owed: int) -> None:
        """Write what the node grants and what is owed."""
        ...


class Talk:
    """What one node and this process have said to each other about one channel."""

    def __init__(
        self, *, payer: Payer, key: Signer, operator: AccountId, book: Pages, life: bytes,
        kick: Callable[[], None], failed: Callable[[Task, NodeId, DeaiError], None],
    ) -> None:  # fmt: skip
        """`operator` signs the node's windows.

        `kick` is called when there may be something to say, `failed` for a task that this node
        could not do.
        """
        self.payer = payer
        self.node: NodeId = payer.channel.node
        self.operator = operator
        self.life = life
        self.deposit = payer.deposit
        """As the chain has it."""
        self.is_open = False
        """Whether both sides have said where they stand on the present link."""
        self.outstanding: dict[int, Task] = {}
        self.refusals: dict[Kind, DeaiError] = {}
        """Kinds that this node does not do, and why."""
        self.results = 0
        self.paid = 0
        """Base units that vouchers of this process promised."""
        self.vouchers = 0
        self.halted = ""
        self.waits_for_deposit = False
        """Whether more of it is on its way."""
        self._key = key
        self._book = book
        self._kick = kick
        self._failed = failed
        self._wants_new_link = False
        """Terms have to be agreed for which this link has no room: nothing else is asked for."""
        self._agreements = Agreements()
        self._outbox: list[LaneMessage] = []
        self._repeat: dict[int, Task] = {}
        self._places = 0
        self._bytes = 0
        self._asked_amount = 0
        self._asked_bytes = 0
        self._news = trio.Event()
        self._next_id = 0
        self._resent_until = 0
        self._signed_from = 0

    # --- where both stand ----------------------------------------------------------------------

    def hello(self, peer: PeerId) -> Hello:
        """The first words on a link; `peer` is our own id on it."""
        return self.payer.hello(self._key, peer, self.life)

    def welcomed(self, welcome: Welcome) -> None:
        """Go on from where the node stands; raises `ProtocolError` or `BadSignature`."""
        payer = self.payer
        known = payer.promised.number
        again = payer.resume(welcome)
        if payer.promised.number != known:
            self._book.adopted(payer.id, payer.epoch, payer.promised)
        if welcome.next_index < payer.received:
            raise ProtocolError(
                f"the node has {welcome.next_index} results, it sent {payer.received}",
                code="node_forgot",
            )
        if welcome.next_index - payer.received > len(self.outstanding):
            raise ProtocolError("the node has results that nobody asked for", code="bad_index")
        payer.deposit = Amount(min(welcome.deposit, self.deposit))
        self._places, self._bytes = welcome.tasks, welcome.bytes
        self._signed_from = payer.received
        self._resent_until = int(welcome.next_index)
        self._repeat = dict(self.outstanding)
        self._outbox = [one.pay for one in again]
        asked = (task.agreement for task in self.outstanding.values())
        for agreement in self._agreements.begin_link(one for one in asked if one is not None):
            self._outbox.append(Ask(agreement.number, agreement.terms))
        self.is_open, self._wants_new_link, self.halted = True, False, ""

    def lost(self) -> None:
        """The link is gone."""
        if self.is_open:
            self.note()
        self.is_open = False
        self._outbox = []

    def note(self) -> None:
        """Write down what the node grants, for who looks at the channel."""
        payer = self.payer
        owed = max(0, payer.spent - int(payer.promised.cumulative))
        self._book.noted(payer.id, payer.epoch, int(payer.credit), payer.received, owed)

    def give_back(self, life: bytes) -> list[Task]:
        """Every task without a result; from now on this is another `life` of the client."""
        tasks = list(self.outstanding.values())
        self.outstanding.clear()
        self._repeat.clear()
        self._asked_amount = self._asked_bytes = 0
        self.life = life
        return tasks

    @property
    def was_idle(self) -> bool:
        """Whether the node ended the last link for others that have work."""
        return not self.is_open and self.halted.startswith("idle:")

    @property
    def awaits(self) -> bool:
        """Whether nothing goes on without a word of the node's."""
        return (
            bool(self.outstanding)
            or len(self.payer.unacknowledged) > MAX_UNACKNOWLEDGED
            or not self._agreements.are_settled
        )

    @property
    def is_settled(self) -> bool:
        """Whether everything received is paid, durably on both sides."""
        return not self.payer.due and not self.payer.unacknowledged

    @property
    def places(self) -> int:
        """How many more tasks the node takes now."""
        if not self.is_open or self.payer.received < self._resent_until:
            return 0
        if len(self.payer.unacknowledged) > MAX_UNACKNOWLEDGED:
            return 0
        if self._asked_bytes + MAX_TASK_BYTES > self._bytes:
            return 0
        return self._places - len(self.outstanding)

    def serves(self, kind: Kind) -> bool:
        """Whether tasks of a kind can be asked for here, as far as is known."""
        if kind in self.refusals:
            return False
        price = kind.price(self.node)
        return price is not None and price <= kind.max_fee

    def can_take(self, kind: Kind) -> bool:
        """Whether something would come of being woken for the tasks of a kind that wait."""
        if self.places <= 0 or not self.serves(kind) or not kind.has_for(self.node):
            return False
        agreement = self._agreements.of(kind)
        if self._wants_new_link:
            return False
        if agreement is None or not self.outstanding:
            return agreement is None or agreement.is_agreed
        return agreement.is_agreed and bool(
            self.payer.affordable(agreement.price, self._asked_amount)
        )

    # --- what to say ---------------------------------------------------------------------------

    def fill(self, kinds: Iterable[Kind], share: Callable[[Kind], int]) -> list[LaneMessage]:
        """What to send now: vouchers, agreements, then as many tasks as there are places.

        `share` says how many of a kind's waiting tasks are this node's.
        """
        messages, self._outbox = self._outbox, []
        if not self.is_open:
            return []
        if self._repeat and self.payer.received >= self._resent_until:
            messages += self._repeated()
        kinds = list(kinds)
        self._wants_new_link = self._agreements.is_full and self._lacks_room(kinds)
        for kind in kinds:
            if kind.waiting and self.serves(kind) and not self._wants_new_link:
                agreement = self._agreements.of(kind)
                if agreement is None:
                    messages += self._propose(kind)
                elif agreement.is_agreed and (count := min(self.places, share(kind))) > 0:
                    messages += self._work(agreement, count)
        self._pay_ahead()
        return messages

    def pay(self, *, flush: bool = False) -> None:
        """Promise what is due; all of it to `flush`."""
        payer = self.payer
        while self.is_open and (tasks := payer.to_pay(flush=flush)):
            self._promise(lambda tasks=tasks: payer.issue(self._key, tasks))  # type: ignore[misc]

    @property
    def news(self) -> trio.Event:
        """Happens with the next receipts, or the next word of credit and deposit."""
        return self._news

    def topped_up(self, deposit: Amount) -> None:
        """The chain holds this much for the epoch now."""
        self.deposit = deposit
        self.refusals = {
            kind: error for kind, error in self.refusals.items() if error.reason_code != "deposit"
        }
        if self.is_open:
            self._outbox.append(LookAgain())
            self._kick()

    @property
    def needs_new_link(self) -> bool:
        """Whether this one has served: on a new one, terms that nobody needs make room."""
        return self._wants_new_link and not self.outstanding and self._agreements.are_settled

    def _lacks_room(self, kinds: Iterable[Kind]) -> bool:
        """Whether there are terms to be agreed, and others that nobody needs now."""
        new = (kind for kind in kinds if kind.waiting and self._agreements.of(kind) is None)
        is_wanted = any(self.serves(kind) for kind in new)
        return is_wanted and any(not one.kind.waiting for one in self._agreements)

    def _propose(self, kind: Kind) -> list[LaneMessage]:
        if self._agreements.is_full:
            return []  # those that there are go first
        price = kind.price(self.node)
        assert price is not None
        made = self._agreements.add(kind, self.payer, self.operator, price)
        return [Ask(made.number, made.terms)]

    def _work(self, agreement: Agreement, count: int) -> list[LaneMessage]:
        kind, price = agreement.kind, agreement.price
        affordable = self.payer.affordable(price, self._asked_amount)
        if not affordable and self.waits_for_deposit:
            return []
        if not affordable and not self.outstanding:
            self.refusals[kind] = Halted(
                f"the deposit for {self.node} covers no other task: "
                f"{format_tokens(int(self.payer.deposit) - self.payer.spent)} are left of "
                f"{format_tokens(self.payer.deposit)}",
                hint=command(
                    f"add to it: deai channel top-up {self.node} AMOUNT", self.payer.domain
                ),
                code="deposit",
            )
        tasks = kind.take(self.node, min(count, affordable), self._bytes - self._asked_bytes)
        ids: list[int] = []
        for task in tasks:
            task.agreement = agreement
            number = self._next_id
            while number in self.outstanding:
                number = (number + 1) % _IDS
            self.outstanding[number] = task
            self._next_id = (number + 1) % _IDS
            ids.append(number)
            self._asked_bytes += len(task.data)
        self._asked_amount += price * len(tasks)
        return packed(agreement.number, ids, [task.data for task in tasks])

    def _repeated(self) -> list[LaneMessage]:
        """Tasks that were asked for on an earlier link and have no result."""
        messages: list[LaneMessage] = []
        for agreement in self._agreements:
            if agreement.is_agreed:
                mine = {n: task for n, task in self._repeat.items() if task.agreement is agreement}
                if mine:
                    data = [task.data for task in mine.values()]
                    messages += packed(agreement.number, list(mine), data)
                    self._repeat = {n: t for n, t in self._repeat.items() if n not in mine}
        return messages

    def _pay_ahead(self) -> None:
        payer = self.payer
        if self.outstanding and not payer.due and payer.received >= self._resent_until:
            oldest = next(iter(self.outstanding.values()))
            assert oldest.agreement is not None
            price = oldest.agreement.price
            if payer.must_pay_ahead(price):
                self._promise(lambda: payer.pay_ahead(self._key, price))

    def _promise(self, sign: Callable[[], Issued]) -> None:
        before = int(self.payer.promised.cumulative)
        issued = sign()
        self.vouchers += 1
        self.paid += int(issued.promised.cumulative) - before
        self._book.issued(issued, lambda: self._durable(issued))

    def _durable(self, issued: Issued) -> None:
        # One that became durable without a link is sent when both have said where they stand.
        if self.is_open:
            self._outbox.append(issued.pay)
            self._kick()

    # --- what was heard ------------------------------------------------------------------------

    def heard(self, message: LaneMessage) -> None:
        """Take in a message; raises `ProtocolError`, `BadSignature` or `Halted`."""
        match message:
            case Results():
                self._results(message)
            case Receipts():
                self._receipts(message)
            case Faults():
                self._faults(message)
            case Credit():
                self.payer.credit = message.credit
                self.payer.deposit = Amount(min(message.deposit, self.deposit))
                self.halted = ""
                self.note()
                self._tell()
            case Agreed() | Refused():
                self._agreed(message)
            case Halt():
                self._halt(message)
            case _:
                raise ProtocolError(f"a node says no {type(message).__name__}", code="bad_turn")

    def _results(self, message: Results) -> None:
        agreement = self._agreements.numbered(message.terms)
        ids, outputs, outstanding = message.ids, message.outputs, self.outstanding
        tasks = [task for number in ids if (task := outstanding.get(number)) is not None]
        if agreement is None or len(tasks) < len(ids) or len(set(ids)) < len(ids):
            raise ProtocolError("a result for no task that was asked for", code="bad_result")
        for task in tasks:
            if task.agreement is not agreement:
                raise ProtocolError("a result under other terms than the task's", code="bad_result")
        inputs = [task.data for task in tasks]
        first, price = int(message.first), agreement.price
        self.payer.got(first, task_leaves(agreement.hash, first, inputs, outputs), price)
        self._answered(ids, inputs, price)
        self.results += len(ids)
        self.halted = ""
        # Before they are paid: whoever writes outputs down has none paid that a crash would lose.
        for index, (task, output) in enumerate(zip(tasks, outputs, strict=True), first):
            done = task.done
            if done is not None:
                task.done, task.output, task.index = None, output, index
                done(task)
        self.pay()
        self._kick()

    def _answered(self, ids: Sequence[int], inputs: Sequence[bytes], price: int) -> None:
        outstanding = self.outstanding
        for number in ids:
            del outstanding[number]
        if self._repeat:
            for number in ids:
                self._repeat.pop(number, None)
        self._asked_amount -= price * len(ids)
        self._asked_bytes -= sum(map(len, inputs))

    def _faults(self, message: Faults) -> None:
        for number, fault, reason in zip(message.ids, message.faults, message.reasons, strict=True):
            task = self.outstanding.get(number)
            if task is None or task.agreement is None:
                raise ProtocolError("a fault of no task that was asked for", code="bad_result")
            self._answered((number,), (task.data,), task.agreement.price)
            if fault:
                task.fail(WorkloadFault(reason or f"fault {fault}", fault=fault))
            else:
                self._failed(task, self.node, NodeFault(reason or "the node could not do it"))
        self._kick()

    def _receipts(self, message: Receipts) -> None:
        done = self.payer.acknowledged(message)
        domain = self.payer.domain
        for issued, signature in done:
            if signature:
                verify_window(domain, self.operator, issued.window, signature)
            elif issued.window.tasks and issued.window.first >= self._signed_from:
                raise ProtocolError("the node does not sign for what it did", code="unsigned")
        self._book.acknowledged(done)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
        self._kick()

    def _agreed(self, message: Agreed | Refused) -> None:
        agreement = self._agreements.numbered(message.number)
        if agreement is None or self._agreements.of(agreement.kind) is not agreement:
            raise ProtocolError("an answer to no question", code="bad_turn")
        if isinstance(message, Agreed):
            agreement.is_agreed = True
            self._kick()
            return
        error = TaskDeclined(message.reason or message.code, code=message.code)
        self._agreements.drop(agreement)
        self.refusals[agreement.kind] = error
        for number, task in list(self.outstanding.items()):
            if task.agreement is agreement:
                self._answered((number,), (task.data,), agreement.price)
                self._failed(task, self.node, error)
        self._kick()

    def _halt(self, message: Halt) -> None:
        self.halted = f"{message.code}: {message.reason}"
        if message.code == "unpaid":
            self.pay(flush=True)
            self._kick()
        elif message.code not in PASSING:
            raise Halted(
                message.reason or message.code,
                code=message.code,
                hint=hint(message.code, self.node, self.payer.domain),
            )
