"""Hands the newest voucher of each channel to watchtowers, who show it when this node is away.

Losing a tower loses nothing but its help: the node works on and tries it again. Each tower is told
of each channel at most once a second, and of the newest voucher only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog
import trio

from deai.channels import Channel, Voucher
from deai.errors import MalformedMessage, PeerUnreachable, ProtocolError
from deai.ids import ChainName, ChannelId, NodeId
from deai.lane.tower import (
    KEEP_SECONDS,
    Keep,
    Kept,
    NotKept,
    Refused,
    TowerMessage,
    Welcome,
    parse_tower,
    sign_greet,
    tower_dialect,
)
from deai.net import Link, Net, PeerAddress
from deai.signing import Domain, Signer
from node.lane.book import LaneBook
from node.state import Node

logger = structlog.get_logger(__name__)

MAX_CHANNELS: Final = 10_000
"""Channels whose newest voucher is remembered for towers; the oldest make room."""
MAX_UNANSWERED: Final = 128
GATHER: Final = 0.1
"""Seconds in which vouchers gather before a tower is told of the next ones."""
DIAL: Final = 10.0
ANSWER: Final = 30.0
"""Seconds for a tower to answer: it writes to its disk, and asks the chain about new channels."""
LATER: Final = 10.0
"""Seconds before a voucher is offered again that the tower could not take."""
BACK_OFF: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
PROBLEM: Final = "no_tower"
_DONE: Final = frozenset({"gone", "nothing_new"})
"""Answers after which this voucher is of no use to the tower."""


class Rank(NamedTuple):
    """Which of two vouchers of a channel is newer."""

    epoch: int
    amount: int


@dataclass(eq=False)
class _Tower:
    address: PeerAddress
    has: dict[ChannelId, Rank] = field(default_factory=dict)
    """What it confirmed, or has no use for."""
    pending: dict[ChannelId, None] = field(default_factory=dict)
    """Channels of which it may not have the newest voucher."""
    later: dict[ChannelId, float] = field(default_factory=dict)
    """When the next voucher of a channel may be sent, for those that had one a moment ago."""
    unanswered: deque[tuple[ChannelId, Rank]] = field(default_factory=deque)
    changed: trio.Event = field(default_factory=trio.Event)
    trouble: str = ""
    """Why it is not served now; empty also before it was tried."""

    def wake(self) -> None:
        self.changed.set()


class Towers:
    """The towers of one chain of this node."""

    def __init__(
        self,
        *,
        chain: ChainName,
        domain: Domain,
        node: NodeId,
        operator: Signer,
        net: Net,
        towers: Sequence[PeerAddress],
        entropy: Callable[[int], bytes],
    ) -> None:
        """`domain` is that of the channels' contract."""
        self._chain, self._domain, self._node = chain, domain, node
        self._operator, self._net, self._entropy = operator, net, entropy
        self._newest: dict[ChannelId, tuple[Channel, Voucher]] = {}
        self._towers = [_Tower(one) for one in towers]

    def offer(self, channel: Channel, voucher: Voucher) -> None:
        """Hand this voucher over, unless a newer one is offered before that; never blocks."""
        known = self._newest.get(voucher.channel)
        if known is not None:
            if _rank(known[1]) >= _rank(voucher):
                return
            del self._newest[voucher.channel]
        self._newest[voucher.channel] = (channel, voucher)  # the newest at the end
        if len(self._newest) > MAX_CHANNELS:
            self.forget(next(iter(self._newest)))
        for tower in self._towers:
            tower.pending[voucher.channel] = None
            tower.wake()

    def forget(self, channel: ChannelId) -> None:
        """The channel is closed."""
        self._newest.pop(channel, None)
        for tower in self._towers:
            tower.has.pop(channel, None)
            tower.later.pop(channel, None)
            tower.pending.pop(channel, None)

    @property
    def troubles(self) -> dict[str, str]:
        """Peer id of a tower that is not served now → why."""
        return {one.address.peer_id: one.trouble for one in self._towers if one.trouble}

    @property
    def is_kept(self) -> bool:
        """Whether some tower is served, or may be in a moment."""
        return not all(one.trouble for one in self._towers)

    async def run(self) -> None:
        """Keep every tower served until cancelled."""
        async with trio.open_nursery() as nursery:
            for tower in self._towers:
                nursery.start_soon(self._keep, tower)

    async def _keep(self, tower: _Tower) -> None:
        failures = 0
        dialect = tower_dialect(self._chain)
        while True:
            try:
                async with self._net.dial(tower.address, dialect, timeout=DIAL) as link:
                    await self._greet(tower, link)
                    failures = 0
                    await self._talk(tower, link)
            except (PeerUnreachable, ProtocolError) as error:
                logger.info(
                    "watchtower lost", action="tower_lost", peer_id=tower.address.peer_id,
                    reason=str(error),
                )  # fmt: skip
                tower.trouble = str(error)
            tower.unanswered.clear()
            rest = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            failures += 1
            # Spread by our own unpredictable bytes: a tower that restarts is not stormed.
            await trio.sleep(rest * (0.75 + self._entropy(1)[0] / 512))

    async def _greet(self, tower: _Tower, link: Link[TowerMessage]) -> None:
        greet = sign_greet(
            self._domain, self._operator, self._node, self._net.peer_id, tower.address.peer_id
        )
        await link.send(greet)
        match await _receive(link):
            case Welcome():
                tower.trouble = ""
                # It may have lost what it confirmed in another life.
                tower.has.clear()
                tower.pending = dict.fromkeys(self._newest)
            case Refused(code=code, reason=reason):
                raise ProtocolError(f"the watchtower does not serve this node: {reason}", code=code)
            case other:
                raise MalformedMessage(f"a watchtower says {type(other).__name__} to a greeting")

    async def _talk(self, tower: _Tower, link: Link[TowerMessage]) -> None:
        """Hand over until the link ends; raise why it did."""
        why: PeerUnreachable | ProtocolError | None = None

        async def listen() -> None:
            nonlocal why
            try:
                await self._listen(tower, link)
            except (PeerUnreachable, ProtocolError) as error:
                why = error
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            try:
                await self._hand_over(tower, link)
            except PeerUnreachable as error:
                why = error
                nursery.cancel_scope.cancel()
        if why is not None:
            raise why

    async def _hand_over(self, tower: _Tower, link: Link[TowerMessage]) -> None:
        while True:
            tower.changed = trio.Event()
            now, wait = trio.current_time(), float("inf")
            tower.later = {id_: at for id_, at in tower.later.items() if at > now}
            waiting = {id_ for id_, _ in tower.unanswered}
            for id_ in list(tower.pending):
                if id_ in waiting or len(tower.unanswered) >= MAX_UNANSWERED:
                    continue  # an answer wakes this loop
                if id_ in tower.later:
                    wait = min(wait, tower.later[id_] - now)
                    continue
                del tower.pending[id_]
                channel, voucher = self._newest[id_]
                if _rank(voucher) > tower.has.get(id_, _NOTHING):
                    tower.later[id_] = now + KEEP_SECONDS
                    tower.unanswered.append((id_, _rank(voucher)))
                    await link.send(Keep(channel, voucher))
            await trio.sleep(GATHER)
            with trio.move_on_after(wait):
                await tower.changed.wait()

    async def _listen(self, tower: _Tower, link: Link[TowerMessage]) -> None:
        while True:
            answer = await link.receive()
            if not isinstance(answer, Kept | NotKept) or not tower.unanswered:
                raise MalformedMessage("the watchtower answers what nobody asked")
            id_, rank = tower.unanswered.popleft()
            if answer.channel_id != id_:
                raise MalformedMessage("the watchtower answers for another channel")
            if isinstance(answer, Kept):
                held = Rank(answer.epoch, int(answer.cumulative_amount))
                if held < rank:
                    raise MalformedMessage("the watchtower keeps less than it was given")
                tower.has[id_] = rank
            elif answer.code in _DONE:
                tower.has[id_] = rank
            else:
                tower.later[id_] = trio.current_time() + LATER
                if id_ in self._newest:
                    tower.pending[id_] = None
            tower.wake()


