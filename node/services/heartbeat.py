"""Says that the node is alive: beats streamed to hubs, and one on chain in every epoch.

The hubs' answers also tell whether another process beats with this node's key: two signers of
one key lose the stake, so the later one never starts and the earlier one takes no new work. What
counts is a beat of the other's that our own key signed since we began, never a hub's word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog
import trio

from deai.actions import Heartbeat as BeatOnChain
from deai.binding import SignedBinding
from deai.errors import Declined, PeerUnreachable, ProtocolError, Unreachable
from deai.messages import (
    BEAT_DIALECT,
    BeatMessage,
    BeatSeen,
    BindingSeen,
    Goodbye,
    PublishBeat,
    PublishBinding,
    PublishOffer,
    Refused,
    TwinHeard,
)
from deai.net import Link, PeerAddress
from deai.offers import Beat, Signed, sign_beat
from node.daemon import Mode
from node.services.twins import Twins
from node.state import Node

logger = structlog.get_logger(__name__)

BACK_OFF: Final = (1.0, 2.0, 5.0, 10.0)
SEND_TIMEOUT: Final = 10.0
BIND_TRIES: Final = 8
"""Times that a binding is said on one link: a hub hangs up on who insists."""
BIND_AGAIN: Final = 60.0
"""Seconds after the first refusal; each further wait is twice as long."""


@dataclass(slots=True)
class Said:
    """What was published on one link to a hub."""

    offer: Signed | None = None
    binding: SignedBinding | None = None
    tries: int = 0
    tried_at: float = float("-inf")
    is_binding_open: bool = False
    """It was said and not answered yet."""
    is_bound: bool = False
    is_proof_due: bool = False
    """A beat was sent: the hub may show one beat of a twin for it. Checking one takes time."""

    def wants(self, binding: SignedBinding, now: float) -> bool:
        """Whether to say it now, which is then noted: once, or again where it was refused."""
        if binding != self.binding:
            self.binding, self.tries, self.is_bound = binding, 0, False
        wait = BIND_AGAIN * 2 ** (self.tries - 1) if self.tries else 0.0
        if self.is_bound or self.tries >= BIND_TRIES or now - self.tried_at < wait:
            return False
        self.tries, self.tried_at, self.is_binding_open = self.tries + 1, now, True
        return True


class Heartbeat:
    """Beats to hubs and chain until cancelled."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sequence = 0
        self._twins = Twins(node)
        self._answered = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a link to each hub and the epoch's beat on chain."""
        async with trio.open_nursery() as nursery:
            for hub in self._node.ports.hubs[: self._node.config.hubs]:
                nursery.start_soon(self._keep, hub)
            nursery.start_soon(self._on_chain)
            task_status.started()
            await trio.sleep_forever()

    async def listen_for_twin(self) -> bool:
        """Whether another process beats with this node's key.

        Only beats from after our own beginning count, so that the process which we replace does
        not: hence listening for a while instead of asking once. Without any hub there is nobody
        to ask: the lock on the home is then the only guard.
        """
        node, config = self._node, self._node.config
        if not node.ports.hubs or not config.hubs:
            return False
        with trio.move_on_after(config.patience.dial + 1):
            await self._answered.wait()
        if not self._answered.is_set():
            node.problem("no_hub", "no hub answers", "the node works; clients may not find it")
            return False
        await trio.sleep(config.listen_for_twin)
        return self._twins.is_near

    async def _keep(self, hub: PeerAddress) -> None:
        failures = 0
        while True:
            try:
                async with self._node.ports.net.dial(
                    hub, BEAT_DIALECT, timeout=self._node.config.patience.dial
                ) as link:
                    await self._talk(link)
            except (PeerUnreachable, ProtocolError) as error:
                logger.info("hub lost", action="hub_lost", peer_id=hub.peer_id, reason=str(error))
            if self._node.hubs.pop(hub.peer_id, None) is not None:
                failures = 0
            self._twins.lost(hub.peer_id)
            if not self._node.hubs:
                self._node.problem(
                    "no_hub", "no hub answers", "the node works; clients may not find it"
                )
            rest = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            failures += 1
            # Spread by our own unpredictable bytes: a hub that restarts is not stormed.
            await trio.sleep(rest * (0.75 + self._node.ports.entropy(1)[0] / 512))

    async def _talk(self, link: Link[BeatMessage]) -> None:
        """Beat and listen until the link ends; raise why it did."""
        why: PeerUnreachable | ProtocolError | None = None
        said = Said()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_beats, link, said, nursery.cancel_scope)
            try:
                while not isinstance(message := await link.receive(), Goodbye):
                    self._hear(link, said, message)
            except (PeerUnreachable, ProtocolError) as error:
                why = error
            nursery.cancel_scope.cancel()
        raise why or PeerUnreachable("the hub left")

    def _hear(self, link: Link[BeatMessage], said: Said, message: BeatMessage) -> None:
        node = self._node
        match message:
            case BeatSeen():
                self._seen(link, message)
            case TwinHeard() if said.is_proof_due:
                said.is_proof_due = False
                self._twins.shown(message.beat)
            case BindingSeen():
                said.is_binding_open, said.is_bound = False, True
                node.solved("binding_refused")
            case Refused() if said.is_binding_open:
                # A hub answers in turn, and the binding goes before what else may be refused.
                said.is_binding_open = False
                node.problem("binding_refused", f"a hub refuses the binding: {message.reason}")
            case Refused():
                node.problem("hub_refuses", f"a hub refuses: {message.reason}")
            case _:
                pass

    async def _send_beats(
        self, link: Link[BeatMessage], said: Said, scope: trio.CancelScope
    ) -> None:
        node = self._node
        try:
            while True:
                binding = node.daemon.binding
                if binding is not None and said.wants(binding, trio.current_time()):
                    await self._send(link, PublishBinding(binding))
                if node.offer is not None and node.offer is not said.offer:
                    await self._send(link, PublishOffer(node.offer))
                    said.offer = node.offer
                said.is_proof_due = True
                await self._send(link, PublishBeat(self._beat()))
                changed = node.offer_changed
                with trio.move_on_after(node.config.beat_seconds):
                    await changed.wait()
        except PeerUnreachable:
            scope.cancel()

    async def _send(self, link: Link[BeatMessage], message: BeatMessage) -> None:
        with trio.move_on_after(SEND_TIMEOUT) as scope:
            await link.send(message)
        if scope.cancelled_caught:
            raise PeerUnreachable("the hub takes no messages")

    def _beat(self) -> Signed:
        node = self._node
        # Hundredths of a second: grows across restarts and fits the field's 40 bits.
        self._sequence = max(self._sequence + 1, int(node.ports.wall() * 100))
        beat = Beat(
            node=node.ports.node,
            peer_id=node.ports.net.peer_id,
            sequence=self._sequence,
            sent_at=int(node.ports.wall()),
            mode=node.mode.value,
            # Of the whole machine, as the offer's capacity is.
            running=node.daemon.running,
            queued=max(0, node.daemon.load - node.daemon.running),
            completed=node.counters["ended.paid"],
            failed=node.counters["ended.forfeited"] + node.counters["ended.lapsed"],
            head=node.head.number if node.head is not None else 0,
            instance=node.instance,
        )
        return sign_beat(beat, node.info.registry, node.ports.signer)

    def _seen(self, link: Link[BeatMessage], message: BeatSeen) -> None:
        node = self._node
        node.hubs[link.peer_id] = node.ports.wall()
        node.solved("no_hub")
        node.solved("hub_refuses")
        self._twins.claimed(link.peer_id, message.instances)
        self._answered.set()

    async def _on_chain(self) -> None:
        node = self._node
        failures = 0
        while True:
            record = node.record
            epoch = node.chain_time // node.parameters.epoch_seconds
            due = record is not None and record.standing.is_assignable and record.last_epoch < epoch
            if due and node.mode is not Mode.DRAINING:
                try:
                    done = await node.ports.ledger.submit(BeatOnChain(node.ports.node, epoch))
                    node.gas_price = done.gas_price
                    node.record = await node.ports.ledger.node(node.ports.node)
                    node.solved("no_epoch_beat")
                    failures = 0
                except (Unreachable, Declined) as error:
                    # Already beaten by an earlier life of this node: the record will say so.
                    node.problem("no_epoch_beat", f"no beat on chain yet: {error}", error.hint)
                    failures += 1
                    await trio.sleep(BACK_OFF[min(failures, len(BACK_OFF) - 1)])
                    continue
            await trio.sleep(1.0)
