"""Commands that use the lane: nodes that serve it, around every command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import trio

from deai.actions import OpenChannel
from deai.client.lane.places import session_key_file
from deai.money import UNIT, Amount
from deai.signing import LocalSigner
from tests.cli.conftest import Shell
from tests.cli.network import Neighbourhood
from tests.client.lane.node import Account, Cheat, LaneNode
from tests.client.lane.world import QUICK
from tests.client.support.node import Script, ScriptedNode

PRICE = UNIT // 100


class Lanes(Neighbourhood):
    """Nodes that serve the lane, whose accounts outlive the commands."""

    def __init__(self, home: Path, *cheats: Cheat, channels: int = 1, deposit: int = UNIT) -> None:
        super().__init__(home, *[Script(workloads=("echo",), base_fee=PRICE)] * len(cheats))
        self.cheats, self.channels, self.deposit = cheats, channels, deposit
        self.lanes: list[LaneNode] = []
        self.accounts: list[dict[Any, Account]] = [{} for _ in cheats]

    @property
    def options(self) -> dict[str, Any]:
        return {"patience": QUICK}

    async def begin(self) -> None:
        for node in self.nodes[: self.channels]:
            await self.open_channel(node)

    async def serve(self, nursery: trio.Nursery) -> None:
        self.lanes = [LaneNode(*pair) for pair in zip(self.nodes, self.cheats, strict=True)]
        for lane, accounts in zip(self.lanes, self.accounts, strict=True):
            lane.accounts = accounts
            await nursery.start(lane.run)

    async def open_channel(self, node: ScriptedNode) -> None:
        """As `deai channel open` does."""
        secret = hashlib.sha256(node.node.encode()).digest()
        path = session_key_file(self.home, node.node)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secret.hex())
        path.chmod(0o600)
        action = OpenChannel(node.node, LocalSigner(secret).account, 1, Amount(self.deposit))
        await self.chain.ledger(self.payer).submit(action)

    @property
    def computed(self) -> list[bytes]:
        """What the nodes of the last command computed."""
        return [data for lane in self.lanes for data in lane.computed]


def lanes(shell: Shell, monkeypatch: pytest.MonkeyPatch, *cheats: Cheat, **more: Any) -> Lanes:
    made = Lanes(shell.home, *(cheats or (Cheat(),)), **more)
    made.install(monkeypatch)
    return made


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
