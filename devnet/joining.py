"""How a node of a devnet comes to life: set up on its chains, bound, started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from deai.ids import ChainName, account_on
from deai.money import UNIT
from devnet import processes
from devnet.behaviours import BEHAVIOURS
from devnet.layout import NodePlan
from devnet.network import Devnet
from devnet.starter import START_S, Starter, not_up
from node.home import Home

STAKE: Final = 1_200 * UNIT
MAX_INITS: Final = 4
"""`deai node init` asks at most for the owner's and the operator's needs, one after the other."""
NEEDS_FUNDS: Final = 5
SPEEDS: Final = {"embedding": 64_000, "portfolio-risk": 50_000}
"""Thousandths of a unit that one core computes in a second. Nodes that promise nothing get short
leases, and those of a devnet share the cores of one machine."""


@dataclass(frozen=True)
class Joining:
    """Sets nodes up and starts them. Each step may run again."""

    starter: Starter
    devnet: Devnet
    at_faucet: trio.Lock = field(default_factory=trio.Lock)
    """One at a time: the faucet's outbox has one owner."""

    async def join(self, node: NodePlan) -> None:
        """Set a node up on its chains, once, and start it; returns when it takes work."""
        home = self.starter.layout.node(node.name)
        environment = {
            **self.starter.environment,
            "DEAI_NODE__BEAT_SECONDS": "1",
            "DEAI_NODE__LISTEN_FOR_TWIN": "2.5",
            "DEAI_NODE__MIN_LEASE": "5",
            "DEAI_NODE__CAPACITY": "1",
            "DEAI_NODE__QUEUE": "4",
        }
        if node.behaviour:
            target = BEHAVIOURS.get(node.behaviour, node.behaviour)
            environment["DEAI_NODE__BEHAVIOUR"] = json.dumps(target)
        marker = self.starter.marker(f"set-up-{node.name}")
        if not marker.exists():
            for chain in node.chains:
                await self._init(node, chain, environment)
            marker.touch()
        kept = Home(home)
        if not kept.speeds.exists():
            kept.save(kept.speeds, SPEEDS)
        command = processes.deai("node", "run", "--home", str(home))
        async with trio.open_nursery() as nursery:
            # Side by side: a node publishes its binding as soon as the file is there.
            if node.also and not self.starter.marker(f"bound-{node.name}").exists():
                nursery.start_soon(self._bind, node, environment)
            ready = await self.starter.started(node.name, command, home / "node.json", environment)
        self.starter.tell(node.name, ready["node_id"])

    async def _init(self, node: NodePlan, chain: ChainName, environment: Mapping[str, str]) -> None:
        """`deai node init` until it asks for nothing more; what it needs comes from the faucet."""
        home = self.starter.layout.node(node.name)
        log = self.starter.layout.log(f"{node.name}-init")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = processes.deai(
            "node", "init", "--home", str(home), "--network", str(self.starter.layout.network),
            "--chain", chain, "--non-interactive", "--stake", str(STAKE), "--json",
            "--listen", f"/ip4/127.0.0.1/tcp/{node.port}",
        )  # fmt: skip
        for _ in range(MAX_INITS):
            with log.open("ab") as output, trio.move_on_after(START_S):
                done = await trio.run_process(
                    command, capture_stdout=True, stderr=output, env=dict(environment), check=False
                )
                output.write(done.stdout)
                if done.returncode == 0:
                    return
                if done.returncode != NEEDS_FUNDS:
                    break
                needs = json.loads(done.stdout)["needs"]
                address = account_on(chain, needs["address"])
                async with self.at_faucet, self.devnet.faucet(chain) as faucet:
                    await faucet.give(address, int(needs["tokens"]))
        raise not_up(f"{node.name}-init", log)

    async def _bind(self, node: NodePlan, environment: Mapping[str, str]) -> None:
        """Let the owners on both chains sign that the two registrations are one node."""
        log = self.starter.layout.log(f"{node.name}-bind")
        with log.open("ab") as output:
            for chain in node.chains:
                command = processes.deai(
                    "stake", "bind", "--home", str(self.starter.layout.node(node.name)),
                    "--chain", chain, "--yes", "--json",
                )  # fmt: skip
                with trio.move_on_after(START_S) as scope:
                    done = await trio.run_process(
                        command, stdout=output, stderr=output, env=dict(environment), check=False
                    )
                if scope.cancelled_caught or done.returncode:
                    raise not_up(f"{node.name}-bind", log)
        self.starter.marker(f"bound-{node.name}").touch()
