"""Pools on a screen: what is lent, what an account has of it, what would happen to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.cli.render import bare, marked, pairs, say, short, table, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


def percent(bps: int) -> str:
    """Hundredths of a percent: `12.5 %`."""
    return f"{bps / 100:g} %"


def pool_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What anybody sees of a pool."""
    announced, leaving = document["announced"], document["leaving"]
    rows = [
        ("Pool", f"{marked(document['state'])}, managed by {document['manager']}"),
        ("Lent in all", tokens(document["assets"])),
        ("Manager's part", tokens(document["own"])),
        ("Delegated", f"{tokens(document['delegated'])}, room for {tokens(document['room'])} more"),
        ("Commission", f"{percent(document['commission_bps'])} of income"),
        ("Income to share", tokens(document["income"])),
        ("Waiting to unbond", tokens(document["queued"]) if document["queued"] != "0" else ""),
        ("A slash takes", f"{tokens(document['slash']['takes'])} of the whole stake"),
    ]
    if announced is not None:
        text = f"{percent(announced['bps'])} from {announced['from']} on"
        rows.insert(5, ("Announced", text))
    if leaving is not None:
        # Of a pool that ends no batch unbonds but the whole, which stays with the shares.
        amount = tokens(leaving["amount"]) if leaving["amount"] != "0" else "everything"
        rows.append(("Unbonding", f"{amount}, until {leaving['matures_at']}"))
    return rows


def show(document: dict[str, Any], console: Console) -> None:
    """A pool, and what the account has of it."""
    say(console, f"Node {document['node_id']}   {marked(document['standing'])}")
    pairs(console, pool_rows(document))
    mine = document["delegation"]
    if mine is None:
        return
    role = " (manager)" if document["account"] == document["manager"] else ""
    say(console, f"\nAccount {document['account']}{role}")
    rows = [("Lent", f"{tokens(mine['worth'])} now, {int(mine['shares']):,} shares")]
    if mine["leaving"] != "0":
        rows.append(("On its way out", tokens(mine["leaving"])))
    if mine["claimable"] != "0":
        rows.append(("Claim now", f"{tokens(mine['claimable'])}: deai pool claim NODE"))
    elif mine["free_at"]:
        words = "from" if mine["is_sure"] else "not before"
        rows.append(("Can be claimed", f"{words} {mine['free_at']}: deai pool claim NODE"))
    rows.append(("A slash takes", f"{tokens(document['slash']['of_yours'])} of this"))
    rows.append(("Transaction", document["transaction"] or ""))
    pairs(console, rows)


def listing(items: Sequence[dict[str, Any]], console: Console) -> None:
    """Pools, or an account's parts of them."""
    headings = ("node", "state", "lent CT", "room CT", "keeps", "yours CT")
    table(
        console,
        headings,
        [
            (
                short(one["node_id"]),
                marked(one["standing"] if one["state"] == "open" else one["state"]),
                bare(one["assets"]),
                bare(one["room"]),
                percent(one["commission_bps"]),
                "–" if one["delegation"] is None else bare(one["delegation"]["worth"]),
            )
            for one in items
        ],
        right=(2, 3, 4, 5),
    )
