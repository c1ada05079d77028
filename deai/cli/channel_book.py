"""What this home's book of the lane says of a channel, beside what the chain holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deai.ids import ChannelId


def promised(home: Path, channel: ChannelId, epoch: int) -> dict[str, Any]:
    """The part `promised` of `deai channel show`: sums in base units; raises `JournalError`.

    `credit` and `unpaid` are as the node and this client stood when they last spoke.
    """
    from deai.client.lane.book import BookReader

    reader = BookReader(home)
    try:
        standing = reader.standing(channel, epoch)
    finally:
        reader.close()
    return {
        "amount": str(int(standing.promised.cumulative)),
        "tasks": standing.promised.received,
        "unpaid": str(standing.owed),
        "credit": str(standing.credit),
        "vouchers": standing.vouchers,
        "unacknowledged": standing.unacknowledged,
        "windows": standing.windows,
        "signed": standing.signed,
    }


def rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people."""
    from deai.cli.render import tokens

    found = document.get("promised")
    if not found or not found["vouchers"]:
        return []
    waiting = f", {found['unacknowledged']} on their way" if found["unacknowledged"] else ""
    return [
        ("Promised", f"{tokens(found['amount'])} for {found['tasks']:,} tasks"),
        ("Unpaid", f"{tokens(found['unpaid'])} of {tokens(found['credit'])} credit"),
        ("Vouchers", f"{found['vouchers']:,}{waiting}"),
        ("Windows", f"{found['windows']:,}, {found['signed']:,} signed by the node"),
    ]
