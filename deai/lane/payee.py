"""The node's side of a channel: what it has done, what was promised for it, what it may start.

A state machine without I/O. Credit is money (docs/protocol.md): a client owes at most what
`deai.channels.credit` allows and at most `windows` windows of tasks, and the deposit covers
whatever is started. What has to survive the process is `Standing`, written before a voucher is
acknowledged.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from deai.channels import (
    NO_RECEIPTS,
    Channel,
    Voucher,
    channel_id,
    credit,
    fold_receipts,
    verify_voucher,
)
from deai.errors import MalformedMessage, ProtocolError
from deai.hashing import ZERO
from deai.ids import ChannelId
from deai.lane.messages import Hello, Pay
from deai.lane.receipts import MAX_WINDOW, Number, WindowReceipt
from deai.merkle import merkle_root
from deai.money import Amount
from deai.signing import Domain

MAX_WINDOWS: Final = 64
MAX_FORGOTTEN: Final = MAX_WINDOWS * MAX_WINDOW
"""Results that a client may say it received and a restarted node no longer knows."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of one epoch has to be durable.

    `number` vouchers cover `paid` receipts that cost `settled`; `paid_task` is the dearest task
    that was paid, `paid_since_late` what vouchers paid since the last late one. `written_off` is
    what results cost that a client did not know any more: it may not owe it twice.
    """

    number: Number = 0
    paid: Number = 0
    settled: Amount = Amount(0)
    paid_task: Amount = Amount(0)
    paid_since_late: Amount = Amount(0)
    written_off: Amount = Amount(0)
    voucher: Voucher | None = None

    @property
    def cumulative(self) -> Amount:
        """What the newest voucher promises in all."""
        return self.voucher.cumulative_amount if self.voucher else Amount(0)

    @property
    def receipts_root(self) -> bytes:
        """What the newest voucher's windows fold to."""
        return self.voucher.receipts_root if self.voucher else NO_RECEIPTS


class Due(NamedTuple):
    """A result that no voucher covers yet; of one from before a crash neither is known."""

    leaf: bytes | None
    price: int


class Taken(NamedTuple):
    """A voucher that is good: to be written, then acknowledged with a signature over `window`."""

    standing: Standing
    leaves: tuple[bytes, ...]
    window: WindowReceipt | None
    """None where the node cannot check the leaves, or where there are none."""


