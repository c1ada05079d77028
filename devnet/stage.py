"""One chain of the running network as the demo's client sees it: commands and documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import trio

from deai.errors import NodeFault
from deai.ids import ChainName
from devnet import processes
from devnet.network import Devnet
from devnet.story import Story

TASK_S: Final = 150.0
"""How long one command may take."""
PATIENCE_S: Final = 90.0
"""Seconds for what takes a moment: the machine may be busy with other things."""


@dataclass(frozen=True)
class Stage:
    """The running network and the client's commands on one of its chains."""

    devnet: Devnet
    story: Story
    chain: ChainName
    nodes: list[dict[str, Any]]
    """Those that serve this chain, with their `node_id` and `owner` there."""
    tied: bool
    """Whether the processes die with this one: unless they are to be kept."""

    @property
    def is_first(self) -> bool:
        """Whether it is the chain that is meant where none is named."""
        return self.chain == self.devnet.first

    def serving(self) -> list[int]:
        """The honest ones, by their place among `nodes`."""
        return [place for place, node in enumerate(self.nodes) if node["behaviour"] == "honest"]

    def acting(self, behaviour: str) -> int:
        """The one that misbehaves so."""
        return next(i for i, node in enumerate(self.nodes) if node["behaviour"] == behaviour)

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks on this chain that have ended so far."""
        return [task for task in self.story.tasks if task["chain"] == self.chain]

    async def deai(self, *arguments: str, patience: float = TASK_S) -> tuple[int, Any]:
        """Run a `deai` command with the client's configuration; status and JSON document."""
        layout = self.devnet.layout
        command = processes.deai(
            "--config", str(layout.client / "config.toml"), "--chain", self.chain, "--json",
            *arguments,
        )  # fmt: skip
        layout.log("client").parent.mkdir(exist_ok=True)
        with layout.log("client").open("ab") as log, trio.move_on_after(patience):
            done = await trio.run_process(
                command, capture_stdout=True, stderr=log, check=False,
                env=self.devnet.environment,
            )  # fmt: skip
            try:
                return done.returncode, json.loads(done.stdout)
            except ValueError as error:
                raise NodeFault(f"`deai {arguments[0]} …` printed no JSON") from error
        raise NodeFault(f"`deai {' '.join(arguments[:3])}` took longer than {patience:.0f} s")

    async def submit(
        self, workload: str, data: bytes, name: str, *options: str, among: list[int] | None = None
    ) -> dict[str, Any]:
        """Submit a task and follow it to its end.

        Raises `NodeFault` unless it completed; with the code of what refused to submit it.
        """
        document = await self._submit(workload, data, name, *options, among=among)
        self.story.tasks.append(document)
        if document["state"] != "completed":
            raise NodeFault(
                f"task {document['task_id']} ended {document['state']}: {document['detail']}"
            )
        return dict(document)

    async def rejected(
        self, workload: str, data: bytes, name: str, *options: str, among: list[int] | None = None
    ) -> dict[str, str]:
        """Which nodes the client would not ask for such a task: by node id, the code of why."""
        document = await self._submit(workload, data, name, "--dry-run", *options, among=among)
        return {one["node_id"]: one["code"] for one in document["rejected"]}

    async def _submit(
        self, workload: str, data: bytes, name: str, *options: str, among: list[int] | None
    ) -> dict[str, Any]:
        source = self.devnet.layout.root / "inputs" / self.chain / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(data)
        chosen = [f"--node={self.nodes[index]['node_id']}" for index in among or []]
        _, document = await self.deai(
            "task", "submit", workload, "--input", str(source), *options, *chosen
        )
        if "error" in document:
            error = document["error"]
            raise NodeFault(f"{error['code']}: {error['message']}", code=error["code"])
        return dict(document)

    def alive(self, indexes: list[int]) -> list[int]:
        """Those of the nodes whose process runs."""
        state = self.devnet.layout.load()
        records = {index: state.process(self.nodes[index]["name"]) for index in indexes}
        return [index for index, found in records.items() if found and processes.is_alive(found)]

    async def node(self, index: int) -> dict[str, Any]:
        """What the coordinator knows of a node."""
        return await self.look_up(self.nodes[index]["node_id"])

    async def look_up(self, node_id: str) -> dict[str, Any]:
        """What the coordinator knows of a node of any chain, by its id."""
        _, document = await self.deai("network", "node", node_id, patience=PATIENCE_S)
        return dict(document)

    async def until(self, index: int, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The node's document once it says so (the index follows the chain by a moment)."""
        document: dict[str, Any] = {}
        with trio.move_on_after(PATIENCE_S):
            while True:
                document = await self.node(index)
                if holds(document):
                    break
                await trio.sleep(0.3)
        return document


def stages_of(
    devnet: Devnet, story: Story, described: list[dict[str, Any]], *, tied: bool
) -> list[Stage]:
    """One for every chain; a node that serves several is on the stage of each."""
    return [
        Stage(
            devnet, story, chain,
            [{**node, **node["chains"][chain]} for node in described if chain in node["chains"]],
            tied,
        )
        for chain in devnet.plan.chains
    ]  # fmt: skip
