"""One node's link for one channel: dialled, carried, dialled again, and settled in the end.

Work is built only when the link has written what it was given before, so that batches grow with
load; a task that comes alone leaves at once, as vouchers do, and writes of a steady slow stream
lie a moment apart. What was received is paid when a share of the credit is used, or after a short
silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio

from deai.client.alone import one_error
from deai.client.lane.halts import Halted
from deai.client.lane.patience import Patience
from deai.client.lane.talk import Talk
from deai.client.lane.tasks import Kind, Task
from deai.client.tools import no_crash
from deai.errors import DeaiError, PeerUnreachable
from deai.ids import NodeId
from deai.lane.messages import (
    Agreed,
    Faults,
    Halt,
    LaneMessage,
    Pay,
    Receipts,
    Refused,
    Results,
    Welcome,
)
from deai.net import Dialect, Link, Net, PeerAddress

AT_ONCE: Final = 64
"""Tasks for which a write is not delayed: they fill a window."""


class Owner(Protocol):
    """Whoever keeps the sessions and the tasks that wait for them."""

    @property
    def kinds(self) -> list[Kind]:
        """All kinds of tasks that are open."""
        ...

    def share(self, session: Session, kind: Kind) -> int:
        """How many of a kind's waiting tasks are a session's."""
        ...

    def left(self, session: Session) -> None:
        """A session took its share and has gone on; others may take theirs."""
        ...

    def changed(self) -> None:
        """A session can do more or less than before."""
        ...

    def failed(self, task: Task, node: NodeId, error: DeaiError) -> None:
        """A node could not do a task."""
        ...

    async def flushed(self) -> None:
        """Wait until every promise is durable."""
        ...

    @property
    def waiting(self) -> int:
        """How many tasks wait for a node."""
        ...

    def may_top_up(self, session: Session) -> bool:
        """Whether the user allowed to add to the deposit."""
        ...

    async def top_up(self, session: Session) -> None:
        """Add to the deposit as far as the user allowed; raises `DeaiError`."""
        ...

    def life(self) -> bytes:
        """Eight random bytes."""
        ...


class Session:
    """A node, as this process pays it."""

    def __init__(
        self,
        net: Net,
        peer: PeerAddress,
        dialect: Dialect[LaneMessage],
        owner: Owner,
        talk_of: Callable[[Session], Talk],
        *,
        patience: Patience,
        crash: Callable[[str], None] = no_crash,
    ) -> None:
        self._net = net
        self._peer = peer
        self._dialect = dialect
        self._owner = owner
        self._patience = patience
        self._crash = crash
        self._wanted = False
        self._wake = trio.Event()
        self._due = trio.Event()
        self._due_since = 0.0
        self._quiet_since = 0.0
        self._stopping = False
        self._refusals = 0
        self._scope = trio.CancelScope()
        self._link_scope = trio.CancelScope()
        self.is_over = False
        self.is_topping_up = False
        self.is_resting = False
        """It has no link because it had nothing to say, and dials again when it has."""
        self.is_hopeful = True
        """Whether tasks may still be meant for it; False while it is out of reach for long."""
        self.error: DeaiError | None = None
        self.links = 0
        self.talk = talk_of(self)

    @property
    def node(self) -> NodeId:
        """Whose it is."""
        return self.talk.node

    @property
    def may_serve(self) -> bool:
        """Whether tasks can be left for it."""
        return not self.is_over and self.is_hopeful and not self._stopping

    def kick(self) -> None:
        """There may be something to say."""
        if not self._wanted:
            self._wanted = True
            self._wake.set()

    def stop(self) -> None:
        """Pay what was received and end, within `Patience.last` seconds."""
        if not self._stopping:
            self._stopping = True
            self._scope.deadline = trio.current_time() + self._patience.last
            self.talk.pay(flush=True)
            self._look_whether_done()
            self.kick()

    def abandon(self) -> None:
        """End at once."""
        self._scope.cancel()

    async def run(self) -> None:
        """Talk to the node until stopped, or until nothing can come of it."""
        try:
            with self._scope:
                await self._carry()
        except DeaiError as error:
            self.error = error
        finally:
            self.is_over = True
            self.talk.lost()
            self._hand_back()

    async def _carry(self) -> None:
        patience = self._patience
        pause, alive_at = patience.first_pause, trio.current_time()
        while not (self._stopping and self.talk.is_settled):
            heard, results = self.links, self.talk.results
            try:
                with self._link_scope, one_error():
                    await self._hold()
            except PeerUnreachable as error:
                self.error = error
            self.talk.lost()
            self._link_scope = trio.CancelScope()
            self._owner.changed()
            now = trio.current_time()
            if self.links > heard:
                alive_at = now
                self._give_up_if_silent()
                if self.talk.results > results:
                    pause = patience.first_pause
            elif self._stopping:
                return
            elif now - alive_at > patience.give_up and self.is_hopeful:
                self.is_hopeful = False
                self._hand_back()
            if self._may_rest:
                await self._rest()
                pause, alive_at = patience.first_pause, trio.current_time()
            elif not (self._stopping and self.talk.is_settled):
                await trio.sleep(pause)
                pause = min(2 * pause, patience.longest_pause)

    @property
    def _may_rest(self) -> bool:
        """Whether the node gave our place to others, and we have nothing to say to it."""
        talk = self.talk
        is_done = talk.is_settled and not talk.outstanding
        return talk.was_idle and is_done and not self._stopping and not self._wanted

    async def _rest(self) -> None:
        """Leave the place to others until there is work."""
        self.is_resting, self._wake = True, trio.Event()
        self._owner.changed()
        await self._wake.wait()
        self.is_resting = False

    async def _hold(self) -> None:
        """One link, until it is lost."""
        patience, talk = self._patience, self.talk
        async with self._net.dial(self._peer, self._dialect, timeout=patience.dial) as link:
            await self._owner.flushed()
            await link.send(talk.hello(self._net.peer_id))
            try:
                with trio.fail_after(patience.answer):
                    message = await link.receive()
            except trio.TooSlowError as error:
                raise PeerUnreachable(f"{self.node} does not say where it stands") from error
            if isinstance(message, Halt):
                await self._turned_away(message)
            if not isinstance(message, Welcome):
                raise PeerUnreachable(f"{self.node} takes no channel now: {talk.halted}")
            talk.welcomed(message)
            self.links += 1
            self.is_hopeful, self.error = True, None
            if not talk.awaits:
                self._quiet_since = trio.current_time()
            self._owner.changed()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, link, nursery)
                nursery.start_soon(self._flush)
                nursery.start_soon(self._watch)
                self.kick()
                while True:
                    self._hear(await link.receive(), nursery)

    async def _turned_away(self, halt: Halt) -> None:
        """The node did not greet us; it may where the deposit is larger. Raises `Halted`."""
        try:
            self.talk.heard(halt)
        except Halted as error:
            if error.reason_code != "deposit" or not self._owner.may_top_up(self):
                raise
            await self._owner.top_up(self)

    def _hear(self, message: LaneMessage, nursery: trio.Nursery) -> None:
        talk = self.talk
        try:
            talk.heard(message)
        except Halted as error:
            may = self.is_topping_up or self._owner.may_top_up(self)
            if error.reason_code != "deposit" or not may:
                raise
            self._begin_top_up(nursery)
        if isinstance(message, Agreed | Refused | Receipts) and not talk.outstanding:
            self._quiet_since = trio.current_time()
        if isinstance(message, Results | Faults):
            self._quiet_since = trio.current_time()
            if talk.payer.due and not self._due.is_set():
                self._due.set()
        self._look_for_refusals(nursery)
        self._look_whether_done()

    async def _write(self, link: Link[LaneMessage], nursery: trio.Nursery) -> None:
        owner, talk = self._owner, self.talk
        written_at = -1.0
        while True:
            if not self._wanted:
                self._wake = trio.Event()
                await self._wake.wait()
            await link.drained()
            gap = written_at + self._patience.gap - trio.current_time()
            if gap > 0 and talk.outstanding and 0 < owner.waiting < AT_ONCE:
                await trio.sleep(gap)
            self._wanted = False
            if not talk.awaits:
                self._quiet_since = trio.current_time()
            messages = talk.fill(owner.kinds, self._share)
            self._look_for_refusals(nursery)
            owner.left(self)
            if talk.needs_new_link:
                self._link_scope.cancel()
            if not messages:
                continue
            written_at = trio.current_time()
            try:
                for message in messages:
                    await link.send(message)
                    if isinstance(message, Pay):
                        self._crash("voucher_sent")
            except PeerUnreachable:
                return  # whoever reads is told as well

    def _share(self, kind: Kind) -> int:
        return self._owner.share(self, kind)

    async def _flush(self) -> None:
        patience, talk = self._patience, self.talk
        while True:
            if not talk.payer.due:
                self._due = trio.Event()
                await self._due.wait()
                self._due_since = trio.current_time()
            seen, number = talk.results, talk.payer.promised.number
            await trio.sleep(patience.idle)
            now = trio.current_time()
            if talk.payer.promised.number != number:
                self._due_since = now
            elif talk.results == seen or now - self._due_since > patience.longest_due:
                talk.pay(flush=True)
                self._due_since = now

    async def _watch(self) -> None:
        """Give a node up that was asked for tasks and says nothing."""
        while True:
            await trio.sleep(self._patience.silent / 8)
            self._give_up_if_silent()

    def _give_up_if_silent(self) -> None:
        quiet = trio.current_time() - self._quiet_since
        if self.talk.awaits and quiet > self._patience.silent:
            raise Halted(
                f"{self.node} has given no result for {quiet:.0f} s"
                + (f" ({self.talk.halted})" if self.talk.halted else ""),
                hint="name other nodes, or allow more time between results",
                code="silent",
            )

    def _look_for_refusals(self, nursery: trio.Nursery) -> None:
        refusals = self.talk.refusals
        if len(refusals) == self._refusals:
            return
        self._refusals = len(refusals)
        is_dry = any(error.reason_code == "deposit" for error in refusals.values())
        if is_dry and self._owner.may_top_up(self):
            self._begin_top_up(nursery)
        else:
            self._owner.changed()

    def _begin_top_up(self, nursery: trio.Nursery) -> None:
        if not self.is_topping_up:
            self.is_topping_up = self.talk.waits_for_deposit = True
            nursery.start_soon(self._top_up)

    async def _top_up(self) -> None:
        talk = self.talk
        try:
            await self._owner.top_up(self)
            with trio.move_on_after(self._patience.answer):
                while talk.payer.deposit < talk.deposit:  # until the node has seen it, too
                    await talk.news.wait()
        except DeaiError as error:
            dry = [kind for kind, old in talk.refusals.items() if old.reason_code == "deposit"]
            talk.refusals.update(dict.fromkeys(dry, error))
            if not dry:
                raise
        finally:
            self.is_topping_up = talk.waits_for_deposit = False
            self._refusals = len(talk.refusals)
            self._owner.changed()
            self.kick()

    def _look_whether_done(self) -> None:
        if self._stopping and not self.talk.outstanding:
            self.talk.pay(flush=True)
            if self.talk.is_settled:
                self._link_scope.cancel()

    def _hand_back(self) -> None:
        error = self.error or PeerUnreachable(f"the session with {self.node} has ended")
        for task in self.talk.give_back(self._owner.life()):
            self._owner.failed(task, self.node, error)
        self._owner.changed()