async def keep_towers(node: Node, book: LaneBook) -> None:
    """Hand what the book holds of this chain to the towers of the settings, until cancelled."""
    towers = Towers(
        chain=node.info.name,
        domain=node.info.channels,
        node=node.ports.node,
        operator=node.ports.signer,
        net=node.ports.net,
        towers=[parse_tower(one) for one in node.config.lane.towers],
        entropy=node.ports.entropy,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(towers.run)
        while True:
            for entry in book.of(node.info.name):
                if entry.is_closed:
                    towers.forget(entry.channel_id)
                elif entry.standing.voucher is not None:
                    towers.offer(entry.channel, entry.standing.voucher)
            if towers.is_kept:
                node.solved(PROBLEM)
            else:
                node.problem(
                    PROBLEM,
                    f"no watchtower holds vouchers of {node.info.name}: "
                    + "; ".join(sorted(towers.troubles.values())),
                    "look at `deai channel watch` there; a tower serves one chain",
                )
            await trio.sleep(KEEP_SECONDS)


_NOTHING: Final = Rank(0, 0)


def _rank(voucher: Voucher) -> Rank:
    return Rank(voucher.epoch, int(voucher.cumulative_amount))


async def _receive(link: Link[TowerMessage]) -> TowerMessage:
    try:
        with trio.fail_after(ANSWER):
            return await link.receive()
    except trio.TooSlowError:
        raise PeerUnreachable("the watchtower does not answer") from None
