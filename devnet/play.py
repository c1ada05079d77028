"""The order of the demo's scenes: one chain after its own pace, several side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from deai.chain.ledger import Ledger
from devnet import liars, scenes
from devnet.stage import Stage

Scene: TypeAlias = Callable[[Stage, list[str]], Awaitable[None]]

_FIRST: Final[tuple[tuple[str, Scene], ...]] = (("Embedding, 3 seats, tol32/1", scenes.embedding),)
_LATER: Final[tuple[tuple[str, Scene], ...]] = (
    ("An equivocator signs two results", liars.equivocator),
    ("A lazy node answers without computing", liars.lazy),
    ("Embedding, whoever is drawn", scenes.drawn),
    ("Portfolio risk, hedged, another seed; the receipt verifies offline", scenes.hedged),
)


def length(chains: int) -> int:
    """How many steps a story on so many chains has, the setting up and the books included."""
    return 5 + (chains > 1) + chains * (len(_FIRST) + len(_LATER))


async def play(stages: list[Stage], ledgers: list[Ledger]) -> None:
    """All scenes in their order; each is a step of the story.

    The chains' scenes go side by side, but for the crash: that one hits all chains at once.
    """
    story = stages[0].story
    async with story.step("Nodes are staked, found and heard") as lines:
        await scenes.heard(stages[0], sum(len(stage.nodes) for stage in stages), lines)
    async with trio.open_nursery() as nursery:
        for stage in stages:
            nursery.start_soon(_act, stage, _FIRST)
    async with story.step("Portfolio risk, many paths; a node is killed half way") as lines:
        await scenes.killed_half_way(stages, ledgers, lines)
    async with trio.open_nursery() as nursery:
        # All at once: a slash on one chain costs a node its seats on all, so that the equivocator
        # can be slashed on each only where it is drawn before it is found out on any.
        for stage in stages:
            nursery.start_soon(_act, stage, _LATER)
    if len(stages) > 1:
        async with story.step("One client paid and one node earned on both chains") as lines:
            await scenes.earned_on_all(stages, lines)
    async with story.step("The killed node comes back and the index can be checked") as lines:
        await scenes.back_again(stages, lines)


async def _act(stage: Stage, parts: tuple[tuple[str, Scene], ...]) -> None:
    """One chain's scenes, one after the other."""
    several = len(stage.devnet.plan.chains) > 1
    for name, scene in parts:
        title = f"{stage.chain}: {name}" if several else name
        async with stage.story.step(title, alongside=several) as lines:
            await scene(stage, lines)
