"""A client's and a node's book against each other, and the wire between them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from deai.channels import (
    CHANNELS_NAME,
    Channel,
)
from deai.ids import AccountId, PeerId, node_id
from deai.lane.messages import Pay, Receipts, Welcome
from deai.lane.payee import Payee, Standing
from deai.lane.payer import Issued, Payer, Promised
from deai.lane.receipts import sign_window, task_leaves, verify_window
from deai.money import Amount
from deai.signing import Domain
from tests.support.samples import signer

DOMAIN = Domain(CHANNELS_NAME, 713714, AccountId("0x" + "ce" * 20))
SESSION, OPERATOR = signer(5), signer(8)
CHANNEL = Channel(signer(6).account, node_id(signer(7).account, 3), SESSION.account)
PEER = PeerId("12D3KooWClient")
TERMS = b"\x01" * 32
DEPOSIT = Amount(5_000)
PRICES = (1, 7, 50)


def leaves(first: int, count: int) -> list[bytes]:
    column = [b"%d" % index for index in range(first, first + count)]
    return task_leaves(TERMS, first, column, column)


def payee(standing: Standing | None = None, windows: int = 4) -> Payee:
    return Payee(CHANNEL, DOMAIN, 1, DEPOSIT, standing or Standing(), windows)


def payer(promised: Promised | None = None, kept: tuple[Issued, ...] = ()) -> Payer:
    return Payer(CHANNEL, DOMAIN, 1, DEPOSIT, promised or Promised(), unacknowledged=deque(kept))


def welcome(node: Payee, received: int = 0) -> Welcome:
    standing = node.standing
    return Welcome(
        standing.voucher, standing.number, standing.paid, node.next_index, node.credit,
        node.deposit, 1024, 1 << 22, node.spent(received),
    )  # fmt: skip


@dataclass
class Pair:
    """A client and a node, the wire between them, and what either has on disk."""

    client: Payer = field(default_factory=payer)
    node: Payee = field(default_factory=payee)
    life: int = 0
    results: deque[tuple[int, int, int]] = field(default_factory=deque)  # first, count, price
    pays: deque[Pay] = field(default_factory=deque)
    receipts: deque[Receipts] = field(default_factory=deque)
    running: list[tuple[int, int]] = field(default_factory=list)  # count, price
    price: int = 1
    dearest: int = 1
    got: int = 0
    crashed: bool = False
    unsigned: int = 0
    signed: list[bytes] = field(default_factory=list)
    """By the node, on its disk, voucher for voucher."""

    def __post_init__(self) -> None:
        self.connect()

    def step(self, name: str) -> None:
        getattr(self, name)()
        promised = self.client.promised
        assert promised.cumulative <= DEPOSIT
        assert self.client.ahead <= self.dearest, "the client risks more than one task"
        assert self.node.standing.cumulative <= promised.cumulative
        assert self.node.standing.number <= promised.number

    def cheap(self) -> None:
        self.price = PRICES[0]

    def middling(self) -> None:
        self.price = PRICES[1]

    def dear(self) -> None:
        self.price = PRICES[2]

    def start(self) -> None:
        count = min(self.node.may_start(self.price), 40)
        if count:
            self.dearest = max(self.dearest, self.price)
            self.node.started(count, self.price)
            self.running.append((count, self.price))
            at_risk = self.node.owed + sum(many * price for many, price in self.running)
            assert at_risk <= self.node.credit, "the node risks more than its credit"
            assert at_risk + self.node.standing.cumulative <= DEPOSIT

    def finish(self) -> None:
        for count, price in self.running:
            first = self.node.next_index
            self.node.delivered(leaves(first, count), price)
            self.results.append((first, count, price))
        self.running.clear()

    def fail(self) -> None:
        for count, price in self.running:
            self.node.gave_up(count, price)
        self.running.clear()

    def read_results(self) -> None:
        if self.results:
            first, count, price = self.results.popleft()
            self.client.got(first, leaves(first, count), price)
            self.got += count * price

    def pay(self, flush: bool = True) -> None:
        if tasks := self.client.to_pay(flush=flush):
            self.pays.append(self.client.issue(SESSION, tasks).pay)
        elif self.client.must_pay_ahead(self.price) and self.client.affordable(self.price, 0):
            self.dearest = max(self.dearest, self.price)
            self.pays.append(self.client.pay_ahead(SESSION, self.price).pay)

    def read_pay(self) -> None:
        if self.pays:
            taken = self.node.take(self.pays.popleft())
            signature = b""
            if taken.window is not None:
                signature = sign_window(DOMAIN, OPERATOR, taken.window)
                assert taken.window.tasks == len(taken.leaves)
            self.signed.append(signature)
            self.receipts.append(Receipts(taken.standing.number, [signature]))

    def read_receipts(self) -> None:
        if self.receipts:
            for issued, signature in self.client.acknowledged(self.receipts.popleft()):
                if signature:
                    verify_window(DOMAIN, OPERATOR.account, issued.window, signature)
                elif issued.window.tasks:
                    self.unsigned += 1
            self.client.credit = self.node.credit

    def late(self) -> None:
        self.node.late()

    def connect(self) -> None:
        """Both lose what was on the wire, and say where they stand."""
        self.finish()
        self.results.clear()
        self.pays.clear()
        self.receipts.clear()
        first = self.node.resume(self.client.hello(SESSION, PEER, self.life.to_bytes(8, "big")))
        for issued in self.client.resume(welcome(self.node, first)):
            self.pays.append(issued.pay)
        heard = self.client.promised.number - len(self.client.unacknowledged)
        for number, signature in enumerate(self.signed[heard:], heard + 1):
            self.receipts.append(Receipts(number, [signature]))
        at = first - self.node.standing.paid
        for index, due in enumerate(list(self.node.due)[at:], first):
            self.results.append((index, 1, due.price))

    def crash_node(self) -> None:
        self.running.clear()
        self.node = payee(self.node.standing)
        self.crashed = True
        self.connect()

    def crash_client(self) -> None:
        self.client = payer(self.client.promised, tuple(self.client.unacknowledged))
        self.life += 1
        self.crashed = True
        self.connect()

    def settle(self) -> None:
        """Everything that is on its way arrives."""
        self.connect()
        while self.results or self.pays or self.receipts or self.client.due:
            self.read_results()
            self.pay()
            self.read_pay()
            self.read_receipts()


def paid(tasks: int, price: int = 7) -> Pair:
    """A pair in which so many tasks were paid, one by one at first."""
    pair = Pair()
    pair.price = price
    while pair.node.standing.paid < tasks:
        for name in ("start", "finish", "read_results", "pay", "read_pay", "read_receipts"):
            pair.step(name)
    return pair
