"""The scenes of the demo: each one claim, made true before it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import trio

from deai.chain.ledger import Ledger
from deai.errors import NodeFault
from deai.events import TaskAssigned, TaskPosted
from deai.ids import AccountId
from deai.money import format_tokens
from devnet import launcher, processes
from devnet.accounts import Books, escrow_difference, read_books
from devnet.inputs import portfolio, sentences
from devnet.stage import Stage

LAZY: Final = 3
EQUIVOCATOR: Final = 4
TEXTS: Final = 600
PATHS: Final = 1_000_000
LANES: Final = 8
"""Lanes of the client that the books look into; it uses the first free one."""


async def play(stage: Stage, ledger: Ledger) -> None:
    """All scenes in their order; each is a step of the story."""
    story = stage.story
    honest = [index for index in range(len(stage.nodes)) if index not in (LAZY, EQUIVOCATOR)]
    async with story.step("Nodes are staked, found and heard") as lines:
        _, found = await stage.deai("network", "stats", patience=20)
        with trio.move_on_after(30):
            while found.get("active_nodes", 0) < len(stage.nodes):
                await trio.sleep(0.5)
                _, found = await stage.deai("network", "stats", patience=20)
        lines.append(
            f"{found.get('active_nodes')} of {len(stage.nodes)} beat; "
            f"{format_tokens(int(found['total_staked']))} staked"
        )
        if found.get("active_nodes", 0) < len(stage.nodes):
            raise NodeFault("not every node was heard")
    async with story.step(f"Embedding of {TEXTS} texts, 3 seats, tol32/1") as lines:
        target = stage.devnet.layout.root / "vectors.npy"
        done = await stage.submit(
            "embedding", sentences(TEXTS), "texts.txt", "--output", str(target), among=honest
        )
        lines += _told(done)
        await _verified(stage, done, lines)
    async with story.step(f"Portfolio risk, {PATHS:,} paths; a node is killed half way") as lines:
        await killed_half_way(stage, ledger, honest, lines)
    async with story.step("A lazy node answers without computing") as lines:
        await lazy(stage, honest, lines)
    async with story.step("An equivocator signs two results") as lines:
        await equivocator(stage, honest, lines)
    async with story.step("Embedding, whoever is drawn") as lines:
        done = await stage.submit("embedding", sentences(40, skip=700), "more.txt")
        lines += _told(done)
    async with story.step(
        "Portfolio risk, hedged, another seed; the receipt verifies offline"
    ) as lines:
        done = await stage.submit(
            "portfolio-risk", portfolio(hedged=True), "hedged.json",
            "--param", "paths=200000", "--param", "seed=11",
        )  # fmt: skip
        lines += _told(done)
        await _verified(stage, done, lines)
    async with story.step("The killed node comes back and the index can be checked") as lines:
        for node in stage.nodes:
            record = stage.devnet.layout.load().process(node["name"])
            if record is not None and not processes.is_alive(record):
                await launcher.restart(
                    stage.devnet.layout, node["name"], story.settings.environment, _quiet,
                    tied=stage.tied,
                )  # fmt: skip
                lines.append(f"{node['name']} runs again with its journal")
        home = str(stage.devnet.layout.coordinator)
        _, audit = await stage.deai("coordinator", "audit", "--home", home, "--config",
                                    f"{home}/config.toml", "--chain", stage.devnet.first,
                                    patience=60)  # fmt: skip
        if not audit.get("ok"):
            raise NodeFault(f"the index does not follow from the chain: {audit}")
        lines.append(
            f"index rebuilt from {audit['events']} events: the same digest {audit['digest'][:18]}…"
        )


async def killed_half_way(
    stage: Stage, ledger: Ledger, honest: list[int], lines: list[str]
) -> None:
    """SIGKILL the holder of a seat while it computes; the task completes with another node."""
    names = {stage.nodes[index]["node_id"]: stage.nodes[index]["name"] for index in honest}
    victim: list[str] = []
    head = await ledger.head()

    async def strike() -> None:
        task, holder = await _first_holder(ledger, head.number)
        record = stage.devnet.layout.load().process(names[holder])
        if record is not None:
            processes.kill(record)
        victim.extend((task, holder))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(strike)
        done = await stage.submit(
            "portfolio-risk", portfolio(), "portfolio.json",
            "--param", f"paths={PATHS}", "--param", "seed=7", among=honest,
        )  # fmt: skip
        nursery.cancel_scope.cancel()
    lines += _told(done)
    attempts = [found for found in done["attempts"] if found["node_id"] == victim[1]]
    later = [
        found
        for found in done["attempts"]
        if attempts and found["seat"] == attempts[0]["seat"] and found["attempt"] > 0
    ]
    if not later:
        raise NodeFault(f"{names[victim[1]]} was killed, but its seat was not given to another")
    stage.story.replaced.append(
        {
            "task_id": done["task_id"],
            "seat": later[0]["seat"],
            "from": victim[1],
            "to": later[-1]["node_id"],
        }
    )
    lines.append(
        f"{names[victim[1]]} got SIGKILL while computing; seat {later[0]['seat']} "
        f"went to {names.get(later[-1]['node_id'], later[-1]['node_id'])}"
    )


async def _first_holder(ledger: Ledger, since: int) -> tuple[str, str]:
    """Wait for the next task to be assigned; the holder of its first seat."""
    posted: set[str] = set()
    async with ledger.follow(None) as batches:
        async for batch in batches:
            for record in batch.records:
                if record.position.block <= since:
                    continue
                if isinstance(record.event, TaskPosted):
                    posted.add(record.event.task_id)
                if isinstance(record.event, TaskAssigned) and record.event.task_id in posted:
                    return record.event.task_id, record.event.committee[0].node
    raise NodeFault("the chain stopped")


async def lazy(stage: Stage, honest: list[int], lines: list[str]) -> None:
    """A node that invents its answer loses the vote: no pay, less reputation."""
    before = await stage.node(LAZY)
    done = await stage.submit(
        "portfolio-risk", portfolio(), "small.json", "--param", "paths=50000", "--param", "seed=3",
        among=[LAZY, *stage.alive(honest)[:2]],
    )  # fmt: skip
    lines += _told(done)
    liar = stage.nodes[LAZY]["node_id"]
    paid = {payment["provider"] for payment in done["payments"] if int(payment["amount"])}
    after = await stage.until(LAZY, lambda found: found["reputation"] < before["reputation"])
    if stage.nodes[LAZY]["owner"] in paid or after["reputation"] >= before["reputation"]:
        raise NodeFault("the lazy node was paid, or kept its reputation")
    consequence = f"not paid, reputation {before['reputation']} to {after['reputation']}"
    how = "its digest was not the one that the others computed"
    stage.story.caught.append(
        {"node_id": liar, "behaviour": "lazy", "how": how, "consequence": consequence}
    )
    lines.append(f"{stage.nodes[LAZY]['name']} caught: {how}; {consequence}")


async def equivocator(stage: Stage, honest: list[int], lines: list[str]) -> None:
    """A node that signs two results for one seat loses stake: that can be proven."""
    before = await stage.node(EQUIVOCATOR)
    done = await stage.submit(
        "portfolio-risk", portfolio(), "tiny.json", "--param", "paths=20000", "--param", "seed=5",
        among=[EQUIVOCATOR, *stage.alive(honest)[:2]],
    )  # fmt: skip
    lines += _told(done)
    after = await stage.until(EQUIVOCATOR, lambda found: int(found["slashed"]) > 0)
    if int(after["slashed"]) == 0:
        raise NodeFault("the equivocator kept its stake")
    consequence = (
        f"stake {format_tokens(int(before['stake']))} to {format_tokens(int(after['stake']))}, "
        f"{after['state']}, reputation {after['reputation']}"
    )
    how = "two signed results with different outputs were shown to the contract"
    stage.story.caught.append(
        {
            "node_id": stage.nodes[EQUIVOCATOR]["node_id"],
            "behaviour": "equivocator",
            "how": how,
            "consequence": consequence,
        }
    )
    lines.append(f"{stage.nodes[EQUIVOCATOR]['name']} caught: {how}; {consequence}")


async def _verified(stage: Stage, done: dict[str, Any], lines: list[str]) -> None:
    code, report = await stage.deai("task", "verify-receipt", done["receipt"], patience=30)
    if code != 0 or not report.get("ok"):
        raise NodeFault(f"the receipt does not verify: {report}")
    lines.append("receipt: ids, digests, signatures and sums verify offline")


def _told(done: dict[str, Any]) -> list[str]:
    seconds = done["timings"]["total_ms"] / 1000
    result = done["result"]
    money = {
        part: format_tokens(int(done[part]))
        for part in ("escrowed", "paid", "refunded", "protocol_fee")
    }
    return [
        f"{result['agreed']} of {result['seats']} seats agree on {result['digest'][:10]}…, "
        f"{result['bytes']:,} bytes, {seconds:.1f} s",
        f"escrowed {money['escrowed']} = paid {money['paid']} + refunded {money['refunded']} "
        f"+ fees {money['protocol_fee']}",
    ]


async def books_of(ledger: Ledger, stage: Stage) -> Books:
    """The books, with the names of the accounts that this devnet knows."""
    books = await read_books(ledger)
    devnet, contracts = stage.devnet, ledger.info.contracts
    names = {devnet.account(name): name for name in ("client", "faucet", "treasury")}
    names |= {AccountId(node["owner"]): node["name"] for node in stage.nodes}
    names |= {address: name for name, address in contracts.items()}
    return replace(books, names=names)


async def settle(stage: Stage, ledger: Ledger, before: Books) -> Books:
    """Close the books: sums over every account, over the escrow contract, over every task."""
    after = before
    async with stage.story.step("Every coin is accounted for") as lines:
        after = await books_of(ledger, stage)
        client = stage.devnet.account("client")
        leaked = await escrow_difference(ledger, after, [(client, lane) for lane in range(8)])
        lines.append(
            f"{len(after.balances)} accounts hold {format_tokens(sum(after.balances.values()))}; "
            f"minted {format_tokens(after.minted)}, burned {format_tokens(after.burned)}"
        )
        lines.append(
            f"difference {after.difference}; escrow holds exactly what it owes: {leaked == 0}"
        )
        wrong = [
            task["task_id"]
            for task in stage.story.tasks
            if int(task["escrowed"])
            != sum(int(task[part]) for part in ("held", "paid", "refunded", "protocol_fee"))
        ]
        if after.difference or leaked or wrong:
            raise NodeFault(f"coins are missing: {after.difference}, {leaked}, tasks {wrong}")
    return after


def _quiet(_step: str, _outcome: str) -> None:
    """Say nothing."""
