"""A task's document for people: at the end of `task submit`, and `task show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.cli.render import bare, marked, pairs, say, short, table, tokens
from deai.money import decimals_of, format_tokens

if TYPE_CHECKING:
    from rich.console import Console

Document = dict[str, Any]


def outcome(console: Console, document: Document) -> None:
    """The end of `task submit`."""
    _warnings(console, document)
    result = document["result"]
    rows = []
    if result is not None:
        where = result["path"] or "not here: no node delivered it"
        size = f", {result['bytes']:,} bytes" if result["bytes"] is not None else ""
        rows.append(("Result", f"{where}{size}, digest {short(result['digest'])}"))
        if document.get("lane") == "channel":
            rows.append(("Agreed", "nobody compared it: one node, paid by voucher"))
        else:
            rows.append(("Agreed", f"{result['agreed']} of {result['seats']} seats"))
    rows += [("Receipt", document["receipt"] or ""), *_money(document), ("Time", _time(document))]
    pairs(console, rows)
    say(console)
    say(console, f"{marked(document['state'])}   {document['detail']}")
    say(console, document["task_id"])


def show(console: Console, document: Document) -> None:
    """`task show`."""
    head = [
        f"Task {short(document['task_id'])}", marked(document["state"]),
        document["workload"] or "", document["policy"], document["chain"],
    ]  # fmt: skip
    say(console, "   ".join(part for part in head if part))
    say(console, document["task_id"])
    say(console, document["detail"])
    say(console)
    table(
        console,
        ("Seat", "Node", "State", "Digest", "Reason"),
        [
            (
                f"{one['seat']}.{one['attempt']}" if one["attempt"] else str(one["seat"]),
                short(one["node_id"]),
                marked(one["state"]),
                short(one["output_digest"]),
                one["reason"],
            )
            for one in document["attempts"]
        ],
        wrap=(4,),
    )
    say(console)
    pairs(console, _money(document))
    say(console, "  escrowed = held + paid + refunded + protocol fee")
    say(console)
    table(
        console,
        ("Transaction", "Hash", "Block", "Gas"),
        [
            (
                one["kind"].replace("_", " "),
                one["hash"] if console.width >= 120 else short(one["hash"]),
                f"{one['block']:,}",
                f"{one['gas_used']:,}" if one["gas_used"] is not None else "",
            )
            for one in document["transactions"]
        ],
        right=(2, 3),
    )
    found, proof = document["result"], document["receipt"]
    if found is not None or proof:
        say(console)
    pairs(
        console,
        [
            ("Result", "" if found is None else found["path"] or found["digest"]),
            ("Receipt", f"deai task verify-receipt {proof}" if proof else ""),
        ],
    )


def listing(console: Console, items: list[Document]) -> None:
    """`task list`."""
    if not items:
        say(console, "No tasks were submitted from this home.")
        return
    table(
        console,
        ("Task", "State", "Workload", "Policy", "Submitted"),
        [
            (
                short(one["task_id"]),
                marked(one["state"]),
                one["workload"],
                one["policy"],
                one["submitted_at"],
            )
            for one in items
        ],
    )


def events(console: Console, items: list[Document]) -> None:
    """`task events`."""
    table(
        console,
        ("Time", "Block", "Event", "Seat", "Transaction"),
        [
            (
                one["at"],
                f"{one['block']:,}",
                one["event"],
                "" if one["seat"] is None else str(one["seat"]),
                short(one["transaction"]),
            )
            for one in items
        ],
        right=(1, 3),
    )


def receipt(console: Console, document: Document) -> None:
    """`task verify-receipt`."""
    for check in document["checks"]:
        word = "ok" if check["ok"] else "fail"
        say(console, f"{marked(word):<7} {check['name']:<10} {check['detail']}")
    say(console)
    say(console, document["note"])
    say(console, marked("ok" if document["ok"] else "failed"))


def dry_run(console: Console, document: Document) -> None:
    """`task submit --dry-run`."""
    table(
        console,
        ("Node", "Asks, CT", "Seconds", "Chosen"),
        [
            (
                short(one["node_id"]),
                bare(one["ask"]),
                f"{one['seconds']:.1f}",
                "yes" if one["chosen"] else "",
            )
            for one in document["nodes"]
        ],
        right=(1, 2),
    )
    for one in document["rejected"]:
        say(console, f"  ✕ {short(one['node_id'])}  {one['reason']}")
    say(console)
    pairs(
        console,
        [
            ("Fee", f"{tokens(document['fee'])} a seat" if document["fee"] else ""),
            ("Escrow", tokens(document["escrowed"]) if document["escrowed"] else ""),
            ("Lease", f"{document['lease_s']} s" if document["lease_s"] else ""),
            ("Problem", document["problem"] or ""),
            ("Moved", "nothing was sent"),
        ],
    )


def _warnings(console: Console, document: Document) -> None:
    said = False
    for one in document["attempts"]:
        if one["state"] in ("paid", "held", "committed", "revealed") or not one["reason"]:
            continue
        mark = "✕" if one["state"] in ("forfeited", "silent") else "▲"
        name = f"{one['seat']}.{one['attempt']}" if one["attempt"] else str(one["seat"])
        say(console, f"{mark} Seat {name}  {short(one['node_id'])}  {one['reason']}.")
        said = True
    if said:
        say(console)


def _money(document: Document) -> list[tuple[str, str]]:
    payees = len(document["payments"])
    if document.get("lane") == "channel":
        return [("Paid", tokens(document["paid"]))]  # nothing was ever held
    parts = ("escrowed", "held", "paid", "refunded", "protocol_fee")
    decimals = decimals_of(*(int(document[part]) for part in parts))
    money = {part: format_tokens(int(document[part]), decimals) for part in parts}
    rows = [("Escrowed", money["escrowed"])]
    if int(document["held"]):
        rows.append(("Held", money["held"]))
    rows.append(("Paid", f"{money['paid']} to {payees} provider{'s' * (payees != 1)}"))
    rows.append(("Refunded", money["refunded"]))
    rows.append(("Fee", money["protocol_fee"]))
    return rows


def _time(document: Document) -> str:
    spent = document["timings"]
    if not spent:
        return ""
    parts = ", ".join(
        f"{name} {spent[name + '_ms'] / 1000:.2f}"
        for name in ("match", "assign", "input", "execute", "settle")
    )
    return f"{spent['total_ms'] / 1000:.2f} s: {parts}"
