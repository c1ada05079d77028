"""The client's side of a channel: what it received, what it promised for it, when it pays.

A state machine without I/O, the mirror of `deai.lane.payee`. It never promises more than it
received and one task ahead, and never more than the deposit. A voucher is journalled before it
is sent and kept until the node has said that it is durable there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from deai.channels import (
    NO_RECEIPTS,
    Channel,
    Voucher,
    channel_id,
    fold_receipts,
    sign_voucher,
    verify_voucher,
)
from deai.errors import BadSignature, ProtocolError
from deai.ids import ChannelId, PeerId
from deai.lane.greeting import sign_greeting
from deai.lane.messages import Hello, Pay, Receipts, Welcome
from deai.lane.receipts import MAX_WINDOW, Number, WindowReceipt
from deai.merkle import merkle_root
from deai.money import Amount
from deai.signing import Domain, Signer

SHARE_OF_CREDIT: Final = 4
"""A voucher goes out as soon as a quarter of the credit is used, or a window is full."""


class Promised(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of one epoch has to be durable: as `deai.lane.payee.Standing`, of what was signed."""

    number: Number = 0
    received: Number = 0
    """Results that vouchers cover."""
    settled: Amount = Amount(0)
    voucher: Voucher | None = None

    @property
    def cumulative(self) -> Amount:
        """What the newest voucher promises in all."""
        return self.voucher.cumulative_amount if self.voucher else Amount(0)

    @property
    def receipts_root(self) -> bytes:
        """What the newest voucher's windows fold to."""
        return self.voucher.receipts_root if self.voucher else NO_RECEIPTS


class Issued(NamedTuple):
    """A voucher that was signed: to be written, then sent, then kept until it is acknowledged."""

    pay: Pay
    promised: Promised
    window: WindowReceipt
    leaves: tuple[bytes, ...]


