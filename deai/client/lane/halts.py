"""Why a node takes no more tasks of a channel, and what its client can do about it."""

from __future__ import annotations

from typing import Final

from deai.errors import TaskDeclined
from deai.ids import NEAR, NodeId
from deai.signing import Domain

PASSING: Final = frozenset({"unpaid", "busy", "idle", "store_full", "chain", "joining", "replaced"})
"""Halts that end by themselves; after any other the tasks go to other nodes."""


class Halted(TaskDeclined):
    """A node takes no more tasks of this channel; `reason_code` is its own."""


def command(text: str, domain: Domain) -> str:
    """A command about a channel of this domain, as it is typed."""
    return f"{text} --chain {NEAR}" if isinstance(domain.chain_id, str) else text


def hint(code: str, node: NodeId, domain: Domain) -> str:
    """What to do after a halt."""
    if code == "deposit":
        return f"add to the deposit: {command(f'deai channel top-up {node} AMOUNT', domain)}"
    if code in ("closing", "closed", "no_channel"):
        return f"open the channel again: {command(f'deai channel open {node} AMOUNT', domain)}"
    opening = command("deai channel open", domain)
    return f"other nodes with an open channel go on; open one with `{opening}`"
