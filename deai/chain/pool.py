"""Several endpoints as one: the healthy and quick first, the lagging and lying not at all.

An endpoint that fails waits, longer each time. With two or more, a watcher compares their heads
and the hash at a height they all have: who contradicts the others is not asked, and money is
believed only when two endpoints tell the same (`agreed`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import trio

from deai.errors import Declined, LedgerUnreachable, MalformedMessage

MAX_LAG: Final = 8
"""Blocks: 3 s on Sei, 5 s to 8 s on NEAR. An endpoint that is further behind is not asked."""
COMPARE_S: Final = 2.0
DISTRUST_S: Final = 30.0
LONGEST_REST_S: Final = 30.0
TRIES: Final = 4
"""At least so many attempts at a call; each endpoint is tried at least twice."""


T = TypeVar("T")

Request: TypeAlias = tuple[str, Any]
"""Method and parameters."""


class EndpointFailed(LedgerUnreachable):
    """This endpoint did not answer usefully; another one may."""


class AnswerError(Declined):
    """An answer that is an error: information, not a failure of the endpoint."""

    code = "rpc_error"


class Endpoint(Protocol):
    """One URL; `number` is its place in the configuration.

    Every method raises `EndpointFailed`; an `AnswerError` stands for an answer that is one.
    """

    @property
    def number(self) -> int: ...

    async def batch(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests."""
        ...

    async def send(self, raw: bytes) -> Any:  # noqa: ANN401 - the chain's own answer
        """Hand a signed transaction over; None if nothing more is known than that it was taken."""
        ...

    async def tip(self) -> tuple[int, str]:
        """Number and hash of the newest block; raises `MalformedMessage` too."""
        ...

    async def hashes(self, numbers: Sequence[int]) -> list[str | None]:
        """The hash of each of these blocks, None for one that is not there."""
        ...


class EndpointsDisagree(LedgerUnreachable):
    """Endpoints answered, and not alike."""


@contextmanager
def sensible() -> Iterator[None]:
    """An answer that makes no sense is no answer: `MalformedMessage` as `LedgerUnreachable`."""
    try:
        yield
    except MalformedMessage as error:
        raise LedgerUnreachable(
            f"an endpoint's answer makes no sense: {error}",
            hint="the network file may be of another chain, or of an earlier devnet",
        ) from error


@dataclass
class Health:
    """What is known about one endpoint; times are trio's."""

    endpoint: Endpoint
    failures: int = 0
    rests_until: float = 0.0
    latency: float = 0.05
    is_lagging: bool = False
    distrusted_until: float = 0.0
    height: int = 0


