"""Brings a whole network up on this machine, step by step, and takes it down again.

Every step is skipped when its outcome is already there, so that a second `up` on the same
directory resumes: chain state, keys, databases and journals are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from deai.actions import TransferTokens
from deai.chain.ledger import Ledger
from deai.errors import DeaiError, NodeFault, NotSetUp
from deai.ids import NEAR, SEI, AccountId, ChainName, account_on
from deai.keys import create_key, key_file
from deai.money import UNIT, Amount
from deai.network import BootstrapPeer, ChainEntry, Network, load_network, save_network
from deai.signing import Signer
from devnet import processes
from devnet.behaviours import BEHAVIOURS
from devnet.chains import Giver, LocalChain, chains_of
from devnet.layout import Layout, NodePlan, Plan, State
from devnet.processes import ProcessRecord
from node.home import Home
from workloads.catalog import load as load_workloads
from workloads.models import import_model

STAKE: Final = 1_200 * UNIT
CLIENT_TOKENS: Final = 10_000 * UNIT
MAX_INITS: Final = 4
"""`deai node init` asks at most for the owner's and the operator's needs, one after the other."""
NEEDS_FUNDS: Final = 5
SPEEDS: Final = {"embedding": 64_000, "portfolio-risk": 50_000}
"""Thousandths of a unit that one core computes in a second. Nodes that promise nothing get short
leases, and those of a devnet share the cores of one machine."""
READY_POLL_S: Final = 0.2
START_S: Final = 180.0
"""How long one process may take until it says that it is ready."""

Tell = Callable[[str, str], None]
"""Called with the name of a step and what came of it."""


@dataclass(frozen=True)
class Devnet:
    """A running devnet, as the commands and the demo see it."""

    layout: Layout
    plan: Plan
    network: Network
    environment: Mapping[str, str]

    @property
    def first(self) -> ChainName:
        """The chain that is meant where none is named."""
        return self.plan.chains[0]

    def local(self, chain: ChainName | None = None) -> LocalChain:
        """One of its chains."""
        return chains_of(self.layout, self.plan)[chain or self.first]

    def signer(self, name: str, chain: ChainName | None = None) -> Signer:
        """A key of this devnet: `funder`, `faucet`, `treasury`, `client`, `node-0` (owner) …"""
        return self.local(chain).signer(name)

    def account(self, name: str, chain: ChainName | None = None) -> AccountId:
        """The account for which that key speaks."""
        return self.local(chain).account(name)

    @asynccontextmanager
    async def ledger(self, name: str = "", chain: ChainName | None = None) -> AsyncIterator[Ledger]:
        """A chain, read by nobody in particular or sent to with a devnet key."""
        local = self.local(chain)
        async with local.ledger(self.network.chains[local.name], name) as ledger:
            yield ledger

    @asynccontextmanager
    async def faucet(self, chain: ChainName | None = None) -> AsyncIterator[Giver]:
        """The faucet of a chain."""
        local = self.local(chain)
        async with self.ledger("faucet", local.name) as ledger:
            yield local.giver(self.network.chains[local.name], ledger)


async def up(
    layout: Layout, plan: Plan, environment: Mapping[str, str], *, tied: bool, tell: Tell
) -> Devnet:
    """Start what is not running; return when everything is ready.

    Raises `NodeFault` naming the log of a program that does not come up.
    """
    runner = _Runner(layout, plan, processes.child_environment(environment), tied, tell)
    layout.keys.mkdir(parents=True, exist_ok=True)
    state = layout.load() if layout.state.exists() else State(plan=plan)
    layout.save(state)
    runner.keys()
    # Chains only wait for their own blocks: what they need is done on all of them at once.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, runner.models))
        for chain in chains_of(layout, plan).values():
            nursery.start_soon(runner.founded, chain)
    # In the plan's order, whichever was ready first.
    entries = {name: runner.entries[name] for name in plan.chains}
    network = Network(name="devnet", chains=entries)
    save_network(network, layout.network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.fund, Devnet(layout, plan, network, runner.environment))
        hub = await runner.coordinator()
    network = msgspec.structs.replace(
        network,
        coordinators=(hub["url"],),
        bootstrap=(BootstrapPeer(peer_id=hub["peer_id"], addresses=tuple(hub["addresses"])),),
    )
    save_network(network, layout.network)
    devnet = Devnet(layout, plan, network, runner.environment)
    async with trio.open_nursery() as nursery:
        for node in plan.nodes:
            nursery.start_soon(runner.node, devnet, node)
    return devnet


def opened(layout: Layout, environment: Mapping[str, str]) -> Devnet:
    """A devnet that is (or was) up; raise `NotSetUp`."""
    plan = layout.load().plan
    if not layout.network.exists():
        raise NotSetUp("the devnet never came up", hint="run `deai devnet up` again")
    return Devnet(
        layout, plan, load_network(layout.network), processes.child_environment(environment)
    )


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
    runner = _Runner(layout, state.plan, processes.child_environment(environment), tied, tell)
    chains = chains_of(layout, state.plan)
    if name in chains:
        await runner.chain(chains[ChainName(name)])
    elif name == "coordinator":
        await runner.coordinator()
    else:
        await runner.node(opened(layout, environment), planned(state.plan, name))


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

    layout: Layout
    plan: Plan
    environment: dict[str, str]
    tied: bool
    tell: Tell
    at_faucet: trio.Lock = field(default_factory=trio.Lock)
    """One at a time: the faucet's outbox has one owner."""
    entries: dict[ChainName, ChainEntry] = field(default_factory=dict)
    """The chains that are there, with their contracts."""

    async def founded(self, chain: LocalChain) -> None:
        """The chain runs and its contracts are there."""
        self.entries[chain.name] = await self.contracts(chain, await self.chain(chain))

    async def chain(self, chain: LocalChain) -> dict[str, Any]:
        chain.directory.mkdir(parents=True, exist_ok=True)
        ready = await self._started(chain.name, chain.command(), chain.directory / "ready.json")
        self.tell("chain", f"{chain.name} ({chain.kind}), chain id {ready['chain_id']}")
        return ready

    async def contracts(self, chain: LocalChain, ready: dict[str, Any]) -> ChainEntry:
        entry = await chain.entry(ready)
        accounts = len(set(entry.contracts.values()))
        self.tell("contracts", f"{accounts} deployed on {chain.name}, bytecode as shipped")
        return entry

    def keys(self) -> None:
        client = self.layout.client
        for chain in chains_of(self.layout, self.plan).values():
            self._key(chain, client, "client", "client")
            for node in self.plan.nodes:
                if chain.name in node.chains:
                    home = self.layout.node(node.name)
                    self._key(chain, home, "owner", node.name)
                    self._key(chain, home, "operator", f"{node.name}/operator")
        config = client / "config.toml"
        if not config.exists():
            first = self.plan.chains[0]
            config.write_text(f'network = "{self.layout.network}"\nchain = "{first}"\n')

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
            config.write_text(coordinator_config(self.layout, self.plan))
        command = processes.deai("coordinator", "run", "--home", str(home))
        ready = await self._started("coordinator", command, home / "coordinator.json")
        self.tell("coordinator", ready["url"])
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
        markers = {name: self.layout.keys / f"funded-{name}{mark}" for name in wanted}
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

    async def node(self, devnet: Devnet, node: NodePlan) -> None:
        home = self.layout.node(node.name)
        environment = {
            **self.environment,
            "DEAI_NODE__BEAT_SECONDS": "1",
            "DEAI_NODE__LISTEN_FOR_TWIN": "2.5",
            "DEAI_NODE__MIN_LEASE": "5",
            "DEAI_NODE__CAPACITY": "1",
            "DEAI_NODE__QUEUE": "4",
        }
        if node.behaviour:
            target = BEHAVIOURS.get(node.behaviour, node.behaviour)
            environment["DEAI_NODE__BEHAVIOUR"] = json.dumps(target)
        marker = self.layout.keys / f"set-up-{node.name}"
        if not marker.exists():
            for chain in node.chains:
                await self._init(devnet, node, chain, environment)
            marker.touch()
        kept = Home(home)
        if not kept.speeds.exists():
            kept.save(kept.speeds, SPEEDS)
        command = processes.deai("node", "run", "--home", str(home))
        ready = await self._started(node.name, command, home / "node.json", environment)
        self.tell(node.name, ready["node_id"])

    async def _init(
        self, devnet: Devnet, node: NodePlan, chain: ChainName, environment: Mapping[str, str]
    ) -> None:
        """`deai node init` until it asks for nothing more; what it needs comes from the faucet."""
        home = self.layout.node(node.name)
        log = self.layout.log(f"{node.name}-init")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = processes.deai(
            "node", "init", "--home", str(home), "--network", str(self.layout.network),
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
                async with self.at_faucet, devnet.faucet(chain) as faucet:
                    await faucet.give(address, int(needs["tokens"]))
        raise _not_up(f"{node.name}-init", log)

    async def _started(
        self,
        name: str,
        command: list[str],
        ready: Path,
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Start `command` unless it runs; wait for its ready file to name its own pid."""
        state = self.layout.load()
        known = state.process(name)
        if known is None or not processes.is_alive(known):
            ready.unlink(missing_ok=True)
            known = processes.start(
                name, command, log=self.layout.log(name), tied=self.tied,
                environment=environment or self.environment,
            )  # fmt: skip
            state = self.layout.load()
            others = tuple(record for record in state.processes if record.name != name)
            self.layout.save(msgspec.structs.replace(state, processes=(*others, known)))
        with trio.move_on_after(START_S):
            while processes.is_alive(known):
                if ready.exists():
                    document: dict[str, Any] = json.loads(ready.read_bytes())
                    if document.get("pid") == known.pid:
                        return document
                await trio.sleep(READY_POLL_S)
        raise _not_up(name, self.layout.log(name))


def _not_up(name: str, log: Path) -> DeaiError:
    tail = log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()[-6:]
    return NodeFault(
        f"{name} did not come up: " + (" / ".join(tail) or "it said nothing"),
        hint=f"its log is {log}",
    )