@dataclass
class Payer:
    """One epoch of one channel, as the client that pays sees it."""

    channel: Channel
    domain: Domain
    epoch: int
    deposit: Amount
    promised: Promised = field(default_factory=Promised)
    credit: Amount = field(default=Amount(0))
    """What the node lets us owe."""
    unacknowledged: deque[Issued] = field(default_factory=deque)
    _leaves: list[bytes] = field(default_factory=list)
    _prices: list[int] = field(default_factory=list)
    _due_amount: int = 0
    _forgone: int = 0

    def __post_init__(self) -> None:
        self.id: ChannelId = channel_id(self.channel, self.domain)

    @property
    def received(self) -> int:
        """How many results were received in this epoch."""
        return int(self.promised.received) + len(self._leaves)

    @property
    def due(self) -> int:
        """Received results that no voucher covers."""
        return len(self._leaves)

    @property
    def spent(self) -> int:
        """Base units that all received results cost."""
        return int(self.promised.settled) + self._due_amount

    @property
    def ahead(self) -> int:
        """Base units promised for what was not received: at most one task."""
        return max(0, int(self.promised.cumulative) - self.spent)

    def affordable(self, price: int, asked: int) -> int:
        """How many more tasks the deposit covers beside `asked` base units of running ones."""
        left = int(self.deposit) - self.spent - asked
        return max(0, left // price) if price else 1 << 30

    def got(self, first: int, leaves: list[bytes], price: int) -> None:
        """Results arrived; raise `ProtocolError` where they do not follow the last."""
        if first != self.received:
            raise ProtocolError(f"result {first} after {self.received}", code="bad_index")
        self._leaves += leaves
        self._prices += [price] * len(leaves)
        self._due_amount += price * len(leaves)

    def to_pay(self, *, flush: bool = False) -> int:
        """For how many results a voucher should be signed now; 0 for none."""
        tasks = min(len(self._leaves), MAX_WINDOW)
        if tasks == MAX_WINDOW or flush or self._due_amount * SHARE_OF_CREDIT >= self.credit:
            return tasks
        return 0

    def must_pay_ahead(self, price: int) -> bool:
        """Whether the node will not start a task of this price before it is paid.

        Only where nothing is due: what was received is paid first.
        """
        return not self._leaves and price > int(self.credit) + self.ahead

    def issue(self, key: Signer, tasks: int) -> Issued:
        """Sign the voucher for the oldest `tasks` results."""
        leaves = tuple(self._leaves[:tasks])
        settled = int(self.promised.settled) + sum(self._prices[:tasks])
        del self._leaves[:tasks]
        self._due_amount -= sum(self._prices[:tasks])
        del self._prices[:tasks]
        return self._sign(key, leaves, settled, max(settled, int(self.promised.cumulative)))

    def pay_ahead(self, key: Signer, price: int) -> Issued:
        """Sign a voucher for the next task before it is done."""
        settled = int(self.promised.settled)
        return self._sign(key, (), settled, settled + price)

    def _sign(self, key: Signer, leaves: tuple[bytes, ...], settled: int, amount: int) -> Issued:
        before = self.promised
        window_root = merkle_root(leaves)
        root = fold_receipts(before.receipts_root, window_root) if leaves else before.receipts_root
        voucher = sign_voucher(self.domain, key, self.id, self.epoch, Amount(amount), root)
        self.promised = Promised(
            number=before.number + 1,
            received=before.received + len(leaves),
            settled=Amount(settled),
            voucher=voucher,
        )
        number = int(self.promised.number)
        pay = Pay(number, len(leaves), voucher.cumulative_amount, window_root, voucher.signature)
        window = WindowReceipt(
            self.id, self.epoch, number, before.received, len(leaves), voucher.cumulative_amount,
            window_root,
        )  # fmt: skip
        issued = Issued(pay, self.promised, window, leaves)
        self.unacknowledged.append(issued)
        return issued

    def acknowledged(self, receipts: Receipts) -> list[tuple[Issued, bytes]]:
        """The vouchers that are durable at the node now, each with its signature (maybe empty).

        Raises `ProtocolError` for vouchers that were never sent.
        """
        done: list[tuple[Issued, bytes]] = []
        for signature in receipts.signatures:
            if not self.unacknowledged:
                raise ProtocolError("receipts for no voucher", code="bad_receipts")
            done.append((self.unacknowledged.popleft(), signature))
        if not done or done[-1][0].pay.number != receipts.number:
            raise ProtocolError(f"receipts up to {receipts.number}", code="bad_receipts")
        return done

    def hello(self, key: Signer, peer: PeerId, life: bytes) -> Hello:
        """Where we stand; `peer` is our own id on the link, for which the session key speaks."""
        signature = sign_greeting(self.domain, key, self.channel, self.epoch, peer)
        number = self.promised.number
        heard = number - len(self.unacknowledged)
        return Hello(self.channel, self.epoch, life, self.received, number, heard, signature)

    def resume(self, welcome: Welcome) -> list[Issued]:
        """The vouchers that the node has not, in order, to be sent again.

        Receipts follow for those that it has and has not acknowledged to us.

        A node that shows a newer voucher of ours than we know (our journal was lost) is believed:
        it carries our signature. Raises `ProtocolError` for a node that has forgotten a voucher
        it acknowledged, or shows one that is not ours.
        """
        known = int(self.promised.number)
        if welcome.number > known:
            self._adopt(welcome)
            return []
        acknowledged = known - len(self.unacknowledged)
        if welcome.number < acknowledged:
            raise ProtocolError(
                f"the node has {welcome.number} vouchers and acknowledged {acknowledged}",
                code="node_forgot",
            )
        self.credit, self.deposit = welcome.credit, welcome.deposit
        self._forgo(min(int(welcome.spent), int(self.promised.cumulative)) - self.spent)
        return [one for one in self.unacknowledged if one.pay.number > welcome.number]

    def _forgo(self, amount: int) -> None:
        """Count a task of another life as done that was paid ahead.

        A node may say so once, and then for a twentieth of what it was paid.
        """
        if amount <= 0 or self._leaves:
            return
        if self._forgone and self._forgone + amount > self.spent // 20:
            return
        self._forgone += amount
        settled = Amount(int(self.promised.settled) + amount)
        self.promised = msgspec.structs.replace(self.promised, settled=settled)

    def _adopt(self, welcome: Welcome) -> None:
        voucher = welcome.voucher
        if voucher is None or (voucher.channel, voucher.epoch) != (self.id, self.epoch):
            raise BadSignature("the node shows a voucher of another channel")
        verify_voucher(self.domain, self.channel.session_key, voucher)
        if voucher.cumulative_amount < self.promised.cumulative:
            raise ProtocolError("the node shows an old voucher as the newest", code="node_forgot")
        if self._leaves or self.unacknowledged:
            raise ProtocolError("the node shows a voucher of another process", code="two_payers")
        self.promised = Promised(
            number=welcome.number,
            received=welcome.paid,
            settled=voucher.cumulative_amount,
            voucher=voucher,
        )
        self.credit, self.deposit = welcome.credit, welcome.deposit
