"""The scenes of the demo: each one claim, made true before it is told. See also `devnet.liars`."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import trio

from deai.chain.ledger import Ledger
from deai.errors import NodeFault
from deai.events import TaskAssigned, TaskPosted
from deai.money import decimals_of, format_tokens
from devnet import launcher, processes
from devnet.inputs import portfolio, sentences
from devnet.stage import PATIENCE_S, Stage

TEXTS: Final = 600
PATHS: Final = 1_000_000


async def heard(stage: Stage, registrations: int, lines: list[str]) -> None:
    """Every registration is staked and its node beats."""
    _, found = await stage.deai("network", "stats", patience=PATIENCE_S)
    with trio.move_on_after(PATIENCE_S):
        while found.get("active_nodes", 0) < registrations:
            await trio.sleep(0.5)
            _, found = await stage.deai("network", "stats", patience=PATIENCE_S)
    lines.append(
        f"{found.get('active_nodes')} of {registrations} beat; "
        f"{format_tokens(int(found['total_staked']))} staked"
    )
    if found.get("active_nodes", 0) < registrations:
        raise NodeFault("not every node was heard")


async def embedding(stage: Stage, lines: list[str]) -> None:
    """Honest nodes agree within the tolerance; the receipt can be checked."""
    target = stage.devnet.layout.root / f"vectors-{stage.chain}.npy"
    # All chains' nodes compute on the same cores: one of them carries the large task.
    texts = TEXTS if stage.is_first else TEXTS // 4
    done = await stage.submit(
        "embedding", sentences(texts), "texts.txt", "--output", str(target), among=stage.serving()
    )
    lines += [f"{texts} texts", *told(done)]
    await _verified(stage, done, lines)


async def drawn(stage: Stage, lines: list[str]) -> None:
    """A task for whoever answers, the liars too."""
    lines += told(await stage.submit("embedding", sentences(40, skip=700), "more.txt"))


async def hedged(stage: Stage, lines: list[str]) -> None:
    """Another portfolio and seed; whoever is drawn."""
    done = await stage.submit(
        "portfolio-risk", portfolio(hedged=True), "hedged.json",
        "--param", "paths=200000", "--param", "seed=11",
    )  # fmt: skip
    lines += told(done)
    await _verified(stage, done, lines)


async def killed_half_way(stages: list[Stage], ledgers: list[Ledger], lines: list[str]) -> None:
    """SIGKILL the holder of a seat while it computes; its tasks complete with another node.

    With several chains, a node that holds a seat on each: all of them replace it.
    """
    several = len(stages) > 1
    victims: list[str] = []
    ended: dict[str, dict[str, Any]] = {}
    seats: dict[str, list[str]] = {}

    async def listen(stage: Stage, ledger: Ledger, since: int) -> None:
        holders = await _committee(ledger, since)
        names = {node["node_id"]: node["name"] for node in stage.nodes}
        seats[stage.chain] = [names[holder] for holder in holders]

    async def strike(heads: list[int]) -> None:
        async with trio.open_nursery() as listening:
            for stage, ledger, head in zip(stages, ledgers, heads, strict=True):
                listening.start_soon(listen, stage, ledger, head)
        first, *more = (seats[stage.chain] for stage in stages)
        # Three seats of each task among four nodes: two of them hold one of every task.
        victims.append(next(name for name in first if all(name in held for held in more)))
        record = stages[0].devnet.layout.load().process(victims[0])
        if record is not None:
            processes.kill(record)

    async def compute(stage: Stage) -> None:
        # The first chain's blocks are faster: it still has to compute when the other begins.
        factor = 1.0 if not several else 2.0 if stage.is_first else 0.5
        ended[stage.chain] = await stage.submit(
            "portfolio-risk", portfolio(), "portfolio.json",
            "--param", f"paths={factor * PATHS:.0f}", "--param", "seed=7",
            among=stage.serving()[:4] if several else stage.serving(),
        )  # fmt: skip

    heads = [(await ledger.head()).number for ledger in ledgers]
    async with trio.open_nursery() as striking:
        striking.start_soon(strike, heads)
        async with trio.open_nursery() as computing:
            for stage in stages:
                computing.start_soon(compute, stage)
        striking.cancel_scope.cancel()
    for stage in stages:
        _replaced(stage, ended[stage.chain], victims, lines)


def _replaced(stage: Stage, done: dict[str, Any], victims: list[str], lines: list[str]) -> None:
    names = {node["node_id"]: node["name"] for node in stage.nodes}
    mark = f"{stage.chain}: " if len(stage.devnet.plan.chains) > 1 else ""
    lines += [mark + line for line in told(done)]
    lost = [one for one in done["attempts"] if names.get(one["node_id"]) in victims]
    later = [
        one
        for one in done["attempts"]
        if lost and one["seat"] == lost[0]["seat"] and one["attempt"] > lost[0]["attempt"]
    ]
    if not later:
        raise NodeFault(f"{victims} killed, but no seat on {stage.chain} was given to another")
    seat, old, new = lost[0]["seat"], lost[0]["node_id"], later[-1]["node_id"]
    stage.story.replaced.append({"task_id": done["task_id"], "seat": seat, "from": old, "to": new})
    lines.append(
        f"{mark}{names[old]} got SIGKILL while computing; seat {seat} went to {names.get(new, new)}"
    )


async def _committee(ledger: Ledger, since: int) -> list[str]:
    """Wait for the next task after a block to be assigned; the holders of its seats."""
    posted: set[str] = set()
    async with ledger.follow(None) as batches:
        async for batch in batches:
            for record in batch.records:
                if record.position.block <= since:
                    continue
                if isinstance(record.event, TaskPosted):
                    posted.add(record.event.task_id)
                if isinstance(record.event, TaskAssigned) and record.event.task_id in posted:
                    return [seat.node for seat in record.event.committee]
    raise NodeFault("the chain stopped")


async def _verified(stage: Stage, done: dict[str, Any], lines: list[str]) -> None:
    code, report = await stage.deai("task", "verify-receipt", done["receipt"], patience=PATIENCE_S)
    if code != 0 or not report.get("ok"):
        raise NodeFault(f"the receipt does not verify: {report}")
    lines.append("receipt: ids, digests, signatures and sums verify offline")


def told(done: dict[str, Any]) -> list[str]:
    """A completed task in two lines."""
    seconds = done["timings"]["total_ms"] / 1000
    result = done["result"]
    sums = {part: int(done[part]) for part in ("escrowed", "paid", "refunded", "protocol_fee")}
    decimals = decimals_of(*sums.values())
    money = {part: format_tokens(units, decimals) for part, units in sums.items()}
    return [
        f"{result['agreed']} of {result['seats']} seats agree on {result['digest'][:10]}…, "
        f"{result['bytes']:,} bytes, {seconds:.1f} s",
        f"escrowed {money['escrowed']} = paid {money['paid']} + refunded {money['refunded']} "
        f"+ fees {money['protocol_fee']}",
    ]


async def earned_on_all(stages: list[Stage], lines: list[str]) -> None:
    """The same process, under one peer id, was paid on every chain, by the same client."""
    for stage in stages:
        paid = sum(int(task["paid"]) for task in stage.tasks())
        account = stage.devnet.account("client", stage.chain)
        if not paid:
            raise NodeFault(f"the client paid nothing on {stage.chain}")
        lines.append(f"client: {account} paid {format_tokens(paid)} on {stage.chain}")
    earned = [_earned(stage) for stage in stages]
    found = [name for name in earned[0] if all(sums[name] for sums in earned)]
    if not found:
        raise NodeFault(f"no node was paid on all chains: {earned}")
    name = max(found, key=lambda one: min(sums[one] for sums in earned))
    peers, bound, ids = set(), set(), set()
    for stage, sums in zip(stages, earned, strict=True):
        place = next(place for place, node in enumerate(stage.nodes) if node["name"] == name)
        known = await stage.until(place, lambda one: bool(one.get("bound")))
        peers.add(known["peer_id"])
        ids.add(known["node_id"])
        bound |= {known["bound"]["node_id"]} if known.get("bound") else set()
        lines.append(
            f"{name}: {known['node_id']} earned {format_tokens(sums[name])} on {stage.chain}"
        )
    if len(peers) != 1:
        raise NodeFault(f"{name} is not one peer: {sorted(peers)}")
    if bound != ids:
        raise NodeFault(f"the registrations of {name} are not bound: {sorted(ids - bound)}")
    lines.append(f"one process and peer {peers.pop()}; both owners signed that it is one node")


def _earned(stage: Stage) -> Counter[str]:
    """What each node was paid on a chain, by its name."""
    names = {node["owner"]: node["name"] for node in stage.nodes}
    sums: Counter[str] = Counter()
    for task in stage.tasks():
        for payment in task["payments"]:
            sums[names.get(payment["provider"], "")] += int(payment["amount"])
    return sums


async def back_again(stages: list[Stage], lines: list[str]) -> None:
    """What was killed comes back, and every chain's index follows from the chain."""
    first = stages[0]
    async with trio.open_nursery() as nursery:
        for stage in stages:
            nursery.start_soon(_audited, stage, lines)
        await _restarted(first, lines)


async def _restarted(stage: Stage, lines: list[str]) -> None:
    layout = stage.devnet.layout
    for node in stage.nodes:
        record = layout.load().process(node["name"])
        if record is not None and not processes.is_alive(record):
            await launcher.restart(
                layout, node["name"], stage.story.settings.environment, _quiet, tied=stage.tied
            )
            lines.append(f"{node['name']} runs again with its journal")


async def _audited(stage: Stage, lines: list[str]) -> None:
    home = str(stage.devnet.layout.coordinator)
    _, audit = await stage.deai(
        "coordinator",
        "audit",
        "--home",
        home,
        "--config",
        f"{home}/config.toml",
        patience=PATIENCE_S,
    )
    if not audit.get("ok"):
        raise NodeFault(f"the index does not follow from {stage.chain}: {audit}")
    lines.append(
        f"index of {stage.chain} rebuilt from {audit['events']} events: "
        f"the same digest {audit['digest'][:18]}…"
    )


def _quiet(_step: str, _outcome: str) -> None:
    """Say nothing."""
