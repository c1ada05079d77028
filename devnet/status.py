"""What a devnet consists of, as a document and as a screen."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deai.ids import node_of
from deai.keys import key_file
from devnet import processes
from devnet.layout import NodePlan
from devnet.network import Devnet

if TYPE_CHECKING:
    from rich.console import Console


async def describe(devnet: Devnet) -> dict[str, Any]:
    """The document of `deai devnet status --json`."""
    layout, plan = devnet.layout, devnet.plan
    state = layout.load()
    hub = _ready(layout.coordinator / "coordinator.json")
    record = state.process("coordinator")
    return {
        "dir": str(layout.root),
        "network_file": str(layout.network),
        "chains": {
            name: {
                "kind": chain.kind,
                "rpc_url": chain.rpc_urls[0],
                "ws_url": chain.ws_url,
                "chain_id": chain.chain_id,
                "contracts": chain.contracts,
            }
            for name, chain in devnet.network.chains.items()
        },
        "coordinator": {
            "url": hub.get("url", ""),
            "metrics_url": hub.get("metrics_url", ""),
            "peer_id": hub.get("peer_id", ""),
            "addresses": hub.get("addresses", []),
            "pid": record.pid if record and processes.is_alive(record) else None,
        },
        "nodes": [_node(devnet, node) for node in devnet.plan.nodes],
        "processes": [
            {"name": record.name, "pid": record.pid}
            for record in sorted(state.processes, key=lambda found: found.name)
            if processes.is_alive(record)
        ],
        "client": {
            "address": devnet.account("client"),
            "accounts": {name: devnet.account("client", name) for name in plan.chains},
            "config": str(layout.client / "config.toml"),
            "key_file": str(key_file(layout.client, "client", devnet.first)),
        },
    }


def _node(devnet: Devnet, node: NodePlan) -> dict[str, Any]:
    home = devnet.layout.node(node.name)
    ready = _ready(home / "node.json")
    owner = devnet.account(node.name, node.chain)
    record = devnet.layout.load().process(node.name)
    alive = record is not None and processes.is_alive(record)
    return {
        "name": node.name,
        "node_id": ready.get("node_id", node_of(node.chain, owner, 0)),
        "owner": owner,
        "chain": node.chain,
        "chains": {
            name: {"node_id": node_of(name, account, 0), "owner": account}
            for name in node.chains
            for account in [devnet.account(node.name, name)]
        },
        "peer_id": ready.get("peer_id", ""),
        "addresses": ready.get("addresses", []),
        "admin_url": ready.get("admin_url", ""),
        "admin_token_file": ready.get("admin_token_file", ""),
        "home": str(home),
        "log": str(devnet.layout.log(node.name)),
        "behaviour": node.behaviour or "honest",
        "pid": record.pid if record and alive else None,
        "state": "running" if alive else "stopped",
    }


def _ready(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document


def render(document: dict[str, Any], out: Console) -> None:
    """The screen of `deai devnet status`."""
    from rich import box
    from rich.table import Table

    say = partial(out.print, soft_wrap=True)  # paths and addresses are copied
    say(f"devnet in {document['dir']}")
    for name, chain in document["chains"].items():
        say(f"chain {name} ({chain['kind']})  {chain['rpc_url']}  id {chain['chain_id']}")
    hub = document["coordinator"]
    say(f"coordinator  {hub['url']}  {'● running' if hub['pid'] else '✕ stopped'}")
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, header_style="")
    for heading in ("node", "chain", "behaviour", "state", "process", "node id"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for node in document["nodes"]:
        mark = "● running" if node["pid"] else "✕ stopped"
        cut = node["node_id"]
        table.add_row(
            node["name"],
            " ".join(node["chains"]),
            node["behaviour"],
            mark,
            str(node["pid"] or "–"),
            f"{cut[:8]}…{cut[-4:]}",
        )
    out.print(table)
    say(f"client  deai --config {document['client']['config']} task submit …")
