"""The scenes of the demo in which a node misbehaves, and what it costs."""

from __future__ import annotations

from deai.errors import NodeFault
from deai.money import format_tokens
from devnet.inputs import portfolio
from devnet.scenes import told
from devnet.stage import Stage


async def lazy(stage: Stage, lines: list[str]) -> None:
    """A node that invents its answer loses the vote: no pay, less reputation."""
    place = stage.acting("lazy")
    before = await stage.node(place)
    done = await stage.submit(
        "portfolio-risk", portfolio(), "small.json", "--param", "paths=50000", "--param", "seed=3",
        among=[place, *stage.alive(stage.serving())[:2]],
    )  # fmt: skip
    lines += told(done)
    liar = stage.nodes[place]["node_id"]
    paid = {payment["provider"] for payment in done["payments"] if int(payment["amount"])}
    after = await stage.until(place, lambda found: found["reputation"] < before["reputation"])
    if stage.nodes[place]["owner"] in paid or after["reputation"] >= before["reputation"]:
        raise NodeFault("the lazy node was paid, or kept its reputation")
    consequence = f"not paid, reputation {before['reputation']} to {after['reputation']}"
    how = "its digest was not the one that the others computed"
    stage.story.caught.append(
        {"node_id": liar, "behaviour": "lazy", "how": how, "consequence": consequence}
    )
    lines.append(f"{stage.nodes[place]['name']} caught: {how}; {consequence}")


async def equivocator(stage: Stage, lines: list[str]) -> None:
    """A node that signs two results for one seat loses stake: that can be proven.

    Where it serves another chain that was quicker to prove it there, it is drawn no more here.
    """
    place = stage.acting("equivocator")
    among = [place, *stage.alive(stage.serving())[:2]]
    task = (
        "portfolio-risk", portfolio(), "tiny.json", "--param", "paths=20000", "--param", "seed=5",
    )  # fmt: skip
    try:
        # Before anything else: the other chain's scene begins at this moment too.
        lines += told(await stage.submit(*task, among=among))
    except NodeFault as refusal:
        if refusal.reason_code != "no_offer":
            raise
        why = (await stage.rejected(*task, among=among)).get(stage.nodes[place]["node_id"])
        if why != "slashed_elsewhere":
            raise
        await _passed_over(stage, place, lines)
        return
    after = await stage.until(place, lambda found: int(found["slashed"]) > 0)
    slashed, stake = int(after["slashed"]), int(after["stake"])
    if slashed == 0:
        raise NodeFault("the equivocator kept its stake")
    consequence = (
        f"stake {format_tokens(stake + slashed)} to {format_tokens(stake)}, "
        f"{after['state']}, reputation {after['reputation']}"
    )
    if (twin := after.get("bound")) is not None:
        held = await stage.look_up(twin["node_id"])
        if not int((held.get("bound") or {"slashed": 0})["slashed"]):
            raise NodeFault(f"{twin['node_id']} is not held to what it did on {stage.chain}")
        consequence += f"; on {twin['chain']} {twin['node_id'][:10]}… is held to it too"
    how = "two signed results with different outputs were shown to the contract"
    _equivocated(stage, place, how, consequence, lines)


async def _passed_over(stage: Stage, place: int, lines: list[str]) -> None:
    """It was slashed on the other chain before it got a seat on this one."""
    twin = (await stage.node(place)).get("bound")
    if twin is None or not int(twin["slashed"]):
        raise NodeFault("passed over for a slash that the index does not show")
    name, chain = stage.nodes[place]["name"], twin["chain"]
    lines.append(f"{name} got no seat: {chain} was quicker, and a slash there counts here")
    how = f"slashed on {chain} as {twin['node_id'][:10]}… before it was drawn on {stage.chain}"
    consequence = f"{format_tokens(int(twin['slashed']))} there, and no seats on {stage.chain}"
    _equivocated(stage, place, how, consequence, lines)


def _equivocated(stage: Stage, place: int, how: str, consequence: str, lines: list[str]) -> None:
    node = stage.nodes[place]
    stage.story.caught.append(
        {
            "node_id": node["node_id"],
            "behaviour": "equivocator",
            "how": how,
            "consequence": consequence,
        }
    )
    lines.append(f"{node['name']} caught: {how}; {consequence}")