@dataclass
class Payee:
    """One epoch of one channel, as the node that works for it sees it."""

    channel: Channel
    domain: Domain
    epoch: int
    deposit: Amount
    standing: Standing = field(default_factory=Standing)
    windows: int = 4
    """How many full windows may be unpaid."""
    due: deque[Due] = field(default_factory=deque)
    executing: int = 0
    life: bytes = b""
    """Of the client's process that asked for what is due."""
    _due_amount: int = 0
    _executing_amount: int = 0

    def __post_init__(self) -> None:
        self.id: ChannelId = channel_id(self.channel, self.domain)

    @property
    def next_index(self) -> int:
        """The receipt index of the next result."""
        return self.standing.paid + len(self.due)

    @property
    def owed(self) -> int:
        """Base units delivered and not promised; negative where the client paid ahead."""
        return int(self.standing.settled) + self._due_amount - int(self.standing.cumulative)

    @property
    def written_off(self) -> int:
        """Base units of results that a restarted client no longer knew."""
        return int(self.standing.written_off)

    @property
    def credit(self) -> Amount:
        """What the client may owe at most, in base units, beside what was written off."""
        standing = self.standing
        whole = credit(int(standing.paid_task), int(standing.paid_since_late))
        return Amount(max(0, int(whole) - self.written_off))

    def spent(self, received: int) -> Amount:
        """What the results before this index cost."""
        some = islice(self.due, max(0, received - int(self.standing.paid)))
        return Amount(int(self.standing.settled) + sum(one.price for one in some))

    def may_start(self, price: int) -> int:
        """How many tasks of this price credit, windows and deposit cover now."""
        tasks = self.windows * MAX_WINDOW - len(self.due) - self.executing
        if price:
            open_amount = self.owed + self._executing_amount
            left = int(self.deposit) - int(self.standing.cumulative)
            tasks = min(tasks, (min(int(self.credit), left) - open_amount) // price)
        return max(0, tasks)

    def started(self, tasks: int, price: int) -> None:
        """So many tasks were handed to a worker."""
        self.executing += tasks
        self._executing_amount += tasks * price

    def gave_up(self, tasks: int, price: int) -> None:
        """So many of them have no result and cost nothing."""
        self.executing -= tasks
        self._executing_amount -= tasks * price

    def delivered(self, leaves: list[bytes], price: int) -> None:
        """These results exist now, in this order, from `next_index` on."""
        self.gave_up(len(leaves), price)
        self.due.extend(Due(leaf, price) for leaf in leaves)
        self._due_amount += len(leaves) * price

    def take(self, pay: Pay) -> Taken:
        """Check the next voucher and count it.

        Raises `ProtocolError` for one that is out of order, covers what was not delivered, pays
        too little or more than the deposit, or stands for other receipts, and `BadSignature`.
        """
        before = self.standing
        if pay.number != before.number + 1:
            raise ProtocolError(f"voucher {pay.number} after {before.number}", code="bad_voucher")
        if pay.tasks > len(self.due):
            raise ProtocolError(
                f"a voucher for {pay.tasks} tasks, {len(self.due)} are due", code="bad_voucher"
            )
        if not before.cumulative <= pay.cumulative_amount <= self.deposit:
            raise ProtocolError(
                f"a voucher of {pay.cumulative_amount} after {before.cumulative}, with "
                f"{self.deposit} deposited",
                code="bad_voucher",
            )
        if not pay.tasks and pay.cumulative_amount == before.cumulative:
            raise ProtocolError("a voucher for nothing", code="bad_voucher")
        covered = list(islice(self.due, pay.tasks))
        leaves = [one.leaf for one in covered if one.leaf is not None]
        is_known = len(leaves) == len(covered)
        settled = int(before.settled) + sum(one.price for one in covered)
        if pay.cumulative_amount < settled:
            raise ProtocolError(
                f"a voucher of {pay.cumulative_amount} where {settled} is owed", code="bad_voucher"
            )
        if pay.root != (merkle_root(leaves) if is_known else pay.root) or (
            not covered and pay.root != ZERO
        ):
            raise ProtocolError("a voucher for other receipts", code="bad_voucher")
        root = fold_receipts(before.receipts_root, pay.root) if covered else before.receipts_root
        voucher = Voucher(self.id, self.epoch, pay.cumulative_amount, root, pay.signature)
        verify_voucher(self.domain, self.channel.session_key, voucher)
        for _ in covered:
            self._due_amount -= self.due.popleft().price
        gained = int(pay.cumulative_amount) - int(before.cumulative)
        # What comes for results of before a crash pays for those that were written off first.
        surplus = 0 if is_known else int(pay.cumulative_amount) - settled
        self.standing = Standing(
            number=pay.number,
            paid=before.paid + len(covered),
            settled=Amount(settled) if is_known else pay.cumulative_amount,
            paid_task=Amount(max([int(before.paid_task), *(one.price for one in covered)])),
            paid_since_late=Amount(before.paid_since_late + gained),
            written_off=Amount(max(0, int(before.written_off) - surplus)),
            voucher=voucher,
        )
        window = WindowReceipt(
            self.id, self.epoch, pay.number, before.paid, len(covered), pay.cumulative_amount,
            pay.root,
        )  # fmt: skip
        return Taken(self.standing, tuple(leaves), window if covered and is_known else None)

    def late(self) -> None:
        """The client let its credit run out and did not pay: it begins anew."""
        self.standing = msgspec.structs.replace(self.standing, paid_since_late=Amount(0))

    def write_off(self, tasks: int) -> None:
        """Nobody knows the last so many results any more, and nobody pays for them.

        What was paid ahead is spent for them, the rest lowers the credit for good: else a client
        would get one more task for nothing with each new life.
        """
        lost = sum(self.due.pop().price for _ in range(tasks))
        self._due_amount -= lost
        standing, covered = self.standing, min(lost, max(0, -self.owed))
        self.standing = msgspec.structs.replace(
            standing,
            settled=Amount(int(standing.settled) + covered),
            written_off=Amount(int(standing.written_off) + lost - covered),
        )

    def resume(self, hello: Hello) -> int:
        """A client is here again: the index from which results are to be sent once more.

        In another life of the client, what it does not know any more is written off; after a
        restart of this node, what the client received is noted as due without a price. Nothing
        may be executing. Raises `MalformedMessage` for a position that cannot be.
        """
        paid, end = int(self.standing.paid), self.next_index
        received = max(hello.received, paid)
        if received > end:
            if self.due or received - paid > MAX_FORGOTTEN:
                raise MalformedMessage(f"{hello.received} results received, {end} sent")
            self.due.extend([Due(None, 0)] * (received - paid))
        elif hello.life != self.life and received < end:
            self.write_off(end - received)
        self.life = hello.life
        return received
