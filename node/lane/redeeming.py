"""Turns vouchers into money: ten channels of our owner in a transaction, when it is worth it.

Nothing is noted before the chain says that it happened, and a transaction that is sent twice pays
once: the contract only pays what a voucher adds to those before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
import trio

from deai.actions import RedeemMany, RedeemVoucher, Redemption, intent_key
from deai.chain.ledger import Ledger, PricesGas, Transaction
from deai.errors import Declined, InsufficientFunds, LedgerRejected, Unreachable
from deai.ids import ChannelId
from node.daemon import Mode
from node.lane.book import LaneBook
from node.lane.policy import Circumstances, why_redeem
from node.lane.tables import Entry
from node.state import Node

logger = structlog.get_logger(__name__)

EVERY: Final = 5.0
CHAIN: Final = 10.0
"""Seconds for the chain to name its price."""
MOST: Final = 10
"""Channels in a transaction."""
PAUSES: Final = (5.0, 30.0, 300.0)
"""After one failure, two, and more."""
ASIDE: Final = 300.0
"""Seconds before an account is tried again whose voucher the chain refused."""
_PROBLEM: Final = "redeem_failed"


def redemption_of(entry: Entry) -> Redemption:
    """The newest voucher of an account; there is one where something is unredeemed."""
    voucher = entry.standing.voucher
    assert voucher is not None
    return entry.channel, voucher


async def redeem(ledger: Ledger, entries: Sequence[Entry], *, attempt: int = 0) -> Transaction:
    """Show the chain the newest voucher of each; at most `MOST`.

    Raises as `Ledger.submit`. One that the chain refused may be right later: the next `attempt`.
    """
    shown = tuple(redemption_of(one) for one in entries)
    action = RedeemVoucher(*shown[0]) if len(shown) == 1 else RedeemMany(shown)
    key = intent_key(action) + (f"#{attempt}" if attempt else "")
    for one in entries:
        one.shown = one.standing
    return await ledger.submit(action, key=key)


class Redeeming:
    """The policy of one chain, carried out."""

    def __init__(
        self, node: Node, book: LaneBook, look: Callable[[ChannelId], Awaitable[None]]
    ) -> None:
        """`look` reads a channel from the chain into its account."""
        self._node = node
        self._book = book
        self._look = look
        self._asked: set[ChannelId] = set()
        self._refused: Counter[str] = Counter()
        self._aside: dict[ChannelId, float] = {}
        self._failures = 0
        self._wake = trio.Event()
        self._is_sending = False

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    def ask(self) -> list[Entry]:
        """The operator wants everything redeemed; which accounts that is."""
        found = [one for one in self._entries() if one.unredeemed]
        self._asked |= {one.channel_id for one in found}
        self.wake()
        return found

    @property
    def is_busy(self) -> bool:
        """Whether something is being redeemed, or should be before the node leaves."""
        return self._is_sending or bool(self._due())

    def _entries(self) -> list[Entry]:
        return self._book.of(self._node.info.name)

    def _due(self) -> list[Entry]:
        node = self._node
        seen = Circumstances(
            now=int(node.wall()),
            chain_time=node.chain_time,
            gas_price=node.gas_price,
            is_draining=node.mode is Mode.DRAINING,
        )
        self._aside = {id_: t for id_, t in self._aside.items() if t > trio.current_time()}
        found = [
            (one, why)
            for one in self._entries()
            if one.channel_id not in self._aside and (why := why_redeem(
                one, node.config.lane, seen, is_asked=one.channel_id in self._asked
            ))
        ]  # fmt: skip
        # What a closing client could take back goes first, then what is worth most.
        found.sort(key=lambda pair: (pair[1] != "closing", -pair[0].unredeemed))
        return [one for one, _ in found]

    async def run(self) -> None:
        """Redeem what is due until cancelled."""
        while True:
            self._wake = trio.Event()
            await self._round()
            if self._failures:
                await trio.sleep(PAUSES[min(self._failures, len(PAUSES)) - 1])
                continue
            with trio.move_on_after(EVERY):
                await self._wake.wait()

    async def _ask_price(self) -> None:
        """What gas costs now, where it decides and the chain tells; else the last price counts."""
        node, ledger = self._node, self._node.ports.ledger
        is_asked = node.config.lane.max_gas_price and any(o.unredeemed for o in self._entries())
        if is_asked and isinstance(ledger, PricesGas):
            with trio.move_on_after(CHAIN), suppress(Unreachable):
                node.gas_price = await ledger.gas_price()

    async def _round(self) -> None:
        await self._ask_price()
        due = self._due()
        if not self._aside and not self._failures:
            self._node.solved(_PROBLEM)
        for at in range(0, len(due), MOST):
            self._is_sending = True
            try:
                await self._send(due[at : at + MOST])
            finally:
                self._is_sending = False
            if self._failures:
                return

    async def _send(self, entries: Sequence[Entry]) -> None:
        node = self._node
        for one in entries:
            await self._look(one.channel_id)  # somebody may have redeemed it
        due = [one for one in entries if one.unredeemed]
        if not due:
            return
        ids = [one.channel_id for one in due]
        names = ",".join(f"{one.channel_id}:{one.standing.number}" for one in due)
        try:
            done = await redeem(node.ports.ledger, due, attempt=self._refused[names])
        except (Unreachable, Declined) as error:
            if not isinstance(error, LedgerRejected) or isinstance(error, InsufficientFunds):
                self._failures += 1
            elif len(due) > 1:
                # One of them, maybe: the others are redeemed at once.
                for some in (due[: len(due) // 2], due[len(due) // 2 :]):
                    if not self._failures:
                        await self._send(some)
                return
            else:
                self._refused[names] += 1
                self._aside.update(dict.fromkeys(ids, trio.current_time() + ASIDE))
            node.problem(_PROBLEM, f"vouchers are not redeemed: {error}", error.hint)
            logger.warning("vouchers not redeemed", action="redeem", reason=str(error))
            return
        self._failures = 0
        self._refused.pop(names, None)
        if not self._aside:
            node.solved(_PROBLEM)
        node.gas_price = done.gas_price or node.gas_price
        node.counters["submitted.redeem"] += 1
        logger.info("vouchers redeemed", action="redeem", channels=len(due), transaction=done.hash)
        for one in due:
            self._asked.discard(one.channel_id)
            await self._look(one.channel_id)
