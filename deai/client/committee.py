"""Asking nodes to take the seats of a task, until every seat has a signed accept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from deai.client.matching import Ranked
from deai.client.sessions import Session, Sessions
from deai.errors import BadSignature, PeerUnreachable
from deai.ids import AccountId, NodeId, PeerId, TaskId
from deai.messages import (
    EARLY_INPUT_BYTES,
    Accepted,
    CancelTask,
    DeclinedSeat,
    Propose,
    Refused,
    TaskMessage,
)
from deai.signing import Domain, verify
from deai.tasks import Accept, Task, TaskSpec, accept_digest, task_id

ANSWER_TIMEOUT: Final = 2.0
"""Seconds a node has to accept, before the next in the list is asked."""
DIAL_TIMEOUT: Final = 2.0
PASSING: Final = frozenset(
    {"capacity", "slow", "unreachable", "joining", "disk_full", "chain_silent"}
)
"""Reasons that may be gone in a moment."""


@dataclass(frozen=True, slots=True)
class Seated:
    """A node and its signed accept of one seat."""

    ranked: Ranked
    accept: Accept
    early: Session | None = None
    """The link on which the input went with the proposal."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that was asked and did not accept."""

    node: NodeId
    code: str
    reason: str


def summed(refused: Iterable[tuple[str, str]]) -> str:
    """Codes and reasons of refusals in one line: each once, with how many said so."""
    counts = Counter(f"{code}: {reason}" if reason else code for code, reason in refused)
    return "; ".join(f"{number} × {line}" for line, number in list(counts.items())[:6])


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking around gave: accepts by seat, and who did not want to."""

    seats: dict[int, Seated]
    refusals: tuple[Refusal, ...]


class _Answers:
    """The answers to proposals of one task, by peer and seat."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[PeerId, int], trio.MemorySendChannel[TaskMessage | None]] = {}

    def expect(self, peer: PeerId, seat: int) -> trio.MemoryReceiveChannel[TaskMessage | None]:
        sender, receiver = trio.open_memory_channel[TaskMessage | None](1)
        self._waiting[peer, seat] = sender
        return receiver

    def heard(self, peer: PeerId, message: TaskMessage) -> None:
        if isinstance(message, Accepted | DeclinedSeat):
            self._give(peer, message.seat, message)
        elif isinstance(message, Refused):
            for waiting_peer, seat in list(self._waiting):
                if waiting_peer == peer:
                    self._give(peer, seat, message)

    def lost(self, peer: PeerId) -> None:
        for waiting_peer, seat in list(self._waiting):
            if waiting_peer == peer:
                self._give(peer, seat, None)

    def _give(self, peer: PeerId, seat: int, message: TaskMessage | None) -> None:
        sender = self._waiting.pop((peer, seat), None)
        if sender is not None:
            sender.send_nowait(message)


async def ask_around(
    sessions: Sessions,
    domain: Domain,
    task: Task,
    spec: TaskSpec,
    *,
    seats: Sequence[int],
    attempt: int,
    candidates: Iterable[Ranked],
    taken: Iterable[AccountId] = (),
    now: int,
    data: bytes | None = None,
) -> Asked:
    """Fill `seats` from `candidates`, all seats at once, one owner a seat, in ranked order.

    `taken` are owners that may not be asked; `now` is chain time; `data` is the input, which goes
    with the proposal where it is small and the node will very likely take the seat. Never raises:
    a node that does not answer in time is a refusal like any other.
    """
    identity = task_id(task, domain)
    queue = list(candidates)
    busy = set(taken)
    found: dict[int, Seated] = {}
    refusals: list[Refusal] = []
    answers = _Answers()
    early = data if data is not None and len(data) <= EARLY_INPUT_BYTES else None
    stop = sessions.listen(identity, answers)

    def take() -> Ranked | None:
        for index, one in enumerate(queue):
            if one.candidate.owner not in busy and one.ask <= task.fee:
                busy.add(one.candidate.owner)
                return queue.pop(index)
        return None

    async def fill(seat: int, one: Ranked | None) -> None:
        while one is not None:
            proposal = Propose(task, spec, seat, attempt, early)
            answer = await _ask(sessions, answers, identity, proposal, one, domain, now)
            if isinstance(answer, Seated):
                found[seat] = answer
                return
            refusals.append(answer)
            # Another node of this owner may still take a seat.
            busy.discard(one.candidate.owner)
            one = take()

    try:
        async with trio.open_nursery() as nursery:
            # Who is asked for which seat first does not depend on chance: a client that was
            # killed asks the same nodes for the same seats again and gets the same accepts.
            *others, last = [(seat, take()) for seat in seats]
            for seat, first in others:
                nursery.start_soon(fill, seat, first)
            await fill(*last)
    finally:
        stop()
    return Asked(found, tuple(refusals))


async def call_off(sessions: Sessions, task: TaskId, seated: Iterable[Seated]) -> None:
    """Tell nodes that accepted that nothing will come of it; best effort."""
    with trio.move_on_after(1):
        for one in seated:
            if sessions.is_open(one.ranked.candidate.peer.peer_id):
                try:
                    session = await sessions.open(one.ranked.candidate.peer, timeout=1)
                    await session.send(CancelTask(task))
                except PeerUnreachable:
                    continue


async def _ask(
    sessions: Sessions,
    answers: _Answers,
    identity: TaskId,
    proposal: Propose,
    one: Ranked,
    domain: Domain,
    now: int,
) -> Seated | Refusal:
    candidate = one.candidate
    try:
        session = await sessions.open(candidate.peer, timeout=DIAL_TIMEOUT)
        if not session.is_warm and proposal.input is not None:
            proposal = msgspec.structs.replace(proposal, input=None)
        receiver = answers.expect(candidate.peer.peer_id, proposal.seat)
        with trio.fail_after(ANSWER_TIMEOUT):
            await session.send(proposal)
            answer = await receiver.receive()
    except PeerUnreachable as error:
        return Refusal(one.node, "unreachable", str(error))
    except trio.TooSlowError:
        return Refusal(one.node, "slow", f"no answer in {ANSWER_TIMEOUT:g} s")
    session.is_warm = isinstance(answer, Accepted)
    if isinstance(answer, DeclinedSeat | Refused):
        return Refusal(one.node, answer.code, answer.reason)
    if not isinstance(answer, Accepted):
        return Refusal(one.node, "unreachable", "the link was lost")
    if answer.node != one.node or answer.attempt != proposal.attempt or answer.valid_until <= now:
        return Refusal(one.node, "bad_accept", "its accept is not for this seat, or has expired")
    digest = accept_digest(
        domain, identity, proposal.seat, proposal.attempt, answer.node, answer.valid_until
    )
    try:
        verify(digest, answer.signature, candidate.record.operator)
    except BadSignature as error:
        return Refusal(one.node, "bad_accept", f"its accept is not signed by its key: {error}")
    accept = Accept(answer.node, answer.valid_until, answer.signature)
    return Seated(one, accept, session if proposal.input is not None else None)
