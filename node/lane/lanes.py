"""Serves the fast lane of one chain: greets clients, keeps their channels, ends what is closed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import structlog
import trio

from deai.chain.ledger import CHANNELS_CONTRACT
from deai.channels import ChannelRecord, ChannelState, channel_id
from deai.errors import (
    BadSignature,
    DeaiError,
    LedgerUnreachable,
    LimitExceeded,
    MalformedMessage,
    NodeFault,
    PeerUnreachable,
    ProtocolError,
)
from deai.events import (
    ChannelClosed,
    ChannelClosing,
    ChannelToppedUp,
    LedgerRecord,
    VoucherRedeemed,
)
from deai.ids import ChannelId
from deai.lane.greeting import verify_greeting
from deai.lane.messages import (
    MAX_UNHEARD,
    Halt,
    Hello,
    LaneMessage,
    Welcome,
    lane_dialect,
)
from deai.lane.payee import Payee
from deai.lane.receipts import Terms
from deai.money import Amount, format_tokens
from deai.net import Link
from deai.ports import Workbench
from deai.signing import Signer
from node.daemon import Mode
from node.lane.account import Account
from node.lane.book import LaneBook
from node.lane.deaths import Register
from node.lane.queue import MAX_QUEUED, MAX_QUEUED_BYTES
from node.lane.redeeming import Redeeming
from node.lane.session import Session
from node.lane.terms import Refusal, judge_terms
from node.lane.towers import keep_towers
from node.lane.windows import unpaid_windows
from node.state import Node

logger = structlog.get_logger(__name__)

GREETING: Final = 10.0
"""Seconds for a client to say who it is, and for this node to be ready for it."""
CHAIN: Final = 10.0
"""Seconds for the chain to tell of a channel."""
READ_EVERY: Final = 30.0
AGAIN: Final = 2.0
"""Seconds between two looks at the chain that a client asks for."""
HELD: Final = 30.0
"""Seconds for which a link keeps its place without paying, where places are short."""
STALE: Final = 120.0
"""Seconds after which nothing is started on the word of an old look."""
READERS: Final = 8
MINDED: Final = 0.5
_STORE: Final = "lane_store"

_Changed = ChannelToppedUp | VoucherRedeemed | ChannelClosing | ChannelClosed


class Lanes:
    """The channels of one chain at this node. Satisfies `House`."""

    def __init__(self, node: Node, book: LaneBook) -> None:
        self._node = node
        self.book = book
        self.domain = node.info.channels
        self.accounts: dict[ChannelId, Account] = {}
        self._greeting: dict[ChannelId, trio.Lock] = {}
        self._wanted: set[ChannelId] = set()
        self._looked: dict[ChannelId, float] = {}
        self._deaths = Register()
        self._readers = trio.CapacityLimiter(READERS)
        self._readers_for_strangers = trio.CapacityLimiter(READERS)
        self.redeeming = Redeeming(node, book, self.look)

    # --- what a session asks of its house -----------------------------------------------------

    @property
    def signer(self) -> Signer:
        """The operator key: it signs windows."""
        return self._node.ports.signer

    @property
    def workbench(self) -> Workbench:
        """Where the work is done."""
        return self._node.ports.workbench

    def judge(self, terms: Terms, account: Account) -> Refusal | None:
        """Whether tasks of these terms are taken."""
        node = self._node
        if (closed := self.closed_because()) is not None:
            return Refusal(*closed)
        return judge_terms(
            terms,
            channel=account.payee.id,
            epoch=account.payee.epoch,
            workload=next((one for one in node.offered() if one.id == terms.workload), None),
            sandbox=self.workbench.sandbox.level,
            config=node.config,
            catalogue=self.workbench.catalogue,
        )

    def closed_because(self) -> tuple[str, str] | None:
        """Why nothing is started for anybody now."""
        if self.book.writer.problem:
            return "store_full", self.book.writer.problem
        node = self._node
        if _STORE in node.daemon.problems:
            return "store_full", "the node's disk failed"
        if node.mode is Mode.DRAINING:
            return "draining", "the node finishes what it has and leaves"
        if node.mode is Mode.PAUSED:
            return "paused", "the operator paused the node"
        if node.mode is Mode.JOINING:
            return "joining", "the node is starting"
        record = node.record
        if record is None or record.operator != node.ports.signer.account:
            return "not_registered", "the node may not sign for itself now"
        return None

    def now(self) -> int:
        """Unix seconds."""
        return int(self._node.wall())

    def look_again(self, account: Account) -> None:
        """Read the channel soon, however often it is asked for."""
        self._wanted.add(account.payee.id)

    def counted(self, name: str, by: int = 1) -> None:
        """Count for metrics."""
        self._node.counters[name] += by

    def said_no(self, code: str, message: str, hint: str = "") -> None:
        """Count for `deai node why`."""
        self._node.reason(code, message, hint)

    # --- links --------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        # Clients may have closed channels while nobody here looked on.
        self._wanted |= {
            one.channel_id for one in self.book.of(self._node.info.name) if not one.is_closed
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mind)
            nursery.start_soon(self.redeeming.run)
            if self._node.config.lane.towers:
                nursery.start_soon(keep_towers, self._node, self.book)
            await nursery.start(
                self._node.ports.net.serve, lane_dialect(self._node.info.name), self._serve
            )
            task_status.started()

    async def _serve(self, link: Link[LaneMessage]) -> None:
        """The life of one link. A client's bad message ends its link only."""
        try:
            with trio.fail_after(GREETING):
                hello = await link.receive()
        except trio.TooSlowError:
            raise ProtocolError("no greeting came", code="no_greeting") from None
        if not isinstance(hello, Hello):
            raise ProtocolError("a client says Hello first")
        try:
            session = await self._greet(link, hello)
        except (_Refused, BadSignature, MalformedMessage) as error:
            self._node.reason(f"lane_{error.reason_code}"[:48], str(error), error.hint)
            with trio.move_on_after(GREETING), suppress(PeerUnreachable):
                await link.send(Halt(error.reason_code, str(error)[:512]))
                await link.drained()
            if isinstance(error, _Refused):
                return  # nobody's fault: the link ends in good order
            raise
        await session.run()

    async def _greet(self, link: Link[LaneMessage], hello: Hello) -> Session:
        id_ = channel_id(hello.channel, self.domain)
        if hello.channel.node != self._node.ports.node:
            raise _Refused("the channel is for another node", code="not_here")
        verify_greeting(self.domain, hello.channel, hello.epoch, link.peer_id, hello.signature)
        lock = self._greeting.setdefault(id_, trio.Lock())
        try:
            with trio.fail_after(GREETING + CHAIN):
                async with lock:
                    return await self._welcome(link, id_, hello)
        except trio.TooSlowError:
            raise _Refused("the node is busy with this channel", code="busy") from None
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._greeting.pop(id_, None)

    async def _welcome(self, link: Link[LaneMessage], id_: ChannelId, hello: Hello) -> Session:
        known = self.accounts.get(id_)
        if known is not None and known.session is not None:
            known.session.end(Halt("replaced", "this channel has a newer link"))
            await known.session.ended.wait()
        record = await self.record(id_)
        if record.epoch != hello.epoch or not record.deposit:
            state = record.state.label
            raise _Refused(
                f"the channel is {state} in epoch {record.epoch}", code="no_channel"
            )  # fmt: skip
        if record.deposit < (least := self._node.config.lane.least_deposit):
            raise _Refused(
                f"the channel holds {format_tokens(record.deposit)}; this node works for those of "
                f"{format_tokens(least)} or more",
                code="deposit",
            )
        if hello.number - hello.acknowledged > MAX_UNHEARD:
            raise MalformedMessage(f"no receipts for {hello.number - hello.acknowledged} vouchers")
        account = self._account(id_, hello, record)
        await account.idle.wait()
        try:
            await self.book.writer.flushed()
        except NodeFault as error:
            raise _Refused(str(error), code="store_full") from error
        first = account.resume(hello)
        self.book.changed(account.entry)
        payee = account.payee
        session = Session(self, account, link, f"{self._node.info.name}:{hello.channel.client}")
        await link.send(
            Welcome(
                payee.standing.voucher,
                payee.standing.number,
                payee.standing.paid,
                payee.next_index,
                payee.credit,
                payee.deposit,
                MAX_QUEUED,
                MAX_QUEUED_BYTES,
                payee.spent(first),
            )
        )
        if self.accounts.get(id_) is not account:
            # Its channel was closed, or its place was given away, while the client was slow.
            raise _Refused("the channel was closed meanwhile", code="busy")
        # Of vouchers that it does not know itself any more a client wants no receipts.
        until = min(int(payee.standing.number), hello.number)
        try:
            unseen = self.book.signatures(account.entry, hello.acknowledged, until)
        except DeaiError as error:
            raise _Refused(str(error), code="store_full") from error
        session.resend(account.shelf.since(first))
        if unseen:
            session.recall(until, unseen)
        account.session = session  # which its owner runs from here on
        return session

    async def record(self, id_: ChannelId) -> ChannelRecord:
        """What the chain has of a channel; raises `_Refused` where it does not answer."""
        try:
            with trio.fail_after(CHAIN):
                # Anybody can greet for channels that do not exist: those wait for each other.
                is_ours = self._is_ours(id_)
                async with self._readers if is_ours else self._readers_for_strangers:
                    return await self._node.ports.ledger.channel(id_)
        except (LedgerUnreachable, trio.TooSlowError) as error:
            raise _Refused(
                "the chain does not answer, so the deposit cannot be checked", code="chain"
            ) from error

    def _account(self, id_: ChannelId, hello: Hello, record: ChannelRecord) -> Account:
        """The channel as it stood, or anew; raises `_Refused` where there is no room."""
        now = trio.current_time()
        known = self.accounts.get(id_)
        if known is not None and known.payee.epoch == hello.epoch:
            self._see(known, record)
            return known
        if known is not None:
            self._drop(known)
        try:
            entry = self.book.entry(self._node.info.name, id_, hello.channel, hello.epoch)
        except LimitExceeded as error:
            raise _Refused(str(error), code="busy") from error
        self._make_room()  # only now: whom the book refuses displaces nobody
        payee = Payee(
            hello.channel,
            self.domain,
            hello.epoch,
            Amount(record.deposit),
            entry.standing,
            self._windows(),
        )
        account = Account(
            payee=payee, entry=entry, record=record, read_at=now,
            deaths=self._deaths.of(hello.channel.client),
        )  # fmt: skip
        self.accounts[id_] = account
        self._see(account, record)
        return account

    def _make_room(self) -> None:
        """Forget who left longest ago, else who paid longest ago and has nothing under way.

        Raises `_Refused` where everybody is here and pays.
        """
        if len(self.accounts) < self._node.config.lane.clients:
            return
        at_rest = [one for one in self.accounts.values() if one.idle.is_set()]
        if left := [one for one in at_rest if one.session is None]:
            self._drop(min(left, key=lambda one: one.left_at))
            return
        unpaid = min(at_rest, key=lambda one: one.paid_at, default=None)
        if unpaid is None or trio.current_time() - unpaid.paid_at < HELD:
            raise _Refused("this node serves as many clients as it can", code="busy")
        assert unpaid.session is not None
        unpaid.session.end(
            Halt("idle", f"nothing was paid for {HELD:.0f} s and others wait; come again with work")
        )
        self._drop(unpaid)

    def _drop(self, account: Account) -> None:
        """Keep only what is on disk; who owed something begins anew when it comes again."""
        if account.payee.due:
            account.write_off()
            self.book.changed(account.entry)
        self.accounts.pop(account.payee.id, None)

    def _windows(self) -> int:
        return unpaid_windows(self._node.config.lane.unpaid_windows, self.book.writer.flush_seconds)

    # --- the chain ----------------------------------------------------------------------------

    def noticed(self, records: Iterable[LedgerRecord]) -> None:
        """Events of the chain: channels of ours are read again."""
        for record in records:
            event = record.event
            if isinstance(event, _Changed) and self._is_ours(event.channel_id):
                self._looked.pop(event.channel_id, None)
                self._wanted.add(event.channel_id)

    def _is_ours(self, id_: ChannelId) -> bool:
        return id_ in self.accounts or bool(self.book.newest(self._node.info.name, id_))

    def _see(self, account: Account, record: ChannelRecord) -> bool:
        is_alive = account.see(record, trio.current_time())
        if is_alive:
            self.seen(account.entry.channel_id, record)
        return is_alive

    def seen(self, id_: ChannelId, record: ChannelRecord) -> None:
        """What the chain has of a channel now goes into its account."""
        entry = self.book.newest(self._node.info.name, id_)
        live = self.accounts.get(id_)
        if entry is None and live is not None:
            entry = live.entry
        if entry is None or record.epoch < entry.epoch:
            return
        entry.closes_at = record.closes_at if record.epoch == entry.epoch else 0
        is_closed = record.epoch > entry.epoch or record.state is ChannelState.CLOSED
        self.book.seen(
            entry,
            deposit=entry.deposit if is_closed else int(record.deposit),
            redeemed=entry.redeemed if is_closed else int(record.claimed),
            is_closed=is_closed,
            now=self.now(),
        )
        if entry.closes_at and entry.unredeemed:
            self.redeeming.wake()

    async def _mind(self) -> None:
        """Twice a second: the disk's pace, and channels to be looked at."""
        while True:
            windows, now = self._windows(), trio.current_time()
            for account in list(self.accounts.values()):
                account.payee.windows = windows
                account.is_stale = now - account.read_at > STALE
                if account.session is not None and now - account.read_at > READ_EVERY:
                    self._wanted.add(account.payee.id)
            due = [
                id_ for id_ in self._wanted if now - self._looked.get(id_, -AGAIN) >= AGAIN
            ]  # fmt: skip
            async with trio.open_nursery() as nursery:
                for id_ in due:
                    self._wanted.discard(id_)
                    self._looked[id_] = now
                    nursery.start_soon(self.look, id_)
            self._looked = {id_: at for id_, at in self._looked.items() if now - at < AGAIN}
            await trio.sleep(MINDED)

    async def look(self, id_: ChannelId) -> None:
        """Read a channel from the chain, and act on what has changed."""
        try:
            record = await self.record(id_)
        except _Refused:
            self._wanted.add(id_)
            return
        account = self.accounts.get(id_)
        if account is None:
            self.seen(id_, record)
            return
        if self._see(account, record):
            if account.session is not None:
                account.session.look()
            return
        self.seen(id_, record)
        if account.session is not None:
            account.session.end(Halt("closed", "the channel is closed"))
        self._drop(account)

    # --- leaving ------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether something is computed, delivered to a client that is here, or to be redeemed."""
        return self.redeeming.is_busy or any(
            one.payee.executing or one.undurable or (one.session is not None and one.payee.due)
            for one in self.accounts.values()
        )

    @property
    def queued(self) -> int:
        """Tasks that wait, of all clients."""
        return sum(one.session.queued for one in self.accounts.values() if one.session)


class _Refused(ProtocolError):
    """A greeting that is answered with why not."""

    code = "refused"


def is_offered(node: Node) -> bool:
    """Whether there is a lane on this chain: an old network has no channels."""
    return (
        node.config.lane.enabled
        and node.ports.book is not None
        and CHANNELS_CONTRACT in node.info.contracts
    )
