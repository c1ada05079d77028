"""A node of the lane written from the messages alone, small enough to read at once.

Honest unless its `Cheat` says otherwise. It shares no code with the node of the network, so that
a mistake which both sides of the product make is seen here.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

import trio

from deai.channels import NO_RECEIPTS, Voucher, channel_id, fold_receipts, verify_voucher
from deai.errors import PeerUnreachable
from deai.hashing import ZERO
from deai.ids import ChannelId
from deai.lane.greeting import verify_greeting
from deai.lane.messages import (
    Agreed,
    Ask,
    Credit,
    Faults,
    Halt,
    Hello,
    LaneMessage,
    LookAgain,
    Pay,
    Receipts,
    Refused,
    Results,
    Welcome,
    Work,
    lane_dialect,
)
from deai.lane.receipts import Terms, WindowReceipt, sign_window, task_leaf, terms_hash
from deai.merkle import merkle_root
from deai.money import Amount
from deai.net import Link
from deai.signing import Domain
from tests.client.support.node import ScriptedNode

PLACES = 1024
BOGUS = 4_000_000_000
"""An id of no task."""


@dataclass
class Cheat:
    """What a node does otherwise, from the result with the index `after` on."""

    how: str = ""
    after: int = 0
    halt: str = ""
    """A code with which it stops instead of computing."""
    refuse: str = ""
    windows: int = 4
    places: int = PLACES
    asks: int = 256
    """Terms on one link; more of them break the protocol."""
    seconds: float = 0.0
    """Per batch."""
    drops_after: int = 0
    """The link is lost once, after so many results."""
    loses_batch: bool = False
    """With the results of that batch on it."""


@dataclass
class Account:
    """One epoch of a channel."""

    epoch: int
    deposit: int
    number: int = 0
    cumulative: int = 0
    settled: int = 0
    paid: int = 0
    root: bytes = NO_RECEIPTS
    voucher: Voucher | None = None
    dearest: int = 0
    since_late: int = 0
    life: bytes = b""
    due: deque[tuple[bytes, int, int, int, bytes]] = field(default_factory=deque)
    """Leaf, price, terms, id, output of what no voucher covers."""
    due_amount: int = 0
    signatures: list[bytes] = field(default_factory=list)
    """Over the windows, voucher for voucher."""
    written_off: int = 0
    paid_ahead_most: int = 0

    @property
    def next_index(self) -> int:
        return self.paid + len(self.due)

    @property
    def owed(self) -> int:
        return self.settled + self.due_amount - self.cumulative

    @property
    def credit(self) -> int:
        return max(self.dearest, self.since_late * 5 // 100)


class LaneNode:
    """Serves the lane beside a scripted node that tells what it offers."""

    def __init__(self, base: ScriptedNode, cheat: Cheat) -> None:
        self.base = base
        self.cheat = cheat
        self.domain: Domain = base.ledger.info.channels
        self.accounts: dict[ChannelId, Account] = {}
        self.computed: list[bytes] = []
        """Inputs, in the order of the results that were sent first."""
        self.links = 0
        self.messages: list[LaneMessage] = []
        self.heard: dict[str, int] = {}
        self.most_asked = 0
        self.dropped = False
        self.scope = trio.CancelScope()

    @property
    def account(self) -> Account:
        """The only one there is."""
        (account,) = self.accounts.values()
        return account

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            await self.base.net.serve(
                lane_dialect(self.base.ledger.info.name), self._greet, task_status=task_status
            )

    async def _greet(self, link: Link[LaneMessage]) -> None:
        self.links += 1
        hello = await link.receive()
        assert isinstance(hello, Hello)
        id_ = channel_id(hello.channel, self.domain)
        verify_greeting(self.domain, hello.channel, hello.epoch, link.peer_id, hello.signature)
        record = await self.base.ledger.channel(id_)
        assert (record.epoch, hello.channel.node) == (hello.epoch, self.base.node)
        account = self.accounts.setdefault(id_, Account(record.epoch, int(record.deposit)))
        account.deposit = int(record.deposit)
        seen = max(hello.received, account.paid)
        if hello.life != account.life:
            while account.next_index > seen:
                lost = account.due.pop()[1]
                account.due_amount -= lost
                account.written_off += lost
                account.since_late = 0
        account.life = hello.life
        await _Conversation(self, link, hello, account).run(seen)


class _Conversation:
    """One link."""

    def __init__(
        self, node: LaneNode, link: Link[LaneMessage], hello: Hello, account: Account
    ) -> None:
        self.node, self.link, self.hello, self.account = node, link, hello, account
        self.id = channel_id(hello.channel, node.domain)
        self.terms: dict[int, Terms] = {}
        self.queue: deque[tuple[int, int, bytes]] = deque()
        self.told = -1
        self.work = trio.Event()

    async def run(self, seen: int) -> None:
        account, how = self.account, self.node.cheat.how
        voucher, number = account.voucher, account.number
        if how == "forgets vouchers" and self.node.links > 1:
            voucher, number = None, 0
        if how == "somebody else's voucher":
            other = Voucher(self.id, 1, Amount(77), ZERO, bytes(63) + b"\x01")
            voucher, number = other, number + 5
        more = how == "claims a result more"
        await self.link.send(
            Welcome(
                voucher, number, account.paid, account.next_index + more, Amount(account.credit),
                Amount(account.deposit), self.node.cheat.places, 4 << 20,
            )
        )  # fmt: skip
        until = min(number, self.hello.number)
        if unheard := account.signatures[self.hello.acknowledged : until]:
            await self.link.send(Receipts(until, unheard))
        for place, (_, _, terms, id_, output) in enumerate(account.due, account.paid):
            if place >= seen:
                await self.link.send(Results(terms, place, [id_], [output]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._compute)
            try:
                while True:
                    message = await self.link.receive()
                    name = type(message).__name__
                    self.node.heard[name] = self.node.heard.get(name, 0) + 1
                    await self._take(message)
            except PeerUnreachable:
                nursery.cancel_scope.cancel()

    async def _take(self, message: LaneMessage) -> None:
        match message:
            case Ask():
                if self.node.cheat.refuse:
                    await self.link.send(Refused(message.number, self.node.cheat.refuse, "no"))
                    return
                assert message.terms.channel == self.id
                assert len(self.terms) < self.node.cheat.asks
                assert message.number not in self.terms
                if self.node.cheat.how == "says nothing to terms":
                    return
                if self.node.cheat.how == "refuses twice":
                    for _ in range(2):
                        await self.link.send(Refused(message.number, "no", "no"))
                    return
                self.terms[message.number] = message.terms
                await self.link.send(Agreed(message.number))
            case Work():
                if self.node.cheat.how == "hangs up on work":
                    raise PeerUnreachable("as the script says")
                for id_, data in zip(message.ids, message.inputs, strict=True):
                    self.queue.append((message.terms, id_, data))
                self.node.most_asked = max(self.node.most_asked, len(self.queue))
                assert len(self.queue) <= self.node.cheat.places
                self.work.set()
            case Pay():
                await self._paid(message)
                self.work.set()
            case LookAgain():
                self.account.deposit = int((await self.node.base.ledger.channel(self.id)).deposit)
                await self._tell(always=True)
                self.work.set()
            case _:
                raise AssertionError(message)

    def _may_start(self, price: int) -> bool:
        account = self.account
        if len(account.due) >= self.node.cheat.windows * 64:
            return False
        return account.owed + price <= min(account.credit, account.deposit - account.cumulative)

    async def _compute(self) -> None:
        cheat = self.node.cheat
        while True:
            self.work = trio.Event()
            if cheat.halt and self.queue and self.account.next_index >= cheat.after:
                await self.link.send(Halt(cheat.halt, "as the script says"))
                await trio.sleep_forever()
            batch: list[tuple[int, int, bytes]] = []
            cost = 0
            while self.queue and len(batch) < 64:
                terms, _, _ = self.queue[0]
                if batch and terms != batch[0][0]:
                    break
                price = int(self.terms[terms].price)
                if not self._may_start(cost + price):
                    break
                cost += price
                batch.append(self.queue.popleft())
            if not batch:
                if self.queue and self.account.deposit - self.account.settled < price:
                    await self.link.send(Halt("deposit", "it does not reach"))
                await self.work.wait()
                continue
            if cheat.seconds:
                await trio.sleep(cheat.seconds)  # what the work takes
            await self._deliver(batch)

    async def _deliver(self, batch: list[tuple[int, int, bytes]]) -> None:
        account, cheat = self.account, self.node.cheat
        good = [one for one in batch if not one[2].startswith((b"fault", b"broken"))]
        bad = [one for one in batch if one not in good]
        if bad:
            faults = [7 if data.startswith(b"fault") else 0 for _, _, data in bad]
            await self.link.send(Faults([id_ for _, id_, _ in bad], faults, ["so"] * len(bad)))
        if not good:
            return
        number = good[0][0]
        terms = self.terms[number]
        ids, outputs = [id_ for _, id_, _ in good], [data.upper() for _, _, data in good]
        first = account.next_index
        for index, (_, id_, data) in enumerate(good, first):
            leaf = task_leaf(terms_hash(terms), index, _sha(data), _sha(data.upper()))
            account.due.append((leaf, int(terms.price), number, id_, data.upper()))
            account.due_amount += int(terms.price)
            self.node.computed.append(data)
        if cheat.drops_after and not self.node.dropped and account.next_index >= cheat.drops_after:
            self.node.dropped = True
            if not cheat.loses_batch:
                await self.link.send(Results(number, first, ids, outputs))
                await self.link.drained()
            self.node.base.net._network.drop(self.node.base.net.peer_id)
            await trio.sleep_forever()
        await self._cheated(Results(number, first, ids, outputs))

    async def _cheated(self, results: Results) -> None:
        how = self.node.cheat.how if results.first >= self.node.cheat.after else ""
        number, first, ids, outputs = results.terms, results.first, results.ids, results.outputs
        if how == "wrong index":
            results = Results(number, first + 1, ids, outputs)
        elif how == "missing result":
            results = Results(number, first, ids[1:] or [BOGUS], outputs[1:] or outputs)
        elif how == "extra result":
            results = Results(number, first, [*ids, BOGUS], [*outputs, b"more"])
        elif how == "the same result twice in a message":
            results = Results(number, first, [*ids, ids[0]], [*outputs, outputs[0]])
        elif how == "other terms":
            results = Results(number + 1, first, ids, outputs)
        elif how == "silent":
            return
        elif how == "fault of nobody":
            await self.link.send(Faults([BOGUS], [1], ["?"]))
            return
        elif how == "credit to a node":
            await self.link.send(LookAgain())
            return
        await self.link.send(results)
        if how == "answers twice":
            await self.link.send(results)

    async def _paid(self, pay: Pay) -> None:
        account, node = self.account, self.node
        assert pay.number == account.number + 1
        assert account.cumulative <= pay.cumulative_amount <= account.deposit
        covered = [account.due[i] for i in range(pay.tasks)]
        leaves = [one[0] for one in covered]
        settled = account.settled + sum(one[1] for one in covered)
        assert pay.cumulative_amount >= settled
        if pay.root != merkle_root(leaves):
            assert node.cheat.how, "a voucher for other receipts"
            return
        root = fold_receipts(account.root, pay.root) if leaves else account.root
        voucher = Voucher(self.id, account.epoch, pay.cumulative_amount, root, pay.signature)
        verify_voucher(node.domain, self.hello.channel.session_key, voucher)
        window = WindowReceipt(
            self.id, account.epoch, pay.number, account.paid, pay.tasks, pay.cumulative_amount,
            pay.root,
        )  # fmt: skip
        for _ in leaves:
            account.due_amount -= account.due.popleft()[1]
        account.since_late += int(pay.cumulative_amount) - account.cumulative
        account.paid_ahead_most = max(account.paid_ahead_most, -account.owed)
        account.number, account.cumulative = pay.number, int(pay.cumulative_amount)
        account.settled, account.paid, account.root = settled, account.paid + len(leaves), root
        account.dearest = max([account.dearest, *(one[1] for one in covered)])
        account.voucher = voucher
        account.paid_ahead_most = max(account.paid_ahead_most, -account.owed)
        signature = sign_window(node.domain, node.base.operator, window) if leaves else b""
        how = node.cheat.how if account.paid > node.cheat.after else ""
        if how == "bad window signature":
            signature = node.base.operator.sign(bytes(32))
        elif how == "no window signature":
            signature = b""
        account.signatures.append(signature)
        if how == "swallows vouchers":
            return
        receipts = Receipts(pay.number + (how == "receipts for more"), [signature])
        await self.link.send(receipts)
        await self._tell()

    async def _tell(self, *, always: bool = False) -> None:
        if always or self.account.credit != self.told:
            self.told = self.account.credit
            await self.link.send(Credit(Amount(self.told), Amount(self.account.deposit)))


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
