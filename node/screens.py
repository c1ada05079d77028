"""The node's documents for people: marks with words, no colour needed, no line broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console

from deai.chain.gas import GAS
from deai.ids import SEI
from deai.money import format_tokens

if TYPE_CHECKING:
    from node.doctor import Check

Document: TypeAlias = dict[str, Any]

MARKS = {
    "running": "◉",
    "joining": "◐",
    "paused": "–",
    "draining": "◐",
    "stopped": "✕",
    "not_set_up": "○",
}


def short(name: str | None) -> str:
    """An id cut to six and four characters."""
    return "–" if not name else name if len(name) <= 14 else f"{name[:6]}…{name[-4:]}"


def tokens(amount: str | None) -> str:
    """Base units as tokens."""
    return "unknown" if amount is None else format_tokens(int(amount))


def say(console: Console, text: str) -> None:
    """Lines that are cut nowhere: ids and paths are copied."""
    console.print(text, soft_wrap=True)


def row(console: Console, label: str, text: str) -> None:
    """One `label  value` line."""
    say(console, f"  {label:<13} {text}")


def status(console: Console, document: Document) -> None:
    """`deai node status`."""
    state = document["state"]
    standing = document["standing"] or "not registered"
    say(console, f"Node {document['node_id'] or '(not set up)'}")
    say(console, f"{MARKS.get(state, '○')} {state}   standing {standing}")
    say(console, f"deai {document['version']}   peer {short(document['peer_id'])}\n")
    if state == "not_set_up":
        _problems(console, document)
        return
    tasks = document["tasks"]
    say(console, "Work")
    row(console, "Now", f"{tasks.get('running', 0)} running, {tasks.get('pending', 0)} pending")
    row(console, "Ever", f"{tasks.get('paid', 0)} paid, {tasks.get('failed', 0)} not paid")
    _lane(console, document)
    _orders(console, document)
    chains = document["chains"]
    if len(chains) < 2:
        _money(console, document, next(iter(chains), SEI))
        _standing(console, document)
    else:
        for name, part in chains.items():
            say(console, f"On {name}: {part['state']}, {part['standing'] or 'not registered'}")
            say(console, f"  {part['node_id']}")
            _money(console, part, name, heading=False)
            _standing(console, part, heading=False)
    say(console, "Network")
    row(console, "Heartbeat", f"seen {document['last_heartbeat_seen'] or 'never'}")
    for name, chain in chains.items():
        if chain.get("reachable"):
            lag = "" if chain["lag_s"] is None else f", {chain['lag_s']} s behind"
            row(console, name, f"block {chain['head']:,}{lag}")
        else:
            row(console, name, "▲ no answer")
    for address in document["addresses"]:
        row(console, "Listens", address)
    row(console, "Worker", f"isolation {document['sandbox'] or 'unknown'}")
    say(console, "")
    _problems(console, document)


def _orders(console: Console, document: Document) -> None:
    orders = document["orders"]
    if orders is not None and "error" not in orders and (orders["open"] or orders["paid"] != "0"):
        settled = orders["orders"]["paid"]
        row(console, "In orders", f"{settled:,} settled, {orders['secured']:,} to be settled")
        row(console, "Not settled", tokens(orders["pending"]))


def _lane(console: Console, document: Document) -> None:
    lane = document["lane"]
    if lane is not None and (lane["tasks"] or lane["linked"]):
        row(console, "In channels", f"{lane['tasks']:,} paid by {lane['channels']:,} channels")
        row(console, "Unredeemed", tokens(lane["unredeemed"]))


def channels(console: Console, document: Document) -> None:
    """`deai node channels`."""
    if not document["items"]:
        say(console, "No channel has paid here yet.")
    for one in document["items"]:
        link = "linked" if one["linked"] else "not linked"
        say(console, f"{one['channel_id']}\n  {one['chain']}  {one['state']}, {link}")
        row(console, "Client", one["client"])
        row(console, "Deposit", tokens(one["deposit"]))
        row(console, "Promised", f"{tokens(one['promised'])} for {one['tasks']['paid']:,} tasks")
        row(console, "Unredeemed", tokens(one["unredeemed"]))
        row(console, "Owed", f"{tokens(one['owed'])} of {tokens(one['credit'])} credit")
        windows = one["windows"]
        if windows["allowed"] is not None:
            row(console, "Windows", f"{windows['unpaid']} of {windows['allowed']} unpaid")
        voucher = one["latest_voucher"]
        if voucher is not None:
            row(console, "Voucher", f"number {voucher['number']:,}")
    if document["next_cursor"] is not None:
        say(console, "… and more: --json has them, page by page")


def redeemed(console: Console, document: Document) -> None:
    """`deai node redeem`."""
    if not document["items"]:
        say(console, "● Nothing is left to redeem.")
    for one in document["items"]:
        if one.get("error"):
            mark, words = "✕", one["error"]
        elif one.get("transaction"):
            mark, words = "●", f"tx {one['transaction']}"
        else:
            mark, words = "◐", "the node redeems it now"
        say(console, f"{mark} {short(one['channel_id'])}  {tokens(one['amount'])}  {words}")


def _problems(console: Console, document: Document) -> None:
    if not document["problems"]:
        say(console, "Nothing is wrong.")
    for problem in document["problems"]:
        say(console, f"▲ {_tag(problem)}{problem['message']}")
        if problem["hint"]:
            say(console, f"  Do this   {problem['hint']}")


def _tag(one: Document) -> str:
    """Which chain something is about, where a node is on two."""
    return f"{one['chain']}: " if one.get("chain") else ""


def _money(console: Console, part: Document, chain: str, *, heading: bool = True) -> None:
    if heading:
        say(console, "Money")
    balance = part["balance"] or {}
    if "error" in balance or not balance:
        row(console, "Balance", "▲ unknown: the chain does not answer")
        return
    pool = part["pool"]
    if pool is None:
        row(console, "Vault", tokens(balance.get("vault")))
        row(console, "Wallet", tokens(balance.get("tokens")))
    else:
        row(console, "To the pool", f"{tokens(pool['income'])} not shared out yet")
    row(console, "Gas", GAS.get(chain, GAS[SEI]).coins(int(balance.get("gas", 0))))


def _standing(console: Console, part: Document, *, heading: bool = True) -> None:
    if heading:
        say(console, "Standing")
    row(console, "Stake", tokens(part["stake"]))
    pool = part["pool"]
    if pool is not None:
        rate = f"commission {pool['commission_bps'] / 100:g} %"
        row(console, "Pool", f"{pool['state']}, {rate}, managed by {pool['manager']}")
        row(
            console,
            "Lent",
            f"{tokens(pool['own'])} the manager's, {tokens(pool['delegated'])} others'",
        )
    reputation = part["reputation"]
    row(console, "Reputation", "unknown" if reputation is None else f"{reputation:.1f} of 1000")


def why(console: Console, document: Document) -> None:
    """`deai node why`."""
    say(console, "Why no work?\n")
    if not document["reasons"]:
        say(console, "● Nothing was declined and nothing is wrong.")
    for reason in document["reasons"]:
        count = f"{reason['count']:>6} ×" if reason["count"] else "   now  "
        say(console, f"{count}  {_tag(reason)}{reason['code']}: {reason['message']}")
        if reason["hint"]:
            say(console, f"          {reason['hint']}")
    counts = ", ".join(
        f"{word} {document[name]}"
        for word, name in (("Asked for", "asked"), ("accepted", "accepted"), ("paid", "paid"))
    )
    say(console, f"\n{counts}")


def doctor(console: Console, checks: Sequence[Check]) -> None:
    """`deai node doctor`."""
    failed = [check for check in checks if not check.ok]
    width = max(14, *(len(check.name) for check in checks))
    for check in checks:
        mark = "● ok  " if check.ok else "✕ fail"
        say(console, f"{check.name:<{width}} {mark}  {check.on_screen or check.detail}")
    lost = f"✕ {len(failed)} failed   " if failed else ""
    say(console, f"\n{lost}● {len(checks) - len(failed)} ok")
    for check in failed:
        say(console, f"\n✕ {check.name}\n  {check.on_screen or check.detail}")
        if check.fix:
            say(console, f"  Do this   {check.fix}")


def init(console: Console, document: Document) -> None:
    """`deai node init`."""
    for step in document["steps"]:
        mark = {"done": "●", "done_before": "–", "waiting": "○"}.get(step["state"], "○")
        words = step["state"].replace("_", " ")
        sent = f"   tx {short(step['transaction'])}" if step["transaction"] else ""
        say(console, f"{mark} {step['name']:<14} {words}{sent}")
    for warning in document["warnings"]:
        say(console, f"▲ {warning}")
    say(console, f"\nNode {document['node_id']}\nOwner {document['owner']}")
    pool = document["pool"]
    if pool is not None:
        say(console, f"      the account of a pool; {pool['manager']} manages it")
    needs = document["needs"]
    if needs is None:
        say(console, "● Registered. Next:  deai node run")
        return
    say(console, f"\n○ {needs['address']} needs")
    if needs["tokens"] != "0":
        row(console, "Tokens", tokens(needs["tokens"]))
    if needs["gas"] != "0":
        row(console, "Gas", GAS[document["chain"]].coins(int(needs["gas"])))
    say(console, "  Then run the same command again; it goes on where it stands.")


def tasks(console: Console, document: Document) -> None:
    """`deai node tasks`."""
    if not document["items"]:
        say(console, "No task yet.")
    for item in document["items"]:
        done = "" if item["progress"] is None else f" {item['progress']:.0%}"
        chain = f"{item['chain']:<6}" if item.get("chain") else ""
        say(
            console,
            f"{short(item['task_id'])}  seat {item['seat']}.{item['attempt']}  "
            f"{chain}{item['workload']:<16} {item['state']}{done}  {tokens(item['paid'])}"
            + (f"  {item['reason']}" if item["reason"] else ""),
        )


def earnings(console: Console, document: Document) -> None:
    """`deai node earnings`."""
    for name in ("paid", "pending", "forfeited", "slashed"):
        row(console, name.capitalize(), tokens(document[name]))
    if "manager" in document:
        say(
            console, "  All of it goes to the pool that owns the node: to everybody who lent to it,"
        )
        say(console, f"  and a commission to its manager {document['manager']} (deai pool show)")
    for chain, own in document.get("by_chain", {}).items():
        row(console, f"on {chain}", f"{tokens(own['paid'])}, {tokens(own['pending'])} pending")
    for day in document["by_day"][-30:]:
        row(console, day["day"], tokens(day["paid"]))
    for workload in document["by_workload"]:
        row(console, workload["workload"], tokens(workload["paid"]))


def bench(console: Console, document: Document) -> None:
    """`deai node bench`."""
    for one in document["results"]:
        if "error" in one:
            say(console, f"✕ {one['workload']:<16} {one['error']}")
        else:
            say(console, f"● {one['workload']:<16} {one['units_per_second']:,} units a second")
    say(console, "Offers carry these from the node's next start.")