class Pool:
    """Endpoints in the order of the configuration."""

    def __init__(self, endpoints: Sequence[Endpoint], *, compare_s: float = COMPARE_S) -> None:
        self._all: Final = [Health(endpoint) for endpoint in endpoints]
        self._compare_s = compare_s

    @property
    def health(self) -> tuple[Health, ...]:
        """A look at all endpoints."""
        return tuple(self._all)

    async def call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - JSON
        """One answer; raises `AnswerError`, or `LedgerUnreachable` when no endpoint answers."""
        (answer,) = await self.batch([(method, list(params))])
        if isinstance(answer, AnswerError):
            raise answer
        return answer

    async def batch(self, requests: Sequence[Request]) -> list[Any]:
        """Answers from the best endpoint that answers; raises `LedgerUnreachable`."""
        return (await self._first(requests))[1]

    async def agreed(
        self, requests: Sequence[Request], facts: Callable[[list[Any]], object]
    ) -> list[Any]:
        """Answers of which two endpoints give the same `facts`, or the only one that answers.

        Raises `LedgerUnreachable`, and `EndpointsDisagree` while they contradict each other.
        """
        first, answers = await self._first(requests)
        told = [_stated(facts, answers)]
        for health in self._ranked():
            if health is first:
                continue
            try:
                other = await self._ask(health, requests)
            except EndpointFailed:
                continue
            mine = _stated(facts, other)
            if mine in told:
                return other
            told.append(mine)
        if len(told) > 1:
            raise EndpointsDisagree(
                "the endpoints of the chain contradict each other",
                hint="one may be a moment behind; if it lasts, remove the one that is wrong",
            )
        return answers

    async def broadcast(self, raw: bytes) -> list[Any]:
        """Send a transaction through every endpoint that is not resting; what each said."""
        answers: list[Any] = []

        async def send(health: Health) -> None:
            try:
                answers.append(await self._watched(health, health.endpoint.send(raw)))
            except EndpointFailed as error:
                answers.append(error)

        ranked = self._ranked()
        if len(ranked) == 1:
            await send(ranked[0])
            return answers
        async with trio.open_nursery() as nursery:
            for health in ranked:
                nursery.start_soon(send, health)
        return answers

    async def each(self, requests: Sequence[Request]) -> list[list[Any]]:
        """Answers of every single endpoint; raises `LedgerUnreachable` unless all answer."""
        return [await self._ask(health, requests) for health in self._all]

    async def watch(self) -> None:
        """Compare the endpoints for ever; returns at once if there is only one."""
        while len(self._all) > 1:
            await self.compare()
            await trio.sleep(self._compare_s)

    async def compare(self) -> None:
        """Look at all heads and at the hash of a block that all should have."""
        heads: dict[int, tuple[int, str]] = {}

        async def look(index: int, health: Health) -> None:
            try:
                heads[index] = await self._watched(health, health.endpoint.tip())
            except (EndpointFailed, MalformedMessage):
                health.is_lagging = False  # unknown; failures are counted elsewhere

        async with trio.open_nursery() as nursery:
            for index, health in enumerate(self._all):
                nursery.start_soon(look, index, health)
        if len(heads) > 1:
            await self._judge(heads)

    async def _judge(self, heads: dict[int, tuple[int, str]]) -> None:
        common = min(number for number, _ in heads.values())
        told: dict[int, str] = {}
        honest: dict[int, int] = {}
        for index, (number, hash_) in heads.items():
            health = self._all[index]
            try:
                low, own = await self._watched(health, health.endpoint.hashes((common, number)))
            except (EndpointFailed, MalformedMessage):
                continue
            if low is None or own != hash_:
                self._distrust(health)  # it does not have the block that it calls its head
                continue
            told[index], honest[index] = low, number
        if not honest:
            return
        votes = Counter(told[index] for index in honest)
        most = max(votes.values())
        # On a tie the endpoint that was named first is believed.
        right = next(told[index] for index in sorted(honest) if votes[told[index]] == most)
        for index in honest:
            if told[index] != right:
                self._distrust(self._all[index])
        top = max(number for index, number in honest.items() if told[index] == right)
        for index, number in honest.items():
            self._all[index].height = number
            self._all[index].is_lagging = number < top - MAX_LAG

    def _distrust(self, health: Health) -> None:
        health.distrusted_until = trio.current_time() + DISTRUST_S

    def _ranked(self) -> list[Health]:
        now = trio.current_time()
        trusted = [one for one in self._all if one.distrusted_until <= now] or self._all
        fresh = [one for one in trusted if not one.is_lagging] or trusted
        awake = [one for one in fresh if one.rests_until <= now] or fresh
        return sorted(awake, key=lambda one: (one.failures, one.latency, one.endpoint.number))

    async def _first(self, requests: Sequence[Request]) -> tuple[Health, list[Any]]:
        failed: EndpointFailed | None = None
        for attempt in range(max(TRIES, 2 * len(self._all))):
            ranked = self._ranked()
            health = ranked[attempt % len(ranked)]
            try:
                return health, await self._ask(health, requests)
            except EndpointFailed as error:
                failed = error
            if attempt + 1 >= len(self._all):
                pause = min(1.0, 0.05 * 2**attempt)
                await trio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
        raise LedgerUnreachable(
            f"no endpoint of the chain answers; the last said: {failed}",
            hint="is the chain running, and does the network file name the right endpoints?",
        ) from failed

    async def _ask(self, health: Health, requests: Sequence[Request]) -> list[Any]:
        return await self._watched(health, health.endpoint.batch(requests))

    async def _watched(self, health: Health, asking: Awaitable[T]) -> T:
        started = trio.current_time()
        try:
            answers = await asking
        except EndpointFailed:
            health.failures += 1
            rest = min(LONGEST_REST_S, 0.25 * 2 ** min(health.failures, 10))
            health.rests_until = trio.current_time() + rest
            raise
        health.failures = 0
        health.latency = 0.8 * health.latency + 0.2 * (trio.current_time() - started)
        return answers


def _stated(facts: Callable[[list[Any]], object], answers: list[Any]) -> object:
    """What answers say; those in which `facts` finds none say something that nobody else says."""
    try:
        return facts(answers)
    except (AttributeError, KeyError, TypeError):
        return object()
