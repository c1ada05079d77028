"""Brings a whole network up on this machine, step by step, and takes it down again.

Every step is skipped when its outcome is already there, so that a second `up` on the same
directory resumes: chain state, keys, databases and journals are kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from deai.actions import TransferTokens
from deai.chain.ledger import Ledger
from deai.errors import NotSetUp
from deai.files import replace_file
from deai.ids import NEAR, SEI, ChainName
from deai.keys import create_key, key_file
from deai.money import UNIT, Amount
from deai.network import BootstrapPeer, ChainEntry, Network, save_network
from devnet import processes
from devnet.chains import LocalChain, chains_of
from devnet.joining import STAKE, Joining
from devnet.layout import Layout, NodePlan, Plan, State
from devnet.network import Devnet, opened
from devnet.processes import ProcessRecord
from devnet.starter import Starter, Tell
from workloads.catalog import load as load_workloads
from workloads.models import import_model

CLIENT_TOKENS: Final = 10_000 * UNIT


async def up(
    layout: Layout, plan: Plan, environment: Mapping[str, str], *, tied: bool, tell: Tell
) -> Devnet:
    """Start what is not running; return when everything is ready.

    Raises `NodeFault` naming the log of a program that does not come up.
    """
    starter = Starter(layout, processes.child_environment(environment), tied, tell)
    runner = _Runner(starter, plan)
    layout.keys.mkdir(parents=True, exist_ok=True)
    state = layout.load() if layout.state.exists() else State(plan=plan)
    layout.save(state)
    runner.keys()
    # Chains only wait for their own blocks: what they need is done on all of them at once.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, runner.models))
        for chain in chains_of(layout, plan).values():
            nursery.start_soon(runner.founded, chain)
    network = Network(name="devnet", chains=runner.entries)
    save_network(network, layout.network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.fund, Devnet(layout, plan, network, starter.environment))
        hub = await runner.coordinator()
    network = msgspec.structs.replace(
        network,
        coordinators=(hub["url"],),
        bootstrap=(BootstrapPeer(peer_id=hub["peer_id"], addresses=tuple(hub["addresses"])),),
    )
    save_network(network, layout.network)
    devnet = Devnet(layout, plan, network, starter.environment)
    joining = Joining(starter, devnet)
    async with trio.open_nursery() as nursery:
        for node in plan.nodes:
            nursery.start_soon(joining.join, node)
    return devnet


async def down(layout: Layout, *, patience: float = 10.0) -> list[str]:
    """Stop everything, nodes first, chains last; return the names of what was running."""
    state = layout.load()
    running = [record for record in state.processes if processes.is_alive(record)]

    async def ended(records: list[ProcessRecord]) -> None:
        async with trio.open_nursery() as nursery:
            for record in records:
                nursery.start_soon(partial(processes.stop, record, patience=patience))

    nodes = [record for record in running if record.name.startswith("node-")]
    others = [record for record in running if not record.name.startswith(("node-", SEI, NEAR))]
    await ended(nodes)
    await ended(others)
    await ended([record for record in running if record.name.startswith((SEI, NEAR))])
    return [record.name for record in running]


async def restart(
    layout: Layout, name: str, environment: Mapping[str, str], tell: Tell, *, tied: bool = False
) -> None:
    """Start one process of an existing devnet again; raise `NotSetUp` for unknown names.

    `tied`: it dies with this process.
    """
    state = layout.load()
    starter = Starter(layout, processes.child_environment(environment), tied, tell)
    runner = _Runner(starter, state.plan)
    chains = chains_of(layout, state.plan)
    if name in chains:
        await runner.chain(chains[ChainName(name)])
    elif name == "coordinator":
        await runner.coordinator()
    else:
        await Joining(starter, opened(layout, environment)).join(planned(state.plan, name))


def planned(plan: Plan, name: str) -> NodePlan:
    """The plan of a node; raise `NotSetUp` for names that are none."""
    for node in plan.nodes:
        if node.name == name:
            return node
    known = [*plan.chains, "coordinator", *(node.name for node in plan.nodes)]
    raise NotSetUp(f"no process {name!r} in this devnet", hint="one of " + ", ".join(known))


def coordinator_config(layout: Layout, plan: Plan) -> str:
    """The coordinator's settings: every port is the plan's, so that it stays over restarts."""
    return (
        f'network = "{layout.network}"\n\n[coordinator]\n'
        f'listen = "127.0.0.1:{plan.coordinator_port}"\n'
        f'metrics = "127.0.0.1:{plan.coordinator_metrics_port}"\n'
        f'p2p = ["/ip4/127.0.0.1/tcp/{plan.coordinator_p2p_port}"]\n'
    )


@dataclass(frozen=True)
class _Runner:
    """The steps. Each may run again."""

    starter: Starter
    plan: Plan
    entries: dict[ChainName, ChainEntry] = field(default_factory=dict)
    """The chains that are there, with their contracts."""

    @property
    def layout(self) -> Layout:
        return self.starter.layout

    async def founded(self, chain: LocalChain) -> None:
        """The chain runs and its contracts are there."""
        self.entries[chain.name] = await self.contracts(chain, await self.chain(chain))

    async def chain(self, chain: LocalChain) -> dict[str, Any]:
        chain.directory.mkdir(parents=True, exist_ok=True)
        ready = await self.starter.started(
            chain.name, chain.command(), chain.directory / "ready.json"
        )
        self.starter.tell("chain", f"{chain.name} ({chain.kind}), chain id {ready['chain_id']}")
        return ready

    async def contracts(self, chain: LocalChain, ready: dict[str, Any]) -> ChainEntry:
        entry = await chain.entry(ready)
        accounts = len(set(entry.contracts.values()))
        self.starter.tell("contracts", f"{accounts} deployed on {chain.name}, bytecode as shipped")
        return entry

    def keys(self) -> None:
        client = self.layout.client
        for chain in chains_of(self.layout, self.plan).values():
            self._key(chain, client, "client", "client")
            self._key(chain, self.layout.treasury, "client", "treasury")
            for node in self.plan.nodes:
                if chain.name in node.chains:
                    home = self.layout.node(node.name)
                    self._key(chain, home, "owner", node.name)
                    self._key(chain, home, "operator", f"{node.name}/operator")
        for home in (client, self.layout.treasury):
            config = home / "config.toml"
            if not config.exists():
                first = self.plan.chains[0]
                text = f'network = "{self.layout.network}"\nchain = "{first}"\n'
                replace_file(config, text.encode(), flush=False)

    def _key(self, chain: LocalChain, home: Path, kind: str, secret_of: str) -> None:
        path = key_file(home, kind, chain.name)
        if not path.exists():
            create_key(
                path, home / "keys" / "passphrase",
                secret=self.layout.secret(self.plan.seed, secret_of), chain=chain.name,
            )  # fmt: skip

    def models(self) -> None:
        """One copy of the model on disk; the nodes' homes link to it."""
        source = self.layout.models
        source.mkdir(exist_ok=True)
        for name in {name for spec in load_workloads() for name in spec.models}:
            digest = import_model(name, source)
            for node in self.plan.nodes:
                target = self.layout.node(node.name) / "models" / digest
                if not target.exists():
                    shutil.copytree(source / digest, target, copy_function=os.link)

    async def coordinator(self) -> dict[str, Any]:
        home = self.layout.coordinator
        home.mkdir(parents=True, exist_ok=True)
        config = home / "config.toml"
        if not config.exists():
            text = coordinator_config(self.layout, self.plan)
            replace_file(config, text.encode(), flush=False)
        command = processes.deai("coordinator", "run", "--home", str(home))
        ready = await self.starter.started("coordinator", command, home / "coordinator.json")
        self.starter.tell("coordinator", ready["url"])
        return ready

    async def fund(self, devnet: Devnet) -> None:
        """Tokens for everybody in the plan; money for gas they have from the first block."""
        async with trio.open_nursery() as nursery:
            for chain in chains_of(self.layout, self.plan).values():
                nursery.start_soon(self._fund_on, devnet, chain)

    async def _fund_on(self, devnet: Devnet, chain: LocalChain) -> None:
        wanted = {node.name: STAKE for node in self.plan.nodes if chain.name in node.chains}
        wanted["client"] = CLIENT_TOKENS
        mark = "" if chain.name == SEI else f"-{chain.name}"
        markers = {name: self.starter.marker(f"funded-{name}{mark}") for name in wanted}
        missing = [name for name in wanted if not markers[name].exists()]
        if not missing:
            return

        async def give(ledger: Ledger, name: str) -> None:
            action = TransferTokens(chain.account(name), Amount(wanted[name]))
            await ledger.submit(action, key=f"fund:{name}")
            markers[name].touch()

        async with (
            devnet.ledger("faucet", chain.name) as ledger,
            trio.open_nursery() as nursery,
        ):
            for name in missing:
                nursery.start_soon(give, ledger, name)
