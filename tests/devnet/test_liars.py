"""What the demo tells of an equivocator, however the chains' scenes fall together."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deai.cli.base import Options, Settings, load_settings
from deai.errors import NodeFault
from deai.ids import NEAR
from deai.network import Network
from devnet.layout import Layout, make_plan
from devnet.liars import equivocator
from devnet.network import Devnet
from devnet.stage import Stage
from devnet.story import Story

MINE, TWIN = "owner.near#0", "0x" + "11" * 32
HOW_MUCH = str(240 * 10**18)
NO_OFFER = {"error": {"code": "no_offer", "message": "3 nodes are needed, 2 would do"}}
DONE = {
    "task_id": "0x" + "ab" * 32, "state": "completed", "timings": {"total_ms": 1000},
    "result": {"agreed": 2, "seats": 3, "digest": "0x" + "cd" * 32, "bytes": 10},
    "escrowed": "6", "paid": "3", "refunded": "1", "protocol_fee": "2",
}  # fmt: skip


def node(slashed: str = "0", twin_slashed: str = "0", *, bound: str = TWIN) -> dict[str, Any]:
    return {
        "node_id": MINE, "slashed": slashed, "stake": HOW_MUCH, "state": "jailed", "reputation": 0,
        "bound": {"chain": "sei", "node_id": bound, "slashed": twin_slashed},
    }  # fmt: skip


@dataclass(frozen=True)
class Scripted(Stage):
    """A stage whose commands print what the test says, by their first words."""

    submitted: Any = None
    rejected_as: str = ""
    known: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def deai(self, *arguments: str, patience: float = 0) -> tuple[int, Any]:
        self.asked.append(arguments)
        if arguments[:2] == ("network", "node"):
            return 0, self.known[arguments[2]]
        if "--dry-run" in arguments:
            return 0, {"rejected": [{"node_id": MINE, "code": self.rejected_as}]}
        return 0, self.submitted

    def alive(self, indexes: list[int]) -> list[int]:
        return indexes


@pytest.fixture
def story(tmp_path: Path) -> Story:
    settings: Settings = load_settings(Options(home=tmp_path))
    settings.__dict__["err"] = Console(file=io.StringIO())
    return Story(settings, total=1)


def stage(story: Story, tmp_path: Path, **said: Any) -> Scripted:
    nodes = [{"node_id": MINE, "name": "node-0", "behaviour": "equivocator"}]
    nodes += [{"node_id": f"{n}.near#0", "name": n, "behaviour": "honest"} for n in ("a", "b")]
    devnet = Devnet(
        Layout(tmp_path), make_plan("both", 3, "1", {}), Network(name="n", chains={}), {}
    )
    return Scripted(devnet, story, NEAR, nodes, tied=True, **said)


async def test_an_equivocator_that_got_its_seat_is_shown_to_lose_stake_and_to_be_held_to_it(
    story: Story, tmp_path: Path
) -> None:
    known = {MINE: node(HOW_MUCH), TWIN: node(bound=MINE, twin_slashed=HOW_MUCH)}
    lines: list[str] = []
    await equivocator(stage(story, tmp_path, submitted=DONE, known=known), lines)

    (caught,) = story.caught
    assert caught["node_id"] == MINE
    assert caught["consequence"].startswith("stake 480.000000 CT to 240.000000 CT, jailed")
    assert "on sei 0x11111111… is held to it too" in caught["consequence"]
    assert [task["task_id"] for task in story.tasks] == [DONE["task_id"]]


async def test_a_twin_that_goes_on_as_if_nothing_had_happened_makes_the_scene_false(
    story: Story, tmp_path: Path
) -> None:
    known = {MINE: node(HOW_MUCH), TWIN: node(bound=MINE)}
    with pytest.raises(NodeFault, match="not held to what it did on near"):
        await equivocator(stage(story, tmp_path, submitted=DONE, known=known), [])
    assert story.caught == []


async def test_an_equivocator_that_the_other_chain_slashed_first_is_said_to_get_no_seat(
    story: Story, tmp_path: Path
) -> None:
    lines: list[str] = []
    quick = stage(
        story, tmp_path, submitted=NO_OFFER, rejected_as="slashed_elsewhere",
        known={MINE: node(twin_slashed=HOW_MUCH)},
    )  # fmt: skip
    await equivocator(quick, lines)

    assert lines[0] == "node-0 got no seat: sei was quicker, and a slash there counts here"
    (caught,) = story.caught
    assert (caught["node_id"], caught["behaviour"]) == (MINE, "equivocator")
    assert "slashed on sei as 0x11111111… before it was drawn on near" in caught["how"]
    assert story.tasks == []


@pytest.mark.parametrize(
    ("submitted", "rejected_as", "twin_slashed"),
    [
        (NO_OFFER, "silent", HOW_MUCH),
        (NO_OFFER, "slashed", HOW_MUCH),
        (NO_OFFER, "slashed_elsewhere", "0"),
        ({"error": {"code": "ledger_unreachable", "message": "-"}}, "slashed_elsewhere", HOW_MUCH),
        ({**DONE, "state": "failed", "detail": "-"}, "slashed_elsewhere", HOW_MUCH),
    ],
)
async def test_no_other_refusal_passes_for_that(
    story: Story, tmp_path: Path, submitted: Any, rejected_as: str, twin_slashed: str
) -> None:
    other = stage(
        story, tmp_path, submitted=submitted, rejected_as=rejected_as,
        known={MINE: node(twin_slashed=twin_slashed)},
    )  # fmt: skip
    with pytest.raises(NodeFault):
        await equivocator(other, [])
    assert story.caught == []
