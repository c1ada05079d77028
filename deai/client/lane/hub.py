"""The sessions of a client: one per node with an open channel, shared by all its lanes.

The first lane opens the book, the last one to leave closes it; what was received is paid before
that, also when the client is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from deai.actions import TopUpChannel
from deai.channels import ChannelState
from deai.client.journal import JournalError
from deai.client.lane.book import Book
from deai.client.lane.patience import Patience
from deai.client.lane.places import Place
from deai.client.lane.session import Session
from deai.client.lane.talk import Talk
from deai.client.lane.tasks import MAX_TRIES, Kind, Task, fair_share
from deai.client.tools import Tools
from deai.errors import DeaiError, NodeFault
from deai.ids import NodeId
from deai.lane.messages import lane_dialect
from deai.lane.payer import Payer
from deai.money import Amount
from deai.signing import Domain


@dataclass
class _Life:
    """From the first lane to the last."""

    book: Book
    nursery: trio.Nursery
    stop: trio.Event
    ended: trio.Event


class Hub:
    """Everything that a client's lanes share."""

    def __init__(self, tools: Tools, nursery: trio.Nursery, patience: Patience) -> None:
        self.sessions: dict[NodeId, Session] = {}
        self.patience = patience
        self._tools = tools
        self._nursery = nursery
        self._kinds: list[Kind] = []
        self._lanes = 0
        self._life: _Life | None = None
        self._lock = trio.Lock()
        self._failure: DeaiError | None = None
        self._is_calm = True
        self._stuck: set[Kind] = set()
        """Kinds that waited when nobody could take anything; a task of another may be taken."""
        self._may_add = 0
        """Base units that may still be added to deposits."""
        self._change = trio.Event()

    # --- lanes come and go ---------------------------------------------------------------------

    async def enter(self, places: Iterable[Place], auto_top_up: int) -> None:
        """A lane begins; raises `ConfigError` or `JournalError`, then it has not."""
        async with self._lock:
            if self._life is None:
                self._failure = None
                self.sessions.clear()
                life: _Life = await self._nursery.start(self._live)
                self._life = life
            if self._failure is not None:
                raise self._failure
            if any(one.is_over for one in self.sessions.values()):
                await self._life.book.flushed()  # what it promised is read from the disk again
            for place in places:
                known = self.sessions.get(place.node)
                if known is None or known.is_over:
                    self._begin(self._life, place)
            self._lanes += 1
            self._may_add += auto_top_up

    async def leave(self, kinds: Iterable[Kind], auto_top_up: int) -> None:
        """A lane ends; the last one waits until everything received is paid."""
        gone = set(kinds)
        self._kinds = [kind for kind in self._kinds if kind not in gone]
        self._may_add = max(0, self._may_add - auto_top_up)
        with trio.CancelScope(shield=True):
            async with self._lock:
                self._lanes -= 1
                if not self._lanes and self._life is not None:
                    self._life.stop.set()
                    await self._life.ended.wait()
                    self._life = None

    def open_kind(self, kind: Kind) -> None:
        """Tasks of this kind may come."""
        self._kinds.append(kind)
        self._judge(kind)

    def spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run something until the client ends."""
        self._nursery.start_soon(function)

    def put(self, task: Task, kind: Kind) -> None:
        """Let a task wait for a node."""
        if kind.lost is not None:
            task.fail(kind.lost)
            return
        kind.put(task)
        if self._is_calm or (self._stuck and kind not in self._stuck):
            self._kick_one()

    async def ready(self, nodes: Iterable[NodeId]) -> None:
        """Wait until one of these nodes takes tasks; raises why none does."""
        wanted = [self.sessions[node] for node in nodes]
        while not any(one.talk.is_open for one in wanted):
            if self._failure is not None:
                raise self._failure
            if not any(one.may_serve for one in wanted):
                raise next((one.error for one in wanted if one.error), NodeFault("no node"))
            await self._change.wait()

    # --- what sessions ask ---------------------------------------------------------------------

    @property
    def chain(self) -> str:
        """Which chain the channels are on."""
        return str(self._tools.ledger.info.name)

    @property
    def domain(self) -> Domain:
        """What promises in the channels are signed under."""
        return self._tools.ledger.info.channels

    @property
    def book(self) -> Book:
        """What is written down; only while a lane is open."""
        assert self._life is not None
        return self._life.book

    @property
    def kinds(self) -> list[Kind]:
        """All kinds of tasks that are open."""
        return self._kinds

    @property
    def waiting(self) -> int:
        """How many tasks wait for a node."""
        return sum(kind.waiting for kind in self._kinds)

    def share(self, session: Session, kind: Kind) -> int:
        """How many of a kind's waiting tasks are a session's."""
        others = [
            len(one.talk.outstanding)
            for one in self.sessions.values()
            if one is not session and one.talk.places > 0 and one.talk.serves(kind)
        ]
        return fair_share(kind.waiting, len(session.talk.outstanding), others)

    def left(self, session: Session) -> None:
        """A session took its share and has gone on; others may take theirs."""
        self._is_calm = True
        if self.waiting:
            self._kick_one(but=session)

    def changed(self) -> None:
        """A session can do more or less than before: tasks that nobody can do have failed."""
        self._change.set()
        self._change = trio.Event()
        for kind in list(self._kinds):
            self._judge(kind)
        if self.waiting:
            self._kick_one()

    def failed(self, task: Task, node: NodeId, error: DeaiError) -> None:
        """A node could not do a task: another one tries, or the same where there is no other."""
        if task.done is None:
            return
        kind = task.kind
        assert kind is not None
        task.tries += 1
        if self._failure is not None or task.tries >= MAX_TRIES:
            task.fail(self._failure or error)
            return
        task.failure = error
        able = self._able(kind)
        excluded = (task.excluded or set()) | {node}
        task.excluded = excluded if able - excluded else set()
        if not able:
            task.fail(error)
            return
        kind.put_again(task)
        self._kick_one()

    async def flushed(self) -> None:
        """Wait until every promise is durable."""
        if self._life is not None:
            await self._life.book.flushed()

    def may_top_up(self, session: Session) -> bool:
        """Whether the user allowed to add to deposits."""
        return self._may_add > 0 and not session.is_over

    async def top_up(self, session: Session) -> None:
        """Double a deposit, as far as the user allowed; raises `DeaiError`."""
        payer, ledger = session.talk.payer, self._tools.ledger
        before = await ledger.channel(payer.id)
        if before.deposit > session.talk.deposit:
            session.talk.topped_up(before.deposit)  # by a link that was lost, or another process
            return
        amount = min(self._may_add, int(before.deposit))
        if before.state is not ChannelState.OPEN or not amount:
            return
        self._may_add -= amount
        key = f"TopUpChannel:{payer.id}:{payer.epoch}:{int(before.deposit)}"
        await ledger.submit(TopUpChannel(payer.id, Amount(amount)), key=key)
        after = await ledger.channel(payer.id)
        session.talk.topped_up(after.deposit)

    def life(self) -> bytes:
        """Eight random bytes."""
        return self._tools.random(8)

    # --- inside --------------------------------------------------------------------------------

    def _begin(self, life: _Life, place: Place) -> None:
        tools = self._tools
        promised, waiting = life.book.recover(place.id, place.record.epoch)
        payer = Payer(
            place.channel, tools.ledger.info.channels, place.record.epoch, place.record.deposit,
            promised=promised,
        )  # fmt: skip
        payer.unacknowledged.extend(waiting)

        def talk_of(session: Session) -> Talk:
            return Talk(
                payer=payer,
                key=place.key,
                operator=place.operator,
                book=life.book,
                life=self.life(),
                kick=session.kick,
                failed=self.failed,
            )

        session = Session(
            tools.net, place.peer, lane_dialect(tools.ledger.info.name), self, talk_of,
            patience=self.patience, crash=tools.crash,
        )  # fmt: skip
        self.sessions[place.node] = session
        life.nursery.start_soon(session.run)

    async def _live(self, *, task_status: trio.TaskStatus[_Life]) -> None:
        book = Book(self._tools.home, crash=self._tools.crash)
        stop, ended = trio.Event(), trio.Event()
        try:
            async with trio.open_nursery() as outer:
                outer.start_soon(_stop_when_cancelled, stop)
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as writing:
                        await writing.start(self._write, book)
                        writing.start_soon(self._watch_disk, book)
                        async with trio.open_nursery() as nursery:
                            task_status.started(_Life(book, nursery, stop, ended))
                            await stop.wait()
                            for session in self.sessions.values():
                                session.stop()
                        writing.cancel_scope.cancel()
                outer.cancel_scope.cancel()
        finally:
            book.close()
            ended.set()

    async def _write(
        self, book: Book, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await book.run(task_status=task_status)
        except JournalError as error:
            self._fail(error)

    async def _watch_disk(self, book: Book) -> None:
        patience = self.patience.disk
        stuck = 0
        while True:
            await trio.sleep(patience / 4)
            stuck = stuck + 1 if book.problem else 0
            if stuck > 4:
                problem = f"the book of the lane is not written: {book.problem}"
                self._fail(JournalError(problem, code="lane_book"))

    def _fail(self, error: DeaiError) -> None:
        """Without a book nothing can be promised."""
        self._failure = error
        for session in self.sessions.values():
            session.error = error
            session.abandon()
        self.changed()

    def _judge(self, kind: Kind) -> None:
        """Whether anybody can do tasks of a kind; those that wait for nobody have failed."""
        able = self._able(kind)
        kind.lost = None if able else self._why(kind)
        for task in kind.drain_unservable(able) if able else kind.drain():
            task.fail(task.failure or self._why(kind))

    def _able(self, kind: Kind) -> set[NodeId]:
        return {one.node for one in self.sessions.values() if self._may_do(one, kind)}

    def _kick_one(self, but: Session | None = None) -> None:
        """Wake the session with the fewest tasks in hand that could take one that waits."""
        # A session that is awake calls `left` in the end; none is woken for every task meanwhile.
        self._is_calm = False
        best: Session | None = None
        for session in self.sessions.values():
            in_hand = len(session.talk.outstanding)
            is_better = best is None or in_hand < len(best.talk.outstanding)
            if session is not but and is_better and self._could_take(session):
                best = session
        if best is not None:
            best.kick()
        self._stuck = {kind for kind in self._kinds if kind.waiting} if best is None else set()

    def _could_take(self, session: Session) -> bool:
        talk = session.talk
        if session.is_resting:
            return any(kind.waiting and talk.serves(kind) for kind in self._kinds)
        return any(
            kind.waiting and talk.can_take(kind) and self.share(session, kind)
            for kind in self._kinds
        )

    def _may_do(self, session: Session, kind: Kind) -> bool:
        if self._failure is not None:
            return False
        return session.may_serve and (session.talk.serves(kind) or session.is_topping_up)

    def _why(self, kind: Kind) -> DeaiError:
        if self._failure is not None:
            return self._failure
        for session in self.sessions.values():
            if (error := session.talk.refusals.get(kind) or session.error) is not None:
                return error
        return NodeFault("no node takes this task")


async def _stop_when_cancelled(stop: trio.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stop.set()
